"""The network of a labeller: a front end for each frame, a recurrent network over the sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from trainers.front_end import FrontEnd
from trainers.recurrent import Recurrent


@dataclass(frozen=True)
class Hidden:
    """What training hides: a share `dropout` of the features and of the context (Srivastava et al., 2014,
    what stays is scaled up), and the whole `context` of a share of the sequences. `key` (int32 [2]) decides
    which.
    """

    dropout: float
    context: float
    key: tf.Tensor

    def of(self, values: tf.Tensor, place: int) -> tf.Tensor:
        """The values with some of them zero; `place` tells the layers apart."""
        if not self.dropout:
            return values
        drawn = tf.random.stateless_uniform(tf.shape(values), tf.random.fold_in(self.key, place))
        return tf.where(drawn < self.dropout, 0.0, values / (1 - self.dropout))

    def of_sequences(self, values: tf.Tensor, place: int) -> tf.Tensor:
        """The values [steps, batch, width], those of some sequences zero."""
        if not self.context:
            return values
        drawn = tf.random.stateless_uniform([1, tf.shape(values)[1], 1], tf.random.fold_in(self.key, place))
        return tf.where(drawn < self.context, 0.0, values)


@dataclass(frozen=True)
class LabellingNetwork:
    """Where the front end is convolutional, the softmax reads its features beside the context: a letter can
    then be read by itself where the word is none that was seen.
    """

    front: FrontEnd
    recurrent: Recurrent

    @property
    def width(self) -> int:
        """The width of what the softmax reads."""
        return self.recurrent.outputs + (self.front.width if self.front.channels else 0)

    def read(
        self,
        weights: Mapping[str, tf.Tensor],
        frames: tf.Tensor,
        lengths: tf.Tensor,
        hidden: Hidden | None = None,
    ) -> tf.Tensor:
        """What the softmax reads, float [steps, batch, width]: frames [steps, batch] (tokens) or [steps,
        batch, frame], lengths [batch]."""
        steps, batch = tf.shape(frames)[0], tf.shape(frames)[1]
        flat = tf.reshape(frames, [steps * batch, *frames.shape[2:]])
        features = tf.reshape(self.front.read(weights, flat), [steps, batch, self.front.width])
        if hidden is not None and self.front.width != self.front.frame:
            features = hidden.of(features, 1)
        context, _ = self.recurrent.read(weights, features, lengths=lengths)
        if hidden is not None:
            context = hidden.of_sequences(hidden.of(context, 2), 3)
        return tf.concat([context, features], axis=-1) if self.front.channels else context
