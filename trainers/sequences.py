"""Labelled sequences in memory, and the stream of their batches. Pure numpy.

What `ingest` must hand over is a `Sequences`: frames of all sequences one after another, where each begins,
labels, and which are held out. Lengths are the offsets' differences and travel with every batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import WordloomError
from trainers.stream import Block, Ids, shuffled

LEAST = 4  # padded lengths are multiples of it
BUCKETS = 8  # padded lengths for each doubling: at most 12 % of padding comes from them


@dataclass(frozen=True)
class Sequences:
    """`frames`: int32 [n] token ids or [n, width] vectors, of all sequences. `offsets`: int64
    [sequences + 1]. `labels`: int32, one a frame [n] or one a sequence [sequences]. `held_out`: bool
    [sequences].
    """

    frames: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    held_out: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        lengths = self.lengths
        if len(lengths) and (lengths.min() < 1 or self.offsets[0] or self.offsets[-1] != len(self.frames)):
            raise WordloomError(
                f"The offsets of {len(lengths)} sequences do not divide {len(self.frames)} frames into "
                "sequences of at least one frame; ingest the data again."
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def padded(
        self, numbers: Ids, rows: int, per_frame: bool, few: bool = True
    ) -> tuple[npt.NDArray[Any], ...]:
        """The sequences `numbers` as one batch of `rows` rows, time-major; of `few` shapes in all, or of as
        many steps as the longest has.

        frames [steps, rows, ...], labels int32 ([steps, rows] per frame, else [rows]), lengths int32 [rows];
        a row without a sequence has length 0.
        """
        lengths = np.zeros(rows, np.int32)
        lengths[: len(numbers)] = self.lengths[numbers]
        steps = padded_length(int(lengths.max())) if few else int(lengths.max())
        real = np.arange(steps)[:, None] < lengths
        places = np.where(real, np.pad(self.offsets[numbers], (0, rows - len(numbers))), 0)
        places = places + np.where(real, np.arange(steps)[:, None], 0)
        shape = real.reshape(*real.shape, *(1 for _ in self.frames.shape[1:]))
        frames = self.frames[places] * shape.astype(self.frames.dtype)
        if per_frame:
            labels = np.where(real, self.labels[places], 0)
        else:
            labels = np.pad(self.labels[numbers], (0, rows - len(numbers)))
        return frames, labels.astype(np.int32), lengths


def padded_length(longest: int) -> int:
    """The number of steps of a batch: a new number is a new graph to compile, a larger one is padding."""
    step = max(LEAST, (1 << max(longest - 1, 0).bit_length()) // (2 * BUCKETS))
    return max(step, -(-longest // step) * step)


class SequenceStream:
    """Batches of sequences (see `trainers.stream.Stream`): a block's values are numbers of sequences, its
    `page` says which of the block's batches each belongs to.

    A pass takes every training sequence once, in an order that (seed, pass) decides. `pool` batches at a time
    are sorted by length, so that a batch holds little padding (94 % real frames on film reviews with 50), and
    the batches of a pass are shuffled after that. `epoch_batches` sets the batches of an epoch (0: a pass).
    """

    unit = "sequences"

    def __init__(
        self,
        sequences: Sequences,
        batch: int,
        block_batches: int,
        seed: int,
        pool: int = 1,
        epoch_batches: int = 0,
    ) -> None:
        self.sequences = sequences
        self.batch, self.block_batches, self.seed, self.pool = batch, block_batches, seed, pool
        self.training = np.flatnonzero(~sequences.held_out).astype(np.int32)
        if not len(self.training):
            raise WordloomError(
                f"None of the {len(sequences)} sequences is left to train on; hold out fewer or give more."
            )
        self.pass_batches = -(-len(self.training) // batch)
        self.epoch_batches = epoch_batches or self.pass_batches
        self.blocks_per_epoch = -(-self.epoch_batches // block_batches)
        self.units_per_epoch = round(len(self.training) * self.epoch_batches / self.pass_batches)
        self._pass: tuple[int, list[Ids]] | None = None

    def block(self, index: int) -> Block:
        epoch, at = divmod(index, self.blocks_per_epoch)
        first = epoch * self.epoch_batches + at * self.block_batches
        last = min(first + self.block_batches, (epoch + 1) * self.epoch_batches)
        batches = [self._batch(number) for number in range(first, last)]
        values = np.concatenate(batches)
        page = np.repeat(np.arange(len(batches), dtype=np.int32), [len(each) for each in batches])
        return Block(index, epoch, values, page, 0, len(values))

    def held_out(self) -> Iterator[Ids]:
        """The held-out sequences in batches of similar length, at most `batch` numbers each."""
        held = np.flatnonzero(self.sequences.held_out).astype(np.int32)
        held = held[np.argsort(self.sequences.lengths[held], kind="stable")]
        for first in range(0, len(held), self.batch):
            yield held[first : first + self.batch]

    def _batch(self, number: int) -> Ids:
        turn, at = divmod(number, self.pass_batches)
        if self._pass is None or self._pass[0] != turn:
            order = self.training[shuffled(len(self.training), self.seed, turn, 0)]
            size = self.batch * self.pool
            pools = [order[first : first + size] for first in range(0, len(order), size)]
            if self.pool > 1:
                lengths = self.sequences.lengths
                pools = [each[np.argsort(lengths[each], kind="stable")] for each in pools]
            flat = np.concatenate(pools)
            batches = [flat[first : first + self.batch] for first in range(0, len(flat), self.batch)]
            mixed = shuffled(len(batches), self.seed, turn, 1)
            self._pass = (turn, [batches[place] for place in mixed])
        return self._pass[1][at]
