"""The one training loop. It knows no model, no TensorFlow and no Ray.

The position of a training is one integer: the number of blocks done. An *interval* is
`blocks_per_exchange` blocks, or what is left of the epoch; each worker does a contiguous share of it, then
all exchange. Workers of a *synchronous* learner do all blocks together, each some rows of every batch.
Between intervals all workers hold the same state, so a checkpoint there is whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cluster import report
from cluster.artefact import Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import FileRecord, Folder
from cluster.progress import thinned
from trainers import model_report
from trainers.checkpoint import Checkpoints, DamagedError
from trainers.curves import POINTS, write_curves
from trainers.group import Group, PeerError, PeerFailedError, agree, end_together, first
from trainers.model_report import CURVE, HISTORY
from trainers.stream import Block, Prefetched, Stream

CHECKPOINTS = "checkpoints"
# What the time goes to, as the manifest's ``made.phases`` and the report say it.
TRAINING, EXCHANGE, EVALUATION = "training", "exchange between workers", "evaluation"
CHECKPOINT, PUBLISHING = "checkpoints", "publishing"

State = Any  # opaque to the loop: whatever the learner trains (weights, optimiser slots)
Arrays = dict[str, npt.NDArray[Any]]
History = list[dict[str, Any]]


class Learner(Protocol):
    """A model that the loop can train.

    All randomness is a pure function of the seed and ``block.index``; all schedules are functions of
    ``block.index / total_blocks``. So the position alone decides what comes next. A state that was handed
    to `run`, `exchange` or `load` may be changed in place: only what is returned is used afterwards.
    """

    stream: Stream
    blocks_per_exchange: int  # independent of the number of workers; an interval should take seconds
    synchronous: bool  # the workers add up the gradients of every batch, else each trains blocks of its own
    group: Group  # those who train together; the loop says so before it asks for a state

    def initial(self) -> State:
        """The state before the first block; the same on every worker."""

    def run(
        self, state: State, blocks: Iterable[Block], total_blocks: int
    ) -> tuple[State, Mapping[str, float]]:
        """Trains on all of `blocks` (at least one), in order. `total_blocks` are those of all epochs.
        Workers of a synchronous learner get the same blocks, and each counts its own rows in the metrics.

        Metrics are sums and weights, always the same keys: ``loss_sum`` and ``loss_weight`` (the loss shown
        is their quotient), likewise ``NAME_sum`` / ``NAME_weight`` for other means; any other key is a
        count that is added up.
        """

    def exchange(self, state: State, group: Group, weight: float) -> State:
        """Makes all workers' states one; called after every interval, by a group of one too.

        `weight` is the share of the interval's blocks that this worker trained. Unless the learner is
        synchronous, the weights of all workers sum to 1, and a worker without a block has 0.
        """

    def evaluate(self, state: State) -> Mapping[str, float | str]:
        """Figures on held-out pages, with ``held_out_loss`` (nats a unit, lower is better; NaN where nothing
        is held out); a string is kept in the history as it is. Leaves the state as it is. Every worker
        evaluates, worker 0's figures count."""

    def save(self, state: State) -> Arrays:
        """All that goes into a checkpoint, as arrays without objects; names may hold ``/``."""

    def load(self, arrays: Arrays) -> State:
        """The state that `save` was given, bit for bit."""

    def publish(
        self, state: State, folder: Folder, history: History
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        """Writes the served model into `folder` (no pickle): the artefact's counts and files.

        ``history.json``, ``curve.json`` and pictures of both are written by the loop's side for every model.
        """


@dataclass(frozen=True)
class LoopSettings:
    """How long to train, and what is kept.

    `epochs`: passes over the stream. `patience`: epochs without a better held-out loss after which
    training stops (0: never). `publish`: which weights become the model, ``"best"`` (lowest held-out loss)
    or ``"latest"``. `checkpoint_seconds`: the time between two checkpoints within an epoch; it changes
    nothing that is computed.
    """

    epochs: int = 1
    patience: int = 0
    publish: str = "latest"
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"Setting 'epochs' is {self.epochs}; give at least 1.")
        if self.patience < 0:
            raise UsageError(f"Setting 'patience' is {self.patience}; give 0 (never stop early) or more.")
        if self.publish not in ("best", "latest"):
            raise UsageError(f"Setting 'publish' is {self.publish!r}; choose best or latest.")


@dataclass(frozen=True)
class Progress:
    """Where a training stands after an interval; figures over all workers."""

    position: int  # blocks done, of total
    total: int
    units: float  # tokens or characters done, of total_units; estimated from the position
    total_units: float
    unit: str
    epoch: int  # from 1
    loss: float | None  # mean over the interval; None where nothing was predicted
    held_out_loss: float | None  # after the last finished epoch
    exchange_seconds: float


class Listener(Protocol):
    """Who wants to know how a training goes; only worker 0 tells."""

    def progress(self, now: Progress) -> bool:
        """Called after every interval; true asks the training to make a checkpoint and stop."""

    def say(self, sentence: str) -> None:
        """A sentence for the person: what was found damaged, where training goes on."""


class StoppedError(Exception):
    """The training stopped because it was asked to; the checkpoint of that position is written."""


@dataclass
class _Run:
    """Where a run stands: all of it goes into checkpoints."""

    position: int = 0
    history: History = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)  # position and loss of each interval
    sums: dict[str, float] = field(default_factory=dict)  # the metrics of this epoch so far
    seconds: float = 0.0  # of training, over all restarts
    phases: dict[str, float] = field(default_factory=dict)  # ... and what they went to on worker 0

    def notes(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "curve": self.curve,
            "sums": self.sums,
            "seconds": self.seconds,
            "phases": self.phases,
        }

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the seconds of what is done within to those of `name`."""
        began = time.monotonic()
        yield
        self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - began


@dataclass(frozen=True)
class Outcome:
    """What a training ended with: the state to publish; the history, one entry an epoch; position and loss of
    its intervals; the seconds that went to each phase on worker 0."""

    state: State
    history: History
    position: int
    curve: list[list[float]]
    phases: dict[str, float] = field(default_factory=dict)


def train(
    learner: Learner, folder: Folder, group: Group, settings: LoopSettings, listener: Listener
) -> Outcome:
    """Trains until the last epoch or until patience ends; goes on from the checkpoints in `folder`.

    Raises WordloomError where a loss or a weight is no longer finite; the last checkpoint, which is
    finite, stays.
    """
    stream = learner.stream
    learner.group = group
    checkpoints = Checkpoints(folder)
    total = stream.blocks_per_epoch * settings.epochs
    state, run = _resumed(learner, checkpoints, group, listener if group.rank == 0 else None, total)
    keys: list[str] | None = None
    asked = False  # worker 0 was asked to stop
    began, saved = time.monotonic() - run.seconds, time.monotonic()
    plan = list(_intervals(run.position, total, stream.blocks_per_epoch, learner.blocks_per_exchange))
    rank, size = (0, 1) if learner.synchronous else (group.rank, group.size)
    mine = (index for interval in plan for index in share(interval, rank, size))
    with Prefetched(stream, mine) as blocks:
        for interval in plan:
            if _stopped(run, stream.blocks_per_epoch, settings):
                break
            blocks_here = len(share(interval, rank, size))
            metrics: Mapping[str, float] = {}
            failure: Exception | None = None
            try:
                if blocks_here:
                    with run.phase(TRAINING):
                        state, metrics = _run(learner, state, blocks, blocks_here, total)
            except PeerError as error:
                if not isinstance(error, PeerFailedError):
                    raise  # nobody would answer
                failure = error
            except Exception as error:  # raised below, once the others know
                failure = error
            end_together(group, failure)
            exchanging = time.monotonic()
            state = learner.exchange(state, group, blocks_here / len(interval))
            keys = keys or agree(group, sorted(metrics))
            due = time.monotonic() - saved >= settings.checkpoint_seconds
            sums, due, stop = _summed(group, keys, metrics, due, asked)
            exchanged = time.monotonic() - exchanging
            run.phases[EXCHANGE] = run.phases.get(EXCHANGE, 0.0) + exchanged
            run.position, run.seconds = interval.stop, time.monotonic() - began
            loss = mean(sums, "loss")
            _check_finite(loss, "loss", run.position, total, checkpoints)
            if loss is not None:
                run.curve = thinned([*run.curve, [run.position, loss]], POINTS)
            run.sums = {key: run.sums.get(key, 0.0) + value for key, value in sums.items()}
            if ends_epoch := run.position % stream.blocks_per_epoch == 0:
                with run.phase(EVALUATION):
                    figures = agree(group, _measured(learner.evaluate(state)))
                _check_finite(figures["held_out_loss"], "held-out loss", run.position, total, checkpoints)
                run.seconds = time.monotonic() - began
                run.history.append(_entry(run, stream.blocks_per_epoch, figures))
                run.sums = {}
            if ends_epoch or due or stop:
                keep = best_position(run.history) if settings.publish == "best" else None
                with run.phase(CHECKPOINT):
                    _save(learner, state, run, group, checkpoints, keep, total)
                saved = time.monotonic()
            if group.rank == 0:
                asked = listener.progress(_progress(run, stream, total, loss, exchanged))
            if stop and run.position < total:
                raise StoppedError(f"stopped at block {run.position} of {total}")
    if settings.publish == "best":
        last = state
        best = first(group, lambda: _best(learner, last, run, checkpoints, listener))
        state = best if group.rank == 0 else last
    return Outcome(state, run.history, run.position, run.curve, run.phases)


def produce(
    learner: Learner, draft: Draft, group: Group, settings: LoopSettings, listener: Listener
) -> Outcome:
    """Trains and publishes: afterwards the draft's folder is the artefact. ``history.json`` (a figure an
    epoch), ``curve.json`` (``[position, loss]`` an interval) and their pictures join the files.

    The checkpoints lie in ``making/checkpoints``, so they go when the artefact is published. Then its report
    is written beside it; where that fails the model is there all the same.
    """
    outcome = train(learner, draft.making.child(CHECKPOINTS), group, settings, listener)

    def publish() -> None:
        began = time.monotonic()
        counts, files = learner.publish(outcome.state, draft.folder, outcome.history)
        files = {
            **files,
            HISTORY: draft.folder.write_json(HISTORY, outcome.history),
            CURVE: draft.folder.write_json(CURVE, outcome.curve),
            **write_curves(draft.folder, outcome.curve, outcome.history, draft.kind.replace("-", " ")),
        }
        trained = {"epochs": len(outcome.history), "blocks": outcome.position}
        phases = {**outcome.phases, PUBLISHING: time.monotonic() - began}
        told = {"phases": {name: round(seconds, 3) for name, seconds in phases.items()}}
        made = draft.publish({**trained, **counts}, files, told)
        if (failed := report.attempt(made, model_report.KINDS)) is not None:
            listener.say(failed)

    first(group, publish)
    return outcome


def share(interval: range, rank: int, size: int) -> range:
    """The part of an interval's blocks that worker `rank` of `size` does: contiguous, the first workers'
    parts one block longer where it does not come out even."""
    each, more = divmod(len(interval), size)
    start = interval.start + rank * each + min(rank, more)
    return range(start, start + each + (rank < more))


def mean(sums: Mapping[str, float], name: str) -> float | None:
    """``NAME_sum / NAME_weight``; None where nothing was weighed."""
    weight = sums[f"{name}_weight"]
    return sums[f"{name}_sum"] / weight if weight else None


def best_position(history: History) -> int | None:
    """The position of the epoch with the lowest held-out loss, the earliest of equals; None without one."""
    measured = [entry for entry in history if entry["held_out_loss"] is not None]
    if not measured:
        return None
    return int(min(measured, key=lambda entry: entry["held_out_loss"])["position"])


def _intervals(position: int, total: int, per_epoch: int, per_exchange: int) -> Iterator[range]:
    while position < total:
        epoch_end = (position // per_epoch + 1) * per_epoch
        end = min(position + per_exchange, epoch_end, total)
        yield range(position, end)
        position = end


def _run(
    learner: Learner, state: State, blocks: Iterator[Block], size: int, total: int
) -> tuple[State, Mapping[str, float]]:
    mine = islice(blocks, size)
    state, metrics = learner.run(state, mine, total)
    if next(mine, None) is not None:
        raise RuntimeError(f"{type(learner).__name__}.run left blocks of its interval untouched")
    return state, metrics


def _summed(
    group: Group, keys: list[str], metrics: Mapping[str, float], due: bool, asked: bool
) -> tuple[dict[str, float], bool, bool]:
    """The metrics over all workers; whether worker 0's clock calls for a checkpoint, or its person for a
    stop."""
    if unknown := set(metrics) - set(keys):
        raise RuntimeError(f"the metrics {sorted(unknown)} were not there in the first interval")
    flags = (float(flag and group.rank == 0) for flag in (due, asked))
    mine = [*(float(metrics.get(key, 0.0)) for key in keys), *flags]
    summed = np.asarray(group.sum([np.array(mine, np.float64)])[0])
    return dict(zip(keys, summed[:-2].tolist(), strict=True)), bool(summed[-2]), bool(summed[-1])


def _resumed(
    learner: Learner, checkpoints: Checkpoints, group: Group, listener: Listener | None, total: int
) -> tuple[State, _Run]:
    found = first(group, checkpoints.latest)
    position = agree(group, found.position if found else None)
    if listener is not None:
        for warning in checkpoints.warnings:
            listener.say(warning)
        if position is not None:
            listener.say(f"Training goes on at block {position} of {total}.")
    if position is None:
        return learner.initial(), _Run()

    def load() -> tuple[State, _Run]:
        here = found or checkpoints.load(position)
        return learner.load(here.arrays), _Run(position, **here.notes)

    return group.each(load)


def _save(
    learner: Learner,
    state: State,
    run: _Run,
    group: Group,
    checkpoints: Checkpoints,
    keep: int | None,
    total: int,
) -> None:
    """Worker 0 writes a checkpoint, unless a weight is no longer finite: then all raise."""
    arrays = learner.save(state) if group.rank == 0 else {}
    bad = [
        name
        for name, array in sorted(arrays.items())
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if bad := agree(group, bad):
        raise _diverged(f"{bad[0]!r} holds values that are not finite", run.position, total, checkpoints)
    first(group, lambda: checkpoints.save(run.position, arrays, run.notes(), keep))


def _best(learner: Learner, state: State, run: _Run, checkpoints: Checkpoints, listener: Listener) -> State:
    best = best_position(run.history)
    if best is None or best == run.position:
        return state
    try:
        return learner.load(checkpoints.load(best).arrays)
    except DamagedError as error:
        listener.say(f"{str(error)[:-1]}; the latest weights are published in place of the best.")
        return state


def _stopped(run: _Run, per_epoch: int, settings: LoopSettings) -> bool:
    best = best_position(run.history)
    if not settings.patience or best is None or run.position % per_epoch:
        return False
    return (run.position - best) // per_epoch >= settings.patience


def _entry(run: _Run, per_epoch: int, figures: Mapping[str, Any]) -> dict[str, Any]:
    means = {name[: -len("_sum")] for name in run.sums if name.endswith("_sum")}
    return {
        "epoch": run.position // per_epoch,
        "position": run.position,
        "seconds": round(run.seconds, 3),
        **{name: mean(run.sums, name) for name in sorted(means)},
        **{name: value for name, value in run.sums.items() if not name.endswith(("_sum", "_weight"))},
        **figures,
    }


def _measured(figures: Mapping[str, float | str]) -> dict[str, Any]:
    """The figures, None in place of NaN: what nothing was held out for."""
    return {
        name: value if isinstance(value, str) else None if math.isnan(value) else float(value)
        for name, value in figures.items()
    }


def _progress(run: _Run, stream: Stream, total: int, loss: float | None, exchanged: float) -> Progress:
    total_units = stream.units_per_epoch * total / stream.blocks_per_epoch
    return Progress(
        position=run.position,
        total=total,
        units=total_units * run.position / total,
        total_units=total_units,
        unit=stream.unit,
        epoch=-(-run.position // stream.blocks_per_epoch),
        loss=loss,
        held_out_loss=run.history[-1]["held_out_loss"] if run.history else None,
        exchange_seconds=exchanged,
    )


def _check_finite(
    value: float | None, name: str, position: int, total: int, checkpoints: Checkpoints
) -> None:
    if value is not None and not math.isfinite(value):
        raise _diverged(f"the {name} is {value}", position, total, checkpoints)


def _diverged(what: str, position: int, total: int, checkpoints: Checkpoints) -> WordloomError:
    kept = checkpoints.positions()
    rest = f"the last good checkpoint is that of block {kept[-1]}" if kept else "no checkpoint was made yet"
    return WordloomError(
        f"Training diverged: {what} at block {position} of {total}; {rest} in {checkpoints.location!r}; "
        "lower the learning rate."
    )
