"""The codes of a block of bzip2, compiled: out of its bits the column that `ingest.burrows_wheeler` undoes.

A block's bits (bzip2 1.0, the only specification there is) are Huffman codes, by turns from up to six
tables, of the places of bytes in a move-to-front list and of the lengths of runs.

Nothing that is decoded is trusted: every index below is bounded by what is said beside it. What is no block
as libbz2 has it, and what is unusual (randomised blocks, incomplete codes that are used), is refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ingest.compiled import I64, INTEGER, U8, U16, U32, U64, compiled

LIMIT = 900_000  # bytes of a block's column, at most (block size 9, which any other fits in)
LOOK = 10  # bits of a code that are looked up at once; longer codes are rare
TABLES, GROUP, SELECTORS = 6, 50, 18_002
SYMBOLS, LONGEST_CODE = 258, 20
ITEMS = LIMIT + 1  # places for what a block is unpacked to
ROW = 32  # places of a table of code lengths
MARK = 0x314159265359
PAD = 18  # words of zeros behind the last: a whole head may be looked at without asking

Words = npt.NDArray[np.uint32]


def words_of(data: bytes) -> Words:
    """Bytes as words, the most significant bit first, with the PAD that `unpack` wants."""
    padded = data + bytes(-len(data) % 4 + 4 * PAD)
    return np.frombuffer(padded, ">u4").astype(np.uint32)


@compiled(INTEGER, U32, INTEGER, INTEGER)
def _peek(words, at, count):
    """`count` bits, 32 at most, at a bit below ``32 * (len(words) - 1)``."""
    both = np.int64(words[at >> 5]) << 32 | np.int64(words[(at >> 5) + 1])
    return (both >> (64 - count - (at & 31))) & ((1 << count) - 1)


@compiled(INTEGER, U32, INTEGER, U16, I64, I64, U16, U8, U64, I64)
def _head(words, bit, lookup, limits, ranks, symbols, selectors, moved, found):
    """What stands before the codes; the bit where they begin, or -1.

    Fills in `found` (checksum, origin, distinct bytes, groups of codes), `moved` (the list, eight bytes a
    word), `selectors` (a table for each group) and the tables: `lookup` (symbol << 5 | length for each LOOK
    bits, 0 for longer codes), `limits` (the first code that is too large, of each length), `ranks` (what to
    add to a code to have its place in `symbols`).
    """
    # Each bit is asked for before it is read, 512 at once for the fixed part, which is shorter.
    end = 32 * (len(words) - 2)
    if bit < 0 or bit + 512 > end:
        return -1
    if _peek(words, bit, 24) != MARK >> 24 or _peek(words, bit + 24, 24) != MARK & 0xFFFFFF:
        return -1
    found[1] = _peek(words, bit + 48, 32)
    if _peek(words, bit + 80, 1):  # randomised, as no bzip2 since 1997 does
        return -1
    found[2] = _peek(words, bit + 81, 24)
    rows = _peek(words, bit + 105, 16)
    at = bit + 121
    used = 0
    for row in range(16):
        if rows >> (15 - row) & 1:
            columns = _peek(words, at, 16)
            at += 16
            for column in range(16):
                if columns >> (15 - column) & 1:
                    moved[used >> 3] |= np.uint64(row << 4 | column) << np.uint64((used & 7) << 3)
                    used += 1
    tables, groups = _peek(words, at, 3), _peek(words, at + 3, 15)
    at += 18
    if used == 0 or tables < 2 or tables > TABLES or groups == 0:
        return -1
    order = 0x543210  # the tables' own move-to-front list, four bits each
    for group in range(groups):
        place = 0
        if at + 8 > end:
            return -1
        while _peek(words, at, 1):
            place += 1
            at += 1
            if place >= tables:
                return -1
        at += 1
        own = order >> (4 * place) & 15
        mask = (16 << (4 * place)) - 1
        order = (order & ~mask) | ((order << 4 | own) & mask)
        if group < SELECTORS:  # some compressors write more than a block can use; libbz2 leaves them
            selectors[group] = own
    lengths = np.zeros(SYMBOLS, np.int64)
    for table in range(tables):
        if at + 8 > end:
            return -1
        length = _peek(words, at, 5)
        at += 5
        for symbol in range(used + 2):
            while True:
                if length < 1 or length > LONGEST_CODE or at + 8 > end:
                    return -1
                step = _peek(words, at, 2)
                if step < 2:
                    at += 1
                    break
                at += 2
                length += 1 if step == 2 else -1
            lengths[symbol] = length
        # Codes count up within a length and double from one to the next.
        code = place = 0
        for length in range(1, LONGEST_CODE + 1):
            ranks[table * ROW + length] = place - code
            for symbol in range(used + 2):
                if lengths[symbol] == length:
                    if code >> length:  # more codes than this length has
                        return -1
                    symbols[table * SYMBOLS + place] = symbol
                    place += 1
                    if length <= LOOK:
                        first = (table << LOOK) + (code << (LOOK - length))
                        lookup[first : first + (1 << (LOOK - length))] = symbol << 5 | length
                    code += 1
            limits[table * ROW + length] = code
            code <<= 1
    found[3], found[4] = used, min(groups, SELECTORS)
    # A table that is never filled in is never selected: places in `order` are below `tables`.
    return at


@compiled(INTEGER, U32, INTEGER, U32, I64, I64)
def unpack(words, bit, items, counts, found):
    """The last column of the block at `bit` as `items` (bytes in a row << 8 | byte): 1; 0 if it is refused.

    `counts`: how often each byte occurs. `found`: the bit behind the block, its checksum, the origin (below
    the number of bytes), the number of bytes (LIMIT at most), of items (that and one at most).
    """
    lookup = np.zeros(TABLES << LOOK, np.uint16)
    limits = np.zeros(TABLES * ROW, np.int64)
    ranks = np.zeros(TABLES * ROW, np.int64)
    symbols = np.zeros(TABLES * SYMBOLS, np.uint16)
    selectors = np.zeros(SELECTORS, np.uint8)
    moved = np.zeros(32, np.uint64)
    at = _head(words, bit, lookup, limits, ranks, symbols, selectors, moved, found)
    if at < 0:
        return 0
    used, groups = found[3], found[4]
    counts[:] = 0
    words_left = len(words)
    word = (at >> 5) + 1
    have = 32 - (at & 31)  # bits in `bits` that are not read
    bits = np.int64(words[at >> 5])
    # The first eight of the list and the next: three quarters and nine tenths of all bytes come from these.
    front, second = moved[0], moved[1]
    run = np.int64(0)  # bytes in a row so far, of the list's first
    weight = np.int64(1)  # of the next digit of their number
    size = number = np.int64(0)
    byte_mask, eight = np.uint64(255), np.uint64(8)
    for group in range(groups):
        table = np.int64(selectors[group])
        for _ in range(GROUP):
            if have < LONGEST_CODE:
                if word >= words_left:
                    return 0
                bits = bits << 32 | np.int64(words[word])
                word += 1
                have += 32
            entry = np.int64(lookup[(table << LOOK) + ((bits >> (have - LOOK)) & ((1 << LOOK) - 1))])
            if entry:
                have -= entry & 31
                symbol = entry >> 5
            else:
                length = LOOK + 1
                code = (bits >> (have - length)) & ((1 << length) - 1)
                while code >= limits[table * ROW + length]:
                    length += 1
                    if length > LONGEST_CODE:
                        return 0
                    code = (bits >> (have - length)) & ((1 << length) - 1)
                place = code + ranks[table * ROW + length]
                # Not below the codes of this length: shorter codes were not theirs.
                if place < 0 or place >= used + 2:
                    return 0
                have -= length
                symbol = np.int64(symbols[table * SYMBOLS + place])
            if symbol < 2:  # digits 1 and 2 of a number to the base 2, the lowest first
                if weight >= 1 << 21:
                    return 0
                run += weight << symbol
                weight <<= 1
                continue
            size += run
            if size > LIMIT:
                return 0
            byte = np.int64(front & byte_mask)
            counts[byte] += run
            items[number] = run << 8 | byte
            number += 1  # each item but the first has a byte at least: LIMIT + 1 of them at most
            run, weight = np.int64(1), np.int64(1)
            if symbol == used + 1:
                if found[2] >= size:
                    return 0
                found[0] = (word << 5) - have
                found[3], found[4] = size, number
                return 1
            # Bytes before `place`, which is below `used`, move up by one.
            place = symbol - 1
            shift = np.uint64((place & 7) << 3)
            upto = (np.uint64(256) << shift) - np.uint64(1)  # of the word that holds the place
            if place < 16:  # no branch between the two words: nothing could predict it
                own = (front if place < 8 else second) >> shift & byte_mask
                of_front, of_second = (upto, np.uint64(0)) if place < 8 else (~np.uint64(0), upto)
                second = (second & ~of_second) | ((second << eight | front >> np.uint64(56)) & of_second)
                front = (front & ~of_front) | ((front << eight | own) & of_front)
            else:
                last = moved[place >> 3]
                own = last >> shift & byte_mask
                carry = second >> np.uint64(56)
                second = second << eight | front >> np.uint64(56)
                front = front << eight | own
                for each in range(2, place >> 3):
                    eight_of = moved[each]
                    moved[each] = eight_of << eight | carry
                    carry = eight_of >> np.uint64(56)
                moved[place >> 3] = (last & ~upto) | ((last << eight | carry) & upto)
    return 0
