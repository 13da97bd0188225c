"""Seconds and peak memory of each stage of the main job, on a fresh home.

    python -m tests.benchmarks.main_job [--json] [--source DUMP]

Memory is the proportional set size (PSS: shared pages counted once) of the command and of all that it
started, sampled five times a second; the object store's pages count with it. CPU seconds are those that each
of these processes had when it was last seen: the command does not wait for Ray's processes, so the system's
own sum for its children leaves them out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.2


def descendants(root: int) -> list[int]:
    """The process and all below it, as /proc has them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, ahead = [], [root]
    while ahead:
        found.append(ahead.pop())
        ahead += children.get(found[-1], [])
    return found


def pss_bytes(pids: list[int]) -> int:
    """The memory of these processes together, each shared page counted once."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
        except OSError:
            continue
    return total


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """User and system seconds that each of these processes has had."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[pid] = (int(fields[11]) + int(fields[12])) / ticks
    return found


def measure(arguments: list[str]) -> tuple[dict[str, Any], list[tuple[float, int]], float, float]:
    """Runs the main job: its result, (time, bytes) samples, wall seconds, CPU seconds of the whole tree."""
    samples: list[tuple[float, int]] = []
    cpu: dict[int, float] = {}
    began = time.time()
    with subprocess.Popen(
        [sys.executable, "-m", "wordloom", "run", "--json", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        done = threading.Event()

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                pids = descendants(process.pid)
                samples.append((time.time(), pss_bytes(pids)))
                cpu.update(cpu_seconds(pids))

        watcher = threading.Thread(target=sample, daemon=True)
        watcher.start()
        assert process.stdout is not None
        output = process.stdout.read()
        code = process.wait()
        done.set()
        watcher.join()
    if code:
        raise SystemExit(f"wordloom run exited with {code}")
    return json.loads(output.splitlines()[-1]), samples, time.time() - began, sum(cpu.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument("--source", help="a dump (without: the embedded sample)")
    options = parser.parse_args()
    source = ["--source", options.source] if options.source else []
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="wordloom-bench-") as home:
        result, samples, seconds, cpu = measure(["--home", home, *source])
        _, _, again, _ = measure(["--home", home, *source])
    print(f"{'stage':<24}{'seconds':>10}{'peak MiB':>10}")
    for stage in result["stages"]:
        held = [size for at, size in samples if stage["began"] <= at <= stage["ended"]]
        name = stage["name"].replace(" ", "_")
        figures[f"{name}_s"] = round(stage["ended"] - stage["began"], 1)
        figures[f"{name}_peak_mib"] = round(max(held, default=0) / 2**20)
        print(f"{stage['name']:<24}{figures[f'{name}_s']:>10}{figures[f'{name}_peak_mib']:>10}")
    figures["total_s"] = round(seconds, 1)
    figures["total_peak_mib"] = round(max(size for _, size in samples) / 2**20)
    figures["cpu_s"] = round(cpu, 1)
    figures["again_s"] = round(again, 1)
    print(f"{'total':<24}{figures['total_s']:>10}{figures['total_peak_mib']:>10}")
    print(f"the same command again: {again:.1f} s; CPU of the first: {cpu:.0f} s")
    if options.json:
        conditions = {"cores": os.cpu_count(), "python": platform.python_version(), "source": options.source}
        print(json.dumps({"benchmark": "main_job", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
