"""A file that lies elsewhere, read by byte ranges and never stored.

Each range is asked for on condition that the file is still the version that was seen first (RFC 9110:
If-Match, If-Unmodified-Since), and what the answer says is compared with it: a file that changes while it
is read is an error, never a mixture. What a split needs comes in one range.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import requests

from cluster.connections import LIMIT, Connections
from cluster.errors import WordloomError
from ingest import web
from ingest.web import CHUNK, TIMEOUT, AgainError, Pause, Version

LEAST, MOST = 1 << 18, 10 << 20  # bytes of one range: doubled while reading goes straight on

Fetch = Callable[[int, int], bytes]


class RangedFile(io.RawIOBase):
    """A seekable file over `fetch(start, stop)`, which gives exactly these bytes, and its `size`.

    `ahead` is the range that is going to be read: it is fetched in pieces as large as MOST. The last range
    is kept (at most MOST bytes, or what one read wants). For one thread.
    """

    def __init__(self, fetch: Fetch, size: int, ahead: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._ahead = ahead
        self._at = 0
        self._first = 0  # where the bytes begin that are kept
        self._kept = b""
        self._step = LEAST

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read(-1)

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, fewer only at the end of the file."""
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        pieces: list[bytes] = []
        while self._at < stop:
            if not self._first <= self._at < self._first + len(self._kept):
                self._get(stop)
            piece = self._kept[self._at - self._first : stop - self._first]
            pieces.append(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _get(self, wanted: int) -> None:
        """Fetches what begins at the position, up to `wanted` at least."""
        at = self._at
        straight = bool(self._kept) and at == self._first + len(self._kept)
        self._step = min(2 * self._step, MOST) if straight else LEAST
        stop = at + self._step
        if self._ahead[0] <= at < self._ahead[1]:
            stop = min(at + MOST, self._ahead[1])
        self._kept = b""  # never two of them in memory
        self._kept = self._fetch(at, min(max(stop, wanted), at + max(MOST, LEAST), self._size))
        self._first = at


class WebFile:
    """What a web server hands out under a URL: `version` says which, `fetch` gives a range of it.

    Without a `version` it asks the server (by a range, so that one without them is found at once). Raises
    WordloomError where there is no file, it has changed, or the server knows no ranges or no versions.
    """

    def __init__(
        self,
        url: str,
        version: Version | None = None,
        connections: int = LIMIT,
        pause: Pause = time.sleep,
    ) -> None:
        self.url = url
        self._connections = Connections(connections)
        self._pause = pause
        self.version = version or Version()
        if version is None:
            self._fetched(0, 1)
            if self.version.condition is None or self.version.total is None:
                raise WordloomError(
                    f"Cannot read {url!r} without storing it: the server does not say which version of the "
                    "file it hands out (no ETag, no Last-Modified or no size); leave --no-download out."
                )

    @property
    def size(self) -> int:
        return self.version.total or 0

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), whatever the connection does."""
        return self._fetched(start, stop)

    def _fetched(self, start: int, stop: int) -> bytes:
        body = bytearray()

        def cannot(reason: str, later: bool) -> str:
            if not later:
                return f"Cannot read {self.url!r}: {reason}; check --source."
            return (
                f"Cannot read {self.url!r}: {reason} (bytes {start:,} to {stop:,}); run the same command "
                "later to go on."
            )

        web.insist(lambda: self._attempt(body, start, stop), lambda: len(body), cannot, self._pause)
        return bytes(body)

    def _attempt(self, body: bytearray, start: int, stop: int) -> None:
        at = start + len(body)
        headers = {"Range": f"bytes={at}-{stop - 1}"}
        known = self.version
        if known.etag and not known.etag.startswith("W/"):
            headers["If-Match"] = known.etag
        elif known.modified:
            headers["If-Unmodified-Since"] = known.modified
        with (
            self._connections.to(self.url, self._pause) as lease,
            web.session() as session,
            session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as reply,
        ):
            web.busy(reply)
            if not self._partial(reply, at, stop):
                return
            for chunk in reply.raw.stream(CHUNK, decode_content=False):
                body += chunk
                lease.renew()
                if len(body) > stop - start:
                    del body[at - start :]
                    raise AgainError("the server sent more bytes than were asked for")
        if len(body) < stop - start:
            raise AgainError("the connection was cut")

    def _partial(self, reply: requests.Response, at: int, stop: int) -> bool:
        """Whether the bytes from `at` on follow; False for a file of no bytes."""
        status = reply.status_code
        if status == 412:
            raise self._changed()
        if status == 416:
            if reply.headers.get("Content-Range", "") == "bytes */0" and self.version == Version():
                self.version = web.version(reply.headers, 0)
                return False
            raise self._changed()
        if status == 206:
            sent = web.content_range(reply.headers)
            if sent is None or sent[0] != at or sent[1] >= stop:
                raise AgainError(
                    "the server sends another part than asked for "
                    f"({reply.headers.get('Content-Range', 'no Content-Range')!r})"
                )
            self._check(web.version(reply.headers, sent[2]))
            return True
        if status == 200:
            told = web.version(reply.headers, web.length(reply.headers))
            self._check(told)  # a file that changed is the better reason
            if (at, stop) == (0, told.total):
                return True
            raise WordloomError(
                f"Cannot read {self.url!r} without storing it: the server answers no byte ranges; leave "
                "--no-download out."
            )
        raise WordloomError(
            f"Cannot read {self.url!r}: the server answers {status} {reply.reason}; check --source."
        )

    def _check(self, told: Version) -> None:
        if self.version == Version():
            self.version = told
        elif not self.version.same(told):
            raise self._changed()

    def _changed(self) -> WordloomError:
        return WordloomError(
            f"{self.url!r} has changed on the server since it was looked at (ETag {self.version.etag}, "
            f"{self.version.total or 0:,} bytes); run the command again."
        )
