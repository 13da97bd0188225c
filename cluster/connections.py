"""Connections to a server: how many may be open at once, counted over the whole cluster.

Wikimedia asks for at most two connections to its dump server, and a cluster of a thousand cores is one
guest. So whoever opens a connection holds a lease of its host meanwhile:

- on one machine a lease is a lock on one of `limit` small files, which the system takes back from a process
  that dies;
- in a process that is connected to Ray, also an entry in a book that one actor of the cluster keeps. An
  entry that is not renewed lapses. The actor belongs to whoever asked first and ends with it; the next to
  ask starts another, which waits until the leases that are out have been renewed.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import urlsplit

from cluster.errors import UsageError

LIMIT = 2  # connections to a host: what Wikimedia asks for
LAPSE = 45.0  # seconds after which a lease that is not renewed is free again
RENEW = 5.0  # seconds between renewals
PATIENCE = (0.02, 0.25)  # seconds between two looks whether a lease is free
BOOK = "wordloom-connections"
NAMESPACE = "wordloom"


class Book:
    """Who holds a lease of which host, and until when. `grace` seconds long it only takes up old ones."""

    def __init__(self, grace: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._opens = clock() + grace
        self._held: dict[str, dict[str, float]] = {}

    def take(self, host: str, holder: str, limit: int) -> bool:
        """Gives `holder` a lease if fewer than `limit` are out."""
        now = self._clock()
        held = {name: lapses for name, lapses in self._held.get(host, {}).items() if lapses > now}
        self._held[host] = held
        if now < self._opens or len(held) >= limit:
            return False
        held[holder] = now + LAPSE
        return True

    def renew(self, host: str, holder: str) -> None:
        self._held.setdefault(host, {})[holder] = self._clock() + LAPSE

    def give_back(self, host: str, holder: str) -> None:
        self._held.get(host, {}).pop(holder, None)


class Lease:
    """One connection's right to be open; `renew` is called while bytes flow and costs nothing."""

    def __init__(self, host: str, cluster: _Cluster | None) -> None:
        self.host = host
        self.holder = uuid.uuid4().hex
        self._cluster = cluster
        self._renewed = time.monotonic()

    def renew(self) -> None:
        if self._cluster is not None and time.monotonic() - self._renewed >= RENEW:
            self._renewed = time.monotonic()
            self._cluster.call("renew", self.host, self.holder)


class Connections:
    """At most `limit` connections to a host at once. Picklable; all of one cluster count together."""

    def __init__(self, limit: int = LIMIT) -> None:
        if limit < 1:
            raise UsageError(f"The number of connections is {limit}; give at least 1.")
        self.limit = limit

    @contextmanager
    def to(self, url: str, pause: Callable[[float], object] = time.sleep) -> Iterator[Lease]:
        """Holds a lease of the host of `url` for the length of the block; waits until one is free."""
        host = host_of(url)
        with _local_slot(host, self.limit, pause):
            # In this order only `limit` processes of a machine ask the cluster, however many wait.
            cluster = _cluster()
            lease = Lease(host, cluster)
            if cluster is None:
                yield lease
                return
            while not cluster.call("take", host, lease.holder, self.limit):
                pause(random.uniform(*PATIENCE))
            try:
                yield lease
            finally:
                cluster.call("give_back", host, lease.holder)


def host_of(url: str) -> str:
    """The host of a URL, with its port where it names one."""
    parts = urlsplit(url)
    return (parts.netloc.rpartition("@")[2] or "localhost").lower()


@contextmanager
def _local_slot(host: str, limit: int, pause: Callable[[float], object]) -> Iterator[None]:
    """One of `limit` places of this machine and user."""
    folder = Path(tempfile.gettempdir()) / f"wordloom-connections-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = re.sub(r"[^a-z0-9.-]", "_", host)
    while True:
        for number in range(limit):
            if (held := _locked(folder / f"{name}-{number}")) is not None:
                with held:  # closing the file gives the lock back
                    yield
                return
        pause(random.uniform(*PATIENCE))


def _locked(path: Path) -> BinaryIO | None:
    """The file, locked; None while another holds it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _cluster() -> _Cluster | None:
    # Never the first to import ray: a pure module that reads over HTTP must stay pure.
    ray = sys.modules.get("ray")
    return _Cluster(ray) if ray is not None and ray.is_initialized() else None


class _Cluster:
    """The book that an actor of the cluster keeps."""

    # The actor lives as long as a handle in the process that created it does.
    _keepers: ClassVar[dict[tuple[str, str], Any]] = {}

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        context = ray.get_runtime_context()
        self._key = (context.gcs_address, context.get_job_id())

    def call(self, method: str, *arguments: object) -> Any:
        ray, grace = self._ray, 0.0
        while ray.is_initialized():
            try:
                keeper = self._keepers.get(self._key)
                if keeper is None:
                    named = ray.remote(Book).options(
                        name=BOOK, namespace=NAMESPACE, get_if_exists=True, num_cpus=0
                    )
                    keeper = self._keepers[self._key] = named.remote(grace)
                return ray.get(getattr(keeper, method).remote(*arguments))
            except (ray.exceptions.RayActorError, ValueError):  # it ended with its creator, just now
                self._keepers.pop(self._key, None)
                grace = 2 * RENEW
                time.sleep(random.uniform(*PATIENCE))
        return True  # the cluster is gone, and with it all others that count
