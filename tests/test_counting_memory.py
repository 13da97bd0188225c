"""Counting is exact in bounded memory: 20 million distinct tokens, counted and cut in less than 1.5 GiB.

Numbers stand for words: token t is t in eight digits, and how often each run holds it follows from t and
the run, so the merged counts can be checked one by one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.artefact import Draft, Input
from cluster.folder import Folder
from ingest.settings import IngestSettings
from ingest.vocabulary import FAN_IN, SCHEMA, write_run

DISTINCT = 20_000_000
RUNS = 320  # 5 groups of FAN_IN, so the tree has two levels
COMMON = 2_000  # tokens below this number stand in every run
LIMIT = 3 << 29  # 1.5 GiB
VOCABULARY = 1_000_000

Numbers = npt.NDArray[np.int64]

# What the driver of an ingest does once all splits are finished, with Ray's tasks done here and at once.
COUNT = """
import json, os, re, sys
from pathlib import Path
import pyarrow.parquet as pq
from cluster.artefact import Draft, Input
from ingest import wikipedia
from ingest.settings import IngestSettings, VocabularySettings
from ingest.vocabulary import FILE, most_frequent

class Here:
    remote = staticmethod(lambda function: type("Task", (), {"remote": staticmethod(function)}))
    get = staticmethod(lambda results: results)

def peak():  # since exec; ru_maxrss would be that of the process that forked this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

wikipedia.ray = Here
inputs = {"dump": Input("dump", "0" * 64, "nowhere")}
draft = Draft(sys.argv[1], kind="corpus", output_version=1, inputs=inputs, settings=IngestSettings())
said = {"began": peak()}
runs = [f"counts/{run:05d}.parquet" for run in range(int(sys.argv[2]))]
_, said["distinct"] = wikipedia._counted(draft, runs)
said["counting"] = peak()
with draft.folder.open("counts.parquet") as stream:
    batches = pq.ParquetFile(stream).iter_batches()
    cut, said["total"], _ = most_frequent(batches, VocabularySettings(size=int(sys.argv[3])))
draft.folder.write_table("cut.parquet", cut.to_table())
said["cutting"] = peak()
said["cpu_s"] = sum(os.times()[:2])
print(json.dumps(said))
"""


def homes(tokens: Numbers) -> tuple[Numbers, Numbers]:
    """The two runs in which a token stands that is not common (perhaps twice the same)."""
    return tokens % RUNS, (tokens // RUNS * 7 + tokens) % RUNS


def in_run(tokens: Numbers, run: Numbers | int) -> Numbers:
    """How often a run holds each of the tokens that stand in it."""
    return 1 + (tokens * 31 + run) % 5


def expected(tokens: Numbers) -> Numbers:
    first, second = homes(tokens)
    counts = in_run(tokens, first) + np.where(first == second, 0, in_run(tokens, second))
    common = tokens < COMMON
    every = np.arange(RUNS)
    counts[common] = in_run(tokens[common, None], every[None]).sum(axis=1)
    return counts


def write_runs(folder: Folder) -> int:
    """All runs; the sum of all counts."""
    tail = np.arange(COMMON, DISTINCT)
    first, second = homes(tail)
    order = np.argsort(np.concatenate([first, second]), kind="stable")
    edges = np.searchsorted(np.concatenate([first, second])[order], np.arange(RUNS + 1))
    total = 0
    for run in range(RUNS):
        own = np.unique(tail[order[edges[run] : edges[run + 1]] % len(tail)])
        tokens = np.concatenate([np.arange(COMMON), own])
        counts = in_run(tokens, run)
        words = pc.utf8_lpad(pa.array(tokens).cast(pa.string()), 8, "0")
        write_run(folder, f"counts/{run:05d}.parquet", pa.table([words, counts], schema=SCHEMA))
        total += int(counts.sum())
    return total


@pytest.mark.slow
def test_20_million_distinct_tokens_are_counted_and_cut_in_less_than_1_5_gib(tmp_path: Path) -> None:
    assert RUNS > 4 * FAN_IN
    inputs = {"dump": Input("dump", "0" * 64, "nowhere")}
    draft = Draft(  # without a claim: the process that counts takes it
        tmp_path / "corpus",
        kind="corpus",
        output_version=1,
        inputs=inputs,
        settings=IngestSettings(),
        claim=False,
    )
    folder = draft.folder
    total = write_runs(draft.making)
    done = subprocess.run(
        [sys.executable, "-c", COUNT, folder.location, str(RUNS), str(VOCABULARY)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0
    said: dict[str, Any] = json.loads(done.stdout)
    print(f"\n{said}")
    assert (said["distinct"], said["total"]) == (DISTINCT, total)
    at = 0
    for batch in pq.ParquetFile(tmp_path / "corpus" / "counts.parquet").iter_batches():
        tokens = np.arange(at, at + len(batch))
        assert np.array_equal(batch["token"].cast(pa.int64()).to_numpy(), tokens)
        assert np.array_equal(batch["count"].to_numpy(), expected(tokens))
        at += len(batch)
    assert at == DISTINCT
    counts = expected(np.arange(DISTINCT))
    best = np.lexsort((np.arange(DISTINCT), -counts))[: VOCABULARY - 1]
    cut = folder.read_table("cut.parquet")
    assert np.array_equal(cut["token"][1:].cast(pa.int64()).to_numpy(), best)
    assert np.array_equal(cut["count"][1:].to_numpy(), counts[best])
    assert cut["count"][0].as_py() == total - int(counts[best].sum())
    assert said["counting"] < LIMIT
    assert said["cutting"] < LIMIT
