"""A class for every sequence of words, as of a film review."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainers.review_reader import PAIRS, VECTORS, WORDS, Dropout, ReviewReader
from trainers.sentiment_settings import SentimentSettings
from trainers.sequence_learner import SequenceLearner
from trainers.sequences import Sequences
from trainers.state import State


class SequenceClassifier(SequenceLearner):
    """Frames are int32 token ids [n], rows of `vectors` (float32 [vocabulary, width]); labels [sequences].

    With `fine_tune` the vectors are parameters like others, else they stay as given.
    """

    kind = "sequence-classifier"
    settings: SentimentSettings
    per_frame = False
    # Reviews have many lengths, each of which XLA would compile for 2 s, and the steps are as fast without it
    # (units 64 both ways, batches of 64: 96,000 words/s; 95,000 with it).
    xla = False

    def __init__(
        self,
        sequences: Sequences,
        vectors: npt.NDArray[np.float32],
        classes: int,
        settings: SentimentSettings,
    ) -> None:
        super().__init__(sequences, vectors.shape[1] + settings.features, classes, settings)
        self.reader = ReviewReader(self.network, settings.reading, settings.features, settings.pairs)
        self.dropout = Dropout(settings.word_dropout, settings.input_dropout, settings.dropout)
        self.vectors = vectors.astype(np.float32)
        if not settings.fine_tune:
            self.frozen = {VECTORS: tf.constant(self.vectors)}

    def read(
        self, weights: Mapping[str, tf.Tensor], frames: tf.Tensor, lengths: tf.Tensor, key: tf.Tensor | None
    ) -> tf.Tensor:
        return self.reader.read(weights, frames, lengths, self.dropout, key)

    @property
    def width(self) -> int:
        return self.reader.width

    def held_back(self, updated: State) -> State:
        """Adam moves a number by about 30 times the rate however rare its word is. So the learned features of
        words and pairs decay at every step: those of rare ones, by which reviews would be learned by heart,
        are forgotten before they come again."""
        keep = 1 - self.settings.decay
        return {name: value * keep if name in (WORDS, PAIRS) else value for name, value in updated.items()}

    def first_parameters(self, begun: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = self.reader.first_features(len(self.vectors))
        return {VECTORS: self.vectors, **made} if self.settings.fine_tune else made
