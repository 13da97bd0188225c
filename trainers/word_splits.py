"""Which labelled sequences a model is tested on. Pure numpy.

- ``random66``: all sequences are shuffled, 66 of 100 are for training, the rest for the test;
- ``by-word``: the distinct words (the labels of a sequence), sorted by the sha256 of their labels joined and
  then by the labels, make 5 folds by rank modulo 5; a fold's words are tested on, but for those without which
  a letter would vanish from training: what is tested then are words never seen;
- ``by-fold``: the folds that the corpus itself has, each tested on once;
- ``given``: the corpus' own part ``test``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cluster.errors import UsageError, WordloomError
from trainers.stream import shuffled

WORD_FOLDS = 5
TRAINING_SHARE = 0.66
LONGEST_CYCLE = 20  # words; a fold column that repeats itself within so many was counted out, not collected

Chosen = npt.NDArray[np.bool_]


def random66(count: int, seed: int) -> Chosen:
    """The sequences to test on, bool [count]: 34 of 100, which ones the seed decides."""
    test = np.ones(count, bool)
    test[shuffled(count, seed, 66)[: round(TRAINING_SHARE * count)]] = False
    return test


def words_of_fold(words: Sequence[Sequence[str]], fold: int) -> set[tuple[str, ...]]:
    """Which of the distinct `words` (each the labels of its letters) a fold is tested on.

    Raises UsageError for a fold that there is not.
    """
    check_fold(fold, WORD_FOLDS)
    ranked = sorted({tuple(word) for word in words}, key=_place)
    test = set(ranked[fold::WORD_FOLDS])
    for word in ranked[fold::WORD_FOLDS]:
        left = {letter for other in ranked if other not in test for letter in other}
        if not set(word) <= left:  # it goes to training
            test.discard(word)
    return test


def by_word(words: Sequence[Sequence[str]], fold: int) -> Chosen:
    """The sequences to test on, bool [words]: those whose word is one of the fold's."""
    test = words_of_fold(words, fold)
    if not test or len(test) == len({tuple(word) for word in words}):
        raise WordloomError(
            f"Fold {fold} by word leaves nothing to train or to test on: there are only "
            f"{len({tuple(word) for word in words})} distinct words; choose the split random66."
        )
    return np.array([tuple(word) in test for word in words])


def by_fold(folds: npt.NDArray[np.int32], fold: int) -> Chosen:
    """The sequences to test on: those of one of the corpus' own folds.

    Raises WordloomError where the folds are not genuine (see `cycle`), UsageError where there is no such.
    """
    distinct = np.unique(folds)
    if len(distinct) < 2:
        raise WordloomError(
            f"The corpus has one fold only ({distinct.tolist()}); choose the split random66 or by-word."
        )
    if (length := cycle(folds)) is not None:
        raise WordloomError(
            "The folds of this corpus are not genuine: one fold aside, they repeat themselves every "
            f"{length} words, so they were counted out when the words had been collected and separate no "
            "writers; choose the split random66 or by-word."
        )
    check_fold(fold, len(distinct))
    return np.asarray(folds == distinct[fold])


def check_fold(fold: int, folds: int) -> None:
    """Raises UsageError for a fold that is none of so many."""
    if not 0 <= fold < folds:
        raise UsageError(f"Fold {fold} of {folds} does not exist; give 0 to {folds - 1}.")


def cycle(folds: npt.NDArray[np.int32]) -> int | None:
    """The period with which a fold column repeats itself over the words, one fold's words (any places) left
    aside; None where it does not. One fold is left aside because copies of the OCR letters are about that
    kept the genuine fold 0 and filled the others in.
    """
    for aside in (None, *np.unique(folds).tolist()):
        seen = np.arange(len(folds)) if aside is None else np.flatnonzero(folds != aside)
        for period in range(1, LONGEST_CYCLE + 1):
            if len(seen) < 3 * period or len(np.unique(folds[seen])) < 2:
                continue
            at = seen % period
            first = np.full(period, -1)
            first[at[::-1]] = folds[seen][::-1]
            if (folds[seen] == first[at]).all():
                return period
    return None


def _place(word: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    # 1 11 and 11 1 are one text: without the word itself the order of a set would decide, another one in each
    # process.
    return hashlib.sha256("".join(word).encode()).hexdigest(), word
