"""What ingest.download promises: the bytes of one version of a file, whole, however the server behaves."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import WordloomError
from ingest import transfer
from ingest.download import Part, download, download_all, kept
from ingest.transfer import Download
from ingest.web import ATTEMPTS, USER_AGENT
from tests.server import CONTENT, OTHER, Asked, Server


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


def test_a_file_of_the_same_name_from_another_place_is_not_taken_for_this_one(
    server: Server, fetch: Callable[..., Download], tmp_path: Path
) -> None:
    elsewhere = server.url.replace("/x-dump", "/elsewhere/x-dump")
    server.script = [server.cut(1000)]
    with pytest.raises(KeyboardInterrupt):
        download(elsewhere, tmp_path, pause=_interrupt)
    assert fetch().fresh and server.asked[-1].range is None  # nor is what came of it gone on with
    assert download(elsewhere, tmp_path).fresh and fetch().fresh and not fetch().fresh
    assert download(elsewhere, tmp_path).fresh
    unreachable = [Part(f"http://127.0.0.1:9/{name}/x-dump.xml.bz2") for name in "ab"]
    with pytest.raises(WordloomError, match="Cannot download"):
        download(unreachable[0].url, tmp_path, pause=lambda _: None)
    assert kept(unreachable, tmp_path) == unreachable
    assert kept([Part(elsewhere)], tmp_path) == [Part(str(tmp_path / "x-dump.xml.bz2"))]


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


def test_a_file_that_was_damaged_here_is_fetched_again(
    server: Server, fetch: Callable[..., Download]
) -> None:
    path = fetch().path
    path.write_bytes(CONTENT[:-1])
    assert is_content(fetch()) and server.asked[-1].range is None
    known = hashlib.sha256(CONTENT).hexdigest()
    path.write_bytes(b"\0" + CONTENT[1:])
    assert is_content(fetch())
    path.touch()
    assert is_content(fetch()) and not fetch().fresh
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
        patch.setattr(transfer.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(WordloomError, match=r"300.0 kB are to come and .* has 1000 B free"):
            fetch()
    assert not list(tmp_path.iterdir())
    file = tmp_path / "file"
    file.write_text("no folder")
    with pytest.raises(WordloomError, match=r"Cannot write"):
        download(server.url, file / "inside")


def test_a_file_whose_sum_is_known_is_neither_asked_for_nor_read_again(
    server: Server, fetch: Callable[..., Download], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.modified = formatdate(1_700_000_000, usegmt=True)
    sha1 = hashlib.sha1(CONTENT).hexdigest()
    path = fetch(sha1=sha1).path
    assert path.stat().st_mtime == 1_700_000_000  # the server's time, as wget has it
    server.asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_digest", None)
        assert not fetch(sha1=sha1).fresh and not server.asked
    path.write_bytes(OTHER + bytes(20_000))  # the same size, another time
    assert is_content(fetch(sha1=sha1)) and len(server.asked) == 1


def parts(server: Server, count: int) -> list[Part]:
    """So many files on the server, each with its size and sum."""
    made = []
    for number in range(count):
        content = CONTENT[number * 1000 : number * 1000 + 50_000]
        server.files[f"/dumps/part{number}.bz2"] = content
        url, sha1 = f"{server.site}/dumps/part{number}.bz2", hashlib.sha1(content).hexdigest()
        made.append(Part(url, len(content), sha1))
    return made


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_parts_come_in_their_order_as_many_at_once_as_allowed_and_no_more(
    server: Server, tmp_path: Path, connections: int
) -> None:
    server.seconds = 0.02
    together = threading.Barrier(connections, timeout=30)

    def with_others(to: BaseHTTPRequestHandler) -> None:
        together.wait()
        server.send(to)

    server.script = [with_others] * connections
    wanted = parts(server, 6)
    done = download_all(wanted, tmp_path, connections=connections)
    assert [each.path.name for each in done] == [f"part{number}.bz2" for number in range(6)]
    assert all(each.path.read_bytes() == server.files[f"/dumps/{each.path.name}"] for each in done)
    assert server.most <= connections
    server.asked.clear()
    assert not any(each.fresh for each in download_all(wanted, tmp_path)) and not server.asked


def test_two_dumps_at_once_share_the_connections_of_their_host(server: Server, tmp_path: Path) -> None:
    server.seconds = 0.03
    wanted = parts(server, 4)
    folders = [tmp_path / "one", tmp_path / "other"]
    threads = [threading.Thread(target=download_all, args=(wanted, folder)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.most <= 2 and all(len(list(folder.glob("part*"))) == 4 for folder in folders)


def test_a_part_that_fails_ends_the_others_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    wanted = parts(server, 5)
    wrong = hashlib.sha1(b"").hexdigest()
    wanted[3] = Part(wanted[3].url, wanted[3].bytes, wrong)
    with pytest.raises(WordloomError) as caught:
        download_all(wanted, tmp_path)
    right = hashlib.sha1(server.files["/dumps/part3.bz2"] or b"").hexdigest()
    assert f"came with sha1 {right} and must have {wrong}; it was deleted" in str(caught.value)
    assert len(list(tmp_path.glob("part[012].bz2"))) >= 2 and not (tmp_path / "part3.bz2").exists()
