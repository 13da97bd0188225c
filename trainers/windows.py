"""Windows: the batches that truncated back-propagation sees, cut from a block of text. Pure numpy.

Both ways of cutting give `Windows`: k batches, each of `batch` rows of at most `steps` characters,
time-major.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainers.stream import Block, shuffled


@dataclass(frozen=True)
class Windows:
    """k batches [k, steps, batch].

    inputs, targets: int32, the character read and the one to be predicted; weights: float32, 1 where the
    prediction counts and 0 elsewhere; starts: bool, where a page begins, so that the state must be empty.
    """

    inputs: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    starts: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.inputs)

    def parts(self, most: int) -> Iterator[Windows]:
        """The same batches, at most `most` at a time."""
        for first in range(0, len(self), most):
            part = slice(first, first + most)
            yield Windows(self.inputs[part], self.targets[part], self.weights[part], self.starts[part])

    def arrays(self, k: int) -> tuple[npt.NDArray[Any], ...]:
        """How many batches there are, and inputs, targets, weights and starts filled up to `k` of them: one
        shape for every block, so that one compiled graph takes them all."""
        widths = [(0, k - len(self)), (0, 0), (0, 0)]
        arrays = (self.inputs, self.targets, self.weights, self.starts)
        return (np.array(len(self), np.int32), *(np.pad(each, widths) for each in arrays))


def cut_streams(block: Block, batch: int, steps: int, start: int) -> Windows:
    """Contiguous rows: the block is cut into `batch` equal runs, read side by side, window after window.

    Every character of the block is predicted once, from the one before it; the first of a page from the
    symbol `start`. A block that is short fills fewer windows, and what it leaves of them has no weight.
    """
    size = len(block)
    k = max(1, -(-size // (batch * steps)))
    shape = (batch, k * steps)
    targets = np.zeros(batch * k * steps, np.int32)
    targets[:size] = block.values[block.start : block.stop]
    begins = _page_begins(block)[block.start : block.stop]
    inputs = np.zeros_like(targets)
    inputs[1:size] = targets[: size - 1]
    inputs[0] = block.values[block.start - 1] if block.start else start
    inputs[:size][begins] = start
    weights = np.zeros(targets.shape, np.float32)
    weights[:size] = 1
    starts = np.zeros(targets.shape, np.bool_)
    starts[:size] = begins

    def batches(flat: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(flat.reshape(shape).T).reshape(k, steps, batch)

    return Windows(batches(inputs), batches(targets), batches(weights), batches(starts))


def cut_windows(
    block: Block,
    batch: int,
    steps: int,
    stride: int,
    start: int,
    seed: int,
    turn: int = 0,
    passes: int = 1,
) -> Windows:
    """Windows that start every `stride` characters of each page's part in the block, in random order.

    Of `passes` passes over the corpus, number `turn` takes every `passes`-th: two windows that share half of
    their characters teach little more than one while both are fresh.

    A window has `steps` characters: all but the last are read, all but the first predicted. A page's first
    window has the symbol `start` before its characters and one of them less, so that a page's first character
    is learned as well. A window may reach beyond the block's end (into its halo), never beyond its page's;
    where a page has less than a window left, no window starts, unless the page is that short altogether: then
    there is one, shorter. Batches are full: the last is filled with windows drawn again. The order depends on
    (seed, block.index) alone.
    """
    begins = _page_begins(block)
    edges = np.append(np.flatnonzero(begins), len(block.values))  # of the pages, halo included
    chosen = []
    for low, high in itertools.pairwise(edges):
        first, last = max(int(low), block.start), min(int(high) - steps, block.stop - 1)
        if last >= first:
            chosen.append(np.arange(first + turn * stride, last + 1, passes * stride))
        elif high - low < steps and block.start <= low < block.stop:
            chosen.append(np.array([low]))
    if not chosen:
        empty = np.zeros((0, steps - 1, batch))
        return Windows(empty.astype(np.int32), empty.astype(np.int32), empty.astype(np.float32), empty > 0)
    found = np.concatenate(chosen)
    k = -(-len(found) // batch)
    order = np.resize(found[shuffled(len(found), seed, block.index)], k * batch)
    ends = edges[np.searchsorted(edges, order, side="right")]
    opens = begins[order]
    places = (order - opens)[:, None] + np.arange(steps)[None, :]
    values = block.values[np.clip(places, 0, len(block.values) - 1)]
    values[opens, 0] = start
    real = places[:, 1:] < ends[:, None]

    def batches(rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(rows.reshape(k, batch, steps - 1).transpose(0, 2, 1))

    return Windows(
        inputs=batches(values[:, :-1]),
        targets=batches(values[:, 1:]),
        weights=batches(real.astype(np.float32)),
        starts=np.zeros((k, steps - 1, batch), np.bool_),
    )


def _page_begins(block: Block) -> npt.NDArray[np.bool_]:
    """Which values of the block, halo included, are the first of a page, as far as the block shows it."""
    page = block.page
    return np.concatenate([[True], page[1:] != page[:-1]])
