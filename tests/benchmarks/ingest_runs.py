"""Ingests through Ray in a process of their own, and what each took from outside: the benchmark's stop-watch.

    with Runs(scratch) as runs:
        run = runs.ingest(dump, settings, workers=2)

The process starts Ray once, then ingests as often as it is told, so that other measurements stand between.
What a run took is counted from the first split to the published manifest (the report that is drawn behind
it is counted by itself): the CPU of the whole process tree (the driver, Ray's own processes idle or not, the
workers) as /proc has it. A worker's own start, with its imports, ends where its first split begins; the
worker notes that moment, and what it has had behind each split, because it may be gone when the tree is
looked at. The looking is done from outside and not counted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cluster.artefact import MANIFEST
from cluster.session import session
from ingest import wikipedia
from ingest.corpus import Corpus
from ingest.dump import locate
from ingest.settings import IngestSettings
from tests.benchmarks.main_job import cpu_seconds, descendants, pss_bytes

LOOK_SECONDS = 0.1
NOTES = "WORDLOOM_BENCHMARK_NOTES"  # the folder where workers note their moments


@dataclass(frozen=True)
class Run:
    """One ingest: CPU and wall seconds from the first split to the manifest; the CPU before, by process, and
    of the report that is drawn behind.
    """

    cpu: float
    wall: float
    before: float
    report: float
    peak_bytes: int
    pages: int
    tokens: int
    shares: dict[str, float]


class NotedSplit(wikipedia.IngestSplit):
    """The product's actor; notes the time and its CPU before its first split and behind each."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        notes = Path(os.environ[NOTES])
        if not (first := notes / f"{os.getpid()}.first").exists():
            first.write_text(json.dumps([time.time(), _own_seconds()]))
        result = super().__call__(batch)
        (notes / f"{os.getpid()}.last").write_text(json.dumps([time.time(), _own_seconds()]))
        return result


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


class Runs:
    """The process with Ray in it. Everything it writes goes below `scratch`; `one_core` keeps it and all that
    it starts on one core (of Linux)."""

    def __init__(self, scratch: Path, one_core: bool = False) -> None:
        self._scratch = scratch
        self._one_core = one_core
        self._notes = scratch / "notes"
        self._looks: list[tuple[float, dict[int, float]]] = []
        self._peak = 0
        self._with_memory = False
        self._over = threading.Event()

    def __enter__(self) -> Runs:
        self._notes.mkdir(parents=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.ingest_runs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, NOTES: str(self._notes)},
        )
        if self._one_core:  # before it has started anything
            os.sched_setaffinity(self._process.pid, {min(os.sched_getaffinity(0))})
        self._looking = threading.Thread(target=self._look_on, daemon=True)
        self._looking.start()
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._over.set()
        self._looking.join()

    def ingest(self, dump: Path, settings: IngestSettings, workers: int | None, memory: bool = False) -> Run:
        """`memory` has the peak of the tree's memory taken too, at some cost to the seconds."""
        for note in self._notes.iterdir():
            note.unlink()
        output = self._scratch / "corpus"
        shutil.rmtree(output, ignore_errors=True)
        self._looks, self._peak, self._with_memory = self._looks[-1:], 0, memory
        assert self._process.stdin is not None
        order = {"dump": str(dump), "output": str(output), "settings": dataclasses.asdict(settings)}
        self._process.stdin.write(json.dumps({**order, "workers": workers}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._with_memory = False
        self._look()
        return self._reckoned(answer)

    def _reckoned(self, answer: dict[str, Any]) -> Run:
        first = {int(note.stem): json.loads(note.read_text()) for note in self._notes.glob("*.first")}
        last = {int(note.stem): json.loads(note.read_text())[1] for note in self._notes.glob("*.last")}
        began, ended = min(moment for moment, _ in first.values()), float(answer["ended"])
        seen: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for moment, seconds in self._looks:
            for pid, each in seconds.items():
                seen[pid].append((moment, each))
        taken: dict[int, float] = {}
        before = report = 0.0
        for pid, looks in seen.items():
            start = first[pid][1] if pid in first else _at(began, looks)
            stop = max(_at(ended, looks), last.get(pid, 0.0))
            taken[pid] = max(stop - start, 0.0)
            before += start
            report += max(_at(float(answer["reported"]), looks) - stop, 0.0)
        shares: dict[str, float] = defaultdict(float)
        for pid, each in taken.items():
            role = "workers" if pid in first else "driver" if pid == self._process.pid else "Ray"
            shares[role] += each
        return Run(
            cpu=sum(taken.values()),
            wall=ended - began,
            before=before,
            report=report,
            peak_bytes=self._peak,
            pages=answer["pages"],
            tokens=answer["tokens"],
            shares=dict(shares),
        )

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process that ingests ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _look_on(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        pids = descendants(self._process.pid)
        self._looks.append((time.time(), cpu_seconds(pids)))
        if self._with_memory:
            self._peak = max(self._peak, pss_bytes(pids))


def _at(moment: float, looks: list[tuple[float, float]]) -> float:
    """CPU seconds of a process at a moment, between the looks around it; 0 before it was there."""
    earlier = [look for look in looks if look[0] <= moment]
    later = [look for look in looks if look[0] > moment]
    if not earlier:
        return 0.0
    if not later:
        return earlier[-1][1]
    (then, had), (next_, has) = earlier[-1], later[0]
    return had + (has - had) * (moment - then) / (next_ - then)


def main() -> None:
    """Reads an order a line, ingests it, answers a line; ends with its input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    wikipedia.IngestSplit = NotedSplit  # type: ignore[misc]
    with session("local"):
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            settings = order["settings"]
            settings["namespaces"] = tuple(settings["namespaces"])
            dump = locate(order["dump"], Path(order["output"]).parent / "downloads")
            wikipedia.ingest(dump, order["output"], IngestSettings(**settings), workers=order["workers"])
            reported = time.time()
            ended = Path(order["output"], MANIFEST).stat().st_mtime
            corpus = Corpus.open(order["output"])
            answer = {"ended": ended, "reported": reported, "pages": corpus.pages, "tokens": corpus.tokens}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # Workers find the actor's class by its module's name, which is not __main__ for them.
    from tests.benchmarks import ingest_runs

    ingest_runs.main()
