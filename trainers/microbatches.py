"""Microbatches: parts of a batch whose gradients are computed side by side, a thread for each, and added.

A recurrent step is a chain of small products, of which two threads make poor use: they meet after each. Parts
of the batch do not wait for one another. TensorFlow runs compiled functions that need nothing of each other
at the same time; what is within one compiled function XLA runs in turn (the same halves there gained little).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from trainers import cudnn
from trainers.graphs import by_shape
from trainers.group import Group
from trainers.recurrent import Recurrent

LEAST_ROWS = 5  # of a part
# More are cut on one thread too: two layers of 200 units take 5 % less time for twice 50 rows, whose states
# stay nearer, than for 100.
MOST_ROWS = 64
# Where XLA does not compile: twice the operations cost more than a second thread does. Reviews, two threads:
# with 300 units 111 ms a step in place of 145, with 64 109 in place of 87.
LEAST_UNITS = 128


class Microbatches:
    """How batches of `rows` rows are cut for `network`. One of the `workers` takes the rows `own` of them, in
    `count` parts: one where TensorFlow was not told of its threads (`tf.config.threading`) or has a GPU, for
    whole batches fill it better; the GPU's library reads the network where it can, and nothing is compiled.

    A batch in one part is as if this were not here. In several, sums are added up in another order, and what
    is drawn at random is drawn for each part: results repeat for the same parts, be they those of two threads
    or of two workers of one thread each.
    """

    def __init__(self, rows: int, network: Recurrent, xla: bool, workers: Group | None = None) -> None:
        threads = tf.config.threading.get_inter_op_parallelism_threads()
        small = not xla and network.units < LEAST_UNITS
        whole = not threads or small or bool(tf.config.list_physical_devices("GPU"))
        rank, size = (workers.rank, workers.size) if workers else (0, 1)
        self.own = slice(rank * rows // size, (rank + 1) * rows // size)
        taken = self.own.stop - self.own.start
        self.count = 1 if whole else max(1, min(threads, taken // LEAST_ROWS), -(-taken // MOST_ROWS))
        self._alone = size == 1
        self.in_library = network.in_library
        self.xla = xla and not self.in_library
        self._few_shapes = xla  # a graph for each, else one for all

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A graph of `function`, which calls parts; compiled where all is one."""
        return self._called(self._graph(function, self.xla and self.count == 1))

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A graph of `function`, which reads a whole batch."""
        return self._called(self._graph(function, self.xla))

    def _called(self, graph: Callable[..., Any]) -> Callable[..., Any]:
        return by_shape(graph) if self._few_shapes else graph

    def _graph(self, function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
        @functools.wraps(function)
        def by_library(*batch: tf.Tensor) -> Any:
            with cudnn.allowed():
                return function(*batch)

        found: Callable[..., Any] = tf.function(
            by_library if self.in_library else function,
            jit_compile=compiled,
            autograph=False,
            reduce_retracing=not self._few_shapes,
        )
        return found

    def part(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function to call within a step, compiled by itself where there are several parts."""
        if self.count == 1 or not self.xla:
            return function
        return self._graph(function, True)

    def cut(self, batch: Sequence[tf.Tensor], axes: Sequence[int]) -> list[tuple[tf.Tensor, ...]]:
        """The parts of the worker's rows; those of each tensor lie along the axis of that place."""
        if self.count == 1:
            return [tuple(batch)]
        found = []
        for number in range(self.count):
            part = []
            for each, axis in zip(batch, axes, strict=True):
                rows = tf.shape(each)[axis] if each.shape[axis] is None else each.shape[axis]
                rows = slice(number * rows // self.count, (number + 1) * rows // self.count)
                part.append(each[(*[slice(None)] * axis, rows)])
            found.append(tuple(part))
        return found

    def keys(self, key: tf.Tensor) -> list[tf.Tensor]:
        """Each part's own key (int32 [2]) for what it draws, by its first row within the whole batch."""
        if self._alone and self.count == 1:
            return [key]
        taken = self.own.stop - self.own.start
        first = [self.own.start + number * taken // self.count for number in range(self.count)]
        return [tf.random.fold_in(key, row) for row in first]


def added(parts: Sequence[Any]) -> Any:
    """The sums, tensor by tensor, of the parts' results of one structure."""
    if len(parts) == 1:
        return parts[0]
    return tf.nest.map_structure(lambda *each: tf.add_n(each), *parts)
