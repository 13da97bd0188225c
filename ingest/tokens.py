"""Tokenisers: texts to dictionary-encoded tokens.

``reference``: every match of ``[A-Za-z]+|[!?.:,()]``, lower-cased; the tokens of the literature's recipe.

``unicode``: words of any script and numbers, nothing else. The rules follow Unicode's word boundaries
(UAX #29) with the simplifications named here:

- a run of letters, marks and digits of any script is one token (``naïve``, ``h2o``, ``слово``);
- an apostrophe, a zero-width joiner or non-joiner, a soft hyphen or a middle dot stays between two
  letters (``don't``; Persian needs it); ``.`` and ``,`` stay between two digits (``3.14``, ``1,000``);
- Chinese and Japanese have no spaces: each Han character and each Hiragana is a token, a run of Katakana
  is one (as UAX #29 has it without a lexicon: the same text always gives the same tokens);
- Thai, Lao, Khmer and Burmese have none either, and letters alone mean little there: a token is an
  orthographic syllable piece, that is a consonant with the vowel before it and the marks and vowels after
  it, never split inside;
- each word is then normalised: lower case (setting ``lower_case``), the setting ``normalise`` (``NFC``,
  ``NFKC`` or ``none``), a typographic apostrophe becomes ``'``, a soft hyphen goes.

How it is fast: all work is on the UTF-8 bytes of many pages at once. Each byte gets the class of its
character, each pair of neighbouring classes says whether a token starts, goes on or is absent, and compiled
code (`ingest.token_table`) numbers the tokens. Only distinct words are normalised. Categories come from
Python's `unicodedata`.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UsageError
from ingest.settings import NORMAL_FORMS, TOKENISERS

if TYPE_CHECKING:
    from ingest.token_table import TokenTable

# Bytes of text that are worked on at once: small enough for the second-level cache.
BATCH_BYTES = 1 << 18

Bytes: TypeAlias = npt.NDArray[np.uint8]

# Classes of characters.
OTHER, LETTER, DIGIT, PUNCTUATION, MARK = 0, 1, 2, 3, 4
SINGLE, KATAKANA = 5, 6  # Han and Hiragana; Katakana
LEADING, SYLLABLE, TRAILING = 7, 8, 9  # vowels before their consonant; consonants; marks and vowels after
MID_LETTER, MID_NUMBER = 14, 15  # become MARK between letters (digits), else OTHER

# What a pair of classes means, as bits: a token begins at its second byte, one ends there.
BEGINS, ENDS = 1, 2


@dataclass(frozen=True)
class Tokens:
    """Dictionary-encoded tokens of some texts.

    `indices`: int32[n], into `dictionary` (pa.StringArray of distinct tokens in the order in which they
    first occur); text p is ``indices[offsets[p]:offsets[p + 1]]``. `offsets`: int64[texts + 1].
    """

    indices: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    dictionary: pa.Array

    def counts(self) -> npt.NDArray[np.int64]:
        """How often each dictionary entry occurs: int64[len(dictionary)]."""
        from ingest.token_table import count  # see `table`

        counts = np.zeros(len(self.dictionary), np.int64)
        count(self.indices, counts)
        return counts

    def order(self) -> npt.NDArray[np.int64]:
        """The dictionary's entries in the order of their UTF-8: int64[len(dictionary)]."""
        from ingest.token_table import sorted_order  # see `table`

        return sorted_order(self.dictionary)

    def strings(self) -> list[str]:
        """The tokens one by one; for small texts."""
        words: list[str] = self.dictionary.to_pylist()
        return [words[index] for index in self.indices]


class Tokeniser:
    """One of the tokenisers of this module; picklable, and equal settings give equal tokens.

    `lower_case` and `normalise` are settings of ``unicode``; ``reference`` is always lower-cased ASCII.
    Raises UsageError for a name or a form that there is not.
    """

    def __init__(self, name: str = "unicode", *, lower_case: bool = True, normalise: str = "NFC") -> None:
        if name not in TOKENISERS:
            raise UsageError(f"Setting 'ingest.tokeniser' is {name!r}; give one of {', '.join(TOKENISERS)}.")
        if normalise not in NORMAL_FORMS:
            raise UsageError(
                f"Setting 'ingest.normalise' is {normalise!r}; give one of {', '.join(NORMAL_FORMS)}."
            )
        self.name = name
        self.lower_case = lower_case or name == "reference"
        self.normalise = normalise
        self._reference = name == "reference"
        self._classes = _ascii_classes(self._reference)
        self._fold = _LOWER if self.lower_case else bytes(range(256))

    def __reduce__(self) -> tuple[Callable[..., Tokeniser], tuple[str, bool, str]]:
        return _tokeniser, (self.name, self.lower_case, self.normalise)

    def split(self, text: str) -> list[str]:
        """The tokens of one text."""
        return self.encode([text]).strings()

    def encode(self, texts: Sequence[str | bytes]) -> Tokens:
        """The tokens of the texts (bytes are UTF-8), in order, with one dictionary over all of them. Raises
        UsageError for one text in place of a list."""
        table = self.table()
        indices, offsets = self.add(table, texts)
        dictionary = table.dictionary()
        if not self._reference:
            indices, dictionary = self._normalised(indices, dictionary)
        return Tokens(indices, offsets, dictionary)

    def table(self) -> TokenTable:
        """An empty table for this tokeniser's tokens."""
        from ingest.token_table import TokenTable  # numba takes 0.3 s to load; most that import this never do

        return TokenTable(_REFERENCE_PAIRS if self._reference else _PAIRS, self._fold)

    def add(
        self, table: TokenTable, texts: Iterable[str | bytes]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The texts' tokens (bytes are UTF-8) as entries of a table of ours, which grows by those that are
        new, and where each text ends: int32[n] and int64[texts + 1]. The table holds words before they are
        `normal`. Raises UsageError for one text in place of a list."""
        refuse_one(texts, "text")
        numbers, lengths = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
        for batch in _batches(texts):
            data = b"\n".join([*batch, b""])
            stops = np.cumsum([len(text) + 1 for text in batch])
            found, counts = table.add(data, self._classified(data), stops)
            numbers.append(found)
            lengths.append(counts)
        return np.concatenate(numbers), np.cumsum(np.concatenate(lengths))

    def spans(self, text: str) -> npt.NDArray[np.int64]:
        """Where the tokens of `split(text)` stand in the text as it was given: [tokens, 2], the first
        character and the one behind the last (code points)."""
        table = self.table()
        data = text.encode("utf-8", "surrogatepass") + b"\n"
        numbers, _ = table.add(data, self._classified(data), np.array([len(data)]))
        begun = np.cumsum((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)  # characters, up to each byte
        return np.concatenate(([0], begun))[table.spans(len(numbers))]

    def _classified(self, data: bytes) -> Bytes:
        """The class of each byte of UTF-8 text: that of its character."""
        from ingest.token_table import translated  # see `table`

        classes = translated(data, self._classes)
        if not self._reference:
            content = np.frombuffer(data, np.uint8)
            if not data.isascii():
                _classify(content, classes)
            _settle_mids(content, classes)
        return classes

    def _normalised(
        self, indices: npt.NDArray[np.int32], dictionary: pa.Array
    ) -> tuple[npt.NDArray[np.int32], pa.Array]:
        """The same tokens with every word normalised; ASCII words are so already."""
        plain = pc.string_is_ascii(dictionary)
        odd = pc.invert(plain)
        words: list[str] = dictionary.filter(odd).to_pylist()
        if not words:
            return indices, dictionary
        normal = pa.array([self.normal(word) for word in words], pa.string())
        merged = pc.replace_with_mask(dictionary, odd, normal).dictionary_encode()
        moved: npt.NDArray[np.int32] = merged.indices.to_numpy()
        return moved[indices], merged.dictionary

    def normal(self, word: str) -> str:
        """A word of a table as it stands among the tokens."""
        if word.isascii():
            return word
        word = word.replace("’", "'").replace("\u00ad", "")
        if self.lower_case:
            word = word.lower()
        normal = word if self.normalise == "none" else _normalize(self.normalise, word)
        # NFKC spells some characters out in several words; a token is one.
        return word if any(map(str.isspace, normal)) else normal


def refuse_one(given: Iterable[str | bytes], noun: str) -> None:
    """Raises UsageError for one string where a list of them is due: its letters would be taken for them."""
    if isinstance(given, str | bytes):
        raise UsageError(f"The {noun}s are one {noun}, {given[:40]!r}; give a list, [{noun}].")


def _tokeniser(name: str, lower_case: bool, normalise: str) -> Tokeniser:
    return Tokeniser(name, lower_case=lower_case, normalise=normalise)


def _normalize(form: str, word: str) -> str:
    return unicodedata.normalize("NFKC" if form == "NFKC" else "NFC", word)


def _batches(texts: Iterable[str | bytes]) -> Iterable[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for text in texts:
        # A lone surrogate is no error here: it is in no class, so it is in no token.
        batch.append(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        size += len(batch[-1]) + 1
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _classify(content: Bytes, classes: Bytes) -> None:
    """Fills in the classes of all bytes of non-ASCII characters; `content` is valid UTF-8."""
    leads = np.flatnonzero(content >= 0xC0)
    first = content[leads]
    padded = np.append(content, np.zeros(3, np.uint8))
    width = 2 + (first >= 0xE0).astype(np.int8) + (first >= 0xF0)
    points = (first & (0x7F >> width).astype(np.uint8)).astype(np.int32)
    for place in (1, 2, 3):
        within = width > place
        trail = padded[leads + place].astype(np.int32) & 0x3F
        points = np.where(within, points << 6 | trail, points)
    table = _point_classes()
    found = table[np.minimum(points, len(table) - 1)]
    # A consonant below another (Khmer, Burmese) belongs to its syllable.
    below = np.flatnonzero((points == 0x17D2) | (points == 0x1039))
    below = below[below + 1 < len(leads)]
    below = below[leads[below + 1] == leads[below] + 3]
    found[below + 1] = TRAILING
    classes[leads] = found
    for place in (1, 2, 3):
        within = width > place
        classes[leads[within] + place] = found[within]


def _settle_mids(content: Bytes, classes: Bytes) -> None:
    """Turns each MID character into MARK where it joins two letters or two digits, into OTHER elsewhere."""
    places = np.flatnonzero(classes >= MID_LETTER)
    places = places[(content[places] & 0xC0) != 0x80]
    if not len(places):
        return
    first = content[places]
    width = 1 + (first >= 0xC0).astype(np.int64) + (first >= 0xE0) + (first >= 0xF0)
    before = np.where(places > 0, classes[places - 1], OTHER)
    after_at = places + width
    after = np.where(after_at < len(classes), classes[np.minimum(after_at, len(classes) - 1)], OTHER)
    letters = ((before == LETTER) | (before == MARK)) & (after == LETTER) & (classes[places] == MID_LETTER)
    digits = (before == DIGIT) & (after == DIGIT) & (classes[places] == MID_NUMBER)
    settled = np.where(letters | digits, MARK, OTHER).astype(np.uint8)
    for place in range(int(width.max())):
        within = width > place
        classes[places[within] + place] = settled[within]


def _ascii_classes(reference: bool) -> bytes:
    """Byte -> class; bytes of longer characters are OTHER until `_classify`."""
    table = bytearray(256)
    for byte in range(128):
        if chr(byte).isalpha():
            table[byte] = LETTER
        elif reference:
            table[byte] = PUNCTUATION if chr(byte) in "!?.:,()" else OTHER
        elif chr(byte).isdigit():
            table[byte] = DIGIT
        elif chr(byte) in ".,":
            table[byte] = MID_NUMBER
        elif chr(byte) == "'":
            table[byte] = MID_LETTER
    return bytes(table)


@functools.cache
def _point_classes() -> Bytes:
    """Code point -> class for planes 0 to 3; the last entry stands for all beyond. Made in some 30 ms."""
    table = np.zeros(0x40000, np.uint8)
    general = {"L": LETTER, "M": MARK, "N": DIGIT}
    for point in range(128, 0x20000):
        table[point] = general.get(unicodedata.category(chr(point))[0], OTHER)
    table[0x20000:0x3FFFE] = SINGLE  # both planes are for Han characters, many not assigned yet
    ideographs = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))
    for first, last in (*ideographs, (0x3007, 0x3007), (0x3021, 0x3029), (0x3041, 0x3096), (0x309D, 0x309F)):
        _among(table, first, last, (LETTER, DIGIT), SINGLE)
    for first, last in ((0x30A1, 0x30FA), (0x30FD, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)):
        _among(table, first, last, (LETTER,), KATAKANA)
    for point in (0x3005, 0x303B, 0x3099, 0x309A, 0x30FC, 0xFF70, 0xFF9E, 0xFF9F):
        table[point] = TRAILING  # iteration, voicing and length marks
    for first, last in ((0x0E00, 0x0E7F), (0x0E80, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)):
        _among(table, first, last, (MARK,), TRAILING)
        _among(table, first, last, (LETTER,), SYLLABLE)
    for block in (0x0E00, 0x0E80):  # Thai and Lao have the same plan
        table[block + 0x40 : block + 0x45] = LEADING
        for place in (0x2F, 0x30, 0x32, 0x33, 0x45, 0x46):
            if table[block + place] != OTHER:
                table[block + place] = TRAILING
    for first, last in ((0xFE00, 0xFE0F), (0x20D0, 0x20FF)):  # variation selectors, marks around symbols
        table[first : last + 1] = OTHER
    table[[0x00AD, 0x00B7, 0x200C, 0x200D, 0x2019]] = MID_LETTER
    table[[0x066B, 0x066C]] = MID_NUMBER
    return table


def _among(table: Bytes, first: int, last: int, wanted: tuple[int, ...], becomes: int) -> None:
    part = table[first : last + 1]
    part[np.isin(part, wanted)] = becomes


def _pairs(goes_on: Mapping[int, tuple[int, ...]]) -> bytes:
    """(class before) << 4 | class -> BEGINS and ENDS; a token goes on with a class behind one of these."""
    table = bytearray(256)
    for before in range(MID_LETTER):
        for own in range(MID_LETTER):
            if before not in goes_on.get(own, ()):
                table[before << 4 | own] = (BEGINS if own != OTHER else 0) | (ENDS if before != OTHER else 0)
    return bytes(table)


_PAIRS = _pairs(
    {
        LETTER: (LETTER, DIGIT, MARK),
        DIGIT: (LETTER, DIGIT, MARK),
        KATAKANA: (KATAKANA, TRAILING),
        SYLLABLE: (LEADING,),
        MARK: tuple(range(1, MID_LETTER)),
        TRAILING: tuple(range(1, MID_LETTER)),
    }
)
_REFERENCE_PAIRS = _pairs({LETTER: (LETTER,)})
_LOWER = bytes(range(256)).lower()
