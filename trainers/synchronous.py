"""Synchronous data parallelism: every worker takes some rows of each batch, and their gradients are added up.

So any number of workers learns what one learns, but for the last bits: sums are added in another order. What
it costs is a sum of all gradients a step; workers that average their parameters now and then save that, but
learn as much less as each of them takes fewer steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.group import Group, LocalGroup, PeerError, PeerFailedError
from trainers.state import State


class Synchronous(ABC):
    """What such learners share (see `trainers.loop.Learner`)."""

    synchronous = True
    _group: Group = LocalGroup()

    @property
    def group(self) -> Group:
        return self._group

    @group.setter
    def group(self, group: Group) -> None:
        before, self._group = self._group, group
        if (before.rank, before.size) != (group.rank, group.size):
            self.make_graphs()

    @abstractmethod
    def make_graphs(self) -> None:
        """Makes the graphs of a worker, by its place in the group."""

    @abstractmethod
    def _updated(self, parameters: State, slots: State, of_parts: list[State], rate: tf.Tensor) -> Any:
        """Parameters and slots after a step by the sum of the gradients `of_parts`, and what it tells."""

    def _updated_by(self, parameters: State, slots: State, flat: tf.Tensor, rate: tf.Tensor) -> Any:
        """`_updated` by the gradients of all workers in one vector."""
        return self._updated(parameters, slots, [shaped(flat, parameters)], rate)

    def exchange(self, state: State, group: Group, weight: float) -> State:
        """Worker 0's state. All have the same; machines that round differently do not part."""
        if group.size == 1:
            return state
        (told,) = group.broadcast([flattened(state).numpy()])
        return {**state, **shaped(tf.constant(told), state)}


class Lockstep:
    """`count` sums over the numbers of `parameters` that all workers make one after another.

    A worker that fails within the block tells the others by its next sum, which do not wait for it then but
    raise PeerFailedError.
    """

    def __init__(self, group: Group, count: int, parameters: State) -> None:
        self._group, self._left = group, count
        size = sum(value.shape.num_elements() for value in parameters.values())
        self._given = np.zeros(size + 1, np.float32)  # the last number says that a worker failed

    def __enter__(self) -> Lockstep:
        return self

    def sum(self, numbers: tf.Tensor | None) -> tf.Tensor:
        """The sum over all workers; None brings nothing to it."""
        self._given[:-1] = 0.0 if numbers is None else numbers.numpy()
        return tf.constant(self._sum())

    def _sum(self) -> np.ndarray:
        self._left -= 1
        total = np.asarray(self._group.sum([self._given])[0])
        if total[-1]:
            raise PeerFailedError("another worker failed")
        return total[:-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, PeerError) and self._left:
            self._given[:] = 0.0
            self._given[-1] = 1.0
            with suppress(PeerFailedError):
                self._sum()


def flattened(arrays: State) -> tf.Tensor:
    """All of them in one vector, in the order of their names."""
    return tf.concat([tf.reshape(arrays[name], [-1]) for name in sorted(arrays)], axis=0)


def shaped(flat: tf.Tensor, like: State) -> State:
    """The arrays of a vector that `flattened` made of such."""
    names = sorted(like)
    pieces = tf.split(flat, [like[name].shape.num_elements() for name in names])
    return {name: tf.reshape(piece, like[name].shape) for name, piece in zip(names, pieces, strict=True)}
