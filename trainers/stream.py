"""Streams: what training reads, in an order that only the corpus, the seed and the epoch decide.

A *block* is a fixed range of raw units (tokens, characters) of the training part of one shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a stream.

    `index` counts blocks over all epochs (``epoch = index // blocks_per_epoch``). `values` (int32 [n])
    are ids, `page` (int32 [n]) numbers the page that each value belongs to: within a block equal numbers
    mean the same page; they never fall. The block itself is ``values[start:stop]``; what stands before
    and after is its halo, units of neighbouring blocks given as context only (shorter at a shard's ends).
    """

    index: int
    epoch: int
    values: Ids
    page: Ids
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Stream(Protocol):
    """What the loop and the learners see of a stream."""

    unit: str  # what the values are, in the plural: "tokens", "characters"
    blocks_per_epoch: int
    units_per_epoch: int

    def block(self, index: int) -> Block:
        """Block `index`, a pure function of the corpus, the seed and `index`."""

    def held_out(self) -> Iterator[Ids]:
        """The ids (int32 [n]) of each held-out page, in the order of the corpus."""
