"""How fast ingest reads, as ratios taken in one run, interleaved.

    python -m tests.benchmarks.ingest --plain FILE --markup FILE... [--json] [--rounds N] [--quick]

CPU seconds of ingest are those of its whole process tree, Ray included, from the first split to the
published manifest, through `ingest.wikipedia.ingest` (see `tests.benchmarks.ingest_runs`). A ratio is the
median over the rounds of what stood side by side in a round. What cannot be measured is null, with a reason.

- `cpu_ratio_to_bz2`: ingest (reference tokens, markup kept, no text) over `bz2` decompressing the same file;
  `cpu_ratio_to_bz2_with_text`: the same with the text in the shards;
- `speedup_over_plain`: CPU of the code that one writes first (`straightforward`) over that of ingest;
- `scaling_2_cores`: wall seconds with all of Ray, the driver and one worker on one core over those of two
  workers on two; taken behind the others, for a second Ray would be in their way;
- `scaling_2_workers`: wall seconds of one worker over those of two, both with two cores: what one worker
  leaves of them, the driver and Ray have;
- `report_cpu_s`: what drawing the corpus' report takes, once, behind the manifest;
- `startup_cpu_s`: Ray, imports and workers, that is all CPU before the first split of the first ingest;
- `peak_rss_mib`: the whole tree's, each shared page counted once, with the text in the shards;
- `segment_wiki_ratio`, `wikiextractor_ratio`, `wikipedia2vec_ratio`: bytes a CPU second of ingest (Unicode
  tokens, markup stripped, text) over the tool's (see `tests.benchmarks.markup_peers`);
- `strip_precision`, `strip_recall`: tokens of the stripped text against mwparserfromhell's.
"""

from __future__ import annotations

import argparse
import bz2
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cluster.progress import duration
from ingest.settings import LARGEST_SPLIT, IngestSettings
from tests.benchmarks import markup_peers
from tests.benchmarks.ingest_runs import Run, Runs

REFERENCE = IngestSettings(tokeniser="reference", markup="keep", text=False)
WITH_TEXT = IngestSettings(tokeniser="reference", markup="keep", text=True)
STRIPPED = IngestSettings()
QUICK_BYTES = 40_000_000  # XML
ENWIKI_BYTES = 40_000_000_000
# One process over the counts of 20 million distinct tokens in 320 runs, of which about 1/2 is the last level
# (tests/test_counting_memory.py: 35 s of CPU); an assumption here, not measured in this run.
MERGE_SECONDS = 35.0
KEYS = (
    "cpu_ratio_to_bz2",
    "cpu_ratio_to_bz2_with_text",
    "speedup_over_plain",
    "segment_wiki_ratio",
    "wikiextractor_ratio",
    "wikipedia2vec_ratio",
    "scaling_2_cores",
    "scaling_2_workers",
    "report_cpu_s",
    "startup_cpu_s",
    "peak_rss_mib",
    "strip_precision",
    "strip_recall",
)


def decompress(dump: Path) -> float:
    """CPU seconds of Python's bz2 for the file."""
    began = time.process_time()
    with bz2.open(dump) as stream:
        while stream.read(1 << 20):
            pass
    return time.process_time() - began


def straightforward(dump: Path) -> tuple[float, int]:
    """CPU seconds and tokens of the code that one writes first."""
    began = time.process_time()
    counts: Counter[str] = Counter()
    with bz2.open(dump) as stream:
        for _, element in ElementTree.iterparse(stream):
            if element.tag.rpartition("}")[2] == "page":
                text = element.findtext("{*}revision/{*}text")
                if element.findtext("{*}ns") == "0" and element.find("{*}redirect") is None and text:
                    counts.update(re.findall(r"[A-Za-z]+|[!?.:,()]", text.lower()))
                element.clear()
    return time.process_time() - began, counts.total()


def slice_of(dump: Path, scratch: Path) -> Path:
    """The first pages of a dump, QUICK_BYTES of XML in all."""
    with bz2.open(dump) as stream:
        xml = stream.read(QUICK_BYTES)
    path = scratch / "quick.xml.bz2"
    path.write_bytes(bz2.compress(xml[: xml.rindex(b"</page>") + 7] + b"\n</mediawiki>\n"))
    return path


def measure_plain(dump: Path, runs: Runs, rounds: int, notes: dict[str, Any]) -> dict[str, float]:
    first = runs.ingest(dump, WITH_TEXT, 2, memory=True)  # also fills the caches
    ratios: dict[str, list[float]] = {key: [] for key in KEYS[:3]}
    walls: list[tuple[float, float]] = []
    lean: list[Run] = []
    for number in range(rounds):
        floor = decompress(dump)
        lean.append(runs.ingest(dump, REFERENCE, 2))
        alone = runs.ingest(dump, REFERENCE, 1)
        text = runs.ingest(dump, WITH_TEXT, 2)
        plain, tokens = straightforward(dump)
        if abs(tokens - lean[-1].tokens) > tokens / 1000:
            raise SystemExit(f"ingest found {lean[-1].tokens:,} tokens and straightforward code {tokens:,}")
        floor = (floor + decompress(dump)) / 2
        ratios["cpu_ratio_to_bz2"].append(lean[-1].cpu / floor)
        ratios["cpu_ratio_to_bz2_with_text"].append(text.cpu / floor)
        ratios["speedup_over_plain"].append(plain / lean[-1].cpu)
        walls.append((alone.wall, lean[-1].wall))
        shares = ", ".join(f"{role} {each / floor:.2f}" for role, each in sorted(lean[-1].shares.items()))
        print(
            f"round {number + 1}: CPU s: bz2 {floor:.2f}, ingest {lean[-1].cpu:.2f} (of bz2: {shares}), "
            f"1 worker {alone.cpu:.2f}, with text {text.cpu:.2f}, straightforward {plain:.2f}; wall seconds: "
            f"1 worker {alone.wall:.2f}, 2 workers {lean[-1].wall:.2f}",
            flush=True,
        )
    fastest = min(run.wall for run in lean)
    notes["speedup_over_plain_in_wall_seconds"] = round(plain / fastest, 2)
    notes["wall_seconds_2_workers"] = statistics.median(two for _, two in walls)
    notes["bytes_per_cpu_s"] = dump.stat().st_size / statistics.median(run.cpu for run in lean)
    return {
        **{key: statistics.median(values) for key, values in ratios.items()},
        "scaling_2_workers": statistics.median(one / two for one, two in walls),
        "report_cpu_s": statistics.median(run.report for run in lean),
        "startup_cpu_s": first.before,
        "peak_rss_mib": first.peak_bytes / 2**20,
    }


def measure_one_core(dump: Path, scratch: Path, rounds: int, notes: dict[str, Any]) -> dict[str, float]:
    with Runs(scratch, one_core=True) as runs:
        runs.ingest(dump, REFERENCE, 1)  # fills the caches
        walls = [runs.ingest(dump, REFERENCE, 1).wall for _ in range(rounds)]
    print(f"wall seconds, all on one core: {', '.join(f'{each:.2f}' for each in walls)}", flush=True)
    return {"scaling_2_cores": statistics.median(walls) / notes["wall_seconds_2_workers"]}


def measure_markup(
    files: list[Path],
    pythons: dict[str, str],
    runs: Runs,
    rounds: int,
    scratch: Path,
    notes: dict[str, Any],
    reasons: dict[str, str],
) -> dict[str, float]:
    """Ours and each peer on one dump of all genuine pages; ours stands before and between the peers."""
    export = markup_peers.genuine_export(files, scratch / "markup.xml.bz2")
    runs.ingest(export.path, STRIPPED, 2)
    own: list[float] = []
    peers: dict[str, dict[str, Any]] = {}
    for name, python in pythons.items():
        own += [runs.ingest(export.path, STRIPPED, 2).cpu for _ in range(rounds)]
        peers[name] = markup_peers.peer_seconds(name, python, export.path, scratch / name)
    middle = statistics.median(own)
    print(
        f"markup: {export.pages:,} pages, {export.xml_bytes / 1e6:.1f} MB of XML; CPU seconds: ingest "
        f"{middle:.2f} ({export.xml_bytes / middle / 1e6:.1f} MB/s), "
        + ", ".join(f"{name} {taken.get('cpu_s', '-')}" for name, taken in peers.items()),
        flush=True,
    )
    notes["stripped_bytes_per_cpu_s"] = export.path.stat().st_size / middle
    notes["peers"] = peers
    figures: dict[str, float] = {}
    for key, value in markup_peers.ratios(middle, peers).items():
        if key.endswith("_missing"):
            reasons[key.replace("_missing", "_ratio")] = value
        elif value is not None:
            figures[key] = value
    extracted = scratch / "wikiextractor" / "whole"
    agreed = markup_peers.agreement(export, extracted if extracted.exists() else None)
    notes.update({key: value for key, value in agreed.items() if key.startswith("strip_by")})
    for key in ("strip_precision_wikiextractor", "strip_recall_wikiextractor"):
        notes[key] = agreed[key]
        print(f"{key:<32}{agreed[key]}")
    for key in ("strip_precision", "strip_recall"):
        if agreed[key] is not None:
            figures[key] = agreed[key]
        else:
            reasons[key] = "mwparserfromhell is not installed"
    return figures


def projection(name: str, rate: float, scaling: float) -> None:
    """How long a 40 GB enwiki takes on 1, 16 and 256 cores: its splits, the last of which may begin as the
    others end, and one process that merges all counts.
    """
    words = []
    for cores in (1, 16, 256):
        seconds = ENWIKI_BYTES / rate / (cores * (scaling / 2 if cores > 1 else 1))
        seconds += (LARGEST_SPLIT / rate if cores > 1 else 0) + MERGE_SECONDS
        words.append(f"{duration(seconds)} on {cores}")
    print(f"40 GB of .bz2, {name}: {', '.join(words)} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plain", type=Path, help="a single-stream .bz2 dump with some 200 MB of XML")
    parser.add_argument(
        "--markup", type=Path, nargs="+", default=[], help="other dumps; each page counts once"
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a slice of the plain dump, one round")
    for name in markup_peers.PEERS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, metavar="PYTHON", default=sys.executable, help="that has this peer")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    figures: dict[str, float | None] = dict.fromkeys(KEYS)
    reasons: dict[str, str] = {}
    notes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="wordloom-bench-") as folder:
        scratch = Path(folder)
        dump = options.plain
        if dump is not None and options.quick:
            dump = slice_of(dump, scratch)
        with Runs(scratch / "runs") as runs:
            if dump is not None:
                figures.update(measure_plain(dump, runs, rounds, notes))
            if options.markup:
                pythons = {name: getattr(options, name) for name in markup_peers.PEERS}
                found = measure_markup(options.markup, pythons, runs, rounds, scratch, notes, reasons)
                figures.update(found)
        if dump is not None:
            figures.update(measure_one_core(dump, scratch / "one", rounds, notes))
    for key in KEYS:
        value = figures[key]
        if value is not None:
            figures[key] = round(value, 3 if key.startswith("strip") else 2)
            print(f"{key:<28}{figures[key]:>10}")
            continue
        given = options.plain if key in (*KEYS[:3], *KEYS[6:11]) else options.markup
        why = (
            reasons.pop(key.removesuffix("_ratio"), "could not be measured") if given else "no file was given"
        )
        reasons[key] = why
        print(f"{key:<28}{'-':>10}  {why}")
    scaling = figures["scaling_2_cores"] or 2.0
    for note, name in (
        ("bytes_per_cpu_s", "reference tokens, markup kept, no text"),
        ("stripped_bytes_per_cpu_s", "Unicode tokens, markup stripped, text"),
    ):
        if note in notes:
            projection(name, notes[note], scaling)
    shared = (
        "half of what two reached here" if figures["scaling_2_cores"] else "as much as one (NOT measured)"
    )
    print(
        "assuming cores like these, pages and compression as in the dumps measured, a source that gives "
        f"every core its bytes, for each core of several {shared}, a last split of {LARGEST_SPLIT:,} bytes, "
        f"and {MERGE_SECONDS:.0f} s to merge 20 million distinct tokens"
    )
    if options.json:
        conditions = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "rounds": rounds,
            "quick": options.quick,
            "plain": str(options.plain),
            "markup": [str(file) for file in options.markup],
        }
        said = {"benchmark": "ingest", "figures": figures, "reasons": reasons, "notes": notes}
        print(json.dumps({**said, "conditions": conditions}))


if __name__ == "__main__":
    main()
