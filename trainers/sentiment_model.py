"""A published model of reviews: classes of texts, and how the reading came to them.

A model is ``model.json`` (words' tokeniser, labels, network), ``words.parquet`` and ``parameters.npz``
(float32 arrays): no pickle, no training code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.folder import FileRecord, Folder
from ingest.tokens import Tokeniser, refuse_one
from ingest.vocabulary import Numbering, Vocabulary
from trainers.model_files import MODEL, PARAMETERS, reading, write_parameters
from trainers.recurrent import Recurrent
from trainers.review_reader import ReviewReader
from trainers.sentiment_settings import KIND

FORMAT = 1
BATCH = 32  # reviews read at once, of similar length
LONGEST_TEXT = 1 << 20  # characters
LEAST_STEPS = 16  # words that the shortest shape has room for

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trajectory:
    """How a reading went: the `words` as the model cut them, and float32 [words, classes]: the log-odds of
    each class against all others, in nats, after each word. The last row is the prediction."""

    words: list[str]
    log_odds: Floats


class SentimentModel:
    """A classifier of texts. `words[i]` is row i of the vectors, row 0 stands for every other word.

    `tokeniser` are the settings by which the training's texts were cut; `synthetic` says that these were made
    by a program.
    """

    def __init__(
        self,
        reader: ReviewReader,
        labels: Sequence[str],
        words: Sequence[str],
        tokeniser: Mapping[str, Any],
        parameters: Mapping[str, np.ndarray],
        synthetic: bool = False,
    ) -> None:
        self.reader = reader
        self.labels = list(labels)
        self.words = list(words)
        self.synthetic = synthetic
        self.tokeniser = dict(tokeniser)
        self._cut = Tokeniser(
            tokeniser["tokeniser"], lower_case=tokeniser["lower_case"], normalise=tokeniser["normalise"]
        )
        self._vocabulary = Vocabulary(self.words, np.zeros(len(self.words)))
        self._numbering = Numbering(self._cut, self._vocabulary)
        self._parameters = {name: tf.constant(value) for name, value in parameters.items()}
        # Lengths differ from text to text: XLA would compile anew for each.
        self._logits = tf.function(self._read, autograph=False, reduce_retracing=True)
        # ... which pays where the shapes are few: 64 units both ways over 128 words take .9 ms in place of
        # 5.4, 16 such texts 7.0 in place of 12.9.
        self._padded = tf.function(self._read_padded, autograph=False, jit_compile=True)

    # files

    @classmethod
    def open(cls, location: str | Folder | Artefact) -> SentimentModel:
        """The model of a published artefact. Raises WordloomError where there is none or it is damaged."""
        artefact = location if isinstance(location, Artefact) else Artefact.open(location, KIND)
        folder = artefact.folder
        with reading(folder, FORMAT) as files:
            model = files.described
            reader = ReviewReader(Recurrent(**model["network"]), **model["reader"])
            words = folder.read_table("words.parquet")["token"].to_pylist()
            parameters = files.parameters(reader.shapes(len(words), len(model["labels"])))
            return cls(reader, model["labels"], words, model["tokeniser"], parameters, model["synthetic"])

    def write(self, folder: Folder) -> dict[str, FileRecord]:
        """Writes the model's files into a folder."""
        reader = dataclasses.asdict(self.reader)
        model = {
            "format": FORMAT,
            "kind": KIND,
            "labels": self.labels,
            "tokeniser": self.tokeniser,
            "network": reader.pop("network"),
            "reader": reader,
            "synthetic": self.synthetic,
        }
        return {
            MODEL: folder.write_json(MODEL, model),
            "words.parquet": folder.write_table(
                "words.parquet", pa.table({"token": pa.array(self.words, pa.string())})
            ),
            PARAMETERS: write_parameters(folder, self._parameters),
        }

    # answers

    def predict(self, texts: Sequence[str]) -> Floats:
        """The probabilities of the labels for each text: float32 [texts, labels]. A text without a word
        that the tokeniser keeps is read as one unknown word. Raises UsageError for a text that is too
        long, and for one text in place of a list."""
        refuse_one(texts, "text")
        if long := next((text for text in texts if len(text) > LONGEST_TEXT), None):
            raise UsageError(
                f"A text has {len(long):,} characters, more than {LONGEST_TEXT:,}; give it in parts."
            )
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        tokens = self._cut.encode(list(texts))
        numbers = self.numbers(tokens.dictionary)[tokens.indices]
        return self.predict_words(np.append(numbers, 0), tokens.offsets)

    def numbers(self, dictionary: pa.Array) -> npt.NDArray[np.int32]:
        """The row of the vectors of each word of a dictionary: int32 [len(dictionary)]."""
        return self._vocabulary.mapping(dictionary)

    def predict_words(self, words: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> Floats:
        """The same of texts as rows of the vectors: text i is ``words[offsets[i]:offsets[i + 1]]``."""
        lengths = np.diff(offsets)
        found = np.zeros((len(lengths), len(self.labels)), np.float32)
        order = np.argsort(lengths, kind="stable")
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            sizes = np.maximum(lengths[rows], 1).astype(np.int32)
            batch = np.zeros((int(sizes.max()), len(rows)), np.int32)
            for column, row in enumerate(rows):
                batch[: lengths[row], column] = words[offsets[row] : offsets[row + 1]]
            logits = self._logits(tf.constant(batch), tf.constant(sizes))
            found[rows] = tf.nn.softmax(logits).numpy()
        return found

    def trajectory(self, text: str) -> Trajectory:
        """How the reading of one text went, word by word; empty where it has no word."""
        words = self._cut.split(text)
        if not words:
            return Trajectory([], np.zeros((0, len(self.labels)), np.float32))
        rows = self._vocabulary.numbers(words)
        steps = max(LEAST_STEPS, 1 << (len(rows) - 1).bit_length())
        _, (log_odds,) = self.read_padded([rows], steps, 1, unfold=[0])
        return Trajectory(words, log_odds)

    # few texts at a time, in shapes that are compiled once each

    def rows(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """The words of each text as rows of the vectors: int32 [words]. Raises UsageError for one text in
        place of a list."""
        return self._numbering(texts)

    def spans(self, text: str) -> npt.NDArray[np.int64]:
        """Where a text's words stand in it: [words, 2], the first character and the one behind the last."""
        return self._cut.spans(text)

    def read_padded(
        self, texts: Sequence[npt.NDArray[np.int32]], steps: int, lanes: int, unfold: Sequence[int] = ()
    ) -> tuple[Floats, list[Floats]]:
        """At most `lanes` texts of at most `steps` words, as rows of the vectors: the probabilities float32
        [texts, labels], and for the texts numbered in `unfold` the log-odds after each word float32 [words,
        labels] (see `Trajectory`). A text without a word is read as one unknown word."""
        words = np.zeros((steps, lanes), np.int32)
        lengths = np.ones(lanes, np.int32)
        for lane, rows in enumerate(texts):
            words[: len(rows), lane] = rows
            lengths[lane] = max(len(rows), 1)
        probabilities, outputs = self._padded(tf.constant(words), tf.constant(lengths))
        read = outputs.numpy() if unfold else np.zeros(0, np.float32)
        unfolded = [self._unfolded(read[: len(texts[lane]), lane]) for lane in unfold]
        return probabilities.numpy()[: len(texts)], unfolded

    def _unfolded(self, outputs: Floats) -> Floats:
        logits = self._scored(tf.constant(self.reader.unfolding(outputs))).numpy().astype(np.float64)
        rest = [
            np.logaddexp.reduce(np.delete(logits, each, axis=1), axis=1) for each in range(logits.shape[1])
        ]
        return (logits - np.stack(rest, axis=1)).astype(np.float32)

    def _read(self, words: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return self._scored(self.reader.read(self._parameters, words, lengths))

    def _read_padded(self, words: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self.reader.outputs(self._parameters, words, lengths)
        return tf.nn.softmax(self._scored(self.reader.pooled(outputs, lengths))), outputs

    def _scored(self, read: tf.Tensor) -> tf.Tensor:
        return read @ self._parameters["output/kernel"] + self._parameters["output/bias"]
