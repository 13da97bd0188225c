"""The transfer of one file over HTTP, whole or not at all: resumed where it was cut, and checked.

What has come so far lies under a hidden name beside a note of which version of the file it is; the next
attempt, in this run or a later one, asks for the rest of that version (RFC 9110: Range with If-Range). A
file that has changed on the server begins anew. The file gets its name when all its bytes are there. Each
request holds a lease of its host (`cluster.connections`).
"""

from __future__ import annotations

import email.utils
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

import requests

from cluster.connections import Connections
from cluster.errors import WordloomError
from cluster.folder import PARTIAL, settle
from cluster.progress import Reporter, quantity
from ingest import web
from ingest.web import CHUNK, TIMEOUT, TRY_AGAIN, AgainError, Pause, Version


@dataclass(frozen=True)
class Download:
    """A file that is there in whole. `fresh` is False where it was there before and is still the same."""

    path: Path
    bytes: int
    sha256: str
    fresh: bool


class Heard(Protocol):
    """What a transfer tells how far it is."""

    def update(self, done: float, *, total: float | None = None, note: str | None = None) -> None: ...


class Transfer:
    """The attempts to fetch one file."""

    def __init__(
        self, url: str, folder: Path, reporter: Reporter, connections: Connections, pause: Pause
    ) -> None:
        self.url = url
        self.reporter = reporter
        self.connections = connections
        self.pause = pause
        name = name_of(url)
        self.target = folder / name
        self.note = note_of(folder, name)
        self.partial = folder / f"{PARTIAL}{name}"
        self.partial_note = folder / f"{PARTIAL}{name}.json"
        self.place = place_of(url)
        self.version = Version()
        self.have = 0
        self.sha256 = hashlib.sha256()
        self.sha1 = hashlib.sha1(usedforsecurity=False)

    def run(self, stage: Heard, size: int | None, sha1: str | None, sha256: str | None) -> Download:
        """The file, fetched unless that very version is there already. `size`, `sha1` and `sha256` are what
        it must be, where they are known. Raises WordloomError with the value and the mend."""
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with self.partial.open("ab+") as stream:
                self._lock(stream)
                try:
                    return self._done(stage, stream, size, sha1, sha256)
                finally:
                    if self.partial.exists() and self.partial.stat().st_size == 0:
                        self.partial.unlink()
                        self.partial_note.unlink(missing_ok=True)
        except OSError as error:  # of the disk: `_fetch` and `_still_there` take those of requests
            raise WordloomError(
                f"Cannot write {str(self.target)!r}: {error.strerror or error}; mend it and run the same "
                "command again, what has come so far is kept."
            ) from error

    def _lock(self, stream: BinaryIO) -> None:
        """Keeps other processes from writing into the same file."""
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = self.partial.exists() and os.path.samestat(
                os.fstat(stream.fileno()), self.partial.stat()
            )  # else the other one has just ended and given the file its name
        except BlockingIOError:
            ours = False
        if not ours:
            raise WordloomError(
                f"{self.url!r} is being downloaded into {str(self.target.parent)!r} by another process; "
                "wait for it to end and run the same command again."
            )

    def _done(
        self, stage: Heard, stream: BinaryIO, size: int | None, sha1: str | None, sha256: str | None
    ) -> Download:
        with web.session() as session:
            whole = self._still_there(session, size, sha1, sha256)
            if whole is not None:
                return whole
            self._resume(stream)
            self._fetch(session, stream, stage)
        self._check(size, sha1, sha256)
        os.utime(self.partial, (time.time(), _dated(self.version.modified)))
        settle(self.partial)
        self.partial.replace(self.target)
        self.partial_note.unlink(missing_ok=True)
        done = Download(self.target, self.have, self.sha256.hexdigest(), True)
        known = {
            "bytes": done.bytes,
            "sha256": done.sha256,
            "sha1": self.sha1.hexdigest(),
            "place": self.place,
        }
        _write_note(self.note, {**asdict(self.version), **known, "mtime_ns": self.target.stat().st_mtime_ns})
        return done

    def _still_there(
        self, session: requests.Session, size: int | None, sha1: str | None, sha256: str | None
    ) -> Download | None:
        """The file as it was fetched before, if the server (where it answers) still has that version."""
        note = read_note(self.note)
        state = self.target.stat() if self.target.is_file() else None
        if state is None or state.st_size != note.get("bytes"):
            return None
        done = Download(self.target, int(note["bytes"]), str(note["sha256"]), False)
        found = {"sha256": done.sha256, "sha1": note.get("sha1")}
        # A file that has the time that it was given is not read again.
        if state.st_mtime_ns != note.get("mtime_ns") or (sha1 is not None and found["sha1"] is None):
            _digest(self.target, self.sha256, self.sha1)
            found = {"sha256": self.sha256.hexdigest(), "sha1": self.sha1.hexdigest()}
            self._restart()
        if found["sha256"] != done.sha256:
            return None
        if sha256 is not None or sha1 is not None:
            # The caller knows what the file must be: no need to ask anybody.
            same = size in (None, done.bytes)
            same = same and sha256 in (None, found["sha256"]) and sha1 in (None, found["sha1"])
            return done if same else None
        if not fetched_from(self.place, note):
            return None
        known = Version(note.get("etag"), note.get("modified"), done.bytes)
        headers = {"If-None-Match": known.etag} if known.etag else {}
        if known.modified and not known.etag:
            headers = {"If-Modified-Since": known.modified}
        try:
            with (
                self.connections.to(self.url, self.pause),
                session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as reply,
            ):
                if reply.status_code == 304 or (
                    reply.status_code == 200
                    and (known.etag or known.modified)
                    and known.same(web.version(reply.headers, web.length(reply.headers)))
                ):
                    return done if size in (None, done.bytes) else None
                if reply.status_code in TRY_AGAIN:
                    self.reporter.say(
                        f"{self.url} answers {reply.status_code}; using the copy fetched before."
                    )
                    return done
        except requests.RequestException:
            self.reporter.say(f"{self.url} cannot be reached; using the copy fetched before.")
            return done
        return None

    def _resume(self, stream: BinaryIO) -> None:
        """Takes up what an earlier run left, if it is known which version that is."""
        note = read_note(self.partial_note)
        self.version = Version(note.get("etag"), note.get("modified"), note.get("total"))
        if self.version.condition is None or not fetched_from(self.place, note):
            self._begin(stream, Version())
            return
        self.have = _digest(self.partial, self.sha256, self.sha1)

    def _fetch(self, session: requests.Session, stream: BinaryIO, stage: Heard) -> None:
        """Attempts until all bytes are there."""

        def cannot(reason: str, later: bool) -> str:
            if not later:
                return f"Cannot download {self.url!r}: {reason}; check --source."
            return (
                f"Cannot download {self.url!r}: {reason} ({self.have:,} bytes are "
                f"here{_of(self.version.total)}); run the same command later to go on."
            )

        web.insist(
            lambda: self._attempt(session, stream, stage),
            lambda: self.have,
            cannot,
            self.pause,
            lambda note: stage.update(self.have, note=note),
        )

    def _attempt(self, session: requests.Session, stream: BinaryIO, stage: Heard) -> None:
        headers = {}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.version.condition:
                headers["If-Range"] = self.version.condition
        with (
            self.connections.to(self.url, self.pause) as lease,
            session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as reply,
        ):
            status = reply.status_code
            web.busy(reply)
            if status == 416:
                if self._complete(reply):
                    return
                self._begin(stream, Version())
                raise AgainError("the server has fewer bytes than it had before", 0.0)
            if status == 206 and self.have:
                sent = web.content_range(reply.headers)
                total = sent[2] if sent else None
                version = web.version(reply.headers, total)
                if sent is None or sent[0] != self.have or not self.version.same(version):
                    self._begin(stream, Version())
                    raise AgainError("the file has changed on the server", 0.0)
                self.version = replace(self.version, total=total if total else self.version.total)
            elif status == 200:
                # The first attempt, or the server has another version by now, or it knows no ranges.
                self._begin(stream, web.version(reply.headers, web.length(reply.headers)))
            else:
                raise WordloomError(
                    f"Cannot download {self.url!r}: the server answers {status} {reply.reason}; "
                    "check --source."
                )
            self._room()
            stage.update(self.have, total=self.version.total, note="")
            for chunk in reply.raw.stream(CHUNK, decode_content=False):
                stream.write(chunk)
                self.sha256.update(chunk)
                self.sha1.update(chunk)
                self.have += len(chunk)
                stage.update(self.have)
                lease.renew()
            stream.flush()
        total = self.version.total
        if total is not None and self.have < total:
            raise AgainError("the connection was cut")
        if total is not None and self.have > total:
            came = self.have
            self._begin(stream, Version())
            raise AgainError(f"the server sent {came:,} bytes where it promised {total:,}")

    def _complete(self, reply: requests.Response) -> bool:
        """Whether a refused range means that all bytes are here already."""
        match = re.fullmatch(r"bytes \*/(\d+)", reply.headers.get("Content-Range", ""))
        version = web.version(reply.headers, int(match[1]) if match else None)
        return match is not None and int(match[1]) == self.have and self.version.same(version)

    def _begin(self, stream: BinaryIO, version: Version) -> None:
        """From the first byte on, of this version."""
        stream.seek(0)
        stream.truncate()
        self._restart()
        self.version = version
        _write_note(self.partial_note, {**asdict(version), "place": self.place})

    def _restart(self) -> None:
        self.have = 0
        self.sha256 = hashlib.sha256()
        self.sha1 = hashlib.sha1(usedforsecurity=False)

    def _room(self) -> None:
        free = shutil.disk_usage(self.target.parent).free
        needed = (self.version.total or 0) - self.have
        if needed > free:
            raise WordloomError(
                f"No room for {self.url!r}: {quantity(needed, 'B')} are to come and "
                f"{str(self.target.parent)!r} has {quantity(free, 'B')} free; free some space or choose "
                "another folder."
            )

    def _check(self, size: int | None, sha1: str | None, sha256: str | None) -> None:
        """Compares what has come with what it must be; deletes it where it differs."""
        checks: tuple[tuple[str, object, object], ...] = (
            ("size", size, self.have),
            ("sha1", sha1, self.sha1.hexdigest()),
            ("sha256", sha256, self.sha256.hexdigest()),
        )
        for name, wanted, found in checks:
            if wanted is not None and wanted != found:
                self.partial.unlink(missing_ok=True)
                self.partial_note.unlink(missing_ok=True)
                raise WordloomError(
                    f"{self.url!r} came with {name} {found} and must have {wanted}; it was deleted: "
                    "run the same command again or choose another mirror."
                )


def _dated(modified: str | None) -> float:
    """The time that a fetched file bears: the server's, so that a change made to it here shows."""
    try:
        return email.utils.parsedate_to_datetime(modified or "").timestamp()
    except ValueError:
        return time.time() - 60.0


def _of(total: int | None) -> str:
    return "" if total is None else f" of {total:,}"


def _digest(path: Path, *digests: hashlib._Hash) -> int:
    """Feeds a file's content to digests; its size."""
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            size += len(chunk)
            for digest in digests:
                digest.update(chunk)
    return size


def read_note(path: Path) -> dict[str, Any]:
    """What a note says, nothing where there is none that can be read."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _write_note(path: Path, value: dict[str, Any]) -> None:
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(json.dumps(value), encoding="utf-8")
    os.replace(aside, path)  # noqa: PTH105


def name_of(url: str) -> str:
    """What a file is called where it is stored."""
    try:
        name = unquote(urlsplit(url).path.rpartition("/")[2]).replace("/", "_")
    except ValueError as error:  # half an IPv6 address
        raise WordloomError(f"Cannot download {url!r}: it is no URL ({error}); check --source.") from error
    if not name.strip(".") or "\0" in name:
        raise WordloomError(f"Cannot download {url!r}: the address names no file; check --source.")
    return name


def place_of(url: str) -> str:
    """Which URL it is, as notes have it: not in full, for it may hold a password."""
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()


def fetched_from(place: str, note: dict[str, Any]) -> bool:
    """Whether a file came from this place as far as its note says: many files share the name at their
    address' end. (Notes of older versions say nothing.)"""
    return note.get("place") in (None, place)


def note_of(folder: Path, name: str) -> Path:
    """Where it is noted which version the whole file is."""
    return folder / f".{name}.json"
