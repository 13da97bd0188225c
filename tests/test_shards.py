"""Shards: the same bytes, indices that come back as they went, a fixed share held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.folder import FileRecord, Folder
from ingest import shards
from ingest.shards import ShardCounts, held_out, read_texts, read_tokens, write_shard
from ingest.tokens import Tokeniser, Tokens

TEXTS = ["the cat", "", "le chat É the", "日本 the"] * 50


def write(folder: Folder, texts: list[str], *, text: bool = True) -> tuple[FileRecord, ShardCounts]:
    return write_shard(
        folder,
        "shards/00000.parquet",
        page_ids=range(1, len(texts) + 1),
        revision_ids=range(len(texts)),
        titles=[f"Title {number}" for number in range(len(texts))],
        characters=[len(each) for each in texts],
        tokens=Tokeniser().encode(texts),
        texts=texts if text else None,
        categories=[["Cats"] if "cat" in each else [] for each in texts],
    )


def test_the_same_pages_give_the_same_bytes(tmp_path: Path) -> None:
    first, _ = write(Folder(tmp_path / "a"), TEXTS)
    again, _ = write(Folder(tmp_path / "b"), TEXTS)
    assert first == again
    assert (tmp_path / "a/shards/00000.parquet").stat().st_size == first.bytes


def test_tokens_come_back_as_indices_and_dictionary(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write(folder, TEXTS)
    tokens = Tokeniser().encode(TEXTS)
    read = read_tokens(folder, "shards/00000.parquet")
    assert read.indices.dtype == np.int32
    assert read.indices.tolist() == tokens.indices.tolist()
    assert read.dictionary.to_pylist() == tokens.dictionary.to_pylist()
    assert read.offsets.tolist() == tokens.offsets.tolist()
    assert read.page_ids.tolist() == list(range(1, len(TEXTS) + 1))


def test_a_dictionary_far_beyond_a_megabyte_stays_whole(tmp_path: Path) -> None:
    words = [f"a-rather-long-word-{number:07d}" for number in range(120_000)]
    indices = np.random.default_rng(0).permutation(len(words)).astype(np.int32)
    folder = Folder(tmp_path)
    offsets = np.array([0, 70_000, len(words)])
    write_shard(
        folder,
        "x.parquet",
        page_ids=[1, 2],
        revision_ids=[1, 2],
        titles=["a", "b"],
        characters=[1, 1],
        tokens=Tokens(indices, offsets, pa.array(words)),
        texts=None,
        categories=None,
    )
    read = read_tokens(folder, "x.parquet")
    assert read.dictionary.to_pylist() == words
    assert (read.indices == indices).all()
    file = pq.ParquetFile(tmp_path / "x.parquet")
    encodings = file.metadata.row_group(0).column(3).encodings
    assert "PLAIN" not in encodings or "RLE_DICTIONARY" in encodings


def test_the_parts_are_the_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _, counts = write(folder, TEXTS)
    name = counts.name
    training, held = read_tokens(folder, name, "training"), read_tokens(folder, name, "held_out")
    assert sorted([*training.page_ids, *held.page_ids]) == list(range(1, len(TEXTS) + 1))
    assert held_out(held.page_ids).all()
    assert not held_out(training.page_ids).any()
    assert len(training.indices) == counts.training_tokens == training.offsets[-1]
    assert len(held.indices) == counts.tokens - counts.training_tokens
    texts = read_texts(folder, name, "training")
    assert texts.page_ids.tolist() == training.page_ids.tolist()
    assert sum(map(len, texts.texts)) == counts.training_characters
    for page, words in enumerate(Tokeniser().split(text) for text in texts.texts):
        found = training.indices[training.offsets[page] : training.offsets[page + 1]]
        assert [training.dictionary[int(index)].as_py() for index in found] == words
    assert read_texts(folder, name).titles[:2] == ["Title 0", "Title 1"]


def test_the_same_pages_are_held_out_for_ever() -> None:
    ids = np.arange(200_000)
    chosen = held_out(ids)
    assert abs(chosen.mean() - shards.HELD_OUT_SHARE) < 0.002
    # Written down once: models of years must agree.
    assert np.flatnonzero(chosen)[:8].tolist() == [48, 68, 120, 133, 173, 186, 196, 295]


def test_pandas_shows_strings_and_text_can_be_left_out(tmp_path: Path) -> None:
    write(Folder(tmp_path), TEXTS[:4], text=False)
    frame = pd.read_parquet(tmp_path / "shards/00000.parquet")
    assert "text" not in frame
    assert frame["tokens"][2].tolist() == ["le", "chat", "é", "the"]
    assert frame["categories"][0].tolist() == ["Cats"]
    assert frame["page_id"].tolist() == [1, 2, 3, 4]


def test_pages_without_tokens_are_a_shard_too(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    _, counts = write(folder, ["", "..."])
    assert (counts.pages, counts.tokens, counts.characters) == (2, 0, 3)
    assert read_tokens(folder, counts.name, "all").offsets.tolist() == [0, 0, 0]
