"""What a labeller answers: a label for every frame of a sequence, and how sure it is of each.

Sequences that wait at the same time are labelled by one call. It is one graph for all shapes, compiled when
the model is opened: XLA takes 1 to 6 s for each shape of the convolutions and gains only where one sequence
comes alone (8 letters: 1.0 ms in place of 1.9; 16 words of 8: 6.6 in place of 7.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.batching import Batcher
from serving.frames import Frames

TOGETHER = 32  # sequences in one call


class Labelled(Protocol):
    """One sequence's labels; see trainers.labelling.Labelled."""

    labels: list[str]
    probabilities: npt.NDArray[np.float32]


class Labeller(Protocol):
    """What is needed of a labeller; see trainers.labelling.LabellingModel."""

    labels: list[str]

    def label(self, sequences: Sequence[Any]) -> list[Any]:
        """The labels of sequences, each tokens or float32 [frames, numbers]."""


class Labels:
    """The answers that come from a labeller; safe from any number of threads. `beside`: another one, that the
    same routes ask."""

    def __init__(self, model: Labeller, reads: Frames) -> None:
        self.model = model
        self.reads = reads
        self.beside: Labels | None = None
        # Letters of words are written together, labels of other kinds apart.
        self.between = "" if all(len(label) == 1 for label in model.labels) else " "
        self._batch: Batcher[Any, Labelled] = Batcher("labels", model.label, TOGETHER)

    @classmethod
    def open(cls, location: str) -> Labels:
        """Opens the model in an artefact's folder and compiles it. Raises WordloomError."""
        # Imports TensorFlow: replicas of other kinds do without.
        from trainers.labelling import LabellingModel

        model = LabellingModel.open(location)
        labels = cls(model, Frames(model.network.front.frame, model.network.front.rows))
        labels.warm()
        return labels

    def warm(self) -> None:
        """Compiles the graph, so that the first request does not wait for it. It is traced for one shape, and
        for all when another comes."""
        example = [self.reads.decoded(frame) for frame in self.reads.example()]
        self.model.label([example])
        self.model.label([example * 2] * 2)

    def label(self, sequences: Sequence[Sequence[Any]]) -> list[Labelled]:
        """The labels of sequences of decoded frames."""
        return self._batch.together([each if not self.reads.width else np.stack(each) for each in sequences])
