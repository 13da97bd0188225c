"""Nothing is lost whatever is killed: an ingest under SIGKILL gives the bytes that it gives in peace.

Each command runs in a session (setsid) of its own, with a Ray of its own; its processes are found by that
session's number. The corpus is compared whole: identity, counts, and the sha256 of every file.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cluster.folder import PARTIAL
from tests.dumps import varied_pages

pytestmark = [pytest.mark.slow, pytest.mark.operate]

SEED = 11
SIZE = 12_000_000  # of XML; some 5 s of work for one core
SPLIT_BYTES = 100_000
ACTOR = "IngestSplit"  # a part of the title of the processes that do the work
PATIENCE = 300  # seconds that any one wait may take at most

Corpus = dict[str, Any]


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kills") / "dump.xml.bz2"
    path.write_bytes(bz2.compress(b"".join(varied_pages(SIZE, SEED)), 1))
    return path


@pytest.fixture(scope="module")
def undisturbed(dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    output = tmp_path_factory.mktemp("undisturbed") / "corpus"
    assert finish(dump, output) == ""
    return contents(output)


def command(dump: Path, output: Path, workers: int) -> list[str]:
    words = [sys.executable, "-m", "wordloom", "ingest", "wikipedia"]
    words += ["--source", str(dump), "--output", str(output), "--workers", str(workers)]
    words += ["--vocabulary", f"{output}-vocabulary", "--home", str(output.parent / "home")]
    return [*words, "--set", f"ingest.split_bytes={SPLIT_BYTES}"]


@contextmanager
def running(dump: Path, output: Path, workers: int = 2) -> Iterator[subprocess.Popen[str]]:
    """The command under way; nothing of it is left behind this block."""
    with (output.parent / "said").open("w") as said:
        process = subprocess.Popen(
            command(dump, output, workers),
            stdout=said,
            stderr=said,
            text=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        )
    try:
        yield process
    finally:
        for pid in members(process.pid):
            kill(pid)
        process.wait()


def finish(dump: Path, output: Path, workers: int = 2) -> str:
    """Runs the command to its end: how many splits it found finished, as it says so (or nothing)."""
    with running(dump, output, workers) as process:
        code = process.wait(PATIENCE)
        said = (output.parent / "said").read_text()
        assert code == 0, said
        gone(process.pid)
    found = [line for line in said.splitlines() if "were finished by an earlier run" in line]
    return found[0] if found else ""


def contents(output: Path) -> Corpus:
    """What a corpus is: its manifest without the time of its making, and the sha256 of each file there."""
    manifest = json.loads((output / "manifest.json").read_text())
    files = {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in output.rglob("*.parquet")
    }
    assert not list(output.rglob(f"{PARTIAL}*"))  # what killed writers left is cleared
    assert files == {name: record["sha256"] for name, record in manifest["files"].items()}
    del manifest["made"]
    return {"files": files, "manifest": manifest}


def members(session: int) -> dict[int, str]:
    """The processes of a session: their numbers and command lines; those that have ended are left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(entry.name)] = words
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def gone(session: int, title: str = "") -> None:
    """Waits until nothing of a session is left that has `title` in its command line.

    Two agents of a Ray whose driver was killed look for their cluster for up to a minute before they end.
    """

    def left() -> list[str]:
        return [words for words in members(session).values() if title in words]

    wait(lambda: not left(), lambda: f"left behind: {left()}")


def wait(until: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def records(output: Path) -> int:
    return len(list((output / "making" / "splits").glob("[0-9]*.json")))


def at_work(process: subprocess.Popen[str], output: Path, more: int) -> None:
    """Waits until so many more splits are finished, or the command has ended."""
    wanted = records(output) + more
    wait(lambda: records(output) >= wanted or process.poll() is not None, lambda: "no split is finished")


def test_the_number_of_workers_changes_no_byte(dump: Path, undisturbed: Corpus, tmp_path: Path) -> None:
    finish(dump, tmp_path / "corpus", 4)  # 2 before
    assert contents(tmp_path / "corpus") == undisturbed


def test_killed_workers_do_not_end_the_run_and_lose_nothing(
    dump: Path, undisturbed: Corpus, tmp_path: Path
) -> None:
    chosen, killed = random.Random(SEED), 0
    output = tmp_path / "corpus"
    with running(dump, output) as process:
        for _ in range(4):
            at_work(process, output, chosen.randint(1, 5))
            time.sleep(chosen.random() / 4)
            actors = [
                pid for pid, title in members(process.pid).items() if ACTOR in title and "ray::" in title
            ]
            for pid in actors[: chosen.randint(1, 2)]:
                kill(pid)
                killed += 1
        assert process.wait(PATIENCE) == 0, (tmp_path / "said").read_text()
        gone(process.pid)
    assert killed >= 4
    assert contents(output) == undisturbed


def test_a_killed_driver_leaves_no_process_and_what_is_finished_is_not_done_again(
    dump: Path, undisturbed: Corpus, tmp_path: Path
) -> None:
    chosen = random.Random(SEED + 1)
    output = tmp_path / "corpus"
    for number in range(2):
        with running(dump, output) as process:
            at_work(process, output, chosen.randint(1, 12))
            time.sleep(chosen.random() / 2)
            assert process.poll() is None
            kill(process.pid)
            gone(process.pid, "" if number == 1 else ACTOR)  # its Ray ends by itself
    done = records(output)
    written = [
        json.loads(path.read_text())["files"] for path in (output / "making" / "splits").glob("[0-9]*.json")
    ]
    stamps = {output / name: (output / name).stat().st_mtime_ns for files in written for name in files}
    assert f"{done:,} of" in finish(dump, output)
    assert contents(output) == undisturbed
    assert stamps and {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_driver_killed_while_it_publishes_goes_on(dump: Path, undisturbed: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    with running(dump, output) as process:
        wait(
            lambda: (output / "counts.parquet").exists() or process.poll() is not None,
            lambda: "it does not come to counting",
        )
        kill(process.pid)
        gone(process.pid, ACTOR)
    finish(dump, output)
    assert contents(output) == undisturbed


def test_whatever_process_is_killed_the_same_command_ends_with_the_same_bytes(
    dump: Path, undisturbed: Corpus, tmp_path: Path
) -> None:
    """Any process of the run, Ray's own ones too: the run ends well, or it ends and the next one goes on."""
    chosen, ends, names = random.Random(SEED + 2), [], []
    output = tmp_path / "corpus"
    for wanted in ("raylet", "gcs_server", "ActorLocationTracker", "dashboard"):
        with running(dump, output) as process:
            at_work(process, output, chosen.randint(1, 6))
            there = members(process.pid)
            suitable = sorted(pid for pid, words in there.items() if wanted in words and pid != process.pid)
            if suitable:
                victim = chosen.choice(suitable)
                names.append(there[victim].split(" ")[0].rpartition("/")[2])
                kill(victim)
            ends.append(process.wait(PATIENCE))
            assert ends[-1] in (0, 1), (tmp_path / "said").read_text()
            gone(process.pid, ACTOR)
    finish(dump, output)
    assert contents(output) == undisturbed
    print(f"\nkilled {names}: the commands ended with {ends}")
