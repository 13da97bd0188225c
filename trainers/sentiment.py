"""Reviews as the classifier takes them: which words are known, what is held out, what is cut. Pure numpy.

Validation reviews come from the training split alone, chosen by the seed; the test split is read by the
report and by nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import WordloomError
from ingest.sequence_corpus import TRAIN, UNLABELLED, Part, SequenceCorpus, taken
from ingest.settings import VocabularySettings
from ingest.vocabulary import Vocabulary, most_frequent
from trainers.sentiment_settings import SentimentSettings
from trainers.sequences import Sequences
from trainers.stream import shuffled
from trainers.vectors import UNKNOWN, WordVectors

HELD_OUT = 977  # sets this shuffling apart from those of the stream
SPREAD = 0.1  # of the first vectors where none are given

Floats = npt.NDArray[np.float32]
Teacher = Callable[[Part], Floats]  # the probabilities of the labels, [sequences, labels]


@dataclass(frozen=True)
class Words:
    """The words that a model knows: `words[i]` has row i of `vectors` float32 [words, n]; row 0 is for all
    others."""

    words: list[str]
    vectors: Floats

    def numbers(self, dictionary: pa.Array) -> npt.NDArray[np.int32]:
        """The row of each word of a dictionary, 0 for one that is not known: int32 [len(dictionary)]."""
        return Vocabulary(self.words, np.zeros(len(self.words))).mapping(dictionary)


def known_words(corpus: SequenceCorpus, vectors: WordVectors | None, settings: SentimentSettings) -> Words:
    """The corpus' commonest words outside of its test split: of given vectors those that have one, as it is;
    else all of them, with small random vectors. Raises WordloomError where there is none."""
    cut = VocabularySettings(size=settings.vocabulary, min_count=settings.min_count)
    vocabulary, _, _ = most_frequent(corpus.token_counts(), cut)
    if len(vocabulary) == 1:
        raise WordloomError(
            f"No word of {corpus.artefact.location!r} occurs sentiment.min_count={settings.min_count} times "
            "outside of its test split; lower it."
        )
    random = np.random.default_rng([settings.seed, 2])
    if vectors is None:
        shape = (len(vocabulary), settings.vector_size)
        drawn = random.uniform(-SPREAD, SPREAD, shape).astype(np.float32)
        drawn[0] = 0.0
        return Words(vocabulary.tokens, drawn)
    words = [word for word in vocabulary.tokens[1:] if word in vectors]
    if not words:
        raise WordloomError(
            f"None of the {len(vectors):,} words of the vectors occurs in {corpus.artefact.location!r}; "
            "give vectors of its language, made with the same tokeniser."
        )
    rows = np.array([vectors.key_to_index[word] for word in words])
    table = np.zeros((len(words) + 1, vectors.vector_size), np.float32)
    table[1:] = vectors.vectors[rows]
    return Words([UNKNOWN, *words], table)


def training_sequences(
    corpus: SequenceCorpus, words: Words, settings: SentimentSettings, teacher: Teacher | None = None
) -> Sequences:
    """The training split in rows of `words`, a share of it held out, each review cut as the settings say.

    With a `teacher` the unlabelled reviews that it is sure of join the training under its judgement. Raises
    WordloomError where there are too few to train on, or none for a teacher.
    """
    part = corpus.read(TRAIN)
    if len(part) < 2 or len(corpus.labels) < 2:
        raise WordloomError(
            f"{corpus.artefact.location!r} has {len(part)} training sequences of {len(corpus.labels)} "
            "labels; give at least two of both."
        )
    held_out = np.zeros(len(part), bool)
    count = round(len(part) * settings.validation)
    held_out[shuffled(len(part), settings.seed, HELD_OUT)[:count]] = True
    given = _sequences(part, part.labels, held_out, words, settings)
    if teacher is None:
        return given
    part = corpus.read(UNLABELLED)
    if not len(part):
        raise WordloomError(
            f"{corpus.artefact.location!r} has no unlabelled sequences for a teacher to judge; "
            "leave --teacher out."
        )
    probabilities = teacher(part)
    sure = np.flatnonzero(probabilities.max(axis=1) >= settings.sure)
    if not len(sure):
        raise WordloomError(
            f"The teacher gives no label of the {len(part):,} unlabelled sequences of "
            f"{corpus.artefact.location!r} a probability of sentiment.sure={settings.sure} or more; "
            "lower it, or leave --teacher out."
        )
    frames, offsets = part.taken(sure)
    part = dataclasses.replace(
        part, ids=[part.ids[row] for row in sure], frames=frames, offsets=offsets, numbers={}
    )
    labels = probabilities[sure].argmax(axis=1).astype(np.int32)
    judged = _sequences(part, labels, np.zeros(len(sure), bool), words, settings)
    return Sequences(
        np.concatenate((given.frames, judged.frames)),
        np.concatenate((given.offsets, given.offsets[-1] + judged.offsets[1:])),
        np.concatenate((given.labels, judged.labels)),
        np.concatenate((given.held_out, judged.held_out)),
    )


def _sequences(
    part: Part,
    labels: npt.NDArray[np.int32],
    held_out: npt.NDArray[np.bool_],
    words: Words,
    settings: SentimentSettings,
) -> Sequences:
    assert part.dictionary is not None, "reviews are words"
    frames, offsets = cut(part, settings.longest, settings.keep)
    return Sequences(words.numbers(part.dictionary)[frames], offsets, labels, held_out)


def cut(part: Part, longest: int, keep: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Frames and offsets with at most `longest` (0: all) of each sequence, of its ``beginning`` or
    ``end``."""
    lengths = np.diff(part.offsets)
    if not longest or lengths.max() <= longest:
        return part.frames, part.offsets
    kept = np.minimum(lengths, longest)
    starts = part.offsets[:-1] if keep == "beginning" else part.offsets[1:] - kept
    return taken(part.frames, starts, kept)
