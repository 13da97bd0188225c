"""The proof of ingest.splits: wherever dumps are cut, the splits hold the pages of a serial read, in order.

The reference for the dump made here (300 MB of XML, one stream and many) is `bz2.open` + lxml and nothing of
ours; for the real dumps it is `bz2.open` + `PageReader` over the whole, and lxml where that can read them.
Pages are compared by digest, so memory stays small.
"""

from __future__ import annotations

import bz2
import gzip
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import pytest
from lxml import etree

from ingest import bzip2
from ingest.bzip2 import Loss
from ingest.dump import locate, plan
from ingest.pages import PAGE, PageReader
from ingest.splits import Split, read
from tests.dumps import varied_pages

SIZE = 300_000_000
SEED = 20_261_124
EVERY_NAMESPACE = tuple(range(-2, 3000))


def digest(*fields: object) -> bytes:
    return blake2b("\0".join(map(str, fields)).encode("utf-8", "surrogatepass"), digest_size=12).digest()


@dataclass
class Pages:
    """What a reading of a dump gave: a digest a kept page, all redirects, what was dropped and lost."""

    kept: list[bytes] = field(default_factory=list)
    redirects: list[tuple[str, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    losses: list[Loss] = field(default_factory=list)

    def take(self, reader: PageReader) -> None:
        for page in reader:
            self.kept.append(digest(page.page_id, page.revision_id, page.namespace, page.title, page.text))
        self.redirects += reader.redirects
        self.dropped.update(reader.dropped)
        self.seen += reader.seen
        assert reader.seen == reader.kept + sum(reader.dropped.values())


def in_splits(whole: Split, cuts: Iterable[int]) -> Pages:
    """The pages of the splits between `cuts` (bytes of the file), each read alone."""
    found = Pages()
    for start, stop in pairwise([0, *sorted(cuts), whole.size]):
        source = read(replace(whole, start=start, stop=stop))
        found.take(PageReader(source, EVERY_NAMESPACE, dict(whole.prefixes)))
        found.losses += source.losses
    return found


def unpacked(stream: BinaryIO) -> Iterator[bytes | Loss]:
    """What Python's own readers get out of a file, up to where it is cut off."""
    try:
        while piece := stream.read1(1 << 20):  # type: ignore[attr-defined]
            yield piece
    except EOFError:
        yield Loss(0, 0, "cut off")


def serial(path: Path, whole: Split) -> Pages:
    """The pages of the whole file, as Python's own readers unpack it."""
    openers = {"bzip2": bz2.open, "gzip": gzip.open, "xml": open}
    found = Pages()
    with openers[whole.format](path, "rb") as stream:
        pieces: Iterable[bytes | Loss] = unpacked(stream)
        if whole.encoding != "utf-8":
            text = b"".join(piece for piece in pieces if isinstance(piece, bytes)).decode(whole.encoding)
            pieces = [text.encode()]
        found.take(PageReader(pieces, EVERY_NAMESPACE, dict(whole.prefixes)))
    return found


def by_lxml(stream: BinaryIO) -> Pages:
    """The same for a well-formed export that marks its redirects and namespaces, with nothing of ours."""
    found = Pages()
    for _, element in etree.iterparse(stream, tag="{*}page", huge_tree=True):
        found.seen += 1
        title = element.findtext("{*}title") or ""
        redirect = element.find("{*}redirect")
        latest = element.findall("{*}revision")[-1]
        text = latest.find("{*}text")
        content = (text.text or "") if text is not None else ""
        if redirect is not None:
            found.dropped["redirect"] += 1
            found.redirects.append((title, redirect.get("title", "")))
        elif text is not None and text.get("deleted"):
            found.dropped["deleted"] += 1
        elif (latest.findtext("{*}model") or "wikitext") != "wikitext":
            found.dropped["model"] += 1
        elif not content.strip():
            found.dropped["empty"] += 1
        else:
            ids = int(element.findtext("{*}id")), int(latest.findtext("{*}id"))
            found.kept.append(digest(*ids, int(element.findtext("{*}ns")), title, content))
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]
    return found


def assert_same(found: Pages, expected: Pages) -> None:
    assert found.seen == expected.seen
    assert +found.dropped == +expected.dropped
    assert found.redirects == expected.redirects
    if found.kept != expected.kept:
        differs = [
            at for at, pair in enumerate(zip(found.kept, expected.kept, strict=False)) if len({*pair}) > 1
        ]
        raise AssertionError(f"{len(found.kept)} pages, {len(expected.kept)} expected, {differs[:3]} differ")


def whole_of(path: Path, home: Path) -> Split:
    dump = locate(path, home)
    return plan(dump, dump.bytes + 1)[0]


# The dump made here


@dataclass(frozen=True)
class Made:
    """The generated dump: as one stream, as many, and its pages as lxml reads them."""

    single: Path
    multi: Path
    pages: Pages


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """300 MB of XML, compressed twice at once: as one stream; and half of it as streams of 100 pages, as
    Wikipedia's multistream files are; half as streams of 900 kB cut anywhere, as parallel compressors do,
    many within a ``<page>``.
    """
    folder = tmp_path_factory.mktemp("proof")
    single, multi = folder / "single.xml.bz2", folder / "multi.xml.bz2"
    pages = list(varied_pages(SIZE, SEED))

    def one_stream() -> Pages:
        compressor = bz2.BZ2Compressor(9)
        with single.open("wb") as sink:
            for piece in pieces_of(pages):
                sink.write(compressor.compress(piece))
            sink.write(compressor.flush())
        with bz2.open(single) as stream:
            return by_lxml(stream)

    def many_streams() -> None:
        waiting: list[bytes] = []
        done = size = 0
        with multi.open("wb") as sink:
            for number, page in enumerate(pages):
                waiting.append(page)
                done, size = done + len(page), size + len(page)
                if done < SIZE // 2:
                    if number % 100 == 0:  # the first stream holds the head alone
                        sink.write(bz2.compress(b"".join(waiting)))
                        waiting, size = [], 0
                elif size > 900_000:
                    rest = b"".join(waiting)
                    at = rest.rfind(b"<page>") + 1 + number % 5 if number % 2 else 900_000
                    sink.write(bz2.compress(rest[:at]))
                    waiting, size = [rest[at:]], len(rest) - at
            sink.write(bz2.compress(b"".join(waiting)))

    with ThreadPoolExecutor(2) as pool:
        read, written = pool.submit(one_stream), pool.submit(many_streams)
        written.result()
        return Made(single, multi, read.result())


def pieces_of(pages: Iterable[bytes]) -> Iterator[bytes]:
    """Pages put together to pieces of some size."""
    waiting: list[bytes] = []
    size = 0
    for page in pages:
        waiting.append(page)
        size += len(page)
        if size > 1 << 20:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def places(path: Path, chosen: random.Random) -> tuple[list[int], Counter[str]]:
    """Where to cut: at random; at, in and beside marks of blocks and of ends and heads of streams; at the
    blocks across whose beginning a ``<page>`` stands, the one kind counted as "tag".
    """
    data = path.read_bytes()
    marks = bzip2.find_marks(data + bytes(7))
    cuts = [chosen.randrange(len(data)) for _ in range(100)]
    kinds = Counter({"random": len(cuts)})
    for kind, count, wanted in (
        ("block", 12, [mark.bit // 8 for mark in marks if not mark.ends]),
        ("end", 12, [mark.bit // 8 for mark in marks if mark.ends]),
        ("tag", 30, [bit // 8 + 1 for bit in blocks_in_tags(path)]),
    ):
        for place in chosen.sample(wanted, min(count, len(wanted))):
            around = (0,) if kind == "tag" else (-4, -1, 0, 1, 6, 10, 14)
            cuts += [min(place + each, len(data)) for each in around]
            kinds[kind] += len(around)
    return cuts, kinds


def blocks_in_tags(path: Path) -> list[int]:
    """The bits of the blocks whose content begins within a ``<page>``."""
    found: list[int] = []
    edge = b""
    with path.open("rb") as stream:
        for each in bzip2.blocks(stream, path.stat().st_size):
            assert isinstance(each, bzip2.Block)
            around = edge + each.data[:5]
            at = PAGE.search(around)
            if at is not None and at.start() < len(edge) < at.end():
                found.append(each.bit)
            edge = each.data[-5:]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("form", ["single", "multi"])
def test_300_mb_of_pages_are_those_of_a_serial_read_wherever_it_is_cut(
    form: str, made: Made, tmp_path: Path
) -> None:
    path = made.single if form == "single" else made.multi
    cuts, kinds = places(path, random.Random(SEED))
    assert kinds["tag"] >= 20 and kinds["block"] >= 80 and kinds["end"] >= (7 if form == "single" else 80)
    found = in_splits(whole_of(path, tmp_path), cuts)
    assert_same(found, made.pages)
    assert not found.losses
    assert min(found.dropped[reason] for reason in ("redirect", "empty", "deleted", "model")) > 100
    print(f"\n{form}: {len(cuts)} cuts {dict(kinds)}, {found.seen:,} pages of {path.stat().st_size:,} bytes")


# The real dumps

DUMPS = "dumps"
BY_OTHERS = {  # those that lxml reads whole and that mark their redirects and namespaces
    "enwiki-2015-sample.xml.bz2",
    "enwiki-p10p30302-shortened.xml.bz2",
    "smallwiki-whole.xml.bz2",
    "enwiktionary-sample.xml.bz2",
}


def real_dumps() -> list[str]:
    if not (named := os.environ.get("WORDLOOM_DATA")):
        return []
    folder = Path(named) / DUMPS
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in names if "index.txt" not in name)


@pytest.mark.real_data
@pytest.mark.parametrize("name", real_dumps())
def test_a_real_dump_s_pages_are_those_of_a_serial_read_wherever_it_is_cut(
    name: str, data: Path, tmp_path: Path
) -> None:
    path = data / DUMPS / name
    whole = whole_of(path, tmp_path)
    expected = serial(path, whole)
    assert expected.seen
    if name in BY_OTHERS:
        with bz2.open(path) as stream:
            assert_same(expected, by_lxml(stream))
    chosen = random.Random(SEED)
    small = whole.size < 5_000_000
    single = whole.format == "gzip" or whole.encoding != "utf-8"  # cannot be entered in the middle
    tried = 0
    for _ in range(8 if small and not single else 1):
        cuts = [] if single else [chosen.randrange(whole.size) for _ in range(5 if small else 40)]
        found = in_splits(whole, cuts)
        assert_same(found, expected)
        # What is lost is told once, and by the same bytes, however the file is cut.
        assert found.losses == in_splits(whole, []).losses if small else len(found.losses) <= 1
        tried += len(cuts)
    print(f"\n{name}: {tried} cuts, {expected.seen:,} pages, {len(found.losses)} losses")
