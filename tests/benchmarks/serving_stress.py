"""Serving more than it can carry, and texts that are read as they are made."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import serving_models as made
from tests.served import Answered, Request, Server, load, serving, statuses

CAPACITY_SECONDS = 5.0
OVERLOAD_SECONDS = 12.0
TIMES = 4
# Connections to send by: more than the gate lets in (`concurrent` and `queue`: 160), so that it must refuse.
CONNECTIONS = 512
WAKING_SECONDS = 0.002
STREAMS = 32
PAUSE_SECONDS = 0.02
LENGTH = 300


def overload(models: Path, profiles: tuple[str, ...] = ("throughput", "default")) -> dict[str, Any]:
    """Four times the rate that 32 connections get answered: what comes back, when, and what stays."""
    asked = [Request("/v1/sentiment", {"input": text}) for text in made.texts(64)]
    figures: dict[str, Any] = {}
    for profile in profiles:
        prefix = "" if profile == "throughput" else f"{profile}_"
        with serving(models / "sentiment", profile=profile) as server:
            load(server.port, asked, connections=32, seconds=2)
            calm = load(server.port, asked, connections=32, seconds=CAPACITY_SECONDS)
            rate = len(calm) / CAPACITY_SECONDS
            pushed(server, asked, rate)  # grows what it needs once
            before = resident(server)
            with lateness() as late:
                answers = pushed(server, asked, rate)
            grown = resident(server) - before
            recovered = recovery(server, asked, statistics.median(each.seconds for each in calm))
        refused = [each.seconds for each in answers if each.status in (429, 503)]
        figures |= {
            f"{prefix}overload_sent_per_s": TIMES * rate,
            f"{prefix}overload_statuses": named(statuses(answers)),
            f"{prefix}overload_without_retry_after": sum(
                not each.retry_after for each in answers if each.status in (429, 503)
            ),
            f"{prefix}overload_rejection_p99_ms": float(np.percentile(refused, 99)) * 1e3
            if refused
            else None,
            f"{prefix}overload_clients_late_p99_ms": float(np.percentile(late, 99)) * 1e3,
            f"{prefix}overload_growth_mib": grown,
            f"{prefix}overload_recovery_s": recovered,
        }
    return figures


def pushed(server: Server, asked: list[Request], rate: float) -> list[Answered]:
    return load(server.port, asked, connections=CONNECTIONS, seconds=OVERLOAD_SECONDS, rate=TIMES * rate)


@contextmanager
def lateness() -> Iterator[list[float]]:
    """How much later (s) than it wanted a thread of this process woke, again and again: what the clients add
    to the times that they measure where servers leave them no core."""
    found: list[float] = []
    ended = threading.Event()

    def sleep() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            time.sleep(WAKING_SECONDS)
            found.append(time.perf_counter() - began - WAKING_SECONDS)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    try:
        yield found
    finally:
        ended.set()
        sleeper.join()


def named(counts: Counter[int]) -> dict[str, int]:
    """Counts by status, as JSON names them; "none" where no answer came."""
    return {str(status or "none"): count for status, count in sorted(counts.items())}


def resident(server: Server) -> float:
    """MiB that the server's replicas and proxies hold, shared pages left out."""
    total = 0
    for pid in server.processes("ray::"):
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(status.partition("RssAnon:")[2].split()[0])
    return total / 1024


def recovery(server: Server, asked: list[Request], usual: float) -> float:
    """Seconds until 20 requests in turn are answered in twice the usual time of 32 at once."""
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        answers = load(server.port, asked, connections=1, count=20)
        slow = [each for each in answers if each.status != 200 or each.seconds > 2 * usual]
        if not slow:
            break
    return max(0.0, time.perf_counter() - began - sum(each.seconds for each in answers))


# streams


def stream(models: Path) -> dict[str, Any]:
    """The first character of a text, and 32 texts at once."""
    from serving.text import Sampling, Text
    from trainers.sampling import Draw

    core = Text.open(str(models / "language-model"))
    carry, draw = core.model.start("", seed=1), Draw(Sampling.temperature, 0, 1.0)
    # One after the other, and behind pauses as a server meets them, in which others fill the caches.
    steps: dict[float, list[float]] = {0.0: [], PAUSE_SECONDS: []}
    for _ in range(50):
        for pause, times in steps.items():
            time.sleep(pause)
            began = time.perf_counter()
            _, (carry,) = core.model.step_together([carry], 1, [draw], 1)
            times.append(time.perf_counter() - began)
    with serving(models / "language-model", profile="throughput") as server:
        nothing = [no_op(server) for _ in range(100)]
        alone = [reading(server, 20, seed)[0][0] for seed in range(30)][5:]
        together = [streams(server) for _ in range(6)][1:]
    step, paused, idle, first = map(statistics.median, (*steps.values(), nothing, alone))
    return {
        "step_ms": step * 1e3,
        "paused_step_ms": paused * 1e3,
        "stream_noop_ms": idle * 1e3,
        "first_character_ms": first * 1e3,
        "first_character_over_step": (first - idle) / step,
        "first_character_over_paused_step": (first - idle) / paused,
        "streams_together": statistics.median(map(least_done, together)),
        "streams_characters_per_s": statistics.median(
            STREAMS * LENGTH / max(each[-1][0] for each in read) for read in together
        ),
    }


def least_done(read: list[list[tuple[float, int]]]) -> float:
    """How much of its text the last of the streams has when the first one is done."""
    done = min(each[-1][0] for each in read)
    return min(max((made for at, made in each if at <= done), default=0) for each in read) / LENGTH


def no_op(server: Server) -> float:
    """Seconds of a request that asks no model, over a connection of its own, as `reading` has one."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/livez")
    connection.getresponse().read()
    connection.close()
    return time.perf_counter() - began


def streams(server: Server, count: int = STREAMS, length: int = LENGTH) -> list[list[tuple[float, int]]]:
    """So many texts at once: for each the times (s) of its pieces and the characters made by then."""
    found: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    began = time.perf_counter()

    def read(number: int) -> None:
        found[number] = reading(server, length, number, began)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(count)]
    for each in readers:
        each.start()
    for each in readers:
        each.join(120)
    return found


def reading(server: Server, length: int, seed: int, began: float | None = None) -> list[tuple[float, int]]:
    """Reads a text as it is made."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"length": length, "seed": seed, "stream": True})
    began = time.perf_counter() if began is None else began
    connection.request("POST", "/v1/text/generate", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    pieces, made_so_far = [], 0
    for line in answer:
        if line.startswith(b'data: {"text"'):
            made_so_far += len(json.loads(line[6:])["text"])
            pieces.append((time.perf_counter() - began, made_so_far))
    connection.close()
    assert made_so_far == length, (made_so_far, length)
    return pieces
