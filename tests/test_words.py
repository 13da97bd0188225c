"""Words: what the vectors answer, and what is said of a word that they lack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from serving.words import NoSuchWordError, Words
from tests.cores import publish_vectors, tiny_vectors


@pytest.fixture
def words() -> Words:
    return Words(tiny_vectors())


def test_neighbours_come_nearest_first_without_the_word_itself(words: Words) -> None:
    found = words.neighbours("river", 3)
    assert found[0].word == "stream"
    assert [each.similarity for each in found] == sorted((each.similarity for each in found), reverse=True)
    assert "river" not in [each.word for each in found]
    assert len(words.neighbours("river", 1000)) == len(words.vectors) - 2  # neither itself nor <unk>


def test_a_vector_is_given_as_it_was_trained(words: Words) -> None:
    vector = words.vector("river")
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, words.vectors["river"])


def test_similarity_is_the_cosine(words: Words) -> None:
    a, b = words.vector("king"), words.vector("stream")
    assert words.similarity("king", "stream") == pytest.approx(
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-6
    )


def test_an_analogy_is_completed_without_its_own_words(words: Words) -> None:
    found = [each.word for each in words.analogy("man", "king", "woman", 3)]
    assert found[0] == "queen"
    assert not {"man", "king", "woman"} & set(found)


def test_a_word_is_found_whatever_its_capitals(words: Words) -> None:
    assert words.known("River") == "river"
    assert words.known("CAFE\N{COMBINING ACUTE ACCENT}") == "café"


@pytest.mark.parametrize("typed", ["rivr", "rivver", "rivet", "rievr", "rivr ", "irvr", "rivverr"])
def test_an_unknown_word_names_near_spellings(words: Words, typed: str) -> None:
    with pytest.raises(NoSuchWordError, match=r"near spellings: .*river") as raised:
        words.neighbours(typed)
    assert "river" in raised.value.near


@pytest.mark.parametrize("typed", ["zzzzzzz", "x" * 200, "\N{PILE OF POO}", "", "\x00", "\ud800"])
def test_a_word_unlike_any_other_gets_no_suggestion(words: Words, typed: str) -> None:
    with pytest.raises(NoSuchWordError) as raised:
        words.known(typed)
    assert raised.value.near == []


def test_published_vectors_answer_the_same(words: Words, tmp_path: Path) -> None:
    published = Words.open(publish_vectors(tmp_path / "vectors").location)
    assert published.neighbours("river", 5) == words.neighbours("river", 5)


def test_examples_are_words_of_the_vocabulary(words: Words) -> None:
    assert len(words.examples(3)) >= 3
    assert all(word in words.vectors for word in words.examples(3))


def test_serving_words_imports_no_tensorflow() -> None:
    code = (
        "import sys, serving.words, serving.application, trainers.vectors\n"
        "assert not {'tensorflow', 'keras', 'ray'} & set(sys.modules), 'too much is imported'"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=120)


def test_that_the_corpus_is_gone_is_said_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Mock()  # behind many other tests a real one's records did not reach pytest; why, was not found
    monkeypatch.setattr("serving.words.LOG", log)
    words = Words.open(publish_vectors(tmp_path / "vectors").location)
    assert words.tokeniser.name == "unicode"
    (said,) = log.warning.call_args_list
    sentence = said.args[0] % said.args[1:]
    assert sentence.startswith("the corpus 'nowhere' is not to be read ('")
    assert sentence.endswith("there is no such folder.): the default tokeniser")
