"""Whether memory is nearly full, said while work runs: Ray then ends workers and starts them again, without a
word and without end, and a run that does not move has no other sign. And how a worker keeps what it frees.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

THRESHOLD = "RAY_memory_usage_threshold"  # of Ray's own monitor, and its default
DEFAULT = 0.95
SECONDS = 2.0  # between two looks
# What a container has taken and may take, and what of it is only cache, by the version of cgroups.
CONTAINERS = (
    ("memory.current", "memory.max", ("inactive_file", "active_file")),
    (
        "memory/memory.usage_in_bytes",
        "memory/memory.limit_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)
# Of glibc's malloc.h. Blocks from the second's bytes on are given back at once, glibc allows no more.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES, LARGEST_BLOCK = 1 << 28, 32 << 20
ENDLESS = 1 << 60  # what the first version calls no limit is more than this


def shortage(taken: int, total: int, threshold: float) -> str | None:
    """What to say where `taken` of `total` bytes are a share from which on Ray ends workers; else None."""
    if taken < threshold * total:
        return None
    return (
        f"! Memory is nearly full ({taken / 2**30:.1f} of {total / 2**30:.1f} GiB are taken): from "
        f"{threshold:.0%} on Ray ends workers, and what they were at begins again. End other programs, take "
        "fewer --workers, or raise the container's limit; stopped by Ctrl-C, the same command goes on."
    )


def ran_out(error: BaseException) -> str | None:
    """What to say where an error, or one behind it, means that memory ran out; else None. Ray's error is
    known by its name, for Ray is not loaded by every command."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, MemoryError) or any(
            each.__name__ == "OutOfMemoryError" for each in type(behind).__mro__
        ):
            return (
                "Memory ran out, and a process of this run was ended. End other programs, take fewer "
                "--workers, or raise the container's limit; the same command goes on where this one was."
            )
        behind = behind.__cause__ or behind.__context__
    return None


def measured(root: Path = Path("/")) -> tuple[int, int] | None:
    """Bytes taken and bytes there are, of the container where it has a limit, else of the machine; None where
    the system does not tell."""
    return of_container(root) or of_machine(root)


def of_container(root: Path = Path("/")) -> tuple[int, int] | None:
    """Bytes taken, without what is only cache, and bytes allowed; None where there is no limit."""
    groups = root / "sys/fs/cgroup"
    for taken, limit, cached in CONTAINERS:
        try:
            total = int((groups / limit).read_text("ascii"))
            if total < ENDLESS:
                kinds = _numbers((groups / taken).with_name("memory.stat"))
                cache = sum(kinds.get(name, 0) for name in cached)
                return int((groups / taken).read_text("ascii")) - cache, total
        except (OSError, ValueError):  # no such version, or "max"
            continue
    return None


def of_machine(root: Path = Path("/")) -> tuple[int, int] | None:
    """Bytes taken and bytes there are; None where there is no /proc."""
    try:
        known = _numbers(root / "proc/meminfo")
        return (known["MemTotal"] - known["MemAvailable"]) << 10, known["MemTotal"] << 10
    except (OSError, KeyError):
        return None


@contextmanager
def watched(say: Callable[[str], None]) -> Iterator[None]:
    """Looks at this machine's memory while the block runs, and says once where it is short."""
    over = threading.Event()

    def watch() -> None:
        threshold = float(os.environ.get(THRESHOLD, DEFAULT))
        while (found := measured()) is not None:
            if (sentence := shortage(*found, threshold)) is not None:
                return say(sentence)
            if over.wait(SECONDS):
                return None
        return None

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def keep_freed() -> bool:
    """Has this process keep up to KEPT_BYTES of what it frees, for work that takes as much again and again:
    to give it back and to take it anew page by page costs a worker of ingest 3 to 8 % of its CPU. Where the C
    library has no such setting (other than glibc), nothing happens and False is returned.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((TRIM_THRESHOLD, KEPT_BYTES), (MMAP_THRESHOLD, LARGEST_BLOCK))
    return mallopt is not None and all(mallopt(name, value) for name, value in settings)


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    found = re.findall(r"^(\w+):?\s+(\d+)", path.read_text("ascii"), re.MULTILINE)
    return {name: int(number) for name, number in found}
