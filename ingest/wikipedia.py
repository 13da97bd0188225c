"""A MediaWiki dump, or a user's own texts, to a corpus, by Ray Data.

The graph: splits of the source -> a pool of actors (`IngestSplit`), each making the shards of one split at a
time -> their records. What flows through Ray are splits and records, never pages, so its object store
stays empty and memory is that of the actors' splits. Each finished split has left a record, so a run that
was killed goes on with the others. Then the counts are merged and the corpus is published.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from cluster import memory, metrics
from cluster.artefact import (
    MAKING,
    Artefact,
    Draft,
    Input,
    begun,
    identity_of,
    published,
    refuse_foreign,
    settings_dict,
)
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from cluster.progress import Reporter, Stage, counted, quantity
from ingest import corpus_report, texts
from ingest.corpus import COUNTS, KIND, REDIRECTS
from ingest.dump import Dump, plan
from ingest.heartbeat import Heartbeat, listening, tell
from ingest.ledger import REQUESTS, Ledger, SplitRecord
from ingest.papers import Papers
from ingest.settings import IngestSettings
from ingest.shard_maker import REDIRECT_SCHEMA, RUNS, AnySplit, ShardMaker
from ingest.shards import ShardCounts
from ingest.texts import Texts
from ingest.vocabulary import FAN_IN, merge_runs

# Raise by one whenever the same dump and settings give other shards (tests/test_golden_ingest.py guards it).
OUTPUT_VERSION = 3

LOG = logging.getLogger(__name__)

Source = Dump | Texts
# Ray's own default is to try for ever, which a split that kills every worker (too large for its memory, say)
# would take literally.
RETRIES = 5

# A block of Ray Data is one split as long as there are no more than these. Each costs the driver some 16 kB
# and 9 ms: a million would be 16 GB and two hours and a half.
BLOCKS = 16_384

AHEAD = 8 * REQUESTS  # small files read ahead of their use
SAID_LOSSES = 5  # sentences about damage that are shown; the manifest has all


@dataclass(frozen=True)
class Plan:
    """What `ingest` is going to do in a folder, or has done there.

    `state` is ``new``, ``begun`` (by an earlier run, which has `finished` so many splits), ``published``, or
    ``taken`` by another artefact.
    """

    source: Source
    location: str
    identity: str
    splits: list[AnySplit]
    finished: int
    finished_bytes: int
    state: str

    def to_json(self) -> dict[str, Any]:
        """For machines; a split gives one shard, or more where it holds much text."""
        return {
            "source": self.source.name,
            "files": [{"location": each.location, "bytes": each.bytes} for each in self.source.files],
            "bytes": self.source.bytes,
            "splits": len(self.splits),
            "expected_shards": len(self.splits),
            "finished_splits": self.finished,
            "finished_bytes": self.finished_bytes,
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
            "begun": f"{self.finished:,} of the splits are finished",
            "published": "it is there already, nothing would be done",
            "taken": "another artefact lies there; name another folder",
        }[self.state]
        size = quantity(self.source.bytes, "B")
        return [
            f"{self.source.name}: {counted(len(self.source.files), 'file')}, {size}",
            *files,
            f"{counted(said['splits'], 'split')}, so at least {counted(said['expected_shards'], 'shard')}",
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
    """The plan of an ingest. Writes nothing and needs no Ray. Raises WordloomError where the folder holds
    what `ingest` would refuse, unless that is another artefact."""
    folder = output if isinstance(output, Folder) else Folder(output)
    inputs = {name: given.identity for name, given in ingest_inputs(source).items()}
    identity = identity_of(KIND, ingest_version(source), inputs, ingest_settings(source, settings))
    splits = _planned(source, settings)
    state, finished, done = "new", 0, 0
    if (there := published(folder)) is not None:
        state = "published" if there.identity == identity else "taken"
    elif begun(folder) == identity:
        ledger = Ledger(folder, folder.child(MAKING), splits)
        state, finished, done = "begun", len(ledger.finished), ledger.bytes
    else:
        refuse_foreign(folder, identity)
    return Plan(source, folder.location, identity, splits, finished, done, state)


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
    ledger = Ledger(draft.folder, draft.making, splits)
    pending = [split for split in splits if split.index not in ledger.finished]
    if ledger.finished:
        said = f"{len(ledger.finished):,} of {len(splits):,} splits"
        reporter.say(f"  ingest: {said} were finished by an earlier run")
    with reporter.stage("ingest", total=source.bytes, unit="B", rows="pages") as stage:
        stage.resume(ledger.bytes, ledger.pages)
        heartbeat = Heartbeat(
            draft.making, source.name, source.bytes, stage, len(splits), len(ledger.finished)
        )
        with memory.watched(reporter.say):
            for record in _made(pending, draft, settings, workers, stage, heartbeat):
                ledger.add(record)
                # Here, not where they were found: an actor may end before it has reported to Prometheus.
                metrics.increment("ingest_losses", len(record.losses))
        heartbeat.note()
        return publish(draft, source, ledger.records(), stage, reporter, heartbeat.speed)


class IngestSplit:
    """The actor: a `ShardMaker` that takes batches of one split."""

    def __init__(self, folder: Folder, making: Folder, settings: IngestSettings, channel: str) -> None:
        self._maker = ShardMaker(folder, making, settings)
        self._channel = channel
        memory.keep_freed()
        gc.freeze()  # what is loaded by now stays: looking it all through for garbage took .08 s each time

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        split: AnySplit = batch["split"][0]
        try:
            record = self._maker.make(
                split, lambda done, pages: tell(self._channel, split.index, done, pages)
            )
        except WordloomError as error:  # a sentence for the user: it needs no trace of the actor
            return {"result": [error]}
        except Exception as error:  # Ray would end the run with words of its own, and none of the reason
            LOG.exception("split %d", split.index)
            return {"result": [WordloomError(_failed(split, error))]}
        return {"result": [record]}


def _failed(split: AnySplit, error: Exception) -> str:
    where = f"Split {split.index} (bytes {split.start:,} to {split.stop:,})"
    if memory.ran_out(error):
        return (
            f"{where} ran out of its worker's memory; end other programs, take fewer --workers, or raise the "
            "container's limit, and run the same command again: what is finished is kept."
        )
    return (
        f"{where} failed with {type(error).__name__}: {error}; this is a defect of ours, report it. What is "
        "finished is kept."
    )


def over_splits(
    splits: Sequence[AnySplit], actor: type, arguments: tuple[Any, ...], pool: int
) -> ray.data.Dataset:
    """The graph: each split, as the row ``split``, through one of `pool` actors made of `arguments`."""
    items = [{"split": split} for split in splits]
    rows = ray.data.from_items(items, override_num_blocks=min(len(splits), BLOCKS))
    rows.set_name("ingest")  # so the dashboard calls it
    with warnings.catch_warnings():
        # Ray 2.60 warns that this way to name the retries will go, and has no other yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        return rows.map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=1,
            # One split waits at an actor while it does another: without, an actor idles 0.15 s between two
            # splits of 0.5 s, until Ray Data has seen that it is free.
            compute=ray.data.ActorPoolStrategy(size=pool, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            max_task_retries=RETRIES,
        )


def _made(
    pending: list[AnySplit],
    draft: Draft,
    settings: IngestSettings,
    workers: int | None,
    stage: Stage,
    heartbeat: Heartbeat,
) -> Iterator[SplitRecord]:
    """The records of the pending splits, as they are finished."""
    if not pending:
        return
    cores = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    pool = min(workers or int(cores), len(pending))
    _quieten()
    channel = f"wordloom-ingest-{draft.identity}/"
    results = over_splits(pending, IngestSplit, (draft.folder, draft.making, settings, channel), pool)
    sizes = {split.index: split.bytes for split in pending}
    with listening(channel, stage, heartbeat) as heard:
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
                memory.ran_out(error)
                or f"A worker of ingest failed ({reason}); what is finished is kept, run the same command "
                "again."
            ) from error


def publish(
    draft: Draft,
    source: Source | Papers,
    records: Iterable[SplitRecord],
    stage: Stage,
    reporter: Reporter,
    speed: Sequence[Sequence[float]] = (),
) -> Artefact:
    """The counts merged, the sums checked, the corpus published, its report written. `records` in the order
    of the splits; `speed` as `Heartbeat` notes it."""
    shards: list[ShardCounts] = []
    files: dict[str, FileRecord] = {}
    runs, moved, losses = list[str](), list[str](), list[str]()
    dropped, sizes = Counter[str](), Counter[str]()
    seen = redirects = 0
    for record in records:
        shards += record.shards
        files |= record.files
        runs += record.runs
        moved += record.redirects
        losses += record.losses
        dropped.update(record.dropped)
        sizes.update(record.sizes)
        seen += record.seen
        redirects += record.redirect_count
    pages = sum(shard.pages for shard in shards)
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
    files[COUNTS], distinct = _counted(draft, runs)
    files[REDIRECTS] = _joined(draft, moved)
    tokens = sum(shard.tokens for shard in shards)
    counts = {
        "pages": pages,
        "pages_in_dump": seen,
        "dropped": dict(dropped),
        **({"bytes": dict(sizes)} if sizes else {}),
        "tokens": tokens,
        "characters": sum(shard.characters for shard in shards),
        "distinct_tokens": distinct,
        "redirects": redirects,
        "losses": losses,
        "shards": [shard.to_json() for shard in shards],
    }
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
    stage.summary(
        f"{pages:,} pages of {seen:,} ({reasons or 'none'} dropped), {quantity(tokens, 'tokens')}, "
        f"{distinct:,} distinct, {counted(len(shards), 'shard')}"
    )
    made = draft.publish(counts, files, {"speed": list(speed)} if speed else None)
    return corpus_report.beside(made, reporter)


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
        with (
            pq.ParquetWriter(sink, REDIRECT_SCHEMA, compression="zstd", use_dictionary=False) as writer,
            ThreadPoolExecutor(REQUESTS) as pool,
        ):
            for first in range(0, len(names), AHEAD):  # not all at once: they would all lie in memory
                for table in pool.map(draft.making.read_table, names[first : first + AHEAD]):
                    writer.write_table(table)
    return stream.record


def _quieten() -> None:
    """Leaves the terminal to our own progress; Ray Data's log file still has everything."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not hasattr(handler, "baseFilename"):
            handler.setLevel(logging.ERROR)
