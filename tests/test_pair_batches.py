from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trainers.embeddings import Centres, draw, pairs
from trainers.pair_batches import pair_batches
from trainers.stream import Block


def candidates(batches: int, wanted: int, size: int) -> np.ndarray:
    random = np.random.default_rng(7)
    return np.array([random.permutation(size)[:wanted] for _ in range(batches)], np.int32).reshape(-1, wanted)


@pytest.mark.parametrize("window", [1, 4, 9, 30])
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_the_batches_hold_the_pairs_one_by_one_in_their_order(window: int, size: int) -> None:
    lengths = [3, 1, 40, 1, 1, 7, 25, 2, 60]
    words = 50
    values = np.random.default_rng(3).integers(0, words, sum(lengths), np.int32)
    page = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    drawn = draw(
        Block(0, 0, values, page, 5, 120), np.ones(words, np.float32), window, np.random.default_rng(window)
    )
    wanted = list(zip(*(each.tolist() for each in pairs(drawn)), strict=True))
    edges = [*range(0, len(wanted), size), len(wanted)]
    chosen = candidates(len(edges) - 1, 6, words)
    cut = pair_batches(drawn, size, chosen, words)
    n = cut.centres.shape[1]
    np.testing.assert_array_equal(cut.words[:, :6], chosen)
    for batch, (begin, end) in enumerate(pairwise(edges)):
        places = cut.places[batch]
        assert (places[end - begin :] == cut.words.shape[1] * n).all()
        rows, columns = np.divmod(places[: end - begin], n)
        found = zip(cut.centres[batch][columns].tolist(), cut.words[batch][rows].tolist(), strict=True)
        assert list(found) == wanted[begin:end]
        own = {centre for centre, _ in wanted[begin:end]}, {word for _, word in wanted[begin:end]}
        assert cut.filled[batch].tolist() == [len(own[0]), len(own[1] | set(chosen[batch].tolist()))]
        for ids in (cut.centres[batch], cut.words[batch]):
            assert len(set(ids.tolist())) == len(ids)
            assert ids.min() >= 0
            assert ids.max() < words


def test_a_block_without_a_pair_has_no_batch() -> None:
    none, alone = np.empty(0, np.int32), np.zeros(3, np.int32)
    for drawn in (Centres(none, 0, 0, none, none), Centres(np.ones(3, np.int32), 0, 3, alone, alone)):
        assert len(pair_batches(drawn, 100, candidates(0, 5, 9), 9).places) == 0
