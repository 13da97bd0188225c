"""Generated text: a published character model, its sampling loop and its scores.

A model is ``model.json`` (alphabet, network) and ``parameters.npz`` (float32 arrays): no pickle, no training
code, readable by anything that reads numpy. A SavedModel of the same loop was as fast and as large and had
to be traced for each number of sequences. The loops over characters run inside graphs that XLA compiles
once for each number of sequences (rounded up to a power of two), so the cost of a character is constant.

How a character is drawn is `trainers.sampling`'s: neither the sequences beside it nor the chunks a text is
made in change it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.folder import FileRecord, Folder
from ingest.tokens import refuse_one
from trainers.characters import Alphabet
from trainers.graphs import by_shape
from trainers.language_settings import KIND
from trainers.model_files import MODEL, PARAMETERS, reading, write_parameters
from trainers.recurrent import Recurrent
from trainers.sampling import Draw, check_sampling, drawn, uniform

FORMAT = 1
CHUNK = 256  # characters a call of the compiled loops; calls of 64 cost a quarter more a character
LANES = 64  # sequences in one call; more are made in parts
SHORT_WINDOW = 50  # characters; that of the reference experiment
WINDOW_LANES = 512  # windows scored at once
CARRY = struct.Struct("<QQII")  # position, seed, first, count
HOTTEST = 1e4  # temperatures above differ from it by less than a float holds


@dataclass(frozen=True)
class Carry:
    """Where sequences stand: everything that the next character depends on besides the model.

    state: float32 [carry_slots, count, units], before `last` was read; last: int32 [count]; position:
    characters generated so far; seed: that of the random streams, of which row i has number `first` + i.
    Plain arrays, so that it can be stored.
    """

    state: npt.NDArray[np.float32]
    last: npt.NDArray[np.int32]
    position: int
    seed: int
    first: int = 0

    @property
    def count(self) -> int:
        return len(self.last)

    def to_bytes(self) -> bytes:
        """All of it in 24 + 4 count + 4 state.size bytes; `CharacterModel.carry` reads them."""
        head = CARRY.pack(self.position, self.seed % 2**64, self.first, self.count)
        return head + self.last.astype("<i4").tobytes() + self.state.astype("<f4").tobytes()


@dataclass(frozen=True)
class Score:
    """What a model thinks of a text: the natural logarithm of each character's probability (float32 [n])."""

    log_probabilities: npt.NDArray[np.float32]

    @property
    def log_probability(self) -> float:
        """Of the whole text; 0 for an empty one."""
        return float(self.log_probabilities.sum(dtype=np.float64))

    @property
    def bits_per_character(self) -> float | None:
        """The mean over characters; None for an empty text."""
        count = len(self.log_probabilities)
        return -self.log_probability / count / math.log(2) if count else None

    @property
    def perplexity(self) -> float | None:
        """Two to the power of the bits a character; None for an empty text."""
        bits = self.bits_per_character
        return None if bits is None else 2.0**bits


class CharacterModel:
    """A character language model, ready to generate and to score.

    `parameters` are those of the network and ``output/kernel`` [units, alphabet.size], ``output/bias``.
    """

    def __init__(self, alphabet: Alphabet, network: Recurrent, parameters: Mapping[str, np.ndarray]) -> None:
        self.alphabet = alphabet
        self.network = network
        self.take(parameters)
        self._window_losses, self._read, self._sample, self._next = (
            by_shape(tf.function(each, jit_compile=True, autograph=False))
            for each in (self._losses, self._read_chunk, self._sample_chunk, self._next_probabilities)
        )

    def take(self, parameters: Mapping[str, Any]) -> None:
        """Other parameters of the same shapes; what is compiled stays."""
        self.parameters = {
            name: tf.constant(parameters[name]) for name in self.shapes(self.alphabet, self.network)
        }

    @staticmethod
    def shapes(alphabet: Alphabet, network: Recurrent) -> dict[str, tuple[int, ...]]:
        """Name -> shape of all parameters, in a fixed order."""
        output = {"output/kernel": (network.outputs, alphabet.size), "output/bias": (alphabet.size,)}
        return network.shapes() | output

    # files

    @classmethod
    def open(cls, location: str | Folder | Artefact) -> CharacterModel:
        """The model of a published artefact. Raises WordloomError where there is none or it is damaged."""
        artefact = location if isinstance(location, Artefact) else Artefact.open(location, KIND)
        return cls.read(artefact.folder)

    @classmethod
    def read(cls, folder: Folder) -> CharacterModel:
        """The model whose files lie in `folder`, published or not."""
        with reading(folder, FORMAT) as files:
            alphabet = Alphabet(files.described["alphabet"])
            network = Recurrent(**files.described["network"])
            return cls(alphabet, network, files.parameters(cls.shapes(alphabet, network)))

    def write(self, folder: Folder) -> dict[str, FileRecord]:
        """Writes ``model.json`` and ``parameters.npz``; the same model gives the same bytes."""
        described = {
            "format": FORMAT,
            "alphabet": self.alphabet.characters,
            "network": dataclasses.asdict(self.network),
        }
        return {
            MODEL: folder.write(MODEL, json.dumps(described, indent=1).encode() + b"\n"),
            PARAMETERS: write_parameters(folder, self.parameters),
        }

    # generating

    def generate(
        self,
        seed_text: str = "",
        length: int = 500,
        *,
        temperature: float = 0.7,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        count: int = 1,
    ) -> list[str]:
        """`count` continuations of `seed_text` (which is not repeated), each of `length` characters.

        See `step` for the sampling. Without a `seed` each call differs.
        """
        chunks = list(
            self.stream(
                seed_text, length, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, count=count
            )
        )
        return ["".join(chunk[row] for chunk in chunks) for row in range(count)]

    def stream(
        self,
        seed_text: str = "",
        length: int = 500,
        *,
        temperature: float = 0.7,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        count: int = 1,
        chunk: int = CHUNK,
    ) -> Iterator[list[str]]:
        """The text of `generate` as it is made: after every `chunk` characters a list of `count` pieces."""
        if length < 0:
            raise UsageError(f"A length of {length} characters cannot be generated; give 0 or more.")
        if chunk < 1:
            raise UsageError(f"Chunks of {chunk} characters cannot be made; give at least 1.")
        check_sampling(temperature, top_k, top_p)
        carry = self.start(seed_text, seed=seed, count=count)
        return self._chunks(carry, length, chunk, temperature, top_k, top_p)

    def _chunks(
        self, carry: Carry, length: int, chunk: int, temperature: float, top_k: int, top_p: float
    ) -> Iterator[list[str]]:
        while length > 0:
            pieces, carry = self.step(
                carry, min(chunk, length), temperature=temperature, top_k=top_k, top_p=top_p
            )
            length -= min(chunk, length)
            yield pieces

    def start(self, seed_text: str = "", *, seed: int | None = None, count: int = 1) -> Carry:
        """The carry of `count` sequences that all begin with `seed_text`.

        An empty seed text is the beginning of a document. Characters that the alphabet lacks are read as the
        unknown one (`alphabet.unknown(seed_text)` counts them). Without a `seed` a random one is taken.
        """
        if count < 1:
            raise UsageError(f"{count} texts cannot be generated; give a count of at least 1.")
        if seed is not None and seed < 0:
            raise UsageError(f"The random seed is {seed}; give 0 or more.")
        ids = self._with_start(seed_text)
        state = np.zeros((self.network.carry_slots, 1, self.network.units), np.float32)
        for first in range(0, len(ids) - 1, CHUNK):
            part = ids[first : first + CHUNK + 1]
            _, state = self._read_ids(part[:, None], state)
        return Carry(
            state=np.repeat(state, count, axis=1),
            last=np.full(count, ids[-1], np.int32),
            position=0,
            seed=secrets.randbits(63) if seed is None else seed,
        )

    def step(
        self, carry: Carry, n: int, *, temperature: float = 0.7, top_k: int = 0, top_p: float = 1.0
    ) -> tuple[list[str], Carry]:
        """The next `n` characters of every sequence, and the carry after them.

        Scores are divided by `temperature` (0: always the most likely character; the first one of equals),
        then only the `top_k` most likely characters are kept (0: all), then of these the fewest whose
        probabilities reach `top_p` (1: all), and one is drawn. The unknown character is never drawn.
        """
        if n < 0:
            raise UsageError(f"{n} characters cannot be generated; give 0 or more.")
        check_sampling(temperature, top_k, top_p)
        if carry.count > LANES:
            return self._step_in_parts(carry, n, temperature=temperature, top_k=top_k, top_p=top_p)
        draw = Draw(temperature, top_k, top_p)
        rows = [(carry.seed, carry.first + row, carry.position) for row in range(carry.count)]
        texts, state, last = self._advance(carry.state, carry.last, rows, n, [draw] * carry.count)
        return texts, dataclasses.replace(carry, state=state, last=last, position=carry.position + n)

    def step_together(
        self, carries: Sequence[Carry], n: int, draws: Sequence[Draw], lanes: int | None = None
    ) -> tuple[list[str], list[Carry]]:
        """The next `n` characters of sequences that have nothing in common, each drawn its own way.

        Every carry holds one sequence; at most LANES of them. The text of each is what `step` would give
        it alone, up to the rounding of a product over more rows. `lanes` is the number of sequences that
        the graph is compiled for (their number, rounded up to a power of two).
        """
        if not 0 < len(carries) <= LANES or any(carry.count != 1 for carry in carries):
            raise UsageError(f"{len(carries)} carries cannot go together; give 1 to {LANES} of one sequence.")
        if n < 0:
            raise UsageError(f"{n} characters cannot be generated; give 0 or more.")
        for draw in draws:
            check_sampling(draw.temperature, draw.top_k, draw.top_p)
        rows = [(carry.seed, carry.first, carry.position) for carry in carries]
        texts, state, last = self._advance(
            np.concatenate([carry.state for carry in carries], axis=1),
            np.concatenate([carry.last for carry in carries]),
            rows,
            n,
            draws,
            lanes,
        )
        after = [
            dataclasses.replace(
                carry,
                state=state[:, row : row + 1],
                last=last[row : row + 1],
                position=carry.position + n,
            )
            for row, carry in enumerate(carries)
        ]
        return texts, after

    def carry(self, data: bytes) -> Carry:
        """The carry that `Carry.to_bytes` wrote. Raises UsageError where it does not fit this model."""
        try:
            position, seed, first, count = CARRY.unpack_from(data)
            last = np.frombuffer(data, "<i4", count, CARRY.size)
            state = np.frombuffer(data, "<f4", offset=CARRY.size + last.nbytes)
            shaped = state.reshape(self.network.carry_slots, count, self.network.units)
            if count < 1 or last.min() < 0 or last.max() > self.alphabet.start:
                raise ValueError("its characters are not in the alphabet")
        except (struct.error, ValueError) as error:
            raise UsageError(f"The state does not fit this model ({error}); start a new text.") from error
        return Carry(shaped.astype(np.float32), last.astype(np.int32), position, seed, first)

    def _advance(
        self,
        state: npt.NDArray[np.float32],
        last: npt.NDArray[np.int32],
        rows: Sequence[tuple[int, int, int]],
        n: int,
        draws: Sequence[Draw],
        lanes: int | None = None,
    ) -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """`n` characters of every row; `rows` are (seed, number of the stream, position)."""
        count = len(rows)
        lanes = _lanes(count) if lanes is None else lanes
        seeds, firsts, positions = (
            _padded(np.array([number % 2**64 for number in each], np.uint64), lanes)
            for each in zip(*rows, strict=True)
        )
        state, last = _padded(state, lanes), _padded(last, lanes)
        temperature = _padded(np.array([min(draw.temperature, HOTTEST) for draw in draws], np.float32), lanes)
        size = self.alphabet.size
        top_k = _padded(np.array([min(draw.top_k or size, size) for draw in draws], np.int32), lanes)
        top_p = _padded(np.array([draw.top_p for draw in draws], np.float32), lanes)
        filtered = any(0 < draw.top_k < size - 1 or draw.top_p < 1 for draw in draws)
        pieces = []
        for begin in range(0, n, CHUNK):
            steps = min(CHUNK, n - begin)
            ids, last, state = self._sample(
                self.parameters,
                tf.constant(last),
                tf.constant(state),
                tf.constant(uniform(seeds, firsts, positions + np.uint64(begin), CHUNK)),
                tf.constant(steps, tf.int32),
                tf.constant(temperature),
                tf.constant(top_k),
                tf.constant(top_p),
                filtered=filtered,
            )
            pieces.append(ids.numpy()[:steps, :count])
        made = np.concatenate(pieces) if pieces else np.zeros((0, count), np.int32)
        texts = [self.alphabet.decode(made[:, row]) for row in range(count)]
        return texts, np.asarray(state)[:, :count], np.asarray(last)[:count]

    def _step_in_parts(self, carry: Carry, n: int, **sampling: Any) -> tuple[list[str], Carry]:
        texts: list[str] = []
        parts: list[Carry] = []
        for low in range(0, carry.count, LANES):
            rows = slice(low, low + LANES)
            part = dataclasses.replace(
                carry, state=carry.state[:, rows], last=carry.last[rows], first=carry.first + low
            )
            made, after = self.step(part, n, **sampling)
            texts.extend(made)
            parts.append(after)
        state = np.concatenate([part.state for part in parts], axis=1)
        last = np.concatenate([part.last for part in parts])
        return texts, dataclasses.replace(carry, state=state, last=last, position=carry.position + n)

    # scoring

    def score(self, text: str) -> Score:
        """The log-probability of every character of `text`, read from a document's beginning.

        Unknown characters are scored as the unknown one.
        """
        return self.scores([text])[0]

    def scores(self, texts: Sequence[str]) -> list[Score]:
        """The same for several texts, read side by side; log-probabilities agree with `score` to 1e-4. Raises
        UsageError for one text in place of a list."""
        refuse_one(texts, "text")
        encoded = [self._with_start(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda each: -len(encoded[each]))
        results: dict[int, Score] = {}
        for first in range(0, len(order), LANES):
            group = order[first : first + LANES]
            longest = len(encoded[group[0]])
            ids = np.zeros((longest, _lanes(len(group))), np.int32)
            for lane, each in enumerate(group):
                ids[: len(encoded[each]), lane] = encoded[each]
            state = np.zeros((self.network.carry_slots, ids.shape[1], self.network.units), np.float32)
            logs = np.zeros((longest - 1, ids.shape[1]), np.float32)
            for begin in range(0, longest - 1, CHUNK):
                part, state = self._read_ids(ids[begin : begin + CHUNK + 1], state)
                logs[begin : begin + len(part)] = part
            for lane, each in enumerate(group):
                results[each] = Score(logs[: len(encoded[each]) - 1, lane].copy())
        return [results[each] for each in range(len(texts))]

    def following(self, text: str) -> npt.NDArray[np.float32]:
        """How likely each character is behind `text`, read from a document's beginning: float32
        [alphabet.size], the unknown one first, at temperature 1."""
        carry = self.start(text, seed=0)
        found = self._next(self.parameters, tf.constant(carry.last), tf.constant(carry.state))
        return np.asarray(found.numpy()[0], np.float32)

    def bits_in_windows(self, documents: Iterable[npt.NDArray[np.int32]], size: int = SHORT_WINDOW) -> float:
        """Bits a character of documents (ids) in windows as the reference cuts them, one behind the other:
        the state begins empty, and a window's first character is read and not predicted. NaN without any."""
        windows = (ids[first : first + size] for ids in documents for first in range(0, len(ids) - 1, size))
        loss, characters = 0.0, 0
        while many := list(itertools.islice(windows, WINDOW_LANES)):
            ids = np.zeros((size, WINDOW_LANES), np.int32)
            weights = np.zeros((size - 1, WINDOW_LANES), np.float32)
            for lane, window in enumerate(many):
                ids[: len(window), lane] = window
                weights[: len(window) - 1, lane] = 1
            losses = self._window_losses(self.parameters, tf.constant(ids)).numpy()
            loss += float((losses * weights).sum(dtype=np.float64))
            characters += int(weights.sum())
        return loss / characters / math.log(2) if characters else math.nan

    def _with_start(self, text: str) -> npt.NDArray[np.int32]:
        return np.concatenate([np.array([self.alphabet.start], np.int32), self.alphabet.encode(text)])

    def _read_ids(
        self, ids: npt.NDArray[np.int32], state: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Reads ids[:-1] (at most CHUNK): the log-probabilities of ids[1:], and the state before the last."""
        steps = len(ids) - 1
        padded = np.zeros((CHUNK + 1, ids.shape[1]), np.int32)
        padded[: len(ids)] = ids
        logs, after = self._read(
            self.parameters, tf.constant(padded), tf.constant(state), tf.constant(steps, tf.int32)
        )
        return logs.numpy()[:steps], after.numpy()

    # the compiled loops

    def _losses(self, parameters: Mapping[str, tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
        """The loss in nats of ids[1:], each from those before it and an empty state."""
        outputs, _ = self.network.read(parameters, ids[:-1])
        logits = outputs @ parameters["output/kernel"] + parameters["output/bias"]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(ids[1:], logits)

    def _logits(
        self, parameters: Mapping[str, tf.Tensor], prepared: list, ids: tf.Tensor, state: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        outputs, state = self.network.step(parameters, prepared, ids, state)
        return outputs @ parameters["output/kernel"] + parameters["output/bias"], state

    def _next_probabilities(
        self, parameters: Mapping[str, tf.Tensor], last: tf.Tensor, state: tf.Tensor
    ) -> tf.Tensor:
        logits, _ = self._logits(parameters, self.network.prepared(parameters), last, state)
        return tf.nn.softmax(logits)

    def _read_chunk(
        self, parameters: Mapping[str, tf.Tensor], ids: tf.Tensor, state: tf.Tensor, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        prepared = self.network.prepared(parameters)
        logs = tf.TensorArray(tf.float32, size=CHUNK, element_shape=[ids.shape[1]])

        def body(t: tf.Tensor, state: tf.Tensor, logs: tf.TensorArray) -> tuple:
            logits, state = self._logits(parameters, prepared, ids[t], state)
            found = tf.gather(tf.nn.log_softmax(logits), ids[t + 1], batch_dims=1)
            return t + 1, state, logs.write(t, found)

        _, state, logs = tf.while_loop(
            lambda t, *_: t < steps, body, (tf.constant(0), state, logs), maximum_iterations=CHUNK
        )
        return logs.stack(), state

    def _sample_chunk(
        self,
        parameters: Mapping[str, tf.Tensor],
        last: tf.Tensor,
        state: tf.Tensor,
        random: tf.Tensor,
        steps: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        *,
        filtered: bool,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        prepared = self.network.prepared(parameters)
        made = tf.TensorArray(tf.int32, size=CHUNK, element_shape=last.shape)

        def body(t: tf.Tensor, last: tf.Tensor, state: tf.Tensor, made: tf.TensorArray) -> tuple:
            logits, state = self._logits(parameters, prepared, last, state)
            known = logits[:, 1:]  # without the unknown character
            cold = tf.argmax(known, axis=-1, output_type=tf.int32)
            warm = drawn(known, random[t], temperature, (top_k, top_p) if filtered else None)
            last = tf.where(temperature > 0, warm, cold) + 1
            return t + 1, last, state, made.write(t, last)

        _, last, state, made = tf.while_loop(
            lambda t, *_: t < steps, body, (tf.constant(0), last, state, made), maximum_iterations=CHUNK
        )
        return made.stack(), last, state


def _lanes(count: int) -> int:
    """The number of sequences that a graph is compiled for: a power of two."""
    return 1 << (count - 1).bit_length()


def _padded(values: np.ndarray, lanes: int) -> np.ndarray:
    """More sequences beside those given (the last axis but the units'), which nobody reads."""
    axis = 0 if values.ndim == 1 else 1
    widths = [(0, lanes - values.shape[axis] if each == axis else 0) for each in range(values.ndim)]
    return np.pad(values, widths)
