"""Too little memory is said while work runs, for Ray ends and starts workers without a word."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster import memory

GIB = 1 << 30


def test_memory_that_is_nearly_full_is_said_with_what_to_do() -> None:
    assert memory.shortage(15 * GIB, 16 * GIB, 0.95) is None
    said = memory.shortage(31 * GIB, 32 * GIB, 0.95)
    assert said is not None and "31.0 of 32.0 GiB" in said and "from 95% on" in said and "--workers" in said


@pytest.mark.parametrize("version", [0, 1])
def test_a_containers_limit_counts_and_its_cache_does_not(tmp_path: Path, version: int) -> None:
    taken, limit, (first, second) = memory.CONTAINERS[version]
    folder = (tmp_path / "sys/fs/cgroup" / taken).parent
    folder.mkdir(parents=True)
    (folder / Path(taken).name).write_text(f"{5 * GIB}\n")
    (folder / Path(limit).name).write_text(f"{6 * GIB}\n")
    (folder / "memory.stat").write_text(f"anon {2 * GIB}\n{first} {GIB}\n{second} {2 * GIB}\n")
    assert memory.measured(tmp_path) == (2 * GIB, 6 * GIB)


@pytest.mark.parametrize("limit", ["max", str(0x7FFFFFFFFFFFF000)])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, limit: str) -> None:
    for taken, name, _ in memory.CONTAINERS:
        (tmp_path / "sys/fs/cgroup" / taken).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / name).write_text(limit)
    assert memory.measured(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  4096 kB\nMemFree: 1 kB\nMemAvailable:  1024 kB\n")
    assert memory.measured(tmp_path) == (3072 << 10, 4096 << 10)


def test_work_hears_of_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    told = threading.Event()

    def say(sentence: str) -> None:
        heard.append(sentence)
        told.set()

    monkeypatch.setattr(memory, "SECONDS", 0.01)
    monkeypatch.setattr(memory, "measured", lambda: (GIB, 2 * GIB))
    with memory.watched(say):
        assert not told.wait(0.1)
    monkeypatch.setenv(memory.THRESHOLD, "0.4")
    with memory.watched(say):
        assert told.wait(10)
    assert len(heard) == 1


FAULTS = """
import resource, sys
from cluster import memory
assert "keep" not in sys.argv or memory.keep_freed()
def taken():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [b"x" * (1 << 20) for _ in range(64)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
taken()
print(taken())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed when it is told to"
)
def test_a_worker_keeps_what_it_frees_and_need_not_take_it_anew() -> None:
    new, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, *words], capture_output=True, check=True).stdout)
        for words in ((), ("keep",))
    )
    assert kept < new / 10, (new, kept)


def test_a_system_without_the_setting_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert memory.keep_freed() is False
