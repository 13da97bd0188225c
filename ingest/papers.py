"""Papers as the source of a corpus: out of a file or from the API, in the order of their dates.

The last of them are held out, so that a model is judged by papers that are newer than all it has read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.artefact import Input
from cluster.errors import WordloomError
from ingest.arxiv import Abstract, Harvest, Query, distinct, normalised_id
from ingest.content import DAMAGE, chunks_of, compression_of
from ingest.documents import page_number
from ingest.files import open_file
from ingest.page import Page
from ingest.rows import lines_of

HEAD = 16  # bytes that tell a compression
# What a row of a file may call its text and its date, in the order in which they are looked for.
TEXT_KEYS = ("abstract", "summary", "text")
DATE_KEYS = ("created", "published", "update_date")
_DAY = re.compile(r"\d{4}(-\d\d){0,2}")  # of ISO 8601


@dataclass(frozen=True)
class Papers:
    """Distinct papers in the order of date and id; `dropped` counts the others by reason, `losses` are
    sentences about what never came. `location` is where they were found."""

    abstracts: tuple[Abstract, ...]
    dropped: dict[str, int]
    losses: tuple[str, ...]
    location: str

    @property
    def name(self) -> str:
        return self.location.rpartition("/")[2]

    @property
    def identity(self) -> str:
        """sha256 (hex) over id, date, title and text of every paper."""
        digest = hashlib.sha256()
        for each in self.abstracts:
            row = json.dumps([each.id, each.created, each.title, each.text])
            digest.update(row.encode() + b"\n")
        return digest.hexdigest()

    @property
    def bytes(self) -> int:
        """Of the texts, in characters, which nearly all are one byte."""
        return sum(len(each.text) for each in self.abstracts)

    def as_input(self) -> Input:
        """What an artefact says it was made from."""
        return Input("abstracts", self.identity, self.location)

    def plan(self, split_bytes: int, held_out_share: float) -> list[PaperSplit]:
        """The splits, of about `split_bytes` each, in the order of the papers. The last `held_out_share` of
        the papers are held out; what was dropped is told with the first split."""
        first_held_out = len(self.abstracts) - round(len(self.abstracts) * held_out_share)
        splits: list[PaperSplit] = []
        begin, size = 0, 0
        for number, each in enumerate(self.abstracts, 1):
            size += len(each.text)
            if size >= split_bytes or number == len(self.abstracts):
                papers = self.abstracts[begin:number]
                held_out = max(0, min(first_held_out - begin, len(papers)))
                told = (self.dropped, self.losses) if not splits else ({}, ())
                splits.append(PaperSplit(len(splits), papers, held_out, *told))
                begin, size = number, 0
        return splits


@dataclass(frozen=True)
class PaperSplit:
    """Papers that become one shard; those from number `held_out` on are held out."""

    index: int
    papers: tuple[Abstract, ...]
    held_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    losses: Sequence[str] = ()

    start = 0

    @property
    def stop(self) -> int:
        return self.bytes

    @property
    def bytes(self) -> int:
        return sum(len(each.text) for each in self.papers)

    def reading(self) -> PaperPages:
        return PaperPages(self)


class PaperPages:
    """The pages of a split of papers; see `ingest.shard_maker.Reading`."""

    def __init__(self, split: PaperSplit) -> None:
        self._split = split
        self.kept = len(split.papers)
        self.dropped = {"empty": 0, **split.dropped}
        self.seen = self.kept + sum(self.dropped.values())
        self.sizes: dict[str, int] = {}
        self.redirects: list[tuple[str, str]] = []
        self.covered = 0

    def __iter__(self) -> Iterator[Page]:
        for number, each in enumerate(self._split.papers):
            self.covered += len(each.text)
            yield Page(
                page_id=page_number(each.id, 0, 0),
                revision_id=0,
                namespace=0,
                title=each.title,
                utf8=each.text.encode(),
                held_out=number >= self._split.held_out,
            )

    def sentences(self) -> list[str]:
        return list(self._split.losses)


def gathered(found: Harvest, location: str) -> Papers:
    """The papers of a harvest from the API."""
    losses = [f"{location!r} promised {found.missing:,} entries that it never gave."] if found.missing else []
    return Papers(tuple(found.abstracts), dict(found.dropped), tuple(losses), location)


def read_file(location: str, query: Query | None = None, amount: int | None = None) -> Papers:
    """The papers of a file of JSON lines (plain, .gz, .bz2, .xz, .zst): `id`, `title`, `abstract`, `created`
    (ISO 8601; a paper with another date is dropped as ``date``) and `categories` (a list, or words between
    spaces or commas).

    With a `query` only those that it names, with an `amount` the first so many. A row that is none is dropped
    and counted. Raises WordloomError where nothing is left.
    """
    dropped: Counter[str] = Counter()
    losses: list[str] = []
    found = []
    for row in _rows(location, losses):
        if not row.strip():
            continue  # a blank line is no row
        paper = _paper(row)
        if isinstance(paper, str):
            dropped[paper] += 1
        elif query is not None and not query.names(paper):
            dropped["not asked for"] += 1
        else:
            found.append(paper)
    result = distinct(found)
    dropped += result.dropped
    kept = result.abstracts[:amount]
    if len(result.abstracts) > len(kept):
        dropped["beyond the amount"] = len(result.abstracts) - len(kept)
    if not kept:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()) or "it has no row"
        raise WordloomError(
            f"{location!r} leaves no paper ({reasons}); give JSON lines with 'id', 'title', 'abstract' and "
            "'created' in --source."
        )
    return Papers(tuple(kept), dict(dropped), tuple(losses), location)


def _rows(location: str, losses: list[str]) -> Iterator[bytes]:
    with open_file(location) as stream:
        compression = compression_of(bytes(stream.read(HEAD)))
        stream.seek(0)

        def pieces() -> Iterator[bytes]:
            try:
                yield from chunks_of(stream, location, compression)
            except DAMAGE as error:
                losses.append(
                    f"{location!r} is damaged: {error or type(error).__name__}; what came before was kept."
                )

        for _, line in lines_of(pieces(), 0):
            yield b"[" if line is None else line  # too long to be a row: malformed


def _paper(row: bytes) -> Abstract | str:
    """The paper of a row, or the reason why it is none."""
    try:
        value = json.loads(row)
        text, created = _first(value, TEXT_KEYS), _first(value, DATE_KEYS)
        identifier, title, categories = (value.get(name) for name in ("id", "title", "categories"))
    except (ValueError, AttributeError, RecursionError):
        return "malformed"
    if not isinstance(text, str) or identifier in (None, ""):
        return "missing"
    title, categories = ("" if each is None else each for each in (title, categories))
    day = str(created or "")[:10]
    if day and not _DAY.fullmatch(day):  # papers stand in the order of these, as words
        return "date"
    try:
        f"{identifier} {title} {text}".encode()
    except UnicodeEncodeError:  # half a character, which JSON can spell and no shard can hold
        return "encoding"
    terms = categories if isinstance(categories, list) else str(categories).replace(",", " ").split()
    return Abstract(
        normalised_id(str(identifier)),
        " ".join(str(title).split()),
        " ".join(text.split()),
        tuple(map(str, terms)),
        day,
    )


def _first(value: dict[str, Any], names: Iterable[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)
