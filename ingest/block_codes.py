"""The codes of a block of bzip2, compiled: out of its bits the column that `ingest.burrows_wheeler` undoes.

A block's bits (bzip2 1.0, the only specification there is) are Huffman codes, by turns from up to six
tables, of the places of bytes in a move-to-front list and of the lengths of runs.

Nothing that is decoded is trusted: every index below is bounded by what is said beside it. What is no block
as libbz2 has it, and what is unusual (randomised blocks, incomplete codes that are used), is refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ingest.compiled import I64, INTEGER, TWO_WORDS, U8, U16, U32, U64, WORD, compiled

LIMIT = 900_000  # bytes of a block's column, at most (block size 9, which any other fits in)
LOOK = 10  # bits of a code that are looked up at once; longer codes are rare
AT_ONCE = 5  # codes of that length that 64 bits hold; a divisor of GROUP
TABLES, GROUP, SELECTORS = 6, 50, 18_002
SYMBOLS, LONGEST_CODE = 258, 20
ITEMS = LIMIT + 1 + GROUP  # places for what a block is unpacked to: they are counted once a group
ROW = 32  # places of a table of code lengths
HEAVIEST = 1 << 21  # no digit of a run weighs as much: a million bytes and more
MARK = 0x314159265359
PAD = 18  # words of zeros behind the last: a whole head may be looked at without asking

Words = npt.NDArray[np.uint32]

# The list's first sixteen places lie in two words, eight bytes each. For the symbols that take a byte from
# one of them (the digits 0 and 1 leave the list as it is): which bits of the first and of the second word
# move, and where in its word the byte stands.
NEAR = 17
_PLACES = np.maximum(np.arange(NEAR) - 1, 0).astype(np.uint64)
SHIFT = _PLACES % 8 * 8
_UP_TO = (np.uint64(256) << SHIFT) - 1
OF_FRONT = np.where(_PLACES < 8, _UP_TO, np.uint64(0xFFFFFFFFFFFFFFFF))
OF_SECOND = np.where(_PLACES < 8, np.uint64(0), _UP_TO)


def words_of(data: bytes) -> Words:
    """Bytes as words, the most significant bit first, with the PAD that `unpack` wants."""
    padded = data + bytes(-len(data) % 4 + 4 * PAD)
    return np.frombuffer(padded, ">u4").astype(np.uint32)


@compiled(WORD, U32, WORD)
def _bits(words, at):
    """The 64 bits from `at` on; there are three words."""
    word, shift, half = at >> np.uint64(5), at & np.uint64(31), np.uint64(32)
    both = np.uint64(words[word]) << half | np.uint64(words[word + np.uint64(1)])
    return both << shift | np.uint64(words[word + np.uint64(2)]) >> (half - shift)


@compiled(INTEGER, U32, INTEGER, INTEGER)
def _peek(words, at, count):
    """`count` bits, 1 to 32, at a bit below ``32 * (len(words) - 2)``."""
    return np.int64(_bits(words, np.uint64(at)) >> np.uint64(64 - count))


@compiled(INTEGER, U32, INTEGER, U16, I64, I64, U16, U8, U64, I64)
def _head(words, bit, lookup, limits, ranks, symbols, selectors, moved, found):
    """What stands before the codes; the bit where they begin, or -1.

    Fills in `found` (checksum, origin, distinct bytes, groups of codes), `moved` (the list, eight bytes a
    word), `selectors` (a table for each group) and the tables: `lookup` (symbol << 6 | length for each LOOK
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
                        lookup[first : first + (1 << (LOOK - length))] = symbol << 6 | length
                    code += 1
            limits[table * ROW + length] = code
            code <<= 1
    found[3], found[4] = used, min(groups, SELECTORS)
    # A table that is never filled in is never selected: places in `order` are below `tables`.
    return at


@compiled(TWO_WORDS, WORD, INTEGER, I64, I64, U16, INTEGER)
def _long(bits, table, limits, ranks, symbols, used):
    """The symbol and the length of a code of more than LOOK bits; length 0 where there is no such code."""
    length = LOOK + 1
    while np.int64(bits >> np.uint64(64 - length)) >= limits[table * ROW + length]:
        length += 1
        if length > LONGEST_CODE:
            return np.uint64(0), np.uint64(0)
    place = np.int64(bits >> np.uint64(64 - length)) + ranks[table * ROW + length]
    # Not below the codes of this length: shorter codes were not theirs.
    if place < 0 or place >= used + 2:
        return np.uint64(0), np.uint64(0)
    return np.uint64(symbols[table * SYMBOLS + place]), np.uint64(length)


@compiled(TWO_WORDS, U64, WORD, WORD, WORD)
def _far(moved, place, front, second):
    """The list's first two words when the byte at a place behind them has come to their front; the others
    are in `moved`, which has the place."""
    one, three, eight, last_byte = np.uint64(1), np.uint64(3), np.uint64(8), np.uint64(56)
    shift = (place & np.uint64(7)) << three
    up_to = (np.uint64(256) << shift) - one
    last = moved[place >> three]
    own = last >> shift & np.uint64(255)
    carry = second >> last_byte
    each = np.uint64(2)
    while each < place >> three:
        whole = moved[each]
        moved[each] = whole << eight | carry
        carry = whole >> last_byte
        each += one
    moved[place >> three] = (last & ~up_to) | ((last << eight | carry) & up_to)
    return front << eight | own, second << eight | front >> last_byte


@compiled(INTEGER, U32, WORD, INTEGER, I64, I64)
def _counted(items, number, end, counts, found):
    """What `unpack` answers when it has all items; it fills in `counts` and the rest of `found`."""
    counts[:] = 0
    size = np.int64(0)
    for each in range(number):
        run = np.int64(items[each] >> np.uint32(8))
        counts[items[each] & np.uint32(255)] += run
        size += run
    if size > LIMIT or found[2] >= size:
        return 0
    found[0], found[3], found[4] = end, size, number
    return 1


@compiled(INTEGER, U32, INTEGER, U32, I64, I64)
def unpack(words, bit, items, counts, found):
    """The last column of the block at `bit` as `items` (bytes in a row << 8 | byte): 1; 0 if it is refused.

    `counts`: how often each byte occurs. `found`: the bit behind the block, its checksum, the origin (below
    the number of bytes), the number of bytes (LIMIT at most), of items (that and one at most).

    What nothing could predict is no branch: whether a symbol is a digit of a run, and from which of the first
    sixteen places of the list a byte comes (nineteen of twenty do). So an item is written at each symbol, and
    stays where it is no digit; and a digit takes the list's first byte to its front.
    """
    lookup = np.zeros(TABLES << LOOK, np.uint16)
    limits = np.zeros(TABLES * ROW, np.int64)
    ranks = np.zeros(TABLES * ROW, np.int64)
    symbols = np.zeros(TABLES * SYMBOLS, np.uint16)
    selectors = np.zeros(SELECTORS, np.uint8)
    moved = np.zeros(32, np.uint64)
    begin = _head(words, bit, lookup, limits, ranks, symbols, selectors, moved, found)
    if begin < 0:
        return 0
    used, groups = found[3], found[4]
    zero, one, two, five, eight = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(5), np.uint64(8)
    byte_mask, last_byte = np.uint64(255), np.uint64(56)
    last_symbol = np.uint64(used + 1)
    words_left = np.uint64(len(words) - 2)
    at = np.uint64(begin)
    front, second = moved[0], moved[1]
    run = number = zero  # of bytes in a row so far, of the list's first; of items
    weight = one  # of the run's next digit
    for group in range(groups):
        table = np.uint64(selectors[group]) << np.uint64(LOOK)
        if number > np.uint64(LIMIT):  # each item but the first has a byte at least
            return 0
        for _ in range(GROUP // AT_ONCE):
            if at >> five >= words_left:
                return 0
            bits = _bits(words, at)
            for _ in range(AT_ONCE):
                entry = np.uint64(lookup[table | bits >> np.uint64(64 - LOOK)])
                if entry:
                    symbol, length = entry >> np.uint64(6), entry & np.uint64(63)
                    at += length
                    bits <<= length
                else:  # too long for what is left of the bits: they are read anew, before and behind
                    if at >> five >= words_left:
                        return 0
                    own_table = np.int64(selectors[group])
                    symbol, length = _long(_bits(words, at), own_table, limits, ranks, symbols, used)
                    at += length
                    if length == zero or at >> five >= words_left:
                        return 0
                    bits = _bits(words, at)
                items[number] = np.uint32(run << eight | front & byte_mask)
                ended = np.uint64(symbol < two) - one  # all ones where the symbol is no digit
                number += one & ended
                if symbol == last_symbol:
                    return _counted(items, number, np.int64(at), counts, found)
                if weight >= np.uint64(HEAVIEST):
                    return 0
                # Digits are 1 and 2, of a number to the base 2, the lowest first.
                run = ((run + (weight << (symbol & one))) & ~ended) | (one & ended)
                weight = ((weight << one) & ~ended) | (one & ended)
                if symbol < np.uint64(NEAR):
                    of_front, of_second = OF_FRONT[symbol], OF_SECOND[symbol]
                    holder = second if symbol > eight else front
                    own = holder >> SHIFT[symbol] & byte_mask
                    second = (second & ~of_second) | ((second << eight | front >> last_byte) & of_second)
                    front = ((front & ~of_front) | (front << eight & of_front)) | own
                else:  # below `used`, for the last symbol and those behind it are not here
                    front, second = _far(moved, symbol - one, front, second)
    return 0
