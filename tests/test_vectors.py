from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.artefact import Draft, Input
from cluster.errors import UsageError, WordloomError
from trainers.vectors import KIND, WordVectors, whitening, write_vectors

WORDS = ["<unk>", "the", "cat", "cats", "dog", "sun"]
TABLE = np.array([[1, 1, 0], [0, 0, 3], [1, 0, 0], [2, 0.1, 0], [0.8, 0.3, 0], [0, 1, 1]], np.float32)


@pytest.fixture
def vectors() -> WordVectors:
    return WordVectors(WORDS, TABLE, [9, 8, 7, 6, 5, 4])


def published(folder: Path, table: np.ndarray = TABLE) -> Path:
    inputs = {"corpus": Input("corpus", "c" * 64, "nowhere")}
    draft = Draft(folder, kind=KIND, output_version=1, inputs=inputs, settings={})
    draft.publish({"words": len(WORDS)}, write_vectors(draft.folder, table, WORDS, np.arange(len(WORDS))))
    return folder


def test_published_vectors_are_mapped_into_memory_and_the_same(tmp_path: Path) -> None:
    opened = WordVectors.open(published(tmp_path / "vectors"))
    assert isinstance(opened.vectors, np.memmap)
    np.testing.assert_array_equal(opened.vectors, TABLE)
    assert opened.index_to_key == WORDS
    assert opened.counts is not None
    assert opened.counts.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(np.load(tmp_path / "vectors" / "vectors.npy"), TABLE)


def test_a_table_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published(tmp_path / "vectors")

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may read anything

    monkeypatch.setattr(np, "load", refuses)
    with pytest.raises(WordloomError, match=r"^May not read '.*/vectors.npy'; change its rights"):
        WordVectors.open(made)


def test_a_damaged_table_is_one_sentence(tmp_path: Path) -> None:
    path = published(tmp_path / "vectors")
    for content in (b"\x93NUMPY rubbish", b""):
        (path / "vectors.npy").write_bytes(content)
        with pytest.raises(WordloomError, match="damaged"):
            WordVectors.open(path)
    with pytest.raises(WordloomError, match="no vectors artefact"):
        WordVectors.open(tmp_path / "none")


def test_it_is_a_mapping_of_words(vectors: WordVectors) -> None:
    assert len(vectors) == 6
    assert "cat" in vectors
    assert "moon" not in vectors
    assert list(vectors) == WORDS
    assert vectors.key_to_index["dog"] == 4
    np.testing.assert_array_equal(vectors["dog"], TABLE[4])
    np.testing.assert_array_equal(vectors[["dog", 1]], TABLE[[4, 1]])
    vectors["dog"][:] = 0
    np.testing.assert_array_equal(vectors["dog"], TABLE[4])


def test_neighbours_are_those_of_a_plain_sort_of_cosines(vectors: WordVectors) -> None:
    unit = TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True)
    cosines = unit @ unit[2]
    wanted = [WORDS[i] for i in np.argsort(-cosines) if i not in (0, 2)]
    found = vectors.most_similar("cat", topn=99)
    assert [word for word, _ in found] == wanted
    np.testing.assert_allclose([score for _, score in found], np.sort(cosines[[1, 3, 4, 5]])[::-1], atol=1e-6)
    assert vectors.most_similar("cat", topn=2) == found[:2]
    assert vectors.most_similar("cat", topn=0) == []
    assert vectors.similarity("cat", "dog") == pytest.approx(unit[2] @ unit[4], abs=1e-6)


def test_neighbours_of_sums_differences_and_of_a_vector(vectors: WordVectors) -> None:
    unit = TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True)
    target = unit[3] + unit[5] - unit[2]
    wanted = max((1, 4), key=lambda i: float(unit[i] @ target))
    assert vectors.most_similar(["cats", "sun"], "cat", topn=1)[0][0] == WORDS[wanted]
    assert vectors.analogy("cat", "cats", "sun", topn=1)[0][0] == WORDS[wanted]
    assert vectors.most_similar(TABLE[2], topn=1)[0][0] == "cat"
    assert vectors.most_similar(TABLE[[2, 2]], topn=1, restrict=2)[0][0] == "the"
    with pytest.raises(WordloomError, match="at least one word"):
        vectors.most_similar()
    assert vectors.most_similar("cat", restrict=0) == []
    with pytest.raises(UsageError, match="restrict is -1; give 0 or more"):
        vectors.most_similar("cat", restrict=-1)
    with pytest.raises(WordloomError, match="3 numbers"):
        vectors.most_similar(np.zeros(4))


def test_an_unknown_word_is_an_error_that_names_words_spelt_alike(vectors: WordVectors) -> None:
    with pytest.raises(KeyError) as caught:
        vectors["catz"]
    assert str(caught.value) == "The word 'catz' has no vector; did you mean 'cat' or 'cats'?"
    assert isinstance(caught.value, WordloomError)
    with pytest.raises(WordloomError, match="did you mean 'dog'"):
        vectors.similarity("cat", "DOG")
    with pytest.raises(WordloomError, match="no word of the vocabulary"):
        vectors.most_similar("zzzzzz")
    with pytest.raises(WordloomError, match="no row 6"):
        vectors[6]


def test_a_zero_vector_is_no_ones_neighbour_and_no_nan() -> None:
    vectors = WordVectors(["a", "b", "zero"], [[1, 0], [1, 1], [0, 0]])
    assert vectors.most_similar("a")[-1] == ("zero", 0.0)
    assert vectors.similarity("a", "zero") == 0.0
    assert [score for _, score in vectors.most_similar("zero")] == [0.0, 0.0]


def test_near_spellings_need_no_unknown_word_in_front() -> None:
    with pytest.raises(WordloomError, match="did you mean 'kitten'"):
        WordVectors(["kitten", "sun"], [[1, 0], [0, 1]])["kiten"]


def test_words_and_vectors_must_fit() -> None:
    with pytest.raises(WordloomError, match="2 words"):
        WordVectors(["a", "b"], [[1.0]])
    with pytest.raises(WordloomError, match="'a' has more than one"):
        WordVectors(["a", "a"], [[1.0], [2.0]])


def strengths(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh((table * weights[:, None]).T @ table)


def test_whitening_evens_out_directions_by_its_power() -> None:
    random = np.random.default_rng(3)
    table = (random.normal(size=(500, 4)) @ random.normal(size=(4, 4)) * [9, 1, 1, 0.5]).astype(np.float32)
    weights = random.random(500)
    before = strengths(table, weights)
    for power in (0.0, 0.3, 1.0):
        after = strengths(table @ whitening(table, weights, power), weights)
        np.testing.assert_allclose(after / after[-1], (before / before[-1]) ** (1 - power), rtol=1e-3)
        assert after.sum() == pytest.approx(before.sum(), rel=1e-4)  # the mean square length


def test_whitening_of_next_to_nothing_stays_finite() -> None:
    np.testing.assert_array_equal(whitening(np.zeros((5, 3), np.float32), np.ones(5), 0.5), np.eye(3))
    few = np.array([[3.0, 0, 0, 0], [0, 1.0, 0, 0]], np.float32)
    turned = few @ whitening(few, np.ones(2), 1.0)
    np.testing.assert_allclose(turned, np.sqrt(5) * np.eye(4)[:2], rtol=1e-5)
