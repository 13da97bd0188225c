"""Labelled sequences: the one format in which reviews, handwritten words and a user's own sequences lie.

The artefact of kind ``sequences`` holds ``shards/NNNNN.parquet``, one row a sequence, in the source's order:

=========  ================================  ==============================================================
column     type                              content
=========  ================================  ==============================================================
id         string                            unique in the corpus (``train/pos/12_9``)
split      string                            ``train``, ``test`` or ``unlabelled``
length     int32                             frames of the sequence, at least 1
tokens     list<dictionary<int32, string>>   a frame a token ...
frames     list<fixed_size_list<T, width>>   ... or a frame a vector, T is uint8 or float32
label      string, null where unlabelled     one label a sequence ...
labels     list<string>                      ... or one a frame
text       string                            what the tokens were made of; only where it is kept
any other  int32                             a number of the source's (``rating``, ``fold``)
=========  ================================  ==============================================================

``counts.parquet`` (with tokens only) has every token outside of ``test`` with its count, in the order of the
tokens. The manifest's ``counts``: ``sequences``, ``frames``, ``splits`` (name -> sequences), ``longest``,
``labels`` (sorted; a label's place is its number), ``per`` (``sequence`` or ``frame``), ``width`` (0 with
tokens), ``numbers`` (names of the other columns), ``distinct_tokens``, ``dropped`` (reason -> rows),
``losses`` (sentences) and ``shards`` (``name``, ``sequences`` and ``training_frames`` of each: see
`ingest.sequence_pages`). The same sequences under the same settings give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.artefact import Artefact, Draft, Input
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from ingest.shards import DICTIONARY_BYTES, held_out
from ingest.tokens import Tokeniser
from ingest.vocabulary import SCHEMA

KIND = "sequences"
COUNTS = "counts.parquet"
TRAIN, TEST, UNLABELLED = SPLITS = ("train", "test", "unlabelled")
SHARD_BYTES = 8 << 20  # of text, tokens or frames, at which a shard ends: 20 shards of the film reviews

# Why a writer leaves a sequence out.
LEFT_OUT = {
    "twice": "their ids came before",
    "no frames": "they hold no token",
    "labels": "they have not a label for each token",
}

# Raise by one whenever the same sequences and settings give another corpus.
OUTPUT_VERSION = 1


@dataclass(frozen=True)
class LabelledSequence:
    """One sequence as a source gives it: a `text` to be tokenised, its tokens (list of strings), or vectors
    (uint8 or float32 [length, width]) as `content`; `label` one string, a list of one a frame, or None in the
    split ``unlabelled``. `numbers` become columns of their own.
    """

    id: str
    split: str
    content: str | list[str] | npt.NDArray[Any]
    label: str | list[str] | None
    numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The sequences of one split, or of all: arrays as the trainers take them.

    `frames`: int32 [n] into `dictionary` (distinct tokens), or uint8 or float32 [n, width]; sequence s is
    ``frames[offsets[s]:offsets[s + 1]]``, `offsets` int64 [sequences + 1]. `labels`: int32, numbers of the
    corpus' labels, [sequences] or one a frame [n]; -1 without one. `numbers`: int32 [sequences] by name.
    """

    ids: list[str]
    frames: npt.NDArray[Any]
    dictionary: pa.Array | None
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    numbers: dict[str, npt.NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.ids)

    def taken(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The frames of some of the sequences, and their offsets."""
        return taken(self.frames, self.offsets[rows], np.diff(self.offsets)[rows])


def taken(
    frames: npt.NDArray[Any], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Runs of `frames`, each of one of the `lengths` from one of the `starts` on: joined, and their
    offsets."""
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return frames[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets


class SequenceCorpus:
    """A published corpus of labelled sequences, open for reading. Picklable."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self.labels: list[str] = artefact.counts["labels"]
        self.per: str = artefact.counts["per"]
        self.width: int = artefact.counts["width"]

    @classmethod
    def open(cls, location: str | Path | Folder) -> SequenceCorpus:
        """Raises WordloomError where there is no published corpus of sequences."""
        return cls(Artefact.open(location, KIND))

    def __repr__(self) -> str:
        counts = self.counts
        return f"SequenceCorpus({self.artefact.location!r}, {counts['sequences']:,} sequences)"

    @property
    def counts(self) -> dict[str, Any]:
        """The manifest's counts."""
        return self.artefact.counts

    @property
    def settings(self) -> dict[str, Any]:
        """The settings it was made with; of text, ``settings["tokeniser"]`` and so on."""
        return self.artefact.manifest.settings

    @property
    def synthetic(self) -> bool:
        """Whether the sequences were made by a program; whatever shows them says so."""
        return bool(self.settings.get("synthetic", False))

    def read(self, *splits: str) -> Part:
        """The sequences of these splits (none named: all), in the corpus' order."""
        content = "frames" if self.width else "tokens"
        label = "label" if self.per == "sequence" else "labels"
        numbers: list[str] = self.counts["numbers"]
        table = self._table("id", content, label, *numbers, splits=splits)
        values = _combined(table[content])
        offsets = np.concatenate(([0], np.cumsum(np.asarray(values.value_lengths(), np.int64))))
        flat = values.flatten()
        dictionary = None
        if self.width:
            frames = flat.flatten().to_numpy().reshape(-1, self.width)
        else:
            frames, dictionary = flat.indices.to_numpy(), flat.dictionary
        given = _combined(table[label])
        if self.per == "frame":
            given = given.flatten()
        places = pa.array(self.labels, pa.string())
        found = pc.fill_null(pc.index_in(given, value_set=places), -1)
        labels = found.to_numpy(zero_copy_only=False).astype(np.int32)
        columns = {name: table[name].to_numpy().astype(np.int32) for name in numbers}
        return Part(table["id"].to_pylist(), frames, dictionary, offsets.astype(np.int64), labels, columns)

    def texts(self, *splits: str) -> list[str]:
        """The texts, where the corpus keeps them. Raises WordloomError where it does not."""
        if not self.settings.get("text", False):
            raise WordloomError(
                f"{self.artefact.location!r} keeps no text; ingest it again with sequences.text=true."
            )
        return list(self._table("text", splits=splits)["text"].to_pylist())

    def token_counts(self) -> Iterator[pa.RecordBatch]:
        """All tokens outside of ``test`` in batches: token (string), count (int64), in their order."""
        with self.artefact.folder.open(COUNTS) as stream:
            yield from pq.ParquetFile(stream).iter_batches()

    def _table(self, *columns: str, splits: Sequence[str]) -> pa.Table:
        folder = self.artefact.folder
        tables = []
        for shard in self.counts["shards"]:
            table = folder.read_table(shard["name"], columns=[*columns, "split"])
            if splits:
                wanted = pc.is_in(table["split"], value_set=pa.array(splits, pa.string()))
                table = table.filter(wanted)
            tables.append(table.select(list(columns)))
        return pa.concat_tables(tables).unify_dictionaries()


def checked(
    name: str, unit: str, seen: int, dropped: Counter[str], losses: list[str], most: float
) -> list[str]:
    """The `losses` of a source (sentences), and one for what a `SequenceWriter` left out by itself. Raises
    WordloomError where more than the share `most` of the `seen` rows (their name is `unit`) was left out.
    """
    said = [
        f"{name!r}: {count:,} of {seen:,} {unit} left out, because {LEFT_OUT[reason]}."
        for reason, count in sorted(dropped.items())
        if reason in LEFT_OUT
    ]
    if dropped.total() > most * seen:
        raise WordloomError(
            f"{name!r}: {dropped.total():,} of {seen:,} {unit} are malformed, more than the allowed share of "
            f"{most:.2%}; {' '.join([*losses, *said])}"
        )
    return [*losses, *said]


def draft_of(
    output: str | Folder, inputs: Mapping[str, Input], settings: Any, version: int = OUTPUT_VERSION
) -> Draft:
    """A corpus of sequences being made in a folder; a `version` of its own has a source whose reading has."""
    return Draft(output, kind=KIND, output_version=version, inputs=inputs, settings=settings)


class SequenceWriter:
    """Writes a corpus of sequences into a draft: `add` each one, then `publish`.

    `per` is ``sequence`` or ``frame``: what a label belongs to. Texts are cut by `tokeniser`; with
    `keep_text` they are kept. A sequence without a frame is dropped as ``no frames``, one whose labels are
    not as many as its frames as ``labels``, one whose id came before as ``twice``. As a context it deletes
    what it wrote where an error ends it: the next try may have other settings, or another file.
    """

    def __init__(
        self, draft: Draft, per: str, tokeniser: Tokeniser | None = None, keep_text: bool = False
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._draft, self._per, self._tokeniser, self._keep_text = draft, per, tokeniser, keep_text
        self._rows: list[LabelledSequence] = []
        self._bytes = 0
        self._ids: set[str] = set()
        self._files: dict[str, FileRecord] = {}
        self._splits: Counter[str] = Counter()
        self._labels: set[str] = set()
        self._counted: Counter[str] = Counter()
        self._shards: list[dict[str, Any]] = []
        self._numbers: list[str] | None = None
        self._width: int | None = None
        self._frames = self._longest = 0

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for name in self._files:
                self._draft.folder.delete(name)

    def add(self, row: LabelledSequence) -> None:
        """One more sequence. Raises WordloomError where its frames have another width than those before."""
        if row.id in self._ids:
            self.dropped["twice"] += 1
            return
        self._ids.add(row.id)
        width = row.content.shape[1] if isinstance(row.content, np.ndarray) else 0
        if self._width is None:
            self._width, self._numbers = width, list(row.numbers)
        if width != self._width:
            raise WordloomError(
                f"Sequence {row.id!r} has frames of {width} numbers, those before have {self._width}; "
                "give all of them the same."
            )
        self._rows.append(row)
        self._bytes += row.content.nbytes if isinstance(row.content, np.ndarray) else _size(row.content)
        if self._bytes >= SHARD_BYTES:
            self.flush()

    def publish(self, losses: Sequence[str] = (), dropped: Mapping[str, int] | None = None) -> Artefact:
        """The finished corpus; `dropped` and `losses` are what the source left out before."""
        self.flush()
        if not self._frames:
            raise WordloomError(f"{self._draft.location!r} would hold no sequence; check --source.")
        if not self._width:
            tokens = sorted(self._counted, key=lambda token: token.encode("utf-8", "surrogatepass"))
            table = pa.table([tokens, [self._counted[token] for token in tokens]], schema=SCHEMA)
            self._files[COUNTS] = self._draft.folder.write_table(COUNTS, table)
        counts = {
            "sequences": self._splits.total(),
            "frames": self._frames,
            "splits": {split: self._splits[split] for split in SPLITS if self._splits[split]},
            "longest": self._longest,
            "labels": sorted(self._labels),
            "per": self._per,
            "width": self._width,
            "numbers": self._numbers,
            "distinct_tokens": len(self._counted),
            "dropped": dict(sorted((Counter(dropped or {}) + self.dropped).items())),
            "losses": list(losses),
            "shards": self._shards,
        }
        return self._draft.publish(counts, self._files)

    def flush(self) -> None:
        """Writes what was added so far; only then `dropped` knows all that was left out of it."""
        rows, self._rows, self._bytes = self._rows, [], 0
        if not rows:
            return
        columns, kept = self._columns(rows)
        if not kept:
            return
        for row in kept:
            self._splits[row.split] += 1
            labels = [row.label] if isinstance(row.label, str) else row.label or []
            self._labels.update(labels)
        lengths = columns["length"].to_numpy()
        trains = training_rows([row.split for row in kept], sum(each["sequences"] for each in self._shards))
        self._frames += int(lengths.sum())
        self._longest = max(self._longest, int(lengths.max()))
        name = f"shards/{len(self._files):05d}.parquet"
        self._files[name] = self._draft.folder.write_table(
            name,
            pa.table(columns),
            row_group_size=len(kept),
            use_dictionary=["split", "label", "labels.list.element", "tokens.list.element"],
            dictionary_pagesize_limit=DICTIONARY_BYTES,
            write_statistics=["id"],
        )
        self._shards.append(
            {"name": name, "sequences": len(kept), "training_frames": int(lengths[trains].sum())}
        )

    def _columns(self, rows: list[LabelledSequence]) -> tuple[dict[str, pa.Array], list[LabelledSequence]]:
        lengths, flat = self._content(rows)
        kept = np.array([self._fits(row, int(size)) for row, size in zip(rows, lengths, strict=True)])
        offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
        content = pa.ListArray.from_arrays(offsets, flat).filter(pa.array(kept))
        rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
        lengths = lengths[kept]
        columns = {
            "id": pa.array([row.id for row in rows], pa.string()),
            "split": pa.array([row.split for row in rows], pa.string()),
            "length": pa.array(lengths.astype(np.int32)),
        }
        if self._width:
            columns["frames"] = content
        else:
            columns["tokens"] = content = _compact(content)
            self._count(content, np.array([row.split != TEST for row in rows]))
        per_frame = self._per == "frame"
        kind = pa.list_(pa.string()) if per_frame else pa.string()
        columns["labels" if per_frame else "label"] = pa.array([row.label for row in rows], kind)
        if self._keep_text:
            columns["text"] = pa.array([_text(row.content) for row in rows], pa.string())
        for name in self._numbers or ():
            columns[name] = pa.array([row.numbers[name] for row in rows], pa.int32())
        return columns, rows

    def _content(self, rows: list[LabelledSequence]) -> tuple[npt.NDArray[np.int64], pa.Array]:
        """The lengths of the sequences, and all their frames in one array."""
        contents: list[Any] = [row.content for row in rows]
        if self._width:
            joined = np.concatenate(contents)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(joined.reshape(-1)), self._width)
            return np.array([len(each) for each in contents], np.int64), flat
        if all(isinstance(each, str) for each in contents):
            assert self._tokeniser is not None, "texts need a tokeniser"
            tokens = self._tokeniser.encode(contents)
            flat = pa.DictionaryArray.from_arrays(pa.array(tokens.indices), tokens.dictionary)
            return np.diff(tokens.offsets), flat
        flat = pa.array([token for each in contents for token in each], pa.string()).dictionary_encode()
        return np.array([len(each) for each in contents], np.int64), flat

    def _fits(self, row: LabelledSequence, length: int) -> bool:
        if not length:
            self.dropped["no frames"] += 1
            return False
        if self._per == "frame" and row.split != UNLABELLED and len(row.label or ()) != length:
            self.dropped["labels"] += 1
            return False
        return True

    def _count(self, content: pa.ListArray, counted: npt.NDArray[np.bool_]) -> None:
        flat = content.filter(pa.array(counted)).flatten()
        found = np.bincount(flat.indices.to_numpy(), minlength=len(flat.dictionary))
        for token, count in zip(flat.dictionary.to_pylist(), found.tolist(), strict=True):
            if count:
                self._counted[token] += count


def training_rows(splits: Sequence[str], first: int) -> npt.NDArray[np.bool_]:
    """Which rows, of which the first is number `first` of the corpus, are read by trainers that need no
    labels: those outside of ``test`` that `ingest.shards.held_out` does not take by their number."""
    outside = np.array([split != TEST for split in splits], bool)
    return outside & ~held_out(np.arange(first, first + len(splits)))


def _compact(content: pa.ListArray) -> pa.ListArray:
    """The same lists with a dictionary of their own tokens only, in the order in which they first occur."""
    flat = content.flatten()
    again = flat.cast(pa.string()).dictionary_encode() if len(flat) else flat
    return pa.ListArray.from_arrays(_offsets(content), again)


def _offsets(content: pa.ListArray) -> pa.Array:
    lengths = np.asarray(content.value_lengths(), np.int64)
    return pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))


def _combined(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], whole.type)
    return whole


def _size(content: str | list[str]) -> int:
    return len(content) if isinstance(content, str) else sum(map(len, content))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(content)
