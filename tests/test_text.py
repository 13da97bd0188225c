"""Text: whole or in pieces the same, and scores in the field's units."""

from __future__ import annotations

import math

import pytest

from serving.text import SEEDS, Sampling, Text
from tests.cores import FakeLanguageModel


@pytest.fixture
def text() -> Text:
    return Text(FakeLanguageModel())


def test_a_stream_is_the_same_text_in_pieces(text: Text) -> None:
    sampling = Sampling(seed_text="ab", length=300, seed=7)
    pieces = list(text.stream(sampling))
    assert "".join(pieces) == text.generate(sampling)
    assert len(text.generate(sampling)) == 300


def test_the_first_piece_comes_after_one_character(text: Text) -> None:
    sizes = [len(piece) for piece in text.stream(Sampling(length=300))]
    assert sizes[0] == 1
    assert max(sizes) == 64


def test_a_whole_text_is_one_call(text: Text) -> None:
    text.generate(Sampling(length=300))
    assert text.model.steps == [300]  # type: ignore[attr-defined]


def test_without_a_seed_each_text_has_its_own() -> None:
    seeds = {Sampling().seed for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed < SEEDS for seed in seeds)


def test_scores_are_bits_and_their_sum_nats(text: Text) -> None:
    scored = text.score("abé")  # the fake gives every character a quarter
    assert scored.bits.tolist() == [2, 2, 2]
    assert scored.bits_per_character == 2
    assert scored.perplexity == 4
    assert scored.log_probability == pytest.approx(3 * math.log(0.25))
    assert scored.unknown == {"é": 1}


def test_a_perplexity_beyond_a_float_is_none(text: Text) -> None:
    text.model.log_probability = -1e6  # type: ignore[attr-defined]
    assert text.score("a").perplexity is None


def test_the_example_is_written_in_the_models_alphabet(text: Text) -> None:
    assert text.example() == "The "
    text.model.alphabet.characters = "абв"
    assert text.example() == ""


def test_warming_runs_every_loop_that_requests_run(text: Text) -> None:
    text.warm()
    assert text.model.sampled == [(0.7, 0, 1.0), (0.7, 2, 1.0)]  # type: ignore[attr-defined]
    assert text.model.scored == 1  # type: ignore[attr-defined]
