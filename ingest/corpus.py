"""A corpus: tokenised pages in shards, counted; what training reads.

The artefact of kind ``corpus`` holds

- ``shards/NNNNN.parquet``: the pages (see `ingest.shards`), named by the split of the dump;
- ``counts.parquet``: every distinct token with its count, in the order of the tokens;
- ``redirects.parquet``: title and target of each redirect, in the order of the dump.

Its manifest's ``counts``: ``pages``, ``tokens``, ``characters``, ``distinct_tokens``, ``redirects``,
``dropped`` (reason -> pages), ``pages_in_dump`` (= pages + all dropped), ``bytes`` (``kept`` or reason ->
bytes of the source: XML of pages, or rows; not of abstracts, nor before output version 2), ``losses``
(sentences: where the dump was cut or damaged) and ``shards`` (one `ShardCounts` each), from which a stream
finds any block without opening a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from ingest.shards import Part, ShardCounts, ShardTexts, ShardTokens, read_texts, read_tokens

KIND = "corpus"
COUNTS = "counts.parquet"
REDIRECTS = "redirects.parquet"


class Corpus:
    """A published corpus, open for reading. Picklable."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact

    def __reduce__(self) -> Any:
        return Corpus, (self.artefact,)

    @cached_property
    def shards(self) -> tuple[ShardCounts, ...]:
        """What is counted of each shard, in the order of the pages."""
        return tuple(ShardCounts(**entry) for entry in self.artefact.counts["shards"])

    @classmethod
    def open(cls, location: str | Path | Folder) -> Corpus:
        """Raises WordloomError where there is no published corpus."""
        return cls(Artefact.open(location, KIND))

    def __repr__(self) -> str:
        return f"Corpus({self.location!r}, {self.pages:,} pages, {self.tokens:,} tokens)"

    @property
    def folder(self) -> Folder:
        return self.artefact.folder

    @property
    def location(self) -> str:
        return self.artefact.location

    @property
    def identity(self) -> str:
        return self.artefact.identity

    @property
    def counts(self) -> dict[str, Any]:
        """The manifest's counts."""
        return self.artefact.counts

    @property
    def settings(self) -> dict[str, Any]:
        """The settings it was made with; ``settings["tokeniser"]`` and so on."""
        return self.artefact.manifest.settings

    @property
    def pages(self) -> int:
        return int(self.counts["pages"])

    @property
    def tokens(self) -> int:
        return int(self.counts["tokens"])

    @property
    def characters(self) -> int:
        return int(self.counts["characters"])

    @property
    def has_text(self) -> bool:
        return bool(self.settings["text"])

    @property
    def marked(self) -> bool:
        """Whether its pages say themselves which of them are held out: those of abstracts, by their dates."""
        return "held_out_share" in self.settings

    def shard_tokens(self, shard: int, part: Part = "training") -> ShardTokens:
        """The tokens of shard number `shard`; see `ShardTokens` for the arrays."""
        return read_tokens(self.folder, self.shards[shard].name, part, self.marked)

    def shard_texts(self, shard: int, part: Part = "training") -> ShardTexts:
        """The texts of shard number `shard`. Raises WordloomError where the corpus keeps none."""
        if not self.has_text:
            raise WordloomError(
                f"{self.location!r} was made with ingest.text=false and holds no text; ingest with text=true."
            )
        return read_texts(self.folder, self.shards[shard].name, part, self.marked)

    def token_counts(self) -> Iterator[pa.RecordBatch]:
        """All distinct tokens in batches: token (string), count (int64), in the order of the tokens."""
        with self.folder.open(COUNTS) as stream:
            yield from pq.ParquetFile(stream).iter_batches()

    def redirects(self) -> pa.Table:
        """title (string), target (string) of each redirect."""
        return self.folder.read_table(REDIRECTS)
