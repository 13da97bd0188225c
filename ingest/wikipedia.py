"""A MediaWiki dump to a corpus, by Ray Data.

The graph: splits of the dump -> a pool of actors (`IngestSplit`), each making the shards of one split at a
time -> their records. What flows through Ray are splits and records, never pages, so its object store
stays empty and memory is that of the actors' splits. Each finished split has left a record, so a run that
was killed goes on with the others. Then the counts are merged and the corpus is published.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.experimental import internal_kv

from cluster.artefact import Artefact, Draft
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from cluster.progress import Reporter, Stage, quantity
from ingest.corpus import COUNTS, KIND, REDIRECTS
from ingest.dump import Dump, plan
from ingest.settings import IngestSettings
from ingest.shard_maker import REDIRECT_SCHEMA, RUNS, ShardMaker, SplitRecord, finished
from ingest.splits import Split
from ingest.vocabulary import FAN_IN, merge_runs

# Raise by one whenever the same dump and settings give other shards (tests/test_golden_ingest.py guards it).
OUTPUT_VERSION = 1

SAID_LOSSES = 5  # sentences about damage that are shown; the manifest has all


def ingest(
    dump: Dump,
    output: str | Path | Folder,
    settings: IngestSettings | None = None,
    reporter: Reporter | None = None,
    workers: int | None = None,
) -> Artefact:
    """The corpus of a dump in the folder `output`.

    `workers` is the number of actors, None for one a core of the cluster; the bytes are the same for any.
    Raises WordloomError where no page is kept.
    """
    settings = settings or IngestSettings()
    reporter = reporter or Reporter(quiet=True)
    draft = Draft(
        output,
        kind=KIND,
        output_version=OUTPUT_VERSION,
        inputs={"dump": dump.as_input()},
        settings=settings,
    )
    if draft.published is not None:
        reporter.say(f"= ingest: reused, {draft.published.counts['pages']:,} pages at {draft.location}")
        return draft.published
    splits = plan(dump, settings.split_size(dump.bytes))
    records = finished(draft.folder, draft.making, splits)
    pending = [split for split in splits if split.index not in records]
    if records:
        reporter.say(f"  ingest: {len(records):,} of {len(splits):,} splits were finished by an earlier run")
    with reporter.stage("ingest", total=dump.bytes, unit="B") as stage:
        earlier = [split for split in splits if split.index in records]
        stage.update(sum(split.bytes for split in earlier), rows=sum(each.pages for each in records.values()))
        for record in _made(pending, draft, settings, workers, stage):
            records[record.index] = record
        return publish(draft, dump, [records[split.index] for split in splits], stage, reporter)


class IngestSplit:
    """The actor: a `ShardMaker` that takes batches of one split."""

    def __init__(self, folder: Folder, making: Folder, settings: IngestSettings, channel: str) -> None:
        self._maker = ShardMaker(folder, making, settings)
        self._channel = channel

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        split: Split = batch["split"][0]
        try:
            record = self._maker.make(split, lambda done, pages: _tell(self._channel, split, done, pages))
        except WordloomError as error:  # a sentence for the user: it needs no trace of the actor
            return {"result": [error]}
        return {"result": [record]}


def _made(
    pending: list[Split], draft: Draft, settings: IngestSettings, workers: int | None, stage: Stage
) -> Iterator[SplitRecord]:
    """The records of the pending splits, as they are finished."""
    if not pending:
        return
    cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    pool = min(workers or int(cores), len(pending))
    _quieten()
    channel = f"wordloom-ingest-{draft.identity}/"
    rows = ray.data.from_items([{"split": split} for split in pending], override_num_blocks=len(pending))
    results = rows.map_batches(
        IngestSplit,
        fn_constructor_args=(draft.folder, draft.making, settings, channel),
        batch_size=1,
        # One split at a time to an actor: whoever is free takes the next, and none waits behind another.
        compute=ray.data.ActorPoolStrategy(size=pool, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )
    sizes = {split.index: split.bytes for split in pending}
    with _listening(channel, stage) as heard:
        try:
            for row in results.iter_rows():
                result = row["result"]
                if isinstance(result, WordloomError):
                    raise result
                heard.finished(result, sizes[result.index])
                yield result
        except ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise WordloomError(
                f"A worker of ingest failed ({reason}); what is finished is kept, run the same command again."
            ) from error


def publish(
    draft: Draft, dump: Dump, records: list[SplitRecord], stage: Stage, reporter: Reporter
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
            f"{dump.name!r}: {pages} pages kept and {dropped.total()} dropped do not add up to the {seen} "
            f"that were read; this is a defect of ours, delete {draft.location!r} and report it."
        )
    if not pages:
        raise WordloomError(_nothing(dump, seen, dropped, losses))
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


def _nothing(dump: Dump, seen: int, dropped: Counter[str], losses: list[str]) -> str:
    damage = f" ({losses[0].rstrip('.')})" if losses else ""
    if not seen:
        return f"{dump.name!r} is an empty dump: it holds no page{damage}; check --source."
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    return (
        f"{dump.name!r} leaves no page: all {seen:,} were dropped ({reasons}){damage}; "
        "check 'ingest.namespaces' and --source."
    )


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


def _tell(channel: str, split: Split, done: int, pages: int) -> None:
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


@contextmanager
def _listening(channel: str, stage: Stage) -> Iterator[_Heard]:
    heard, over = _Heard(channel, stage), threading.Event()

    def listen() -> None:
        while not over.wait(0.5):
            heard.show()

    thread = threading.Thread(target=listen, name="ingest progress", daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        for key in internal_kv._internal_kv_list(channel):
            internal_kv._internal_kv_del(key)
