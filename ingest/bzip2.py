"""One bzip2 file read from any byte on: its blocks are found, decoded and checked one by one.

A bzip2 stream is ``BZh1``..``BZh9``, then blocks, then an end mark with the combined checksum; a file is
one stream or several, each beginning at a byte. Blocks begin at any BIT, with the 48-bit mark
0x314159265359 and their own CRC-32; the end mark is 0x177245385090 (the format has no official
specification; this follows the reference implementation, bzip2 1.0). A block needs nothing from the
blocks before it. `ingest.burrows_wheeler` decodes one from its mark to where it says that it ends; its own
CRC is checked.

What that refuses goes to `bz2`, which has the last word: the block is cut out from its mark to the next,
shifted to a byte boundary and put between a stream header and an end mark that repeats the block's CRC.
The same mark can stand inside a block by chance (once in 2^48 bits, or where the block's table of used
bytes happens to spell it). Such a cut does not decode; the next mark is tried as the block's end. A file
that is damaged loses the blocks that are damaged and no other.
"""

from __future__ import annotations

import bz2
import functools
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ingest.burrows_wheeler import Decoder

BLOCK = 0x314159265359
END = 0x177245385090
MARK_BITS = 48
END_BITS = MARK_BITS + 32  # the end mark and the combined checksum

WINDOW = 1 << 20  # bytes read at once
LONGEST = 1_250_000  # bytes: no block of at most 900,000 symbols compresses to more
TRIES = 4  # marks tried as a block's end; the first is right but for marks by chance

DAMAGED = "the bytes are damaged"
CUT = "the file is cut off"


@dataclass(frozen=True)
class Loss:
    """Bytes [start, stop) of a file that could not be read, and why (the end of a sentence)."""

    start: int
    stop: int
    reason: str


class Mark(NamedTuple):
    """A mark at a bit of the file: of a block, or of a stream's end."""

    bit: int
    ends: bool


class Block(NamedTuple):
    """What one block holds; `bit` is where its mark begins, `stop` the bit behind its last."""

    bit: int
    stop: int
    data: bytes


class Gap(NamedTuple):
    """What is lost behind the block or mark at `bit`; that one's owner reports it."""

    bit: int
    loss: Loss


def blocks(stream: BinaryIO, size: int, start: int = 0, compiled: bool = True) -> Iterator[Block | Gap]:
    """All blocks whose mark begins at byte `start` or behind, to the end of the file, in order.

    `stream` is seekable and holds `size` bytes. Blocks that cannot be decoded are passed over and told as a
    `Gap`, which belongs to the split that its `bit` lies in; one that begins before `start` is not told
    again. Bytes behind the last stream that are no bzip2 are ignored, as bzip2 itself does. Without
    `compiled` all is left to libbz2: for a block or two.
    """
    scan = _Scan(stream, size, start, compiled)
    owner: int | None = None  # None while nothing says whether what is lost began before `start`
    lost: int | None = None  # the byte from which on nothing could be read
    if start == 0:
        owner = 0
        mark, lost = _stream_at(scan, 0)
    else:
        mark = scan.block_from(start * 8)
    while mark is not None:
        block = scan.decode(mark.bit)
        if block is None:
            if lost is None:
                if owner is None and (end := _end_before(stream, size, mark.bit)) is not None:
                    owner = mark.bit
                    if end > mark.bit:  # no mark of a block, but bits of the block before
                        mark = scan.block_from(end)
                        continue
                lost = mark.bit // 8
                owner = None if owner is None else mark.bit
            mark = scan.block_from(mark.bit + 1)
            continue
        if lost is not None and owner is not None:
            yield Gap(owner, Loss(lost, mark.bit // 8, DAMAGED))
        yield block
        owner, lost = mark.bit, None
        following = scan.mark_at(block.stop)
        if following is None:
            lost = -(-block.stop // 8)
            mark = scan.block_from(block.stop)
        elif following.ends:
            mark, lost = _stream_at(scan, -(-(following.bit + END_BITS) // 8))
        else:
            mark = following
    if lost is not None and owner is not None:
        yield Gap(owner, Loss(min(lost, size), size, DAMAGED if scan.ended else CUT))


def find_marks(data: bytes) -> list[Mark]:
    """All marks that begin in `data` with 7 whole bytes before its end, by bit, at some 0.5 GB/s.

    A mark at any bit offset covers 5 whole bytes behind its first; two neighbours of those stand at an
    even place. So a table of 65,536 flags looks at each aligned pair of bytes; what it passes (one pair
    in 2,000) is compared in full.
    """
    marks: list[Mark] = []
    pairs = np.frombuffer(data, "<u2", count=len(data) // 2)
    for hit in np.flatnonzero(_FLAGS[pairs]).tolist():
        for first in (2 * hit - 2, 2 * hit - 1):
            if first < 0 or first + 7 > len(data):
                continue
            for shift, ends, value in _INNER.get(data[first + 1 : first + 6], ()):
                seven = int.from_bytes(data[first : first + 7], "big")
                if (seven >> (8 - shift)) & ((1 << MARK_BITS) - 1) == value:
                    marks.append(Mark(first * 8 + shift, ends))
    return marks


class _Scan:
    """The marks of a file from a byte on, found window by window, and the bytes they stand in."""

    def __init__(self, stream: BinaryIO, size: int, start: int, compiled: bool = False) -> None:
        self._stream = stream
        self._size = size
        self._decoder = decoder() if compiled else None
        self._base = start  # the file's offset of the first byte kept
        self._bytes = b""
        self._looked = start  # marks that begin before this byte are known
        self._marks: list[Mark] = []
        self._last: Mark | None = None
        self._decoded: Block | None = None

    @property
    def ended(self) -> bool:
        """Whether the last mark of the file is that of an end; False before the whole file is looked at."""
        return self._looked >= self._size and self._last is not None and self._last.ends

    def block_from(self, bit: int) -> Mark | None:
        """The first mark of a block at `bit` or behind it."""
        while True:
            for mark in self._marks[bisect_left(self._marks, Mark(bit, False)) :]:
                if not mark.ends:
                    return mark
            self._forget(self._looked)
            if not self._more():
                return None

    def mark_at(self, bit: int) -> Mark | None:
        """The mark that begins exactly at `bit`."""
        while self._looked <= bit // 8 and self._more():
            pass
        at = bisect_left(self._marks, Mark(bit, False))
        return self._marks[at] if at < len(self._marks) and self._marks[at].bit == bit else None

    def decode(self, bit: int) -> Block | None:
        """The block whose mark begins at `bit`, or None where no block can be read there."""
        if self._decoded is None or self._decoded.bit != bit:
            self._forget(bit // 8)
            self._decoded = self._decode(bit)
        return self._decoded

    def _decode(self, bit: int) -> Block | None:
        tried = 0
        while tried < TRIES:
            at = bisect_left(self._marks, Mark(bit + 1, False)) + tried
            if at >= len(self._marks):
                if self._looked - bit // 8 > LONGEST or not self._more():
                    break
                continue
            stop = self._marks[at].bit
            if stop - bit > LONGEST * 8:
                break
            if (block := self._whole(bit, stop)) is not None:
                return block
            tried += 1
        # No mark is its end: its own content may be whole all the same.
        while self._base + len(self._bytes) < bit // 8 + LONGEST and self._more():
            pass
        stop = min(self._base + len(self._bytes), bit // 8 + LONGEST) * 8
        block = _salvaged(self._bits(bit, stop), bit)
        if block is not None:
            exact = [mark.bit for mark in self._marks if block.stop - 8 < mark.bit <= block.stop]
            return block._replace(stop=exact[0]) if exact else block
        return None

    def _whole(self, bit: int, stop: int) -> Block | None:
        """The block that begins at `bit` and ends before the mark at `stop`."""
        if self._decoder is not None:
            first, last = bit // 8, -(-stop // 8)
            whole = self._bytes[first - self._base : last - self._base]
            if (found := self._decoder.decode(whole, bit - first * 8, stop - first * 8)) is not None:
                return Block(bit, first * 8 + found[0], found[1])
        data = _decompressed(self._bits(bit, stop), stop - bit)
        return Block(bit, stop, data) if data is not None else None

    def _bits(self, start: int, stop: int) -> bytes:
        """The bits [start, stop) of the file, shifted to a byte boundary, zeros behind the last."""
        first, shift = divmod(start - self._base * 8, 8)
        last = -(-(stop - self._base * 8) // 8)
        count = -(-(stop - start) // 8)
        raw = np.frombuffer(self._bytes[first : last + 1] + b"\0\0", np.uint8)[: count + 1]
        shifted = (raw[:-1] << shift) | (raw[1:] >> (8 - shift)) if shift else raw[:-1].copy()
        if spare := count * 8 - (stop - start):
            shifted[-1] &= 0xFF << spare & 0xFF
        return shifted.tobytes()

    def _more(self) -> bool:
        """Reads one more window and finds its marks; False at the end of the file."""
        if self._looked >= self._size:
            return False
        have = self._base + len(self._bytes)
        if have < self._size:
            self._stream.seek(have)
            read = self._stream.read(min(WINDOW, self._size - have))
            if not read:
                raise OSError(f"the file ends after {have} bytes, {self._size} were there before")
            self._bytes += read
            have += len(read)
        ahead = self._bytes[self._looked - self._base :]
        offset = self._looked * 8
        if have >= self._size:  # the last mark may end with the file
            ahead += bytes(7)
            self._looked = self._size
        else:
            self._looked += max(len(ahead) - 6, 0)
        self._marks += [Mark(offset + mark.bit, mark.ends) for mark in find_marks(ahead)]
        self._last = self._marks[-1] if self._marks else self._last
        return True

    def _forget(self, before: int) -> None:
        """Lets go of the bytes before a byte of the file, a window at a time."""
        if before - self._base >= WINDOW:
            self._bytes = self._bytes[before - self._base :]
            self._base = before
            self._marks = self._marks[bisect_left(self._marks, Mark(before * 8, False)) :]


@functools.cache
def decoder() -> Decoder | None:
    """This process's decoder of blocks, None where nothing is compiled (NUMBA_DISABLE_JIT).

    Loading numba and what it has compiled takes 0.5 s of CPU, compiling it the first time on a machine 5:
    so only where blocks are read in numbers.
    """
    from ingest.burrows_wheeler import Decoder
    from ingest.compiled import COMPILES

    return Decoder() if COMPILES else None


def _stream_at(scan: _Scan, byte: int) -> tuple[Mark | None, int | None]:
    """The first block of the stream that begins at `byte`, or of one behind it if that is empty.

    Where there is no stream: the next mark of a block, and the byte from which on nothing was read
    (None behind the last stream, where anything may stand).
    """
    while (mark := scan.mark_at((byte + 4) * 8)) is not None:
        if not mark.ends:
            return mark, None
        byte = -(-(mark.bit + END_BITS) // 8)
    mark = scan.block_from(byte * 8)
    return mark, byte if mark is not None or not scan.ended else None


def _end_before(stream: BinaryIO, size: int, bit: int) -> int | None:
    """The bit where the block before `bit` ends, for a mark at `bit` that does not decode.

    It is `bit` itself where a damaged block begins there; more where the mark is a part of that block;
    None where that block is damaged too, so that what is lost began with it or before.
    """
    begin = max(0, bit // 8 - LONGEST)
    scan = _Scan(stream, size, begin)
    before: list[int] = []
    mark = scan.block_from(begin * 8)
    while mark is not None and mark.bit < bit:
        before.append(mark.bit)
        mark = scan.block_from(mark.bit + 1)
    for earlier in reversed(before):
        again = _Scan(stream, size, earlier // 8)
        block = again.decode(earlier)
        if block is None:
            continue
        if block.stop >= bit:
            return block.stop
        following = again.mark_at(block.stop)
        if following is None or not following.ends:
            return None
        return bit if _begins(again, -(-(following.bit + END_BITS) // 8), bit) else None
    return bit if begin == 0 and _begins(_Scan(stream, size, 0), 0, bit) else None


def _begins(scan: _Scan, byte: int, bit: int) -> bool:
    """Whether the stream at `byte` begins with the block at `bit`."""
    mark, lost = _stream_at(scan, byte)
    return lost is None and mark is not None and mark.bit == bit


def _decompressed(bits: bytes, count: int) -> bytes | None:
    """The content of a block of `count` bits, None where they are not exactly one whole block."""
    if count < MARK_BITS + 32:
        return None
    checksum = int.from_bytes(bits[6:10], "big")
    last, pad = bits[-1], len(bits) * 8 - count
    tail = ((last >> pad) << END_BITS | END << 32 | checksum) << pad
    whole, used = bits[:-1], 8 - pad
    length = (used + END_BITS + pad) // 8
    stream = b"".join((b"BZh9", whole, tail.to_bytes(length, "big")))
    decompressor = bz2.BZ2Decompressor()
    try:
        data = decompressor.decompress(stream)
    except (OSError, ValueError):
        return None
    return data if decompressor.eof else None


def _salvaged(bits: bytes, bit: int) -> Block | None:
    """A whole block at the beginning of `bits`, with anything or nothing behind it.

    libbz2 gives nothing away when the bytes behind a block are no mark; so they are fed one by one
    (0.1 s a block, only where something is broken): the block comes out before the error.
    """
    decompressor = bz2.BZ2Decompressor()
    pieces: list[bytes] = []
    try:
        decompressor.decompress(b"BZh9")
        for place in range(len(bits)):
            piece = decompressor.decompress(bits[place : place + 1])
            while piece:
                pieces.append(piece)
                piece = decompressor.decompress(b"")
            if pieces:
                return Block(bit, bit + (place + 1) * 8, b"".join(pieces))
    except (OSError, ValueError, EOFError):
        pass
    return None


def _tables() -> tuple[npt.NDArray[np.bool_], dict[bytes, list[tuple[int, bool, int]]]]:
    """Which aligned pairs of bytes may belong to a mark, and which 5 inner bytes do."""
    flags = np.zeros(1 << 16, np.bool_)
    inner: dict[bytes, list[tuple[int, bool, int]]] = {}
    for value, ends in ((BLOCK, False), (END, True)):
        for shift in range(8):
            middle = ((value << (8 - shift)) >> 8 & ((1 << 40) - 1)).to_bytes(5, "big")
            inner.setdefault(middle, []).append((shift, ends, value))
            for at in (0, 1):
                flags[int.from_bytes(middle[at : at + 2], "little")] = True
    return flags, inner


_FLAGS, _INNER = _tables()
