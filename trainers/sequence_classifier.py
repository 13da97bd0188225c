"""A class for every sequence of words, as of a film review: the softmax reads the last real word."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainers.sequence_learner import VECTORS, SequenceLearner
from trainers.sequence_settings import SequenceSettings
from trainers.sequences import Sequences


class SequenceClassifier(SequenceLearner):
    """Frames are int32 token ids [n], rows of `vectors` (float32 [vocabulary, width]); labels [sequences].

    With `fine_tune` the vectors are parameters like others, else they stay as given.
    """

    kind = "sequence-classifier"
    per_frame = False

    def __init__(
        self,
        sequences: Sequences,
        vectors: npt.NDArray[np.float32],
        classes: int,
        settings: SequenceSettings,
    ) -> None:
        super().__init__(sequences, vectors.shape[1], classes, settings)
        self.vectors = vectors.astype(np.float32)
        if not settings.fine_tune:
            self.frozen = {VECTORS: tf.constant(self.vectors)}

    def inputs(self, weights: Mapping[str, tf.Tensor], frames: tf.Tensor) -> tf.Tensor:
        return tf.gather(weights[VECTORS], frames)

    def first_parameters(self) -> dict[str, np.ndarray]:
        return {VECTORS: self.vectors} if self.settings.fine_tune else {}
