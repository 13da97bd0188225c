"""What sequences of several lengths leave undone: the steps of rows that have ended, frames that pad.

All is time-major, as in `trainers.recurrent`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from trainers.cells import Tensors

# Of all frames, in which those that are real are counted, and the fewest of them: each number is compiled.
PARTS, LEAST_PARTS = 16, 5


@dataclass(frozen=True)
class Rows:
    """How many rows of a batch a step can be done for: each of `sizes`, the last one being all.

    Letters (64 words of 3 to 14, a training step on one thread): see the lab log. Fewer rows gain nothing,
    for a product of few rows is no faster a row; those of a wide network do: 32 words by 300 units 26.0 ->
    22.5 ms (by 64, behind a convolution, 42 -> 56). The number of steps must be known too, as it is where XLA
    compiles: what is laid out by it are whole frames.
    """

    sizes: tuple[int, ...]

    # Rows, which the matrix library takes by fives where vectors have 512 bits (28 take as long as 30), and
    # sizes: each is compiled, eight take a second more than four.
    BLOCK, MOST = 5, 8
    LEAST = 48
    WIDE, LEAST_WIDE = 128, 32  # so many units, and rows for them

    @classmethod
    def of(cls, steps: int | None, batch: int | None, units: int) -> Rows | None:
        """Those of a batch whose shape is known and which has rows enough."""
        least = cls.LEAST_WIDE if units >= cls.WIDE else cls.LEAST
        if steps is None or batch is None or batch < least:
            return None
        count = min(-(-batch // cls.BLOCK), cls.MOST)
        even = (batch * part / count for part in range(1, count))
        return cls((*(cls.BLOCK * math.ceil(rows / cls.BLOCK) for rows in even), batch))

    def needed(self, lengths: tf.Tensor, steps: int | tf.Tensor) -> tf.Tensor:
        """Which of the sizes each step needs, int32 [steps]; `lengths` [batch] fall."""
        real = tf.reduce_sum(tf.cast(lengths[None, :] > tf.range(steps)[:, None], tf.int32), axis=1)
        larger = real[:, None] > tf.constant(self.sizes[:-1])[None, :]
        return tf.reduce_sum(tf.cast(larger, tf.int32), axis=1)

    def do(self, which: tf.Tensor, work: Callable[[int], Tensors]) -> Tensors:
        """`work` on the first so many rows; its results with zeros in the rows left out."""

        def branch(size: int) -> Callable[[], Tensors]:
            left = self.sizes[-1] - size
            return lambda: tuple(tf.pad(each, [[0, left], [0, 0]]) for each in work(size))

        return tuple(tf.switch_case(which, [branch(size) for size in self.sizes]))


def of_real_frames(
    values: Tensors, lengths: tf.Tensor, work: Callable[[Tensors], dict[str, tf.Tensor]]
) -> dict[str, tf.Tensor]:
    """`work` on the real frames of `values` [steps, batch, ...], put together: [frames, ...], as many
    sixteenths of all as they fill. What fills up the last one are frames beyond the lengths."""
    steps, batch = values[0].shape[:2]
    real = tf.reshape(tf.range(steps)[:, None] < lengths, [-1])
    places = tf.argsort(tf.cast(tf.logical_not(real), tf.int32), stable=True)
    count = tf.reduce_sum(tf.cast(real, tf.int32))
    sizes = sorted({-(-steps * batch * part // PARTS) for part in range(LEAST_PARTS, PARTS + 1)})
    flat = [tf.reshape(each, [-1, each.shape[-1]]) for each in values]
    names: list[str] = []

    def branch(size: int) -> Callable[[], list[tf.Tensor]]:
        def of_size() -> list[tf.Tensor]:
            made = work(tuple(tf.gather(each, places[:size]) for each in flat))
            names[:] = made
            return list(made.values())

        return of_size

    which = tf.reduce_sum(tf.cast(count > tf.constant(sizes[:-1]), tf.int32))
    made = tf.switch_case(which, [branch(size) for size in sizes])
    return dict(zip(names, made, strict=True))


def permuted(values: tf.Tensor, order: tf.Tensor, back: tf.Tensor) -> tf.Tensor:
    """The rows (axis 1) in another order, and their gradient in the order before: a gather, no scatter."""

    @tf.custom_gradient
    def moved(values: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.gather(values, order, axis=1), lambda changed: tf.gather(changed, back, axis=1)

    return moved(values) if values.dtype.is_floating else tf.gather(values, order, axis=1)
