"""Claims: of two processes that would make one artefact, one works and the other is told who does.

A claim is a file in ``making/claims``, named by its owner, with the owner's state and a count that it
raises every `BEAT` seconds. Object stores have no exclusive creation, so the order is kept by two states:
whoever wants the claim writes ``wants`` and only then looks at the others; alone, it writes ``has``. Of
several that want, the first by name gets it and the others withdraw; nobody passes one that has it. That
needs listings that show what was written before them, as disks, S3 and Google's store do.

An owner on this machine counts as long as its process lives; one elsewhere as long as its count moves.
Clocks are not compared. Should a living owner be silent for too long, two make the same artefact: its bytes
are decided by its identity and it is published at once, so that costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import WordloomError
from cluster.folder import Folder

CLAIMS = "claims"
BEAT = 10.0  # seconds between two signs of life
PATIENCE = 30.0  # seconds without one after which an owner on another machine counts as dead
POLL = 0.5
WANTS, HAS = "wants", "has"
SAID = {"state", "host", "machine", "process", "began"}  # what others read in a claim


class Claim:
    """The right to make what lies in a folder, from its construction until `release`.

    `making` is the folder of the unfinished artefact, `location` what errors call it. Waits while it is not
    clear whether another owner lives, at most some `PATIENCE` seconds. Raises WordloomError where another
    one works.
    """

    def __init__(
        self,
        making: Folder,
        location: str,
        *,
        wait: Callable[[float], object] = time.sleep,
        beat: float = BEAT,
    ) -> None:
        self._folder, self._location = making.child(CLAIMS), location
        self._owner = f"{uuid.uuid4().hex[:12]}.json"
        self._wait, self._beat, self._count = wait, beat, 0
        self._lock, self._over = threading.RLock(), threading.Event()
        self._write(WANTS)
        try:
            self._contend()
        except BaseException:
            self._folder.delete(self._owner)
            raise
        self._write(HAS)
        threading.Thread(target=self._live, name="claim", daemon=True).start()

    def release(self) -> None:
        """Gives the right back; a second call does nothing."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
            # Where the store is gone the count stands still, which says the same.
            with contextlib.suppress(OSError, WordloomError):
                self._folder.delete(self._owner)

    def _contend(self) -> None:
        """Returns when nobody else has the claim or comes before us."""
        seen: dict[str, tuple[Any, float]] = {}  # each other owner's content, and since when we see it
        while others := self._others():
            for name, said in others.items():
                if name not in seen:
                    seen[name] = (said, time.monotonic())
                before, since = seen[name]
                silent = time.monotonic() - since > PATIENCE and said == before
                # Who wants it decides at once, unless it was stopped in between or failed to withdraw.
                dead = silent if not here(said) else not alive(said) or (silent and said["state"] == WANTS)
                if dead:
                    self._folder.delete(name)
                elif said["state"] == WANTS and name > self._owner:
                    continue  # it will withdraw, or it looked before we came and has it: seen next time
                elif here(said) or said != before:
                    raise WordloomError(
                        f"{self._location!r} is being made by process {said['process']} on {said['host']}; "
                        "wait for its end, or stop it and run the same command again."
                    )
            self._wait(POLL)

    def _others(self) -> dict[str, Any]:
        found = {}
        for name in self._folder.names():
            if name != self._owner:
                try:
                    said = self._folder.read_json(name)
                except (OSError, ValueError):
                    continue  # withdrawn since it was listed
                if isinstance(said, dict) and said.keys() >= SAID and isinstance(said["process"], int):
                    found[name] = said  # else it is no claim
        return found

    def _write(self, state: str) -> None:
        said = {"state": state, "count": self._count, **this_process()}
        self._folder.write(self._owner, json.dumps(said).encode())

    def _live(self) -> None:
        while not self._over.wait(self._beat):
            with self._lock:
                try:
                    # Published meanwhile, by a worker: the folder for what is unfinished must not come again.
                    if self._over.is_set() or not self._folder.exists(self._owner):
                        return
                    self._count += 1
                    self._write(HAS)
                    if self._over.is_set():  # given back in this thread, by the collector, as it wrote
                        self._folder.delete(self._owner)
                except (OSError, WordloomError):
                    continue  # the work itself will say what is wrong with the folder


@dataclass
class _Held:
    """A claim of this process and how many drafts it serves."""

    claim: Claim
    times: int = 1


def take(making: Folder, location: str) -> Callable[[], None]:
    """Claims a folder for this process, however often it asks; returns what gives that back.

    A collected draft gives back wherever the garbage collector runs: in the middle of a take, of another
    giving back, or in a thread that is just starting, which whoever started it waits for. So `_held` is never
    locked while anything is waited for, and what happens under it may happen within itself.
    """
    key = making.location
    with _taking:
        with _lock:
            held = _held.get(key)
            if held is not None:
                held.times += 1
        if held is None:
            claim = Claim(making, location)
            with _lock:
                _held[key] = _Held(claim)

    def release() -> None:
        with _lock:
            held = _held.get(key)
            if held is None:
                return
            held.times -= 1
            if held.times > 0:
                return
            _held.pop(key, None)
        held.claim.release()

    return release


_held: dict[str, _Held] = {}
_taking = threading.Lock()
_lock = threading.RLock()


def this_process() -> dict[str, Any]:
    """What `here` and `alive` tell this process by, wherever it is read."""
    return {"host": socket.gethostname(), "machine": _machine(), "process": os.getpid()} | {
        "began": _began(os.getpid())
    }


def here(said: Mapping[str, Any]) -> bool:
    """Whether a process of this machine and container wrote this."""
    return bool(said["host"] == socket.gethostname() and said["machine"] == _machine())


@functools.cache
def _machine() -> list[str]:
    """What sets this machine and container apart from others of its name; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return [boot, str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        return []


def alive(said: Mapping[str, Any]) -> bool:
    """Whether the process lives that wrote this, on this machine: a number alone is given out again."""
    try:
        os.kill(said["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return said["began"] is None or _began(said["process"]) == said["began"]


def _began(process: int) -> str | None:
    """When a process began, in ticks since the machine did; None where the system does not tell."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
