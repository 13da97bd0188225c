"""A corpus of labelled sequences cut into what a labeller trains, validates and is tested on. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import WordloomError
from ingest.sequence_corpus import TEST, TRAIN, Part, SequenceCorpus
from trainers import word_splits
from trainers.labelling_settings import LabellingSettings
from trainers.sequences import Sequences
from trainers.stream import shuffled


@dataclass(frozen=True)
class LabelledSequences:
    """`sequences` to train and to validate on (those held out); `test`, int64, numbers of those in `part`
    that are tested on; the corpus' `labels` and, where frames are tokens, the `tokens` of the embedding's
    rows from 1; `rows` of an image, 0 where frames are none. `about` is said in the card.
    """

    sequences: Sequences
    part: Part
    test: npt.NDArray[np.int64]
    labels: list[str]
    tokens: list[str]
    rows: int
    about: dict[str, Any]


def labelled(corpus: SequenceCorpus, settings: LabellingSettings) -> LabelledSequences:
    """A corpus cut into training, validation and test as the settings say. Raises WordloomError where it has
    one label a sequence only, the split leaves a part empty, or no token of the training occurs twice."""
    if corpus.per != "frame":
        raise WordloomError(
            f"{corpus.artefact.location!r} has one label a sequence, not one a frame; "
            "`wordloom train sentiment` learns from it."
        )
    part = corpus.read(TRAIN, TEST)
    words = [
        [corpus.labels[each] for each in part.labels[first:last]]
        for first, last in pairwise(part.offsets.tolist())
    ]
    test = _tested(corpus, part, words, settings)
    training = np.flatnonzero(~test)
    if not len(training) or not test.any():
        raise WordloomError(
            f"The split {settings.split!r} leaves {len(training)} sequences to train and {int(test.sum())} "
            "to test on; choose another."
        )
    held = _validation([words[each] for each in training], settings)
    if held.all():
        raise WordloomError(
            f"Setting 'validation' is {settings.validation} and leaves none of {len(training)} sequences to "
            "train on; lower it, or give more sequences."
        )
    lengths = np.diff(part.offsets)[training]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.repeat(part.offsets[training], lengths) + np.arange(offsets[-1])
    places -= np.repeat(offsets[:-1], lengths)
    frames, tokens = part.frames[places], list[str]()
    if part.dictionary is not None:
        frames, tokens = _rows(frames, part.dictionary.to_pylist(), np.repeat(~held, lengths))
        if not tokens:
            raise WordloomError(
                f"No token of {corpus.artefact.location!r} occurs twice in its training part, and one that "
                "occurs once is read as an unknown one; give more sequences."
            )
    about = {
        "corpus": corpus.artefact.location,
        "identity": corpus.artefact.identity,
        "synthetic": corpus.synthetic,
        "trained on": int((~held).sum()),
        "validated on": int(held.sum()),
        "tested on": int(test.sum()),
        "distinct words tested on": len({tuple(words[each]) for each in np.flatnonzero(test)}),
    }
    return LabelledSequences(
        Sequences(frames, offsets, part.labels[places], held),
        part,
        np.flatnonzero(test),
        corpus.labels,
        tokens,
        int(corpus.settings.get("image_rows", 0)),
        about,
    )


def folds_of(corpus: SequenceCorpus, split: str) -> range:
    """The folds of a split of a corpus: one where it has none. Raises WordloomError where they are not
    genuine."""
    if split == "by-word":
        return range(word_splits.WORD_FOLDS)
    if split == "by-fold":
        folds = _own_folds(corpus, corpus.read(TRAIN, TEST))
        word_splits.by_fold(folds, 0)
        return range(len(np.unique(folds)))
    return range(1)


def _tested(
    corpus: SequenceCorpus, part: Part, words: list[list[str]], settings: LabellingSettings
) -> np.ndarray:
    if settings.split == "random66":
        return word_splits.random66(len(part), settings.seed)
    if settings.split == "by-word":
        return word_splits.by_word(words, settings.fold)
    if settings.split == "by-fold":
        return word_splits.by_fold(_own_folds(corpus, part), settings.fold)
    given = corpus.counts["splits"].get(TEST, 0)
    ids = set(corpus.read(TEST).ids) if given else set()
    return np.array([each in ids for each in part.ids], bool)


def _own_folds(corpus: SequenceCorpus, part: Part) -> npt.NDArray[np.int32]:
    if "fold" not in part.numbers:
        raise WordloomError(
            f"{corpus.artefact.location!r} has no folds of its own; choose the split random66 or by-word."
        )
    return part.numbers["fold"]


def _validation(words: list[list[str]], settings: LabellingSettings) -> np.ndarray:
    """Which of the training sequences are held out: of distinct words, where the split is by word."""
    if not settings.validation:
        return np.zeros(len(words), bool)
    if settings.split == "by-word":
        distinct = sorted({tuple(word) for word in words})
        order = shuffled(len(distinct), settings.seed, 7)
        chosen = {distinct[each] for each in order[: max(1, round(settings.validation * len(distinct)))]}
        return np.array([tuple(word) in chosen for word in words])
    held = np.zeros(len(words), bool)
    held[shuffled(len(words), settings.seed, 7)[: max(1, round(settings.validation * len(words)))]] = True
    return held


def _rows(frames: np.ndarray, tokens: list[str], trained: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Frames as rows of an embedding of the tokens that training has twice or more; 0 is any other, and so
    the rare ones teach what to make of unknown ones."""
    counts = np.bincount(frames[trained], minlength=len(tokens))
    known = np.flatnonzero(counts > 1)
    rows = np.zeros(len(tokens), np.int32)
    rows[known] = np.arange(1, len(known) + 1)
    return rows[frames], [tokens[each] for each in known]
