"""A published labeller: labels and their probabilities for every frame of a sequence.

A model is ``model.json`` (labels, network) and ``parameters.npz`` (float32 arrays): no pickle, no training
code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.folder import FileRecord, Folder
from trainers.front_end import FrontEnd
from trainers.labelling_network import LabellingNetwork
from trainers.labelling_settings import KIND
from trainers.model_files import MODEL, PARAMETERS, reading, write_parameters
from trainers.recurrent import Recurrent

FORMAT = 1
TOGETHER = 64  # sequences in one call
LONGEST = 4096  # frames of a sequence

Frames = npt.NDArray[Any] | Sequence[str]


@dataclass(frozen=True)
class Labelled:
    """One sequence's `labels`, the likeliest of each frame, and the `probabilities` float32 [frames, labels]
    of all labels, in the model's order."""

    labels: list[str]
    probabilities: npt.NDArray[np.float32]

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """The probability of each frame's likeliest label."""
        return np.asarray(self.probabilities.max(axis=-1))


class LabellingModel:
    """`labels`: the label of each class. `tokens`: where frames are tokens, those of the embedding's rows
    from 1 (0 is any other); else empty."""

    def __init__(
        self,
        labels: Sequence[str],
        network: LabellingNetwork,
        tokens: Sequence[str],
        parameters: Mapping[str, tf.Tensor],
    ) -> None:
        self.labels, self.network, self.tokens = list(labels), network, list(tokens)
        self.parameters = dict(parameters)
        self._rows = {token: row for row, token in enumerate(self.tokens, 1)}
        # One graph for all shapes: XLA would compile seconds for each, and words are short.
        self._compiled = tf.function(self._probabilities, autograph=False, reduce_retracing=True)

    @classmethod
    def open(cls, location: str | Folder | Artefact) -> LabellingModel:
        """The model of a published artefact. Raises WordloomError where there is none or it is damaged."""
        artefact = location if isinstance(location, Artefact) else Artefact.open(location, KIND)
        return cls.read(artefact.folder)

    @classmethod
    def read(cls, folder: Folder) -> LabellingModel:
        """The model whose files lie in `folder`, published or not."""
        with reading(folder, FORMAT) as files:
            described = files.described
            front, recurrent = FrontEnd(**described["front"]), Recurrent(**described["recurrent"])
            network = LabellingNetwork(front, recurrent)
            labels = described["labels"]
            output = {"output/kernel": (network.width, len(labels)), "output/bias": (len(labels),)}
            parameters = files.parameters({**recurrent.shapes(), **front.shapes(), **output})
            constants = {name: tf.constant(value) for name, value in parameters.items()}
            return cls(labels, network, described["tokens"], constants)

    def write(self, folder: Folder) -> dict[str, FileRecord]:
        """Writes ``model.json`` and ``parameters.npz``; the same model gives the same bytes."""
        described = {
            "format": FORMAT,
            "labels": self.labels,
            "tokens": self.tokens,
            "front": dataclasses.asdict(self.network.front),
            "recurrent": dataclasses.asdict(self.network.recurrent),
        }
        return {
            MODEL: folder.write_json(MODEL, described),
            PARAMETERS: write_parameters(folder, self.parameters),
        }

    def label(self, sequences: Sequence[Frames]) -> list[Labelled]:
        """The labels of sequences: each a list of tokens, or numbers [frames, ...] of as many numbers a frame
        as the model reads (images may keep their two axes). Raises UsageError for others, also for a text,
        whose letters are no tokens."""
        encoded = [self._encoded(number, each) for number, each in enumerate(sequences)]
        made: dict[int, Labelled] = {}
        order = sorted(range(len(encoded)), key=lambda each: len(encoded[each]))
        for first in range(0, len(order), TOGETHER):
            numbers = order[first : first + TOGETHER]
            for number, found in zip(numbers, self._read([encoded[n] for n in numbers]), strict=True):
                made[number] = Labelled([self.labels[each] for each in found.argmax(-1)], found)
        return [made[number] for number in range(len(encoded))]

    def _encoded(self, number: int, frames: Frames) -> npt.NDArray[Any]:
        if isinstance(frames, str):
            raise UsageError(f"Sequence {number} is the text {frames[:40]!r}; give a list of its frames.")
        if not hasattr(frames, "__len__"):
            raise UsageError(f"Sequence {number} is {str(frames)[:40]}; give a list of its frames.")
        if self.tokens:
            values = np.array([self._rows.get(str(token), 0) for token in frames], np.int32)
        else:
            wanted = self.network.front.frame
            try:
                values = np.asarray(frames)
            except ValueError as error:
                raise UsageError(
                    f"Sequence {number} has frames of unequal shapes ({_odd(frames, wanted)}); "
                    f"give {wanted} numbers each."
                ) from error
            if values.dtype.kind not in "bfiu" or values.size != len(values) * wanted:
                raise UsageError(
                    f"Sequence {number} has frames of shape {values.shape[1:]}; give {wanted} numbers each."
                )
            values = values.reshape(len(values), wanted).astype(np.float32)
        if not 0 < len(values) <= LONGEST:
            raise UsageError(f"Sequence {number} has {len(values)} frames; give 1 to {LONGEST}.")
        return values

    def _read(self, group: list[npt.NDArray[Any]]) -> Iterator[npt.NDArray[np.float32]]:
        lengths = np.array([len(each) for each in group], np.int32)
        frames = np.zeros((lengths.max(), len(group), *group[0].shape[1:]), group[0].dtype)
        for lane, each in enumerate(group):
            frames[: len(each), lane] = each
        found = self._compiled(tf.constant(frames), tf.constant(lengths)).numpy()
        for lane, each in enumerate(group):
            yield found[: len(each), lane]

    def _probabilities(self, frames: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        read = self.network.read(self.parameters, frames, lengths)
        flat = tf.reshape(read, [-1, self.network.width]) @ self.parameters["output/kernel"]
        shape = tf.concat([tf.shape(read)[:2], [len(self.labels)]], axis=0)
        return tf.nn.softmax(tf.reshape(flat + self.parameters["output/bias"], shape))


def _odd(frames: Frames, wanted: int) -> str:
    """Which of some frames is the first that is not of `wanted` numbers, and of how many it is."""
    for number, frame in enumerate(frames):
        try:
            size = np.asarray(frame).size
        except ValueError:
            return f"rows of frame {number} have unequal lengths"
        if size != wanted:
            return f"frame {number} has {size:,} numbers"
    return "they are nested differently"
