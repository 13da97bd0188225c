"""The distinct tokens of many texts in the order in which they first occur, and every token's number.

Compiled, in two passes over some 256 kB at a time: one finds the tokens and folds their case, one looks them
up in a table with open addressing (by itself, so that the processor has many look-ups under way at once).
A token of at most fifteen bytes is its own key; of a longer one two hashes are, and its bytes are compared.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.compiled import I32, I64, INTEGER, NOTHING, READ_EIGHTS, READ_U8, U8, U64, WORD, compiled, eights

LEAST = 1 << 14  # places of a table
WIDE = 3  # words of a place
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth's multiplicative hashing
FACTOR = np.uint64(0xBF58476D1CE4E5B9)  # mixes the second word of a key in (SplitMix64)

PAD = 16  # bytes behind the last, so that sixteen may be read at each

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


class TokenTable:
    """Grows with what is added.

    `pairs`: (class before << 4 | class) -> bits, 1 where a token begins at the second byte and 2 where one
    ends there; `fold`: byte -> byte, both 256 bytes.
    """

    def __init__(self, pairs: bytes, fold: bytes) -> None:
        self._pairs = np.frombuffer(pairs, np.uint8)
        self._fold = fold
        self._places = np.zeros(WIDE * LEAST, np.uint64)  # two words of key, the number of the entry and one
        self._ends = np.zeros(LEAST, np.int64)  # entry k has letters[ends[k] : ends[k + 1]]
        self._letters = np.zeros(PAD, np.uint8)
        self._entries = 0
        self._begins = self._stops = np.empty(0, np.int32)

    def add(self, data: bytes, classes: Bytes, stops: Integers) -> tuple[npt.NDArray[np.int32], Integers]:
        """The numbers of all tokens of some texts, and how many each text has.

        `data` is UTF-8, `classes` those of its bytes (0 to 15); text k ends before byte ``stops[k]``, with a
        byte that belongs to no token.
        """
        size = int(self._ends[self._entries])
        if len(self._letters) < size + len(data) + PAD:
            grown = np.zeros(2 * (size + len(data)) + PAD, np.uint8)
            grown[:size] = self._letters[:size]
            self._letters = grown
        if len(self._begins) <= len(data):
            self._begins, self._stops = np.empty((2, len(data) + 1), np.int32)
        begins, ends = self._begins, self._stops
        many = _find(np.frombuffer(data, np.uint8), classes, self._pairs, begins, ends)
        # Of one type: numpy would make int64 of all the begins first.
        counts = np.diff(np.searchsorted(begins[:many], stops.astype(np.int32)), prepend=0)
        folded = translated(data, self._fold, PAD)
        numbers = np.empty(many, np.int32)
        done = 0
        while done < many:
            state = np.array([done, self._entries])
            tables = (self._letters, self._ends, _MASKS, self._places)
            _number(folded, eights(folded), begins, ends, *tables, numbers, state)
            done, self._entries = state.tolist()
            if done < many:
                self._grow()
        return numbers, counts

    def __len__(self) -> int:
        return self._entries

    def dictionary(self, first: int = 0) -> pa.Array:
        """The distinct tokens from entry `first` on: a pa.StringArray."""
        ends = self._ends[first : self._entries + 1]
        letters = pa.py_buffer(self._letters[ends[0] : ends[-1]].tobytes())
        ends = pa.py_buffer((ends - ends[0]).astype(np.int32))
        return pa.StringArray.from_buffers(self._entries - first, ends, letters)

    def spans(self, many: int) -> npt.NDArray[np.int32]:
        """Where the `many` tokens of the last `add` stand in its data: [many, 2], the first byte and the one
        behind the last."""
        return np.stack([self._begins[:many], self._stops[:many]], axis=1)

    def _grow(self) -> None:
        places = np.zeros(2 * len(self._places), np.uint64)
        _move(self._places, places)
        self._places = places
        ends = np.zeros(2 * len(self._ends), np.int64)
        ends[: len(self._ends)] = self._ends
        self._ends = ends


def translated(data: bytes, table: bytes, pad: int = 0) -> Bytes:
    """What `bytes.translate` gives, and `pad` zeros behind it, in a third of its time."""
    result = np.empty(len(data) + pad, np.uint8)
    result[len(data) :] = 0
    _translate(np.frombuffer(data, np.uint8), np.frombuffer(table, np.uint8), result)
    return result


_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


def sorted_order(tokens: pa.StringArray) -> npt.NDArray[np.int64]:
    """What `pyarrow.compute.sort_indices` gives for distinct tokens, int64 [n], in a quarter of its time.

    They are sorted by their first eight bytes as one number, in which numpy is fast; only those that have
    these in common are compared as strings.
    """
    if not len(tokens):
        return np.zeros(0, np.int64)
    _, places, letters = tokens.buffers()
    places = np.frombuffer(places, np.int32)[tokens.offset : tokens.offset + len(tokens) + 1]
    content = np.concatenate([np.frombuffer(letters or b"", np.uint8), np.zeros(8, np.uint8)])
    first = eights(content)[places[:-1]] & _MASKS[np.minimum(np.diff(places), 8)]
    keys = first.byteswap()  # the first byte decides
    order = np.argsort(keys)
    same = np.diff(keys[order]) == 0
    doubtful = np.append(same, False) | np.insert(same, 0, False)
    among = order[doubtful]
    order[doubtful] = among[pc.sort_indices(tokens.take(pa.array(among))).to_numpy()]
    return order


@compiled(WORD, INTEGER)
def _shift_of(size):
    """What leaves of 64 bits those that name a place in a table of `size` words."""
    shift = np.uint64(64)
    size //= WIDE
    while size > 1:
        size >>= 1
        shift -= np.uint64(1)
    return shift


@compiled(NOTHING, READ_U8, READ_U8, U8)
def _translate(data, table, result):
    """`result` has at least as many bytes as `data`, `table` has 256."""
    for place in range(len(data)):
        result[place] = table[data[place]]


@compiled(INTEGER, READ_U8, U8, READ_U8, I32, I32)
def _find(content, classes, pairs, begins, ends):
    """How many tokens there are, and where they begin and end: without a branch, which nothing could predict.

    `begins` and `ends` have an entry more than `content` bytes; classes are below 16.
    """
    many = ended = before = np.uint64(0)
    four, one = np.uint64(4), np.uint64(1)
    for place in range(np.uint64(len(content))):
        own = np.uint64(classes[place])
        found = np.uint64(pairs[before << four | own])
        # No token begins or ends inside a character.
        found = found if (content[place] & 0xC0) != 0x80 else np.uint64(0)
        begins[many] = place
        many += found & one
        ends[ended] = place
        ended += found >> one
        before = own
    if ended < many:
        ends[ended] = len(content)
    return np.int64(many)


@compiled(NOTHING, I32, I64)
def count(numbers, counts):
    """Adds one to the count of each number; all are below ``len(counts)``. (numpy's `bincount` makes int64 of
    the numbers first, in fresh memory.)"""
    for number in numbers:
        counts[np.uint32(number)] += 1


@compiled(NOTHING, READ_U8, READ_EIGHTS, I32, I32, U8, I64, U64, U64, I32, I64)
def _number(folded, eights, begins, stops, letters, ends, masks, places, numbers, state):
    """Looks up the tokens from ``state[0]`` on, and adds those that are new until the table is full enough.

    `state`: how many tokens are done, how many entries there are. `letters` has room for all of `folded`,
    `ends` for an entry a place; `folded` has PAD bytes more than are used; `masks[n]` has the lowest n bytes.
    """
    done, entries = state[0], state[1]
    most = len(places) // WIDE * 2 // 3
    shift = _shift_of(len(places))
    last = len(places) // WIDE - 1
    while done < len(numbers):
        begin = np.int64(begins[done])
        length = np.int64(stops[done]) - begin
        if length < 16:
            low = eights[begin] & masks[min(length, 8)]
            high = eights[begin + 8] & masks[max(length - 8, 0)]
        else:  # two hashes (FNV-1a; Fowler, Noll, Vo); the highest bit is set, which no other key has
            low = high = np.uint64(0xCBF29CE484222325)
            for each in range(begin, begin + length):
                low = (low ^ np.uint64(folded[each])) * np.uint64(0x100000001B3)
                high = high * SPREAD + np.uint64(folded[each])
            high |= np.uint64(1 << 63)
        place = np.int64((low ^ high * FACTOR) * SPREAD >> shift)
        while True:
            found = np.int64(places[WIDE * place + 2]) - 1
            if found < 0:
                break
            if places[WIDE * place] == low and places[WIDE * place + 1] == high:
                if length < 16:
                    break
                first = ends[found]
                same = ends[found + 1] - first == length
                for each in range(length):
                    same = same and letters[first + each] == folded[begin + each]
                if same:
                    break
            place = (place + 1) & last
        if found < 0:
            if entries >= most:
                break
            found = entries
            places[WIDE * place] = low
            places[WIDE * place + 1] = high
            places[WIDE * place + 2] = found + 1
            first = ends[entries]
            for each in range(length):
                letters[first + each] = folded[begin + each]
            entries += 1
            ends[entries] = first + length
        numbers[done] = found
        done += 1
    state[0], state[1] = done, entries


@compiled(NOTHING, U64, U64)
def _move(places, larger):
    """Every entry of a table into a larger one that is empty."""
    shift = _shift_of(len(larger))
    last = len(larger) // WIDE - 1
    for each in range(0, len(places), WIDE):
        if places[each + 2]:
            place = np.int64((places[each] ^ places[each + 1] * FACTOR) * SPREAD >> shift)
            while larger[WIDE * place + 2]:
                place = (place + 1) & last
            for word in range(WIDE):
                larger[WIDE * place + word] = places[each + word]
