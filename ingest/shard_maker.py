"""The work on one split of a source: read, strip, tokenise, count, write. No Ray here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import pyarrow as pa

from cluster import metrics
from cluster.folder import Folder
from ingest import bzip2
from ingest.documents import Documents, DocumentSplit
from ingest.ledger import SplitRecord, note
from ingest.markup import Stripper
from ingest.page import Page, characters
from ingest.page_form import FormReader
from ingest.pages import KEPT, PageReader
from ingest.papers import PaperSplit
from ingest.settings import IngestSettings
from ingest.shards import write_shard
from ingest.splits import Split, read
from ingest.tokens import Tokeniser
from ingest.vocabulary import run_of, write_run

SHARDS, RUNS, REDIRECTS = "shards", "counts", "redirects"
REDIRECT_SCHEMA = pa.schema([("title", pa.string()), ("target", pa.string())])

# Characters of text in memory at once; a split with more of it (a gzip file is one split) gives several
# shards. 64M characters take some 0.6 GB until they are written.
SHARD_CHARACTERS = 64_000_000
SHARD_PAGES = 1_000_000  # likewise: pages of a letter each are objects too
PROGRESS_SECONDS = 0.5

Advance = Callable[[int, int], None]
AnySplit = Split | DocumentSplit | PaperSplit


class Reading(Protocol):
    """The pages of one split, iterated over once. `covered` is how many bytes of the split are done;
    ``seen == kept + sum(dropped.values())``; `sizes` are bytes of the source by the same reasons and
    of what is ``kept``, empty where nobody measures them; `redirects` are (title, target), `sentences` what
    was lost.
    """

    seen: int
    kept: int
    dropped: dict[str, int]
    sizes: dict[str, int]
    redirects: list[tuple[str, str]]

    @property
    def covered(self) -> int: ...

    def __iter__(self) -> Iterator[Page]: ...

    def sentences(self) -> list[str]: ...


class ShardMaker:
    """Makes the shards of splits in `folder`, what is merged later in `making`.

    The same split under the same settings gives the same bytes under the same names, however often and
    wherever it is done.
    """

    def __init__(self, folder: Folder, making: Folder, settings: IngestSettings) -> None:
        self._folder = folder
        self._making = making
        self._settings = settings
        self._tokeniser = Tokeniser(
            settings.tokeniser, lower_case=settings.lower_case, normalise=settings.normalise
        )
        # At a worker's start, where imports belong, and not within its first split: compiled code is loaded
        # (0.5 s of CPU), and pyarrow imports pandas with its first array (0.13 s).
        bzip2.decoder()
        FormReader()
        run_of(self._tokeniser.encode(["a"]))

    def make(self, split: AnySplit, advance: Advance | None = None) -> SplitRecord:
        """Does one split. `advance` hears compressed bytes and kept pages of it so far, twice a second."""
        settings = self._settings
        record = SplitRecord(split.index, split.start, split.stop)
        reader = _reading(split, settings)
        prefixes = dict(split.prefixes) if isinstance(split, Split) else {}
        stripper = Stripper(prefixes) if settings.markup == "strip" else None
        batch = _Batch()
        heard = time.monotonic()
        emptied = emptied_bytes = 0
        for page in reader:
            text, categories = page.utf8, None
            if stripper is not None:
                stripped = stripper.strip(page.text)
                text, categories = stripped.text.encode(), stripped.categories
                if not text:  # nothing but templates, tables and the like
                    emptied += 1
                    emptied_bytes += page.size
                    continue
            batch.add(page, text, categories)
            if batch.size >= SHARD_CHARACTERS or len(batch.pages) >= SHARD_PAGES:
                self._write(batch, record)
                batch = _Batch()
            if advance is not None and time.monotonic() - heard >= PROGRESS_SECONDS:
                heard = time.monotonic()
                advance(reader.covered, reader.kept)
        if batch.pages:
            self._write(batch, record)
        if reader.redirects:
            name = f"{REDIRECTS}/{split.index:05d}.parquet"
            titles, targets = zip(*reader.redirects, strict=True)
            columns = [pa.array(titles, pa.string()), pa.array(targets, pa.string())]
            self._making.write_table(name, pa.table(columns, schema=REDIRECT_SCHEMA))
            record.redirects.append(name)
        record = dataclasses.replace(
            record,
            redirect_count=len(reader.redirects),
            seen=reader.seen,
            dropped=_moved(reader.dropped, {"empty": emptied}),
            sizes=_moved(reader.sizes, {"empty": emptied_bytes, KEPT: -emptied_bytes}),
            losses=reader.sentences(),
        )
        note(self._making, record)
        _measure(split, record)
        return record

    def _write(self, batch: _Batch, record: SplitRecord) -> None:
        number = len(record.shards)
        stem = f"{record.index:05d}" + (f"-{number}" if number else "")
        tokens = self._tokeniser.encode(batch.texts)
        run = f"{RUNS}/{stem}.parquet"
        write_run(self._making, run, run_of(tokens))
        name = f"{SHARDS}/{stem}.parquet"
        written, counts = write_shard(
            self._folder,
            name,
            page_ids=[page.page_id for page in batch.pages],
            revision_ids=[page.revision_id for page in batch.pages],
            titles=[page.title for page in batch.pages],
            characters=batch.characters,
            tokens=tokens,
            texts=batch.texts if self._settings.text else None,
            categories=batch.categories if self._settings.markup == "strip" else None,
            marks=[bool(page.held_out) for page in batch.pages] if batch.marked else None,
        )
        record.files[name] = written
        record.shards.append(counts)
        record.runs.append(run)


class _Batch:
    """The pages of one shard until it is written."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.texts: list[bytes] = []  # UTF-8
        self.categories: list[list[str]] = []
        self.characters: list[int] = []
        self.size = 0  # all characters

    @property
    def marked(self) -> bool:
        """Whether the pages say themselves which of them are held out."""
        return any(page.held_out is not None for page in self.pages)

    def add(self, page: Page, text: bytes, categories: list[str] | None) -> None:
        page.utf8 = b""  # the wikitext is not needed any more
        self.pages.append(page)
        self.texts.append(text)
        self.categories.append(categories or [])
        self.characters.append(characters(text))
        self.size += self.characters[-1]


class _ExportPages(PageReader):
    """The pages of a split of a dump."""

    def __init__(self, split: Split, settings: IngestSettings) -> None:
        self._source = read(split)
        super().__init__(self._source, settings.namespaces, dict(split.prefixes))

    @property
    def covered(self) -> int:
        return self._source.covered

    def sentences(self) -> list[str]:
        return [*self._source.sentences(), *([self.cut] if self.cut else [])]


def _reading(split: AnySplit, settings: IngestSettings) -> Reading:
    if isinstance(split, PaperSplit):
        return split.reading()
    return Documents(split) if isinstance(split, DocumentSplit) else _ExportPages(split, settings)


def _moved(counts: Mapping[str, int], by: Mapping[str, int]) -> dict[str, int]:
    """Counts after what came out later; none where nobody counted."""
    return {name: count + by.get(name, 0) for name, count in counts.items()}


def _measure(split: AnySplit, record: SplitRecord) -> None:
    metrics.increment("ingest_splits")
    metrics.increment("ingest_bytes", split.bytes)
    metrics.increment("ingest_tokens", sum(shard.tokens for shard in record.shards))
    for outcome, pages in {"kept": record.pages, **record.dropped}.items():
        metrics.increment("ingest_pages", pages, {"outcome": outcome})
