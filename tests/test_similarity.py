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


KINGS = WordVectors(
    ["man", "woman", "king", "queen", "bread"],
    np.array([[1, 0, 0], [1, 1, 0], [1, 0, 5], [1, 1, 5], [9, 1, 0]]),
)


def test_a_folder_is_searched_for_sets_of_both_kinds_and_the_rest_is_named(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("Of words.\n")
    (tmp_path / "noise.bin").write_bytes(b"\xff\xfe")
    (tmp_path / "pairs.tsv").write_text("\ufeff# judged\nking\tqueen\t9\nman\tking\t2\nman\tbread\t8\n")
    (tmp_path / "questions").write_text(
        ": royal\nman woman king queen\nman moon king sun\n: wrong\nman woman king bread\n: none\na b c d\n"
    )
    found, left_out = similarity.evaluate(KINGS, [tmp_path])
    assert [path.name for path in left_out] == ["README", "noise.bin"]
    pairs, questions = found
    assert pairs.score == similarity.agreement(KINGS, similarity.read_judgements(tmp_path / "pairs.tsv"))
    assert (pairs.score.found, pairs.sections) == (3, {})
    assert questions.score == similarity.Accuracy(0.5, 2, 4)
    assert {name: (part.found, part.asked) for name, part in questions.sections.items()} == {
        "royal": (1, 2),
        "wrong": (1, 1),
        "none": (0, 1),
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"king\tqueen\t9\nking\tqueen\n", r"line 2: .* is not word, word, number"),
        (b"king\tqueen\tnan\n", r"line 1: .* is not word, word, number"),
        (b": royal\nman woman king\n", r"line 2: .* is not four words"),
        (b"man woman king queen\nman woman\n", r"line 2: .* is not four words"),
        (b"king\tqu\xffeen\t9\n", r"not UTF-8 \(byte 7\)"),
        (b"# nothing\n", "holds no pairs"),
        (b": royal\n: empty\n", "holds no pairs and no analogies"),
    ],
)
def test_a_set_that_is_named_and_malformed_is_one_sentence_with_the_place(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "set"
    path.write_bytes(content)
    with pytest.raises(WordloomError, match=sentence):
        similarity.evaluate(KINGS, [path])


def test_a_path_that_cannot_be_looked_at_is_a_sentence() -> None:
    with pytest.raises(WordloomError, match=r"Cannot read 'x+': File name too long; check the path"):
        similarity.evaluate(KINGS, ["x" * 300])


def test_judged_pairs_without_a_pair_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs").write_text("# word, word, number\n\n")
    with pytest.raises(WordloomError, match="holds no pairs; give lines"):
        similarity.read_judgements(tmp_path / "pairs")


def test_a_folder_without_sets_is_an_error_that_says_what_a_set_is(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("Of words.\n")
    with pytest.raises(WordloomError, match="judged pairs"):
        similarity.evaluate(KINGS, [tmp_path])


@pytest.mark.real_data
def test_the_real_folder_of_sets_is_evaluated_whole(data: Path) -> None:
    found, left_out = similarity.evaluate(KINGS, [data / "similarity"])
    assert sorted(each.score.asked for each in found) == [65, 353, 999, 19_544]
    assert not left_out
    assert max(len(each.sections) for each in found) == 14


@pytest.mark.real_data
def test_the_real_sets_are_read_whole(data: Path) -> None:
    sets = data / "similarity"
    assert len(similarity.read_judgements(sets / "wordsim353.tsv")) == 353
    assert len(similarity.read_judgements(sets / "simlex999.txt")) == 999
    assert len(similarity.read_judgements(sets / "EN-RG-65.txt")) == 65
    assert len(similarity.read_analogies(sets / "questions-words.txt")) == 19_544
