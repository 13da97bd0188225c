"""Skip-gram with noise-contrastive estimation and momentum SGD in TensorFlow: the reference model.

A step is a batch of pairs that share candidates drawn log-uniformly (Zipf's law, so ids must be by
frequency), distinct within the batch. The loss is that of ``tf.nn.nce_loss`` with one true class: scores are
``x . w + b`` less the log of how often a class is expected among the candidates (Gutmann and Hyvarinen 2010;
Mnih and Kavukcuoglu 2013); the step goes along its mean over the batch.

Within a batch each word comes once as a centre and once as another: its distinct centres are scored with its
candidates and contexts in one dense product, and a score counts as often as pairs have it, as a true one, as
one with a candidate, or as both. The reference preset so needs a tenth of the operations that it would need
pair by pair, and no row is changed twice in a step.

Momentum moves every row at every step, touched or not. That is put off: `seen` holds the step up to which a
row is current, and before a row is read it gets at once what n missed steps owe it, a geometric series. So a
step costs what it touches and the result is that of the dense form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.candidates import distinct_candidates, log_uniform
from trainers.embeddings import Centres, Doubles, EmbeddingsSettings, Floats, keep_probabilities
from trainers.pair_batches import pair_batches

Tensor = Any

# The products are compiled for so many sizes, each ROWS centres and ROWS words smaller than the one before:
# batches differ, and to do all at the size of the largest costs a fifth of the time.
SIZES, ROWS = 5, 8


class NoiseContrastive:
    """The loss ``nce``: tables "input", "output" float32 [V, d] and "bias" [V], each with a momentum slot
    "NAME_speed"; "seen_input" and "seen_output" int32 [V] and "step" int32, all zero once settled."""

    whole_windows = False

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
        """Of each batch the distinct centres int32 [steps, n], the candidates and contexts int32 [steps, m],
        the places of its pairs int32 [steps, batch_pairs] (all three as in `pair_batches.PairBatches`), how
        many times ROWS smaller than n and m its products may be, and how many tries its candidates took,
        int32 [steps] each; and how far in the block each batch is (0 to 1)."""
        size = self.settings.batch_pairs
        count = -(-drawn.pairs // size)
        chosen, tries = distinct_candidates(self.size, self.candidates, count, random)
        cut = pair_batches(drawn, size, chosen, self.size)
        room = (np.array([cut.centres.shape[1], cut.words.shape[1]]) - cut.filled).min(1) // ROWS
        smaller = np.minimum(room, SIZES - 1).astype(np.int32)
        arrays = (cut.centres, cut.words, cut.places, smaller, tries)
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
        centres: Tensor,
        words: Tensor,
        places: Tensor,
        smaller: Tensor,
        tries: Tensor,
    ) -> Tensor:
        """Does the first `count` of the steps; the summed loss of each, float64 [capacity]."""

        def step(at: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
            batch = (each[at] for each in (rates, centres, words, places, smaller, tries))
            loss = self._step(variables, *batch)
            return at + 1, tf.tensor_scatter_nd_update(losses, [[at]], [loss])

        start = (tf.constant(0), tf.zeros(rates.shape[0], tf.float64))
        return tf.while_loop(lambda at, losses: at < count, step, start, parallel_iterations=1)[1]

    def _step(
        self,
        variables: Mapping[str, tf.Variable],
        rate: Tensor,
        centres: Tensor,
        words: Tensor,
        places: Tensor,
        smaller: Tensor,
        tries: Tensor,
    ) -> Tensor:
        n, m = centres.shape[0], words.shape[0]
        missed_x = self._missed(variables, "seen_input", centres)
        missed_w = self._missed(variables, "seen_output", words)
        x, x_speed = self._current(variables, "input", centres, missed_x)
        w, w_speed = self._current(variables, "output", words, missed_w)
        b, b_speed = self._current(variables, "bias", words, missed_w)
        shift = b - self._log_expected(words, tries)
        # How many pairs have each word and each centre; the last place is for those that there are not.
        paired = tf.tensor_scatter_nd_add(
            tf.zeros(m * n + 1), places[:, None], tf.ones(places.shape, tf.float32)
        )
        paired = tf.reshape(paired[:-1], [m, n])

        def sized(rows: int, columns: int) -> tuple[Tensor, ...]:
            loss, dx, dw, db = self._gradients(x[:columns], w[:rows], shift[:rows], paired[:rows, :columns])
            return (
                loss,
                tf.pad(dx, [[0, n - columns], [0, 0]]),
                tf.pad(dw, [[0, m - rows], [0, 0]]),
                tf.pad(db, [[0, m - rows]]),
            )

        smallest = min(SIZES - 1, (n - 1) // ROWS, (m - 1) // ROWS)
        sizes = [(m - ROWS * each, n - ROWS * each) for each in range(smallest + 1)]
        loss, dx, dw, db = tf.switch_case(
            smaller, [lambda rows=rows, columns=columns: sized(rows, columns) for rows, columns in sizes]
        )
        self._move(variables, "input", centres, x, x_speed, rate * dx)
        self._move(variables, "output", words, w, w_speed, rate * dw)
        self._move(variables, "bias", words, b, b_speed, rate * db)
        now = variables["step"].assign_add(1)
        for seen, rows in (("seen_input", centres), ("seen_output", words)):
            _set(variables[seen], rows, tf.fill(tf.shape(rows), now))
        return loss

    def _gradients(self, x: Tensor, w: Tensor, shift: Tensor, paired: Tensor) -> tuple[Tensor, ...]:
        """The summed loss, float64, and the gradients of its mean by `x` [n, d], `w` [m, d] and `shift` [m].
        The first of the words are the candidates."""
        noise = (np.arange(w.shape[0]) < self.candidates).astype(np.float32)[:, None]
        score = tf.matmul(w, x, transpose_b=True) + shift[:, None]
        # A true score costs softplus(-score) = softplus(score) - score, one with a candidate softplus(score).
        both = paired + noise * tf.reduce_sum(paired, 0, keepdims=True)
        # All out of one exponential; beyond 20 softplus and its slope are the score and 1.
        grown = tf.exp(tf.clip_by_value(score, -20.0, 20.0))
        softplus = tf.math.log(1.0 + grown) + tf.nn.relu(score - 20.0)
        loss = tf.reduce_sum(both * softplus - paired * score, 0)
        slope = (both * (grown / (1.0 + grown)) - paired) / np.float32(self.settings.batch_pairs)
        return (
            tf.reduce_sum(tf.cast(loss, tf.float64)),
            tf.matmul(slope, w, transpose_a=True),
            tf.matmul(slope, x),
            tf.reduce_sum(slope, 1),
        )

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
        table, speed = variables[name], variables[f"{name}_speed"]
        faster = np.float32(self.settings.momentum) * slowed - change
        _set(speed, rows, faster)
        _set(table, rows, current + faster)


def _set(variable: tf.Variable, rows: Tensor, values: Tensor) -> None:
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=values)
