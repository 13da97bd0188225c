"""A stream of made-up text in which words go by topics: what skip-gram must find."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from trainers.stream import Block

TOPICS, EACH = 4, 5
WORDS = ["<unk>", *(f"{topic}{number}" for topic in "abcd" for number in range(EACH))]


class TopicStream:
    """Pages of one topic each, in blocks of `size` tokens with a halo, as `TokenStream` cuts them."""

    unit = "tokens"

    def __init__(self, pages: int = 60, length: int = 100, size: int = 1000, halo: int = 16) -> None:
        random = np.random.default_rng(7)
        topic = random.integers(0, TOPICS, pages)
        words = 1 + topic[:, None] * EACH + random.integers(0, EACH, (pages, length))
        self.values = words.astype(np.int32).ravel()
        self.page = np.repeat(np.arange(pages, dtype=np.int32), length)
        self.size, self.halo = size, halo
        self.units_per_epoch = len(self.values)
        self.blocks_per_epoch = -(-len(self.values) // size)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.values, minlength=len(WORDS)).astype(np.int64)

    def block(self, index: int) -> Block:
        first = index % self.blocks_per_epoch * self.size
        last = min(first + self.size, len(self.values))
        begin, end = max(first - self.halo, 0), min(last + self.halo, len(self.values))
        return Block(
            index,
            index // self.blocks_per_epoch,
            self.values[begin:end],
            self.page[begin:end],
            first - begin,
            last - begin,
        )

    def held_out(self) -> Iterator[npt.NDArray[np.int32]]:
        random = np.random.default_rng(8)
        for topic in range(TOPICS):
            yield (1 + topic * EACH + random.integers(0, EACH, 80)).astype(np.int32)
