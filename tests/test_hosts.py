"""Several hosts, each with an address of its own: one loses its power, one its network, and nothing is lost.

The hosts are network namespaces (tests/hosts.py), not `ray.cluster_utils.Cluster`, whose nodes share one
address.
"""

from __future__ import annotations

import bz2
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.artefact import Artefact
from ingest.dump import locate
from ingest.settings import IngestSettings
from tests import hosts
from tests.dumps import varied_pages
from tests.hosts import Hosts
from tests.test_wikipedia import by_hand

PATIENCE = 240  # seconds that any one wait may take at most
TO_THE_END = 900  # ... and what is left of a command: a minute on an idle machine, seven on a busy one
SPLIT_BYTES = 100_000
WORDLOOM = [sys.executable, "-m", "wordloom"]


def until(happened: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def ended_well(process: subprocess.Popen[str], log: Path) -> str:
    try:
        code = process.wait(TO_THE_END)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it does not end: {log.read_text()}")
    assert code == 0, log.read_text()
    return log.read_text()


@pytest.mark.slow
@pytest.mark.operate
def test_a_host_without_power_and_one_without_network_cost_no_byte_and_no_training(tmp_path: Path) -> None:
    if reason := hosts.missing():
        pytest.skip(reason)
    source, corpus = tmp_path / "dump.xml.bz2", tmp_path / "corpus"
    source.write_bytes(bz2.compress(b"".join(varied_pages(12_000_000, 11)), 1))
    with hosts.hosts(tmp_path) as there:
        there.start(1, 2, 3)
        _ingest(there, source, corpus, tmp_path / "ingest.log")
        there.start(4, 5)
        _train(there, corpus, tmp_path / "vectors", tmp_path / "training.log")
    by_hand(
        locate(source, tmp_path / "downloads"), tmp_path / "alone", IngestSettings(split_bytes=SPLIT_BYTES)
    )
    made, alone = Artefact.open(corpus), Artefact.open(tmp_path / "alone")
    made.verify()
    assert (made.identity, made.manifest.files) == (alone.identity, alone.manifest.files)


def _ingest(there: Hosts, source: Path, corpus: Path, log: Path) -> None:
    command = ["ingest", "wikipedia", "--address", there.address, "--source", str(source), "--workers", "3"]
    command += [
        "--output",
        str(corpus),
        "--vocabulary",
        f"{corpus}-vocabulary",
        "--home",
        f"{corpus.parent}/home",
    ]
    command += ["--set", f"ingest.split_bytes={SPLIT_BYTES}"]
    process = there.run(1, [*WORDLOOM, *command], log.name)

    def finished() -> int:
        return len(list((corpus / "making" / "splits").glob("*.json")))

    until(lambda: finished() >= 4, process, log)
    there.kill(2)
    seen = finished()
    until(lambda: finished() >= seen + 4, process, log)
    there.cut(3)
    ended_well(process, log)


def _train(there: Hosts, corpus: Path, vectors: Path, log: Path) -> None:
    """Two workers on three hosts: one host is lost, then another, for which a new one comes."""
    command = ["train", "embeddings", "--address", there.address, "--corpus", str(corpus), "--workers", "2"]
    command += ["--vocabulary", f"{corpus}-vocabulary", "--output", str(vectors)]
    command += ["--set", "embeddings.epochs=40", "--set", "embeddings.vector_size=16"]
    process = there.run(1, [*WORDLOOM, *command], log.name)

    def position() -> int:
        done = [path.name for path in (vectors / "making" / "checkpoints").glob("*")]
        return max((int(found[0]) for name in done if (found := re.findall(r"\d+", name))), default=0)

    until(lambda: position() > 0, process, log)
    there.kill(4)
    seen = position()
    until(lambda: position() > seen, process, log)
    there.cut(5)
    there.start(6)
    said = ended_well(process, log)
    assert len(re.findall(r"Training goes on at block [1-9]", said)) >= 1, said
    Artefact.open(vectors).verify()
