"""The files of the Kaggle competition `word2vec-nlp-tutorial`: reviews to judge, and the judgements.

In: tab-separated, ``id<TAB>review`` a line, both in double quotes, quotes inside written ``\\"`` or ``""``. A
first line whose first field is ``id`` is a heading; where it names more columns than two, one must be
``review``, and the others are passed over. Out: CSV with the header ``id,sentiment``, 1 for a positive review
and 0 for a negative one, or the probability, by which the competition ranks (area under the ROC curve).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cluster.artefact import output_file
from cluster.errors import WordloomError
from cluster.folder import Folder, reason
from cluster.progress import Stage
from ingest.files import open_file
from ingest.reviews import plain

LONGEST_LINE = 1 << 22  # bytes; the competition's have up to some 14,000
ALLOWED_SHARE = 0.01  # of malformed lines, beyond which the file is taken for another
NAMED = 3  # malformed lines that are named
TOGETHER = 2048  # reviews predicted at a time


class Predicts(Protocol):
    """What is asked of a model."""

    @property
    def labels(self) -> Sequence[str]: ...

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


@dataclass
class ReviewTable:
    """The reviews of a file; iterate over it once.

    A line without a tab, with an empty id or review, with more columns than the heading (without one: than
    two), with an id that came before or with bytes that are no UTF-8 is left out; `malformed` names the first
    of them by line. Raises WordloomError where they are more than `ALLOWED_SHARE`, there is no review, or the
    heading does not say which column it is.
    """

    location: str
    rows: int = 0
    dropped: int = 0
    malformed: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        known: set[str] = set()
        columns, column = 2, 1
        with open_file(self.location, option="--input") as stream:
            for number, line in enumerate(_lines(stream), 1):
                try:
                    fields = _fields(line)
                    if number == 1 and fields[0].casefold() == "id":
                        columns, column = max(len(fields), 2), self._column(fields)
                        continue
                    name, review = _row(fields, columns, column)
                    if name in known:
                        raise ValueError(f"repeats the id {name!r}")
                except ValueError as error:
                    self.dropped += 1
                    if len(self.malformed) < NAMED:
                        self.malformed.append(f"line {number:,} {error}")
                    continue
                known.add(name)
                self.rows += 1
                yield name, plain(review)
        if not self.rows or self.dropped > ALLOWED_SHARE * (self.rows + self.dropped):
            reasons = f" ({'; '.join(self.malformed)})" if self.malformed else ""
            raise WordloomError(
                f"{self.location!r}: {self.dropped:,} of {self.rows + self.dropped:,} lines are no reviews"
                f"{reasons}; give a file with lines of id<TAB>review in --input."
            )

    def _column(self, heading: Sequence[str]) -> int:
        """Which column the reviews are: the one so named, or the second of two."""
        names = [name.casefold() for name in heading]
        if "review" in names[1:]:
            return names.index("review", 1)
        if len(names) > 2:
            raise WordloomError(
                f"{self.location!r} has the columns {', '.join(heading)}; call the one to judge review."
            )
        return 1


def predict_file(
    model: Predicts, source: str, output: str | Path, probabilities: bool, stage: Stage
) -> tuple[ReviewTable, int]:
    """Judges the reviews of `source` and writes `output`, a local file, whole or not at all: what was read,
    and how many are positive. Raises WordloomError, also where the model has other labels than two, and
    UsageError at once where `output` is no such file or is `source`."""
    place = output_file(output, source)
    if len(model.labels) != 2:
        raise WordloomError(
            f"The model knows the labels {', '.join(model.labels)}; a submission needs one of two."
        )
    positive = model.labels.index("positive") if "positive" in model.labels else 1
    table = ReviewTable(source)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("id", "sentiment"))
    count = 0
    for batch in _together(table):
        scores = model.predict([review for _, review in batch])[:, positive]
        count += int((scores > 0.5).sum())
        for (name, _), score in zip(batch, scores.tolist(), strict=True):
            writer.writerow((name, f"{score:.6f}" if probabilities else int(score > 0.5)))
        stage.update(table.rows)
    try:
        Folder(place.parent).write(place.name, lines.getvalue().encode())
    except OSError as error:
        raise WordloomError(f"Cannot write {str(output)!r} ({reason(error)}); check --output.") from error
    return table, count


def _together(rows: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    left = iter(rows)
    while batch := list(islice(left, TOGETHER)):
        yield batch


def _lines(stream: io.BufferedIOBase) -> Iterator[bytes]:
    pending = b""
    while chunk := stream.read(1 << 20):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from whole
        if len(pending) > LONGEST_LINE:
            yield pending
            pending = b""
    if pending:
        yield pending


def _fields(line: bytes) -> list[str]:
    """Raises ValueError with what is wrong."""
    try:
        return [_unquoted(each) for each in line.decode("utf-8-sig").rstrip("\r").split("\t")]
    except UnicodeDecodeError:
        raise ValueError("is no UTF-8") from None


def _row(fields: Sequence[str], columns: int, column: int) -> tuple[str, str]:
    """The id and the review. Raises ValueError with what is wrong."""
    if len(fields) > columns:
        raise ValueError(f"has {len(fields)} columns in place of {columns}")
    if len(fields) < columns or not fields[0] or not fields[column]:
        raise ValueError(f"is no id<TAB>review but {'<TAB>'.join(fields)[:24]!r}")
    return fields[0], fields[column]


def _unquoted(field: str) -> str:
    if len(field) >= 2 and field[0] == field[-1] == '"':
        return field[1:-1].replace('\\"', '"').replace('""', '"').strip()
    return field.strip()
