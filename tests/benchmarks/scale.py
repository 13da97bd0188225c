"""Planner and driver with a million splits: how long planning, keeping books, going on and publishing take.

python -m tests.benchmarks.scale [--splits N] [--ray] [--costs FILE...] [--json]

Everything is real but the pages: a dump's plan, the files of every split (empty), its record, the ledger, a
stop in the middle, going on, the manifest, and opening what was published. With ``--ray`` the splits go
through the Ray Data graph of ingest too, to actors that do nothing. Local disk; an object store takes a
request for each file written, and one for each thousand files listed. With ``--costs`` instead: what ingest
takes and leaves for each GB of XML of real dumps, one process, without Ray.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.artefact import MANIFEST, Artefact, Draft
from cluster.folder import FileRecord, Folder
from cluster.store import Store
from ingest.corpus import Corpus
from ingest.dump import Dump, DumpFile, locate, plan, read
from ingest.ledger import RANGE, Ledger, SplitRecord, note
from ingest.settings import LARGEST_SPLIT, IngestSettings
from ingest.shard_maker import ShardMaker
from ingest.shards import ShardCounts
from ingest.splits import Split
from ingest.vocabulary import merge_runs

Figures = dict[str, float]


def dump(splits: int) -> Dump:
    """A dump of as many splits of the largest size; none of it is there."""
    file = DumpFile("/dump.xml.bz2", splits * LARGEST_SPLIT, "0" * 64, "bzip2")
    return Dump((file,), "simulated")


def finish(folder: Path, split: Split) -> SplitRecord:
    """What a worker leaves of a split, but for its content and its way of writing it."""
    number = split.index
    shard, run = f"shards/{number:05d}.parquet", f"counts/{number:05d}.parquet"
    for name in (shard, f"making/{run}"):
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
    digest = hashlib.sha256(shard.encode()).hexdigest()
    pages = 5_000 + number % 997
    counts = ShardCounts(shard, pages, pages * 700, pages * 4_000, pages - 90, pages * 690, pages * 3_900)
    return SplitRecord(
        number,
        split.start,
        split.stop,
        shards=[counts],
        files={shard: FileRecord(pages * 2_500, digest)},
        runs=[run],
        redirect_count=310,
        seen=pages + 350,
        dropped={"redirect": 310, "namespace": 40, "empty": 0, "deleted": 0, "model": 0, "cut": 0},
    )


def simulate(splits: int, place: Path) -> Figures:
    """The seconds and MiB of each step of an ingest of so many splits in the folder `place`."""
    figures: Figures = {"splits": splits}
    source, settings = dump(splits), IngestSettings()

    @contextmanager
    def step(name: str) -> Iterator[None]:
        began, before = time.perf_counter(), _resident()
        yield
        figures[f"{name}_s"] = time.perf_counter() - began
        figures[f"{name}_mib"] = _resident() - before

    with step("plan"):
        planned = plan(source, settings.split_size(source.bytes))
    draft = Draft(
        place / "corpus",
        kind="corpus",
        output_version=1,
        inputs={"dump": source.as_input()},
        settings=settings,
    )
    for name in ("shards", "making/counts"):
        (place / "corpus" / name).mkdir(parents=True, exist_ok=True)
    half = splits // 2 + 10  # not at the end of a range
    figures["books_s"] = _run(Ledger(draft.folder, draft.making, planned), draft, planned[:half])
    with step("resume"):
        ledger = Ledger(draft.folder, draft.making, planned)
        pending = [split for split in planned if split.index not in ledger.finished]
    assert len(pending) == splits - half
    figures["books_s"] += _run(ledger, draft, pending)
    figures["books_ms_a_split"] = figures["books_s"] / splits * 1e3
    with step("resume_at_the_end"):
        ledger = Ledger(draft.folder, draft.making, planned)
    assert len(ledger.finished) == splits
    del planned, pending
    with step("publish"):
        _publish(draft, ledger)
    figures["manifest_kb"] = draft.folder.size(MANIFEST) / 1e3
    tables = (place / "corpus" / "manifest").glob("*")
    figures["tables_mb"] = sum(table.stat().st_size for table in tables) / 1e6
    with step("status"):
        (found,) = Store(str(place)).artefacts()
    assert found.bytes > 0
    with step("open"):
        corpus = Corpus.open(place / "corpus")
        assert len(corpus.shards) == splits and corpus.shards[-1].name == f"shards/{splits - 1:05d}.parquet"
    with step("files"):
        # The manifest's two tables are files too; a few splits stand in the manifest itself.
        assert len(Artefact.open(place / "corpus").manifest.files) - splits in (0, 2)
    figures["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def _run(ledger: Ledger, draft: Draft, splits: Sequence[Split]) -> float:
    """Finishes splits; the seconds that the driver's books took of it, without the workers' part."""
    place, taken = Path(draft.location), 0.0
    last = splits[-1].index // RANGE * RANGE  # nobody reads single records of ranges that will be gathered
    for split in splits:
        record = finish(place, split)
        if split.index >= last:
            note(draft.making, record)
        began = time.perf_counter()
        ledger.add(record)
        taken += time.perf_counter() - began
    return taken


def _publish(draft: Draft, ledger: Ledger) -> None:
    """As `ingest.wikipedia.publish`, without merging what the splits counted."""
    shards: list[ShardCounts] = []
    files: dict[str, FileRecord] = {}
    for record in ledger.records():
        shards += record.shards
        files |= record.files
    counts = {"pages": sum(shard.pages for shard in shards), "shards": [shard.to_json() for shard in shards]}
    draft.publish(counts, files)


def through_ray(splits: int) -> Figures:
    """The splits through the graph of ingest, to actors that only say that they are done."""
    from cluster.session import session
    from ingest import wikipedia

    planned = plan(dump(splits), LARGEST_SPLIT)
    with session("local", cpus=2):
        began, before, first = time.perf_counter(), _resident(), 0.0
        wikipedia._quieten()
        seen = 0
        for _ in wikipedia.over_splits(planned, Idle, (), 2).iter_rows():
            first = first or time.perf_counter() - began
            seen += 1
        assert seen == splits
        seconds = time.perf_counter() - began
    return {
        "ray_first_s": first,
        "ray_ms_a_split": (seconds - first) / splits * 1e3,
        "ray_mib": _resident() - before,
    }


def costs(source: str, place: Path) -> Figures:
    """What ingest takes of a real dump with its default settings, for each GB of its XML."""
    found, settings = locate(source, place / "downloads"), IngestSettings()
    folder = Folder(place / "corpus")
    maker = ShardMaker(folder, folder.child("making"), settings)
    splits = plan(found, settings.split_size(found.bytes))
    maker.make(splits[0])  # what is compiled and imported is not a cost of each GB
    xml = sum(len(part) for split in splits for part in read(split) if isinstance(part, bytes)) / 1e9
    began = time.process_time()
    records = [maker.make(split) for split in splits]
    figures: Figures = {"xml_gb": xml, "cpu_s_a_gb": (time.process_time() - began) / xml}
    figures["compressed_share"] = found.bytes / 1e9 / xml
    figures["shards_gb_a_gb"] = (
        sum(file.bytes for each in records for file in each.files.values()) / 1e9 / xml
    )
    runs = [run for each in records for run in each.runs]
    figures["runs_gb_a_gb"] = sum(folder.size(f"making/{run}") for run in runs) / 1e9 / xml
    figures["tokens_millions_a_gb"] = (
        sum(each.tokens for record in records for each in record.shards) / 1e6 / xml
    )
    for share in (4, 2, 1):
        began = time.process_time()
        _, distinct = merge_runs(folder.child("making"), runs[: max(1, len(runs) // share)], "merged", folder)
        figures[f"distinct_thousands_of_1_in_{share}"] = distinct / 1e3
    figures["merge_cpu_s_a_million_distinct"] = (time.process_time() - began) / distinct * 1e6
    figures["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


class Idle:
    """An actor without work."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        split = batch["split"][0]
        return {"result": [SplitRecord(split.index, split.start, split.stop)]}


def _resident() -> float:
    """MiB of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main(arguments: Sequence[str] | None = None, out: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--splits", type=int, default=1_000_000)
    parser.add_argument("--ray", action="store_true", help="the Ray Data graph too")
    parser.add_argument(
        "--costs", nargs="+", metavar="FILE", help="dumps, each measured in place of a simulation"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    place = Path(tempfile.mkdtemp(prefix="wordloom-scale-"))
    found: dict[str, Figures] = {}
    try:
        for number, source in enumerate(options.costs or ()):
            found[source] = costs(source, place / str(number))
        if not found:
            found["simulated"] = simulate(options.splits, place)
    finally:
        shutil.rmtree(place)
    if options.ray:
        found["ray"] = through_ray(options.splits)
    if options.json:
        out(json.dumps(found))
    for source, figures in [] if options.json else found.items():
        out(source)
        for name, value in figures.items():
            out(f"  {name:32} {value:12,.3f}")


if __name__ == "__main__":
    main()
