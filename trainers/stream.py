"""Streams: what training reads, in an order that only the corpus, the seed and the position decide.

The training pages of a shard, one after another, are a run of *units* (tokens or characters). A *block* is a
fixed range of `block_size` units of one shard (its last block is shorter). Which blocks there are follows
from the counts in the corpus' manifest alone; a pass over the corpus takes every block once, in an order
shuffled anew for each pass: the shards are shuffled, then cut into groups of `GROUP` neighbours, and the
blocks of a group are shuffled together. So a reader decodes every shard once a pass and holds `GROUP` of
them. Block `i` is a pure function of (corpus, seed, i): workers, prefetching and restarts change nothing.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import WordloomError
from ingest.corpus import Corpus
from ingest.shards import Part, ShardTokens

GROUP = 2  # shards that are shuffled together and held decoded at a time
AHEAD = 4  # blocks that the prefetching thread reads ahead
SEPARATOR = "\n\n"  # stands behind every page in a stream of characters

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a stream.

    `index` counts blocks over all epochs (``epoch = index // blocks_per_epoch``). `values` (int32 [n])
    are ids, `page` (int32 [n]) numbers the page that each value belongs to: within a block equal numbers
    mean the same page; they never fall. The block itself is ``values[start:stop]``; what stands before
    and after is its halo, units of neighbouring blocks given as context only (shorter at a shard's ends).
    """

    index: int
    epoch: int
    values: Ids
    page: Ids
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Stream(Protocol):
    """What the loop and the learners see of a stream."""

    unit: str  # what the values are, in the plural: "tokens", "characters"
    pass_blocks: int  # that hold the corpus once
    blocks_per_epoch: int
    units_per_epoch: int

    def block(self, index: int) -> Block:
        """Block `index`, a pure function of the corpus, the seed and `index`."""

    def held_out(self) -> Iterator[Ids]:
        """The ids (int32 [n]) of each held-out page, in the order of the corpus."""


class ShardStream(ABC):
    """Blocks of the shards of a corpus; what a unit is, a subclass says.

    `units` are the training units of each shard, from the manifest. `halo` units are given as context on
    either side. An epoch is a whole pass, or as many blocks as hold `epoch_units` units on average.
    """

    unit: str

    def __init__(
        self, units: Sequence[int], block_size: int, halo: int, seed: int, epoch_units: int = 0
    ) -> None:
        self.units = np.asarray(units, np.int64)
        self.block_size = block_size
        self.halo = halo
        self.seed = seed
        self.shard_blocks = -(-self.units // block_size)
        self.pass_blocks = int(self.shard_blocks.sum())
        if not self.pass_blocks:
            raise WordloomError(f"The corpus has no {self.unit} to train on; ingest a larger dump.")
        total = int(self.units.sum())  # each shard's last block is short, so blocks are not all full
        self.blocks_per_epoch = (
            -(-epoch_units * self.pass_blocks // total) if epoch_units else self.pass_blocks
        )
        self.units_per_epoch = round(total * self.blocks_per_epoch / self.pass_blocks)
        self._lock = threading.Lock()
        self._decoded: OrderedDict[int, tuple[Ids, Ids]] = OrderedDict()
        self._pass: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        self._group: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None

    @abstractmethod
    def decode(self, shard: int, part: Part) -> tuple[Ids, npt.NDArray[np.int64]]:
        """The units of a shard's pages, int32 [n]; where each page begins and the last ends, [pages + 1]."""

    def block(self, index: int) -> Block:
        """Block `index`; see `Block`. Raises WordloomError where a shard is not what the manifest counted."""
        with self._lock:
            shard, number = self.place(index)
            values, page = self._shard(shard)
        begin = number * self.block_size
        end = min(begin + self.block_size, len(values))
        first, last = max(0, begin - self.halo), min(len(values), end + self.halo)
        return Block(
            index=index,
            epoch=index // self.blocks_per_epoch,
            values=values[first:last],
            page=page[first:last],
            start=begin - first,
            stop=end - first,
        )

    def place(self, index: int) -> tuple[int, int]:
        """Where block `index` lies: the shard's number and the block's number in that shard."""
        if index < 0:
            raise IndexError(f"block {index}: blocks count from 0")
        turn, at = divmod(index, self.pass_blocks)
        order, ends = self._order(turn)
        group = int(np.searchsorted(ends, at, side="right"))
        begin = int(ends[group - 1]) if group else 0
        shards = order[group * GROUP : (group + 1) * GROUP]
        key = (turn, group)
        if self._group is None or self._group[0] != key:
            self._group = (key, shuffled(int(ends[group]) - begin, self.seed, turn, 1, group))
        number = int(self._group[1][at - begin])
        for shard in shards:
            if number < self.shard_blocks[shard]:
                return int(shard), number
            number -= int(self.shard_blocks[shard])
        raise AssertionError("a block beyond its group")

    def held_out(self) -> Iterator[Ids]:
        """The ids (int32 [n], n > 0) of each held-out page, in the order of the corpus."""
        for shard in range(len(self.units)):
            values, offsets = self.decode(shard, "held_out")
            for begin, end in pairwise(offsets.tolist()):
                if end > begin:
                    yield values[begin:end]

    def _order(self, turn: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The shards of a pass in their order, and the number of blocks up to the end of each group."""
        if self._pass is None or self._pass[0] != turn:
            order = shuffled(len(self.units), self.seed, turn, 0)
            starts = np.arange(0, len(order), GROUP)
            ends = np.cumsum(np.add.reduceat(self.shard_blocks[order], starts))
            self._pass = (turn, order, ends)
        return self._pass[1], self._pass[2]

    def _shard(self, shard: int) -> tuple[Ids, Ids]:
        if shard in self._decoded:
            self._decoded.move_to_end(shard)
            return self._decoded[shard]
        values, offsets = self.decode(shard, "training")
        if len(values) != self.units[shard]:
            raise WordloomError(
                f"Shard {shard} of the corpus holds {len(values)} {self.unit} for training, "
                f"its manifest says {self.units[shard]}; ingest the dump again."
            )
        while len(self._decoded) >= GROUP:
            self._decoded.popitem(last=False)
        page = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
        self._decoded[shard] = (values, page)
        return values, page


class Tokenised(Protocol):
    """What a stream of tokens asks of a corpus: `ingest.corpus.Corpus`,
    `ingest.sequence_pages.SequencePages`."""

    @property
    def shards(self) -> Sequence[Any]:
        """Each with its `training_tokens`."""

    def shard_tokens(self, shard: int, part: Part = "training") -> ShardTokens: ...


class Lookup(Protocol):
    """What a stream of tokens asks of a vocabulary."""

    def mapping(self, dictionary: pa.Array) -> Ids:
        """The id of each token of a dictionary, int32 [n]; 0 for one that is not in the vocabulary."""


class TokenStream(ShardStream):
    """The tokens of the training pages as ids of a vocabulary; a token outside it is id 0."""

    unit = "tokens"

    def __init__(
        self,
        corpus: Tokenised,
        vocabulary: Lookup,
        block_size: int,
        halo: int,
        seed: int,
    ) -> None:
        self.corpus = corpus
        self.vocabulary = vocabulary
        units = [shard.training_tokens for shard in corpus.shards]
        super().__init__(units, block_size, halo, seed)

    def decode(self, shard: int, part: Part) -> tuple[Ids, npt.NDArray[np.int64]]:
        tokens = self.corpus.shard_tokens(shard, part)
        return self.vocabulary.mapping(tokens.dictionary)[tokens.indices], tokens.offsets


class Encoder(Protocol):
    """What a stream of characters asks of an alphabet."""

    def encode(self, text: str) -> Ids:
        """The id of each character, int32 [len(text)]."""


class CharacterStream(ShardStream):
    """The characters of the training pages as ids of an alphabet, `separator` behind every page.

    Held-out pages come without the separator.
    """

    unit = "characters"

    def __init__(
        self,
        corpus: Corpus,
        alphabet: Encoder,
        block_size: int,
        seed: int,
        halo: int = 0,
        epoch_units: int = 0,
        separator: str = SEPARATOR,
    ) -> None:
        self.corpus = corpus
        self.alphabet = alphabet
        self.separator = separator
        units = [shard.training_characters + len(separator) * shard.training_pages for shard in corpus.shards]
        super().__init__(units, block_size, halo, seed, epoch_units)

    def decode(self, shard: int, part: Part) -> tuple[Ids, npt.NDArray[np.int64]]:
        behind = self.separator if part == "training" else ""
        texts = self.corpus.shard_texts(shard, part).texts
        lengths = [0, *(len(text) + len(behind) for text in texts)]
        return self.alphabet.encode("".join(text + behind for text in texts)), np.cumsum(lengths)


class Prefetched:
    """Reads the blocks of `indices` in a thread of its own, a few ahead of who takes them.

    Iterate over it within a ``with`` block. An error of the reading thread is raised where its block would
    have come.
    """

    def __init__(self, stream: Stream, indices: Iterable[int], ahead: int = AHEAD) -> None:
        self._queue: queue.Queue[Block | BaseException | None] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(stream, indices), name="prefetch", daemon=True
        )

    def __enter__(self) -> Prefetched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        while self._thread.is_alive():  # it may wait for room in the queue
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def __iter__(self) -> Iterator[Block]:
        return self

    def __next__(self) -> Block:
        item = self._queue.get()
        if isinstance(item, Block):
            return item
        self._queue.put(item)  # it ends every further iteration, too
        if item is None:
            raise StopIteration
        raise item

    def _read(self, stream: Stream, indices: Iterable[int]) -> None:
        try:
            for index in indices:
                if self._closed.is_set():
                    return
                self._queue.put(stream.block(index))
            self._queue.put(None)
        except BaseException as error:  # handed to the thread that iterates
            self._queue.put(error)


def shuffled(size: int, *words: int) -> npt.NDArray[np.int64]:
    """A permutation of ``range(size)``, a pure function of the words (integers from 0).

    Places are sorted by a 64-bit hash (the finaliser of SplitMix64), not by numpy's generators, whose
    streams may change with numpy's version.
    """
    key = np.zeros(1, np.uint64)
    for word in words:
        key = _mixed(key ^ np.array([word], np.uint64))
    return np.argsort(_mixed(key ^ _mixed(np.arange(size, dtype=np.uint64))), kind="stable")


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = words + np.uint64(0x9E3779B97F4A7C15)  # arrays wrap without a warning
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
