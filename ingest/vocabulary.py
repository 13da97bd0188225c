"""Counting tokens, exactly and in bounded memory, and cutting vocabularies from the counts.

Every shard leaves a *run*: its distinct tokens with their counts, sorted by token. Runs are merged like
the runs of an external merge sort, batch by batch, so memory depends on the number of runs that are
merged at once and not on the number of distinct tokens. Order is that of the UTF-8 bytes, which is the
order of the code points.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.artefact import Artefact, Draft
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from cluster.progress import Reporter
from ingest.settings import VocabularySettings
from ingest.tokens import Tokeniser, Tokens, refuse_one

KIND = "vocabulary"
FILE = "vocabulary.parquet"
UNKNOWN = "<unk>"  # neither tokeniser gives it, for none keeps "<"

# Raise by one whenever the same corpus and settings give another vocabulary.
OUTPUT_VERSION = 1

SCHEMA = pa.schema([("token", pa.string()), ("count", pa.int64())])
BATCH_ROWS = 1 << 16  # rows of one run in memory at once: some 2 MB
FAN_IN = 64  # runs merged at once: some 150 MB
MOST_REMEMBERED = 1 << 16  # words of a `Numbering`: some 3 MB


class Vocabulary:
    """Tokens with their numbers; `counts` int64[size], ``<unk>`` at 0 with the count of all that is left out.

    The others come by count, the most frequent first, ties by the token itself.
    """

    def __init__(self, tokens: Sequence[str], counts: npt.ArrayLike) -> None:
        self.tokens = list(tokens)
        self.counts: npt.NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
        self.identity: str | None = None
        if len(self.tokens) != len(self.counts) or not self.tokens or self.tokens[0] != UNKNOWN:
            raise WordloomError(f"A vocabulary begins with {UNKNOWN!r} and has one count a token.")
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self._numbers) != len(self.tokens):
            raise WordloomError("A vocabulary holds every token once; this one repeats some.")

    @classmethod
    def open(cls, location: str | Path | Folder) -> Vocabulary:
        """The vocabulary of a published artefact; raises WordloomError where there is none."""
        artefact = Artefact.open(location, KIND)
        vocabulary = cls.from_table(artefact.folder.read_table(FILE))
        vocabulary.identity = artefact.identity
        return vocabulary

    @classmethod
    def from_table(cls, table: pa.Table) -> Vocabulary:
        """From a table with the columns token and count, such as ``vocabulary.parquet``."""
        return cls(table["token"].to_pylist(), table["count"].to_numpy())

    def to_table(self) -> pa.Table:
        return pa.table([pa.array(self.tokens, pa.string()), pa.array(self.counts)], schema=SCHEMA)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._numbers

    def __getitem__(self, token: str) -> int:
        """The number of a token, 0 for one that is not in the vocabulary."""
        return self._numbers.get(token, 0)

    def numbers(self, tokens: Iterable[str]) -> npt.NDArray[np.int32]:
        """int32[n]: the numbers of the tokens, 0 for those that are not in the vocabulary. Raises UsageError
        for one token in place of a list."""
        refuse_one(tokens, "token")
        get = self._numbers.get
        return np.fromiter((get(token, 0) for token in tokens), np.int32)

    def mapping(self, dictionary: pa.Array) -> npt.NDArray[np.int32]:
        """int32[len(dictionary)]: dictionary index -> number, 0 for what is not in the vocabulary.

        ``vocabulary.mapping(shard.dictionary)[shard.indices]`` is a whole shard in vocabulary numbers.
        """
        found = pc.index_in(dictionary, value_set=pa.array(self.tokens, pa.string()))
        numbers: npt.NDArray[np.int32] = pc.fill_null(found, 0).to_numpy(zero_copy_only=False)
        return numbers.astype(np.int32, copy=False)


class Numbering:
    """Texts to numbers of a vocabulary, a few texts at a time; safe from any number of threads.

    It remembers the words it saw, for words come again: a call normalises and looks up those that are new,
    and makes no table of its own (a text of 128 words, caches emptied: .045 ms in place of .114).
    """

    def __init__(self, tokeniser: Tokeniser, vocabulary: Vocabulary) -> None:
        self._tokeniser = tokeniser
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._table = tokeniser.table()
        self._numbers = np.zeros(0, np.int32)  # of each entry of the table

    def __call__(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """int32[tokens] of each text: the numbers of its tokens, 0 for those not in the vocabulary. Raises
        UsageError for one text in place of a list."""
        with self._lock:
            if len(self._table) > MOST_REMEMBERED:
                self._table, self._numbers = self._tokeniser.table(), np.zeros(0, np.int32)
            entries, offsets = self._tokeniser.add(self._table, texts)
            if len(self._table) > len(self._numbers):
                words = map(self._tokeniser.normal, self._table.dictionary(len(self._numbers)).to_pylist())
                self._numbers = np.append(self._numbers, self._vocabulary.numbers(words))
            found = self._numbers[entries]
        return [found[first:end] for first, end in pairwise(offsets)]


def run_of(tokens: Tokens) -> pa.Table:
    """The run of a shard: token (string), count (int64), sorted by token."""
    order = tokens.order()
    counts = tokens.counts()[order]
    return pa.table([tokens.dictionary.take(pa.array(order)), pa.array(counts)], schema=SCHEMA)


def write_run(folder: Folder, name: str, run: pa.Table) -> FileRecord:
    """Writes a run so that it can be merged batch by batch."""
    return folder.write_table(name, run, row_group_size=BATCH_ROWS, use_dictionary=False)


def merge_runs(
    folder: Folder, runs: Sequence[str], output: str, into: Folder | None = None
) -> tuple[FileRecord, int]:
    """Merges runs of `folder` into one, there or in the folder `into`: its record and the number of distinct
    tokens. Merge at most FAN_IN at once.
    """
    distinct = 0
    with (into or folder).writer(output) as stream:
        sink = pa.PythonFile(stream, mode="w")
        with pq.ParquetWriter(sink, SCHEMA, compression="zstd", use_dictionary=False) as writer:
            pending: list[pa.Table] = []
            rows = 0
            for merged in _merged([_batches(folder, run) for run in runs]):
                distinct += len(merged)
                pending.append(merged)
                rows += len(merged)
                while rows >= BATCH_ROWS:
                    table = pa.concat_tables(pending)
                    writer.write_table(table.slice(0, BATCH_ROWS), row_group_size=BATCH_ROWS)
                    pending = [table.slice(BATCH_ROWS)]
                    rows -= BATCH_ROWS
            if rows:
                writer.write_table(pa.concat_tables(pending), row_group_size=BATCH_ROWS)
    return stream.record, distinct


def most_frequent(
    batches: Iterable[pa.RecordBatch], settings: VocabularySettings
) -> tuple[Vocabulary, int, int]:
    """The vocabulary that `settings` cut from (token, count) batches, the sum of all counts, and the number
    of distinct tokens. A token ``<unk>`` counts as left out. Memory is that of the vocabulary and one batch.
    """
    best = SCHEMA.empty_table()
    kept = SCHEMA.empty_table()
    keep = pa.array(sorted(set(settings.keep) - {UNKNOWN}), pa.string())
    total = distinct = 0
    floor = settings.min_count
    for batch in batches:
        table = pa.Table.from_batches([batch]).cast(SCHEMA)
        total += pc.sum(table["count"]).as_py() or 0
        distinct += len(table)
        if len(keep):
            wanted = pc.is_in(table["token"], value_set=keep)
            kept = pa.concat_tables([kept, table.filter(wanted)])
            table = table.filter(pc.invert(wanted))
        # Tokens of one's own may hold it: they are counted with all that is left out.
        enough = pc.and_(pc.greater_equal(table["count"], floor), pc.not_equal(table["token"], UNKNOWN))
        table = table.filter(enough)
        if len(table):
            best = _ordered(pa.concat_tables([best, table])).slice(0, settings.size - 1).combine_chunks()
            if len(best) == settings.size - 1:
                floor = max(floor, best["count"][-1].as_py())
    best = _ordered(pa.concat_tables([best.slice(0, settings.size - 1 - len(kept)), kept]))
    known = pc.sum(best["count"]).as_py() or 0
    counts = np.concatenate(([total - known], best["count"].to_numpy()))
    return Vocabulary([UNKNOWN, *best["token"].to_pylist()], counts), total, distinct


class Counted(Protocol):
    """A published corpus whose tokens are counted: of pages, or of sequences."""

    @property
    def artefact(self) -> Artefact: ...

    @property
    def location(self) -> str: ...

    @property
    def counts(self) -> dict[str, Any]: ...

    def token_counts(self) -> Iterator[pa.RecordBatch]: ...


def cut_vocabulary(
    corpus: Counted,
    output: str | Path | Folder,
    settings: VocabularySettings | None = None,
    reporter: Reporter | None = None,
) -> Artefact:
    """The vocabulary of a corpus as an artefact, cut from its counts without reading a shard."""
    settings = settings or VocabularySettings()
    reporter = reporter or Reporter(quiet=True)
    draft = Draft(
        output,
        kind=KIND,
        output_version=OUTPUT_VERSION,
        inputs={"corpus": corpus.artefact},
        settings=settings,
    )
    if draft.published is not None:
        reporter.say(f"= vocabulary: reused, {draft.published.counts['size']:,} tokens at {draft.location}")
        return draft.published
    with reporter.stage("vocabulary", total=corpus.counts["distinct_tokens"], unit="tokens") as stage:
        vocabulary, total, distinct = most_frequent(corpus.token_counts(), settings)
        if len(vocabulary) < 2:
            if settings.min_count == 1:
                raise WordloomError(f"{corpus.location!r} holds no word; check its source and its tokeniser.")
            raise WordloomError(
                f"No token of {corpus.location!r} occurs {settings.min_count} times; "
                "lower 'vocabulary.min_count'."
            )
        stage.update(distinct)
        record = draft.folder.write_table(FILE, vocabulary.to_table())
        share = 1 - int(vocabulary.counts[0]) / total
        counts = {"size": len(vocabulary), "tokens": total, "distinct_tokens": distinct, "coverage": share}
        stage.summary(f"{len(vocabulary) - 1:,} of {distinct:,} distinct tokens, {share:.1%} of the text")
        return draft.publish(counts, {FILE: record})


def _ordered(table: pa.Table) -> pa.Table:
    return table.sort_by([("count", "descending"), ("token", "ascending")])


def _batches(folder: Folder, name: str) -> Iterator[pa.Table]:
    with folder.open(name) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(BATCH_ROWS):
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).cast(SCHEMA)


def _merged(runs: list[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Sorted runs to sorted tables with every token once.

    Each round emits all tokens up to the smallest of the runs' last ones in memory: no later batch can
    bring one of these again.
    """
    heads: list[tuple[pa.Table, Iterator[pa.Table]]] = []
    for run in runs:
        if (first := next(run, None)) is not None:
            heads.append((first, run))
    while heads:
        bound = min(str(head["token"][-1]) for head, _ in heads)
        parts: list[pa.Table] = []
        rest: list[tuple[pa.Table, Iterator[pa.Table]]] = []
        for head, run in heads:
            cut = int(pc.sum(pc.less_equal(head["token"], bound)).as_py())
            parts.append(head.slice(0, cut))
            remaining: pa.Table | None = head.slice(cut) if cut < len(head) else next(run, None)
            if remaining is not None:
                rest.append((remaining, run))
        heads = rest
        grouped = pa.concat_tables(parts).group_by("token", use_threads=False).aggregate([("count", "sum")])
        yield (
            grouped.select(["token", "count_sum"])
            .rename_columns(["token", "count"])
            .sort_by("token")
            .cast(SCHEMA)
        )
