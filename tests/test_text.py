"""Text: whole or in pieces the same, and scores in the field's units."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from typing import Any

import pytest

from serving.text import LANES, SEEDS, Making, Sampling, Text
from tests.cores import FakeLanguageModel, fake_text


@pytest.fixture
def text() -> Text:
    return Text(FakeLanguageModel())


def generated(text: Text, sampling: Sampling) -> tuple[str, Making]:
    return asyncio.run(text.generate(sampling))


def streamed(text: Text, sampling: Sampling) -> tuple[list[str], Making]:
    """The pieces of a stream."""
    making = text.stream(sampling)

    async def read() -> list[str]:
        return [piece async for piece in making]

    return asyncio.run(read()), making


def test_a_stream_is_the_same_text_in_pieces(text: Text) -> None:
    sampling = Sampling(seed_text="ab", length=300, seed=7)
    pieces, _ = streamed(text, sampling)
    whole, making = generated(text, sampling)
    assert "".join(pieces) == whole
    assert len(whole) == 300
    assert making.finish == "length"


def test_the_first_piece_comes_after_one_character(text: Text) -> None:
    sizes = [len(piece) for piece in streamed(text, Sampling(length=300))[0]]
    assert sizes[0] == 1
    assert max(sizes) == 64


def test_a_whole_text_is_made_in_few_calls(text: Text) -> None:
    generated(text, Sampling(length=300))
    assert model_of(text).steps == [128, 128, 44]


def test_a_text_ends_before_a_stop_string_and_goes_on_behind_it(text: Text) -> None:
    sampling = Sampling(seed_text="ab", length=300, seed=7)
    whole, _ = generated(text, sampling)
    stop = whole[90:93]
    at = whole.index(stop)
    for stopped in (generated, streamed):
        shown, making = stopped(text, dataclasses.replace(sampling, stop=(stop, "never")))
        assert "".join(shown) == whole[:at]
        assert making.finish == "stop"
        rest, _ = generated(text, Sampling(length=50, carry=making.carry))
        assert rest == whole[at + 3 : at + 53]


def test_a_carry_goes_on_where_the_text_stands(text: Text) -> None:
    sampling = Sampling(seed_text="ab", length=100, seed=7)
    first, making = generated(text, dataclasses.replace(sampling, length=37))
    second, _ = generated(text, Sampling(length=63, carry=making.carry))
    assert first + second == generated(text, sampling)[0]


def test_texts_that_are_made_at_the_same_time_go_on_together() -> None:
    text = Text(Slow())
    wanted = [Sampling(length=200, seed=seed, top_k=seed % 2) for seed in range(12)]

    async def all_of_them() -> list[str]:
        return [made for made, _ in await asyncio.gather(*map(text.generate, wanted))]

    made = asyncio.run(all_of_them())
    assert made == [fake_text(each.seed, 0, 200) for each in wanted]
    rounds = model_of(text).rounds
    assert max(count for count, _ in rounds) > 1
    assert all(count <= (lanes or 0) and lanes in LANES for count, lanes in rounds)
    assert len(rounds) < 24  # alone each takes two


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
    assert set(model_of(text).rounds) == {(1, lanes) for lanes in LANES}
    assert model_of(text).sampled == [(0.7, 0, 1.0), (0.7, 2, 1.0)] * len(LANES)
    assert model_of(text).scored == list(LANES)


class Slow(FakeLanguageModel):
    """Takes a moment for each call, so that others come meanwhile."""

    def step_together(self, *arguments: Any) -> Any:
        time.sleep(0.02)
        return super().step_together(*arguments)


def model_of(text: Text) -> FakeLanguageModel:
    assert isinstance(text.model, FakeLanguageModel)
    return text.model
