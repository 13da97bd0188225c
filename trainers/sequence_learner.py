"""What the trainers on labelled sequences share: a recurrent network, a softmax, RMSProp, exact resume.

`SequenceClassifier` and `SequenceLabeller` say what is read (word vectors or frames) and where the softmax
stands. Each sequence counts alike in the loss and in the error, whatever its length.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cluster.folder import FileRecord, Folder
from trainers.microbatches import Microbatches, added
from trainers.model_files import MODEL, PARAMETERS, write_parameters
from trainers.optimiser import Adam, RMSProp, clipped
from trainers.recurrent import Recurrent
from trainers.sequence_settings import SequenceSettings
from trainers.sequences import Sequences, SequenceStream
from trainers.state import State, joined, parts, saved
from trainers.stream import Block, Ids
from trainers.synchronous import Lockstep, Synchronous, flattened

OPTIMISERS: dict[str, Adam | RMSProp] = {"rmsprop": RMSProp(), "adam": Adam()}
AVERAGE = "average/"  # the slots that hold the running mean of the weights
LOWEST_RATE = 0.05  # where a linear schedule ends, as a share of the rate


class SequenceLearner(Synchronous):
    """A learner (see `trainers.loop.Learner`) of labels of sequences; the loss is in nats a sequence.

    `frozen` are arrays that the network reads but does not train. What is drawn (dropout) is a pure function
    of the seed and of the batch's place in the training, so that it needs no state to be resumed.
    """

    kind: str
    per_frame: bool
    xla = True  # worth 2 s of compilation for each padded length

    def __init__(self, sequences: Sequences, width: int, classes: int, settings: SequenceSettings) -> None:
        self.sequences = sequences
        self.settings = settings
        self.classes = classes
        self.stream = SequenceStream(
            sequences,
            settings.batch,
            settings.block_batches,
            settings.seed,
            settings.pool,
            settings.epoch_batches,
        )
        self.blocks_per_exchange = settings.exchange_blocks
        self.network = Recurrent(
            cell=settings.cell,
            inputs=width,
            units=settings.units,
            layers=settings.layers,
            both=settings.both,
            reset=settings.reset,
            gate_bias=settings.gate_bias,
        )
        self.optimiser = OPTIMISERS[settings.optimiser]
        self.frozen: State = {}
        self.make_graphs()

    def make_graphs(self) -> None:
        self.micro = Microbatches(self.settings.batch, self.network, self.xla, self.group)
        self._gradients = self.micro.part(self._part_gradients)
        self._update = self.micro.part(self._updated)
        self._train = self.micro.step(self._train_batch)
        self._flat_gradients = self.micro.step(self._flattened)
        self._update_by = self.micro.whole(self._updated_by)
        self._measure = self.micro.whole(self._figures)

    # what the trainers say

    @abstractmethod
    def read(
        self, weights: Mapping[str, tf.Tensor], frames: tf.Tensor, lengths: tf.Tensor, key: tf.Tensor | None
    ) -> tf.Tensor:
        """What the softmax reads: float [steps, batch, width], or [batch, width] where a label is that of a
        sequence. `key` (int32 [2]) seeds what is drawn in training; None draws nothing.
        """

    @property
    def width(self) -> int:
        """The width of what the softmax reads."""
        return self.network.outputs

    def held_back(self, updated: State) -> State:
        """The parameters after a step, those that are to stay small made smaller."""
        return updated

    def first_parameters(self, begun: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Parameters beside those `begun`, the network's and the softmax's, and others in place of these."""
        return {}

    # the contract of the loop

    def initial(self) -> State:
        arrays = self.network.initial(self.settings.seed)
        shape = (self.width, self.classes)
        limit = math.sqrt(6.0 / sum(shape))
        random = np.random.default_rng([self.settings.seed, 1])
        arrays["output/kernel"] = random.uniform(-limit, limit, shape).astype(np.float32)
        arrays["output/bias"] = np.zeros(self.classes, np.float32)
        arrays |= self.first_parameters(arrays)
        parameters = {name: tf.constant(value) for name, value in arrays.items()}
        slots = self.optimiser.initial(parameters)
        if self.settings.average:
            slots |= {AVERAGE + name: value for name, value in parameters.items()}
        return joined(parameters, slots, self.settings.optimiser)

    def run(
        self, state: State, blocks: Iterable[Block], total_blocks: int
    ) -> tuple[State, Mapping[str, float]]:
        parameters, slots = parts(state)
        steps = list(self._steps(blocks, total_blocks))
        sums = np.zeros(3)
        with Lockstep(self.group, len(steps), parameters) as lockstep:
            for numbers, rate, key in steps:
                if self.group.size == 1:
                    parameters, slots, figures = self._train(
                        parameters, slots, *self._batch(numbers), rate, key
                    )
                else:
                    gradients, figures = self._of_own_rows(parameters, numbers, key)
                    parameters, slots = self._update_by(parameters, slots, lockstep.sum(gradients), rate)
                sums += [float(figures[0]), float(figures[1]), len(numbers[self.micro.own])]
        loss, error, weight = sums.tolist()
        told = {"loss_sum": loss, "loss_weight": weight, "error_sum": error, "error_weight": weight}
        return joined(parameters, slots, self.settings.optimiser), told

    def _steps(
        self, blocks: Iterable[Block], total_blocks: int
    ) -> Iterator[tuple[Ids, tf.Tensor, tf.Tensor]]:
        """The batches of `blocks`, each with its learning rate and its key."""
        for block in blocks:
            rate = tf.constant(self.rate(block.index, total_blocks), tf.float32)
            batches = np.split(block.values, np.flatnonzero(np.diff(block.page)) + 1)
            for place, numbers in enumerate(batches, block.index * self.settings.block_batches):
                yield numbers, rate, tf.constant([self.settings.seed, place], tf.int32)

    def rate(self, index: int, total_blocks: int) -> float:
        """The learning rate of a block, a function of its place in the whole training."""
        if self.settings.schedule == "constant":
            return self.settings.learning_rate
        return self.settings.learning_rate * max(1 - index / max(total_blocks, 1), LOWEST_RATE)

    def weights(self, state: State) -> State:
        """The parameters that are measured and published."""
        parameters, slots = parts(state)
        if not self.settings.average:
            return parameters
        return {name: slots[AVERAGE + name] for name in parameters}

    def evaluate(self, state: State) -> Mapping[str, float]:
        """Held-out loss and error as means over sequences; the error also as a mean over all labels, and the
        share of sequences with any error. NaN where nothing is held out."""
        parameters = self.weights(state)
        sums, count, labels = np.zeros(4), 0, 0
        for numbers in self.stream.held_out():
            sums += np.array(self._measure(parameters, *self._batch(numbers), None), np.float64)
            count += len(numbers)
            labels += int(self.sequences.lengths[numbers].sum()) if self.per_frame else len(numbers)
        loss, error, wrong, flawed = sums / count if count else np.full(4, math.nan)
        return {
            "held_out_loss": float(loss),
            "held_out_error": float(error),
            "held_out_label_error": float(wrong * count / labels) if labels else math.nan,
            "held_out_sequence_error": float(flawed),
            "held_out_sequences": count,
        }

    def save(self, state: State) -> dict[str, np.ndarray]:
        return saved(state)

    def load(self, arrays: Mapping[str, np.ndarray]) -> State:
        return {name: tf.constant(arrays[name]) for name in self.initial()}

    def publish(
        self, state: State, folder: Folder, history: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        parameters = self.weights(state)
        model = {"kind": self.kind, "network": dataclasses.asdict(self.network), "classes": self.classes}
        files = {
            MODEL: folder.write_json(MODEL, model),
            PARAMETERS: write_parameters(folder, {**self.frozen, **parameters}),
        }
        figures = {name: value for name, value in self.evaluate(state).items() if math.isfinite(value)}
        return {"sequences": len(self.sequences), **figures}, files

    def predictions(self, state: State, numbers: Ids) -> np.ndarray:
        """Probabilities float32 of the classes: [sequences, classes], or [steps, sequences, classes]."""
        parameters = self.weights(state)
        frames, _, lengths = self.sequences.padded(numbers, len(numbers), self.per_frame)
        logits = self._logits(parameters, tf.constant(frames), tf.constant(lengths))
        return np.asarray(tf.nn.softmax(logits).numpy())

    # the compiled parts

    def _batch(self, numbers: Ids) -> tuple[tf.Tensor, ...]:
        return tuple(map(tf.constant, self._padded(numbers)))

    def _padded(self, numbers: Ids) -> tuple[np.ndarray, ...]:
        return self.sequences.padded(numbers, self.settings.batch, self.per_frame, few=self.xla)

    @property
    def _axes(self) -> tuple[int, int, int]:
        """Along which the rows of a batch's frames, labels and lengths lie."""
        return 1, int(self.per_frame), 0

    def _of_own_rows(
        self, parameters: State, numbers: Ids, key: tf.Tensor
    ) -> tuple[tf.Tensor | None, tuple[Any, ...]]:
        """This worker's share in the gradients of a batch, flat (None: no row), and its rows' figures."""
        own = self.micro.own
        if not len(numbers[own]):
            return None, (0.0, 0.0)
        rows = [
            tf.constant(each[(*[slice(None)] * axis, own)])
            for each, axis in zip(self._padded(numbers), self._axes, strict=True)
        ]
        found: tuple[tf.Tensor, tuple[Any, ...]] = self._flat_gradients(
            parameters, rows, tf.constant(float(len(numbers))), key
        )
        return found

    def _train_batch(
        self,
        parameters: State,
        slots: State,
        frames: tf.Tensor,
        labels: tf.Tensor,
        lengths: tf.Tensor,
        rate: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[State, State, tuple[tf.Tensor, ...]]:
        real = tf.maximum(tf.reduce_sum(tf.cast(lengths > 0, tf.float32)), 1.0)
        found = self._of_parts(parameters, (frames, labels, lengths), real, key)
        updated, moved = self._update(parameters, slots, [gradients for gradients, _ in found], rate)
        return updated, moved, added([figures for _, figures in found])

    def _of_parts(
        self, parameters: State, batch: Sequence[tf.Tensor], real: tf.Tensor, key: tf.Tensor
    ) -> list[tuple[State, tuple[tf.Tensor, ...]]]:
        parts = self.micro.cut(batch, self._axes)
        return [
            self._gradients(parameters, *part, real, own)
            for part, own in zip(parts, self.micro.keys(key), strict=True)
        ]

    def _flattened(
        self, parameters: State, batch: Sequence[tf.Tensor], real: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """The gradients of all parts in one vector, in the order of their names."""
        found = self._of_parts(parameters, batch, real, key)
        gradients = added([gradients for gradients, _ in found])
        return flattened(gradients), added([figures for _, figures in found])

    def _part_gradients(
        self,
        parameters: State,
        frames: tf.Tensor,
        labels: tf.Tensor,
        lengths: tf.Tensor,
        real: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[State, tuple[tf.Tensor, ...]]:
        """A part's share in the gradients of the mean over the batch's `real` sequences, and its figures."""
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            figures = self._figures(parameters, frames, labels, lengths, key)
            mean = figures[0] / real
        gradients = tape.gradient(mean, parameters)
        # Rows gathered from a table come back as slices.
        return {name: tf.convert_to_tensor(each) for name, each in gradients.items()}, figures

    def _updated(
        self, parameters: State, slots: State, of_parts: list[State], rate: tf.Tensor
    ) -> tuple[State, State]:
        gradients = clipped(added(of_parts), self.settings.clip, self.settings.clip_by)
        updated, moved = self.optimiser.update(parameters, gradients, slots, rate)
        updated = self.held_back(updated)
        if keep := self.settings.average:
            for name, value in updated.items():
                moved[AVERAGE + name] = keep * slots[AVERAGE + name] + (1 - keep) * value
        return updated, moved

    def _logits(
        self, parameters: State, frames: tf.Tensor, lengths: tf.Tensor, key: tf.Tensor | None = None
    ) -> tf.Tensor:
        read = self.read({**self.frozen, **parameters}, frames, lengths, key)
        flat = tf.reshape(read, [-1, self.width]) @ parameters["output/kernel"]
        shape = tf.concat([tf.shape(read)[:-1], [self.classes]], axis=0)
        return tf.reshape(flat + parameters["output/bias"], shape)

    def _figures(
        self,
        parameters: State,
        frames: tf.Tensor,
        labels: tf.Tensor,
        lengths: tf.Tensor,
        key: tf.Tensor | None,
    ) -> tuple[tf.Tensor, ...]:
        """Sums over the batch's sequences: loss, error (each sequence's mean), wrong labels, sequences with a
        wrong label."""
        logits = self._logits(parameters, frames, lengths, key)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        wrong = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) != labels, tf.float32)
        if not self.per_frame:
            losses, wrong = losses[None], wrong[None]
            lengths = tf.minimum(lengths, 1)
        steps = tf.shape(losses)[0]
        weights = tf.cast(tf.range(steps)[:, None] < lengths, tf.float32)
        share = weights / tf.maximum(tf.cast(lengths, tf.float32), 1.0)
        counts = tf.reduce_sum(wrong * weights, axis=0)
        return (
            tf.reduce_sum(losses * share),
            tf.reduce_sum(wrong * share),
            tf.reduce_sum(counts),
            tf.reduce_sum(tf.cast(counts > 0, tf.float32)),
        )
