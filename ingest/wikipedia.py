"""A MediaWiki dump, or a user's own texts, to a corpus, by Ray Data.

The graph: splits of the source -> a pool of actors (`IngestSplit`), each making the shards of one split at a
time -> their records. What flows through Ray are splits and records, never pages, so its object store
stays empty and memory is that of the actors' splits. Each finished split has left a record, so a run that
was killed goes on with the others. Then the counts are merged and the corpus is published.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.experimental import internal_kv

from cluster import metrics
from cluster.artefact import DRAFT, MAKING, PROGRESS, Artefact, Draft, Input, identity_of, settings_dict
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from cluster.progress import Reporter, Stage, quantity
from ingest import texts
from ingest.corpus import COUNTS, KIND, REDIRECTS
from ingest.dump import Dump, plan
from ingest.papers import Papers
from ingest.settings import IngestSettings
from ingest.shard_maker import REDIRECT_SCHEMA, RUNS, AnySplit, ShardMaker, SplitRecord, finished
from ingest.texts import Texts
from ingest.vocabulary import FAN_IN, merge_runs

# Raise by one whenever the same dump and settings give other shards (tests/test_golden_ingest.py guards it).
OUTPUT_VERSION = 1

Source = Dump | Texts
HEARTBEAT = 5.0  # seconds between two notes of how far a run is
# Ray's own default is to try for ever, which a split that kills every worker (too large for its memory, say)
# would take literally.
RETRIES = 5

SAID_LOSSES = 5  # sentences about damage that are shown; the manifest has all


@dataclass(frozen=True)
class Plan:
    """What `ingest` is going to do in a folder, or has done there.

    `state` is ``new``, ``begun`` (by an earlier run, which finished the splits `finished`), ``published``, or
    ``taken`` by another artefact.
    """

    source: Source
    location: str
    identity: str
    splits: list[AnySplit]
    finished: dict[int, SplitRecord]
    state: str

    def to_json(self) -> dict[str, Any]:
        """For machines; a split gives one shard, or more where it holds much text."""
        return {
            "source": self.source.name,
            "files": [{"location": each.location, "bytes": each.bytes} for each in self.source.files],
            "bytes": self.source.bytes,
            "splits": len(self.splits),
            "expected_shards": len(self.splits),
            "finished_splits": len(self.finished),
            "finished_bytes": sum(each.bytes for each in self.splits if each.index in self.finished),
            "location": self.location,
            "identity": self.identity,
            "state": self.state,
        }

    def sentences(self) -> list[str]:
        """For people."""
        said = self.to_json()
        files = [f"  {each.location} ({quantity(each.bytes, 'B')})" for each in self.source.files[:10]]
        if len(self.source.files) > 10:
            files.append(f"  and {len(self.source.files) - 10:,} more")
        state = {
            "new": "nothing is there yet",
            "begun": f"{len(self.finished):,} of the splits are finished",
            "published": "it is there already, nothing would be done",
            "taken": "another artefact lies there; name another folder",
        }[self.state]
        return [
            f"{self.source.name}: {len(self.source.files):,} files, {quantity(self.source.bytes, 'B')}",
            *files,
            f"{said['splits']:,} splits, so at least {said['expected_shards']:,} shards",
            f"to {self.location}: {state}",
        ]


def ingest_inputs(source: Source) -> dict[str, Input]:
    """What the corpus of a source is made from."""
    given = source.as_input()
    return {given.kind: given}


def ingest_version(source: Source) -> int:
    return texts.OUTPUT_VERSION if isinstance(source, Texts) else OUTPUT_VERSION


def ingest_settings(source: Source, settings: IngestSettings) -> dict[str, Any]:
    """All settings that change the corpus of a source."""
    own = settings_dict(source.reading) if isinstance(source, Texts) else {}
    return {**settings_dict(settings), **own}


def prepare(source: Source, output: str | Path | Folder, settings: IngestSettings) -> Plan:
    """The plan of an ingest. Writes nothing and needs no Ray."""
    folder = output if isinstance(output, Folder) else Folder(output)
    inputs = {name: given.identity for name, given in ingest_inputs(source).items()}
    identity = identity_of(KIND, ingest_version(source), inputs, ingest_settings(source, settings))
    splits = _planned(source, settings)
    state, records = "new", {}
    try:
        state = "published" if Artefact.open(folder).identity == identity else "taken"
    except WordloomError:
        if folder.exists(DRAFT) and folder.read_json(DRAFT).get("identity") == identity:
            state, records = "begun", finished(folder, folder.child(MAKING), splits)
    return Plan(source, folder.location, identity, splits, records, state)


def _planned(source: Source, settings: IngestSettings) -> list[AnySplit]:
    size = settings.split_size(source.bytes)
    return [*(source.plan(size) if isinstance(source, Texts) else plan(source, size))]


def ingest(
    source: Source,
    output: str | Path | Folder,
    settings: IngestSettings | None = None,
    reporter: Reporter | None = None,
    workers: int | None = None,
) -> Artefact:
    """The corpus of a dump or of texts in the folder `output`.

    `workers` is the number of actors, None for one a core of the cluster; the bytes are the same for any.
    Raises WordloomError where no page is kept.
    """
    settings = settings or IngestSettings()
    reporter = reporter or Reporter(quiet=True)
    draft = Draft(
        output,
        kind=KIND,
        output_version=ingest_version(source),
        inputs=ingest_inputs(source),
        settings=ingest_settings(source, settings),
    )
    if draft.published is not None:
        reporter.say(f"= ingest: reused, {draft.published.counts['pages']:,} pages at {draft.location}")
        return draft.published
    splits = _planned(source, settings)
    records = finished(draft.folder, draft.making, splits)
    pending = [split for split in splits if split.index not in records]
    if records:
        reporter.say(f"  ingest: {len(records):,} of {len(splits):,} splits were finished by an earlier run")
    with reporter.stage("ingest", total=source.bytes, unit="B", rows="pages") as stage:
        earlier = [split for split in splits if split.index in records]
        stage.resume(sum(split.bytes for split in earlier), sum(each.pages for each in records.values()))
        heartbeat = _Heartbeat(draft.making, source, stage, len(splits), len(records))
        for record in _made(pending, draft, settings, workers, stage, heartbeat):
            records[record.index] = record
        return publish(draft, source, [records[split.index] for split in splits], stage, reporter)


class IngestSplit:
    """The actor: a `ShardMaker` that takes batches of one split."""

    def __init__(self, folder: Folder, making: Folder, settings: IngestSettings, channel: str) -> None:
        self._maker = ShardMaker(folder, making, settings)
        self._channel = channel

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        split: AnySplit = batch["split"][0]
        try:
            record = self._maker.make(split, lambda done, pages: _tell(self._channel, split, done, pages))
        except WordloomError as error:  # a sentence for the user: it needs no trace of the actor
            return {"result": [error]}
        return {"result": [record]}


def _made(
    pending: list[AnySplit],
    draft: Draft,
    settings: IngestSettings,
    workers: int | None,
    stage: Stage,
    heartbeat: _Heartbeat,
) -> Iterator[SplitRecord]:
    """The records of the pending splits, as they are finished."""
    if not pending:
        return
    cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    pool = min(workers or int(cores), len(pending))
    _quieten()
    channel = f"wordloom-ingest-{draft.identity}/"
    rows = ray.data.from_items([{"split": split} for split in pending], override_num_blocks=len(pending))
    with warnings.catch_warnings():
        # Ray 2.60 warns that this way to name the retries will go, and has no other yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        results = rows.map_batches(
            IngestSplit,
            fn_constructor_args=(draft.folder, draft.making, settings, channel),
            batch_size=1,
            # One split waits at an actor while it does another: without, an actor idles 0.15 s between two
            # splits of 0.5 s, until Ray Data has seen that it is free.
            compute=ray.data.ActorPoolStrategy(size=pool, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            max_task_retries=RETRIES,
        )
    sizes = {split.index: split.bytes for split in pending}
    with _listening(channel, stage, heartbeat) as heard:
        try:
            for row in results.iter_rows():
                result = row["result"]
                if isinstance(result, WordloomError):
                    raise result
                heartbeat.finished += 1
                heard.finished(result, sizes[result.index])
                yield result
        except ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise WordloomError(
                f"A worker of ingest failed ({reason}); what is finished is kept, run the same command again."
            ) from error


def publish(
    draft: Draft, source: Source | Papers, records: list[SplitRecord], stage: Stage, reporter: Reporter
) -> Artefact:
    """The counts merged, the sums checked, the corpus published. `records` in the order of the splits."""
    shards = [shard for record in records for shard in record.shards]
    dropped: Counter[str] = Counter()
    for record in records:
        dropped.update(record.dropped)
    losses = [sentence for record in records for sentence in record.losses]
    pages, seen = sum(shard.pages for shard in shards), sum(record.seen for record in records)
    if pages + dropped.total() != seen:
        raise WordloomError(
            f"{source.name!r}: {pages} pages kept and {dropped.total()} dropped do not add up to the {seen} "
            f"that were read; this is a defect of ours, delete {draft.location!r} and report it."
        )
    if not pages:
        raise WordloomError(_nothing(source, seen, dropped, losses))
    for sentence in losses[:SAID_LOSSES]:
        reporter.say(f"! {sentence}")
    if len(losses) > SAID_LOSSES:
        reporter.say(f"! and {len(losses) - SAID_LOSSES:,} more losses; manifest.json has them all")
    files = {name: file for record in records for name, file in record.files.items()}
    files[COUNTS], distinct = _counted(draft, [run for record in records for run in record.runs])
    files[REDIRECTS] = _joined(draft, [name for record in records for name in record.redirects])
    tokens = sum(shard.tokens for shard in shards)
    counts = {
        "pages": pages,
        "pages_in_dump": seen,
        "dropped": dict(dropped),
        "tokens": tokens,
        "characters": sum(shard.characters for shard in shards),
        "distinct_tokens": distinct,
        "redirects": sum(record.redirect_count for record in records),
        "losses": losses,
        "shards": [vars(shard) for shard in shards],
    }
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    stage.summary(
        f"{pages:,} pages of {seen:,} ({reasons or 'none'} dropped), {quantity(tokens, 'tokens')}, "
        f"{distinct:,} distinct, {len(shards):,} shards"
    )
    return draft.publish(counts, files)


def _nothing(source: Source | Papers, seen: int, dropped: Counter[str], losses: list[str]) -> str:
    damage = f" ({losses[0].rstrip('.')})" if losses else ""
    if isinstance(source, Texts):
        kind, units, mend = "corpus", "document", "check --text-column, --documents and --source"
    else:
        kind, units, mend = "dump", "page", "check 'ingest.namespaces' and --source"
    if not seen:
        return f"{source.name!r} is an empty {kind}: it holds no {units}{damage}; check --source."
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    return f"{source.name!r} leaves no {units}: all {seen:,} were dropped ({reasons}){damage}; {mend}."


def _counted(draft: Draft, runs: list[str]) -> tuple[FileRecord, int]:
    """``counts.parquet`` out of the runs of all shards, merged in a tree over the cluster."""
    level = 0
    while len(runs) > FAN_IN:
        groups = [runs[first : first + FAN_IN] for first in range(0, len(runs), FAN_IN)]
        names = [f"{RUNS}/level{level}-{number:05d}.parquet" for number in range(len(groups))]
        merge = ray.remote(merge_runs)
        ray.get([merge.remote(draft.making, *each) for each in zip(groups, names, strict=True)])
        runs, level = names, level + 1
    record, distinct = merge_runs(draft.making, runs, COUNTS, draft.folder)
    return record, distinct


def _joined(draft: Draft, names: list[str]) -> FileRecord:
    """``redirects.parquet`` out of those of all splits."""
    with draft.folder.writer(REDIRECTS) as stream:
        sink = pa.PythonFile(stream, mode="w")
        with pq.ParquetWriter(sink, REDIRECT_SCHEMA, compression="zstd", use_dictionary=False) as writer:
            for name in names:
                writer.write_table(draft.making.read_table(name))
    return stream.record


# Progress within splits: actors tell how far they are, through the cluster's own key-value store (no
# process more); a thread of the driver listens.


def _tell(channel: str, split: AnySplit, done: int, pages: int) -> None:
    if ray.is_initialized():
        internal_kv._internal_kv_put(f"{channel}{split.index}", f"{done} {pages}")


def _quieten() -> None:
    """Leaves the terminal to our own progress; Ray Data's log file still has everything."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not hasattr(handler, "baseFilename"):
            handler.setLevel(logging.ERROR)


class _Heard:
    """What is done in all: finished splits, and what is known of those under way."""

    def __init__(self, channel: str, stage: Stage) -> None:
        self._channel, self._stage = channel, stage
        self._done, self._pages = stage.done, stage.rows
        self._finished: set[str] = set()
        self._lock = threading.Lock()

    def finished(self, record: SplitRecord, size: int) -> None:
        with self._lock:
            self._finished.add(f"{self._channel}{record.index}")
            self._done += size
            self._pages += record.pages
        self.show()

    def show(self) -> None:
        under_way: list[tuple[int, int]] = []
        for key in internal_kv._internal_kv_list(self._channel):
            name = key.decode()
            value = internal_kv._internal_kv_get(name)
            if name in self._finished:
                internal_kv._internal_kv_del(name)
            elif value:
                said = value.split()
                under_way.append((int(said[0]), int(said[1])))
        with self._lock:
            done = self._done + sum(each[0] for each in under_way)
            pages = self._pages + sum(each[1] for each in under_way)
            # A worker that died begins its split again; the bar waits for it.
            self._stage.update(max(done, self._stage.done), rows=max(pages, self._stage.rows))


class _Heartbeat:
    """How far a run is, noted in ``making/`` every few seconds: `wordloom status` reads it anywhere."""

    def __init__(self, making: Folder, source: Source, stage: Stage, splits: int, finished: int) -> None:
        self._making, self._stage, self._splits, self._next = making, stage, splits, 0.0
        self._fixed = {"source": source.name, "bytes": source.bytes, "splits": splits, "began": time.time()}
        self._fixed |= {"host": socket.gethostname(), "process": os.getpid()}
        self._before = {"done_before": stage.done, "pages_before": stage.rows}
        self.finished = finished

    def beat(self) -> None:
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
def _listening(channel: str, stage: Stage, heartbeat: _Heartbeat) -> Iterator[_Heard]:
    heard, over = _Heard(channel, stage), threading.Event()

    def listen() -> None:
        while True:
            heartbeat.beat()
            if over.wait(0.5):
                return
            heard.show()

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
