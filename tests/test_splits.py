"""What ingest.splits promises: the splits of a dump together hold every page once, in order."""

from __future__ import annotations

import bz2
import gzip
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import WordloomError
from ingest import splits
from ingest.bzip2 import CUT, DAMAGED, Loss
from ingest.pages import PageReader
from ingest.splits import UNENDED, Split, SplitReader, read

RANDOM = random.Random(2)
HEADER = '<mediawiki version="0.10"><siteinfo><sitename>Test</sitename></siteinfo>\n'
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüабвгд東京 .,'[]"


def export(count: int, size: int) -> bytes:
    """A dump of `count` pages of very unequal length, `size` letters on the whole."""
    pages = []
    for number in range(count):
        length = int(RANDOM.paretovariate(1.1) * size / count / 4) % size
        text = "".join(RANDOM.choices(LETTERS, k=length)) + "."
        pages.append(
            f"  <page>\n    <title>P{number}</title>\n    <ns>0</ns>\n    <id>{number}</id>\n    <revision>\n"
            f"      <id>{number + 5}</id>\n      <text>{text}</text>\n    </revision>\n  </page>\n"
        )
    return (HEADER + "".join(pages) + "</mediawiki>\n").encode()


XML = export(120, 330_000)
BODY = XML[XML.index(b"<page>") :]


def streams(xml: bytes, pieces: int) -> bytes:
    edges = [len(xml) * each // pieces for each in range(pieces + 1)]
    return b"".join(bz2.compress(xml[a:b], 1) for a, b in pairwise(edges))


FILES = {
    "one stream": ("bzip2", bz2.compress(XML, 1)),
    "many streams": ("bzip2", streams(XML, 9)),
    "xml": ("xml", XML),
    "gzip": ("gzip", gzip.compress(XML[:200_000]) + gzip.compress(XML[200_000:])),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("splits")
    for name, (_, content) in FILES.items():
        (made / name).write_bytes(content)
    return made


def cut(path: Path, kind: str, cuts: list[int]) -> list[Split]:
    size = path.stat().st_size
    edges = [0, *sorted(min(each, size) for each in cuts), size]
    return [Split(at, str(path), kind, a, b, size) for at, (a, b) in enumerate(pairwise(edges))]


def xml_of(split: Split) -> bytes:
    return b"".join(each for each in read(split) if isinstance(each, bytes))


def ids(split: Split) -> list[int]:
    return [page.page_id for page in PageReader(read(split))]


@pytest.mark.parametrize("name", ["one stream", "many streams", "xml"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_all_splits_together_are_the_dump_whatever_the_cuts(
    name: str, folder: Path, data: st.DataObject
) -> None:
    kind, content = FILES[name]
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=6))
    parts = [xml_of(split) for split in cut(folder / name, kind, cuts)]
    assert b"".join(parts) == BODY
    assert all(part.startswith(b"<page>") for part in parts if part)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), chunk=st.sampled_from([1, 2, 5, 7, 64, 1 << 20]))
def test_a_page_is_found_wherever_a_cut_or_a_read_divides_its_tag(
    folder: Path, data: st.DataObject, chunk: int
) -> None:
    xml = b"<mediawiki><pages/><page><id>1</id></page><page ><id>2</id></page>\n"
    xml += b"<page>\t<id>3</id></page></mediawiki>"
    path = folder / "small"
    path.write_bytes(xml)
    cuts = data.draw(st.lists(st.integers(0, len(xml)), max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "CHUNK", chunk)
        parts = [xml_of(split) for split in cut(path, "xml", cuts)]
    assert b"".join(parts) == xml[xml.index(b"<page>") :]
    begins = [xml.index(b"<page>"), xml.index(b"<page >"), xml.index(b"<page>\t")]
    for split, part in zip(cut(path, "xml", cuts), parts, strict=True):
        assert part.count(b"</page>") == sum(split.start <= each < split.stop for each in begins)


@pytest.mark.parametrize("name", list(FILES))
def test_every_page_is_read_once_in_order_and_all_bytes_are_covered(name: str, folder: Path) -> None:
    kind, content = FILES[name]
    parts = 1 if kind == "gzip" else 5
    made = cut(folder / name, kind, [len(content) * each // parts for each in range(1, parts)])
    readers = [read(split) for split in made]
    pages = [page.page_id for reader in readers for page in PageReader(reader)]
    assert pages == list(range(120))
    assert [reader.covered for reader in readers] == [split.bytes for split in made]
    assert sum(reader.covered for reader in readers) == len(content)
    assert not any(reader.losses for reader in readers)


def test_a_damaged_block_costs_the_pages_in_it_and_is_told_once(tmp_path: Path) -> None:
    content = bytearray(FILES["one stream"][1])
    content[len(content) // 2 : len(content) // 2 + 9] = b"\xaa" * 9
    path = tmp_path / "damaged"
    path.write_bytes(content)
    serial = cut(path, "bzip2", [])[0]
    survivors = ids(serial)
    assert 0 in survivors and 119 in survivors and 60 < len(survivors) < 120
    for parts in (2, 3, 7):
        made = cut(path, "bzip2", [len(content) * each // parts for each in range(1, parts)])
        readers = [read(split) for split in made]
        assert [page.page_id for reader in readers for page in PageReader(reader)] == survivors
        (loss,) = [loss for reader in readers for loss in reader.losses]
        assert loss.start < len(content) // 2 < loss.stop and loss.reason == DAMAGED
        (sentence,) = [sentence for reader in readers for sentence in reader.sentences()]
        assert sentence == (
            f"{str(path)!r} is damaged: the bytes are damaged from byte {loss.start:,} to {loss.stop:,}; "
            "the other pages were read."
        )


@pytest.mark.parametrize("name", ["one stream", "gzip", "xml"])
def test_a_dump_that_is_cut_off_gives_the_pages_before_and_says_so(name: str, tmp_path: Path) -> None:
    kind, content = FILES[name]
    path = tmp_path / "cut"
    path.write_bytes(content[: len(content) * 2 // 3])
    reader = SplitReader(cut(path, kind, [])[0])
    pages = PageReader(reader)
    found = [page.page_id for page in pages]
    assert found == list(range(len(found))) and 20 < len(found) < 120
    assert pages.dropped["cut"] == 1 and pages.cut is not None
    (loss,) = reader.losses
    assert loss.stop == path.stat().st_size and loss.reason == (UNENDED if kind == "xml" else CUT)


def test_an_export_that_ends_between_two_pages_is_told_apart_from_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "unended"
    path.write_bytes(bz2.compress(XML[: XML.rindex(b"  <page>")]))
    size = path.stat().st_size
    readers = [read(split) for split in cut(path, "bzip2", [size // 2])]
    assert [page.page_id for reader in readers for page in PageReader(reader)] == list(range(119))
    assert [loss for reader in readers for loss in reader.losses] == [Loss(size, size, UNENDED)]


@pytest.mark.parametrize("kind", ["xml", "bzip2"])
def test_a_cut_within_the_last_tag_is_no_damage(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "whole"
    if kind == "xml":
        path.write_bytes(XML)
        cuts = range(len(XML) - 20, len(XML))
    else:  # the last block holds a part of the last tag alone
        path.write_bytes(b"".join(bz2.compress(part) for part in (XML[:-9], XML[-9:])))
        cuts = range(path.stat().st_size - 60, path.stat().st_size)
    for place in cuts:
        readers = [read(split) for split in cut(path, kind, [place])]
        assert [page.page_id for reader in readers for page in PageReader(reader)] == list(range(120))
        assert not any(reader.losses for reader in readers), place


def test_concatenated_dumps_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "twice"
    path.write_bytes(bz2.compress(XML) + bz2.compress(b"") + bz2.compress(XML))
    for cuts in ([], [40_000], [10_000, 90_000, 150_000]):
        assert [each for split in cut(path, "bzip2", cuts) for each in ids(split)] == [*range(120)] * 2


def test_gzip_damage_and_what_stands_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "gz"
    content = bytearray(gzip.compress(XML))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    reader = read(cut(path, "gzip", [])[0])
    assert 0 < sum(1 for _ in PageReader(reader)) < 120
    assert reader.losses[-1].reason == DAMAGED
    path.write_bytes(gzip.compress(XML) + bytes(512) + b"garbage")
    reader = read(cut(path, "gzip", [])[0])
    assert sum(1 for _ in PageReader(reader)) == 120 and not reader.losses


def test_a_compressed_bomb_comes_in_small_chunks(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b"<mediawiki><page>" + bytes(30_000_000)))
    assert max(len(each) for each in read(cut(path, "gzip", [])[0]) if isinstance(each, bytes)) <= 1 << 20


def test_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "utf16"
    path.write_bytes(bz2.compress(XML.decode().encode("utf-16"), 1))
    size = path.stat().st_size
    split = Split(0, str(path), "bzip2", 0, size, size, encoding="utf-16")
    assert xml_of(split) == BODY


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "changing"
    path.write_bytes(XML)
    split = cut(path, "xml", [])[0]
    path.write_bytes(XML + b"\n")
    with pytest.raises(WordloomError, match=r"when the run was planned; run the command again"):
        xml_of(split)
    path.unlink()
    with pytest.raises(WordloomError, match=r"no such file"):
        xml_of(split)


REAL = [
    ("enwiki-2015-sample.xml.bz2", [9_000_001, 33_333_333, 47_000_003]),
    ("enwiki-p10p30302-shortened.xml.bz2", [400_000, 1_000_001]),
    ("enwiki-truncated.xml.bz2", [1_000_000, 2_100_000]),
    ("jawiki-truncated.xml.bz2", [700_000, 1_900_000]),
    ("enwiktionary-20150224-pages-articles-multistream.xml.bz2", [653, 654, 100_000, 300_000]),
    ("enwiktionary-sample.xml.bz2", [500_000, 1_500_001, 1_500_002]),
    ("smallwiki-whole.xml.bz2", [100_000, 200_000, 300_000, 690_000]),
]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "cuts"), REAL, ids=[name for name, _ in REAL])
def test_real_dumps_give_the_same_xml_in_splits_as_read_through(
    name: str, cuts: list[int], data: Path
) -> None:
    path = data / "dumps" / name
    with bz2.open(path) as stream:
        for _ in iter(lambda: stream.readline(), b"  <page>\n"):
            pass
        before = b"<page>\n"
        for split in cut(path, "bzip2", cuts):
            for piece in read(split):
                assert isinstance(piece, bytes)
                expected = before + stream.read(len(piece) - len(before))
                before = b""
                assert piece == expected, split
        assert not stream.read(1)
