from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cluster.errors import UsageError
from trainers.embeddings import (
    PRESETS,
    Centres,
    EmbeddingsSettings,
    Sampler,
    chances,
    draw,
    held_out_pairs,
    keep_probabilities,
    noise,
    pairs,
    steps,
)
from trainers.stream import Block

LENGTHS = [3, 1, 40, 7, 25, 2, 60]
PAGE = np.repeat(np.arange(len(LENGTHS), dtype=np.int32), LENGTHS)
VALUES = np.arange(1, len(PAGE) + 1, dtype=np.int32)  # every token is told apart
ALL = np.ones(len(VALUES) + 1, np.float32)


def blocks(size: int, halo: int) -> list[Block]:
    made = []
    for index, begin in enumerate(range(0, len(VALUES), size)):
        end = min(begin + size, len(VALUES))
        first, last = max(0, begin - halo), min(len(VALUES), end + halo)
        made.append(Block(index, 0, VALUES[first:last], PAGE[first:last], begin - first, end - first))
    return made


def brute_force(block: Block, radius: np.ndarray) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for number, at in enumerate(range(block.start, block.stop)):
        for other in range(len(block.values)):
            if other != at and abs(other - at) <= radius[number] and block.page[other] == block.page[at]:
                found[int(block.values[at]), int(block.values[other])] += 1
    return found


@pytest.mark.parametrize("size", [1, 5, 16, 1000])
def test_the_pairs_are_those_of_a_brute_force_count(size: int) -> None:
    window = 4
    for block in blocks(size, halo=window):
        random = np.random.default_rng([7, block.index])
        found = Counter(
            zip(*(each.tolist() for each in pairs(draw(block, ALL, window, random))), strict=True)
        )
        random = np.random.default_rng([7, block.index])
        random.random(len(block.values), np.float32)
        radius = random.integers(1, window + 1, len(block), np.int32)
        assert found == brute_force(block, radius)


@pytest.mark.parametrize("size", [1, 5, 16, 1000])
def test_no_pair_is_lost_at_the_borders_of_blocks(size: int) -> None:
    # With radius 1 nothing is left to chance: each token has each neighbour of its page exactly once.
    found: Counter[tuple[int, int]] = Counter()
    for block in blocks(size, halo=1):
        drawn = draw(block, ALL, 1, np.random.default_rng(0))
        found.update(zip(*(each.tolist() for each in pairs(drawn)), strict=True))
    same = PAGE[1:] == PAGE[:-1]
    near = list(zip(VALUES[:-1][same].tolist(), VALUES[1:][same].tolist(), strict=True))
    assert found == Counter(near + [(b, a) for a, b in near])


def test_every_radius_is_drawn_equally_often() -> None:
    values = np.ones(40_000, np.int32)
    block = Block(0, 0, values, np.zeros(len(values), np.int32), 10, len(values) - 10)
    drawn = draw(block, ALL, 5, np.random.default_rng(3))
    np.testing.assert_array_equal(drawn.left, drawn.right)
    np.testing.assert_allclose(np.bincount(drawn.left, minlength=6)[1:] / len(drawn), 0.2, atol=0.01)


def test_thinned_out_words_make_room_within_the_page() -> None:
    values = np.array([1, 0, 0, 2, 0, 3, 4], np.int32)
    block = Block(0, 0, values, np.array([0, 0, 0, 0, 0, 0, 1], np.int32), 0, 7)
    keep = np.array([0, 1, 1, 1, 1], np.float32)
    drawn = draw(block, keep, 1, np.random.default_rng(0))
    assert sorted(zip(*(each.tolist() for each in pairs(drawn)), strict=True)) == [
        (1, 2),
        (2, 1),
        (2, 3),
        (3, 2),
    ]
    nothing = draw(block, np.zeros(5, np.float32), 1, np.random.default_rng(0))
    assert len(nothing) == 0
    assert nothing.pairs == 0
    assert nothing.expected_pairs(1) == 0


@pytest.mark.parametrize("window", [1, 2, 5])
def test_whole_windows_weigh_what_drawn_ones_hold_on_average(window: int) -> None:
    (block,) = blocks(1000, halo=window)
    rounds = 2000
    found: Counter[tuple[int, int]] = Counter()
    for seed in range(rounds):
        drawn = draw(block, ALL, window, np.random.default_rng(seed))
        found.update(zip(*(each.tolist() for each in pairs(drawn)), strict=True))
    whole = draw(block, ALL, window, np.random.default_rng(0), whole=True)
    of = dict(enumerate(chances(window).tolist(), 1))
    # Every token has a value of its own, so a pair's values say how far apart it lies.
    wanted = {
        pair: of[abs(pair[0] - pair[1])] for pair in zip(*map(np.ndarray.tolist, pairs(whole)), strict=True)
    }
    assert found.keys() == wanted.keys()
    for pair, chance in wanted.items():
        assert found[pair] / rounds == pytest.approx(chance, abs=0.06)
    assert whole.expected_pairs(window) == pytest.approx(sum(wanted.values()))


def pairs_of_steps(cut: object, settings: EmbeddingsSettings) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    values, left, right = cut.values, cut.left, cut.right  # type: ignore[attr-defined]
    for step, number, at in np.argwhere(left.astype(int) + right > 0):
        own = at + settings.window
        reach = range(own - int(left[step, number, at]), own + int(right[step, number, at]) + 1)
        for other in reach:
            if other != own:
                found[int(values[step, number, own]), int(values[step, number, other])] += 1
    return found


@pytest.mark.parametrize(("step", "tile"), [(16, 4), (64, 8), (12, 3), (256, 128), (4, 4)])
def test_the_steps_hold_the_pairs_of_the_block_and_no_others(step: int, tile: int) -> None:
    settings = EmbeddingsSettings(window=4, tokens_per_step=step, tile=tile, negatives_per_tile=3)
    sampler = Sampler(np.ones(9) / 9)
    for block in blocks(50, halo=4):
        drawn = draw(block, ALL, 4, np.random.default_rng(block.index))
        cut = steps(drawn, settings, sampler, np.random.default_rng(1))
        assert pairs_of_steps(cut, settings) == Counter(
            zip(*(each.tolist() for each in pairs(drawn)), strict=True)
        )
        assert cut.negatives.shape == (len(cut.values), step // tile, settings.shared_negatives)
        assert (tile + 2 * 4 + settings.shared_negatives) % 8 == 0
    nothing = Centres(np.empty(0, np.int32), 0, 0, np.empty(0, np.int32), np.empty(0, np.int32))
    assert len(steps(nothing, settings, sampler, np.random.default_rng(1)).values) == 0


def test_subsampling_is_that_of_word2vec() -> None:
    counts = np.array([500, 100_000, 1_000, 10])
    keep = keep_probabilities(counts, EmbeddingsSettings(subsample=1e-3))
    frequency = 100_000 / 101_010
    assert keep[0] == 0
    assert keep[1] == pytest.approx((np.sqrt(frequency / 1e-3) + 1) * 1e-3 / frequency)
    assert keep[3] == 1
    assert keep_probabilities(counts, EmbeddingsSettings(subsample=0)).tolist() == [0, 1, 1, 1]
    assert keep_probabilities(counts, EmbeddingsSettings(subsample=0, unknown=True)).tolist() == [1] * 4


def test_negatives_follow_the_smoothed_counts_and_are_never_unknown() -> None:
    counts = np.array([1_000_000, 6_000, 500, 20, 0, 1])
    wanted = noise(counts, EmbeddingsSettings())
    assert wanted[0] == 0
    assert wanted[1] / wanted[2] == pytest.approx(12**0.75)
    drawn = Sampler(wanted).draw(np.random.default_rng(5), (200, 1000))
    assert drawn.dtype == np.int32
    shares = np.bincount(drawn.ravel(), minlength=6) / drawn.size
    np.testing.assert_allclose(shares, wanted, atol=0.003)
    assert shares[0] == shares[4] == 0
    for power in (0.75, 100.0):
        with pytest.raises(UsageError, match="no word besides"):
            noise([50_000, 0], EmbeddingsSettings(smoothing=power))
    assert noise([5, 7, 9], EmbeddingsSettings(smoothing=0.0)).tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("unknown", [False, True])
def test_a_power_that_overflows_leaves_the_commonest_word_alone(unknown: bool) -> None:
    found = noise([10**9, 100_000, 50_000, 1], EmbeddingsSettings(smoothing=100.0, unknown=unknown))
    assert found.tolist() == pytest.approx([1, 0, 0, 0] if unknown else [0, 1, 0, 0])


def test_the_held_out_sample_never_changes() -> None:
    keep = np.ones(30, np.float32)
    pages = [np.arange(30, dtype=np.int32), np.arange(20, dtype=np.int32)]
    sampler = Sampler(np.ones(30) / 30)
    first, second = (held_out_pairs(iter(pages), keep, 3, 4, sampler, 100, 1) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(first[0]) == 100
    assert first[2].shape == (100, 4)
    assert held_out_pairs(iter([]), keep, 3, 4, sampler, 100, 1)[2].shape == (0, 4)


def test_the_rate_falls_to_its_floor() -> None:
    settings = EmbeddingsSettings(learning_rate=0.1, final_learning_rate=0.01)
    assert [settings.learning_rate_at(at) for at in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.055, 0.01])


def test_presets_are_valid_and_the_reference_is_that_of_the_task() -> None:
    made = {name: EmbeddingsSettings(**values) for name, values in PRESETS.items()}
    assert set(made) == {"reference", "fast"}
    reference = made["reference"]
    assert (reference.loss, reference.vector_size, reference.window) == ("nce", 200, 10)
    assert (reference.candidates, reference.batch_pairs) == (100, 1000)
    assert (reference.learning_rate, reference.momentum, reference.subsample) == (0.5, 0.5, 0)
    assert reference.learning_rate_at(1.0) == 0.5
    assert reference.unknown
    assert reference.halo == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"vector_size": 0},
        {"window": 0},
        {"loss": "hinge"},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"subsample": -1.0},
        {"momentum": 1.0},
        {"tokens_per_step": 100},
        {"epochs": 0},
        {"seed": 1 << 64},
        {"block_tokens": 1 << 63},
    ],
)
def test_a_setting_out_of_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"embeddings.{next(iter(wrong))}"):
        EmbeddingsSettings(**wrong)  # type: ignore[arg-type]
