"""Word vectors: a table of vectors with their words, memory-mapped and answered from by numpy alone.

Names and conventions are those of gensim's KeyedVectors: similarity is the cosine, `most_similar` takes the
mean of unit vectors and leaves out the words it was asked with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.artefact import Artefact
from cluster.errors import UnreadableError, UsageError, WordloomError
from cluster.folder import FileRecord, Folder

KIND = "vectors"
VECTORS = "vectors.npy"  # float32 [V, d], C order
VOCABULARY = "vocabulary.parquet"  # token (string), count (int64, null: unknown), in the order of the rows
UNKNOWN = "<unk>"
ROWS = 1 << 16  # rows read at once where the whole table passes: 26 MB of 100 numbers each

Floats = npt.NDArray[np.float32]
Word = str | int
Query = Word | npt.NDArray[np.floating]


class UnknownWordError(WordloomError, KeyError):
    """A word that has no vector; also a KeyError, as from a dictionary."""

    def __str__(self) -> str:
        return str(self.args[0])


class WordVectors:
    """Vectors float32 [V, d] and their words, the most frequent first.

    `counts` int64 [V] are the words' numbers of occurrences where they are known.
    """

    def __init__(
        self, words: Sequence[str], vectors: npt.ArrayLike, counts: npt.ArrayLike | None = None
    ) -> None:
        self.vectors: Floats = np.asanyarray(vectors, np.float32)
        if self.vectors.ndim != 2 or len(words) != len(self.vectors):
            raise WordloomError(
                f"{len(words)} words do not fit vectors of shape {self.vectors.shape}; "
                "each word needs one vector."
            )
        self.index_to_key = list(words)
        self.key_to_index = {word: index for index, word in enumerate(self.index_to_key)}
        if len(self.key_to_index) != len(self.index_to_key):
            twice = next(word for at, word in enumerate(words) if self.key_to_index[word] != at)
            raise WordloomError(f"The word {twice!r} has more than one vector; each may have one.")
        self.counts = None if counts is None else np.asarray(counts, np.int64)
        self._norms: Floats | None = None

    @classmethod
    def open(cls, location: str | Path | Folder | Artefact) -> WordVectors:
        """The vectors of a published artefact, mapped into memory, not read: opening takes as long as
        reading the words. Raises WordloomError where there is no such artefact or it is damaged."""
        artefact = location if isinstance(location, Artefact) else Artefact.open(location, KIND)
        try:
            path = artefact.folder.local(VECTORS, artefact.manifest.files[VECTORS])
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
            table = artefact.folder.read_table(VOCABULARY)
            words = table["token"].to_pylist()
            counts = None if table["count"].null_count else table["count"].to_numpy()
        except PermissionError as error:
            raise UnreadableError(
                f"May not read {f'{artefact.location}/{VECTORS}'!r}; change its rights."
            ) from error
        except (OSError, EOFError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise WordloomError(
                f"The vectors in {artefact.location!r} are damaged ({error}); make them again."
            ) from error
        return cls(words, vectors, counts)

    def __repr__(self) -> str:
        return f"WordVectors({len(self)} words, {self.vector_size} numbers each)"

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __iter__(self) -> Iterator[str]:
        return iter(self.index_to_key)

    @overload
    def __getitem__(self, word: Word) -> Floats: ...
    @overload
    def __getitem__(self, word: Sequence[Word]) -> Floats: ...
    def __getitem__(self, word: Word | Sequence[Word]) -> Floats:
        """The vector of a word [d], or those of a list of words [n, d]. Raises UnknownWordError."""
        if isinstance(word, str | int | np.integer):
            return np.array(self.vectors[self.index(word)])
        return np.array(self.vectors[[self.index(each) for each in word]])

    @property
    def vector_size(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def norms(self) -> Floats:
        """float32 [V]: the length of each vector; computed once, by one pass over the table."""
        if self._norms is None:
            parts = (self.vectors[at : at + ROWS] for at in range(0, len(self), ROWS))
            norms = [np.sqrt(np.einsum("vd,vd->v", part, part)) for part in parts]
            self._norms = np.concatenate([np.empty(0, np.float32), *norms])
        return self._norms

    def index(self, word: Word) -> int:
        """The row of a word (or of a row's number). Raises UnknownWordError, naming words spelt alike."""
        if isinstance(word, str):
            found = self.key_to_index.get(word)
            if found is None:
                raise UnknownWordError(f"The word {word!r} has no vector; {self._alike(word)}")
            return found
        if not -len(self) <= word < len(self):
            raise UnknownWordError(f"There is no row {word}; rows go from 0 to {len(self) - 1}.")
        return int(word) % len(self)

    def similarity(self, first: Word, second: Word) -> float:
        """The cosine of the angle between two words' vectors, -1 to 1."""
        return float(self._unit(self[first]) @ self._unit(self[second]))

    def most_similar(
        self,
        positive: Query | Sequence[Query] = (),
        negative: Query | Sequence[Query] = (),
        topn: int = 10,
        restrict: int | None = None,
    ) -> list[tuple[str, float]]:
        """The `topn` words nearest to the mean of the unit vectors of `positive` and minus `negative`, with
        their cosines, best first. Each may be a word, a vector [d], or a list of these. Words of the
        question and `<unk>` are left out. `restrict` looks at the first so many words only, 0 or more."""
        if restrict is not None and restrict < 0:
            raise UsageError(f"restrict is {restrict}; give 0 or more words to look at, or None for all.")
        towards, away = _listed(positive), _listed(negative)
        if not towards and not away:
            raise WordloomError("most_similar needs at least one word to start from.")
        asked = {self.index(each) for each in towards + away if isinstance(each, str | int | np.integer)}
        target = np.zeros(self.vector_size, np.float32)
        for sign, group in ((1, towards), (-1, away)):
            for each in group:
                target += sign * self._unit(self._vector(each))
        return self._nearest(target, asked, topn, restrict)

    def analogy(self, a: Word, b: Word, c: Word, topn: int = 10) -> list[tuple[str, float]]:
        """What is to `c` as `b` is to `a` (man, king, woman: queen), as `most_similar` gives it."""
        return self.most_similar([b, c], [a], topn)

    def _nearest(
        self, target: Floats, left_out: set[int], topn: int, restrict: int | None
    ) -> list[tuple[str, float]]:
        among = len(self) if restrict is None else min(restrict, len(self))
        scores = np.concatenate(
            [
                np.empty(0, np.float32),
                *(self.vectors[at : min(at + ROWS, among)] @ target for at in range(0, among, ROWS)),
            ]
        )
        lengths = self.norms[:among] * np.float32(np.linalg.norm(target))
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
        hidden = left_out | {self.key_to_index[UNKNOWN]} if UNKNOWN in self else left_out
        hide = [index for index in hidden if index < among]
        scores[hide] = -np.inf
        wanted = max(0, min(topn, among - len(hide)))
        if not wanted:
            return []
        best = np.argpartition(-scores, wanted - 1)[:wanted]
        best = best[np.lexsort((best, -scores[best]))]
        return [(self.index_to_key[at], float(scores[at])) for at in best]

    def _vector(self, query: Query) -> Floats:
        if isinstance(query, str | int | np.integer):
            return self[query]
        vector = np.asarray(query, np.float32)
        if vector.shape != (self.vector_size,):
            raise WordloomError(
                f"A vector of shape {vector.shape} does not fit these; give {self.vector_size} numbers."
            )
        return vector

    @staticmethod
    def _unit(vector: Floats) -> Floats:
        length = np.linalg.norm(vector)
        return np.asarray(vector / length if length > 0 else vector, np.float32)

    def _alike(self, word: str) -> str:
        # Spelling is compared with the commonest words only: difflib takes 10 us a word.
        for other in (word.lower(), word.capitalize(), word.upper()):
            if other in self:
                return f"did you mean {other!r}?"
        words = [each for each in self.index_to_key[:30_000] if each != UNKNOWN]
        near = difflib.get_close_matches(word, words, n=3, cutoff=0.7)
        if near:
            return f"did you mean {' or '.join(repr(each) for each in near)}?"
        return "no word of the vocabulary is spelt like it."


def whitening(vectors: Floats, weights: npt.ArrayLike, power: float) -> Floats:
    """float32 [d, d]: what vectors [V, d] are multiplied by to bring their principal directions nearer to
    equal strength. `power` 0 leaves them as they are, 1 makes all directions equally strong; the mean square
    length by `weights` [V] stays.

    Skip-gram decides scores, that is products of an input vector and an output vector, and these stay the
    same where one table is multiplied by any invertible matrix and the other by its inverse: the axes that
    cosines are taken along are the training's accident. A few strong directions, which nearly all words
    share, drown the finer ones in it; evening them out in part brings cosines nearer to what people judge
    (Artetxe, Lopez-Gazpio, Labaka and Agirre 2018, arXiv:1809.02094).
    """
    shares = np.asarray(weights, np.float64)
    size = vectors.shape[1]
    moment = np.zeros((size, size))
    for at in range(0, len(vectors), ROWS):
        part = vectors[at : at + ROWS].astype(np.float64)
        moment += (part * shares[at : at + ROWS, None]).T @ part
    strengths, axes = np.linalg.eigh(moment)
    if not strengths[-1] > 0:
        return np.eye(size, dtype=np.float32)
    strengths = np.maximum(strengths / strengths[-1], 0.0)
    # Directions without strength, as of more numbers than words, would be blown up without end.
    scale = np.maximum(strengths, 1e-6) ** (-power / 2)
    scale *= np.sqrt(strengths.sum() / (strengths * scale**2).sum())
    return np.asarray((axes * scale) @ axes.T, np.float32)


def write_vectors(
    folder: Folder, vectors: Floats, words: Sequence[str], counts: npt.ArrayLike | None
) -> dict[str, FileRecord]:
    """Writes the files of an artefact of kind ``vectors``: the table and its vocabulary; without `counts`
    they are unknown."""
    table = np.ascontiguousarray(vectors, np.float32)
    header = np.lib.format.header_data_from_array_1_0(table)
    with folder.writer(VECTORS) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for at in range(0, len(table), ROWS):
            stream.write(table[at : at + ROWS].tobytes())
    known = pa.nulls(len(words), pa.int64()) if counts is None else pa.array(counts, pa.int64())
    vocabulary = pa.table({"token": pa.array(list(words), pa.string()), "count": known})
    return {VECTORS: stream.record, VOCABULARY: folder.write_table(VOCABULARY, vocabulary)}


def _listed(query: Query | Sequence[Query]) -> list[Query]:
    if isinstance(query, str | int | np.integer):
        return [query]
    if isinstance(query, np.ndarray):
        return [query] if query.ndim == 1 else list(query)
    return list(query)
