"""What ingest.dump promises: a dump is what its content says, wherever it lies and whatever it is called."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from cluster import folder
from cluster.errors import UsageError, WordloomError
from ingest import dump
from ingest.dump import Dump, DumpFile, locate, plan, read
from ingest.pages import PageReader
from ingest.ranges import WebFile
from tests.dumps import export, page
from tests.server import Server, serving

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


@pytest.mark.parametrize("content", [XML, XML.replace(b"<ns>0</ns>", b"")])
def test_an_export_brings_its_prefixes(tmp_path: Path, home: Path, content: bytes) -> None:
    found = locate(written(tmp_path, "a.xml", content), home)
    assert [dict(split.prefixes) for split in plan(found, 150)] == [{"Talk": 1, "Q & A": 4}] * 2


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
    with pytest.raises(WordloomError, match=r"it is a folder; name a file, or several with a glob"):
        locate(str(tmp_path), home)
    with pytest.raises(WordloomError, match="no file system that pyarrow knows"):
        locate("gopher://somewhere/dump.bz2", home)
    with pytest.raises(UsageError, match="downloads go into a local folder"):
        locate("http://127.0.0.1:9/dump.bz2", "gs://bucket/x")


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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_sums_that_may_not_be_kept_stop_nothing(
    number: int, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are kept in the working directory, which may be another one than that of the corpus."""
    path = written(tmp_path, "a.xml", XML)
    wanted = locate(path, home).identity

    class ReadOnly:
        def __getattr__(self, name: str) -> Any:
            return getattr(LocalFileSystem(), name)

        def create_dir(self, path: str, recursive: bool) -> None:
            raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(folder, "filesystem_of", lambda location: (ReadOnly(), location))
    assert locate(path, home, checksums=home / "below" / "checksums.json").identity == wanted
    assert not (home / "below").exists()


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


def texts(found: Dump, split_bytes: int) -> list[tuple[str, str]]:
    readers = [PageReader(read(split)) for split in plan(found, split_bytes)]
    return [(page.title, page.text) for reader in readers for page in reader]


@pytest.fixture
def site() -> Iterator[Server]:
    with serving() as made:
        yield made


def published(site: Server, contents: dict[str, bytes]) -> None:
    """A dump site with one finished dump of xwiki."""
    told = {}
    for name, content in contents.items():
        site.files[f"/xwiki/20261101/{name}"] = content
        sha1 = hashlib.sha1(content).hexdigest()
        told[name] = {"size": len(content), "url": f"/xwiki/20261101/{name}", "sha1": sha1}
    site.files["/xwiki/"] = b'<a href="20261101/">20261101/</a>'
    status = {"jobs": {"articlesdump": {"status": "done", "files": told}}}
    site.files["/xwiki/20261101/dumpstatus.json"] = json.dumps(status).encode()


def many(first: int, count: int) -> bytes:
    words = random.Random(first)
    return export(
        page(number, f"Page {number}", " ".join(words.choices("abcdefghij", k=400)))
        for number in range(first, first + count)
    )


@pytest.mark.parametrize("source", ["xwiki", "xwiki:latest", "xwiki:20261101"])
@pytest.mark.parametrize("download", [True, False])
def test_a_name_is_the_dump_that_the_site_s_status_file_tells(
    source: str, download: bool, site: Server, tmp_path: Path
) -> None:
    published(
        site, {"x2.xml-p9p20.bz2": bz2.compress(many(9, 12)), "x1.xml-p1p8.bz2": bz2.compress(many(1, 8))}
    )
    found = locate(source, tmp_path, download=download, site=site.site)
    assert [title for title, _ in texts(found, 1000)] == [f"Page {number}" for number in range(1, 21)]
    assert found.name == "x1 (+1)"
    assert [Path(each.location).name for each in found.files] == ["x1.xml-p1p8.bz2", "x2.xml-p9p20.bz2"]
    stored = sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("x"))
    assert stored == (["x1.xml-p1p8.bz2", "x2.xml-p9p20.bz2"] if download else [])
    assert locate(source, tmp_path, download=download, site=site.site) == found
    if download:
        assert found.identity == locate(str(tmp_path / "x*.bz2"), tmp_path).identity
    else:
        assert all(each.identity.startswith("sha1 ") and not each.sha256 for each in found.files)


def test_a_part_of_another_size_or_sum_than_the_status_file_tells_is_one_sentence(
    site: Server, tmp_path: Path
) -> None:
    published(site, {"x1.xml.bz2": bz2.compress(XML)})
    site.files["/xwiki/20261101/x1.xml.bz2"] = bz2.compress(XML + b"\n\n")
    for download, words in (
        (True, r"came with size \d+ and must have"),
        (False, r"has size \d+ and must have"),
    ):
        with pytest.raises(WordloomError, match=words):
            locate("xwiki", tmp_path, download=download, site=site.site)


def test_a_file_with_the_name_of_a_wiki_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "xwiki", bz2.compress(XML))
    monkeypatch.chdir(tmp_path)
    assert locate("xwiki", tmp_path, site="http://127.0.0.1:9").files[0].location == str(tmp_path / "xwiki")


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, bytes], ids=["bzip2", "gzip", "xml"])
def test_a_dump_that_is_not_stored_gives_the_pages_of_the_stored_one(
    pack: Callable[[bytes], bytes], site: Server, tmp_path: Path
) -> None:
    site.content = pack(many(1, 300))
    elsewhere = locate(site.url, tmp_path / "none", download=False)
    here = locate(site.url, tmp_path / "here")
    assert texts(elsewhere, 7000) == texts(here, 7000) and len(texts(here, 7000)) == 300
    assert not (tmp_path / "none").exists()
    (split, *_) = plan(elsewhere, 7000)
    assert pickle.loads(pickle.dumps(split)) == split and split.version is not None
    # The identity is the version's: not the address's, and another one's is another.
    with serving() as mirror:
        mirror.content = site.content
        assert locate(f"{mirror.site}/y.bz2", tmp_path, download=False).identity == elsewhere.identity
        mirror.etag = '"v2"'
        assert locate(mirror.url, tmp_path, download=False).identity != elsewhere.identity


def test_a_plan_looks_at_what_an_earlier_run_stored_and_asks_nobody(site: Server, tmp_path: Path) -> None:
    site.content = bz2.compress(many(1, 300))
    before = locate(site.url, tmp_path, download=None)
    assert not before.files[0].sha256 and not list(tmp_path.iterdir())
    memory = tmp_path / "checksums.json"
    here = locate(site.url, tmp_path, checksums=memory)
    site.script = [site.status(503)] * 9
    assert locate(site.url, tmp_path, checksums=memory, download=None) == here
    Path(here.files[0].location).write_bytes(site.content[:-1])  # no longer what was stored
    site.script = []
    assert locate(site.url, tmp_path, checksums=memory, download=None) == before


def test_what_lets_others_in_stands_in_no_manifest(site: Server, tmp_path: Path) -> None:
    site.content = bz2.compress(many(1, 30))
    signed = locate(f"{site.url}?X-Amz-Signature=hidden", tmp_path, download=False)
    assert "hidden" in signed.files[0].location and signed.as_input().location == site.url
    with pytest.raises(UsageError, match="has a password in it"):
        locate(site.url.replace("://", "://me:hidden@"), tmp_path)


def test_a_dump_that_changes_while_it_is_read_is_an_error_and_one_that_is_cut_is_not(
    site: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.content = bz2.compress(many(1, 300), 1)
    found = locate(site.url, tmp_path, download=False)
    # No wait between attempts.
    monkeypatch.setattr(WebFile.__init__, "__defaults__", (None, 2, lambda _: None))
    site.script = [site.cut(300), site.status(503), site.cut(0)]
    whole = texts(found, 1 << 20)
    assert len(whole) == 300
    site.content, site.etag = bz2.compress(many(2, 300), 1), '"v2"'
    with pytest.raises(WordloomError, match="has changed on the server since it was looked at"):
        texts(found, 1 << 20)


def test_each_split_of_a_dump_elsewhere_is_few_requests(site: Server, tmp_path: Path) -> None:
    site.content = bz2.compress(many(1, 3000))
    found = locate(site.url, tmp_path, download=False)
    splits = plan(found, found.bytes // 4)
    site.asked.clear()
    for split in splits:
        for _ in read(split):
            pass
    assert len(site.asked) == len(splits) == 4
    assert all(asked.range for asked in site.asked)


@pytest.mark.ray
def test_the_workers_of_a_cluster_read_their_own_ranges_over_two_connections_and_nothing_is_stored(
    ray_cluster: object, site: Server, tmp_path: Path
) -> None:
    from ingest import wikipedia
    from ingest.settings import IngestSettings

    site.content = bz2.compress(many(1, 3000), 1)
    site.seconds = 0.02
    found = locate(site.url, tmp_path / "none", download=False)
    settings = IngestSettings(split_bytes=found.bytes // 8)
    site.asked.clear()
    made = wikipedia.ingest(found, tmp_path / "elsewhere", settings, workers=4)
    assert made.counts["pages"] == 3000 and not (tmp_path / "none").exists()
    assert len(site.asked) == 8 and site.most <= 2
    stored = wikipedia.ingest(locate(site.url, tmp_path / "d"), tmp_path / "here", settings, workers=2)
    assert made.manifest.files == stored.manifest.files


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
