from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UsageError
from trainers.characters import (
    REFERENCE,
    UNKNOWN,
    Alphabet,
    commonest,
    counted,
    derived_alphabet,
    reference_alphabet,
)


def test_the_reference_alphabet_has_its_83_characters() -> None:
    assert len(REFERENCE) == len(set(REFERENCE)) == 83
    assert REFERENCE[0] == " " and "\\" in REFERENCE and '"' not in REFERENCE and "!" not in REFERENCE
    assert reference_alphabet().size == 84


@given(st.text(alphabet=REFERENCE))
def test_known_text_comes_back_as_it_was(text: str) -> None:
    alphabet = reference_alphabet()
    ids = alphabet.encode(text)
    assert ids.dtype == np.int32
    assert UNKNOWN not in ids
    assert alphabet.decode(ids) == text


@given(st.text(st.characters(codec=None), max_size=50))
def test_no_character_is_dropped(text: str) -> None:
    alphabet = Alphabet("abc é😀")
    ids = alphabet.encode(text)
    assert len(ids) == len(text)
    unknown = alphabet.unknown(text)
    assert sum(unknown.values()) == int((ids == UNKNOWN).sum())
    assert unknown == {c: text.count(c) for c in set(text) - set(alphabet.characters)}
    assert len(alphabet.decode(ids)) == len(text)


def test_unknown_characters_show_and_are_counted_commonest_first() -> None:
    alphabet = Alphabet("ab")
    assert alphabet.encode("aŧb").tolist() == [1, 0, 2]
    assert alphabet.decode([1, 0, 2]) == "a\ufffdb"
    assert list(alphabet.unknown("zza y").items()) == [("z", 2), (" ", 1), ("y", 1)]


def test_indices_beyond_the_alphabet_are_refused() -> None:
    alphabet = Alphabet("ab")
    for wrong in (-1, 3):
        with pytest.raises(IndexError):
            alphabet.decode([wrong])


def test_a_derived_alphabet_keeps_the_commonest_and_breaks_ties_by_code_point() -> None:
    texts = ["ccc", "bb", "aa", "é"]
    assert derived_alphabet(texts, 2).characters == "ac"
    assert derived_alphabet(texts, 10).characters == "abcé"
    assert derived_alphabet(reversed(texts), 2) == derived_alphabet(texts, 2)


def test_what_an_alphabet_lacks_of_counted_text_is_ranked() -> None:
    counts = counted(["abcc", "cab→", "→b"])
    assert Alphabet("ab").lacking(counts) == {"c": 3, "→": 2}
    assert commonest(counts, 3).lacking(counts) == {"→": 2}
    assert reference_alphabet().lacking(counted([])) == {}


def test_an_alphabet_survives_pickling() -> None:
    alphabet = reference_alphabet()
    assert pickle.loads(pickle.dumps(alphabet)) == alphabet


@pytest.mark.parametrize(("characters", "word"), [("", "empty"), ("aba", "'a' twice")])
def test_an_alphabet_that_cannot_be_is_refused(characters: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Alphabet(characters)


def test_deriving_from_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="0; give"):
        derived_alphabet(["abc"], 0)
    with pytest.raises(UsageError, match="no text"):
        derived_alphabet(["", ""], 5)
