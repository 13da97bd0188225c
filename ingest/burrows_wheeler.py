"""Blocks of bzip2 out of their bits, compiled: a quarter of libbz2's time where several are decoded together.

A block's codes (`ingest.block_codes`) give the last column of the sorted rotations of a text (Burrows and
Wheeler, "A block-sorting lossless data compression algorithm", 1994); in the text four equal bytes are
followed by the number of further ones.

Most of libbz2's time goes into the way back from the column to the text: one chain of 900,000 loads, each of
which needs the one before and misses the caches (60 of 73 ms a block here). So `Decoder` walks the chains
of up to LANES blocks side by side, which hides the latency, and two bytes a step, which halves their number:
60 ms a block fall to 7. The rest takes 13 ms (codes and list 4.5, links 6, pairs, runs and checksum 2).

Nothing that is decoded is trusted: every index below is bounded by what is said beside it. What is refused is
left for libbz2 to judge.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.block_codes import LIMIT, Words, unpack
from ingest.compiled import I32, I64, INTEGER, NOTHING, U8, U16, U32, compiled

LANES = 16  # blocks walked together: 8 took 10 ms a block, 12 and 16 took 7
RARE = 0xFFF  # codes for a block's commonest pairs: a link has 4 bytes (with 8, linking took 10 ms and not 6)
POLYNOMIAL = 0x04C11DB7
SLICES = 16  # bytes that the checksum takes at once


class Packed(NamedTuple):
    """A block of which all is known but the runs of four: its text may have 50 times the bytes."""

    checksum: int
    text: npt.NDArray[np.uint8]

    def unpacked(self) -> bytes | None:
        """The block's content; None where it is no text of bzip2 or has another checksum."""
        room = LIMIT + (LIMIT >> 2)
        while True:
            out = np.empty(room, np.uint8)
            size = _spread(self.text, out)
            if size >= 0:
                break
            if size == -1:
                return None
            room = 52 * LIMIT  # five bytes become at most 259
        if _checksum(out, size, _CHECKSUMS) != self.checksum:
            return None
        return out[:size].tobytes()


class Decoder:
    """Decodes blocks that stand in a row; its 150 MB of memory are kept. They are touched as far as lanes are
    used, and the half that is for rare pairs hardly at all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links = np.empty((LANES, LIMIT), np.uint32)
        self._codes = np.empty((LANES, LIMIT // 2), np.uint16)
        self._spelt = np.empty((LANES, LIMIT // 2), np.uint16)
        self._items = np.empty(LIMIT + 1, np.uint32)
        self._column = np.empty(LIMIT, np.uint8)
        self._heads = np.empty(1 << 16, np.uint32)
        self._pairs = np.empty((LANES, RARE), np.uint16)
        self._rare = np.empty((LANES, LIMIT), np.int32)
        self._seldom = np.empty(LANES, np.int64)
        self._counts = np.empty(256, np.int64)
        self._found = np.empty(5, np.int64)
        self._starts = np.empty(LANES, np.int64)
        self._sizes = np.empty(LANES, np.int64)

    def __enter__(self) -> Decoder:
        self._lock.acquire()
        self._lanes: list[tuple[int, int]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def full(self) -> bool:
        return len(self._lanes) == LANES

    def add(self, words: Words, bit: int, stop: int) -> int | None:
        """The bit behind the block whose mark begins at `bit` of the `words`, None where it is refused.

        `words` are 32 bits each, the most significant bit first, PAD of zeros at the end; a block that does
        not end at or before `stop` is refused.
        """
        lane = len(self._lanes)
        found = self._found
        if not unpack(words, bit, self._items, self._counts, found) or found[0] > stop:
            return None
        end, checksum, origin, size, items = found.tolist()
        self._seldom[lane] = _link(
            self._items,
            items,
            self._counts,
            self._column,
            self._heads,
            self._links[lane],
            self._pairs[lane],
            self._rare[lane],
        )
        self._starts[lane], self._sizes[lane] = origin, size
        self._lanes.append((checksum, size))
        return int(end)

    def texts(self) -> list[Packed]:
        """What was added, in this order."""
        _walk(
            self._links.reshape(-1),
            self._rare.reshape(-1),
            self._seldom,
            self._starts,
            self._sizes,
            len(self._lanes),
            self._codes.reshape(-1),
            self._spelt.reshape(-1),
        )
        texts = []
        for lane, (checksum, size) in enumerate(self._lanes):
            text = np.empty((size + 1) // 2, np.uint16)
            _spell(self._codes[lane], self._pairs[lane], self._spelt[lane], text)
            texts.append(Packed(checksum, text.view(np.uint8)[:size]))
        return texts


@compiled(INTEGER, U32, INTEGER, I64, U8, U32, U32, U16, I32)
def _link(items, number, counts, column, heads, links, pairs, rare):
    """For each rotation, in their order: that two places on << 12 | the code of its first two bytes.

    Rotations lie in the order of their first bytes, and those with the same first byte in the order of what
    follows; so counting the column's bytes gives the rotation one place on (as libbz2 has it), and counting
    pairs gives the one two places on, without a load that depends on another (the idea is libsais').

    Codes below RARE stand for the commonest pairs, as `pairs` has them (first byte at the lower address);
    with RARE the pair is that of the last entry of `rare` (the first rotation that begins with it, the pair)
    at or before the rotation. Returned: the number of entries of `rare`.
    """
    starts = np.zeros(256, np.int64)
    size = np.int64(0)
    for byte in range(256):
        starts[byte] = size
        size += counts[byte]
    row = np.int64(0)
    for each in range(number):
        item = np.int64(items[each])
        for place in range(row, row + (item >> 8)):
            column[place] = item & 255
        row += item >> 8
    heads[:] = 0
    for byte in range(256):
        for row in range(starts[byte], starts[byte] + counts[byte]):
            heads[np.int64(column[row]) << 8 | byte] += np.uint32(1)
    # How often a pair must occur to have a code: more pairs than there are codes cannot occur RARE times each
    # and more, for RARE * RARE is above LIMIT.
    times = np.zeros(RARE + 1, np.int64)
    for pair in range(1 << 16):
        times[min(np.int64(heads[pair]), RARE)] += 1
    least, common = np.int64(RARE), times[RARE]
    while least > 1 and common + times[least - 1] <= RARE:
        least -= 1
        common += times[least]
    first = code = seldom = np.int64(0)
    for pair in range(1 << 16):
        count = np.int64(heads[pair])
        if count >= least:
            heads[pair] = first << 12 | code
            pairs[code] = (pair & 255) << 8 | pair >> 8
            code += 1
        elif count:
            heads[pair] = first << 12 | RARE
            rare[2 * seldom], rare[2 * seldom + 1] = first, (pair & 255) << 8 | pair >> 8
            seldom += 1
        first += count
    for row in range(size):
        second = np.int64(column[row])
        before = starts[second]  # the rotation one place before `row`'s; its counts bound it by `size`
        starts[second] = before + 1
        pair = np.int64(column[before]) << 8 | second
        head = np.int64(heads[pair])
        heads[pair] = head + (1 << 12)
        links[head >> 12] = row << 12 | (head & RARE)
    return seldom


@compiled(NOTHING, U32, I32, I64, I64, I64, INTEGER, U16, U16)
def _walk(links, rare, seldom, starts, sizes, lanes, codes, spelt):
    """The codes of the texts of `lanes` blocks, two bytes each, and the pairs of those that are RARE.

    Lane k has its places from ``k * LIMIT`` on in `links` and `rare`, from half that in `codes` and `spelt`.
    """
    at = starts[:lanes].copy()
    own = np.arange(lanes)
    to = own * (LIMIT // 2)
    base = own * LIMIT
    left = (sizes[:lanes] + 1) // 2
    said = to.copy()
    while lanes:
        steps = left[:lanes].min()
        for step in range(steps):
            for lane in range(lanes):
                link = np.int64(links[base[lane] + at[lane]])
                code = link & RARE
                codes[to[lane] + step] = code
                if code == RARE:
                    low, high = base[lane], base[lane] + 2 * seldom[own[lane]]
                    while high - low > 2:
                        middle = (low + high) >> 2 << 1
                        if rare[middle] <= at[lane]:
                            low = middle
                        else:
                            high = middle
                    spelt[said[lane]] = rare[low + 1]
                    said[lane] += 1
                at[lane] = link >> 12
        going = 0
        for lane in range(lanes):
            if left[lane] > steps:
                at[going], own[going], base[going] = at[lane], own[lane], base[lane]
                left[going], to[going], said[going] = left[lane] - steps, to[lane] + steps, said[lane]
                going += 1
        lanes = going


@compiled(NOTHING, U16, U16, U16, U16)
def _spell(codes, pairs, spelt, text):
    """The pairs of bytes that `codes` stand for, RARE for the next of `spelt`."""
    said = 0
    for place in range(len(text)):
        code = codes[place]
        if code != RARE:
            text[place] = pairs[code]
        else:
            text[place] = spelt[said]
            said += 1


@compiled(INTEGER, U8, U8)
def _spread(text, out):
    """Undoes the runs of four: bytes written, -1 for a run without its number, -2 if `out` is too small."""
    at = place = same = np.int64(0)
    last = np.int64(-1)
    while place < len(text):
        byte = np.int64(text[place])
        place += 1
        if at >= len(out):
            return -2
        out[at] = byte
        at += 1
        if byte != last:
            last, same = byte, np.int64(1)
            continue
        same += 1
        if same == 4:
            if place >= len(text):
                return -1
            more = np.int64(text[place])
            place += 1
            if at + more > len(out):
                return -2
            out[at : at + more] = byte
            at += more
            last, same = np.int64(-1), np.int64(0)
    return at


@compiled(INTEGER, U8, INTEGER, U32)
def _checksum(data, size, tables):
    """The CRC-32 of the first `size` bytes, SLICES at once (Kounavis and Berry, 2005)."""
    value = np.int64(0xFFFFFFFF)
    place = np.int64(0)
    while place + SLICES <= size:
        mixed = np.uint32(0)
        for each in range(4):
            byte = np.int64(data[place + each]) ^ (value >> (24 - 8 * each) & 255)
            mixed ^= tables[(SLICES - 1 - each) << 8 | byte]
        for each in range(4, SLICES):
            mixed ^= tables[(SLICES - 1 - each) << 8 | np.int64(data[place + each])]
        value = np.int64(mixed)
        place += SLICES
    while place < size:
        value = (value << 8 & 0xFFFFFFFF) ^ np.int64(tables[value >> 24 ^ np.int64(data[place])])
        place += 1
    return value ^ 0xFFFFFFFF


def _checksums() -> Words:
    """Row k: what a byte does to the checksum with k bytes behind it."""
    rows = np.zeros((SLICES, 256), np.uint64)
    rows[0] = np.arange(256, dtype=np.uint64) << np.uint64(24)
    for _ in range(8):
        rows[0] = rows[0] << np.uint64(1) ^ (rows[0] >> np.uint64(31)) * np.uint64(POLYNOMIAL)
        rows[0] &= np.uint64(0xFFFFFFFF)
    for row in range(1, SLICES):
        before = rows[row - 1]
        rows[row] = (before << np.uint64(8) & np.uint64(0xFFFFFFFF)) ^ rows[0][before >> np.uint64(24)]
    return rows.astype(np.uint32).reshape(-1)


_CHECKSUMS = _checksums()
