"""A web server that answers as badly as a test wants it to."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(280_000)


class Asked(NamedTuple):
    """A request as the server saw it."""

    range: str | None
    if_range: str | None
    agent: str | None
    encoding: str | None


class Server:
    """A server that answers each request by the next of its `script`, honestly when that has run out.

    `files` (path -> content) are beside `content`, which every other path has. Each answer comes after
    `seconds`; `most` is how many requests waited for theirs at the same time at the most.
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.files: dict[str, bytes | None] = {}
        self.etag: str | None = '"v1"'
        self.modified: str | None = None
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[Asked] = []
        self.paths: list[str] = []
        self.most = self._now = 0
        self.seconds = 0.0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                get = self.headers.get
                with outer._lock:
                    outer.asked.append(
                        Asked(get("Range"), get("If-Range"), get("User-Agent"), get("Accept-Encoding"))
                    )
                    outer.paths.append(self.path)
                    outer._now += 1
                    outer.most = max(outer.most, outer._now)
                    answer = outer.script.pop(0) if outer.script else outer.honest
                time.sleep(outer.seconds)
                with outer._lock:  # before the answer: its end is the asker's end too
                    outer._now -= 1
                answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.site = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.url = f"{self.site}/dumps/x-dump.xml.bz2"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def honest(self, to: BaseHTTPRequestHandler) -> None:
        self.send(to)

    def cut(self, count: int) -> Callable[[BaseHTTPRequestHandler], None]:
        """Closes the connection after `count` bytes of what it promised."""
        return lambda to: self.send(to, count)

    def send(
        self,
        to: BaseHTTPRequestHandler,
        count: int | None = None,
        *,
        ranges: bool = True,
        promised: int | None = None,
        etag: str | None = None,
        conditions: bool = True,
    ) -> None:
        tag = etag or self.etag
        content = self.files.get(to.path, self.content)
        if content is None:
            self.status(404)(to)
            return
        get = to.headers.get
        if tag is not None and get("If-None-Match") == tag:
            self.status(304)(to)
            return
        if conditions and (
            (get("If-Match") and get("If-Match") != tag)
            or (get("If-Unmodified-Since") and get("If-Unmodified-Since") != self.modified)
        ):
            self.status(412)(to)
            return
        first, last = 0, len(content) - 1
        asked = get("Range") if ranges and get("If-Range") in (None, tag) else None
        if asked:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        if first >= len(content):
            self.status(416, Content_Range=f"bytes */{len(content)}", **self._told(tag))(to)
            return
        body = content[first : last + 1]
        to.send_response(206 if asked else 200)
        if asked:
            to.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        for name, value in self._told(tag).items():
            to.send_header(name.replace("_", "-"), value)
        to.send_header("Content-Length", str(len(body) if promised is None else promised))
        to.end_headers()
        to.wfile.write(body if count is None else body[:count])
        to.close_connection = True

    def _told(self, tag: str | None) -> dict[str, str]:
        return ({"ETag": tag} if tag else {}) | ({"Last_Modified": self.modified} if self.modified else {})

    def status(self, code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(to: BaseHTTPRequestHandler) -> None:
            to.send_response(code)
            for name, value in headers.items():
                to.send_header(name.replace("_", "-"), value)
            to.send_header("Content-Length", "0")
            to.end_headers()

        return answer


@contextmanager
def serving() -> Iterator[Server]:
    """A server for the length of the block."""
    made = Server()
    try:
        yield made
    finally:
        made.close()
