from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import WordloomError
from trainers import similarity
from trainers.vectors import WordVectors


def test_spearman_shares_ranks_between_equal_values() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert similarity.spearman([1, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert similarity.spearman([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    assert math.isnan(similarity.spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(similarity.spearman([], []))


def test_pairs_with_unknown_words_are_counted_and_left_out() -> None:
    vectors = WordVectors(["cat", "dog", "sun"], [[1, 0], [0.9, 0.1], [0, 1]])
    found = similarity.agreement(
        vectors, [("Cat", "dog", 9.0), ("cat", "sun", 1.0), ("dog", "sun", 2.0), ("cat", "moon", 3.0)]
    )
    assert (found.found, found.asked) == (3, 4)
    assert found.correlation == pytest.approx(1)


def test_an_analogy_never_answers_with_a_word_of_its_question() -> None:
    vectors = WordVectors(
        ["man", "woman", "king", "queen", "bread"],
        np.array([[1, 0, 0], [1, 1, 0], [1, 0, 5], [1, 1, 5], [9, 1, 0]]),
    )
    found = similarity.analogies(
        vectors,
        [("man", "woman", "king", "queen"), ("man", "king", "woman", "queen"), ("man", "a", "b", "c")],
    )
    assert (found.accuracy, found.found, found.asked) == (1.0, 2, 3)
    assert math.isnan(similarity.analogies(vectors, [], None).accuracy)


@pytest.mark.parametrize("read", [similarity.read_judgements, similarity.read_analogies])
def test_a_malformed_line_is_named(tmp_path: Path, read: object) -> None:
    path = tmp_path / "set.txt"
    path.write_text("# comment\n: heading\none two\n")
    with pytest.raises(WordloomError, match=r"line [23]"):
        read(path)  # type: ignore[operator]
    with pytest.raises(WordloomError, match="check the path"):
        read(tmp_path / "none")  # type: ignore[operator]


@pytest.mark.real_data
def test_the_real_sets_are_read_whole(data: Path) -> None:
    sets = data / "similarity"
    assert len(similarity.read_judgements(sets / "wordsim353.tsv")) == 353
    assert len(similarity.read_judgements(sets / "simlex999.txt")) == 999
    assert len(similarity.read_judgements(sets / "EN-RG-65.txt")) == 65
    assert len(similarity.read_analogies(sets / "questions-words.txt")) == 19_544
