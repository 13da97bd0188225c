"""Alphabets: the characters that a language model knows, and what becomes of the others.

Index 0 is the unknown character, so that nothing is dropped: every character of a text is read, predicted
and counted, those outside the alphabet as the unknown one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cluster.errors import UsageError

# The 83 characters of the reference experiment on abstracts (TASKS.md, section 5).
REFERENCE = " $%'()+,-./0123456789:;=?ABCDEFGHIJKLMNOPQRSTUVWXYZ\\^_abcdefghijklmnopqrstuvwxyz{|}"
UNKNOWN = 0
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what the unknown character looks like
CODE_POINTS = 0x110000

Ids = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


class Alphabet:
    """The characters of a model: `characters[i]` has index i + 1, all others index 0.

    `size` counts the unknown one. `start` (= `size`) is the index of the symbol that stands before a
    document's first character; it is read and never predicted.
    """

    def __init__(self, characters: str) -> None:
        if not characters:
            raise UsageError("The alphabet is empty; name at least one character.")
        if len(set(characters)) != len(characters):
            twice = next(c for c in characters if characters.count(c) > 1)
            raise UsageError(f"The alphabet holds {twice!r} twice; name each character once.")
        self.characters = characters
        self.size = len(characters) + 1
        self.start = self.size
        codes = _codes(characters)
        self._indices = np.zeros(CODE_POINTS, np.int32)
        self._indices[codes] = np.arange(1, self.size, dtype=np.int32)
        self._codes = np.concatenate([_codes(REPLACEMENT), codes])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alphabet) and other.characters == self.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Alphabet({self.characters!r})"

    def __reduce__(self) -> tuple[type[Alphabet], tuple[str]]:
        return Alphabet, (self.characters,)

    def encode(self, text: str) -> Ids:
        """The indices of a text's characters, int32 [len(text)]."""
        return self._indices[_codes(text)]

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of indices; unknown characters show as U+FFFD. Raises IndexError beyond the alphabet."""
        indices = np.asarray(ids, np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self.size):
            raise IndexError(f"character indices lie in 0..{self.size - 1}, not {indices.max()}")
        return self._codes[indices].tobytes().decode("utf-32-le", "surrogatepass")

    def unknown(self, text: str) -> dict[str, int]:
        """The characters of a text that the alphabet lacks, with their counts, the commonest first."""
        codes = _codes(text)
        return _ranked(np.bincount(codes[self._indices[codes] == UNKNOWN]))

    def lacking(self, counts: Counts) -> dict[str, int]:
        """Of counts of characters (see `counted`) those that the alphabet lacks, the commonest first."""
        return _ranked(np.where(self._indices == UNKNOWN, counts, 0))


def reference_alphabet() -> Alphabet:
    """The 83 characters of the reference experiment."""
    return Alphabet(REFERENCE)


def derived_alphabet(texts: Iterable[str], size: int) -> Alphabet:
    """The `size` commonest characters of the texts; ties are broken by code point, and all the rest are the
    unknown character. Fewer where the texts have fewer.

    Raises UsageError for a size of 0 and for texts without a character.
    """
    return commonest(counted(texts), size)


def commonest(counts: Counts, size: int) -> Alphabet:
    """The alphabet of `derived_alphabet`, from counts of characters."""
    if size < 1:
        raise UsageError(f"Setting 'language_model.alphabet_size' is {size}; give at least 1.")
    characters = list(_ranked(counts))[:size]
    if not characters:
        raise UsageError("The corpus has no text to derive an alphabet from; ingest it with text = true.")
    return Alphabet("".join(sorted(characters)))


def counted(texts: Iterable[str]) -> Counts:
    """How often each character occurs in the texts: int64 [CODE_POINTS]."""
    counts = np.zeros(CODE_POINTS, np.int64)
    for text in texts:
        codes = _codes(text)
        if len(codes):
            found = np.bincount(codes)
            counts[: len(found)] += found
    return counts


def _codes(text: str) -> npt.NDArray[np.uint32]:
    """The code points of a text; lone surrogates are code points like any other."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _ranked(counts: npt.NDArray[np.int64]) -> dict[str, int]:
    found = np.flatnonzero(counts)
    order = found[np.lexsort((found, -counts[found]))]
    return {chr(code): int(counts[code]) for code in order}


def bits_by_frequency(texts: Iterable[Ids]) -> float:
    """The bits a character of texts by the best guess that reads nothing: each character as often as it
    occurs in these very texts (the entropy of order 0). NaN without a character."""
    counts = np.zeros(0, np.int64)
    for ids in texts:
        found = np.bincount(ids, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    return float(-(shares * np.log2(shares)).sum()) if len(shares) else math.nan
