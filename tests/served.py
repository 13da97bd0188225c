"""`wordloom serve` in processes of its own, for tests that hurt it and benchmarks that load it; the load."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cluster.metrics import exported_name
from tests.benchmarks.main_job import descendants
from tests.ports import free_port

REPLICA = "ray::ServeReplica:"  # the name of a replica's process, before its application's and deployment's
PROXIES = ("ray::ProxyActor", "ray::HAProxyManager")
PATIENCE = 60.0  # seconds until a request is given up
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running server: its address, its processes and where Prometheus would ask."""

    port: int
    pid: int
    metrics: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self, *names: str) -> dict[int, str]:
        """Those of its processes whose name begins with one of `names` (without: all), as Ray names them."""
        found = {}
        for pid in descendants(self.pid):
            try:
                name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
            if not names or name.startswith(names):
                found[pid] = name
        return found

    def counted(self, *routes: str) -> Counter[int]:
        """How many requests to these routes were answered with which status, as the server's metrics say: all
        of what it answered some ten seconds ago."""
        found: Counter[int] = Counter()
        for address in self.metrics:
            with urllib.request.urlopen(address, timeout=30) as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == exported_name("serve_requests") and sample.labels["route"] in routes:
                        found[int(sample.labels["status"])] += int(sample.value)
        return found

    def replicas(self, kind: str) -> list[int]:
        """The processes that hold a kind of model."""
        return list(self.processes(f"{REPLICA}{kind}:"))


@contextmanager
def serving(models: Path, *arguments: str, profile: str = "default", **settings: object) -> Iterator[Server]:
    """Serves a folder until the block ends, by Ctrl-C as a person ends it."""
    port = free_port()
    command = [sys.executable, "-m", "wordloom", "serve", "--models", str(models), "--port", str(port)]
    given = [word for name, value in settings.items() for word in ("--set", f"serving.{name}={value}")]
    # HAProxy's two ports: Ray's own might be another test's.
    ports = {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("STATS", "METRICS")}
    with subprocess.Popen(
        [*command, "--profile", profile, *given, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | ports,
        start_new_session=True,
        # A shell starts background commands with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if line.startswith("Serving until"):
                    break
            else:
                raise AssertionError(f"the server did not come up: {''.join(said)}")
            (metrics,) = [line.split()[1:] for line in said if line.startswith("Metrics: ")]
            yield Server(port, process.pid, tuple(metrics))
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@dataclass(frozen=True)
class Request:
    """What is asked, and whether an answer of 200 is the right one."""

    path: str
    body: dict[str, object] | None = None
    right: Callable[[bytes], bool] = field(default=lambda answer: True)

    def head(self, port: int) -> bytes:
        """The bytes that go over the connection."""
        body = json.dumps(self.body).encode() if self.body is not None else b""
        method = "GET" if self.body is None else "POST"
        lines = f"{method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
        return f"{lines}Content-Type: application/json\r\n\r\n".encode() + body


@dataclass(frozen=True)
class Answered:
    """One request's end: when it was sent (s), how long it took (s), its status (0: none came in time).

    `broken` is how often a connection was refused or broke on the way: it was asked again then, as clients
    do."""

    at: float
    seconds: float
    status: int
    retry_after: bool
    right: bool
    broken: int


def load(
    port: int,
    requests: Sequence[Request],
    *,
    connections: int,
    seconds: float | None = None,
    count: int | None = None,
    rate: float | None = None,
) -> list[Answered]:
    """Asks over so many connections until `seconds` are over or `count` requests are answered.

    Without a `rate` each connection asks again when it is answered; with one, so many requests a second are
    sent whether or not earlier ones are answered, by whichever connection is free.
    """
    gc.collect()
    gc.disable()  # a collection over all answers so far would hold every client up
    try:
        return asyncio.run(_load(port, requests, connections, seconds, count, rate))
    finally:
        gc.enable()


def statuses(answers: Sequence[Answered]) -> Counter[int]:
    return Counter(each.status for each in answers)


async def _load(
    port: int,
    requests: Sequence[Request],
    connections: int,
    seconds: float | None,
    count: int | None,
    rate: float | None,
) -> list[Answered]:
    prepared = [(each.head(port), each.right) for each in requests]
    answers: list[Answered] = []
    began = time.perf_counter()
    asked = 0

    def wanted() -> bool:
        over = seconds is not None and time.perf_counter() - began >= seconds
        return not over and (count is None or asked < count)

    async def connection() -> None:
        nonlocal asked
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while wanted():
            head, right = prepared[asked % len(prepared)]
            due = began + asked / rate if rate is not None else 0.0
            asked += 1
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            sent = time.perf_counter()
            status, retry, body, broken = 0, False, b"", 0
            while not status and time.perf_counter() - sent < PATIENCE:
                try:
                    if writer is None or reader is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(head)
                    status, retry, body, closes = await asyncio.wait_for(_answer(reader), PATIENCE)
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    broken += 1
                    closes = True
                    await asyncio.sleep(0.05)
                if closes and writer is not None:
                    writer.close()
                    writer = None
            fine = status != 200 or right(body)
            answers.append(Answered(sent - began, time.perf_counter() - sent, status, retry, fine, broken))
        if writer is not None:
            writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return answers


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes, bool]:
    """Status, whether there is a Retry-After, the body, whether the connection ends with it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    if "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    else:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    return int(head.split(" ")[1]), "retry-after" in fields, body, fields.get("connection") == "close"
