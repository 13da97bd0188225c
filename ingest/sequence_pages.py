"""Labelled sequences of words as a corpus of pages without labels, for word vectors and vocabularies.

A sequence is a page. The test split is no part of it; of the rest one in fifty is held out, as of any corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.folder import Folder
from ingest.sequence_corpus import KIND, TEST, SequenceCorpus, training_rows
from ingest.shards import Part, ShardTokens


class SequenceShard(NamedTuple):
    """A shard's file, and what of it is for training."""

    name: str
    training_tokens: int


class SequencePages:
    """What `trainers.stream.TokenStream` and `ingest.vocabulary` ask of an `ingest.corpus.Corpus`."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self._corpus = SequenceCorpus(artefact)
        if self._corpus.width:
            raise UsageError(
                f"{artefact.location!r} holds frames of numbers and no words; give another --corpus."
            )
        entries = artefact.counts["shards"]
        self.shards = tuple(SequenceShard(each["name"], each["training_frames"]) for each in entries)
        self._firsts = np.cumsum([0, *(each["sequences"] for each in entries)])

    @classmethod
    def open(cls, location: str | Path | Folder) -> SequencePages:
        """Raises WordloomError where there is no published corpus of sequences."""
        return cls(Artefact.open(location, KIND))

    @property
    def location(self) -> str:
        return self.artefact.location

    @property
    def counts(self) -> dict[str, Any]:
        return self.artefact.counts

    def shard_tokens(self, shard: int, part: Part = "training") -> ShardTokens:
        """The tokens of shard number `shard`, those for training, held out, or both; never the test split."""
        table = self.artefact.folder.read_table(self.shards[shard].name, columns=["split", "tokens"])
        splits = table["split"].to_pylist()
        first = int(self._firsts[shard])
        wanted = np.array([split != TEST for split in splits], bool)
        if part != "all":
            trains = training_rows(splits, first)
            wanted = trains if part == "training" else wanted & ~trains
        column = table["tokens"].filter(pa.array(wanted)).combine_chunks()
        offsets = np.concatenate(([0], np.cumsum(np.asarray(column.value_lengths(), np.int64))))
        flat = column.flatten()
        numbers = first + np.flatnonzero(wanted)
        return ShardTokens(numbers, offsets.astype(np.int64), flat.indices.to_numpy(), flat.dictionary)

    def token_counts(self) -> Iterator[pa.RecordBatch]:
        return self._corpus.token_counts()
