"""Skip-gram with noise-contrastive estimation and momentum SGD in TensorFlow: the reference model.

A step is a batch of pairs that share candidates drawn log-uniformly (Zipf's law, so ids must be by
frequency), distinct within the batch. The loss is that of ``tf.nn.nce_loss`` with one true class: scores are
``x . w + b`` less the log of how often a class is expected among the candidates (Gutmann and Hyvarinen 2010;
Mnih and Kavukcuoglu 2013); the step goes along its mean over the batch.

Within a batch a centre comes once, however many pairs it has: its scores with the words around it are part of
a dense product of a tile of centres with the words that they reach, and its scores with the candidates count
as often as it has pairs. The reference preset so needs a fifth of the operations that pair by pair it would.

Momentum moves every row at every step, touched or not. That is put off: `seen` holds the step up to which a
row is current, and before a row is read it gets at once what n missed steps owe it, a geometric series. So a
step costs what it touches and the result is that of the dense form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.candidates import distinct_candidates, log_uniform, pair_batches, reached
from trainers.embeddings import Centres, Doubles, EmbeddingsSettings, Floats, keep_probabilities
from trainers.negative_sampling import weighed

Tensor = Any


class NoiseContrastive:
    """The loss ``nce``: tables "input", "output" float32 [V, d] and "bias" [V], each with a momentum slot
    "NAME_speed"; "seen_input" and "seen_output" int32 [V] and "step" int32, all zero once settled."""

    def __init__(self, counts: np.ndarray, settings: EmbeddingsSettings) -> None:
        self.settings = settings
        self.size = len(counts)
        self.noise: Doubles = log_uniform(self.size)
        # Distinct candidates need a vocabulary that has so many: tiny ones make do with half of it.
        self.candidates = min(settings.candidates, max(1, self.size // 2))
        self.negatives = self.candidates
        self.keep: Floats = keep_probabilities(counts, settings)

    def initial(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Input vectors uniform in +-1; output vectors normal with deviation 1 / sqrt(d), cut at two
        deviations; biases zero."""
        shape = (self.size, self.settings.vector_size)
        output = random.standard_normal(shape, np.float32)
        while (far := np.abs(output) > 2).any():
            output[far] = random.standard_normal(int(far.sum()), np.float32)
        tables = {
            "input": random.random(shape, np.float32) * 2 - 1,
            "output": output / np.float32(np.sqrt(self.settings.vector_size)),
            "bias": np.zeros(self.size, np.float32),
        }
        slots = {f"{name}_speed": np.zeros_like(table) for name, table in tables.items()}
        seen = {name: np.zeros(self.size, np.int32) for name in ("seen_input", "seen_output")}
        return {**tables, **slots, **seen, "step": np.zeros((), np.int32)}

    def prepare(
        self, drawn: Centres, random: np.random.Generator
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Batches as `candidates.PairBatches` has them (values, first, last, pairs), and per batch candidates
        int32 [steps, C] with the number of tries they took, int32 [steps]."""
        cut = pair_batches(drawn, self.settings.window, self.settings.batch_pairs)
        count = len(cut.values)
        chosen, tries = distinct_candidates(self.size, self.candidates, count, random)
        arrays = (cut.values, cut.first, cut.last, cut.pairs, chosen, tries)
        return arrays, (np.arange(count) + 0.5) / max(count, 1)

    def bias(self, arrays: Mapping[str, np.ndarray]) -> Floats:
        """float32 [V]: the bias less the log of how often a word is expected among the candidates."""
        return np.asarray(arrays["bias"] - np.log(self.candidates * self.noise), np.float32)

    def settle(self, variables: Mapping[str, tf.Variable]) -> None:
        """Brings all rows up to the last step and counts steps from 0 again."""
        for name, seen in (("input", "seen_input"), ("output", "seen_output"), ("bias", "seen_output")):
            table, speed = variables[name], variables[f"{name}_speed"]
            owed = tf.cast(variables["step"] - variables[seen], tf.float32)
            moved, slowed = self._caught_up(table, speed, owed)
            table.assign(moved)
            speed.assign(slowed)
        for name in ("seen_input", "seen_output", "step"):
            variables[name].assign(tf.zeros_like(variables[name]))

    def run(
        self,
        variables: Mapping[str, tf.Variable],
        count: Tensor,
        rates: Tensor,
        values: Tensor,
        first: Tensor,
        last: Tensor,
        pairs: Tensor,
        candidates: Tensor,
        tries: Tensor,
    ) -> Tensor:
        """Does the first `count` of the steps; the summed loss of each, float64 [capacity]."""

        def step(at: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
            batch = (each[at] for each in (rates, values, first, last, pairs, candidates, tries))
            loss = self._step(variables, *batch)
            return at + 1, tf.tensor_scatter_nd_update(losses, [[at]], [loss])

        start = (tf.constant(0), tf.zeros(rates.shape[0], tf.float64))
        return tf.while_loop(lambda at, losses: at < count, step, start, parallel_iterations=1)[1]

    def _step(
        self,
        variables: Mapping[str, tf.Variable],
        rate: Tensor,
        values: Tensor,
        first: Tensor,
        last: Tensor,
        pairs: Tensor,
        candidates: Tensor,
        tries: Tensor,
    ) -> Tensor:
        size, window = np.float32(self.settings.batch_pairs), self.settings.window
        tiles, tile = first.shape
        around = reached(window)
        centres = values[window : window + tiles * tile]
        words = tf.concat([values, candidates], 0)
        missed_x = self._missed(variables, "seen_input", centres)
        missed_w = self._missed(variables, "seen_output", words)
        x, x_speed = self._current(variables, "input", centres, missed_x)
        w, w_speed = self._current(variables, "output", words, missed_w)
        b, b_speed = self._current(variables, "bias", words, missed_w)

        others, noise_words = w[: values.shape[0]], w[values.shape[0] :]
        shift = b - self._log_expected(words, tries)
        in_tiles = tf.reshape(x, [tiles, tile, -1])
        # Pairs have a row for each word in reach and a column for each centre: [tiles, around * tile, tile].
        near_words = _spread(tf.reshape(others, [-1, tile, x.shape[1]]), tiles, around)
        near_shift = _spread(tf.reshape(shift[: values.shape[0]], [-1, tile, 1]), tiles, around)
        offset = np.arange(around * tile)[:, None] - np.arange(tile) - window
        offsets = tf.constant(offset[None], tf.int32)
        near = tf.constant(offset[None] != 0) & (offsets >= first[:, None]) & (offsets <= last[:, None])
        score = tf.matmul(near_words, in_tiles, transpose_b=True) + near_shift
        loss, pull = weighed(-score, tf.cast(near, tf.float32))
        # The candidates have a column each: [centres, C].
        noise_score = tf.matmul(x, noise_words, transpose_b=True) + shift[values.shape[0] :]
        noise_loss, push = weighed(noise_score, tf.reshape(pairs, [-1, 1]))

        pull, push = -pull / size, push / size
        dx = tf.reshape(tf.matmul(pull, near_words, transpose_a=True), x.shape) + tf.matmul(push, noise_words)
        near_dw, near_db = (
            _gathered(tf.matmul(pull, in_tiles), around),
            _gathered(tf.reduce_sum(pull, 2, keepdims=True), around),
        )
        dw = tf.concat([near_dw, tf.matmul(push, x, transpose_a=True)], 0)
        db = tf.concat([near_db[:, 0], tf.reduce_sum(push, 0)], 0)
        self._move(variables, "input", centres, x, x_speed, rate * dx)
        self._move(variables, "output", words, w, w_speed, rate * dw)
        self._move(variables, "bias", words, b, b_speed, rate * db)
        now = variables["step"].assign_add(1)
        for seen, rows in (("seen_input", centres), ("seen_output", words)):
            _set(variables[seen], rows, tf.fill(tf.shape(rows), now))
        return loss + noise_loss

    def _log_expected(self, words: Tensor, tries: Tensor) -> Tensor:
        """log of 1 - (1 - P) ** tries, as TensorFlow's sampler has it for distinct samples."""
        ranks = tf.cast(words, tf.float32)
        chance = tf.math.log1p(1.0 / (ranks + 1.0)) / np.float32(np.log(self.size + 1))
        return tf.math.log(-tf.math.expm1(tf.cast(tries, tf.float32) * tf.math.log1p(-chance)))

    def _caught_up(self, table: Tensor, speed: Tensor, owed: Tensor) -> tuple[Tensor, Tensor]:
        """`table` and `speed` after `owed` steps in which their rows had no gradient."""
        momentum = self.settings.momentum
        decay = tf.pow(tf.constant(momentum, tf.float32), owed)
        # A speed holds minus the learning rate times the gradients, so each step adds it to the table.
        series = (1.0 - decay) * np.float32(momentum / (1.0 - momentum))
        shape = [-1] + [1] * (len(table.shape) - 1)
        return table + speed * tf.reshape(series, shape), speed * tf.reshape(decay, shape)

    def _missed(self, variables: Mapping[str, tf.Variable], seen: str, rows: Tensor) -> Tensor:
        return tf.cast(variables["step"] - tf.gather(variables[seen], rows), tf.float32)

    def _current(
        self, variables: Mapping[str, tf.Variable], name: str, rows: Tensor, missed: Tensor
    ) -> tuple[Tensor, Tensor]:
        table, speed = variables[name], variables[f"{name}_speed"]
        return self._caught_up(tf.gather(table, rows), tf.gather(speed, rows), missed)

    def _move(
        self,
        variables: Mapping[str, tf.Variable],
        name: str,
        rows: Tensor,
        current: Tensor,
        slowed: Tensor,
        change: Tensor,
    ) -> None:
        """Rows that come more than once were given the same `current` and `slowed`; their changes add up."""
        table, speed = variables[name], variables[f"{name}_speed"]
        _set(speed, rows, np.float32(self.settings.momentum) * slowed)
        tf.raw_ops.ResourceScatterAdd(resource=speed.handle, indices=rows, updates=-change)
        _set(table, rows, current + tf.gather(speed, rows))


def _set(variable: tf.Variable, rows: Tensor, values: Tensor) -> None:
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=values)


def _spread(rows: Tensor, tiles: int, around: int) -> Tensor:
    """[tiles + around - 1, tile, n] to [tiles, around * tile, n]: to each tile those that it reaches."""
    return tf.concat([rows[at : at + tiles] for at in range(around)], 1)


def _gathered(spread: Tensor, around: int) -> Tensor:
    """What `_spread` laid out, summed up again: [tiles, around * tile, n] to [rows, n]."""
    parts = tf.split(spread, around, 1)
    padded = [tf.pad(part, [[at, around - 1 - at], [0, 0], [0, 0]]) for at, part in enumerate(parts)]
    return tf.reshape(tf.add_n(padded), [-1, spread.shape[2]])
