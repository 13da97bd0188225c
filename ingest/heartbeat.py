"""How far an ingest is: told by its workers, shown by the driver, noted for whoever asks elsewhere.

Workers tell through the cluster's own key-value store, so that takes no process more; a thread of the driver
listens.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.experimental import internal_kv

from cluster import metrics
from cluster.artefact import PROGRESS
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Stage, thinned
from ingest.ledger import SplitRecord

POINTS = 200  # of the speed
HEARTBEAT = 5.0  # seconds between two notes of how far a run is


def tell(channel: str, split: int, done: int, pages: int) -> None:
    """What a worker says of a split: compressed bytes that are done, pages kept."""
    if ray.is_initialized():
        internal_kv._internal_kv_put(f"{channel}{split}", f"{done} {pages}")


class Heard:
    """What is done in all: finished splits, and what is known of those under way."""

    def __init__(self, channel: str, stage: Stage) -> None:
        self._channel, self._stage = channel, stage
        self._done, self._pages = stage.done, stage.rows
        self._finished: set[int] = set()
        self._under_way: dict[int, tuple[int, int]] = {}  # bytes and pages of splits that are not finished
        self._lock = threading.Lock()

    def finished(self, record: SplitRecord, size: int) -> None:
        with self._lock:
            self._finished.add(record.index)
            self._under_way.pop(record.index, None)
            self._done += size
            self._pages += record.pages
            self._show()

    def listen(self) -> None:
        """Asks for what all splits under way have told; a request each, so not at the end of every split."""
        told: dict[int, tuple[int, int]] = {}
        for key in internal_kv._internal_kv_list(self._channel):
            index = int(key.decode().rpartition("/")[2])
            value = internal_kv._internal_kv_get(key)
            if index in self._finished:
                internal_kv._internal_kv_del(key)
            elif value:
                done, pages = value.split()
                told[index] = (int(done), int(pages))
        with self._lock:
            self._under_way = {index: each for index, each in told.items() if index not in self._finished}
            self._show()

    def _show(self) -> None:
        done = self._done + sum(each[0] for each in self._under_way.values())
        pages = self._pages + sum(each[1] for each in self._under_way.values())
        # A worker that died begins its split again; the bar waits for it.
        self._stage.update(max(done, self._stage.done), rows=max(pages, self._stage.rows))


class Heartbeat:
    """How far a run is, noted in ``making/`` every few seconds: `wordloom status` reads it anywhere.

    `speed` is the whole run, for the report: ``[seconds, bytes, pages]``, all from its beginning on.
    """

    def __init__(
        self, making: Folder, source: str, size: int, stage: Stage, splits: int, finished: int
    ) -> None:
        self._making, self._stage, self._splits, self._next = making, stage, splits, 0.0
        self._fixed = {"source": source, "bytes": size, "splits": splits, "began": time.time()}
        self._fixed |= {"host": socket.gethostname(), "process": os.getpid()}
        self._before = {"done_before": stage.done, "pages_before": stage.rows}
        self.finished = finished
        self.speed: list[list[float]] = []
        self._began = time.monotonic()

    def note(self) -> None:
        """Adds how far the run is now to `speed`."""
        seconds = round(time.monotonic() - self._began, 2)
        self.speed = thinned([*self.speed, [seconds, self._stage.done, self._stage.rows]], POINTS)

    def beat(self) -> None:
        self.note()
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + HEARTBEAT
        metrics.set("ingest_splits_left", self._splits - self.finished)
        now = {"done": self._stage.done, "pages": self._stage.rows, "finished_splits": self.finished}
        try:
            self._making.write_json(PROGRESS, {**self._fixed, **self._before, **now, "at": time.time()})
        except (OSError, WordloomError):
            return  # the work itself will say what is wrong with the folder


@contextmanager
def listening(channel: str, stage: Stage, heartbeat: Heartbeat) -> Iterator[Heard]:
    heard, over = Heard(channel, stage), threading.Event()

    def listen() -> None:
        while True:
            heartbeat.beat()
            if over.wait(0.5):
                return
            heard.listen()

    thread = threading.Thread(target=listen, name="ingest progress", daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        metrics.set("ingest_splits_left", 0)
        for key in internal_kv._internal_kv_list(channel):
            internal_kv._internal_kv_del(key)
