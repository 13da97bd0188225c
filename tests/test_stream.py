from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import WordloomError
from ingest.shards import Part, ShardCounts, ShardTexts, ShardTokens
from trainers.stream import GROUP, Block, CharacterStream, Prefetched, ShardStream, TokenStream, shuffled


class NumberStream(ShardStream):
    """Units are numbers that say where they stand: 1,000 x shard + place; pages of `page` units."""

    unit = "numbers"
    page = 3
    decoded = 0

    def decode(self, shard: int, part: Part) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        self.decoded += 1
        size = int(self.units[shard])
        offsets = np.append(np.arange(0, size, self.page), size)
        return (1000 * shard + np.arange(size)).astype(np.int32), offsets


def own(block: Block) -> list[int]:
    return block.values[block.start : block.stop].tolist()


sizes = st.lists(st.integers(0, 60), min_size=1, max_size=7).filter(any)


@given(units=sizes, block_size=st.integers(1, 20), halo=st.integers(0, 9), seed=st.integers(0, 5))
def test_a_pass_gives_every_unit_once(units: list[int], block_size: int, halo: int, seed: int) -> None:
    stream = NumberStream(units, block_size, halo, seed)
    everything = [1000 * shard + unit for shard, size in enumerate(units) for unit in range(size)]
    for epoch in range(2):
        blocks = [stream.block(epoch * stream.blocks_per_epoch + k) for k in range(stream.blocks_per_epoch)]
        assert sorted(value for block in blocks for value in own(block)) == everything
        assert {block.epoch for block in blocks} == {epoch}
    assert stream.units_per_epoch == len(everything)


@given(units=sizes, block_size=st.integers(1, 20), halo=st.integers(0, 9))
def test_the_halo_is_the_text_around_a_block(units: list[int], block_size: int, halo: int) -> None:
    stream = NumberStream(units, block_size, halo, seed=1)
    for index in range(stream.blocks_per_epoch):
        block = stream.block(index)
        shard, first = divmod(int(block.values[0]), 1000)
        assert block.values.tolist() == list(
            range(1000 * shard + first, 1000 * shard + first + len(block.values))
        )
        begin = own(block)[0] - 1000 * shard
        assert block.start == min(halo, begin)
        assert len(block.values) - block.stop == min(halo, units[shard] - begin - len(block))
        assert block.page.tolist() == [value % 1000 // 3 for value in block.values]


def test_a_block_depends_on_nothing_but_its_index() -> None:
    one, other = (NumberStream([50, 0, 41, 30, 7], 4, 2, seed=3) for _ in range(2))
    indices = [30, 2, 61, 2, 0, 99]
    taken = {index: one.block(index) for index in range(100)}
    for index in indices:
        block = other.block(index)
        assert own(block) == own(taken[index]) and block.page.tolist() == taken[index].page.tolist()


def test_the_order_is_the_same_for_ever() -> None:
    # Golden: a changed order would change every artefact that is trained.
    assert shuffled(8, 1, 2).tolist() == [0, 3, 6, 4, 7, 5, 1, 2]
    stream = NumberStream([9, 5, 7, 8], 4, 0, seed=1)
    assert [stream.place(index) for index in range(9)] == [
        (1, 1),
        (0, 1),
        (0, 2),
        (1, 0),
        (0, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (2, 0),
    ]


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    stream = NumberStream([400, 300], 4, 0, seed=1)
    orders = {
        tuple(NumberStream([400, 300], 4, 0, seed).place(turn * stream.pass_blocks + k) for k in range(50))
        for seed in (1, 2)
        for turn in (0, 1)
    }
    assert len(orders) == 4


def test_every_shard_is_decoded_once_a_pass() -> None:
    stream = NumberStream([40] * 9, 4, 1, seed=1)
    for index in range(stream.blocks_per_epoch):
        stream.block(index)
        assert len(stream._decoded) <= GROUP
    assert stream.decoded == 9


def test_an_epoch_may_be_other_than_a_pass() -> None:
    stream = NumberStream([10, 10], 1, 0, seed=1, epoch_units=15)
    assert (stream.blocks_per_epoch, stream.units_per_epoch) == (15, 15)
    epochs = [stream.block(index).epoch for index in range(40)]
    assert epochs == [0] * 15 + [1] * 15 + [2] * 10
    assert sorted(own(stream.block(index))[0] for index in range(20)) == [*range(10), *range(1000, 1010)]
    short = NumberStream([10, 7], 4, 0, seed=1, epoch_units=12)  # 17 in five blocks: three hold 10.2
    assert (short.blocks_per_epoch, short.units_per_epoch) == (4, 14)


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(WordloomError, match="no numbers to train on"):
        NumberStream([0, 0], 4, 0, seed=1)


@dataclass
class FakeCorpus:
    """Pages of (id, text); the even ones are for training."""

    pages: list[list[tuple[int, str]]]
    shards: list[ShardCounts] = field(init=False)

    def __post_init__(self) -> None:
        self.shards = []
        for number, pages in enumerate(self.pages):
            training = [text for page, text in pages if page % 2 == 0]
            tokens, characters = (sum(map(len, each)) for each in ([t.split() for t in training], training))
            self.shards.append(ShardCounts(f"{number}", len(pages), 0, 0, len(training), tokens, characters))

    def _texts(self, shard: int, part: Part) -> list[str]:
        return [text for page, text in self.pages[shard] if (page % 2 == 0) == (part == "training")]

    def shard_texts(self, shard: int, part: Part) -> ShardTexts:
        texts = self._texts(shard, part)
        return ShardTexts(np.arange(len(texts)), [""] * len(texts), texts)

    def shard_tokens(self, shard: int, part: Part) -> ShardTokens:
        pages = [text.split() for text in self._texts(shard, part)]
        dictionary = sorted({token for page in pages for token in page})
        indices = [dictionary.index(token) for page in pages for token in page]
        offsets = np.cumsum([0, *map(len, pages)])
        return ShardTokens(np.arange(len(pages)), offsets, np.array(indices, np.int32), pa.array(dictionary))


class FakeVocabulary:
    def mapping(self, dictionary: pa.Array) -> npt.NDArray[np.int32]:
        known = ["<unk>", "a", "b", "c"]
        return np.array([known.index(t) if t in known else 0 for t in dictionary.to_pylist()], np.int32)


class FakeAlphabet:
    def encode(self, text: str) -> npt.NDArray[np.int32]:
        return np.array([ord(character) for character in text], np.int32)


CORPUS = FakeCorpus([[(2, "a b x"), (3, "c c"), (4, ""), (6, "b a")], [(7, "a"), (8, "x c")]])


def test_tokens_become_ids_of_the_vocabulary() -> None:
    stream = TokenStream(CORPUS, FakeVocabulary(), block_size=100, halo=0, seed=1)  # type: ignore[arg-type]
    blocks = sorted((stream.block(index) for index in range(2)), key=len)
    assert [own(block) for block in blocks] == [[0, 3], [1, 2, 0, 2, 1]]
    assert blocks[1].page.tolist() == [0, 0, 0, 2, 2]
    assert [page.tolist() for page in stream.held_out()] == [[3, 3], [1]]


def test_characters_have_a_separator_behind_every_page() -> None:
    stream = CharacterStream(CORPUS, FakeAlphabet(), block_size=100, seed=1)  # type: ignore[arg-type]
    blocks = sorted((stream.block(index) for index in range(2)), key=len)
    assert ["".join(map(chr, own(block))) for block in blocks] == ["x c\n\n", "a b x\n\n\n\nb a\n\n"]
    assert blocks[1].page.tolist() == [0] * 7 + [1] * 2 + [2] * 5
    assert ["".join(map(chr, page)) for page in stream.held_out()] == ["c c", "a"]


def test_a_shard_that_is_not_what_the_manifest_counted_is_an_error() -> None:
    corpus = FakeCorpus(CORPUS.pages)
    corpus.pages = [[(2, "a")], [(2, "a")]]
    stream = TokenStream(corpus, FakeVocabulary(), block_size=100, halo=0, seed=1)  # type: ignore[arg-type]
    with pytest.raises(WordloomError, match="holds 1 tokens for training, its manifest says"):
        stream.block(0)


def test_prefetching_changes_nothing() -> None:
    stream = NumberStream([50, 41], 4, 2, seed=3)
    with Prefetched(stream, range(5, 20)) as blocks:
        assert [own(block) for block in blocks] == [own(stream.block(index)) for index in range(5, 20)]


def test_an_error_while_prefetching_comes_where_its_block_would() -> None:
    stream = NumberStream([50], 4, 0, seed=3)

    def indices() -> Iterator[int]:
        yield 1
        raise WordloomError("gone")

    with Prefetched(stream, indices()) as blocks:
        assert next(blocks).index == 1
        for _ in range(2):
            with pytest.raises(WordloomError, match="gone"):
                next(blocks)


def test_prefetching_ends_with_its_block() -> None:
    with Prefetched(NumberStream([500], 1, 0, seed=3), range(500)) as blocks:
        next(blocks)
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
