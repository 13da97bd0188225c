"""A small HTTP server that hands out the files of one folder, as a mirror of dumps does.

It answers GET and HEAD, single ranges (RFC 9110), ETag with If-None-Match and If-Range, and
``/dumpstatus.json`` in the form of the dump site. It lives in threads of this process, on loopback.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from cluster.errors import WordloomError

STATUS = "dumpstatus.json"
_MANIFEST = "manifest.json"  # of an artefact; its hashes become ETags
_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\s*$")
_IDLE_SECONDS = 30  # a client that falls silent holds its thread for so long


@dataclass(frozen=True)
class Mirror:
    """A running server: `url` is its root without the final slash, `folder` what it hands out."""

    url: str
    folder: Path

    def url_of(self, name: str) -> str:
        """The address of the file `name`, relative to the folder."""
        return f"{self.url}/{quote(name)}"


@contextmanager
def serve(folder: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Mirror]:
    """Hands out the files of `folder` while the block runs; port 0 takes any free one.

    Hidden files and what lies outside the folder, through ``..`` or a link, are not found. Raises
    WordloomError where there is no such folder or the port is taken.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise WordloomError(f"Cannot hand out {str(folder)!r}: no such folder; check the path.")
    try:
        server = _Server((host, port), partial(_Handler, _Shelf(root)))
    except OSError as error:
        raise WordloomError(
            f"Cannot listen on {host}:{port}: {error.strerror}; name another port or 0 for any."
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="mirror", daemon=True)
    thread.start()
    try:
        yield Mirror(f"http://{host}:{server.server_address[1]}", root)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        server.hang_up()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not hold up the end

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Ends the connections that clients keep open."""
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is nobody's error."""


class _Shelf:
    """The files of a folder and what is known of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._lock = threading.Lock()

    def find(self, path: str) -> Path | None:
        """The file for the path of a request, None where it may not have one."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if any(not part or part.startswith(".") or "\0" in part or "\\" in part for part in parts):
            return None
        try:
            found = self.root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        return found if found.is_relative_to(self.root) and found.is_file() else None

    def etag(self, path: Path, stat: os.stat_result) -> str:
        """The content's sha256 where a manifest tells it, else one that changes whenever the file does."""
        record = _recorded(path.parent).get(path.name, {})
        if record.get("bytes") == stat.st_size and record.get("sha256"):
            return f'"{record["sha256"]}"'
        return f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'

    def status(self) -> bytes:
        """The folder's dumps as the dump site lists them: name, size, sha1, url of each finished file."""
        files = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if ".xml" in path.name and self.find(quote(name)) is not None:
                files[name] = {
                    "size": path.stat().st_size,
                    "url": f"/{quote(name)}",
                    "sha1": self._sha1(path),
                }
        job = {"status": "done" if files else "waiting", "files": files}
        return json.dumps({"version": "0.8", "jobs": {"articlesdump": job}}, indent=1).encode()

    def _sha1(self, path: Path) -> str:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            if key not in self._hashes:
                with path.open("rb") as stream:
                    self._hashes[key] = hashlib.file_digest(stream, "sha1").hexdigest()
            return self._hashes[key]


def _recorded(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the manifest in a folder says of its files; nothing where there is no sound one."""
    try:
        files = json.loads((folder / _MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "wordloom-mirror"
    sys_version = ""
    timeout = _IDLE_SECONDS

    def __init__(self, shelf: _Shelf, *arguments: Any) -> None:
        self._shelf = shelf
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the downloader reports."""

    def _answer(self, *, with_body: bool) -> None:
        path = self._shelf.find(self.path)
        if path is None:
            if urlsplit(self.path).path == f"/{STATUS}":
                self._small(HTTPStatus.OK, self._shelf.status(), "application/json", with_body)
            else:
                self._small(HTTPStatus.NOT_FOUND, b"no such file\n", "text/plain", with_body)
            return
        try:
            stream = path.open("rb")
        except OSError:
            self._small(HTTPStatus.FORBIDDEN, b"may not be read\n", "text/plain", with_body)
            return
        with stream:
            stat = os.fstat(stream.fileno())
            etag = self._shelf.etag(path, stat)
            modified = formatdate(stat.st_mtime, usegmt=True)
            headers = {"ETag": etag, "Last-Modified": modified, "Accept-Ranges": "bytes"}
            if etag in _listed(self.headers.get("If-None-Match", "")):
                self._head(HTTPStatus.NOT_MODIFIED, headers)
                return
            part: tuple[int, int] | None = None
            wanted = self.headers.get("Range")
            if wanted and self.headers.get("If-Range", etag) in (etag, modified):
                part = byte_range(wanted, stat.st_size)
                if part == (0, 0):
                    self._head(
                        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                        {"Content-Range": f"bytes */{stat.st_size}", "Content-Length": "0"},
                    )
                    return
            start, stop = part or (0, stat.st_size)
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(stop - start)
            if part:
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
            self._head(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK, headers)
            if with_body:
                self._send(stream, start, stop)

    def _send(self, stream: BinaryIO, start: int, stop: int) -> None:
        stream.seek(start)
        left = stop - start
        try:
            while left and (chunk := stream.read(min(_CHUNK, left))):
                self.wfile.write(chunk)
                left -= len(chunk)
        except OSError:  # the client went away
            self.close_connection = True
        if left:  # the file shrank: fewer bytes than promised must not look whole
            self.close_connection = True

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _small(self, status: HTTPStatus, body: bytes, kind: str, with_body: bool) -> None:
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(body))})
        if with_body:
            self.wfile.write(body)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for out of `size` bytes.

    None where the header is to be ignored (several ranges, another unit, nonsense); (0, 0) where no byte
    of the file is in it.
    """
    if not (match := _RANGE.match(header)) or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last so many bytes
        length = min(int(match[2]), size)
        return (size - length, size) if length else (0, 0)
    start = int(match[1])
    stop = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    return (start, stop) if start < size else (0, 0)


def _listed(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
