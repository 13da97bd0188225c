"""Documents out of a user's own files: plain text, JSON lines, Parquet.

A split is a list of parts: whole small files, or a range of a large one. To a part belong the rows that
begin in it, so what all splits give, one after the other, is what a serial read gives:

- a **line**, of text or of JSON, belongs to the part in which its first byte lies;
- a **paragraph** to the part in which the last blank line before it begins (the first one to the first);
- a **file** read as one document is cut behind the first line end (else white space) at or behind every
  `rows.PIECE` bytes, so that a corpus in one file of 10 GB is read in flat memory and by many workers;
- of Parquet, a part is some row groups. What is compressed cannot be entered in the middle: one part.

Every row is kept or dropped for a reason (`DROPPED`), and the first places of each reason are named. A
document's number is its integer id where it has one, else 63 bits of a hash of what does not depend on the
splits: its id, or its file's place in the source and its offset there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.connections import LIMIT
from cluster.errors import WordloomError
from ingest.content import BOM, DAMAGE, NamedStream, chunks_of
from ingest.files import open_file
from ingest.page import Page
from ingest.pages import KEPT
from ingest.rows import PIECE, lines_of, paragraphs_of, pieces_of
from ingest.settings import TextSettings
from ingest.web import Version

# malformed: no JSON object; missing: no such column, or null; type: no string; encoding: no UTF-8;
# oversize: a row beyond `rows.LARGEST`; damaged: rows of a row group that cannot be read.
DROPPED = ("malformed", "missing", "type", "encoding", "empty", "oversize", "damaged")
BATCH = 1024  # rows of Parquet in memory at once
NAMED = 3  # places that are named for each reason

STRINGS = (  # the types of Arrow that hold text
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


@dataclass(frozen=True)
class Part:
    """The bytes [start, stop) of file number `number` of the source, `size` bytes long.

    `format` is ``text``, ``jsonl`` or ``parquet``, `compression` ``gzip``, ``bzip2``, ``xz``, ``zstd`` or
    empty. `groups` are the row groups [first, behind) of a Parquet file.
    """

    number: int
    location: str
    format: str
    compression: str
    start: int
    stop: int
    size: int
    groups: tuple[int, int] = (0, 0)
    version: Version | None = None
    connections: int = LIMIT

    @property
    def bytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class DocumentSplit:
    """The parts of one split; `index` counts over the whole source."""

    index: int
    parts: tuple[Part, ...]
    reading: TextSettings

    @property
    def start(self) -> int:
        return self.parts[0].start

    @property
    def stop(self) -> int:
        return self.parts[-1].stop

    @property
    def bytes(self) -> int:
        """The bytes of files it covers; over all splits they add up to the source's."""
        return sum(part.bytes for part in self.parts)


class _DroppedError(Exception):
    """A row is dropped; the reason is one of DROPPED."""


class Documents:
    """The documents of one split that are kept: iterate over it once.

    While it runs, `covered` is how many bytes of the split are done, and
    ``seen == kept + sum(dropped.values())``. `sizes` are the bytes of the rows (of Parquet, of their
    texts) by what became of them; of rows that are ``oversize`` or ``damaged``, which nobody holds, none.
    Raises WordloomError where a file is gone or is another one by now.
    """

    def __init__(self, split: DocumentSplit) -> None:
        self.covered = 0
        self.seen = 0
        self.kept = 0
        self.dropped = dict.fromkeys(DROPPED, 0)
        self.sizes = dict.fromkeys((KEPT, *DROPPED), 0)
        self.redirects: list[tuple[str, str]] = []  # only a wiki has any
        self._split = split
        self._reading = split.reading
        self._columns: list[str] | None = None  # of the first row in which the text's column is missing
        self._places: dict[tuple[str, str], list[str]] = {}
        self._losses: list[str] = []

    def __iter__(self) -> Iterator[Page]:
        before = 0
        for part in self._split.parts:
            for page in self._part(part, before):
                self.kept += 1
                yield page
            before += part.bytes
            self.covered = before

    def sentences(self) -> list[str]:
        """What was lost and what was dropped and where, a sentence each."""
        told = list(self._losses)
        for (location, reason), places in self._places.items():
            more = ", ..." if len(places) > NAMED else ""
            why = reason
            if reason == "missing" and self._columns is not None:
                there = ", ".join(map(repr, self._columns[:8])) or "none"
                why = f"missing: no text in column {self._reading.text_column!r} (there are: {there})"
            told.append(f"{location!r}: rows dropped as {why}; {', '.join(places[:NAMED])}{more}.")
        return told

    def _part(self, part: Part, before: int) -> Iterator[Page]:
        ahead = (part.start, part.stop)
        with open_file(part.location, part.version, part.connections, ahead) as stream:
            if (size := int(stream.size())) != part.size:
                raise WordloomError(
                    f"{part.location!r} has {size:,} bytes now and had {part.size:,} when the run was "
                    "planned; run the command again."
                )
            rows = self._parquet(stream, part) if part.format == "parquet" else self._rows(stream, part)
            for place, offset, row in rows:
                self.seen += 1
                held = row[0] if part.format == "parquet" else row
                size = len(held) if isinstance(held, bytes) else 0
                try:
                    page = self._page(part, offset, row)
                except _DroppedError as error:
                    self._drop(part, str(error), place)
                    self.sizes[str(error)] += size
                else:
                    self.sizes[KEPT] += size
                    page.size = size
                    yield page
                if part.format == "parquet":
                    continue
                # How far a compressed file is, its own position says; of plain text, the row.
                at = stream.tell() if part.compression else offset
                self.covered = before + min(max(at - part.start, 0), part.bytes)

    def _drop(self, part: Part, reason: str, place: str) -> None:
        self.dropped[reason] += 1
        places = self._places.setdefault((part.location, reason), [])
        if len(places) <= NAMED:
            places.append(place)

    # Rows: (place in words, offset, values). Values are (text, id, title), bytes of text, bytes of JSON or
    # None for a row beyond all size.

    def _rows(self, stream: Any, part: Part) -> Iterator[tuple[str, int, Any]]:
        whole = part.format == "text" and self._reading.documents == "file"
        seek = part.start if whole or not part.start else part.start - 1
        if not part.compression:
            stream.seek(seek)
        chunks = self._chunks(stream, part)
        rows: Iterator[tuple[int, bytes | None]]
        if whole:
            rows = pieces_of(chunks, part.start)
            if not part.size:
                rows = iter([(0, b"")])  # an empty file is an empty document
        else:
            rows = lines_of(chunks, seek)
            if part.start:
                next(rows, None)  # what is left of the line before
        paragraphs = part.format == "text" and self._reading.documents == "paragraph"
        stop = None if part.compression else max(part.stop, 1)
        if paragraphs:
            rows, stop = paragraphs_of(rows, part.start, stop), None
        for number, (offset, row) in enumerate(rows, 1):
            if stop is not None and offset >= stop:
                return
            if not whole and row is not None and not row.strip():
                continue  # a blank line is no row
            numbered = part.compression and not (whole or paragraphs)
            yield (f"line {number:,}" if numbered else f"byte {offset:,}"), offset, row

    def _chunks(self, stream: Any, part: Part) -> Iterator[bytes]:
        """The content; where a compressed file is damaged or cut, it ends there and the loss is noted."""
        try:
            yield from chunks_of(stream, part.location, part.compression)
        except DAMAGE as error:
            self._lose(part, (str(error) or type(error).__name__).rstrip("."))

    def _parquet(self, stream: Any, part: Part) -> Iterator[tuple[str, int, Any]]:
        # A local file is read by Arrow itself; one that lies elsewhere must not fail like a damaged one.
        source = stream if isinstance(stream, pa.NativeFile) else NamedStream(stream, part.location)
        try:
            file = pq.ParquetFile(source)
        except DAMAGE as error:
            raise WordloomError(f"Cannot read {part.location!r}: {error}.") from error
        reading, there = self._reading, set(file.schema_arrow.names)
        names = (reading.text_column, reading.id_column, reading.title_column)
        columns = [name for name in dict.fromkeys(names) if name in there]
        row = sum(file.metadata.row_group(group).num_rows for group in range(part.groups[0]))
        for group in range(*part.groups):
            behind = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
                    values = [_values(batch, name, there) for name in names]
                    for text, number, title in zip(*values, strict=True):
                        yield f"row {row + 1:,}", row, (text, number, title)
                        row += 1
            except DAMAGE as error:
                lost = behind - row
                self.seen += lost
                self.dropped["damaged"] += lost
                self._lose(
                    part, f"row group {group} of Parquet cannot be read ({str(error).splitlines()[0]})"
                )
            row = behind

    def _lose(self, part: Part, reason: str) -> None:
        self._losses.append(f"{part.location!r} is damaged: {reason}; what could be read was kept.")

    # One row to one document

    def _page(self, part: Part, offset: int, row: Any) -> Page:
        """Raises _DroppedError."""
        if row is None:
            raise _DroppedError("oversize")
        text, number, title = row, None, None
        if part.format == "parquet":
            text, number, title = row
            if isinstance(number, bytes):
                number = number.decode("utf-8", "replace")
        elif part.format == "jsonl":
            text, number, title = self._object(row)
        elif part.format == "text":
            if offset == 0:
                text = text.removeprefix(BOM)
            if self._reading.documents == "file":
                title = part.location.rpartition("/")[2]
                title += f" ({offset // PIECE + 1})" if offset else ""
        if text is None:
            raise _DroppedError("missing")
        if isinstance(text, bytes):
            text = _decoded(text)
            if part.format == "text":
                text = text.replace("\r\n", "\n").rstrip("\r\n")
        elif not isinstance(text, str):
            raise _DroppedError("type")
        if not text or text.isspace():
            raise _DroppedError("empty")
        if isinstance(title, bytes):
            title = title.decode("utf-8", "replace")
        if not isinstance(title, str):
            title = number if isinstance(number, str) else ""
        return Page(
            page_id=page_number(number, part.number, offset),
            revision_id=0,
            namespace=0,
            title=title,
            utf8=text.encode(),
        )

    def _object(self, line: bytes) -> tuple[Any, Any, Any]:
        try:
            row = json.loads(_decoded(line.removeprefix(BOM)))
        except (ValueError, RecursionError) as error:
            raise _DroppedError("malformed") from error
        if not isinstance(row, dict):
            raise _DroppedError("malformed")
        reading = self._reading
        text, number, title = (
            row.get(name) for name in (reading.text_column, reading.id_column, reading.title_column)
        )
        if text is None and self._columns is None:
            self._columns = [str(name) for name in row]
        if b"\\u" in line:  # the only way to half a character, which no UTF-8 can hold
            for value in (text, number, title):
                if isinstance(value, str):
                    _encodable(value)
        return text, number, title


def page_number(number: Any, file: int, offset: int) -> int:
    """The page id of a document: an integer id as it is (also one in digits), else 63 bits of a hash."""
    if isinstance(number, bytes):
        number = number.decode("utf-8", "replace")
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, str) and re.fullmatch(r"-?[0-9]{1,19}", number):
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool) and -(2**63) <= number < 2**63:
        return number
    named = isinstance(number, str | int) and not isinstance(number, bool) and number != ""
    key = f"id\0{number}" if named else f"place\0{file}\0{offset}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") >> 1


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _DroppedError("encoding") from error


def _encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _DroppedError("encoding") from error


def _values(batch: pa.RecordBatch, name: str, there: set[str]) -> list[Any]:
    """A column's values; strings as bytes, since Parquet's are not always UTF-8. None where it is not there,
    or holds what is neither a text nor a number: Python has not all of Arrow's dates."""
    column = batch.column(name) if name in there else pa.nulls(batch.num_rows)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if any(check(kind) for check in STRINGS):
        column = column.cast(pa.large_binary())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        column = pa.nulls(batch.num_rows)
    values: list[Any] = column.to_pylist()
    return values
