"""A label for every frame of a sequence, as of a handwritten word's letters: one softmax for all steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from ingest.sequence_corpus import Part
from trainers.distortion import Distortion, recombined
from trainers.front_end import FrontEnd
from trainers.labelled_sequences import LabelledSequences
from trainers.labelling import LabellingModel
from trainers.labelling_network import Hidden, LabellingNetwork
from trainers.labelling_report import card, report
from trainers.labelling_settings import LabellingSettings
from trainers.sequence_learner import SequenceLearner
from trainers.state import State


class SequenceLabeller(SequenceLearner):
    """The learner of `data` (see `trainers.labelled_sequences`)."""

    kind = "labelling"
    per_frame = True

    def __init__(self, data: LabelledSequences, settings: LabellingSettings) -> None:
        frames = data.sequences.frames
        frame = frames.shape[1] if frames.ndim == 2 else 0
        if settings.channels and (not data.rows or frame // data.rows < 4 or data.rows < 4):
            raise WordloomError(
                f"A convolutional front end reads images of 4 x 4 pixels or more, and the frames are "
                f"{f'{frame} numbers' if frame else 'tokens'} of {data.rows or 'no'} rows; "
                "set labelling.channels=0."
            )
        front = FrontEnd(
            frame,
            data.rows,
            len(data.tokens) + 1 if data.tokens else 0,
            settings.channels,
            settings.features if settings.channels or data.tokens else 0,
        )
        super().__init__(data.sequences, front.width, len(data.labels), settings)
        self.data, self.own = data, settings
        self.reader = LabellingNetwork(front, self.network)
        self.distortion = Distortion(settings.shift, settings.shear, settings.scale, settings.noise)

    @property
    def width(self) -> int:
        return self.reader.width

    def first_parameters(self, begun: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        front = self.reader.front
        parameters = front.initial(self.settings.seed)
        if front.width == front.frame:
            # A frame's numbers as they are, such as pixels: neighbours are set together, so their sum is
            # larger than Glorot's formula takes it for. Preset reference, six seeds beside those of the
            # benchmark: 7.89 % of the letters wrong from half of it, 8.03 from all, 8.11 from a third.
            for name, kernel in begun.items():
                if name.startswith("layer0/") and name.endswith("/kernel"):
                    parameters[name] = kernel / 2
        return parameters

    def read(
        self, weights: Mapping[str, tf.Tensor], frames: tf.Tensor, lengths: tf.Tensor, key: tf.Tensor | None
    ) -> tf.Tensor:
        if key is None:
            return self.reader.read(weights, frames, lengths)
        of_images, of_hidden = tf.unstack(tf.random.split(key))
        front = self.reader.front
        if front.channels and self.distortion.any:
            steps, batch, frame = frames.shape
            shape = [steps * batch, front.rows, frame // front.rows]
            images = tf.reshape(tf.cast(frames, tf.float32), shape)
            frames = tf.reshape(self.distortion.apply(images, of_images), frames.shape)
        hidden = Hidden(self.own.dropout, self.own.context_dropout, of_hidden)
        return self.reader.read(weights, frames, lengths, hidden)

    def _figures(
        self,
        parameters: State,
        frames: tf.Tensor,
        labels: tf.Tensor,
        lengths: tf.Tensor,
        key: tf.Tensor | None,
    ) -> tuple[tf.Tensor, ...]:
        if key is not None and self.own.recombined:
            of_words, key = tf.unstack(tf.random.split(key))
            share, piece = self.own.recombined, self.own.piece
            frames, labels = recombined(frames, labels, lengths, of_words, share, piece)
        return super()._figures(parameters, frames, labels, lengths, key)

    def publish(
        self, state: State, folder: Folder, history: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        """The model, and a report of what the published model says of the test part."""
        model = LabellingModel(self.data.labels, self.reader, self.data.tokens, self.weights(state))
        files = model.write(folder)
        part = self.data.part
        tested = [self._frames_of(part, int(number)) for number in self.data.test]
        truth = [part.labels[part.offsets[n] : part.offsets[n + 1]] for n in self.data.test]
        found = [each.probabilities for each in model.label(tested)]
        figures = report(found, truth, self.data.labels)
        files["report.json"] = folder.write_json("report.json", figures)
        described = card(self.data.about, self.own, figures, history)
        files["card.md"] = folder.write("card.md", described.encode())
        counts = {name: figures[name] for name in ("letter_error", "word_letter_error", "word_error")}
        read = {"labels": len(self.data.labels), "directions": 1 + self.settings.both}
        return {**read, "tested": len(truth), **counts}, files

    def _frames_of(self, part: Part, number: int) -> Any:
        frames = part.frames[part.offsets[number] : part.offsets[number + 1]]
        if part.dictionary is None:
            return frames
        return part.dictionary.take(frames).to_pylist()
