"""The local mirror: what it hands out, and what it does not."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import WordloomError
from ingest.mirror import Mirror, byte_range, serve

CONTENT = bytes(range(256)) * 40
NAME = "wiki-pages-articles.xml.bz2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "shelf"
    (root / "20260101").mkdir(parents=True)
    (root / NAME).write_bytes(CONTENT)
    (root / "20260101" / "ünder ways.xml").write_bytes(b"<mediawiki/>")
    (root / ".hidden").write_text("not for you")
    (tmp_path / "outside.txt").write_text("not for you")
    return root


@pytest.fixture
def mirror(folder: Path) -> Iterator[Mirror]:
    with serve(folder) as running:
        yield running


def raw(mirror: Mirror, target: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """A request whose target no client has tidied up."""
    host, port = mirror.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.putrequest("GET", target, skip_host=False)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_listens_on_loopback_only(mirror: Mirror) -> None:
    assert mirror.url.startswith("http://127.0.0.1:")


def test_a_file_comes_whole_with_its_length_and_age(mirror: Mirror) -> None:
    answer = requests.get(mirror.url_of(NAME), timeout=10)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Last-Modified"].endswith("GMT")
    assert answer.headers["ETag"]


def test_head_tells_the_same_without_the_bytes(mirror: Mirror) -> None:
    got, head = (ask(mirror.url_of(NAME), timeout=10) for ask in (requests.get, requests.head))
    assert head.content == b""
    for name in ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges"):
        assert head.headers[name] == got.headers[name]


def test_names_with_spaces_and_letters_of_other_scripts_are_found(mirror: Mirror) -> None:
    assert requests.get(mirror.url_of("20260101/ünder ways.xml"), timeout=10).content == b"<mediawiki/>"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-", 10_000, len(CONTENT)),
        ("bytes=-7", len(CONTENT) - 7, len(CONTENT)),
        ("bytes=5-999999999", 5, len(CONTENT)),
        ("bytes=-999999999", 0, len(CONTENT)),
    ],
)
def test_a_range_comes_as_asked(mirror: Mirror, asked: str, start: int, stop: int) -> None:
    answer = requests.get(mirror.url_of(NAME), headers={"Range": asked}, timeout=10)
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", "bytes=-0", "bytes=99999999-99999999"])
def test_a_range_beyond_the_end_is_refused_with_the_length(mirror: Mirror, asked: str) -> None:
    answer = requests.get(mirror.url_of(NAME), headers={"Range": asked}, timeout=10)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=1-2,4-5", "items=0-3", "bytes=9-3", "bytes=-", "bytes=a-b"])
def test_a_range_that_is_not_understood_is_ignored(mirror: Mirror, asked: str) -> None:
    answer = requests.get(mirror.url_of(NAME), headers={"Range": asked}, timeout=10)
    assert answer.status_code == 200 and answer.content == CONTENT


@given(size=st.integers(0, 50), first=st.integers(0, 60), last=st.integers(0, 60) | st.none())
def test_a_range_is_what_slicing_gives(size: int, first: int, last: int | None) -> None:
    text = bytes(size)
    found = byte_range(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert found is None
    else:
        wanted = text[first : None if last is None else last + 1]
        assert found is not None
        assert text[slice(*found)] == wanted and found[1] - found[0] == len(wanted)


def test_a_resumed_download_notices_that_the_file_changed(mirror: Mirror, folder: Path) -> None:
    before = requests.head(mirror.url_of(NAME), timeout=10).headers["ETag"]
    asked = {"Range": "bytes=100-", "If-Range": before}
    assert requests.get(mirror.url_of(NAME), headers=asked, timeout=10).status_code == 206
    (folder / NAME).write_bytes(CONTENT + b"more")
    answer = requests.get(mirror.url_of(NAME), headers=asked, timeout=10)
    assert answer.status_code == 200 and answer.content == CONTENT + b"more"
    assert answer.headers["ETag"] != before


def test_what_the_client_has_already_is_not_sent_again(mirror: Mirror) -> None:
    etag = requests.head(mirror.url_of(NAME), timeout=10).headers["ETag"]
    answer = requests.get(mirror.url_of(NAME), headers={"If-None-Match": f'"x", {etag}'}, timeout=10)
    assert answer.status_code == 304 and answer.content == b""


def test_the_etag_is_the_sha256_where_a_manifest_tells_it(mirror: Mirror, folder: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    record = {"files": {NAME: {"bytes": len(CONTENT), "sha256": digest}}}
    (folder / "manifest.json").write_text(json.dumps(record))
    assert requests.head(mirror.url_of(NAME), timeout=10).headers["ETag"] == f'"{digest}"'
    (folder / NAME).write_bytes(b"another length")  # then the manifest speaks of another file
    assert digest not in requests.head(mirror.url_of(NAME), timeout=10).headers["ETag"]


@pytest.mark.parametrize(
    "target",
    [
        "/../outside.txt",
        "/20260101/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "//etc/passwd",
        "/.hidden",
        "/link.txt",
        "/linked/outside.txt",
        "/20260101",
        "/",
        "/nothing.xml",
        "/a%00b",
        "/..%5coutside.txt",
        "http://other.example/outside.txt",
    ],
)
def test_nothing_outside_the_folder_is_handed_out(mirror: Mirror, folder: Path, target: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "outside.txt")
    (folder / "linked").symlink_to(folder.parent, target_is_directory=True)
    status, body = raw(mirror, target)
    assert status == 404 and b"not for you" not in body


def test_the_status_file_lists_the_dumps_with_size_and_sha1(mirror: Mirror) -> None:
    job = requests.get(f"{mirror.url}/dumpstatus.json", timeout=10).json()["jobs"]["articlesdump"]
    assert job["status"] == "done"
    assert set(job["files"]) == {NAME, "20260101/ünder ways.xml"}
    assert job["files"][NAME]["size"] == len(CONTENT)
    assert job["files"][NAME]["sha1"] == hashlib.sha1(CONTENT).hexdigest()
    assert requests.get(mirror.url + job["files"][NAME]["url"], timeout=10).content == CONTENT


def test_many_clients_are_served_at_once(mirror: Mirror) -> None:
    slow = [socket.create_connection(mirror.url.removeprefix("http://").split(":")) for _ in range(5)]
    try:  # five that say nothing hold nobody up
        assert requests.get(mirror.url_of(NAME), timeout=10).content == CONTENT
    finally:
        for each in slow:
            each.close()


def test_it_stops_with_its_block_and_leaves_no_listener(folder: Path) -> None:
    with serve(folder) as mirror, requests.Session() as session:
        assert session.get(mirror.url_of(NAME), timeout=10).ok
        host, port = mirror.url.removeprefix("http://").split(":")
        kept = http.client.HTTPConnection(host, int(port), timeout=10)
        kept.request("GET", f"/{NAME}")
        assert kept.getresponse().read() == CONTENT  # and the connection stays open
    with pytest.raises((http.client.HTTPException, OSError)):
        kept.request("GET", f"/{NAME}")
        kept.sock.settimeout(10)
        kept.getresponse()
    assert not any(thread.name == "mirror" for thread in threading.enumerate())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_it_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(folder) as mirror:
        requests.get(mirror.url_of(NAME), timeout=10)
        requests.get(mirror.url_of("nothing"), timeout=10)
        host, port = mirror.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as rude:
            rude.sendall(b"no request at all\r\n\r\n")
            rude.recv(100)
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="no such folder"), serve(tmp_path / "none"):
        pass


def test_a_taken_port_is_one_sentence(folder: Path, mirror: Mirror) -> None:
    port = int(mirror.url.rpartition(":")[2])
    with pytest.raises(WordloomError, match=f"127.0.0.1:{port}"), serve(folder, port=port):
        pass
