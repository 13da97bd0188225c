"""The work on one split, without Ray: what it writes, what it counts, what a second run takes over."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from cluster.folder import Folder
from ingest import shard_maker
from ingest.dump import Dump, locate, plan
from ingest.ledger import Ledger, SplitRecord
from ingest.settings import IngestSettings
from ingest.shard_maker import ShardMaker
from ingest.shards import read_texts
from tests.dumps import dump_of, export, page

PAGES = [
    page(1, "Cat", "The '''cat''' is a [[pet]].[[Category:Cats]]"),
    page(2, "Puss", "#REDIRECT [[Cat]]", redirect="Cat"),
    page(3, "Talk:Cat", "About cats.", namespace=1),
    page(4, "Blank", ""),
    page(5, "Box", "{{Infobox|a=b}}"),
    page(6, "日本", "日本は国 and {{convert|5|km}}."),
]


def make(dump: Dump, into: Path, **settings: object) -> list[SplitRecord]:
    chosen = IngestSettings(**settings)  # type: ignore[arg-type]
    folder = Folder(into)
    maker = ShardMaker(folder, folder.child("making"), chosen)
    return [maker.make(split) for split in plan(dump, chosen.split_size(dump.bytes))]


def test_every_page_is_kept_or_dropped_for_a_reason(tmp_path: Path) -> None:
    (record,) = make(dump_of(tmp_path, PAGES), tmp_path / "out")
    assert record.pages == 2
    assert record.dropped == {"redirect": 1, "namespace": 1, "empty": 2, "deleted": 0, "model": 0, "cut": 0}
    assert record.seen == len(PAGES) == record.pages + sum(record.dropped.values())
    sizes = [len(each.strip().encode()) for each in PAGES]  # a page that is stripped to nothing is empty, too
    assert {why: size for why, size in record.sizes.items() if size} == {
        "kept": sizes[0] + sizes[5],
        "redirect": sizes[1],
        "namespace": sizes[2],
        "empty": sizes[3] + sizes[4],
    }
    assert record.losses == []
    out = Folder(tmp_path / "out")
    texts = read_texts(out, "shards/00000.parquet")
    assert texts.titles == ["Cat", "日本"]
    assert texts.texts == ["The cat is a pet.", "日本は国 and 5 km."]
    table = out.read_table("shards/00000.parquet")
    assert table["categories"].to_pylist() == [["Cats"], []]
    assert table["tokens"].to_pylist()[1] == ["日", "本", "は", "国", "and", "5", "km"]
    assert out.read_table(f"making/{record.redirects[0]}").to_pylist() == [{"title": "Puss", "target": "Cat"}]
    assert sum(out.read_table(f"making/{record.runs[0]}")["count"].to_pylist()) == record.shards[0].tokens


def test_markup_can_be_kept_and_text_left_out(tmp_path: Path) -> None:
    settings = {"markup": "keep", "tokeniser": "reference", "text": False}
    (record,) = make(dump_of(tmp_path, PAGES), tmp_path / "out", **settings)
    table = Folder(tmp_path / "out").read_table("shards/00000.parquet")
    assert table.column_names == ["page_id", "revision_id", "title", "tokens"]
    assert table["tokens"].to_pylist()[0] == ["the", "cat", "is", "a", "pet", ".", "category", ":", "cats"]
    assert record.pages == 3  # the page that is one template has text when markup is kept


def test_the_same_split_gives_the_same_files(tmp_path: Path) -> None:
    dump = dump_of(tmp_path, PAGES * 3)
    first = make(dump, tmp_path / "a")
    assert make(dump, tmp_path / "b") == first
    assert make(dump, tmp_path / "a") == first


def test_pages_of_many_splits_are_those_of_one(tmp_path: Path) -> None:
    pages = [page(number, f"T{number}", f"word{number} " * 40) for number in range(1, 60)]
    source = tmp_path / "dump.xml"
    source.write_bytes(export(pages))
    dump = locate(source, tmp_path / "downloads")
    (whole,) = make(dump, tmp_path / "whole")
    parts = make(dump, tmp_path / "parts", split_bytes=2_000)
    assert len(parts) > 5
    assert sum(record.pages for record in parts) == whole.pages == 59
    titles = [
        title
        for record in parts
        for shard in record.shards
        for title in read_texts(Folder(tmp_path / "parts"), shard.name).titles
    ]
    assert titles == [f"T{number}" for number in range(1, 60)]


def test_much_text_in_one_split_gives_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_maker, "SHARD_CHARACTERS", 500)
    pages = [page(number, f"T{number}", "some words " * 20) for number in range(1, 8)]
    (record,) = make(dump_of(tmp_path, pages), tmp_path / "out")
    assert [shard.name for shard in record.shards] == [
        "shards/00000.parquet",
        "shards/00000-1.parquet",
        "shards/00000-2.parquet",
    ]
    assert record.pages == 7
    assert len(record.runs) == 3


def test_a_split_is_finished_when_its_record_and_all_its_files_are_there(tmp_path: Path) -> None:
    dump = dump_of(tmp_path, PAGES)
    splits = plan(dump, IngestSettings().split_size(dump.bytes))
    folder = Folder(tmp_path / "out")
    making = folder.child("making")
    assert not Ledger(folder, making, splits).finished
    (record,) = make(dump, tmp_path / "out")
    assert list(Ledger(folder, making, splits).records()) == [record]
    folder.delete("shards/00000.parquet")
    assert not Ledger(folder, making, splits).finished


def test_a_cut_dump_gives_the_pages_before_and_says_so(tmp_path: Path) -> None:
    whole = export([page(number, f"T{number}", "words here " * 9) for number in range(1, 30)])
    source = tmp_path / "cut.xml.bz2"
    source.write_bytes(bz2.compress(whole[: len(whole) // 2]))
    (record,) = make(locate(source, tmp_path / "downloads"), tmp_path / "out")
    assert 5 < record.pages < 29
    assert record.dropped["cut"] == 1
    assert any("ends" in sentence for sentence in record.losses)


def test_progress_is_told_in_bytes_and_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_maker, "PROGRESS_SECONDS", 0.0)
    dump = dump_of(tmp_path, PAGES)
    (split,) = plan(dump, 1 << 20)
    told: list[tuple[int, int]] = []
    folder = Folder(tmp_path / "out")
    maker = ShardMaker(folder, folder.child("making"), IngestSettings())
    maker.make(split, lambda done, pages: told.append((done, pages)))
    assert told
    assert all(0 <= done <= split.bytes and 0 < pages <= 4 for done, pages in told)
