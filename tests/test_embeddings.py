"""What is drawn for skip-gram: every pair in reach is trained once, and nothing across pages."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cluster.errors import UsageError
from trainers import embeddings
from trainers.embeddings import PRESETS, EmbeddingsSettings
from trainers.stream import Block

SETTINGS = EmbeddingsSettings(window=3, tokens_per_step=64, tile=8, negatives_per_tile=4, subsample=0.0)


def blocks(values: np.ndarray, page: np.ndarray, size: int, halo: int) -> list[Block]:
    made = []
    for index, first in enumerate(range(0, len(values), size)):
        last = min(first + size, len(values))
        begin, end = max(first - halo, 0), min(last + halo, len(values))
        made.append(Block(index, 0, values[begin:end], page[begin:end], first - begin, last - begin))
    return made


def brute_force(values: np.ndarray, page: np.ndarray, radius: np.ndarray) -> Counter[tuple[int, int]]:
    """Each (centre, context) pair by the definition."""
    found: Counter[tuple[int, int]] = Counter()
    for at in range(len(values)):
        for other in range(max(0, at - radius[at]), min(len(values), at + radius[at] + 1)):
            if other != at and page[at] == page[other]:
                found[int(values[at]), int(values[other])] += 1
    return found


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_every_pair_in_reach_is_trained_once_over_block_borders(size: int) -> None:
    random = np.random.default_rng(1)
    values = random.integers(1, 30, 300).astype(np.int32)
    page = np.sort(random.integers(0, 9, 300)).astype(np.int32)
    keep = np.ones(30, np.float32)
    trained: Counter[tuple[int, int]] = Counter()
    radii = []
    for block in blocks(values, page, size, halo=SETTINGS.halo):
        # The radius is what `draw` draws behind the numbers that thin the block out.
        fresh = np.random.default_rng([3, block.index])
        fresh.random(len(block.values), np.float32)
        radii.append(fresh.integers(1, SETTINGS.window + 1, len(block), np.int32))
        drawn = embeddings.draw(block, keep, SETTINGS.window, np.random.default_rng([3, block.index]))
        trained.update(zip(*(each.tolist() for each in embeddings.pairs(drawn)), strict=True))
    assert trained == brute_force(values, page, np.concatenate(radii))


def test_the_tiles_of_the_steps_hold_exactly_the_drawn_pairs() -> None:
    random = np.random.default_rng(2)
    values = random.integers(1, 30, 500).astype(np.int32)
    page = np.sort(random.integers(0, 5, 500)).astype(np.int32)
    (block,) = blocks(values, page, 500, 0)
    drawn = embeddings.draw(block, np.ones(30, np.float32), SETTINGS.window, random)
    segment = embeddings.segment_size(SETTINGS)
    sampler = embeddings.Sampler(embeddings.noise(np.bincount(values, minlength=30), SETTINGS))
    cut = embeddings.steps(drawn, SETTINGS, segment, sampler, random)
    found: Counter[tuple[int, int]] = Counter()
    window = SETTINGS.window
    for step, lane, place in np.ndindex(cut.left.shape):
        row = cut.values[step, lane]
        at = place + window
        for offset in range(-int(cut.left[step, lane, place]), int(cut.right[step, lane, place]) + 1):
            if offset:
                found[int(row[at]), int(row[at + offset])] += 1
    expected = Counter(zip(*(each.tolist() for each in embeddings.pairs(drawn)), strict=True))
    assert found == expected


def test_frequent_words_are_thinned_out_and_rare_ones_kept() -> None:
    counts = np.array([0, 100_000, 1_000, 1])
    keep = embeddings.keep_probabilities(counts, replace(SETTINGS, subsample=1e-3))
    assert keep[1] < keep[2] <= keep[3] == 1
    assert (embeddings.keep_probabilities(counts, SETTINGS)[1:] == 1).all()


def test_negatives_are_drawn_by_smoothed_counts() -> None:
    counts = np.array([50, 16, 1])
    noise = embeddings.noise(counts, SETTINGS)
    assert noise.sum() == pytest.approx(1)
    assert noise[1] / noise[2] == pytest.approx(16**0.75)
    drawn = embeddings.Sampler(noise).draw(np.random.default_rng(0), (100_000,))
    assert np.bincount(drawn, minlength=3) / len(drawn) == pytest.approx(noise, abs=0.01)


def test_log_uniform_candidates_sum_to_one() -> None:
    assert embeddings.log_uniform(1000).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("vector_size", 0), ("window", 0), ("loss", "hinge"), ("learning_rate", 0.0), ("tokens_per_step", 33)],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"embeddings.{name}"):
        EmbeddingsSettings(**{name: value})  # type: ignore[arg-type]


def test_the_reference_preset_is_the_reference() -> None:
    settings = EmbeddingsSettings(**PRESETS["reference"])
    said = (settings.loss, settings.vector_size, settings.window, settings.candidates)
    assert said == ("nce", 200, 10, 100)
    assert (settings.learning_rate, settings.momentum, settings.batch_pairs) == (0.5, 0.5, 1000)
