from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trainers.candidates import TILE, PairBatches, distinct_candidates, log_uniform, pair_batches, reached
from trainers.embeddings import Centres, draw, pairs
from trainers.stream import Block


def listed(cut: PairBatches, batch: int, window: int) -> list[tuple[int, int]]:
    found = []
    for at, (first, last) in enumerate(
        zip(cut.first[batch].ravel().tolist(), cut.last[batch].ravel().tolist(), strict=True)
    ):
        assert len([each for each in range(first, last + 1) if each]) == cut.pairs[batch].ravel()[at]
        for offset in range(first, last + 1):
            if offset:
                own = window + at
                found.append((int(cut.values[batch, own]), int(cut.values[batch, own + offset])))
    return found


@pytest.mark.parametrize("window", [1, 4, 8, 9, 30])
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_the_batches_hold_the_pairs_one_by_one_in_their_order(window: int, size: int) -> None:
    lengths = [3, 1, 40, 1, 1, 7, 25, 2, 60]
    values = np.arange(1, sum(lengths) + 1, dtype=np.int32)
    page = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    drawn = draw(
        Block(0, 0, values, page, 5, 120), np.ones(200, np.float32), window, np.random.default_rng(window)
    )
    wanted = list(zip(*(each.tolist() for each in pairs(drawn)), strict=True))
    cut = pair_batches(drawn, window, size)
    assert cut.values.shape[1] == (cut.first.shape[1] + reached(window) - 1) * TILE
    edges = [*range(0, len(wanted), size), len(wanted)]
    assert len(cut.values) == len(edges) - 1
    for batch, (begin, end) in enumerate(pairwise(edges)):
        assert listed(cut, batch, window) == wanted[begin:end]


def test_a_block_without_a_pair_has_no_batch() -> None:
    none = np.empty(0, np.int32)
    assert len(pair_batches(Centres(none, 0, 0, none, none), 5, 100).values) == 0
    alone = np.zeros(3, np.int32)
    assert len(pair_batches(Centres(np.ones(3, np.int32), 0, 3, alone, alone), 5, 100).values) == 0


def test_candidates_are_distinct_and_log_uniform() -> None:
    chances = log_uniform(50)
    assert chances.sum() == pytest.approx(1)
    chosen, tries = distinct_candidates(50, 8, 3000, np.random.default_rng(2))
    assert all(len(set(row)) == 8 for row in chosen.tolist())
    assert tries.min() >= 8
    expected = (1 - (1 - chances) ** tries[:, None]).mean(0)
    np.testing.assert_allclose(np.bincount(chosen.ravel(), minlength=50) / 3000, expected, atol=0.05)


def test_candidates_are_the_first_distinct_ids_even_where_that_takes_long() -> None:
    # All but the rarest few of 40 ids: the first draws hold too few, more must follow.
    chosen, tries = distinct_candidates(40, 37, 20, np.random.default_rng(3))
    assert all(len(set(row)) == 37 for row in chosen.tolist())
    assert tries.max() > 2 * 37
