"""A label for every frame of a sequence, as of a handwritten word's letters: one softmax for all steps."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from trainers.sequence_learner import SequenceLearner
from trainers.sequence_settings import SequenceSettings
from trainers.sequences import Sequences


class SequenceLabeller(SequenceLearner):
    """Frames are vectors (uint8 or float32 [n, width]); labels are int32 [n], one a frame."""

    kind = "sequence-labeller"
    per_frame = True

    def __init__(self, sequences: Sequences, classes: int, settings: SequenceSettings) -> None:
        super().__init__(sequences, sequences.frames.shape[1], classes, settings)

    def read(
        self, weights: Mapping[str, tf.Tensor], frames: tf.Tensor, lengths: tf.Tensor, key: tf.Tensor | None
    ) -> tf.Tensor:
        return self.network.read(weights, tf.cast(frames, tf.float32), lengths=lengths)[0]
