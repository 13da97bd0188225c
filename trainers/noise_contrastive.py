"""Skip-gram with noise-contrastive estimation and momentum SGD in TensorFlow: the reference model.

A step is a batch of pairs that share candidates drawn log-uniformly (Zipf's law, so ids must be by
frequency), distinct within the batch. The loss is that of ``tf.nn.nce_loss`` with one true class: scores are
``x . w + b`` less the log of how often a class is expected among the candidates (Gutmann and Hyvarinen 2010;
Mnih and Kavukcuoglu 2013); the step goes along its mean over the batch.

Momentum moves every row at every step, touched or not. That is put off: `seen` holds the step up to which a
row is current, and before a row is read it gets at once what n missed steps owe it, a geometric series. So a
step costs what it touches and the result is that of the dense form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.embeddings import (
    Centres,
    Doubles,
    EmbeddingsSettings,
    Floats,
    distinct_candidates,
    keep_probabilities,
    log_uniform,
    pairs,
)

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
        """Batches of pairs: centres and contexts int32 [steps, batch], the number of pairs [steps], and per
        batch candidates int32 [steps, C] with the number of tries it took, int32 [steps]."""
        size = self.settings.batch_pairs
        centres, contexts = pairs(drawn)
        count = -(-len(centres) // size)
        padding = (0, count * size - len(centres))
        lengths = np.minimum(size, len(centres) - np.arange(count) * size).astype(np.int32)
        chosen = [distinct_candidates(self.size, self.candidates, random) for _ in range(count)]
        candidates = np.array([each[0] for each in chosen], np.int32).reshape(count, self.candidates)
        arrays = (
            np.pad(centres, padding).reshape(count, size),
            np.pad(contexts, padding).reshape(count, size),
            lengths,
            candidates,
            np.array([each[1] for each in chosen], np.int32),
        )
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
        contexts: Tensor,
        lengths: Tensor,
        candidates: Tensor,
        tries: Tensor,
    ) -> Tensor:
        """Does the first `count` of the steps; the summed loss of each, float64 [capacity]."""

        def step(at: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
            loss = self._step(
                variables, rates[at], centres[at], contexts[at], lengths[at], candidates[at], tries[at]
            )
            return at + 1, tf.tensor_scatter_nd_update(losses, [[at]], [loss])

        start = (tf.constant(0), tf.zeros(rates.shape[0], tf.float64))
        return tf.while_loop(lambda at, losses: at < count, step, start, parallel_iterations=1)[1]

    def _step(
        self,
        variables: Mapping[str, tf.Variable],
        rate: Tensor,
        centres: Tensor,
        contexts: Tensor,
        length: Tensor,
        candidates: Tensor,
        tries: Tensor,
    ) -> Tensor:
        size = self.settings.batch_pairs
        real = tf.cast(tf.range(size) < length, tf.float32)
        words = tf.concat([contexts, candidates], 0)
        self._catch_up(variables, "input", "seen_input", centres)
        self._catch_up(variables, "output", "seen_output", words)
        x = tf.gather(variables["input"], centres)  # [batch, d]
        w = tf.gather(variables["output"], words)
        b = tf.gather(variables["bias"], words) - self._log_expected(words, tries)
        true, other = w[:size], w[size:]
        score = tf.reduce_sum(x * true, 1) + b[:size]  # [batch]
        noise_score = tf.matmul(x, other, transpose_b=True) + b[size:]  # [batch, C]
        loss = real * tf.math.softplus(-score) + real * tf.reduce_sum(tf.math.softplus(noise_score), 1)

        error = -real * tf.sigmoid(-score) / size
        noise_error = real[:, None] * tf.sigmoid(noise_score) / size
        dx = error[:, None] * true + tf.matmul(noise_error, other)
        dw = tf.concat([error[:, None] * x, tf.matmul(noise_error, x, transpose_a=True)], 0)
        db = tf.concat([error, tf.reduce_sum(noise_error, 0)], 0)
        self._move(variables, "input", centres, dx, rate)
        self._move(variables, "output", words, dw, rate)
        self._move(variables, "bias", words, db, rate)
        now = variables["step"].assign_add(1)
        for seen, rows in (("seen_input", centres), ("seen_output", words)):
            _set(variables[seen], rows, tf.fill(tf.shape(rows), now))
        return tf.reduce_sum(tf.cast(loss, tf.float64))

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

    def _catch_up(self, variables: Mapping[str, tf.Variable], name: str, seen: str, rows: Tensor) -> None:
        owed = tf.cast(variables["step"] - tf.gather(variables[seen], rows), tf.float32)
        for each in ("output", "bias") if name == "output" else (name,):
            table, speed = variables[each], variables[f"{each}_speed"]
            moved, slowed = self._caught_up(tf.gather(table, rows), tf.gather(speed, rows), owed)
            _set(table, rows, moved)  # rows that come twice get the same value twice
            _set(speed, rows, slowed)

    def _move(
        self, variables: Mapping[str, tf.Variable], name: str, rows: Tensor, gradient: Tensor, rate: Tensor
    ) -> None:
        table, speed = variables[name], variables[f"{name}_speed"]
        before = tf.gather(table, rows)
        _set(speed, rows, np.float32(self.settings.momentum) * tf.gather(speed, rows))
        tf.raw_ops.ResourceScatterAdd(resource=speed.handle, indices=rows, updates=-rate * gradient)
        _set(table, rows, before + tf.gather(speed, rows))


def _set(variable: tf.Variable, rows: Tensor, values: Tensor) -> None:
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=rows, updates=values)
