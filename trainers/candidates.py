"""Batches of the reference model: runs of pairs, and candidates drawn log-uniformly. Pure numpy.

A batch of noise-contrastive estimation is so many consecutive pairs. By centre they are far fewer: 1,000
pairs of radius 1..10 have about 91 centres, neighbours in the text, each paired with a run of offsets. So a
batch is held as its centres, the words around them and the reach of each centre, not pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainers.embeddings import Centres, Doubles
from trainers.stream import Ids

TILE = 16  # centres whose scores with the words around them are one matrix product


@dataclass(frozen=True, slots=True)
class PairBatches:
    """A block's pairs in batches of a fixed number, the last one shorter.

    Centres stand in tiles of TILE neighbours. `values` int32 [batches, n] are a batch's centres, from place
    `window` on, with the words around them; n is a multiple of TILE, such that all tiles reach whole tiles.
    Centre c of a tile is paired with the words at the offsets `first` to `last` (int32 [batches, tiles,
    TILE]), itself left out; `first` is above `last` where it has no pair in this batch. `pairs` float32, of
    the same shape, is how many that are.
    """

    values: Ids
    first: Ids
    last: Ids
    pairs: npt.NDArray[np.float32]


def pair_batches(drawn: Centres, window: int, size: int) -> PairBatches:
    """The pairs of `drawn` (in the order of `embeddings.pairs`) in batches of `size`."""
    reach = (drawn.left + drawn.right).astype(np.int64)
    ends = np.cumsum(reach)
    total = int(ends[-1]) if len(ends) else 0
    begin = np.arange(0, total, size)
    stop = np.minimum(begin + size, total)
    head = np.searchsorted(ends, begin, "right")  # the centre of a batch's first pair
    tail = np.searchsorted(ends, stop - 1, "right")
    tiles = _tiles(int((tail - head).max(initial=0)) + 1)

    centre = head[:, None] + np.arange(tiles * TILE)
    place = np.minimum(centre, len(reach) - 1) if total else centre
    # The contexts of a centre are counted 0, 1, ...; from `left` on they lie behind it.
    left = drawn.left[place].astype(np.int64)
    low = np.maximum(begin[:, None] - (ends - reach)[place], 0)
    high = np.minimum(stop[:, None] - (ends - reach)[place], reach[place])
    pairs = np.where(centre <= tail[:, None], np.maximum(high - low, 0), 0)
    first = np.where(pairs > 0, low - left + (low >= left), 1)
    last = np.where(pairs > 0, high - 1 - left + (high - 1 >= left), 0)

    around = np.arange((tiles + reached(window) - 1) * TILE) - window
    places = np.clip(head[:, None] + around + drawn.start, 0, max(len(drawn.values) - 1, 0))
    shape = (len(begin), tiles, TILE)
    return PairBatches(
        drawn.values[places],
        first.reshape(shape).astype(np.int32),
        last.reshape(shape).astype(np.int32),
        pairs.reshape(shape).astype(np.float32),
    )


def reached(window: int) -> int:
    """The tiles in which the words lie that one tile of centres reaches."""
    return 1 + -(-2 * window // TILE)


def _tiles(centres: int) -> int:
    """Tiles for so many centres, in steps of an eighth: each number of tiles is compiled for itself."""
    tiles = -(-centres // TILE)
    step = 1 << max(0, tiles.bit_length() - 3)
    return -(-tiles // step) * step


def log_uniform(size: int) -> Doubles:
    """float64 [size]: P(k) = log((k + 2) / (k + 1)) / log(size + 1), Zipf's law for ids by frequency."""
    ranks = np.arange(size, dtype=np.float64)
    return np.asarray(np.log((ranks + 2) / (ranks + 1)) / np.log(size + 1))


def distinct_candidates(size: int, wanted: int, count: int, random: np.random.Generator) -> tuple[Ids, Ids]:
    """`count` times `wanted` distinct ids drawn log-uniformly from 0..size-1, int32 [count, wanted], and the
    number of tries that each row took, int32 [count].

    With n tries, id k is expected ``1 - (1 - P(k)) ** n`` times: what TensorFlow's
    ``log_uniform_candidate_sampler`` computes for unique samples.
    """
    chosen, tries = np.empty((count, wanted), np.int32), np.empty(count, np.int32)
    missing, length = np.arange(count), 2 * wanted
    drawn = np.empty((count, 0), np.int32)
    while len(missing):
        more = np.exp(random.random((len(missing), length)) * np.log(size + 1)).astype(np.int32) - 1
        drawn = np.concatenate([drawn, np.minimum(more, size - 1)], 1)
        # The first time that each id comes: sorted stably, the first of its equals.
        order = np.argsort(drawn, axis=1, kind="stable")
        ranked = np.take_along_axis(drawn, order, 1)
        fresh = np.ones(drawn.shape, bool)
        np.put_along_axis(fresh[:, :], order[:, 1:], ranked[:, 1:] != ranked[:, :-1], 1)
        found = np.cumsum(fresh, 1)
        done = found[:, -1] >= wanted
        taken = fresh[done] & (found[done] <= wanted)
        chosen[missing[done]] = drawn[done][taken].reshape(-1, wanted)
        tries[missing[done]] = np.argmax(found[done] == wanted, 1) + 1
        missing, drawn = missing[~done], drawn[~done]
        length = 4 * wanted
    return chosen, tries
