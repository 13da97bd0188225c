"""Every row of a user's own files is read once, whatever the splits, or dropped for a named reason."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UsageError, WordloomError
from ingest import documents, rows, texts
from ingest.documents import Documents, page_number
from ingest.page import Page
from ingest.settings import TextSettings
from ingest.texts import Texts


def located(source: Path, **reading: str) -> Texts:
    return texts.locate(source, source.parent / "downloads", reading=TextSettings(**reading))


def read(corpus: Texts, split_bytes: int = 1 << 20) -> tuple[list[Page], list[Documents]]:
    readers = [Documents(split) for split in corpus.plan(split_bytes)]
    pages = [page for reader in readers for page in reader]
    for reader in readers:
        assert reader.seen == reader.kept + sum(reader.dropped.values())
    assert sum(reader.covered for reader in readers) == corpus.bytes
    return pages, readers


ROWS = [
    b'{"id": 7, "text": "the cat", "title": "Cat"}',
    b'{"id": "12", "text": "a dog"}',
    b'{"id": "x-1", "text": "two\\nlines"}',
    b"",
    b'{"text": "no id"}',
    b"not json",
    b"[1, 2]",
    b'{"id": 3}',
    b'{"id": 3, "text": null}',
    b'{"id": 3, "text": 5}',
    b'{"id": 3, "text": "  "}',
    b'{"id": 3, "text": "\xff"}',
    b'{"id": 3, "text": "\\ud800"}',
    '{"id": 9, "text": "日本"}'.encode(),
]
DROPPED = {"malformed": 2, "missing": 2, "type": 1, "encoding": 2, "empty": 1, "oversize": 0, "damaged": 0}


def test_rows_are_kept_or_dropped_for_a_reason_and_the_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(ROWS))
    pages, (reader,) = read(located(tmp_path / "a.jsonl"))
    assert [page.text for page in pages] == ["the cat", "a dog", "two\nlines", "no id", "日本"]
    assert [page.title for page in pages] == ["Cat", "12", "x-1", "", ""]
    assert [page.page_id for page in pages][::4] == [7, 9] and pages[1].page_id == 12
    assert reader.dropped == DROPPED
    kept, empty = [*ROWS[:3], ROWS[4], ROWS[-1]], ROWS[10]
    assert reader.sizes["kept"] == sum(map(len, kept)) == sum(each.size for each in pages)
    assert reader.sizes["empty"] == len(empty) and sum(reader.sizes.values()) == sum(map(len, ROWS))
    said = " ".join(reader.sentences())
    place = b"\n".join(ROWS).index(b"not json")
    assert f"byte {place:,}" in said
    assert "column 'text' (there are: 'id')" in said


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_compressed_rows_are_the_same_rows_with_the_same_ids(tmp_path: Path, ending: str) -> None:
    content = b"\n".join(ROWS)
    half = len(content) // 2
    squeeze: dict[str, Any] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    }
    (tmp_path / "a.jsonl").write_bytes(content)
    packed = tmp_path / f"packed.{ending}"  # the name says nothing of JSON; two streams are one
    packed.write_bytes(squeeze[ending](content[:half]) + squeeze[ending](content[half:]))
    pages, (reader,) = read(located(packed))
    assert pages == read(located(tmp_path / "a.jsonl"))[0]
    assert reader.dropped == DROPPED
    assert "line 6, line 7" in " ".join(reader.sentences())


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("count", [1_000, 20_000])
def test_a_cut_archive_gives_what_stands_before_and_says_so(tmp_path: Path, ending: str, count: int) -> None:
    rows = [b'{"id": %d, "text": "row %d %x"}\n' % (n, n, n**9) for n in range(count)]
    squeeze: dict[str, Any] = {
        "gz": gzip.compress,
        "bz2": lambda data: bz2.compress(data, 1),
        "xz": lzma.compress,
        "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    }
    whole = squeeze[ending](b"".join(rows))
    (tmp_path / f"a.jsonl.{ending}").write_bytes(whole + whole[: len(whole) * 3 // 4])
    pages, (reader,) = read(located(tmp_path / f"a.jsonl.{ending}"))
    numbers = [page.page_id for page in pages]
    unpacked_at_once = (1 << 14) // min(map(len, rows))
    assert count - unpacked_at_once <= len(numbers) < 2 * count
    assert numbers == [*range(count), *range(count)][: len(numbers)]
    assert any("damaged" in sentence for sentence in reader.sentences())


def test_what_stands_behind_an_archive_costs_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n") + b"no gzip")
    pages, (reader,) = read(located(tmp_path / "a.txt.gz", documents="line"))
    assert [page.text for page in pages] == ["one", "two"]
    assert any("damaged" in sentence for sentence in reader.sentences())


@given(
    lines=st.lists(st.text(alphabet="ab é\t", max_size=9), max_size=30),
    split_bytes=st.integers(1, 60),
    unit=st.sampled_from(["line", "paragraph"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_splits_give_what_one_read_gives(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], split_bytes: int, unit: str, end: str
) -> None:
    source = tmp_path_factory.mktemp("texts") / "a.txt"
    source.write_bytes(end.join(lines).encode())
    corpus = located(source, documents=unit)
    pages, _ = read(corpus, split_bytes)
    assert pages == read(corpus, 1 << 30)[0]
    if unit == "line":
        assert [page.text for page in pages] == [line for line in lines if line.strip()]
    else:
        kept = [page.text.split("\n") for page in pages]
        assert [line for each in kept for line in each] == [line for line in lines if line.strip()]
        assert len({page.page_id for page in pages}) == len(pages)


@given(content=st.text(alphabet="ab é\n", max_size=400), split_bytes=st.integers(1, 100))
def test_a_long_file_is_cut_in_the_same_places_whatever_the_splits(
    tmp_path_factory: pytest.TempPathFactory, content: str, split_bytes: int
) -> None:
    source = tmp_path_factory.mktemp("texts") / "a.txt"
    source.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patched:
        for module, name, value in (
            (documents, "PIECE", 64),
            (texts, "PIECE", 64),
            (rows, "PIECE", 64),
            (rows, "WINDOW", 16),
        ):
            patched.setattr(module, name, value)
        patched.setattr("ingest.content.CHUNK", 7)
        corpus = located(source)
        pages, readers = read(corpus, split_bytes)
        assert pages == read(corpus, 1 << 30)[0]
    assert sum(reader.dropped["encoding"] for reader in readers) == 0
    assert "".join("".join(page.text for page in pages).split()) == "".join(content.split())


def test_many_small_files_share_a_split_and_their_names_are_titles(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"note{number}.txt").write_bytes(b"\xef\xbb\xbfwords\r\nhere" if number else b"")
    corpus = located(tmp_path / "note*.txt")
    splits = corpus.plan(40)
    assert 3 < len(splits) < 12
    pages, readers = read(corpus, 40)
    assert [page.title for page in pages] == [f"note{number}.txt" for number in range(1, 12)]
    assert {page.text for page in pages} == {"words\nhere"}
    assert sum(reader.dropped["empty"] for reader in readers) == 1
    (tmp_path / "note11.txt").rename(tmp_path / "note99.txt")
    assert located(tmp_path / "note*.txt").identity != corpus.identity


def test_parquet_is_split_by_row_groups_and_read_by_column(tmp_path: Path) -> None:
    table = pa.table(
        {
            "number": pa.array(range(100)),
            "body": pa.array([None if n == 50 else f"text {n}" for n in range(100)]).dictionary_encode(),
            "title": [f"T{n}" for n in range(100)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    corpus = located(tmp_path / "a.parquet", text_column="body", id_column="number")
    pages, readers = read(corpus, 300)
    assert len(readers) > 2
    assert pages == read(corpus, 1 << 30)[0]
    assert [page.page_id for page in pages] == [n for n in range(100) if n != 50]
    assert pages[-1].title == "T99"
    assert "row 51" in " ".join(sentence for reader in readers for sentence in reader.sentences())
    with pytest.raises(UsageError, match=r"no column 'text'; give --text-column one of 'number', 'body'"):
        located(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="holds int64"):
        located(tmp_path / "a.parquet", text_column="number")


@pytest.mark.parametrize("name", ["text", "id", "title"])
def test_two_columns_of_one_name_are_refused_where_it_is_asked_for(tmp_path: Path, name: str) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.table(columns, names=[name, name, "other"]), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=f"has 2 columns '{name}'; write it anew"):
        located(tmp_path / "a.parquet")
    names = {f"{each}_column": f"no {each}" for each in ("id", "title")}
    assert name == "text" or located(tmp_path / "a.parquet", text_column="other", **names).files


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us")])
def test_an_id_that_is_no_text_and_no_number_is_none(tmp_path: Path, kind: pa.DataType) -> None:
    """Arrow's dates are not all of them Python's."""
    bits = {32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    late = pa.array([(1 << (kind.bit_width - 1)) - 1], bits).cast(kind)
    pq.write_table(pa.table({"text": ["a"], "id": late, "title": late}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    assert read(located(tmp_path / "a.parquet"))[0] == read(located(tmp_path / "b.parquet"))[0]


def test_a_damaged_row_group_costs_its_rows_and_no_other(tmp_path: Path) -> None:
    table = pa.table({"id": range(300), "text": [f"text {n} {n**7}" for n in range(300)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100, compression="zstd")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    place = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(1).data_page_offset
    content[place : place + 100] = bytes(100)
    (tmp_path / "a.parquet").write_bytes(content)
    pages, (reader,) = read(located(tmp_path / "a.parquet"))
    assert [page.page_id for page in pages] == [*range(100), *range(200, 300)]
    assert reader.dropped["damaged"] == 100
    assert "row group 1" in reader.sentences()[0]


def test_a_line_beyond_all_size_is_dropped_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LARGEST", 50)
    monkeypatch.setattr("ingest.content.CHUNK", 8)
    (tmp_path / "a.txt").write_text("one\n" + "x" * 200 + "\ntwo\n\nthree\n" + "y" * 60 + "\nfour\n\nend")
    pages, (reader,) = read(located(tmp_path / "a.txt", documents="line"))
    assert [page.text for page in pages] == ["one", "two", "three", "four", "end"]
    assert reader.dropped["oversize"] == 2
    pages, (reader,) = read(located(tmp_path / "a.txt", documents="paragraph"))
    assert [page.text for page in pages] == ["end"]
    assert reader.dropped["oversize"] == 2


def test_what_is_no_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.txt", b"\xff\xfea\0", "UTF-16"),
        ("b.bin", b"\x7fELF\0\0", "no text"),
        ("c.parquet", b"PAR1 and no more", "no readable Parquet"),
        ("d.gz", b"\x1f\x8bnothing", "no readable gzip"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WordloomError, match=words):
            located(tmp_path / name)


def test_a_file_that_has_changed_since_the_plan_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (split,) = located(tmp_path / "a.txt").plan(10)
    (tmp_path / "a.txt").write_text("one and two")
    with pytest.raises(WordloomError, match="run the command again"):
        list(Documents(split))


def test_ids_are_used_as_they_are_or_hashed_without_regard_to_splits() -> None:
    assert [page_number(each, 0, 5) for each in (3, "3", -4, 2.0, b"8")] == [3, 3, -4, 2, 8]
    assert page_number("x", 0, 5) == page_number("x", 1, 9) != page_number(None, 0, 5)
    assert page_number(None, 0, 5) != page_number(None, 1, 5) != page_number(True, 1, 6)
    assert all(0 <= page_number(None, 0, n) < 2**63 for n in range(50))
    json.dumps(page_number(2**70, 0, 0))
