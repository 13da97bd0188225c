"""A user's own corpus: its files found, examined, and cut into splits.

What a file is, its first bytes say; where they do not, its name does. What the corpus is, its content says:
the identity comes from the files' sha256 (and from the names of those files that are one document each,
since they become titles).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artefact import Input
from cluster.connections import LIMIT
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder, filesystem_of
from cluster.progress import Reporter
from ingest.content import BOM, DAMAGE, chunks_of, compression_of
from ingest.documents import STRINGS, DocumentSplit, Part
from ingest.download import Part as Remote
from ingest.download import kept, stored
from ingest.files import Checksums, found, info, open_file, version_of
from ingest.rows import PIECE
from ingest.settings import TextSettings
from ingest.web import Version, is_web, without_query

# Raise by one whenever the same files and settings give other shards (tests/test_texts.py guards it).
OUTPUT_VERSION = 3
HEAD = 1 << 16  # bytes of content that are looked at

_JSON_NAME = re.compile(r"\.(jsonl|ndjson|json)(\.(gz|bz2|xz|zst|zstd))?$", re.IGNORECASE)


@dataclass(frozen=True)
class TextFile:
    """One file as it lies: `bytes` and `sha256` are of the compressed file.

    `format` is ``text``, ``jsonl`` or ``parquet``; `compression` ``gzip``, ``bzip2``, ``xz``,
    ``zstd`` or empty; `groups` the bytes of each row group of a Parquet file. `sha256` is empty for a file
    that is read elsewhere and never stored; `version` is what that must still be when it is read.
    """

    location: str
    bytes: int
    sha256: str
    format: str
    compression: str = ""
    groups: tuple[int, ...] = ()
    version: Version | None = None

    @property
    def name(self) -> str:
        return self.location.rpartition("/")[2]


@dataclass(frozen=True)
class Texts:
    """A corpus of texts: its files in their order, and how they are read."""

    files: tuple[TextFile, ...]
    name: str
    reading: TextSettings
    connections: int = LIMIT

    @property
    def identity(self) -> str:
        """sha256 (hex) over the files' sha256 (what the server says of those that are not stored)."""
        return hashlib.sha256("\n".join(map(self._identity, self.files)).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def as_input(self) -> Input:
        """What an artefact says it was made from."""
        return Input("text", self.identity, without_query(self.files[0].location))

    def plan(self, split_bytes: int) -> list[DocumentSplit]:
        """The splits, of about `split_bytes` each, in the order of the documents; small files share one.

        The same files and `split_bytes` always give the same splits.
        """
        splits: list[list[Part]] = []
        room = 0
        for number, file in enumerate(self.files):
            for part in self._parts(number, file, split_bytes):
                if not splits or part.bytes > room:
                    splits.append([])
                    room = split_bytes
                splits[-1].append(part)
                room -= part.bytes
        return [DocumentSplit(index, tuple(parts), self.reading) for index, parts in enumerate(splits)]

    def _identity(self, file: TextFile) -> str:
        known = file.sha256 or json.dumps(dataclasses.asdict(file.version or Version()), sort_keys=True)
        whole = file.format == "text" and self.reading.documents == "file"
        return f"{known} {file.name}" if whole else known

    def _parts(self, number: int, file: TextFile, split_bytes: int) -> list[Part]:
        def part(start: int, stop: int, groups: tuple[int, int] = (0, 0)) -> Part:
            return Part(
                number,
                file.location,
                file.format,
                file.compression,
                start,
                stop,
                file.bytes,
                groups,
                file.version,
                self.connections,
            )

        if file.format == "parquet":
            return _of_groups(file, split_bytes, part)
        count = 1 if file.compression else max(1, round(file.bytes / split_bytes))
        edges = [file.bytes * each // count for each in range(count + 1)]
        if file.format == "text" and self.reading.documents == "file":
            edges = sorted({*(edge // PIECE * PIECE for edge in edges[:-1]), file.bytes})
        if not file.bytes:
            return [part(0, 0)]
        return [part(start, stop) for start, stop in pairwise(edges)]


def _of_groups(file: TextFile, split_bytes: int, part: Any) -> list[Part]:
    """The parts of a Parquet file: row groups together up to `split_bytes`, at least one each."""
    total = sum(file.groups) or 1
    ends = [0, *accumulate(file.groups)]
    edges = [0]
    for group in range(1, len(file.groups)):
        if (ends[group + 1] - ends[edges[-1]]) > split_bytes:
            edges.append(group)
    edges.append(len(file.groups))
    # Row groups are not all of the file: the footer's bytes are spread over the parts.
    return [
        part(file.bytes * ends[first] // total, file.bytes * ends[behind] // total, (first, behind))
        for first, behind in pairwise(edges)
        if behind > first
    ]


def locate(
    source: str | Path,
    downloads: str | Path | Folder,
    reporter: Reporter | None = None,
    checksums: str | Path | None = None,
    *,
    reading: TextSettings | None = None,
    download: bool | None = True,
    connections: int = LIMIT,
) -> Texts:
    """The corpus at `source`: a path or glob (local, s3://, gs://) or an http(s) URL, which is downloaded
    into the local folder `downloads` first, unless `download` is False; with None, for a plan, nothing is
    stored and what an earlier run stored is looked at.

    `checksums` names a file that remembers the sha256 of files by place, size and time. Raises
    WordloomError where there is nothing, or a column is missing.
    """
    reporter = reporter or Reporter(quiet=True)
    reading = reading or TextSettings()
    memory = Checksums(checksums)
    source = str(source)
    if not is_web(source):
        locations = found(source)
    elif download is None:
        locations = [each.url for each in kept([Remote(source)], downloads)]
    elif download:
        locations = stored([Remote(source)], downloads, reporter, memory, connections)
    else:
        locations = [source]
    files = tuple(_examined(each, memory, reporter, reading, connections) for each in locations)
    memory.write()
    name = files[0].name if len(files) == 1 else f"{files[0].name} (+{len(files) - 1})"
    return Texts(files, name, reading, connections)


def _examined(
    location: str, memory: Checksums, reporter: Reporter, reading: TextSettings, connections: int
) -> TextFile:
    """What a file is. Raises WordloomError for one that cannot be read as text."""
    version = version_of(location, connections) if is_web(location) else None
    if version is not None:
        size = version.total or 0
    else:
        filesystem, path = filesystem_of(location)
        size = int(info(filesystem, path, location).size or 0)
    file = TextFile(location, size, "", "text", version=version)
    if size:
        with open_file(location, version, connections) as stream:
            file = _sniffed(file, stream, reading)
    return (
        file
        if version is not None
        else dataclasses.replace(file, sha256=memory.sha256(location, size, reporter))
    )


def _sniffed(file: TextFile, stream: Any, reading: TextSettings) -> TextFile:
    head = bytes(stream.read(HEAD))
    stream.seek(0)
    if head.startswith(b"PAR1"):
        return _parquet(file, stream, reading)
    compression = compression_of(head)
    if compression:
        head = b""
        try:
            for chunk in chunks_of(stream, file.location, compression):
                head += chunk
                if len(head) >= HEAD:
                    break
        except DAMAGE as error:
            if not head:  # else the reader keeps what can be read, and says so
                raise WordloomError(
                    f"{file.location!r} holds no readable {compression} data ({error}); fetch it again."
                ) from error
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise WordloomError(f"{file.location!r} is UTF-16; convert it to UTF-8 first.")
    if b"\0" in head[:1024] or head.startswith(b"%PDF"):
        raise WordloomError(
            f"{file.location!r} is no text, it begins with {head[:8]!r}; give text, JSON lines or Parquet."
        )
    content = head.removeprefix(BOM).lstrip()
    lines = _JSON_NAME.search(file.name) is not None or _is_object(content)
    if lines and content.startswith(b"["):
        raise WordloomError(
            f"{file.location!r} is one JSON array and no JSON lines; put each of its objects into a line of "
            "its own first (`jq -c '.[]'` does)."
        )
    return dataclasses.replace(file, format="jsonl" if lines else "text", compression=compression)


def _is_object(head: bytes) -> bool:
    """Whether text begins with a line that is a JSON object, or may be one that is longer than the head."""
    line, end, _ = head.partition(b"\n")
    if not end and len(head) >= HEAD:
        return re.match(rb'\{\s*"[^"\\]*"\s*:', line) is not None
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parquet(file: TextFile, stream: Any, reading: TextSettings) -> TextFile:
    try:
        parquet = pq.ParquetFile(stream)
        schema = parquet.schema_arrow
        metadata = parquet.metadata
        groups = tuple(metadata.row_group(each).total_byte_size for each in range(metadata.num_row_groups))
    except (OSError, pa.ArrowException) as error:
        raise WordloomError(
            f"{file.location!r} is no readable Parquet file ({str(error).splitlines()[0]}); fetch it again."
        ) from error
    for name in (reading.text_column, reading.id_column, reading.title_column):
        if (count := schema.names.count(name)) > 1:
            raise UsageError(
                f"{file.location!r} has {count} columns {name!r}; write it anew with one of each name."
            )
    name = reading.text_column
    if name not in schema.names:
        there = ", ".join(map(repr, schema.names))
        raise UsageError(f"{file.location!r} has no column {name!r}; give --text-column one of {there}.")
    kind = schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(check(kind) for check in STRINGS):
        raise UsageError(
            f"Column {name!r} of {file.location!r} holds {kind}, no text; give another --text-column."
        )
    return dataclasses.replace(file, format="parquet", groups=groups)
