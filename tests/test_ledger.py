"""Which splits are finished: nothing is done twice, nothing that is lost counts, however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.folder import FileRecord, Folder
from ingest import ledger
from ingest.ledger import Ledger, SplitRecord, note
from ingest.shards import ShardCounts


@dataclass(frozen=True)
class Piece:
    index: int

    @property
    def start(self) -> int:
        return self.index * 10

    @property
    def stop(self) -> int:
        return self.start + 10

    @property
    def bytes(self) -> int:
        return 10


PIECES = [Piece(index) for index in range(10)]


def finish(folder: Folder, index: int) -> SplitRecord:
    """What a worker leaves of a split."""
    shard, run = f"shards/{index:05d}.parquet", f"counts/{index:05d}.parquet"
    folder.write(shard, b"shard")
    folder.write(f"making/{run}", b"run")
    record = SplitRecord(
        index,
        index * 10,
        index * 10 + 10,
        shards=[ShardCounts(shard, 3, 30, 90, 2, 20, 60)],
        files={shard: FileRecord(5, "ab" * 32)},
        runs=[run],
        redirect_count=1,
        seen=4,
        dropped={"redirect": 1, "empty": 0},
        sizes={"kept": 300, "redirect": 40, "empty": 0},
        losses=["A page was cut."] if index == 4 else [],
    )
    note(folder.child("making"), record)
    return record


def opened(folder: Folder) -> Ledger:
    return Ledger(folder, folder.child("making"), PIECES)


@pytest.fixture(autouse=True)
def ranges_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "RANGE", 4)


def test_records_come_in_the_order_of_the_splits_whoever_was_first(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    kept = opened(folder)
    records = {}
    for index in (3, 0, 7, 9, 1, 8, 2, 6, 5, 4):
        records[index] = finish(folder, index)
        kept.add(records[index])
    assert list(kept.records()) == [records[index] for index in range(10)]
    assert (kept.bytes, kept.pages) == (100, 30)


def test_whole_ranges_are_gathered_and_a_later_run_finds_them(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = opened(folder)
    records = [finish(folder, index) for index in range(9)]
    for record in records:
        first.add(record)
    left = [name for name in folder.names() if name.startswith(("making/splits", "making/ranges"))]
    ranges = ["making/ranges/00000.parquet", "making/ranges/00001.parquet"]
    assert left == [*ranges, "making/splits/00008.json"]
    again = opened(folder)
    assert again.finished == {*range(9)} and (again.bytes, again.pages) == (90, 27)
    records.append(finish(folder, 9))
    again.add(records[9])
    assert list(again.records()) == records


def test_of_a_gathered_range_that_lost_a_file_only_that_split_is_made_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = opened(folder)
    records = [finish(folder, index) for index in range(10)]
    for record in records:
        first.add(record)
    folder.delete("shards/00002.parquet")
    folder.delete("making/counts/00007.parquet")
    again = opened(folder)
    assert again.finished == {*range(10)} - {2, 7}
    for index in (2, 7):
        again.add(finish(folder, index))
    assert list(again.records()) == records == list(opened(folder).records())


def test_what_was_gathered_and_not_yet_deleted_counts_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = opened(folder)
    records = [finish(folder, index) for index in range(10)]
    for record in records:
        first.add(record)
    note(folder.child("making"), records[1])  # a kill came before it went
    again = opened(folder)
    assert (again.bytes, again.pages) == (100, 30) and list(again.records()) == records


def test_records_of_other_splits_do_not_count(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = opened(folder)
    for index in range(10):
        first.add(finish(folder, index))
    assert Ledger(folder, folder.child("making"), PIECES[:3]).finished == {0, 1, 2}
    assert Ledger(folder, folder.child("making"), [Piece(index + 1) for index in range(10)]).finished == set()
