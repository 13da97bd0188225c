"""The skip-gram learner: word embeddings under the training loop, with either loss."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from trainers.embeddings import (
    UNKNOWN,
    Centres,
    Doubles,
    EmbeddingsSettings,
    Floats,
    Sampler,
    draw,
    held_out_pairs,
)
from trainers.group import Group
from trainers.loop import Arrays, History
from trainers.negative_sampling import NegativeSampling
from trainers.similarity import agreement, read_judgements
from trainers.stream import Block, Stream
from trainers.vectors import ROWS, WordVectors, whitening, write_vectors
from trainers.word_map import write_map

LOG = logging.getLogger(__name__)

Prepared = tuple[tuple[np.ndarray, ...], npt.NDArray[np.float64]]

# Steps a call of the compiled function. What a call costs beside them is done more rarely: 1,024 a call train
# 3 to 4 % faster than 256 (30,000 words by 100).
CALL_STEPS = 1024
CACHED = 1 << 17  # float32 numbers, 512 kB: what a core's second cache holds
EVALUATED_ROWS = 600_000  # output rows that an evaluation scores


class Objective(Protocol):
    """A loss: its variables, its steps."""

    keep: Floats  # float32 [V]: with which probability each occurrence of a word is kept
    noise: Doubles  # float64 [V]: what negatives are drawn from when the held-out loss is taken
    negatives: int  # how many a pair, then
    whole_windows: bool  # pairs are weighted by their chance, in place of radii drawn

    def initial(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """All variables before the first step; "input" and "output" are the tables, float32 [V, d]."""

    def prepare(self, drawn: Centres, random: np.random.Generator) -> Prepared:
        """A block's steps as arrays (first dimension: steps) and how far in the block each is (0 to 1)."""

    def run(self, variables: Mapping[str, tf.Variable], count: Any, rates: Any, *arrays: Any) -> Any:
        """The first `count` steps, at these rates; changes the variables. The summed loss of each step,
        float64 [capacity]."""

    def settle(self, variables: Mapping[str, tf.Variable]) -> None:
        """Does what is owed to rows whose updates were put off."""

    def bias(self, arrays: Mapping[str, np.ndarray]) -> Floats:
        """float32 [V]: what is added to the score of each word before the held-out loss is taken."""


@dataclass
class State:
    """The variables, and what they were at the last exchange (None where one worker trains alone)."""

    variables: dict[str, tf.Variable]
    base: Arrays | None

    def arrays(self) -> Arrays:
        return {name: variable.numpy().copy() for name, variable in self.variables.items()}


class SkipGram:
    """Skip-gram embeddings of a vocabulary: `words` [V] with `counts` int64 [V], ``<unk>`` at 0."""

    synchronous = False

    def __init__(
        self, stream: Stream, words: Sequence[str], counts: npt.ArrayLike, settings: EmbeddingsSettings
    ) -> None:
        """Raises WordloomError where `settings.judged_pairs` names no such file."""
        self.stream = stream
        self.words = list(words)
        self.counts = np.asarray(counts, np.int64)
        self.settings = settings
        self.blocks_per_exchange = settings.blocks_per_exchange
        self.group: Group | None = None  # not told yet: arrays to load stay their giver's
        objective: Any = NegativeSampling
        if settings.loss == "nce":
            from trainers.noise_contrastive import NoiseContrastive  # with numba, which takes 60 MB

            objective = NoiseContrastive
        self.objective: Objective = objective(self.counts, settings)
        self._xla = settings.xla
        self._compiled: Any = None
        self._judged = read_judgements(settings.judged_pairs) if settings.judged_pairs else []
        self._held_out: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    # the loop's contract

    def initial(self) -> State:
        return self.load(self.objective.initial(np.random.default_rng([self.settings.seed, 0])))

    def load(self, arrays: Arrays) -> State:
        if self.group and self.group.size == 1:
            # Each array goes as its variable comes: they may fill most of the memory.
            return State({name: tf.Variable(arrays.pop(name), name=name) for name in list(arrays)}, None)
        # tf.Variable may take over numpy's memory, and the base must not change with it.
        variables = {
            name: tf.Variable(tf.raw_ops.DeepCopy(x=array), name=name) for name, array in arrays.items()
        }
        return State(variables, dict(arrays))

    def save(self, state: State) -> Arrays:
        return state.arrays()

    def run(self, state: State, blocks: Iterable[Block], total_blocks: int) -> tuple[State, dict[str, float]]:
        metrics = dict.fromkeys(
            ("loss_sum", "loss_weight", "tokens", "tokens_trained", "tokens_unknown", "tokens_subsampled"),
            0.0,
        )
        for count, rates, arrays in self._calls(blocks, total_blocks, metrics):
            losses = self._call(state, count, rates, arrays)
            metrics["loss_sum"] += float(np.sum(np.asarray(losses)[:count], dtype=np.float64))
        return state, metrics

    def exchange(self, state: State, group: Group, weight: float) -> State:
        """Makes the workers' tables one; see `combined`. Slots are averaged by `weight`."""
        self.objective.settle(state.variables)
        if group.size == 1:
            state.base = None
            return state
        if state.base is None:
            raise AssertionError("the state is that of a worker who trained alone")
        for name, variable in state.variables.items():
            new = np.asarray(variable.read_value())  # not a copy, as numpy() is
            if name in ("input", "output", "bias"):
                new = combined(state.base[name], new, group)
            else:
                new = group.sum([new * np.asarray(weight, new.dtype)])[0]
            variable.assign(new)
            state.base[name] = new
        return state

    def evaluate(self, state: State) -> dict[str, float]:
        """``held_out_loss`` (nats a pair: one positive and its negatives) and ``held_out_auc``, the chance
        that a pair of the text scores above a pair with a negative. Pairs and negatives are a fixed sample.
        NaN where nothing is held out. With `settings.judged_pairs` also ``held_out_similarity``, Spearman's
        correlation with people's judgements."""
        return {**self._on_pages(state), **self._on_judgements(state)}

    def _on_judgements(self, state: State) -> dict[str, float]:
        if not self._judged:
            return {}
        spelt = {
            each
            for first, second, _ in self._judged
            for word in (first, second)
            for each in (word, word.lower())
        }
        rows = [row for row, word in enumerate(self.words) if word in spelt]
        judged = WordVectors([self.words[row] for row in rows], self.vectors(state)[rows])
        return {"held_out_similarity": agreement(judged, self._judged).correlation}

    def _on_pages(self, state: State) -> dict[str, float]:
        if self._held_out is None:
            sampler = Sampler(self.objective.noise)
            limit = EVALUATED_ROWS // (1 + self.objective.negatives)
            self._held_out = held_out_pairs(
                self.stream.held_out(),
                self.objective.keep,
                self.settings.window,
                self.objective.negatives,
                sampler,
                limit,
                self.settings.seed,
            )
        centres, contexts, negatives = self._held_out
        if not len(centres):
            return {"held_out_loss": float("nan"), "held_out_auc": float("nan")}
        arrays = {name: np.asarray(variable) for name, variable in state.variables.items()}
        bias = self.objective.bias(arrays)
        positive = np.empty(len(centres))
        negative = np.empty(negatives.shape)
        for start in range(0, len(centres), 4096):
            part = slice(start, start + 4096)
            x = arrays["input"][centres[part]]
            y, z = arrays["output"][contexts[part]], arrays["output"][negatives[part]]
            positive[part] = np.einsum("nd,nd->n", x, y) + bias[contexts[part]]
            negative[part] = np.matmul(z, x[:, :, None])[:, :, 0] + bias[negatives[part]]
        loss = np.logaddexp(0.0, -positive).sum() + np.logaddexp(0.0, negative).sum()
        return {
            "held_out_loss": float(loss / len(centres)),
            "held_out_auc": area_under_curve(positive, negative.ravel()),
        }

    def vectors(self, state: State) -> Floats:
        """float32 [V, d]: what is published, the input vectors, evened out by `settings.whitening`. `<unk>`,
        where it was not trained, gets the mean of the others."""
        table = state.variables["input"].numpy().copy()
        trained = slice(0 if self.settings.unknown else UNKNOWN + 1, None)
        if self.settings.whitening:
            # By the square root of their counts: neither some hundred commonest words alone nor the mass of
            # rare ones, whose vectors have hardly left their beginning, say which directions are strong.
            turn = whitening(table[trained], np.sqrt(self.counts[trained]), self.settings.whitening)
            for at in range(0, len(table), ROWS):
                table[at : at + ROWS] = table[at : at + ROWS] @ turn
        if not self.settings.unknown and len(table) > 1:
            table[UNKNOWN] = table[trained].mean(0, dtype=np.float64)
        return table

    def publish(
        self, state: State, folder: Folder, history: History
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        """The vectors, and a map of the commonest words. Raises WordloomError where no pair of words was
        trained, or `<unk>` alone: the vectors are those that the training began with."""
        if history and all(entry["loss"] is None for entry in history):
            of = history[0]
            raise WordloomError(
                f"No two words of the corpus were trained together ({of['tokens']:,.0f} tokens: "
                f"{of['tokens_unknown']:,.0f} not in the vocabulary, {of['tokens_subsampled']:,.0f} thinned "
                "out); give the corpus' own vocabulary, longer documents or a larger embeddings.subsample."
            )
        self._refuse_unknown_alone()
        vectors = self.vectors(state)
        files = write_vectors(folder, vectors, self.words, self.counts)
        files |= write_map(folder, WordVectors(self.words, vectors, self.counts))
        counts: dict[str, Any] = {"words": len(vectors), "vector_size": vectors.shape[1]}
        if history:
            for key in ("held_out_loss", "held_out_auc", "held_out_similarity"):
                if key in history[-1]:
                    counts[key] = history[-1][key]
        return counts, files

    def _refuse_unknown_alone(self) -> None:
        """Raises WordloomError where `<unk>` is trained and the corpus holds no other word. Most first blocks
        hold one, so that few are read."""
        blocks = map(self.stream.block, range(self.stream.blocks_per_epoch))
        if self.settings.unknown and not any(np.any(block.values != UNKNOWN) for block in blocks):
            raise WordloomError(
                f"None of the corpus' {self.stream.units_per_epoch:,} tokens is in the vocabulary, so <unk> "
                "alone was trained, with itself; give the corpus' own vocabulary."
            )

    # steps

    def _calls(
        self, blocks: Iterable[Block], total_blocks: int, metrics: dict[str, float]
    ) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
        """The steps of `blocks` in calls of at most CALL_STEPS: their number, rates and arrays. Arrays
        always have CALL_STEPS rows, so that one compiled function serves all calls of the same shapes."""
        waiting: list[tuple[np.ndarray, ...]] = []
        ready = 0
        for block in blocks:
            arrays = self._prepared(block, total_blocks, metrics)
            if waiting and [each.shape[1:] for each in arrays] != [each.shape[1:] for each in waiting[0]]:
                yield self._padded(waiting, ready)
                waiting, ready = [], 0
            waiting.append(arrays)
            ready += len(arrays[0])
            if ready >= CALL_STEPS:
                whole = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
                for start in range(0, ready - CALL_STEPS + 1, CALL_STEPS):
                    part = [array[start : start + CALL_STEPS] for array in whole]
                    yield CALL_STEPS, part[0], part[1:]
                ready %= CALL_STEPS
                waiting = [tuple(array[len(array) - ready :] for array in whole)]
        if ready:
            yield self._padded(waiting, ready)

    def _padded(
        self, waiting: list[tuple[np.ndarray, ...]], ready: int
    ) -> tuple[int, np.ndarray, list[np.ndarray]]:
        whole = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
        rates, *arrays = (
            np.concatenate([array, np.zeros((CALL_STEPS - ready, *array.shape[1:]), array.dtype)])
            for array in whole
        )
        return ready, rates, arrays

    def _prepared(self, block: Block, total_blocks: int, metrics: dict[str, float]) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng([self.settings.seed, 1, block.index])
        window, whole = self.settings.window, self.objective.whole_windows
        drawn = draw(block, self.objective.keep, window, random, whole)
        arrays, places = self.objective.prepare(drawn, random)
        rates = [self.settings.learning_rate_at((block.index + place) / total_blocks) for place in places]
        unknown = 0
        if not self.settings.unknown:
            unknown = int(np.count_nonzero(block.values[block.start : block.stop] == UNKNOWN))
        metrics["loss_weight"] += drawn.expected_pairs(window) if whole else drawn.pairs
        metrics["tokens"] += len(block)
        metrics["tokens_trained"] += len(drawn)
        metrics["tokens_unknown"] += unknown
        metrics["tokens_subsampled"] += len(block) - len(drawn) - unknown
        return (np.array(rates, np.float32), *arrays)

    def _call(self, state: State, count: int, rates: np.ndarray, arrays: list[np.ndarray]) -> Any:
        if self._compiled is None:
            self._compiled = _compiled(self.objective, state.variables, self._xla)
        given = [tf.constant(count, tf.int32), tf.constant(rates), *(tf.constant(array) for array in arrays)]
        try:
            return self._compiled(state.variables, *given)
        except (
            tf.errors.UnimplementedError,
            tf.errors.NotFoundError,
            tf.errors.InvalidArgumentError,
        ) as error:
            if not self._xla:
                raise
            # Compiling fails before anything has run, so the variables are as they were.
            LOG.warning("XLA is not to be had here (%s); training goes on uncompiled.", _first_line(error))
            self._xla, self._compiled = False, None
            return self._call(state, count, rates, arrays)


def _compiled(objective: Objective, variables: Mapping[str, tf.Variable], xla: bool) -> Any:
    def run(variables: dict[str, tf.Variable], count: Any, rates: Any, *arrays: Any) -> Any:
        return objective.run(variables, count, rates, *arrays)

    return tf.function(run, jit_compile=True if xla else None, autograph=False)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def combined(base: np.ndarray, new: np.ndarray, group: Group) -> np.ndarray:
    """One table out of the workers' tables `new`, which all began as `base` ([V, ...]).

    Row by row: the sum of the workers' changes, times ``sum |change|^2 / |sum change|^2`` within 1 / (workers
    that changed the row) and 1. Changes at right angles add up, as if made one after the other; equal ones
    are averaged, for each worker has gone the whole way (the idea of Adasum, arXiv:2006.02924, by sums
    alone). Between machines only rows that some worker changed are sent.
    """
    flat, before = new.reshape(len(new), -1), base.reshape(len(base), -1)

    def lay(rows: slice, own: np.ndarray) -> None:
        np.subtract(flat[rows], before[rows], out=own)

    def merge(rows: slice, changes: np.ndarray) -> None:
        _merge(before[rows], changes)

    if (table := group.merged(flat.shape, flat.dtype, lay, merge)) is not None:
        return table.reshape(new.shape)
    change = flat - before
    own = np.einsum("rd,rd->r", change, change)
    workers = group.sum([(own > 0).astype(np.int32)])[0]
    rows = np.flatnonzero(workers)
    if all_rows := 2 * len(rows) > len(workers):  # picking most of the rows costs more than sending all
        workers = np.maximum(workers, 1)
    else:
        change, own, workers = change[rows], own[rows], workers[rows]
    total, squares = group.sum([change, own])
    # Into an array of our own: what a collective gives back may not be written to.
    np.multiply(total, _shares(total, squares, workers)[:, None], out=change)
    if all_rows:
        change += before
        return change.reshape(new.shape)
    result = before.copy()
    result[rows] += change
    return result.reshape(new.shape)


def _merge(before: np.ndarray, changes: np.ndarray) -> None:
    """Rows of a table and what is taken of the `changes` of all workers, [size, rows, d], added up in place
    of the first's changes; as many rows at a time as stay in the processor's own cache."""
    step = max(1, CACHED // (len(changes) * changes.shape[2]))
    for begin in range(0, len(before), step):
        part = slice(begin, begin + step)
        here = changes[:, part]
        own = np.einsum("wrd,wrd->wr", here, here)
        total = here.sum(0)
        workers = np.maximum(np.count_nonzero(own, 0), 1)
        total *= _shares(total, own.sum(0), workers)[:, None]
        np.add(total, before[part], out=changes[0, part])


def _shares(total: np.ndarray, squares: np.ndarray, workers: np.ndarray) -> np.ndarray:
    """What is taken of each row of the summed changes; see `combined`."""
    length = np.maximum(np.einsum("rd,rd->r", total, total), np.float32(1e-30))
    return np.clip(squares / length, 1.0 / workers, 1.0).astype(total.dtype)


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a random value of `positive` lies above one of `negative`; ties count half."""
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / len(negative)) if len(positive) and len(negative) else float("nan")
