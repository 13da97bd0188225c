"""What stands before the recurrent network of a labeller and reads each frame by itself.

- nothing: the frame's numbers as they are;
- an embedding: the frame is the number of a token, and its vector is learned;
- a convolutional network, where the frame is an image: twice two convolutions of 3 x 3 and a maximum over
  2 x 2, then a dense layer (after LeCun et al., 1998).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

Weights = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class FrontEnd:
    """`frame`: numbers of a frame, 0 where it is a token's number. `tokens`: rows of the embedding.
    `channels` of the first two convolutions over images of `rows` rows, twice as many of the others (0: no
    convolutions).
    `features`: the width of what the recurrent network reads of an image or a token.
    """

    frame: int
    rows: int = 0
    tokens: int = 0
    channels: int = 0
    features: int = 0

    @property
    def width(self) -> int:
        """The width of what it gives."""
        return self.features if self.channels or self.tokens else self.frame

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """Fresh parameters: normal with a variance of 2 / inputs (He et al., 2015); embeddings small."""
        random = np.random.default_rng([seed, 2])
        if self.tokens:
            vectors = random.normal(0, 0.1, (self.tokens, self.features))
            return {"front/embedding": vectors.astype(np.float32)}
        parameters = {}
        for name, shape in self._shapes().items():
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            parameters[f"front/{name}/kernel"] = random.normal(0, scale, shape).astype(np.float32)
            parameters[f"front/{name}/bias"] = np.zeros(shape[-1], np.float32)
        return parameters

    def read(self, weights: Weights, frames: tf.Tensor) -> tf.Tensor:
        """Float [n, width] of frames [n] (tokens) or [n, frame]."""
        if self.tokens:
            return tf.gather(weights["front/embedding"], frames)
        values = tf.cast(frames, tf.float32)
        if not self.channels:
            return values
        values = tf.reshape(values, [-1, self.rows, self.frame // self.rows, 1])
        for stage in ("first", "second"):
            for each in ("a", "b"):
                kernel, bias = (weights[f"front/{stage}_{each}/{part}"] for part in ("kernel", "bias"))
                values = tf.nn.relu(tf.nn.conv2d(values, kernel, 1, "SAME") + bias)
            values = _halved(values)
        flat = tf.reshape(values, [-1, values.shape[1] * values.shape[2] * values.shape[3]])
        return tf.nn.relu(flat @ weights["front/dense/kernel"] + weights["front/dense/bias"])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter."""
        if self.tokens:
            return {"front/embedding": (self.tokens, self.features)}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in self._shapes().items():
            shapes[f"front/{name}/kernel"] = shape
            shapes[f"front/{name}/bias"] = shape[-1:]
        return shapes

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        if not self.channels:
            return {}
        few, many = self.channels, 2 * self.channels
        left = (self.rows // 4) * (self.frame // self.rows // 4) * many
        return {
            "first_a": (3, 3, 1, few),
            "first_b": (3, 3, few, few),
            "second_a": (3, 3, few, many),
            "second_b": (3, 3, many, many),
            "dense": (left, self.features),
        }


def _halved(values: tf.Tensor) -> tf.Tensor:
    """The maximum of each 2 x 2: by reshaping, whose gradient XLA does without a scatter."""
    rows, columns, channels = values.shape[1:]
    values = values[:, : rows // 2 * 2, : columns // 2 * 2]
    parted = tf.reshape(values, [-1, rows // 2, 2, columns // 2, 2, channels])
    return tf.reduce_max(parted, axis=[2, 4])
