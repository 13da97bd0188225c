"""How a review is read: words to numbers, a recurrent network over them, and what the softmax gets of it.

Training and serving share this module; it knows no optimiser and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainers.recurrent import Recurrent

Weights = Mapping[str, tf.Tensor]
VECTORS, WORDS, PAIRS = "vectors", "features/words", "features/pairs"
HASH = 1_000_003  # a prime: pairs of 50,000 words fall evenly into the buckets


@dataclass(frozen=True)
class Dropout:
    """The shares that are left out while training; see `trainers.sentiment_settings`."""

    words: float = 0.0
    inputs: float = 0.0
    outputs: float = 0.0


@dataclass(frozen=True)
class ReviewReader:
    """Words int32 [steps, batch] to what the softmax reads, float32 [batch, width].

    Weights: ``vectors`` [vocabulary, n]; with `features` also ``features/words`` [vocabulary, features], and
    with `pairs` ``features/pairs`` [pairs, features]; and the network's. `reading` is ``last``, the state
    after the last real word (both ways: each at its own end), or ``pooled``, the largest and the mean
    activation over the real words.
    """

    network: Recurrent
    reading: str
    features: int = 0
    pairs: int = 0

    @property
    def width(self) -> int:
        return self.network.outputs * (1 if self.reading == "last" else 2)

    def shapes(self, vocabulary: int, labels: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter, those of the softmax included."""
        features = {name: value.shape for name, value in self.first_features(vocabulary).items()}
        return {
            **self.network.shapes(),
            VECTORS: (vocabulary, self.network.inputs - self.features),
            **features,
            "output/kernel": (self.width, labels),
            "output/bias": (labels,),
        }

    def first_features(self, vocabulary: int) -> dict[str, np.ndarray]:
        """The learned features of words and pairs before training: zeros, so that each begins as nothing."""
        made = {}
        if self.features:
            made[WORDS] = np.zeros((vocabulary, self.features), np.float32)
        if self.pairs:
            made[PAIRS] = np.zeros((self.pairs, self.features), np.float32)
        return made

    def read(
        self,
        weights: Weights,
        words: tf.Tensor,
        lengths: tf.Tensor,
        dropout: Dropout | None = None,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """`key` (int32 [2]) decides what `dropout` leaves out."""
        outputs = self.outputs(weights, words, lengths, dropout, key)
        read = self.pooled(outputs, lengths)
        if dropout is not None and key is not None:
            read = _dropped(read, dropout.outputs, tf.shape(read), tf.add(key, [0, 2 << 24]))
        return read

    def outputs(
        self,
        weights: Weights,
        words: tf.Tensor,
        lengths: tf.Tensor,
        dropout: Dropout | None = None,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The network's outputs at every word, float32 [steps, batch, outputs]; zeros in the padding."""
        inputs = tf.gather(weights[VECTORS], words)
        if self.features:
            learned = tf.gather(weights[WORDS], words)
            if self.pairs:
                learned += tf.gather(weights[PAIRS], self.buckets(words))
            inputs = tf.concat([inputs, learned], axis=-1)
        if dropout is not None and key is not None:
            shape = tf.shape(inputs)
            inputs = _dropped(inputs, dropout.words, [shape[0], shape[1], 1], key)
            inputs = _dropped(inputs, dropout.inputs, [1, shape[1], shape[2]], tf.add(key, [0, 1 << 24]))
        return self.network.read(weights, inputs, lengths=lengths)[0]

    def buckets(self, words: tf.Tensor) -> tf.Tensor:
        """The bucket of each word's pair with the word before it (the first: with word 0)."""
        before = tf.concat([tf.zeros_like(words[:1]), words[:-1]], axis=0)
        hashed = tf.cast(before, tf.int64) * HASH + tf.cast(words, tf.int64)
        return tf.cast(hashed % self.pairs, tf.int32)

    def pooled(self, outputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """What the softmax reads of the outputs: float32 [batch, width]."""
        steps, batch = tf.shape(outputs)[0], tf.shape(outputs)[1]
        if self.reading == "last":
            places = tf.stack([tf.maximum(lengths - 1, 0), tf.range(batch)], axis=1)
            last = tf.gather_nd(outputs, places)
            if self.network.both:  # the reverse direction ends at the first word
                units = self.network.units
                last = tf.concat([last[:, :units], outputs[0, :, units:]], axis=-1)
            return last
        real = (tf.range(steps)[:, None] < lengths)[:, :, None]
        largest = tf.reduce_max(tf.where(real, outputs, -1.0), axis=0)
        count = tf.cast(tf.maximum(lengths, 1), outputs.dtype)[:, None]
        return tf.concat([largest, tf.reduce_sum(outputs, axis=0) / count], axis=-1)

    def unfolding(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same after each word of one review: outputs [steps, outputs] to [steps, width], the last row
        equal to `pooled`. What both ways have read is taken from the whole reading."""
        if self.reading == "last":
            if not self.network.both:
                return outputs
            units = self.network.units
            ends = np.repeat(outputs[:1, units:], len(outputs), axis=0)
            return np.concatenate([outputs[:, :units], ends], axis=1)
        counts = np.arange(1, len(outputs) + 1, dtype=np.float32)[:, None]
        means = np.cumsum(outputs, axis=0) / counts
        return np.concatenate([np.maximum.accumulate(outputs, axis=0), means], axis=1)


def _dropped(values: tf.Tensor, share: float, shape: object, key: tf.Tensor) -> tf.Tensor:
    """The values times a mask of `shape` that is 0 in a `share` of its places and as much larger
    elsewhere."""
    if not share:
        return values
    kept = tf.random.stateless_uniform(shape, key) >= share
    return values * tf.cast(kept, values.dtype) / (1.0 - share)
