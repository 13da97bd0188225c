"""What stands between a training's workers, who write, and its driver, who reads: an actor of Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ray

from cluster import metrics
from trainers.loop import Progress


@dataclass
class Seen:
    """What the board shows: the job that is trained (None before the first) and how often it began, the jobs
    that are finished, each job's last progress, all sentences, and the failure: its kind (``usage``,
    ``mendable``, ``defect``) and text."""

    current: int | None = None
    begun: int = 0
    finished: list[int] = field(default_factory=list)
    progress: dict[int, Progress] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    failure: tuple[str, str] | None = None


class Board:
    """The actor between the workers, who write, and the driver, who reads; carries the wish to stop back."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._seen = Seen()
        self._stop = False

    def __repr__(self) -> str:
        return self._run  # Ray's dashboard has no page for training: there the run stands among the actors

    def begin(self, number: int) -> None:
        self._seen.begun = self._seen.begun + 1 if self._seen.current == number else 1
        self._seen.current = number
        if self._seen.begun > 1:
            metrics.increment("train_restarts")
            self._seen.sentences.append("A worker was lost; the workers were started again.")

    def progress(self, now: Progress) -> bool:
        if self._seen.current is not None:
            self._seen.progress[self._seen.current] = now
        return self._stop

    def finish(self, number: int) -> None:
        self._seen.finished.append(number)

    def say(self, sentence: str) -> None:
        self._seen.sentences.append(sentence)

    def fail(self, kind: str, text: str) -> None:
        self._seen.failure = self._seen.failure or (kind, text)

    def ask_to_stop(self) -> None:
        self._stop = True

    def read(self) -> Seen:
        return self._seen


class Listener:
    """A worker's end of the board: tells it, and never waits for it."""

    def __init__(self, name: str, board: Any) -> None:
        self._labels = {"stage": name}
        self._board = board
        self._answer: Any = None
        self._asked = False
        self._units = 0.0
        self._first = True

    def progress(self, now: Progress) -> bool:
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._asked = ray.get(self._answer)
            self._answer = None
        if self._answer is None or now.position == now.total:
            self._answer = self._board.progress.remote(now)
        if not self._first:  # what a restart goes on from was counted before
            metrics.increment("train_units", now.units - self._units, self._labels)
        self._first, self._units = False, now.units
        metrics.set("train_position", now.position, self._labels)
        metrics.set("train_blocks", now.total, self._labels)
        metrics.observe("train_exchange_milliseconds", 1e3 * now.exchange_seconds, self._labels)
        if now.loss is not None:
            metrics.set("train_loss", now.loss, self._labels)
        if now.held_out_loss is not None:
            metrics.set("train_held_out_loss", now.held_out_loss, self._labels)
        return self._asked

    def say(self, sentence: str) -> None:
        self._board.say.remote(sentence)
