"""One file over HTTP, whole or not at all: resumed where it was cut, and checked.

What has come so far lies under a hidden name beside a note of which version of the file it is; the next
attempt, in this run or a later one, asks for the rest of that version (RFC 9110: Range with If-Range). A
file that has changed on the server begins anew. The file gets its name when all its bytes are there. One
connection is open at a time.
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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from cluster.errors import WordloomError
from cluster.folder import PARTIAL
from cluster.progress import Reporter, Stage, quantity

USER_AGENT = "wordloom/0.1 (corpus building from Wikipedia dumps; one connection; requests)"
TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte
ATTEMPTS = 6  # in a row without a new byte
LONGEST_WAIT = 600.0  # seconds; a server that wants more is taken at its word on the next run
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
CHUNK = 1 << 18


@dataclass(frozen=True)
class Download:
    """A file that is there in whole. `fresh` is False where it was there before and is still the same."""

    path: Path
    bytes: int
    sha256: str
    fresh: bool


@dataclass(frozen=True)
class Version:
    """Which version of a file a server hands out, as far as it says."""

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    def same(self, other: Version) -> bool:
        """Whether nothing that both of them say differs, and something agrees."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.total, other.total))
        told = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
        return bool(told) and all(mine == theirs for mine, theirs in told)

    @property
    def condition(self) -> str | None:
        """What If-Range may hold: a strong tag or a date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def download(
    url: str,
    folder: str | Path,
    reporter: Reporter | None = None,
    *,
    size: int | None = None,
    sha1: str | None = None,
    sha256: str | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Download:
    """Fetches `url` into `folder` under the name at its end, unless that very version is there already.

    `size`, `sha1` and `sha256` are what the file must be, where they are known; a file that differs is
    deleted. `pause` waits between attempts. Raises WordloomError with the value and the mend.
    """
    return _Transfer(url, Path(folder), reporter or Reporter(quiet=True), pause).run(size, sha1, sha256)


class _AgainError(Exception):
    """This attempt failed and another may do better; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Transfer:
    """The attempts to fetch one file."""

    def __init__(self, url: str, folder: Path, reporter: Reporter, pause: Callable[[float], object]) -> None:
        self.url = url
        self.reporter = reporter
        self.pause = pause
        name = unquote(urlsplit(url).path.rpartition("/")[2]).replace("/", "_")
        if not name.strip("."):
            raise WordloomError(f"Cannot download {url!r}: the address names no file; check --source.")
        self.target = folder / name
        self.note = folder / f".{name}.json"  # which version the whole file is
        self.partial = folder / f"{PARTIAL}{name}"
        self.partial_note = folder / f"{PARTIAL}{name}.json"
        self.version = Version()
        self.have = 0
        self.sha256 = hashlib.sha256()
        self.sha1 = hashlib.sha1(usedforsecurity=False)

    def run(self, size: int | None, sha1: str | None, sha256: str | None) -> Download:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with self.partial.open("ab+") as stream:
                self._lock(stream)
                try:
                    return self._done(stream, size, sha1, sha256)
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

    def _done(self, stream: BinaryIO, size: int | None, sha1: str | None, sha256: str | None) -> Download:
        with requests.Session() as session, self.reporter.stage("download", total=size, unit="B") as stage:
            session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
            whole = self._still_there(session, size, sha1, sha256)
            if whole is not None:
                stage.summary(f"{self.target.name} is there already, {quantity(whole.bytes, 'B')}")
                return whole
            self._resume(stream)
            self._fetch(session, stream, stage)
            self._check(size, sha1, sha256)
            stage.summary(f"{self.target.name}, {quantity(self.have, 'B')}")
        self.partial.replace(self.target)
        self.partial_note.unlink(missing_ok=True)
        sha256 = self.sha256.hexdigest()
        _write(self.note, {**asdict(self.version), "bytes": self.have, "sha256": sha256})
        return Download(self.target, self.have, sha256, True)

    def _still_there(
        self, session: requests.Session, size: int | None, sha1: str | None, sha256: str | None
    ) -> Download | None:
        """The file as it was fetched before, if the server (where it answers) still has that version."""
        note = _read(self.note)
        if not self.target.is_file() or self.target.stat().st_size != note.get("bytes"):
            return None
        done = Download(self.target, int(note["bytes"]), str(note["sha256"]), False)
        if sha256 is not None or sha1 is not None:
            # The caller knows what the file must be: no need to ask anybody.
            _digest(self.target, self.sha256, self.sha1)
            same = (sha256 or self.sha256.hexdigest()) == self.sha256.hexdigest()
            same = same and (sha1 or self.sha1.hexdigest()) == self.sha1.hexdigest()
            self._restart()
            return done if same else None
        known = Version(note.get("etag"), note.get("modified"), done.bytes)
        headers = {"If-None-Match": known.etag} if known.etag else {}
        if known.modified and not known.etag:
            headers = {"If-Modified-Since": known.modified}
        try:
            with session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
                if reply.status_code == 304 or (
                    reply.status_code == 200
                    and (known.etag or known.modified)
                    and known.same(_version(reply.headers, _length(reply)))
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
        note = _read(self.partial_note)
        self.version = Version(note.get("etag"), note.get("modified"), note.get("total"))
        if self.version.condition is None:
            self._begin(stream, Version())
            return
        self.have = _digest(self.partial, self.sha256, self.sha1)

    def _fetch(self, session: requests.Session, stream: BinaryIO, stage: Stage) -> None:
        """Attempts until all bytes are there."""
        failures, furthest = 0, self.have
        while True:
            try:
                self._attempt(session, stream, stage)
                return
            except (
                _AgainError,
                urllib3.exceptions.HTTPError,
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                failures = 1 if self.have > furthest else failures + 1
                furthest = max(furthest, self.have)
                if failures >= ATTEMPTS:
                    raise WordloomError(
                        f"Cannot download {self.url!r}: {_reason(error)}, {ATTEMPTS} times in a row "
                        f"({self.have:,} bytes are here{_of(self.version.total)}); run the same command "
                        "later to go on."
                    ) from error
                asked = error.wait if isinstance(error, _AgainError) else None
                wait = min(2.0 ** (failures - 1), 60.0) if asked is None else min(asked, LONGEST_WAIT)
                stage.update(self.have, note=f"{_reason(error)}, next attempt in {wait:.0f} s")
                self.pause(wait)
            except requests.RequestException as error:
                raise WordloomError(f"Cannot download {self.url!r}: {error}; check --source.") from error

    def _attempt(self, session: requests.Session, stream: BinaryIO, stage: Stage) -> None:
        headers = {}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.version.condition:
                headers["If-Range"] = self.version.condition
        with session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            status = reply.status_code
            if status in TRY_AGAIN:
                wait = _retry_after(reply.headers.get("Retry-After"))
                raise _AgainError(f"the server answers {status} {reply.reason}", wait)
            if status == 416:
                if self._complete(reply):
                    return
                self._begin(stream, Version())
                raise _AgainError("the server has fewer bytes than it had before", 0.0)
            if status == 206 and self.have:
                first, total = _content_range(reply)
                version = _version(reply.headers, total)
                if first != self.have or not self.version.same(version):
                    self._begin(stream, Version())
                    raise _AgainError("the file has changed on the server", 0.0)
                self.version = replace(self.version, total=total if total else self.version.total)
            elif status == 200:
                # The first attempt, or the server has another version by now, or it knows no ranges.
                self._begin(stream, _version(reply.headers, _length(reply)))
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
            stream.flush()
        total = self.version.total
        if total is not None and self.have < total:
            raise _AgainError("the connection was cut")
        if total is not None and self.have > total:
            sent = self.have
            self._begin(stream, Version())
            raise _AgainError(f"the server sent {sent:,} bytes where it promised {total:,}")

    def _complete(self, reply: requests.Response) -> bool:
        """Whether a refused range means that all bytes are here already."""
        match = re.fullmatch(r"bytes \*/(\d+)", reply.headers.get("Content-Range", ""))
        version = _version(reply.headers, int(match[1]) if match else None)
        return match is not None and int(match[1]) == self.have and self.version.same(version)

    def _begin(self, stream: BinaryIO, version: Version) -> None:
        """From the first byte on, of this version."""
        stream.seek(0)
        stream.truncate()
        self._restart()
        self.version = version
        _write(self.partial_note, asdict(version))

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


def _version(headers: Mapping[str, str], total: int | None) -> Version:
    return Version(headers.get("ETag"), headers.get("Last-Modified"), total)


def _length(reply: requests.Response) -> int | None:
    text = reply.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _content_range(reply: requests.Response) -> tuple[int | None, int | None]:
    """The first byte and the whole size that a partial answer states."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match[1]), int(match[2]) if match[2] != "*" else None


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait, from a number of them or a date."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, _AgainError):
        return str(error)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server does not answer"
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached"
    return "the connection was cut"


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


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _write(path: Path, value: dict[str, Any]) -> None:
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(json.dumps(value), encoding="utf-8")
    os.replace(aside, path)  # noqa: PTH105
