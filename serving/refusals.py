"""What HAProxy answers by itself, with no replica behind it: read from HAProxy and counted in our metrics.

Ray counts by a log line for each request, carried to it by a socket that holds ten: not made for the load in
which HAProxy refuses (how many it loses was not measured). HAProxy's own counters are exact, and the process
that started Ray reads them every second. They begin anew with each process of HAProxy: when Ray replaces it,
as replicas come or go, what the old one answered since the last look is not counted.
"""

from __future__ import annotations

import csv
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.gate import record_refused
from serving.haproxy import TOO_BUSY

SOCKET = "RAY_SERVE_HAPROXY_SOCKET_PATH"  # Ray puts the node's name before the file's
SECONDS = 1.0
UNREACHED = "not_ready"  # no route yet, or nobody behind it


class Refusals:
    """The answers that HAProxy, be it one process or several after each other, made by itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = ""
        self._seen: Counter[str] = Counter()

    def count(self) -> None:
        """Counts what was answered since the last look; nothing where HAProxy does not answer."""
        try:
            said = self.said()
        except OSError:
            return
        for kind, new in self.more(said).items():
            record_refused(kind, new)

    def said(self) -> str:
        """HAProxy's counters, as it writes them. Raises OSError where it does not answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._path))
            connection.sendall(b"show info;show stat\n")
            return b"".join(iter(lambda: connection.recv(65_536), b"")).decode(errors="replace")

    def more(self, said: str) -> Counter[str]:
        """Answers by kind of error that `said` (of ``show info``, then ``show stat``) has more than the last
        one had."""
        info, _, table = said.partition("# ")
        process = next((line for line in info.splitlines() if line.startswith("Pid:")), "")
        found: Counter[str] = Counter()
        for row in csv.DictReader(table.splitlines()):
            answered, backend = int(row["hrsp_5xx"] or 0), row["pxname"]
            if row["svname"] == "BACKEND":  # all answers of the backend, those of its servers among them
                found[TOO_BUSY if backend == TOO_BUSY else UNREACHED] += answered
            elif row["svname"] != "FRONTEND":
                found[UNREACHED] -= answered
        before = self._seen if process == self._process else Counter[str]()
        # A server's answer is counted before its backend's: a difference may fall for a moment.
        self._process, self._seen = process, found | before
        return found - before


@contextmanager
def counted() -> Iterator[None]:
    """Counts until the block ends, where this process prepared HAProxy (serving/profile.py)."""
    if (named := os.environ.get(SOCKET)) is None:
        yield
        return
    ended, known = threading.Event(), dict[Path, Refusals]()

    def look() -> None:
        while not ended.wait(SECONDS):
            for path in Path(named).parent.glob(f"*/{Path(named).name}"):
                known.setdefault(path, Refusals(path)).count()

    looking = threading.Thread(target=look, name="refusals", daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
