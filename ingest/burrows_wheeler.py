"""Blocks of bzip2 out of their bits, compiled: a quarter of libbz2's time.

A block's codes (`ingest.block_codes`) give the last column of the sorted rotations of a text (Burrows and
Wheeler, "A block-sorting lossless data compression algorithm", 1994); in the text four equal bytes are
followed by the number of further ones.

Most of libbz2's time goes into the way back from the column to the text: one chain of 900,000 loads, each of
which needs the one before and misses the nearest cache. But the chain is a ring, and it may be entered
anywhere. So STARTS rotations, evenly spaced, are marked; LANES walkers go side by side, each from a mark to
the next mark it meets, which hides the latency; and the pieces of text that they bring are put together in
the order in which the marks follow one another, beginning with the rotation that is the text itself.

Nothing that is decoded is trusted: every index below is bounded by what is said beside it. What is refused is
left for libbz2 to judge.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from ingest.block_codes import ITEMS, LIMIT, unpack, words_of
from ingest.compiled import EIGHTS, I64, INTEGER, NOTHING, U8, U8_ROWS, U32, compiled, eights

AHEAD = np.uint32(8)  # links of a run that are written without asking how long it is
LANES = 24  # walkers: 8 took 2.0 ms a block, 16 took 1.5, 24 and 32 took 1.2
STARTS = 512  # marked rotations, at most; 256 to 1,024 measured the same
MARKED = np.uint32(1 << 28)  # of a link: 8 bits are a byte, 20 say where it leads
POLYNOMIAL = 0x04C11DB7
SLICES = 16  # bytes that the checksum takes at once


class Decoder:
    """Decodes one block after the other; its 30 MB of memory are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items = np.empty(ITEMS, np.uint32)
        self._counts = np.empty(256, np.int64)
        self._found = np.empty(5, np.int64)
        self._links = np.empty(LIMIT, np.uint32)
        self._pieces = np.empty((LANES, LIMIT), np.uint8)
        self._text = np.empty(LIMIT, np.uint8)
        self._text_eights = eights(self._text)
        self._content = np.empty(LIMIT + (LIMIT >> 2), np.uint8)

    def decode(self, data: bytes, bit: int, stop: int) -> tuple[int, bytes] | None:
        """The bit behind the block whose mark begins at `bit` of the `data`, and its content.

        None where it is refused: it is no block, does not end at or before the bit `stop`, is no text of
        bzip2 or has another checksum.
        """
        with self._lock:
            found = self._found
            if not unpack(words_of(data), bit, self._items, self._counts, found) or found[0] > stop:
                return None
            end, checksum, origin, size, items = found.tolist()
            _link(self._items, items, self._counts, self._links)
            text = self._text[:size]
            _walk(self._links, origin, self._pieces, text)
            content = self._content
            length = _spread(text, self._text_eights, content, eights(content))
            if length == -2:  # five bytes become at most 259
                content = np.empty(52 * LIMIT, np.uint8)
                length = _spread(text, self._text_eights, content, eights(content))
            if length < 0 or _checksum(content, length, _CHECKSUMS) != checksum:
                return None
            return end, content[:length].tobytes()


@compiled(NOTHING, U32, INTEGER, I64, U32)
def _link(items, number, counts, links):
    """For each rotation, in their order: the one that begins a place on << 8 | its own first byte.

    Rotations lie in the order of their first bytes, and those with the same first byte in the order of what
    follows. So the column's k-th x stands in the rotation that begins a place behind the k-th of those that
    begin with x. `counts` are those of the column's bytes, which bounds the places by its size.
    """
    starts = np.zeros(256, np.uint32)
    stops = np.zeros(256, np.uint32)
    size = np.uint32(0)
    for byte in range(256):
        starts[byte] = size
        size += np.uint32(counts[byte])
        stops[byte] = size
    link = np.uint32(0)  # to the column's next row
    for each in range(number):
        item = items[each]
        byte, run = item & np.uint32(255), item >> np.uint32(8)
        first = starts[byte]
        starts[byte] = first + run
        # How long a run is nothing could predict, but 97 of 100 are no longer than AHEAD. What is too much
        # is written over later: the byte has that many to come.
        many = AHEAD if run <= AHEAD and first + AHEAD <= stops[byte] else run
        for place in range(many):
            links[np.uint64(first) + np.uint64(place)] = (link | byte) + (np.uint32(place) << np.uint32(8))
        link += run << np.uint32(8)


@compiled(NOTHING, U32, INTEGER, U8_ROWS, U8)
def _walk(links, origin, pieces, text):
    """The text, as long as it is, from the rotation `origin` on. The links are marked.

    Links are a permutation: a walker that leaves a mark meets one, its own if no other, and no two walkers
    meet a rotation that is not marked. So each round of the walkers brings at least one byte that no other
    brings, and there are at most as many rounds as rotations. A walker for whom no mark is left goes on, and
    nobody heeds it. (Those of a text with a period are several rings; the origin's is gone round as often as
    need be.)
    """
    size = len(text)
    apart = (size + STARTS - 1) // STARTS
    spaced = (size + apart - 1) // apart
    for start in range(spaced):
        links[start * apart] |= MARKED
    # Mark k is rotation `k * apart`, the last is the origin where it is none of these.
    first = origin // apart if origin % apart == 0 else spaced
    marks = max(spaced, first + 1)
    links[origin] |= MARKED
    lane_of = np.zeros(marks, np.int64)
    begins = np.zeros(marks, np.int64)  # of the piece from this mark on, in its lane
    lengths = np.zeros(marks, np.int64)
    follows = np.zeros(marks, np.int64)  # the mark at its end
    own = np.full(LANES, -1, np.int64)  # the mark that a walker comes from, -1 for none
    at = np.zeros(LANES, np.uint32)  # rotation 0 is marked: each begins by asking for a mark
    link = np.zeros(LANES, np.uint32)
    fresh = done = place = np.int64(0)
    while True:
        met = np.uint32(0)
        for lane in range(LANES):
            link[lane] = links[at[lane]]
            met |= link[lane]
        if met & MARKED:
            for lane in range(LANES):
                if not link[lane] & MARKED:
                    continue
                row, mark = np.int64(at[lane]), own[lane]
                if mark >= 0:
                    lengths[mark] = place - begins[mark]
                    follows[mark] = row // apart if row % apart == 0 else spaced
                    done += 1
                own[lane] = -1
                if fresh < marks:
                    own[lane], lane_of[fresh], begins[fresh] = fresh, lane, place
                    link[lane] = links[fresh * apart if fresh < spaced else origin]
                    fresh += 1
            if done == marks:
                break
        for lane in range(LANES):
            pieces[lane, place] = link[lane]
            at[lane] = (link[lane] >> 8) & 0xFFFFF
        place += 1
    place = np.int64(0)
    mark = first
    while place < size:
        many = min(lengths[mark], size - place)
        lane, begin = lane_of[mark], begins[mark]
        text[place : place + many] = pieces[lane, begin : begin + many]
        place += many
        mark = follows[mark]


@compiled(INTEGER, U8, EIGHTS, U8, EIGHTS)
def _spread(text, text_eights, out, out_eights):
    """Undoes the runs of four: bytes written, -1 for a run without its number, -2 if `out` is too small.

    The eights are those of the arrays (or of what these begin).
    """
    size, room = len(text), len(out)
    ones, tops = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    place = at = np.int64(0)
    while True:
        # Five bytes at once, while no run begins at one of them: then no byte of `runs` is zero.
        while place + 8 <= size and at + 8 <= room:
            eight = text_eights[place]
            differ = eight ^ eight >> np.uint64(8)
            runs = differ | differ >> np.uint64(8) | differ >> np.uint64(16) | np.uint64(0xFFFFFF << 40)
            if (runs - ones) & ~runs & tops:
                break
            out_eights[at] = eight
            place += 5
            at += 5
        # One by one up to the next run, or to the end.
        while place < size:
            byte = text[place]
            if place + 3 < size and byte == text[place + 1] == text[place + 2] == text[place + 3]:
                break
            if at >= room:
                return -2
            out[at] = byte
            place += 1
            at += 1
        if place >= size:
            return at
        if place + 4 >= size:
            return -1
        many = 4 + np.int64(text[place + 4])
        if at + many > room:
            return -2
        out[at : at + many] = byte
        place += 5
        at += many


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


def _checksums() -> npt.NDArray[np.uint32]:
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
