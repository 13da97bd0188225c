"""What ingest.dump promises: a dump is what its content says, wherever it lies and whatever it is called."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
from pathlib import Path

import pytest

from cluster.errors import UsageError, WordloomError
from ingest import dump
from ingest.dump import Dump, DumpFile, locate, plan, read
from ingest.pages import PageReader
from tests.test_download import Server

XML = (
    b'<mediawiki version="0.10"><siteinfo><namespaces><namespace key="1">Talk</namespace>'
    b'<namespace key="0" /><namespace key="4">Q &amp; A</namespace></namespaces></siteinfo>'
    b"<page><title>One</title><ns>0</ns><id>1</id><revision><id>2</id><text>Text.</text></revision></page>"
    b"</mediawiki>\n"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bz2.compress(XML), "bzip2"),
        (bz2.compress(b"") + bz2.compress(XML), "bzip2"),
        (gzip.compress(XML), "gzip"),
        (XML, "xml"),
        (b"\xef\xbb\xbf\n" + XML, "xml"),
        (XML.decode().encode("utf-16"), "xml"),
        (bz2.compress(XML.decode().encode("utf-16")), "bzip2"),
    ],
)
def test_a_file_is_what_its_content_is_not_what_its_name_says(
    content: bytes, kind: str, tmp_path: Path, home: Path
) -> None:
    found = locate(written(tmp_path, "a.dat", content), home)
    (file,) = found.files
    assert (file.format, file.bytes, file.sha256) == (kind, len(content), hashlib.sha256(content).hexdigest())
    (split,) = plan(found, 1 << 20)
    assert [page.title for page in PageReader(read(split))] == ["One"]


def test_the_identity_is_the_content_s(tmp_path: Path, home: Path) -> None:
    first = locate(written(tmp_path, "a.xml.bz2", bz2.compress(XML)), home)
    moved = locate(written(home, "b", bz2.compress(XML)), home)
    other = locate(written(tmp_path, "c.xml.bz2", bz2.compress(XML + b"\n")), home)
    assert first.identity == moved.identity != other.identity
    assert first.as_input().identity == first.identity and first.as_input().kind == "dump"
    assert first.name == "a"


def test_several_parts_are_one_dump_in_the_order_of_their_numbers(tmp_path: Path, home: Path) -> None:
    for number in (10, 2, 1):
        page = XML.replace(b"<id>1</id>", b"<id>%d</id>" % number)
        written(tmp_path, f"xwiki-pages-articles-multistream{number}.xml-p{number}p9.bz2", bz2.compress(page))
    written(tmp_path, "xwiki-pages-articles-multistream-index10.txt-p10p9.bz2", bz2.compress(b"600:1:One"))
    found = locate(str(tmp_path / "xwiki-*.bz2"), home)
    splits = plan(found, 1 << 20)
    assert [page.page_id for split in splits for page in PageReader(read(split))] == [1, 2, 10]
    assert [split.index for split in splits] == [0, 1, 2]
    assert found.bytes == sum(split.bytes for split in splits)


def test_an_export_without_ns_brings_its_prefixes(tmp_path: Path, home: Path) -> None:
    (file,) = locate(written(tmp_path, "old.xml", XML.replace(b"<ns>0</ns>", b"")), home).files
    assert dict(file.prefixes) == {"Talk": 1, "Q & A": 4}
    (file,) = locate(written(tmp_path, "new.xml", XML), home).files
    assert file.prefixes == ()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.xml.bz2", None, "no such file; check --source."),
        ("none*.bz2", None, "no file matches; check --source."),
        ("empty.xml.bz2", b"", "is empty (0 bytes); fetch it again or check --source."),
        ("nothing.bz2", bz2.compress(b""), "holds no whole bzip2 block in its 14 bytes"),
        ("cut.bz2", bz2.compress(XML)[:100], "holds no whole bzip2 block in its 100 bytes"),
        ("cut.gz", gzip.compress(XML)[:11], "holds no readable gzip data in its 11 bytes"),
        (
            "text.bz2",
            bz2.compress(b"Dear reader, " * 9),
            "is no MediaWiki export, it begins with 'Dear reader,",
        ),
        (
            "page.html",
            b"<!DOCTYPE html><html>404</html>",
            "is no MediaWiki export, it begins with '<!DOCTYPE",
        ),
        ("archive.7z", b"7z\xbc\xaf\x27\x1c more", "which is neither bzip2 nor gzip nor XML; unpack it"),
    ],
)
def test_bad_input_is_one_sentence_with_the_value_and_the_mend(
    name: str, content: bytes | None, sentence: str, tmp_path: Path, home: Path
) -> None:
    path = str(tmp_path / name)
    if content is not None:
        written(tmp_path, name, content)
    with pytest.raises(WordloomError) as caught:
        locate(path, home)
    text = str(caught.value)
    assert repr(path) in text and sentence in text and text.endswith(".") and "\n" not in text


def test_a_folder_or_an_unknown_file_system_is_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(WordloomError, match=r"it is a folder; name a dump file, or several with a glob"):
        locate(str(tmp_path), home)
    with pytest.raises(WordloomError, match="no file system that pyarrow knows"):
        locate("gopher://somewhere/dump.bz2", home)
    with pytest.raises(UsageError, match="downloads go into a local folder"):
        locate("http://127.0.0.1:9/dump.bz2", "file:///tmp/x")


def test_a_file_is_hashed_again_only_when_it_has_changed(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "a.xml", XML)
    memory = home / "checksums.json"
    first = locate(path, home, checksums=memory)
    hashed: list[bytes] = []
    real = hashlib.sha256

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self.inner = real(data)

        def update(self, data: bytes) -> None:
            hashed.append(data)
            self.inner.update(data)

        def hexdigest(self) -> str:
            return self.inner.hexdigest()

    monkeypatch.setattr(dump.hashlib, "sha256", Counting)
    assert locate(path, home, checksums=memory) == first
    assert XML not in hashed
    os.utime(path, ns=(1, 1))
    assert locate(path, home, checksums=memory).identity == first.identity
    assert hashed.count(XML) == 1
    written(tmp_path, "a.xml", XML + b" ")
    assert locate(path, home, checksums=memory).identity != first.identity
    memory.write_text("broken")
    locate(path, home, checksums=memory)


def test_a_url_is_downloaded_once_and_is_the_same_dump_as_the_file(tmp_path: Path, home: Path) -> None:
    server = Server()
    server.content = bz2.compress(XML)
    try:
        found = locate(server.url, home, checksums=home / "checksums.json")
        again = locate(server.url, home, checksums=home / "checksums.json")
    finally:
        server.http.shutdown()
        server.http.server_close()
    assert found == again and found.files[0].location == str(home / "x-dump.xml.bz2")
    assert found.identity == locate(written(tmp_path, "local", server.content), home).identity
    assert len(server.asked) == 2


def test_the_plan_is_the_same_each_time_and_covers_every_byte_once() -> None:
    file = DumpFile("/d/x.bz2", 1000, "00", "bzip2")
    packed = DumpFile("/d/x.gz", 700, "11", "gzip")
    found = Dump((file, packed), "x")
    splits = plan(found, 300)
    assert [(each.index, each.location, each.start, each.stop) for each in splits] == [
        (0, "/d/x.bz2", 0, 333),
        (1, "/d/x.bz2", 333, 666),
        (2, "/d/x.bz2", 666, 1000),
        (3, "/d/x.gz", 0, 700),
    ]
    assert plan(found, 300) == splits
    assert len(plan(found, 1 << 30)) == 2
    with pytest.raises(UsageError, match=r"'ingest.split_bytes' is 0; give at least 1"):
        plan(found, 0)


@pytest.mark.real_data
def test_every_real_dump_is_read_and_every_page_is_counted(data: Path, tmp_path: Path) -> None:
    expected = {
        "bgwiki-latest-pages-articles-shortened.xml.bz2": 3,
        "enwiki-p10p30302-shortened.xml.bz2": 206,
        "enwiki-truncated.xml.bz2": 361,
        "jawiki-truncated.xml.bz2": 262,
        "enwiktionary-sample.xml.bz2": 1389,
        "itwiki-categories.xml.gz": 34_738,
        "old-schema-pages.xml": 3,
        "pages-articles-sample2.xml.bz2": 6,
        "smallwiki-whole.xml.bz2": 2004,
        "stub-articles-sample.xml.gz": 23,
        "zhwiki-broken-1.xml": 3,
        "languages/ja-wiki.xml.bz2": 1,
    }
    for name, count in expected.items():
        found = locate(data / "dumps" / name, tmp_path)
        readers = [PageReader(read(split), prefixes=dict(split.prefixes)) for split in plan(found, 500_000)]
        for reader in readers:
            assert sum(1 for _ in reader) == reader.kept
        assert sum(reader.seen for reader in readers) == count, name
        assert sum(reader.kept + sum(reader.dropped.values()) for reader in readers) == count, name
