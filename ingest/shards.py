"""Shards: the pages of a corpus as Parquet files, one row a page.

===========  ======================================  ==================================================
column       type                                    content
===========  ======================================  ==================================================
page_id      int64                                   the wiki's number of the page
revision_id  int64                                   of the text that was read
title        string                                  with the namespace's prefix
text         string                                  after the markup setting; case and paragraphs kept;
                                                     absent where the setting `text` is false
tokens       list<dictionary<int32, string>>         what the tokeniser made of the text
categories   list<string>                            names of the page's categories; only where markup is
                                                     stripped
held_out     bool                                    whether no model trains on the page; only in corpora that
                                                     choose by date (else a hash of the id does)
===========  ======================================  ==================================================

A shard is one row group with one token dictionary, in the order in which the tokens first occur. pyarrow
reads the tokens back as int32 indices and that dictionary without making a string a token (measured with
200,000 entries); pandas, DuckDB and Ray Data show lists of strings. The same pages under the same
settings give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.folder import FileRecord, Folder
from ingest.tokens import Tokens

Part = Literal["training", "held_out", "all"]

HELD_OUT_SHARE = 1 / 50

# Above the default of 1 MB Parquet would fall back to plain strings in the middle of a shard.
DICTIONARY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What one shard holds, and what of it is for training; `characters` are code points of the text."""

    name: str
    pages: int
    tokens: int
    characters: int
    training_pages: int
    training_tokens: int
    training_characters: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class ShardTokens:
    """The tokens of a shard's pages.

    `indices`: int32[n], into `dictionary` (pa.StringArray); page p of the selection is
    ``indices[offsets[p]:offsets[p + 1]]``. `offsets`: int64[pages + 1], beginning with 0. `page_ids`:
    int64[pages].
    """

    page_ids: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    dictionary: pa.Array


@dataclass(frozen=True)
class ShardTexts:
    """The texts of a shard's pages; `page_ids`: int64[pages]."""

    page_ids: npt.NDArray[np.int64]
    titles: list[str]
    texts: list[str]


def held_out(page_ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which pages no model trains on: bool, of the shape of `page_ids`.

    A fixed hash of the page id (SplitMix64; Steele, Lea, Flood 2014) below a fixed share (1 in 50), so
    that every model and every later dump of the same wiki holds out the same pages.
    """
    with np.errstate(over="ignore"):
        z = np.asarray(page_ids, dtype=np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    chosen: npt.NDArray[np.bool_] = z < np.uint64(int(HELD_OUT_SHARE * 2.0**64))
    return chosen


def write_shard(
    folder: Folder,
    name: str,
    *,
    page_ids: Sequence[int],
    revision_ids: Sequence[int],
    titles: Sequence[str],
    characters: Sequence[int],
    tokens: Tokens,
    texts: Sequence[str | bytes] | None,
    categories: Sequence[Sequence[str]] | None,
    marks: Sequence[bool] | None = None,
) -> tuple[FileRecord, ShardCounts]:
    """Writes one shard, whole or not at all; one entry a page in every sequence. None leaves a column out.

    `marks` says which pages are held out; without, a hash of their ids does.
    """
    ids = np.asarray(page_ids, dtype=np.int64)
    columns: dict[str, Any] = {
        "page_id": pa.array(ids),
        "revision_id": pa.array(np.asarray(revision_ids, dtype=np.int64)),
        "title": pa.array(titles, pa.string()),
    }
    if texts is not None:
        columns["text"] = pa.array(texts, pa.string())
    columns["tokens"] = pa.ListArray.from_arrays(
        pa.array(tokens.offsets.astype(np.int32)),
        pa.DictionaryArray.from_arrays(pa.array(tokens.indices), tokens.dictionary),
    )
    if categories is not None:
        columns["categories"] = pa.array(categories, pa.list_(pa.string()))
    if marks is not None:
        columns["held_out"] = pa.array(marks, pa.bool_())
    record = folder.write_table(
        name,
        pa.table(columns),
        compression="zstd",
        row_group_size=max(1, len(ids)),
        use_dictionary=["tokens.list.element"],
        dictionary_pagesize_limit=DICTIONARY_BYTES,
        write_statistics=["page_id"],
    )
    training = ~(held_out(ids) if marks is None else np.asarray(marks, np.bool_))
    lengths = np.diff(tokens.offsets)
    sizes = np.asarray(characters, dtype=np.int64)
    return record, ShardCounts(
        name=name,
        pages=len(ids),
        tokens=int(lengths.sum()),
        characters=int(sizes.sum()),
        training_pages=int(training.sum()),
        training_tokens=int(lengths[training].sum()),
        training_characters=int(sizes[training].sum()),
    )


def read_tokens(folder: Folder, name: str, part: Part = "all", marked: bool = False) -> ShardTokens:
    """The tokens of a shard's pages, or of those for training or held out; in the shard's order. `marked`:
    the shard has the column ``held_out``."""
    table = folder.read_table(name, columns=["page_id", "tokens", *_marks(marked)])
    column = table["tokens"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    ids: npt.NDArray[np.int64] = table["page_id"].to_numpy()
    offsets = column.offsets.to_numpy().astype(np.int64)
    values = column.values
    indices: npt.NDArray[np.int32] = values.indices.to_numpy(zero_copy_only=True)
    if part != "all":
        wanted = _held_out(table, ids, marked) == (part == "held_out")
        lengths = np.diff(offsets)
        indices = indices[np.repeat(wanted, lengths)]
        offsets = np.concatenate(([0], np.cumsum(lengths[wanted])))
        ids = ids[wanted]
    return ShardTokens(ids, offsets, indices, values.dictionary)


def read_texts(folder: Folder, name: str, part: Part = "all", marked: bool = False) -> ShardTexts:
    """The texts and titles of a shard's pages, or of those for training or held out; see `read_tokens`."""
    table = folder.read_table(name, columns=["page_id", "title", "text", *_marks(marked)])
    ids: npt.NDArray[np.int64] = table["page_id"].to_numpy()
    if part != "all":
        wanted = _held_out(table, ids, marked) == (part == "held_out")
        table, ids = table.filter(pa.array(wanted)), ids[wanted]
    return ShardTexts(ids, table["title"].to_pylist(), table["text"].to_pylist())


def _marks(marked: bool) -> list[str]:
    return ["held_out"] if marked else []


def _held_out(table: pa.Table, ids: npt.NDArray[np.int64], marked: bool) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = table["held_out"].to_numpy() if marked else held_out(ids)
    return chosen
