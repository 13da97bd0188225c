"""The character language model: a recurrent network that predicts each character from those before it.

Training is truncated back-propagation: a block of text becomes a few windows [steps, batch], all of them one
call of a compiled graph. Workers train on different blocks and average their parameters and Adam's slots
now and then (local steps with periodic averaging).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from ingest.corpus import Corpus
from trainers.characters import (
    UNKNOWN,
    Alphabet,
    bits_by_frequency,
    commonest,
    counted,
    reference_alphabet,
)
from trainers.generation import CharacterModel
from trainers.language_card import CARD, card
from trainers.language_settings import LanguageModelSettings
from trainers.microbatches import Microbatches, added
from trainers.optimiser import Adam, clipped, global_norm
from trainers.recurrent import Recurrent
from trainers.state import State, joined, parts, saved
from trainers.stream import Block, CharacterStream, Stream
from trainers.synchronous import Lockstep, Synchronous, flattened
from trainers.windows import Windows, cut_streams, cut_windows

ALPHABET_CHARACTERS = 20_000_000  # of so many at most the characters are counted, for alphabet and manifest
NAMED_UNKNOWN = 100  # characters outside the alphabet that the manifest names
SAMPLE_TEMPERATURE = 0.7
EVALUATION_LANES = 64
EVALUATION_STEPS = 128
LOWEST_RATE = 0.05  # where a linear schedule ends, as a share of the rate
OPTIMISER = "adam"  # its slots' names begin with it
FIRST_KERNEL = "layer0/forward/kernel"  # a row for each character

Ids = npt.NDArray[np.int32]


def language_model(corpus: Corpus, settings: LanguageModelSettings) -> CharacterLanguageModel:
    """The learner for a corpus that was ingested with its text. Raises WordloomError where the alphabet holds
    none of the text's characters: a model of unknown ones would look perfect and write what it never read."""
    counts = counted(_training_texts(corpus, ALPHABET_CHARACTERS))
    derived = settings.alphabet == "derived"
    alphabet = commonest(counts, settings.alphabet_size) if derived else reference_alphabet()
    unknown = alphabet.lacking(counts)
    if unknown and sum(unknown.values()) == counts.sum():
        raise WordloomError(
            f"None of the {len(unknown):,} different characters of the text is in the alphabet "
            f"{settings.alphabet!r}; set language_model.alphabet=derived."
        )
    stream = CharacterStream(
        corpus,
        alphabet,
        settings.block_size,
        settings.seed,
        halo=settings.halo,
        epoch_units=settings.epoch_batches * settings.batch_size,
        separator="",  # a page begins with the alphabet's start symbol instead
    )
    return CharacterLanguageModel(stream, alphabet, settings, unknown)


class CharacterLanguageModel(Synchronous):
    """The learner (see `trainers.loop.Learner`). The loss is the mean over characters, in nats.

    `unknown` counts the characters of the training text that the alphabet lacks, for the manifest.
    """

    def __init__(
        self,
        stream: Stream,
        alphabet: Alphabet,
        settings: LanguageModelSettings,
        unknown: Mapping[str, int] | None = None,
    ) -> None:
        self.stream = stream
        self.alphabet = alphabet
        self.unknown = dict(unknown or {})
        self.settings = settings
        self.blocks_per_exchange = settings.exchange_blocks
        self.network = Recurrent(
            cell=settings.cell,
            inputs=alphabet.size + 1,  # all characters and the start symbol
            units=settings.units,
            layers=settings.layers,
            reset=settings.reset,
            peepholes=settings.peepholes,
            gate_bias=settings.gate_bias,
        )
        self.shapes = CharacterModel.shapes(alphabet, self.network)
        self.adam = Adam()
        self._held_out: list[Ids] | None = None
        self._sampler: CharacterModel | None = None
        self.make_graphs()

    def make_graphs(self) -> None:
        # XLA: 1.8 times the characters a second at 16 x 32, 1.5 times at 32 x 64; about 4 s to compile.
        self.micro = Microbatches(self.settings.batch, self.network, True, self.group)
        self._gradients = self.micro.part(self._part_gradients)
        self._update = self.micro.part(self._updated)
        self._train = self.micro.step(self._train_batches)
        self._flat_gradients = self.micro.step(self._flattened)
        self._update_by = self.micro.whole(self._updated_by)
        self._losses = self.micro.whole(self._window_losses)

    # the contract of the loop

    def initial(self) -> State:
        arrays = self.network.initial(self.settings.seed)
        random = np.random.default_rng([self.settings.seed, 1])
        for name, shape in self.shapes.items():
            if name == FIRST_KERNEL and self.settings.input_deviation is not None:
                limit = math.sqrt(3.0) * self.settings.input_deviation
                arrays[name] = random.uniform(-limit, limit, shape).astype(np.float32)
            elif name == "output/kernel":
                limit = math.sqrt(6.0 / sum(shape))
                arrays[name] = random.uniform(-limit, limit, shape).astype(np.float32)
            elif name == "output/bias":
                arrays[name] = np.zeros(shape, np.float32)
        parameters = {name: tf.constant(arrays[name]) for name in self.shapes}
        return joined(parameters, self.adam.initial(parameters), OPTIMISER)

    def run(
        self, state: State, blocks: Iterable[Block], total_blocks: int
    ) -> tuple[State, Mapping[str, float]]:
        parameters, slots = parts(state)
        sums = dict.fromkeys(
            ("loss_sum", "loss_weight", "gradient_norm_sum", "gradient_norm_weight"), 0.0
        ) | {"characters": 0, "unknown_characters": 0}
        began = time.process_time()
        planned = []
        for block in blocks:
            if not self.group.rank:  # all workers read the same blocks
                sums["characters"] += len(block)
                sums["unknown_characters"] += int((block.values[block.start : block.stop] == UNKNOWN).sum())
            rate = tf.constant(self.rate(block.index, total_blocks), tf.float32)
            planned += [(windows, rate) for windows in self.windows(block).parts(self.settings.windows)]
        with Lockstep(self.group, sum(len(windows) for windows, _ in planned), parameters) as lockstep:
            for windows, rate in planned:
                if self.group.size == 1:
                    arrays = map(tf.constant, windows.arrays(self.settings.windows))
                    parameters, slots, *figures = self._train(parameters, slots, *arrays, rate)
                else:
                    parameters, slots, *figures = self._by_own_rows(
                        parameters, slots, windows, rate, lockstep
                    )
                loss, weight, norm = map(float, figures)
                sums["loss_sum"] += loss
                sums["loss_weight"] += weight
                sums["gradient_norm_sum"] += norm
                sums["gradient_norm_weight"] += len(windows)
        sums["cpu_seconds"] = time.process_time() - began  # of all workers, once the loop has added them up
        return joined(parameters, slots, OPTIMISER), sums

    def evaluate(self, state: State) -> Mapping[str, float | str]:
        """Every character of the held-out pages (or of as many as the settings allow), each page read from
        its beginning with the carry kept, and a sample. NaN where the corpus has no held-out page."""
        sample = {"sample": self.sample(state)} if self.settings.sample_length else {}
        return {**self._held_out_figures(state), **sample}

    def _held_out_figures(self, state: State) -> dict[str, float]:
        parameters, _ = parts(state)
        loss, characters, unknown, pages = 0.0, 0, 0, 0
        for group in _groups(self._pages()):
            loss += self._group_loss(parameters, group)
            characters += sum(map(len, group))
            unknown += sum(int((ids == UNKNOWN).sum()) for ids in group)
            pages += len(group)
        mean = loss / characters if characters else math.nan
        return {
            "held_out_loss": mean,
            "held_out_bits_per_character": mean / math.log(2),
            "held_out_perplexity": math.exp(min(mean, 700.0)),  # two to the power of the bits
            "held_out_characters": characters,
            "held_out_unknown_characters": unknown,
            "held_out_pages": pages,
        }

    def sample(self, state: State) -> str:
        """What the model writes from a document's beginning; the same random numbers after every epoch."""
        if not all(bool(tf.reduce_all(tf.math.is_finite(each))) for each in parts(state)[0].values()):
            return ""  # the loop is about to stop
        return self._model(state).generate(
            "", self.settings.sample_length, temperature=SAMPLE_TEMPERATURE, seed=self.settings.seed
        )[0]

    def _model(self, state: State) -> CharacterModel:
        """The model of a state; its loops are compiled once."""
        parameters, _ = parts(state)
        if self._sampler is None:
            self._sampler = CharacterModel(self.alphabet, self.network, parameters)
        else:
            self._sampler.take(parameters)
        return self._sampler

    def save(self, state: State) -> dict[str, np.ndarray]:
        return saved(state)

    def load(self, arrays: Mapping[str, np.ndarray]) -> State:
        return {name: tf.constant(arrays[name]) for name in self.initial()}

    def publish(
        self, state: State, folder: Folder, history: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        counts: dict[str, Any] = {
            "alphabet": len(self.alphabet.characters),
            "parameters": sum(math.prod(shape) for shape in self.shapes.values()),
            "unknown_characters": sum(self.unknown.values()),
            "unknown": dict(itertools.islice(self.unknown.items(), NAMED_UNKNOWN)),
        }
        figures = self._held_out_figures(state)
        figures["held_out_bits_windows_50"] = self._model(state).bits_in_windows(self._pages())
        figures["held_out_bits_by_frequency"] = bits_by_frequency(self._pages())
        counts |= {name: value for name, value in figures.items() if math.isfinite(value)}
        files = self._model(state).write(folder)
        text = card(self.settings, self.alphabet, counts, history)
        return counts, {**files, CARD: folder.write(CARD, text.encode())}

    # what a block becomes

    def windows(self, block: Block) -> Windows:
        """The windows of a block, as the settings cut it."""
        settings, start = self.settings, self.alphabet.start
        if settings.carry == "streams":
            return cut_streams(block, settings.batch, settings.steps, start)
        turn = block.index // self.stream.pass_blocks % settings.passes
        return cut_windows(
            block,
            settings.batch,
            settings.steps,
            settings.stride,
            start,
            settings.seed,
            turn,
            settings.passes,
        )

    def rate(self, index: int, total_blocks: int) -> float:
        """The learning rate of a block, a function of its place in the whole training."""
        if self.settings.schedule == "constant":
            return self.settings.learning_rate
        left = 1 - index / max(total_blocks, 1)
        return self.settings.learning_rate * max(left, LOWEST_RATE)

    def _by_own_rows(
        self, parameters: State, slots: State, windows: Windows, rate: tf.Tensor, lockstep: Lockstep
    ) -> tuple[State, State, float, float, float]:
        """As `_train`, each batch by all workers; the loss and its weight are those of this one's rows."""
        own = self.micro.own
        carry = self.network.zero_carry(own.stop - own.start)
        loss = norms = 0.0
        for k in range(len(windows)):
            gradients = None
            if own.stop > own.start:
                count = tf.constant(max(windows.weights[k].sum(), 1.0), tf.float32)
                arrays = (windows.inputs, windows.targets, windows.weights, windows.starts)
                inputs, targets, weights, starts = (tf.constant(each[k][:, own]) for each in arrays)
                gradients, lost, carry = self._flat_gradients(
                    parameters, count, inputs, targets, weights, carry, starts
                )
                loss += float(lost)
            parameters, slots, norm = self._update_by(parameters, slots, lockstep.sum(gradients), rate)
            norms += float(norm)
        return parameters, slots, loss, float(windows.weights[..., own].sum()), norms

    # the compiled parts

    def _train_batches(
        self,
        parameters: State,
        slots: State,
        count: tf.Tensor,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
        starts: tf.Tensor,
        rate: tf.Tensor,
    ) -> tuple[State, State, tf.Tensor, tf.Tensor, tf.Tensor]:
        """A step for each of the first `count` batches of [k, steps, batch]; the others are filling."""
        empty = self.network.zero_carry(self.settings.batch)

        def body(
            k: tf.Tensor, parameters: State, slots: State, carry: tf.Tensor, sums: tuple[tf.Tensor, ...]
        ) -> tuple:
            weight = tf.reduce_sum(weights[k])
            gradients, loss, carry = self._of_parts(
                parameters, tf.maximum(weight, 1.0), inputs[k], targets[k], weights[k], carry, starts[k]
            )
            parameters, slots, norm = self._update(parameters, slots, gradients, rate)
            sums = (sums[0] + loss, sums[1] + weight, sums[2] + norm)
            return k + 1, parameters, slots, carry, sums

        zero = tf.zeros([])
        _, parameters, slots, _, sums = tf.while_loop(
            lambda k, *_: k < count,
            body,
            (tf.constant(0), parameters, slots, empty, (zero, zero, zero)),
            maximum_iterations=inputs.shape[0],
        )
        return parameters, slots, *sums

    def _of_parts(
        self, parameters: State, count: tf.Tensor, *batch: tf.Tensor
    ) -> tuple[list[State], tf.Tensor, tf.Tensor]:
        """The gradients of each part of a batch, as `_part_gradients` takes it; the sum of all losses,
        and the carry of all rows."""
        carried = self.settings.carry == "streams"
        *_, carry, _ = batch
        batch = batch if carried else batch[:-1]
        found = [
            self._gradients(parameters, count, *part) for part in self.micro.cut(batch, (1,) * len(batch))
        ]
        last = tf.concat([last for *_, last in found], axis=1) if carried else carry
        return [gradients for gradients, *_ in found], added([loss for _, loss, _ in found]), last

    def _flattened(self, *batch: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `_of_parts`, the gradients in one vector."""
        gradients, loss, last = self._of_parts(*batch)
        return flattened(added(gradients)), loss, last

    def _part_gradients(
        self,
        parameters: State,
        count: tf.Tensor,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
        carry: tf.Tensor,
        starts: tf.Tensor | None = None,
    ) -> tuple[State, tf.Tensor, tf.Tensor]:
        """A part's share in the gradients of the mean over the batch's `count` characters, the sum of its
        losses, and its carry."""
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            losses, last = self._window_losses(parameters, inputs, targets, carry, starts)
            loss = tf.reduce_sum(losses * weights)
            mean = loss / count
        return tape.gradient(mean, parameters), loss, last

    def _updated(
        self, parameters: State, slots: State, of_parts: list[State], rate: tf.Tensor
    ) -> tuple[State, State, tf.Tensor]:
        gradients = added(of_parts)
        norm = global_norm(gradients)
        gradients = clipped(gradients, self.settings.clip, self.settings.clip_by)
        return *self.adam.update(parameters, gradients, slots, rate), norm

    def _window_losses(
        self,
        parameters: State,
        inputs: tf.Tensor,
        targets: tf.Tensor,
        carry: tf.Tensor,
        starts: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of every character, nats [steps, batch], and the carry."""
        outputs, carry = self.network.read(parameters, inputs, carry, starts=starts)
        flat = tf.reshape(outputs, [-1, self.network.outputs])
        logits = flat @ parameters["output/kernel"] + parameters["output/bias"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.reshape(targets, [-1]), logits=logits
        )
        return tf.reshape(losses, tf.shape(targets)), carry

    # held-out pages

    def _pages(self) -> Iterable[Ids]:
        limit = self.settings.held_out_characters
        if not limit:
            return self.stream.held_out()
        if self._held_out is None:
            self._held_out = list(_bounded(self.stream.held_out(), limit))
        return self._held_out

    def _group_loss(self, parameters: State, pages: list[Ids]) -> float:
        longest = -(-max(map(len, pages)) // EVALUATION_STEPS) * EVALUATION_STEPS
        lanes = 1 << (len(pages) - 1).bit_length()  # few shapes to compile, few empty lanes
        inputs = np.zeros((longest, lanes), np.int32)
        targets, weights = np.zeros_like(inputs), np.zeros(inputs.shape, np.float32)
        for lane, ids in enumerate(pages):
            inputs[0, lane] = self.alphabet.start
            inputs[1 : len(ids), lane] = ids[:-1]
            targets[: len(ids), lane] = ids
            weights[: len(ids), lane] = 1
        carry = self.network.zero_carry(lanes)
        total = 0.0
        for begin in range(0, longest, EVALUATION_STEPS):
            part = slice(begin, begin + EVALUATION_STEPS)
            losses, carry = self._losses(
                parameters, tf.constant(inputs[part]), tf.constant(targets[part]), carry, None
            )
            total += float((losses.numpy() * weights[part]).sum(dtype=np.float64))
        return total


def _bounded(pages: Iterable[Ids], limit: int) -> Iterator[Ids]:
    """The beginnings of the first pages, `limit` characters in all; no page gives more than a 32nd of them,
    so that no few long pages decide the figure."""
    most = max(limit // 32, 1)
    for ids in pages:
        if not limit:
            return
        piece = ids[: min(most, limit)]
        limit -= len(piece)
        yield piece


def _groups(pages: Iterable[Ids]) -> Iterator[list[Ids]]:
    """The pages in groups of similar length, so that little of a batch is padding; memory stays flat."""
    pages = iter(pages)
    while many := list(itertools.islice(pages, 32 * EVALUATION_LANES)):
        many.sort(key=len)
        for first in range(0, len(many), EVALUATION_LANES):
            yield many[first : first + EVALUATION_LANES]


def _training_texts(corpus: Corpus, limit: int) -> Iterator[str]:
    for shard in range(len(corpus.shards)):
        for text in corpus.shard_texts(shard, "training").texts:
            yield text[:limit]
            limit -= len(text)
            if limit <= 0:
                return
