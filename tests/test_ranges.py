"""What ingest.ranges promises: the bytes of one version of a file, whatever the server does."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UsageError, WordloomError
from ingest import ranges
from ingest.files import open_file
from ingest.ranges import LEAST, MOST, RangedFile, WebFile
from ingest.web import ATTEMPTS, USER_AGENT, Version
from tests.server import CONTENT, OTHER, Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def opened(server: Server, waits: list[float]) -> WebFile:
    file = WebFile(server.url, pause=waits.append)
    server.asked.clear()
    return file


def test_a_file_knows_its_size_and_version_and_is_read_as_a_local_one(server: Server) -> None:
    with open_file(server.url) as stream:
        assert (stream.size(), stream.tell(), stream.seekable()) == (len(CONTENT), 0, True)
        assert stream.read(10) == CONTENT[:10]
        assert (
            stream.seek(-5, 2) == len(CONTENT) - 5 and stream.read() == CONTENT[-5:] and stream.read(3) == b""
        )
        stream.seek(100_000)
        assert stream.read(7) == CONTENT[100_000:100_007] and stream.tell() == 100_007
        stream.seek(len(CONTENT) + 9)
        assert stream.read(3) == b""
        stream.seek(0)
        assert stream.readall() == CONTENT
    assert stream.closed
    assert {asked.agent for asked in server.asked} == {USER_AGENT}
    assert {asked.encoding for asked in server.asked} == {"identity"}


@settings(max_examples=100, deadline=None)
@given(
    reads=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 500)), max_size=12),
    ahead=st.tuples(st.integers(0, 1000), st.integers(0, 1200)),
)
def test_whatever_is_read_in_whatever_order_is_the_file_s(
    reads: list[tuple[int, int]], ahead: tuple[int, int]
) -> None:
    content = CONTENT[:1000]
    fetched: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(content)
        fetched.append((start, stop))
        return content[start:stop]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "LEAST", 16)
        patch.setattr(ranges, "MOST", 128)
        stream = RangedFile(fetch, len(content), ahead)
        for at, count in reads:
            stream.seek(at)
            assert stream.read(count) == content[at : at + count]
    assert all(stop - start <= 128 for start, stop in fetched)


def test_what_a_split_needs_comes_in_one_range_and_no_more() -> None:
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    stream = RangedFile(fetch, 100 << 20, (8 << 20, 17 << 20))
    for window in range(8, 17):
        stream.seek(window << 20)
        stream.read(1 << 20)
    assert asked == [(8 << 20, 17 << 20)]
    stream.read(1)  # a page that runs on
    assert asked[1:] == [(17 << 20, (17 << 20) + 2 * LEAST)]
    asked.clear()
    straight = RangedFile(fetch, 100 << 20)
    while straight.read(1 << 18):
        pass
    assert len(asked) < 20 and max(stop - start for start, stop in asked) == MOST


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 40_000), min_size=1, max_size=4))
def test_a_range_that_is_cut_is_resumed_and_no_byte_asked_for_twice(cuts: list[int]) -> None:
    with serving() as server:
        file = WebFile(server.url, pause=lambda _: None)
        server.asked.clear()
        server.script = [server.cut(count) for count in cuts]
        assert file.fetch(50_000, 250_000) == CONTENT[50_000:250_000]
        reached, expected = 50_000, []
        for count in [*cuts, 0]:
            expected.append(f"bytes={reached}-249999")
            reached += count
        assert [asked.range for asked in server.asked] == expected


@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', None])
def test_a_file_that_changes_is_an_error_and_never_a_mixture(
    etag: str | None, server: Server, waits: list[float]
) -> None:
    server.etag, server.modified = etag, formatdate(1e9, usegmt=True)
    file = WebFile(server.url, pause=waits.append)

    def changed(to: BaseHTTPRequestHandler) -> None:
        server.content, server.modified = OTHER, formatdate(2e9, usegmt=True)
        server.etag = etag and etag.replace("v1", "v2")
        server.send(to)

    server.script = [server.cut(100), changed]
    with pytest.raises(WordloomError, match=r"has changed on the server since .* 300,000 bytes\); run the"):
        file.fetch(0, 200_000)


def test_a_server_that_ignores_conditions_is_found_out(server: Server, opened: WebFile) -> None:
    server.content, server.etag = OTHER, '"v2"'
    for ignoring in (
        lambda to: server.send(to, conditions=False),
        lambda to: server.send(to, conditions=False, ranges=False),
    ):
        server.script = [ignoring]
        with pytest.raises(WordloomError, match="has changed on the server"):
            opened.fetch(0, 1000)
    server.content = CONTENT[:500]
    with pytest.raises(WordloomError, match="has changed on the server"):
        opened.fetch(1000, 2000)


def test_another_run_with_the_version_of_the_plan_finds_the_change(server: Server, opened: WebFile) -> None:
    version = pickle.loads(pickle.dumps(opened.version))
    assert version == Version('"v1"', None, len(CONTENT))
    assert WebFile(server.url, version).fetch(5, 9) == CONTENT[5:9]
    server.content, server.etag = OTHER, '"v2"'
    with (
        pytest.raises(WordloomError, match="has changed on the server"),
        open_file(server.url, version) as stream,
    ):
        stream.read(1)


def test_a_server_without_ranges_is_one_sentence_at_once(server: Server, waits: list[float]) -> None:
    server.script = [lambda to: server.send(to, ranges=False)]
    with pytest.raises(WordloomError, match=r"answers no byte ranges; leave --no-download out\."):
        WebFile(server.url, pause=waits.append)
    assert not waits and len(server.asked) == 1


def test_a_server_that_tells_no_version_is_one_sentence(server: Server) -> None:
    server.etag = None
    with pytest.raises(
        WordloomError, match=r"no ETag, no Last-Modified or no size\); leave --no-download out"
    ):
        WebFile(server.url)


def test_a_file_of_no_bytes_has_none(server: Server) -> None:
    server.content = b""
    assert WebFile(server.url).size == 0


def test_another_part_than_asked_for_is_not_believed(
    server: Server, opened: WebFile, waits: list[float]
) -> None:
    def shifted(to: BaseHTTPRequestHandler) -> None:
        to.headers.replace_header("Range", "bytes=500-700")
        server.send(to)

    def longer(to: BaseHTTPRequestHandler) -> None:
        to.headers.replace_header("Range", "bytes=0-700")
        server.send(to)

    def without(to: BaseHTTPRequestHandler) -> None:
        to.send_response(206)
        to.send_header("Content-Length", "0")
        to.end_headers()

    def promised(to: BaseHTTPRequestHandler) -> None:  # more bytes than its own Content-Range says
        to.send_response(206)
        to.send_header("Content-Range", f"bytes 0-99/{len(CONTENT)}")
        to.send_header("Content-Length", "150")
        to.send_header("ETag", '"v1"')
        to.end_headers()
        to.wfile.write(b"\0" * 150)

    server.script = [shifted, longer, without, promised]
    assert opened.fetch(0, 100) == CONTENT[:100]
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_a_busy_server_is_given_the_time_it_asks_for(
    server: Server, opened: WebFile, waits: list[float]
) -> None:
    server.script = [server.status(503), server.status(429, Retry_After="17"), server.status(500)]
    assert opened.fetch(7, 100) == CONTENT[7:100]
    assert waits == [1.0, 17.0, 4.0]
    waits.clear()
    server.script = [server.status(503)] * 50
    with pytest.raises(
        WordloomError, match=rf"503 Service Unavailable, {ATTEMPTS} times in a row \(bytes 7 to"
    ):
        opened.fetch(7, 100)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(("code", "words"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_missing_file_is_one_sentence_at_once(
    code: int, words: str, server: Server, waits: list[float]
) -> None:
    server.script = [server.status(code)]
    with pytest.raises(WordloomError) as caught:
        WebFile(server.url, pause=waits.append)
    assert str(caught.value) == f"Cannot read {server.url!r}: the server answers {words}; check --source."
    assert not waits


def test_a_server_that_is_gone_is_one_sentence(server: Server, opened: WebFile) -> None:
    server.close()
    with pytest.raises(
        WordloomError, match=r"the server cannot be reached, 6 times in a row .* later to go on"
    ):
        opened.fetch(0, 10)
    with pytest.raises(UsageError, match="The number of connections is 0; give at least 1"):
        WebFile(server.url, connections=0)
