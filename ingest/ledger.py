"""The ledger of an ingest: which of its splits are finished, and what became of each.

Whoever has finished a split writes its record as a file of its own, last of all (`note`). Where all of a
range of `RANGE` splits are finished, the driver gathers their records into one Parquet file and deletes the
single ones: so a run that goes on reads some hundred files and not a million, and what lies in memory are the
records of unfinished ranges alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cluster.folder import FileRecord, Folder
from ingest.shards import ShardCounts

RECORDS, RANGES = "splits", "ranges"  # folders below making/
RANGE = 4096  # splits; some 300 kB of records
REQUESTS = 32  # under way at once; an object store takes 10 to 50 ms for each


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """What became of one split; written last, so a split with a record is finished.

    `runs` (token counts) and `redirects` name files below ``making/``; ``seen`` is kept pages plus all
    `dropped`; `sizes` are bytes of the source by the same reasons and of what is ``kept``; `losses` are
    sentences.
    """

    index: int
    start: int
    stop: int
    shards: list[ShardCounts] = field(default_factory=list)
    files: dict[str, FileRecord] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)
    redirect_count: int = 0
    seen: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    @property
    def pages(self) -> int:
        return sum(shard.pages for shard in self.shards)

    def to_json(self) -> dict[str, Any]:
        # A million of them: dataclasses.asdict takes 35 us for one, this 6.
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "shards": [shard.to_json() for shard in self.shards],
            "files": {
                name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in self.files.items()
            },
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SplitRecord:
        shards = [ShardCounts(**entry) for entry in value["shards"]]
        files = {name: FileRecord(**entry) for name, entry in value["files"].items()}
        return cls(**{**value, "shards": shards, "files": files})


_STRINGS = pa.list_(pa.string())
_COUNTED = [
    pa.field(each.name, pa.string() if each.name == "name" else pa.int64()) for each in fields(ShardCounts)
]
_FILE = [("name", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())]
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("shards", pa.list_(pa.struct(_COUNTED))),
        ("files", pa.list_(pa.struct(_FILE))),
        ("runs", _STRINGS),
        ("redirects", _STRINGS),
        ("redirect_count", pa.int64()),
        ("seen", pa.int64()),
        ("dropped", pa.map_(pa.string(), pa.int64())),
        ("sizes", pa.map_(pa.string(), pa.int64())),
        ("losses", _STRINGS),
    ]
)


class Piece(Protocol):
    """What the ledger knows of a split."""

    @property
    def index(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def bytes(self) -> int: ...


def note(making: Folder, record: SplitRecord) -> None:
    """Writes the record of a split whose files are all there."""
    making.write_json(_single(record.index), record.to_json())


class Ledger:
    """Which of the `splits` of a run, numbered from 0, are finished: by earlier runs, and as it `add`s them.

    `folder` is the corpus', `making` the one below it of what is unfinished. A split counts as finished where
    its record and all its files are there. `bytes` and `pages` are those of the finished splits.
    """

    def __init__(self, folder: Folder, making: Folder, splits: Sequence[Piece]) -> None:
        self._making, self._splits = making, splits
        self.finished: set[int] = set()
        self.bytes = self.pages = 0
        self._kept: dict[int, dict[int, SplitRecord]] = {}  # the records of each range that is not gathered
        inside = making.location.removeprefix(f"{folder.location}/") + "/"
        there = set(folder.names())  # one listing of all
        singles = sorted(name for name in there if name.startswith(f"{inside}{RECORDS}/"))
        ranges = sorted(name for name in there if name.startswith(f"{inside}{RANGES}/"))
        with ThreadPoolExecutor(REQUESTS) as pool:
            for name, table in zip(ranges, pool.map(folder.read_table, ranges), strict=True):
                number = _index(name)
                if self._is_whole(number, table, there, inside):
                    self.finished.update(table["index"].to_pylist())
                    self.bytes += sum(split.bytes for split in splits[number * RANGE : (number + 1) * RANGE])
                    shards = pc.list_flatten(table["shards"])
                    self.pages += pc.sum(pc.struct_field(shards, "pages")).as_py() or 0
                else:  # files of it were lost: the others wait until these are made again
                    self._take(_records(table), there, inside)
            wanted = [name for name in singles if _index(name) not in self.finished]
            self._take(map(SplitRecord.from_json, pool.map(folder.read_json, wanted)), there, inside)

    def add(self, record: SplitRecord) -> None:
        """A split that is finished now, and noted. The last one of a range has that gathered."""
        number = record.index // RANGE
        kept = self._kept.setdefault(number, {})
        self._keep(record)
        if len(kept) == RANGE:
            rows = [_row(record) for _, record in sorted(kept.items())]
            self._making.write_table(_range(number), pa.Table.from_pylist(rows, SCHEMA))
            with ThreadPoolExecutor(REQUESTS) as pool:
                list(pool.map(self._making.delete, map(_single, kept)))
            del self._kept[number]

    def records(self) -> Iterator[SplitRecord]:
        """The records of all splits, in their order. All must be finished."""
        for number in range(-(-len(self._splits) // RANGE)):
            if (kept := self._kept.get(number)) is not None:
                yield from (record for _, record in sorted(kept.items()))
            else:
                yield from _records(self._making.read_table(_range(number)))

    def _keep(self, record: SplitRecord) -> None:
        self._kept.setdefault(record.index // RANGE, {})[record.index] = record
        self.finished.add(record.index)
        self.bytes += self._splits[record.index].bytes
        self.pages += record.pages

    def _take(self, records: Iterable[SplitRecord], there: set[str], inside: str) -> None:
        """Keeps those of the records that are of our splits and whose files are all there."""
        for record in records:
            if record.index >= len(self._splits) or record.index in self.finished:
                continue
            split = self._splits[record.index]
            names = [*record.files, *(f"{inside}{name}" for name in [*record.runs, *record.redirects])]
            if (record.start, record.stop) == (split.start, split.stop) and there.issuperset(names):
                self._keep(record)

    def _is_whole(self, number: int, table: pa.Table, there: set[str], inside: str) -> bool:
        """Whether all of a gathered range is there and of our splits; by columns, without an object each."""
        splits = self._splits[number * RANGE : (number + 1) * RANGE]
        edges = [(split.index, split.start, split.stop) for split in splits]
        found = zip(*(table[name].to_pylist() for name in ("index", "start", "stop")), strict=True)
        files = pc.struct_field(pc.list_flatten(table["files"]), "name").to_pylist()
        beside = [name for key in ("runs", "redirects") for name in pc.list_flatten(table[key]).to_pylist()]
        return edges == list(found) and there.issuperset([*files, *(f"{inside}{name}" for name in beside)])


def _records(table: pa.Table) -> Iterator[SplitRecord]:
    for row in table.to_pylist():
        files = {entry.pop("name"): entry for entry in row["files"]}
        maps = {name: dict(row[name]) for name in ("dropped", "sizes")}
        yield SplitRecord.from_json({**row, "files": files, **maps})


def _row(record: SplitRecord) -> dict[str, Any]:
    value = record.to_json()
    return {**value, "files": [{"name": name, **file} for name, file in value["files"].items()]}


def _single(index: int) -> str:
    return f"{RECORDS}/{index:05d}.json"


def _index(name: str) -> int:
    return int(name.rpartition("/")[2].partition(".")[0])


def _range(number: int) -> str:
    return f"{RANGES}/{number:05d}.parquet"
