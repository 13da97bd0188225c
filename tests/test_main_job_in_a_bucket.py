"""The whole main job with its source and its home in an object store, killed twice on the way.

The store is moto's, an S3 server over HTTP on loopback.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.artefact import Artefact
from cluster.folder import PARTIAL, Folder
from cluster.store import Store
from ingest.dump import locate
from ingest.settings import IngestSettings
from tests import small
from tests.test_ingest_kills import ACTOR, PATIENCE, kill, members, wait
from tests.test_object_store import bucket, endpoint, put  # noqa: F401 (fixtures)
from tests.test_wikipedia import by_hand

SPLIT_BYTES = 4_000  # some forty splits, so that a kill falls in the middle


@contextmanager
def running(home: str, source: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command under way; nothing of it is left behind this block."""
    command = [sys.executable, "-m", "wordloom", "run", "--source", source, "--home", home, "--port", "0"]
    command += [*small.ASSIGNMENTS, "--set", f"ingest.split_bytes={SPLIT_BYTES}"]
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        yield process
    finally:
        for pid in members(process.pid):
            kill(pid)
        process.wait()


@pytest.mark.slow
@pytest.mark.operate
def test_a_main_job_in_a_bucket_outlives_a_killed_worker_and_a_killed_driver(
    bucket: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    local = small.dump(tmp_path / "sample")
    home, source = f"s3://{bucket}/home", put(f"s3://{bucket}/dump.xml.bz2", local.read_bytes())
    log, folder = tmp_path / "said", Folder(home)

    def said() -> str:
        return log.read_text()

    with running(home, source, log) as process:

        def seen(part: str) -> bool:
            assert process.poll() is None, said()
            time.sleep(0.5)  # the store is in this process, and lists slowly
            return any(part in name for name in folder.names())

        wait(lambda: seen("/making/splits/"), said)
        actors = [pid for pid, words in members(process.pid).items() if "ray::" in words and ACTOR in words]
        assert actors, members(process.pid)
        kill(actors[0])
        wait(lambda: seen("/making/checkpoints/"), said)
        assert "✓ ingest" in said()
        kill(process.pid)
    assert [each.kind for each in Store(home).unfinished()]
    with running(home, source, log) as process:
        assert process.wait(PATIENCE) == 0, said()
    assert "= ingest: reused" in said() and "= vocabulary: reused" in said() and "/v1/text/generate" in said()
    artefacts = {each.kind: each for each in Store(home).artefacts()}
    assert {"corpus", "vocabulary", "vectors", "language-model", "sequences", "sentiment"} <= artefacts.keys()
    for each in artefacts.values():
        each.verify()
    by_hand(
        locate(local, tmp_path / "downloads"), tmp_path / "alone", IngestSettings(split_bytes=SPLIT_BYTES)
    )
    alone = Artefact.open(tmp_path / "alone")
    assert alone.manifest.files == artefacts["corpus"].manifest.files
    assert alone.identity == artefacts["corpus"].identity
    left = [name for name in folder.names() if "/making/" in name]
    assert not left and not [name for name in folder.names() if PARTIAL in name]
