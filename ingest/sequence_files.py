"""A user's own labelled sequences: Parquet, CSV, JSON lines or CoNLL, one row (or one block) a sequence.

=============  ==========================================  =================================================
file           the sequence                                its label
=============  ==========================================  =================================================
.parquet       a column of texts, or of lists of tokens    a column of labels, or of lists of one a token
.jsonl         likewise, of each line's object             likewise; numbers and booleans are labels, too
.csv (.tsv)    a column of texts, or of tokens apart by    a column of labels, or of labels apart by white
               white space                                 space where the column of tokens is there
.conll (.bio)  the first field of each line; a blank line  the last field of each line
               ends the sequence
=============  ==========================================  =================================================

Any of them but Parquet may be gzip. A row without a label is ``unlabelled``; a column of splits (``train``,
``test``) is followed where there is one, else all rows are ``train``. Rows that are wrong are counted, named
by their line (of Parquet: their row), and end the run only past a set share.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest import sequence_corpus
from ingest.content import BOM, DAMAGE, line_reader
from ingest.sequence_corpus import (
    SPLITS,
    TRAIN,
    UNLABELLED,
    LabelledSequence,
    SequenceWriter,
    checked,
    draft_of,
)
from ingest.settings import SequenceColumns, SequencesSettings
from ingest.source_file import SourceFile
from ingest.tokens import Tokeniser

FORMATS = {"parquet": "parquet", "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "csv"} | {
    "conll": "conll",
    "bio": "conll",
}
LONGEST_LINE = 16 << 20  # bytes of a line, an object or a field
LONGEST_SEQUENCE = 1 << 20  # tokens
NAMED = 3  # rows that are named for each reason
_NAME = re.compile(r"\.([a-z]+)(\.gz)?$", re.IGNORECASE)

# Raise what is added whenever the same file and settings give other sequences.
OUTPUT_VERSION = sequence_corpus.OUTPUT_VERSION + 1

Row = tuple[int, dict[str, Any] | str]  # the line, and the row's columns or what is wrong with it


class SequenceRows:
    """The labelled sequences of an open file, in its order; iterate over it once.

    `per` (``sequence`` or ``frame``) is what the first whole row has its label for; a row of the other kind
    is wrong, and so is a text where the first whole row has tokens. `dropped` counts rows left out as
    ``malformed``, `named` has the first of them. Raises WordloomError for a file of an unknown format, one
    without the columns, and a damaged one.
    """

    def __init__(self, stream: Any, name: str, columns: SequenceColumns) -> None:
        found = _NAME.search(name)
        self.format = FORMATS.get(found[1].lower() if found else "", "")
        if not self.format:
            raise WordloomError(
                f"{name!r} is of no known format; name it after one of .{', .'.join(FORMATS)} "
                "(and .gz behind it)."
            )
        self.seen = 0
        self.per = ""
        self._kind: type | None = None  # list of tokens or str, as the first whole row has it
        self.dropped: Counter[str] = Counter()
        self.named: list[str] = []
        self._stream, self._name, self._columns = stream, name, columns

    def __iter__(self) -> Iterator[LabelledSequence]:
        try:
            for line, row in self._rows():
                self.seen += 1
                made = row if isinstance(row, str) else self._sequence(line, row)
                if isinstance(made, str):
                    self._wrong(line, made)
                else:
                    yield made
        except DAMAGE as error:
            raise WordloomError(
                f"{self._name!r} is damaged or cut ({error}) after {self.seen:,} rows; fetch it again."
            ) from error

    def sentences(self) -> list[str]:
        """What was left out, in a sentence."""
        if not self.dropped:
            return []
        count = self.dropped["malformed"]
        return [f"{self._name!r}: {count:,} of {self.seen:,} rows left out; {'; '.join(self.named)}."]

    def _wrong(self, line: int, what: str) -> None:
        self.dropped["malformed"] += 1
        if len(self.named) < NAMED:
            self.named.append(f"{'row' if self.format == 'parquet' else 'line'} {line:,} {what}")

    def _sequence(self, line: int, row: dict[str, Any]) -> LabelledSequence | str:
        """The sequence of a row, or what is wrong with it."""
        content, label = row.get("tokens"), row.get("label")
        if content is None:
            content = row.get("text")
        if isinstance(content, list):
            if not all(isinstance(token, str) and token for token in content):
                return "has tokens that are no strings or empty"
        elif not isinstance(content, str):
            return "has neither text nor tokens"
        if not content or len(content) > LONGEST_SEQUENCE * (1 if isinstance(content, list) else 8):
            return "is empty" if not content else "is too long"
        if isinstance(label, list):
            if not isinstance(content, list) or len(label) != len(content):
                return f"has {len(label)} labels for {_counted(content)}"
            label = [_label(each) for each in label]
            if None in label:
                return "has labels that are no words or numbers"
        elif label is not None and (label := _label(label)) is None:
            return "has a label that is no word or number"
        split = row.get("split") or (TRAIN if label else UNLABELLED)
        if split not in SPLITS:
            return f"has {str(split)[:20]!r} as its split, not one of {', '.join(SPLITS)}"
        if label is None and split != UNLABELLED:
            return "has no label"
        if label is not None:
            per = "frame" if isinstance(label, list) else "sequence"
            self.per = self.per or per
            if per != self.per:
                return f"is labelled per {per}, the rows before per {self.per}"
        self._kind = self._kind or type(content)
        if type(content) is not self._kind:
            return "has tokens, the rows before texts" if self._kind is str else "has a text, not tokens"
        identifier = row.get("id")
        if not _is_utf8("".join([*content, *(label or ""), str(identifier)])):  # "\ud83d", as JSON can say
            return "has half a character, which UTF-8 cannot hold"
        return LabelledSequence(
            f"row/{line}" if identifier is None else str(identifier), split, content, label
        )

    def _rows(self) -> Iterator[Row]:
        if self.format == "parquet":
            return self._parquet()
        content = line_reader(self._stream)
        self._content = content  # kept: with its last reference it would close the stream, which is not ours
        first = content.readline(LONGEST_LINE).removeprefix(BOM)
        lines = enumerate(chain([first], iter(lambda: content.readline(LONGEST_LINE), b"")), 1)
        return {"jsonl": self._jsonl, "csv": self._csv, "conll": self._conll}[self.format](lines)

    def _parquet(self) -> Iterator[Row]:
        file = pq.ParquetFile(self._stream)
        self._check(file.schema_arrow.names)
        names: dict[str, str] = asdict(self._columns)
        wanted = [column for column in names.values() if column in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(1024, columns=wanted):
            try:
                rows: list[Any] = batch.to_pylist()
            except (ValueError, OverflowError):  # strings that are no UTF-8, dates that Python lacks
                rows = [_readable(batch.slice(at, 1)) for at in range(batch.num_rows)]
            for row in rows:
                number += 1
                if isinstance(row, str):
                    yield number, row
                else:
                    yield number, {name: row.get(column) for name, column in names.items()}

    def _jsonl(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Row]:
        names = asdict(self._columns)
        for line, raw in lines:
            if not raw.strip():
                continue
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield line, {name: row.get(column) for name, column in names.items()}
            else:
                yield line, "is no JSON object"

    def _csv(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Row]:
        text = (raw.decode("utf-8", "surrogateescape") for _, raw in lines)
        first = next(text, "")
        csv.field_size_limit(LONGEST_LINE)
        delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
        try:
            header = next(csv.reader([first], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise WordloomError(
                f"{self._name!r} has no header of column names in its first line ({error}); its lines must "
                "end with a line feed, and its fields be apart by commas, semicolons or tabs."
            ) from error
        self._check(header)
        places = {name: header.index(c) for name, c in asdict(self._columns).items() if c in header}
        for begun, fields in _csv_rows(enumerate(text, 2), delimiter):
            if isinstance(fields, str):
                yield begun, fields
                continue
            if not fields:
                continue
            if len(fields) != len(header):
                yield begun, f"has {len(fields)} fields, not {len(header)}"
                continue
            row: dict[str, Any] = {name: fields[place] or None for name, place in places.items()}
            if not _is_utf8("".join(fields)):
                yield begun, "is no UTF-8"
                continue
            if row.get("tokens"):
                row["tokens"] = row["tokens"].split()
                labels = (row.get("label") or "").split()
                row["label"] = labels if len(labels) > 1 or len(row["tokens"]) == 1 else row.get("label")
            yield begun, row

    def _conll(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[Row]:
        begun, tokens, labels, wrong = 0, [], [], ""
        for line, raw in _with_end(lines):
            # Of bytes: a no-break or an ideographic space is no space between fields, but a part of a token.
            fields = [each.decode("utf-8", "surrogateescape") for each in raw.split()]
            if fields and fields[0] != "-DOCSTART-" and not "".join(fields).isspace():
                begun = begun or line
                if len(fields) < 2 or not _is_utf8(fields[0] + fields[-1]):
                    wrong = wrong or f"has no label or no UTF-8 in line {line:,}"
                tokens.append(fields[0])
                labels.append(fields[-1])
                if len(tokens) <= LONGEST_SEQUENCE:
                    continue
                wrong = "is too long"
            if tokens:
                yield begun, wrong or {"tokens": tokens, "label": labels}
            begun, tokens, labels, wrong = 0, [], [], ""

    def _check(self, there: list[str]) -> None:
        """Raises WordloomError where a column that every file must have is missing, or one is there twice."""
        columns = self._columns
        for name in asdict(columns).values():
            if (count := there.count(name)) > 1:
                raise WordloomError(
                    f"{self._name!r} has {count} columns {name!r}; write it anew with one of each name."
                )
        if columns.tokens not in there and columns.text not in there:
            missing = f"neither a column {columns.tokens!r} nor {columns.text!r}"
        elif columns.label not in there:
            missing = f"no column {columns.label!r}"
        else:
            return
        raise WordloomError(
            f"{self._name!r} has {missing}, only {', '.join(map(repr, there)) or 'none'}; "
            "say which with --tokens-column, --text-column and --label-column."
        )


def ingest_sequence_files(
    source: SourceFile,
    output: str | Folder,
    settings: SequencesSettings,
    columns: SequenceColumns,
    reporter: Reporter,
) -> Artefact:
    """A user's own file as a corpus of labelled sequences (see `ingest.sequence_corpus`).

    Texts are cut into tokens by the settings; tokens are taken as they are. Raises WordloomError where more
    than the share `settings.malformed` of the rows is malformed, or no row has a label.
    """
    told = {**asdict(settings), "columns": asdict(columns)}
    draft = draft_of(output, {"file": source.as_input()}, told, OUTPUT_VERSION)
    if draft.published is not None:
        reporter.say(f"= sequences: reused, {draft.published.counts['sequences']:,} at {draft.location}")
        return draft.published
    tokeniser = Tokeniser(settings.tokeniser, lower_case=settings.lower_case, normalise=settings.normalise)
    with (
        reporter.stage("sequences", total=source.bytes, unit="B", rows="sequences") as stage,
        source.open() as file,
        ExitStack() as writing,
    ):
        rows = SequenceRows(file, source.name, columns)
        waiting: list[LabelledSequence] = []  # until the first label says what labels belong to
        writer: SequenceWriter | None = None
        for number, row in enumerate(rows):
            waiting.append(row)
            if writer is None and rows.per:
                writer = writing.enter_context(SequenceWriter(draft, rows.per, tokeniser, settings.text))
            if writer is not None:
                for each in waiting:
                    writer.add(each)
                waiting = []
            if number % 500 == 0:
                stage.update(file.tell(), rows=number)
        dropped = rows.dropped
        if writer is not None:
            writer.flush()
            dropped = dropped + writer.dropped
        losses = checked(source.name, "rows", rows.seen, dropped, rows.sentences(), settings.malformed)
        if writer is None:
            raise WordloomError(f"{source.name!r} has no row with a label; check --source.")
        made = writer.publish(losses, rows.dropped)
        stage.update(source.bytes, rows=made.counts["sequences"])
        stage.summary(f"{made.counts['sequences']:,} sequences, a label per {rows.per}")
    for sentence in losses:
        reporter.say(sentence)
    return made


def _is_utf8(text: str) -> bool:
    """Whether text was UTF-8: of bytes that are none ``surrogateescape`` makes half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(row: pa.RecordBatch) -> dict[str, Any] | str:
    """The one row of a batch, or what of it Python cannot hold."""
    try:
        return dict(row.to_pylist()[0])
    except UnicodeDecodeError:
        return "is no UTF-8"
    except (ValueError, OverflowError) as error:
        return f"holds what is beyond Python ({error})"


def _csv_rows(lines: Iterable[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The rows of numbered lines, each with the number of its first: its fields, or what is wrong with it.

    A quote that is not closed would take in what follows to the end of the file, or to the next such quote:
    then the row is wrong, and the next one begins in the next line.
    """
    waiting: deque[tuple[int, str]] = deque()  # lines that such a row had taken
    lines = iter(lines)
    while True:
        taken: list[tuple[int, str]] = []

        def fed(taken: list[tuple[int, str]] = taken) -> Iterator[str]:
            while (line := waiting.popleft() if waiting else next(lines, None)) is not None:
                taken.append(line)
                yield line[1]

        try:
            fields: list[str] | str | None = next(csv.reader(fed(), delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            fields = f"is no row ({error})"
            if len(taken) == 1 and not _is_open(error):  # `"fine" film`: what stands behind a quote is text
                with suppress(csv.Error):
                    fields = next(csv.reader([taken[0][1]], delimiter=delimiter))
            waiting.extendleft(reversed(taken[1:]))
        if fields is None:
            return
        yield taken[0][0], fields


def _is_open(error: csv.Error) -> bool:
    return "unexpected end of data" in str(error)


def _with_end(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    yield from lines
    yield 0, b""


def _label(value: Any) -> str | None:
    """A label as a word; None for what is none."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():  # pandas has integers so where one is missing
        value = int(value)
    return str(value) if isinstance(value, (bool, int)) else None


def _counted(content: list[str] | str) -> str:
    return f"{len(content)} tokens" if isinstance(content, list) else "a text, which has no tokens yet"
