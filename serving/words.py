"""What the word vectors answer: neighbours, vectors, similarities, analogies. No TensorFlow, no Ray."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from ingest.tokens import Tokeniser
from serving.batching import Batcher
from serving.nearest import QUESTIONS, Question, nearest
from trainers.vectors import KIND, WordVectors
from trainers.word_map import plane

LOG = logging.getLogger(__name__)

SUGGESTIONS = 5
ALPHABET_WORDS = 5_000  # the commonest words, whose letters spelling suggestions are tried with
ALPHABET_LETTERS = 80  # tries grow with letters x length: 80 letters and 12 of length are some 2,000 look-ups
SPELLING_CHARACTERS = 40  # nothing longer is searched for near spellings


class NoSuchWordError(LookupError):
    """A word that the vocabulary lacks; `near` are words that are spelt like it, the commonest first."""

    def __init__(self, word: str, near: list[str]) -> None:
        self.word = word
        self.near = near
        hint = f"; near spellings: {', '.join(near)}" if near else ""
        super().__init__(f"The word {word!r} is not in the vocabulary{hint}.")


@dataclass(frozen=True)
class Neighbour:
    """A word and its cosine similarity (-1 to 1)."""

    word: str
    similarity: float


@dataclass(frozen=True)
class Place:
    """Where a word stands on a map (in lengths of a unit vector), and its cosine with the asked word."""

    word: str
    similarity: float
    x: float
    y: float


@dataclass(frozen=True)
class Embedded:
    """A text as one vector, float32 [vector_size]; of its `words` the vocabulary has `known`."""

    vector: npt.NDArray[np.float32]
    words: int
    known: int


class Words:
    """The answers that come from word vectors.

    A word is looked up as it is written, then composed and lower-cased (NFC), so that `King` finds `king`
    in a vocabulary without capitals. All methods raise NoSuchWordError.
    """

    def __init__(self, vectors: WordVectors, tokeniser: Tokeniser | None = None) -> None:
        self.vectors = vectors
        self.tokeniser = tokeniser or Tokeniser()
        self._nearest: Batcher[Question, list[tuple[str, float]]] = Batcher(
            "neighbours", self._answered, QUESTIONS
        )
        self._letters = _letters(vectors.index_to_key[:ALPHABET_WORDS])

    @classmethod
    def open(cls, location: str) -> Words:
        """Opens the vectors in an artefact's folder, memory-mapped. Raises WordloomError."""
        artefact = Artefact.open(location, KIND)
        vectors = WordVectors.open(artefact)
        vectors.norms  # noqa: B018 (one pass over the table now, so that no request waits for it)
        return cls(vectors, tokeniser_of(artefact))

    def neighbours(self, word: str, count: int = 10) -> list[Neighbour]:
        """The `count` words nearest to a word by cosine, itself left out, the nearest first."""
        return _neighbours(self._nearest(Question((self.known(word),), (), count)))

    def map(self, word: str, count: int = 40) -> tuple[list[Place], float]:
        """A word, at first, and its `count` neighbours in the plane in which they differ most, and the share
        of their variance that lies in it."""
        known = self.known(word)
        near = [Neighbour(known, 1.0), *self.neighbours(known, count)]
        points, share = plane(self.vectors[[each.word for each in near]])
        places = [
            Place(each.word, each.similarity, x, y)
            for each, (x, y) in zip(near, points.tolist(), strict=True)
        ]
        return places, share

    def vector(self, word: str) -> npt.NDArray[np.float32]:
        """The vector of a word, float32 [vector_size]."""
        return np.asarray(self.vectors[self.known(word)], np.float32)

    def similarity(self, first: str, second: str) -> float:
        """The cosine of two words' vectors."""
        return float(self.vectors.similarity(self.known(first), self.known(second)))

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> list[Neighbour]:
        """The words that are to `c` as `b` is to `a`: nearest to b - a + c, none of the three."""
        return _neighbours(self._nearest(Question((self.known(b), self.known(c)), (self.known(a),), count)))

    def embedding(self, text: str) -> Embedded:
        """A text as the mean of the vectors of its words, tokenised as the corpus was.

        Each occurrence counts; words that the vocabulary lacks are left out; without a known word all
        numbers are 0.
        """
        words = self.tokeniser.split(text)
        rows = [row for word in words if (row := self.vectors.key_to_index.get(word)) is not None]
        if not rows:
            return Embedded(np.zeros(self.vectors.vector_size, np.float32), len(words), 0)
        mean = np.asarray(self.vectors.vectors[rows], np.float32).mean(0, dtype=np.float64)
        return Embedded(mean.astype(np.float32), len(words), len(rows))

    def known(self, word: str) -> str:
        """The word as the vocabulary spells it."""
        if word in self.vectors:
            return word
        plain = unicodedata.normalize("NFC", word).lower()
        if plain in self.vectors:
            return plain
        raise NoSuchWordError(word, self.near_spellings(plain))

    def near_spellings(self, word: str) -> list[str]:
        """Up to five words of the vocabulary that one or two slips of the pen turn into `word`.

        One slip is a letter left out, added, changed or swapped with the next; for a second one only
        letters left out or swapped are tried. The vocabulary is probed, not searched, so the time does not
        grow with it.
        """
        if len(word) > SPELLING_CHARACTERS:
            return []
        slips = self._slips(word)
        found = {each for each in slips if each in self.vectors}
        if not found:
            shorter = set().union(*(_shorter(each) for each in _shorter(word)))
            found = {each for each in shorter if each and each in self.vectors}
        if not found:
            found = {each for slip in _shorter(word) for each in self._slips(slip) if each in self.vectors}
        return sorted(found, key=lambda each: self.vectors.key_to_index[each])[:SUGGESTIONS]

    def examples(self, count: int = 3) -> list[str]:
        """Words for examples: common ones of four letters and more, so hardly stop words."""
        common = [word for word in self.vectors.index_to_key[1:2_000] if len(word) >= 4 and word.isalpha()]
        start = min(50, max(len(common) - count, 0))
        return (common[start : start + count] or list(self.vectors.index_to_key[1:])) * count

    def _answered(self, questions: list[Question]) -> list[list[tuple[str, float]]]:
        return nearest(self.vectors, questions)

    def _slips(self, word: str) -> set[str]:
        tries = _shorter(word)
        for place in range(len(word) + 1):
            head, tail = word[:place], word[place:]
            tries.update(head + letter + tail for letter in self._letters)
            if tail:
                tries.update(head + letter + tail[1:] for letter in self._letters)
        return tries - {word, ""}


def tokeniser_of(artefact: Artefact) -> Tokeniser:
    """How the corpus was cut into words that these vectors were made from; the default, which the log says,
    where it is gone."""
    made_from = artefact.manifest.inputs.get("corpus")
    if made_from is None:
        return Tokeniser()
    try:
        corpus = Artefact.open(made_from.location)
        if corpus.identity != made_from.identity:
            raise WordloomError("another corpus lies there by now")
        settings = corpus.manifest.settings
        return Tokeniser(
            settings["tokeniser"], lower_case=settings["lower_case"], normalise=settings["normalise"]
        )
    except (WordloomError, OSError, KeyError) as error:
        LOG.warning("the corpus %r is not to be read (%s): the default tokeniser", made_from.location, error)
        return Tokeniser()


def _shorter(word: str) -> set[str]:
    """The words with one letter left out, or with two neighbours swapped."""
    tries = {word[:place] + word[place + 1 :] for place in range(len(word))}
    for place in range(len(word) - 1):
        tries.add(word[:place] + word[place + 1] + word[place] + word[place + 2 :])
    return tries


def _letters(words: Sequence[str]) -> str:
    """The commonest letters of some words."""
    counts = Counter(letter for word in words for letter in set(word) if letter.isalpha())
    return "".join(letter for letter, _ in counts.most_common(ALPHABET_LETTERS))


def _neighbours(pairs: list[tuple[str, float]]) -> list[Neighbour]:
    return [Neighbour(word, float(similarity)) for word, similarity in pairs]
