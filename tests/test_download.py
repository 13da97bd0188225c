"""What ingest.download promises: the bytes of one version of a file, whole, however the server behaves."""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import WordloomError
from ingest import download as module
from ingest.download import ATTEMPTS, USER_AGENT, Download, download

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(280_000)


class Asked(NamedTuple):
    """A request as the server saw it."""

    range: str | None
    if_range: str | None
    agent: str | None
    encoding: str | None


class Server:
    """A server that answers each request by the next of its `script`, honestly when that has run out."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                get = self.headers.get
                outer.asked.append(
                    Asked(get("Range"), get("If-Range"), get("User-Agent"), get("Accept-Encoding"))
                )
                (outer.script.pop(0) if outer.script else outer.honest)(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/dumps/x-dump.xml.bz2"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

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
    ) -> None:
        tag = etag or self.etag
        if tag is not None and to.headers.get("If-None-Match") == tag:
            to.send_response(304)
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        first = 0
        asked = to.headers.get("Range")
        condition = to.headers.get("If-Range")
        if ranges and asked and condition in (None, tag):
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if first >= len(self.content):
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(self.content)}")
            if tag:
                to.send_header("ETag", tag)
            to.send_header("Content-Length", "0")
            to.end_headers()
            return
        body = self.content[first:]
        to.send_response(206 if first else 200)
        if first:
            to.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if tag:
            to.send_header("ETag", tag)
        to.send_header("Content-Length", str(len(body) if promised is None else promised))
        to.end_headers()
        to.wfile.write(body if count is None else body[:count])
        to.close_connection = True

    def status(self, code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(to: BaseHTTPRequestHandler) -> None:
            to.send_response(code)
            for name, value in headers.items():
                to.send_header(name.replace("_", "-"), value)
            to.send_header("Content-Length", "0")
            to.end_headers()

        return answer


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def fetch(server: Server, tmp_path: Path, waits: list[float]) -> Callable[..., Download]:
    return lambda **known: download(server.url, tmp_path, pause=waits.append, **known)


def is_content(done: Download, content: bytes = CONTENT) -> bool:
    return done.path.read_bytes() == content and done.sha256 == hashlib.sha256(content).hexdigest()


def leftovers(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith(".partial-")]


def test_a_file_comes_whole_under_its_own_name(
    server: Server, fetch: Callable[..., Download], tmp_path: Path
) -> None:
    done = fetch(size=len(CONTENT), sha1=hashlib.sha1(CONTENT).hexdigest())
    assert is_content(done) and done.fresh and done.path == tmp_path / "x-dump.xml.bz2"
    assert server.asked == [Asked(None, None, USER_AGENT, "identity")]
    assert not leftovers(tmp_path)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 120_000), min_size=1, max_size=5))
def test_a_resumed_download_has_the_same_bytes(cuts: list[int], server: Server, tmp_path: Path) -> None:
    server.asked.clear()
    server.script = [server.cut(count) for count in cuts]
    folder = tmp_path / "one"
    done = download(server.url, folder, pause=lambda _: None)
    assert is_content(done)
    # Each attempt asks for what is still missing of the same version, and for nothing twice.
    reached, expected = 0, []
    for count in cuts:
        reached = min(reached + count, len(CONTENT))
        if reached < len(CONTENT):
            expected.append((f"bytes={reached}-", '"v1"'))
    assert [(asked.range, asked.if_range) for asked in server.asked[1:]] == expected
    server.script.clear()
    shutil.rmtree(folder)


def test_a_later_run_goes_on_where_an_earlier_one_was_killed(
    server: Server, fetch: Callable[..., Download], tmp_path: Path
) -> None:
    def killed(_: float) -> None:
        raise KeyboardInterrupt

    server.script = [server.cut(100_000)]
    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path, pause=killed)
    assert not (tmp_path / "x-dump.xml.bz2").exists() and leftovers(tmp_path)
    assert is_content(fetch())
    assert server.asked[-1].range == "bytes=100000-"


def test_a_file_that_changes_in_between_begins_anew(server: Server, fetch: Callable[..., Download]) -> None:
    def changed(to: BaseHTTPRequestHandler) -> None:
        server.content, server.etag = OTHER, '"v2"'
        server.send(to)

    server.script = [server.cut(100_000), changed]
    assert is_content(fetch(), OTHER)


def test_a_server_that_resumes_another_version_is_not_believed(
    server: Server, fetch: Callable[..., Download]
) -> None:
    def ignores_if_range(to: BaseHTTPRequestHandler) -> None:
        server.content, server.etag = OTHER, '"v2"'
        del to.headers["If-Range"]
        server.send(to)

    server.script = [server.cut(100_000), ignores_if_range]
    assert is_content(fetch(), OTHER)
    assert server.asked[-1].range is None


def test_a_file_that_shrank_begins_anew(server: Server, fetch: Callable[..., Download]) -> None:
    def shrunk(to: BaseHTTPRequestHandler) -> None:
        server.content, server.etag = OTHER[:1000], None
        server.send(to)

    server.etag = None
    server.script = [server.cut(100_000), shrunk]
    assert is_content(fetch(), OTHER[:1000])


def test_a_server_without_ranges_is_asked_from_the_start(
    server: Server, fetch: Callable[..., Download]
) -> None:
    server.script = [
        lambda to: server.send(to, 100_000, ranges=False),
        lambda to: server.send(to, ranges=False),
    ]
    assert is_content(fetch())


def test_a_server_that_sends_another_part_than_asked_for_is_not_believed(
    server: Server, fetch: Callable[..., Download]
) -> None:
    def shifted(to: BaseHTTPRequestHandler) -> None:
        to.headers.replace_header("Range", "bytes=50000-")
        server.send(to)

    server.script = [server.cut(100_000), shifted]
    assert is_content(fetch())


def test_a_length_that_is_too_long_ends_in_a_sentence(
    server: Server, fetch: Callable[..., Download], tmp_path: Path, waits: list[float]
) -> None:
    server.etag = None
    server.script = [lambda to: server.send(to, ranges=False, promised=len(CONTENT) + 9)] * 50
    with pytest.raises(WordloomError) as caught:
        fetch()
    sentence = str(caught.value)
    assert f"the connection was cut, {ATTEMPTS} times in a row" in sentence
    assert "(300,000 bytes are here of 300,009); run the same command later" in sentence
    assert len(server.asked) == ATTEMPTS
    assert not (tmp_path / "x-dump.xml.bz2").exists()


def test_a_length_that_is_too_short_is_found_by_size_or_checksum(
    server: Server, fetch: Callable[..., Download], tmp_path: Path
) -> None:
    server.script = [lambda to: server.send(to, 1000, promised=1000)]
    with pytest.raises(WordloomError) as caught:
        fetch(size=len(CONTENT))
    assert "came with size 1000 and must have 300000; it was deleted" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_checksum_that_differs_names_both(
    server: Server, fetch: Callable[..., Download], tmp_path: Path
) -> None:
    wanted = hashlib.sha1(OTHER).hexdigest()
    with pytest.raises(WordloomError) as caught:
        fetch(sha1=wanted)
    assert f"sha1 {hashlib.sha1(CONTENT).hexdigest()} and must have {wanted}" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_busy_server_is_given_the_time_it_asks_for(
    server: Server, fetch: Callable[..., Download], waits: list[float]
) -> None:
    server.script = [
        server.status(503),
        server.status(503),
        server.status(429, Retry_After="17"),
        server.status(503, Retry_After=formatdate(0, usegmt=True)),
        server.status(500),
    ]
    assert is_content(fetch())
    assert waits == [1.0, 2.0, 17.0, 0.0, 16.0]


def test_a_server_that_stays_busy_ends_in_a_sentence(
    server: Server, fetch: Callable[..., Download], tmp_path: Path, waits: list[float]
) -> None:
    server.script = [server.status(503)] * 50
    with pytest.raises(WordloomError, match=r"the server answers 503 Service Unavailable, 6 times in a row"):
        fetch()
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")]
)
def test_a_missing_file_is_one_sentence_at_once(
    code: int, words: str, server: Server, fetch: Callable[..., Download], tmp_path: Path, waits: list[float]
) -> None:
    server.script = [server.status(code)]
    with pytest.raises(WordloomError) as caught:
        fetch()
    assert str(caught.value) == f"Cannot download {server.url!r}: the server answers {words}; check --source."
    assert not waits and not list(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    gone = Server()
    gone.http.shutdown()
    gone.http.server_close()
    with pytest.raises(WordloomError, match=r"the server cannot be reached, 6 times in a row"):
        download(gone.url, tmp_path, pause=lambda _: None)
    with pytest.raises(WordloomError, match=r"the address names no file; check --source"):
        download("http://127.0.0.1:9/", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_same_download_again_moves_no_bytes(server: Server, fetch: Callable[..., Download]) -> None:
    first = fetch()
    again = fetch()
    assert is_content(again) and not again.fresh and again.path == first.path
    server.http.shutdown()
    server.http.server_close()
    assert is_content(fetch()) and not fetch().fresh  # the server is gone: what is here is used


def test_a_new_version_on_the_server_is_fetched(server: Server, fetch: Callable[..., Download]) -> None:
    fetch()
    server.content, server.etag = OTHER, '"v2"'
    assert is_content(fetch(), OTHER)


def test_a_file_that_was_damaged_here_is_fetched_again(
    server: Server, fetch: Callable[..., Download]
) -> None:
    path = fetch().path
    path.write_bytes(CONTENT[:-1])
    assert is_content(fetch()) and server.asked[-1].range is None
    known = hashlib.sha256(CONTENT).hexdigest()
    path.write_bytes(b"\0" + CONTENT[1:])
    assert is_content(fetch(sha256=known))
    assert not fetch(sha256=known).fresh


def test_two_processes_do_not_write_into_one_file(server: Server, fetch: Callable[..., Download]) -> None:
    seen: list[str] = []

    def beside(to: BaseHTTPRequestHandler) -> None:
        try:
            fetch()
        except WordloomError as error:
            seen.append(str(error))
        server.send(to)

    server.script = [beside]
    assert is_content(fetch())
    assert len(seen) == 1 and "by another process" in seen[0]


def test_a_full_disk_is_one_sentence_and_nothing_that_looks_whole(
    server: Server, fetch: Callable[..., Download], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(WordloomError, match=r"300.0 kB are to come and .* has 1000 B free"):
            fetch()
    assert not list(tmp_path.iterdir())
    file = tmp_path / "file"
    file.write_text("no folder")
    with pytest.raises(WordloomError, match=r"Cannot write"):
        download(server.url, file / "inside")
