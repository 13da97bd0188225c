"""What ``manifest.json`` holds: what an artefact is, what it was made from, which files it has.

Of an artefact with more than `INLINE` files the long lists (the files, and those of its counts that have a
row a shard) lie beside it as Parquet, named in ``tables``; that is format 2. So the manifest of a million
shards has 2 kB in place of 340 MB, and a table is read when somebody asks for it. All others are written as
format 1, which earlier versions read too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import pyarrow as pa

from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder

FORMAT = 2
INLINE = 10_000  # files, or rows of a list, that stand in manifest.json itself: 3 MB
TABLES = "manifest"  # the folder of the tables
TYPES = {"kind": str, "identity": str, "output_version": int, "settings": dict, "counts": dict, "made": dict}
FILES = pa.schema([("name", pa.string()), ("bytes", pa.int64()), ("sha256", pa.binary(32))])

Row = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """Something an artefact is made from: an artefact, or a thing with an identity of its own (a dump)."""

    kind: str
    identity: str
    location: str


class FileTable(Mapping[str, FileRecord]):
    """The files of a large artefact, read when they are asked for: those that the manifest names itself
    (`inline`), and then the table's rows, of `total` bytes."""

    def __init__(self, folder: Folder, name: str, total: int, inline: dict[str, FileRecord]) -> None:
        self._given = (folder, name, total, inline)
        self.bytes = total + sum(record.bytes for record in inline.values())

    def __reduce__(self) -> Any:
        return FileTable, self._given

    @cached_property
    def _records(self) -> dict[str, FileRecord]:
        folder, name, _, inline = self._given
        read = _table(folder, name)
        columns = [read[column].to_pylist() for column in FILES.names]
        records = {name: FileRecord(size, sha256.hex()) for name, size, sha256 in zip(*columns, strict=True)}
        return {**inline, **records}

    def __getitem__(self, name: str) -> FileRecord:
        return self._records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


class RowTable(Sequence[Row]):
    """A list of the counts with a row a shard, read when it is asked for."""

    def __init__(self, folder: Folder, name: str, rows: int) -> None:
        self._given = (folder, name, rows)

    def __reduce__(self) -> Any:
        return RowTable, self._given

    @cached_property
    def table(self) -> pa.Table:
        """The rows as they lie there."""
        return _table(*self._given[:2])

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        row: Row = self.table.slice(range(len(self))[at], 1).to_pylist()[0]
        return row

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(INLINE):
            yield from batch.to_pylist()

    def __len__(self) -> int:
        return self._given[2]


def _table(folder: Folder, name: str) -> pa.Table:
    try:
        return folder.read_table(name)
    except (OSError, pa.ArrowException) as error:
        raise WordloomError(
            f"{folder.location}/{name} is damaged ({error}); delete the folder and run the command again."
        ) from error


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds; see the text of cluster/artefact.py."""

    kind: str
    identity: str
    output_version: int
    inputs: dict[str, Input]
    settings: dict[str, Any]
    counts: dict[str, Any]
    files: Mapping[str, FileRecord]
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of all files."""
        if isinstance(self.files, FileTable):
            return self.files.bytes
        return sum(record.bytes for record in self.files.values())

    def write(self, folder: Folder, name: str) -> None:
        """Writes the manifest under `name`, its tables before it."""
        counts, files, tables = dict(self.counts), dict(self.files), {}
        if len(files) > INLINE:
            hashes = [bytes.fromhex(record.sha256) for record in files.values()]
            sizes = [record.bytes for record in files.values()]
            content = {"files": pa.table([[*files], sizes, hashes], schema=FILES)}
            long = [key for key, value in counts.items() if isinstance(value, list) and len(value) > INLINE]
            content |= {
                key: pa.Table.from_pylist(counts.pop(key)) for key in long if isinstance(counts[key][0], dict)
            }
            files = {}
            for key, table in content.items():
                path = f"{TABLES}/{key}.parquet"
                files[path] = folder.write_table(path, table, use_dictionary=False)
                tables[key] = {"file": path, "rows": len(table)}
            tables["files"]["bytes"] = sum(sizes)
        value = {
            "kind": self.kind,
            "identity": self.identity,
            "output_version": self.output_version,
            "inputs": {key: dataclasses.asdict(given) for key, given in self.inputs.items()},
            "settings": self.settings,
            "counts": counts,
            "files": {key: dataclasses.asdict(record) for key, record in files.items()},
            "made": self.made,
            "format": FORMAT if tables else 1,
        }
        folder.write_json(name, {**value, "tables": tables} if tables else value)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Folder) -> Manifest:
        """The manifest that `value` says, of the artefact in `folder`. Raises KeyError, TypeError or
        AttributeError where it says none."""
        for key, kind in TYPES.items():
            if not isinstance(value[key], kind):
                raise TypeError(f"{key} is {str(value[key])[:40]!r}")
        files: Mapping[str, FileRecord] = {key: FileRecord(**entry) for key, entry in value["files"].items()}
        counts = dict(value["counts"])
        for key, said in value.get("tables", {}).items():
            if key == "files":
                files = FileTable(folder, said["file"], said["bytes"], dict(files))
            else:
                counts[key] = RowTable(folder, said["file"], said["rows"])
        return cls(
            kind=value["kind"],
            identity=value["identity"],
            output_version=value["output_version"],
            inputs={key: Input(**entry) for key, entry in value["inputs"].items()},
            settings=value["settings"],
            counts=counts,
            files=files,
            made=value["made"],
        )
