"""Skip-gram with negative sampling in TensorFlow: many dense steps inside one compiled function.

The text is cut into tiles of L consecutive centres, which share K negatives. The input vectors of a tile's
centres, [L, d], and the output vectors of the words in reach and of the negatives, [L + 2 window + K, d], are
gathered once; all their scores come out of one batched matrix product, weighted for a pair by the chance that
a drawn radius reaches it (the score is there anyway: a pair costs no more than none), for a negative by
``pairs * negative / K``, so that the expected gradient is that of `negative` examples a pair. Gradients are
two more such products (no autograd), added to the rows that were touched.

Scores have the others first and the centres last: the three products together are then faster than the other
way round. XLA vectorises what it does number by number by the last axis, for which L is too short, so LINE
others stand in one row for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from trainers.embeddings import (
    LINE,
    Centres,
    Doubles,
    EmbeddingsSettings,
    Floats,
    Sampler,
    chances,
    expected,
    keep_probabilities,
    noise,
    steps,
)

Tensor = Any

# The most that rate times pairs may be for one row in one step.
LIMIT = 2.0
FAR = 1e9  # from a centre, in words: further than any window reaches
# Input vectors begin with numbers of at most so much over sqrt(d), and so with a length of .29 whatever d is.
SPREAD = 0.5


class NegativeSampling:
    """The loss ``negative_sampling``: tables "input" and "output", float32 [V, d]."""

    whole_windows = True

    def __init__(self, counts: np.ndarray, settings: EmbeddingsSettings) -> None:
        self.settings = settings
        self.size = len(counts)
        self.noise: Doubles = noise(counts, settings)
        self.negatives = settings.negative
        self.keep: Floats = keep_probabilities(counts, settings)
        self._sampler = Sampler(self.noise)
        self._one_centre = float((settings.window + 1) * (1 + settings.negative))

    def initial(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Input vectors uniform in +-SPREAD / sqrt(d), output vectors zero."""
        shape = (self.size, self.settings.vector_size)
        first = random.random(shape, np.float32)
        first -= np.float32(0.5)  # in place: a table may fill most of the memory
        first *= np.float32(2 * SPREAD / self.settings.vector_size**0.5)
        return {"input": first, "output": np.zeros(shape, np.float32)}

    def prepare(
        self, drawn: Centres, random: np.random.Generator
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """The arrays of a block's steps (first dimension: steps), and where in the block each step ends
        (0 to 1)."""
        cut = steps(drawn, self.settings, self._sampler, random)
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
        # A centre's reach is the same for all others of a line; repeated within the loop it would be slow.
        left, right = tf.tile(left, [1, 1, LINE]), tf.tile(right, [1, 1, LINE])

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
        d, window, tile = own.vector_size, own.window, own.tile
        tiles, reach = own.tokens_per_step // tile, tile + 2 * window
        centres = tf.reshape(values[:, window : window + tile], [-1])
        others = tf.reshape(tf.concat([values, negatives], 1), [-1])
        x = tf.reshape(tf.gather(table_in, centres), [tiles, tile, d])
        y = tf.reshape(tf.gather(table_out, others), [tiles, -1, d])

        # All that has a row for each other word and a column for each centre: [reach + K, tile].
        row = np.arange(reach + negatives.shape[1])[:, None]
        offset = row - np.arange(tile) - window
        drawn = row < reach
        contexts = drawn & (offset != 0)
        within = np.concatenate([[0.0], chances(window)])  # 0 is the centre itself
        near = within[np.minimum(np.abs(offset), window)]
        share = np.where(drawn, 0.0, own.negative / negatives.shape[1])
        offsets, chance, share = (
            tf.constant(np.broadcast_to(each, offset.shape).reshape(-1, LINE * tile), tf.float32)
            for each in (np.where(contexts, offset, FAR), np.where(contexts, near, 0.0), share)
        )
        left, right = (tf.cast(each, tf.float32)[:, None, :] for each in (left, right))
        pairs = expected(left, window) + expected(right, window)
        paired = tf.where((offsets >= -left) & (offsets <= right), chance, 0.0)
        weight = paired + share * pairs

        score = tf.reshape(tf.matmul(y, x, transpose_b=True), [tiles, -1, LINE * tile])
        # A pair costs softplus(-score) = softplus(score) - score, a negative softplus(score). Softplus,
        # log(1 + exp(score)), and its slope come out of one exponential; beyond 20 they are the score and 1.
        grown = tf.exp(tf.clip_by_value(score, -20.0, 20.0))
        softplus = tf.math.log(1.0 + grown) + tf.nn.relu(score - 20.0)
        loss = tf.reduce_sum(weight * softplus - paired * score, 2)
        # What is added to the rows: minus the gradient. The centres pull as often as they are paired, the
        # others as often as their weights say.
        error = tf.reshape(paired - weight * (grown / (1.0 + grown)), [tiles, -1, tile])
        # A product with the identity transposes in a third of the time that XLA's own transposing takes here.
        identity = tf.constant(np.broadcast_to(np.eye(tile, dtype=np.float32), (tiles, tile, tile)))
        turned = tf.matmul(identity, error, transpose_b=True)
        dx = tf.reshape(tf.matmul(turned, y), [-1, d])
        dy = tf.reshape(tf.matmul(error, x), [-1, d])
        pulls_x = tf.reshape(pairs[:, 0, :tile], [-1]) * np.float32(1 + own.negative)
        pulls_y = tf.reshape(tf.reduce_sum(tf.reshape(weight, [tiles, -1, tile]), 2), [-1])
        mass_in = self._add(table_in, masses[0], centres, rate, dx, pulls_x)
        mass_out = self._add(table_out, masses[1], others, rate, dy, pulls_y)
        return tf.reduce_sum(tf.cast(loss, tf.float64)), (mass_in, mass_out)

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
