"""Checkpoints: arrays and a position in a folder, from which training goes on bit for bit.

A checkpoint is a folder named by its position. One ``.npy`` file an array (no pickle) comes first and
``checkpoint.json`` last: a folder without it does not count, whatever a kill left there. It holds the
position, what else the loop notes, the size and sha256 of every array, and a sha256 over all of these, so
that a damaged checkpoint is noticed and the one before it used instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder

MARKER = "checkpoint.json"
KEPT = 2  # the newest, and one to fall back to


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint: its position (blocks done), the loop's notes (JSON) and the arrays."""

    position: int
    notes: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


class DamagedError(WordloomError):
    """A checkpoint that does not hold what was written."""


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    `warnings` gathers a sentence for every damaged checkpoint that was passed over.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.warnings: list[str] = []

    def positions(self) -> list[int]:
        """The positions that have a whole checkpoint, rising."""
        return sorted(
            int(name.partition("/")[0]) for name in self.folder.names() if name.endswith(f"/{MARKER}")
        )

    def save(
        self,
        position: int,
        arrays: Mapping[str, npt.NDArray[Any]],
        notes: Mapping[str, Any],
        keep: int | None = None,
    ) -> None:
        """Writes a checkpoint; then forgets those that are no longer needed.

        Kept are the `KEPT` newest and the one at position `keep` (the best one so far). A checkpoint that
        is already there under this position is replaced.
        """
        name = f"{position:012d}"
        self.folder.delete(f"{name}/{MARKER}")  # first: what follows is not whole until it is written again
        self.folder.delete(name)
        files = {}
        for number, (key, array) in enumerate(sorted(arrays.items())):
            if array.dtype.hasobject:
                raise TypeError(f"array {key!r} holds Python objects; a checkpoint takes plain numbers")
            file = f"{number:04d}.npy"
            with self.folder.writer(f"{name}/{file}") as stream:
                np.lib.format.write_array(cast(BinaryIO, stream), array, allow_pickle=False)
            files[key] = {"file": file, **asdict(stream.record)}
        marker = {"position": position, "notes": dict(notes), "arrays": files}
        self.folder.write_json(f"{name}/{MARKER}", {**marker, "sha256": _digest(marker)})
        self._forget(position, keep)

    def load(self, position: int) -> Checkpoint:
        """The checkpoint at a position. Raises `DamagedError` where it is not what was written."""
        name = f"{position:012d}"
        where = f"{self.folder.location}/{name}"
        try:
            marker = json.loads(self.folder.read(f"{name}/{MARKER}"))
            written = marker.pop("sha256", None)  # earlier versions wrote none
            if marker["position"] != position or written not in (None, _digest(marker)):
                raise ValueError(f"its {MARKER} is not what was written")
            arrays = {}
            for key, entry in marker["arrays"].items():
                record = FileRecord(entry["bytes"], entry["sha256"])
                arrays[key] = self._array(f"{name}/{entry['file']}", record)
            return Checkpoint(position, dict(marker["notes"]), arrays)
        except MemoryError:
            raise  # the checkpoint may be sound, and passing it over would cost the work since the one before
        except Exception as error:  # whatever damage leads to: a header's literal alone may fail in many ways
            raise DamagedError(f"The checkpoint {where!r} is damaged ({error}).") from error

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and sound, None where there is none."""
        for position in reversed(self.positions()):
            try:
                return self.load(position)
            except DamagedError as error:
                self.warnings.append(f"{str(error)[:-1]}; training goes on from the one before it.")
        return None

    @property
    def location(self) -> str:
        return self.folder.location

    def _array(self, name: str, record: FileRecord) -> npt.NDArray[Any]:
        with self.folder.open(name) as stream:
            reader = _HashingReader(stream)
            array = np.lib.format.read_array(cast(BinaryIO, reader), allow_pickle=False)
            while reader.read(1 << 20):
                pass
        if reader.record != record:
            raise ValueError(f"the {reader.record.bytes} bytes of {name} are not the {record.bytes} written")
        return array

    def _forget(self, position: int, keep: int | None) -> None:
        # What lies beyond this position is damaged, or training would have gone on from there.
        needed = {*[each for each in self.positions() if each <= position][-KEPT:], keep}
        for name in sorted({each.partition("/")[0] for each in self.folder.names()}):
            if int(name) not in needed:
                self.folder.delete(f"{name}/{MARKER}")
                self.folder.delete(name)


def _digest(marker: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(marker, sort_keys=True).encode()).hexdigest()


class _HashingReader:
    """A binary file being read: counts and hashes what passes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._bytes = 0

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self._hash.update(data)
        self._bytes += len(data)
        return data

    @property
    def record(self) -> FileRecord:
        return FileRecord(self._bytes, self._hash.hexdigest())
