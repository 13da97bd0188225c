"""trainers/word_splits.py: which sequences are tested on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from cluster.errors import UsageError, WordloomError
from trainers.word_splits import by_fold, by_word, cycle, random66, words_of_fold

WORDS = [list(word) for word in ("abc", "cab", "bad", "dab", "cad", "dac", "acd", "bca", "cda", "adb")]


def test_random66_takes_34_of_100_by_the_seed() -> None:
    assert random66(6877, 0).sum() == 6877 - round(0.66 * 6877)
    assert np.array_equal(random66(500, 1), random66(500, 1))
    assert not np.array_equal(random66(500, 1), random66(500, 2))


def test_folds_by_word_are_ranks_of_the_sha256_modulo_five() -> None:
    ranked = sorted(
        ("".join(word) for word in WORDS), key=lambda word: hashlib.sha256(word.encode()).hexdigest()
    )
    for fold in range(5):
        assert words_of_fold(WORDS * 3, fold) == {tuple(word) for word in ranked[fold::5]}
    tested = np.stack([by_word(WORDS * 3, fold) for fold in range(5)])
    assert (tested.sum(axis=0) == 1).all()


def test_words_whose_labels_are_one_text_are_in_the_same_folds_in_every_process() -> None:
    code = (
        "from itertools import product\n"
        "from trainers.word_splits import words_of_fold\n"
        "words = list(product(['1', '11'], repeat=5))\n"
        "print([sorted(words_of_fold(words, fold)) for fold in range(5)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_word_is_moved_where_a_letter_would_vanish_from_training() -> None:
    words = [*WORDS, list("abz")]
    folds = [words_of_fold(words, fold) for fold in range(5)]
    assert all(tuple("abz") not in fold for fold in folds)
    # Two words that have a letter together and alone: one of them may be tested on.
    words = [*WORDS, list("abz"), list("baz"), list("zab")]
    for fold in range(5):
        left = {letter for word in words if tuple(word) not in words_of_fold(words, fold) for letter in word}
        assert left == set("abcdz")


def test_folds_that_are_counted_out_are_refused_and_collected_ones_followed() -> None:
    made_up = 9 - np.arange(500) % 9
    made_up[np.random.default_rng(0).random(500) < 0.1] = 0
    # The places in between count, too: what is left of the cycle follows from the places.
    assert cycle(9 - np.arange(500) % 9) == 9
    with pytest.raises(WordloomError, match="are not genuine"):
        by_fold(9 - np.arange(500, dtype=np.int32) % 9, 0)
    with pytest.raises(WordloomError, match="are not genuine"):
        by_fold(made_up.astype(np.int32), 0)
    real = np.random.default_rng(1).integers(0, 10, 500).astype(np.int32)
    assert cycle(real) is None
    assert np.array_equal(by_fold(real, 3), real == 3)
    with pytest.raises(UsageError, match="Fold 10 of 10"):
        by_fold(real, 10)
    with pytest.raises(WordloomError, match="one fold only"):
        by_fold(np.zeros(9, np.int32), 0)


def test_a_fold_that_is_not_there_and_too_few_words_are_said() -> None:
    with pytest.raises(UsageError, match="Fold 5 of 5"):
        by_word(WORDS, 5)
    with pytest.raises(WordloomError, match="leaves nothing"):
        by_word([list("ab")], 1)
