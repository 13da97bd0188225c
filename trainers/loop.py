"""The one training loop. It knows no model, no TensorFlow and no Ray.

The position of a training is one integer: the number of blocks done. An *interval* is
`blocks_per_exchange` blocks, or what is left of the epoch; each worker does a contiguous share of it, then
all exchange. Between intervals all workers hold the same state, so a checkpoint there is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from cluster.folder import FileRecord, Folder
from trainers.group import Group
from trainers.stream import Block, Stream

State = Any  # opaque to the loop: whatever the learner trains (weights, optimiser slots)
Arrays = dict[str, np.ndarray]
History = list[dict[str, Any]]


class Learner(Protocol):
    """A model that the loop can train.

    All randomness is a pure function of the seed and ``block.index``; all schedules are functions of
    ``block.index / total_blocks``. So the position alone decides what comes next. A state that was handed
    to `run`, `exchange` or `load` may be changed in place: only what is returned is used afterwards.
    """

    stream: Stream
    blocks_per_exchange: int  # independent of the number of workers; an interval should take seconds

    def initial(self) -> State:
        """The state before the first block; the same on every worker."""

    def run(
        self, state: State, blocks: Iterable[Block], total_blocks: int
    ) -> tuple[State, Mapping[str, float]]:
        """Trains on all of `blocks` (at least one), in order. `total_blocks` are those of all epochs.

        Metrics are sums and weights, always the same keys: ``loss_sum`` and ``loss_weight`` (the loss shown
        is their quotient), likewise ``NAME_sum`` / ``NAME_weight`` for other means; any other key is a
        count that is added up.
        """

    def exchange(self, state: State, group: Group, weight: float) -> State:
        """Makes all workers' states one; called after every interval, by a group of one too.

        `weight` is this worker's share of the interval's blocks; the weights of all workers sum to 1, and a
        worker without a block has 0.
        """

    def evaluate(self, state: State) -> Mapping[str, float]:
        """Figures on held-out pages, with ``held_out_loss`` (nats a unit, lower is better). Leaves the
        state as it is. Every worker evaluates, worker 0's figures count."""

    def save(self, state: State) -> Arrays:
        """All that goes into a checkpoint, as arrays without objects; names may hold ``/``."""

    def load(self, arrays: Arrays) -> State:
        """The state that `save` was given, bit for bit."""

    def publish(
        self, state: State, folder: Folder, history: History
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        """Writes the served model into `folder` (no pickle): the artefact's counts and files.

        ``history.json`` is written by the loop's side for every model.
        """


@dataclass(frozen=True)
class LoopSettings:
    """How long to train, and what is kept.

    `epochs`: passes over the stream. `patience`: epochs without a better held-out loss after which
    training stops (0: never). `publish`: which weights become the model, ``"best"`` (lowest held-out loss)
    or ``"latest"``. `checkpoint_seconds`: the time between two checkpoints within an epoch; it changes
    nothing that is computed.
    """

    epochs: int = 1
    patience: int = 0
    publish: str = "latest"
    checkpoint_seconds: float = 30.0
