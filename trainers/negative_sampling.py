"""Skip-gram with negative sampling in TensorFlow: many dense steps inside one compiled function.

The text is cut into tiles of consecutive centres. The input vectors of a tile's centres, [L, d], and the
output vectors of the words in reach, [L + 2 window, d], are gathered once; all their scores come out of one
batched matrix product, masked to the pairs that were drawn. The centres of a tile share K negatives, each of
weight ``pairs * negative / K``, so that their expected gradient is that of `negative` examples a pair.
Gradients are written out as matrix products (no autograd) and added to the rows that were touched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from trainers.embeddings import (
    Centres,
    Doubles,
    EmbeddingsSettings,
    Floats,
    Sampler,
    keep_probabilities,
    noise,
    segment_size,
    steps,
)

Tensor = Any

# The most that rate times pairs may be for one row in one step.
LIMIT = 2.0


class NegativeSampling:
    """The loss ``negative_sampling``: tables "input" and "output", float32 [V, d]."""

    def __init__(self, counts: np.ndarray, settings: EmbeddingsSettings) -> None:
        self.settings = settings
        self.size = len(counts)
        self.noise: Doubles = noise(counts, settings)
        self.negatives = settings.negative
        self.keep: Floats = keep_probabilities(counts, settings)
        self.segment = segment_size(settings)
        self._sampler = Sampler(self.noise)
        self._one_centre = float((settings.window + 1) * (1 + settings.negative))

    def initial(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Input vectors uniform in +-0.5 / d, output vectors zero, as in word2vec's program."""
        shape = (self.size, self.settings.vector_size)
        first = (random.random(shape, np.float32) - np.float32(0.5)) / np.float32(self.settings.vector_size)
        return {"input": first, "output": np.zeros(shape, np.float32)}

    def prepare(
        self, drawn: Centres, random: np.random.Generator
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """The arrays of a block's steps (first dimension: steps), and where in the block each step ends
        (0 to 1)."""
        cut = steps(drawn, self.settings, self.segment, self._sampler, random)
        count = len(cut.values)
        return (cut.values, cut.left, cut.right, cut.negatives), (np.arange(count) + 0.5) / max(count, 1)

    def bias(self, arrays: dict[str, np.ndarray]) -> Floats:
        """float32 [V]: what is added to the score of each context word."""
        return np.zeros(self.size, np.float32)

    def settle(self, variables: dict[str, tf.Variable]) -> None:
        """Nothing is owed to rows that were not touched."""

    def run(
        self,
        variables: dict[str, tf.Variable],
        count: Tensor,
        rates: Tensor,
        values: Tensor,
        left: Tensor,
        right: Tensor,
        negatives: Tensor,
    ) -> Tensor:
        """Does the first `count` of the steps; the summed loss of each, float64 [capacity]."""
        capacity = rates.shape[0]

        def step(at: Tensor, losses: Tensor, *masses: Tensor) -> tuple[Tensor, ...]:
            arrays = (rates[at], values[at], left[at], right[at], negatives[at])
            loss, masses = self._step(variables["input"], variables["output"], masses, *arrays)
            return at + 1, tf.tensor_scatter_nd_update(losses, [[at]], [loss]), *masses

        none = tf.zeros(self.size, tf.float32)
        start = (tf.constant(0), tf.zeros(capacity, tf.float64), none, none)
        return tf.while_loop(lambda at, *_: at < count, step, start, parallel_iterations=1)[1]

    def _step(
        self,
        table_in: tf.Variable,
        table_out: tf.Variable,
        masses: tuple[Tensor, ...],
        rate: Tensor,
        values: Tensor,
        left: Tensor,
        right: Tensor,
        negatives: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        own = self.settings
        d, window, tile, shared = own.vector_size, own.window, own.tile, own.negatives_per_tile
        lanes, segment = own.tokens_per_step // self.segment, self.segment
        a_lane, reach = segment // tile, tile + 2 * window
        centres = tf.reshape(values[:, window : window + segment], [-1])
        around, drawn = tf.reshape(values, [-1]), tf.reshape(negatives, [-1])
        x = tf.reshape(tf.gather(table_in, centres), [lanes * a_lane, tile, d])
        y = tf.reshape(tf.gather(table_out, around), [lanes, segment + 2 * window, d])
        y = tf.reshape(
            tf.stack([y[:, t * tile : t * tile + reach] for t in range(a_lane)], 1),
            [lanes * a_lane, reach, d],
        )
        z = tf.reshape(tf.gather(table_out, drawn), [lanes * a_lane, shared, d])

        left = tf.reshape(tf.cast(left, tf.int32), [lanes * a_lane, tile, 1])
        right = tf.reshape(tf.cast(right, tf.int32), [lanes * a_lane, tile, 1])
        offset = tf.constant(np.arange(reach)[None, :] - np.arange(tile)[:, None] - window, tf.int32)[None]
        near = tf.cast((offset >= -left) & (offset <= right) & (offset != 0), tf.float32)
        weight = tf.cast(left + right, tf.float32) * np.float32(own.negative / shared)

        score = tf.matmul(x, y, transpose_b=True)  # [tiles, L, L + 2 window]
        noise_score = tf.matmul(x, z, transpose_b=True)  # [tiles, L, K]
        error = near * tf.sigmoid(-score)
        noise_error = -weight * tf.sigmoid(noise_score)
        loss = tf.reduce_sum(near * tf.math.softplus(-score), [1, 2]) + tf.reduce_sum(
            weight * tf.math.softplus(noise_score), [1, 2]
        )
        # What is added to the rows: minus the gradient.
        dx = tf.matmul(error, y) + tf.matmul(noise_error, z)
        dy = tf.matmul(error, x, transpose_a=True)
        dz = tf.matmul(noise_error, x, transpose_a=True)
        dy = self._overlaid(dy)
        # How many pairs pull at each row, a negative counted by its weight.
        pulls_x = tf.reshape(left + right, [-1]) * (1 + own.negative)
        pulls_y = tf.reshape(self._overlaid(tf.reduce_sum(near, 1)), [-1])
        pulls_z = tf.repeat(tf.reduce_sum(weight, [1, 2]), shared)
        # One scatter that depends on all that was gathered: with two, XLA copies the table at every step.
        touched = tf.concat([around, drawn], 0)
        change = tf.concat([tf.reshape(dy, [-1, d]), tf.reshape(dz, [-1, d])], 0)
        pulls = tf.concat([pulls_y, pulls_z], 0)
        mass_in = self._add(
            table_in, masses[0], centres, rate, tf.reshape(dx, [-1, d]), tf.cast(pulls_x, tf.float32)
        )
        mass_out = self._add(table_out, masses[1], touched, rate, change, pulls)
        return tf.reduce_sum(tf.cast(loss, tf.float64)), (mass_in, mass_out)

    def _overlaid(self, change: Tensor) -> Tensor:
        """[tiles, L + 2 window, ...] to [lanes, segment + 2 window, ...]: the tiles of a lane overlap by
        two windows, where they are added up."""
        own = self.settings
        tile, a_lane = own.tile, self.segment // own.tile
        rest = change.shape[2:]
        change = tf.reshape(change, [-1, a_lane, tile + 2 * own.window, *rest])
        around = [[0, 0]] * len(rest)
        return tf.add_n(
            [
                tf.pad(change[:, t], [[0, 0], [t * tile, (a_lane - 1 - t) * tile], *around])
                for t in range(a_lane)
            ]
        )

    def _add(
        self, table: tf.Variable, mass: Tensor, rows: Tensor, rate: Tensor, change: Tensor, pulls: Tensor
    ) -> Tensor:
        """Adds `change` to the rows, less where many pairs pull at one row; `mass` [V] is zero and stays so.

        A row's summed gradient is that of its pairs at the row's old value, and overshoots where they are
        many: it is scaled by 1 / sqrt of their number, relative to what one centre has, and such that rate
        times number never passes LIMIT.
        """
        mass = tf.tensor_scatter_nd_add(mass, rows[:, None], pulls)
        total = tf.maximum(tf.gather(mass, rows), 1.0)
        scale = tf.minimum(1.0, tf.sqrt(self._one_centre / total))
        scale = tf.minimum(rate * scale, LIMIT / total)
        tf.raw_ops.ResourceScatterAdd(resource=table.handle, indices=rows, updates=scale[:, None] * change)
        # Zeros that depend on what was gathered, so that XLA sees the order and copies nothing.
        return tf.tensor_scatter_nd_update(mass, rows[:, None], total * 0.0)
