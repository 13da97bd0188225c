"""Word vectors answer exactly, and an unknown word is a sentence with near spellings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.artefact import Draft, Input
from cluster.errors import WordloomError
from trainers.vectors import UnknownWordError, WordVectors, write_vectors

WORDS = ["<unk>", *(f"word{number}" for number in range(199))]
TABLE = np.random.default_rng(5).normal(size=(200, 12)).astype(np.float32)
VECTORS = WordVectors(WORDS, TABLE, np.arange(200, 0, -1))


def cosines(target: np.ndarray) -> np.ndarray:
    return TABLE @ target / np.linalg.norm(TABLE, axis=1) / np.linalg.norm(target)


def test_the_nearest_are_those_of_a_full_sort() -> None:
    scores = cosines(TABLE[10])
    scores[[0, 10]] = -2  # <unk> and the word itself are no answers
    best = np.argsort(-scores)[:7]
    found = VECTORS.most_similar(WORDS[10], topn=7)
    assert [word for word, _ in found] == [WORDS[each] for each in best]
    assert [score for _, score in found] == pytest.approx(scores[best], abs=1e-5)


def test_an_analogy_is_the_sum_of_unit_vectors() -> None:
    a, b, c = (TABLE[each] / np.linalg.norm(TABLE[each]) for each in (1, 2, 3))
    scores = cosines(b - a + c)
    scores[[0, 1, 2, 3]] = -2
    assert VECTORS.analogy("word0", "word1", "word2", topn=1)[0][0] == WORDS[int(np.argmax(scores))]


def test_similarity_is_the_cosine() -> None:
    assert VECTORS.similarity("word0", "word0") == pytest.approx(1)
    expected = cosines(TABLE[1])[2]
    assert VECTORS.similarity("word0", "word1") == pytest.approx(expected, abs=1e-5)


def test_an_unknown_word_is_told_with_what_is_spelt_alike() -> None:
    assert "word1" in VECTORS and "wrod1" not in VECTORS
    with pytest.raises(UnknownWordError, match="did you mean"):
        VECTORS["wordd1"]
    with pytest.raises(KeyError):
        VECTORS["zzzzzz"]


def test_a_published_table_opens_mapped_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    dump = Input("dump", "d" * 64, "/d")
    draft = Draft(tmp_path / "v", kind="vectors", output_version=1, inputs={"dump": dump}, settings={})
    draft.publish({}, write_vectors(draft.folder, TABLE, WORDS, np.arange(200)))
    opened = WordVectors.open(tmp_path / "v")
    assert isinstance(opened.vectors, np.memmap)
    np.testing.assert_array_equal(opened["word5"], TABLE[6])
    np.testing.assert_array_equal(opened[["word5", "word7"]], TABLE[[6, 8]])
    assert opened.key_to_index["word5"] == 6 and opened.index_to_key[6] == "word5" and len(opened) == 200
    (tmp_path / "v" / "vectors.npy").write_bytes(b"not numpy")
    with pytest.raises(WordloomError, match="damaged"):
        WordVectors.open(tmp_path / "v")


def test_words_and_vectors_must_fit() -> None:
    with pytest.raises(WordloomError, match="do not fit"):
        WordVectors(["a"], TABLE)
    with pytest.raises(WordloomError, match="more than one"):
        WordVectors(["a"] * 200, TABLE)
