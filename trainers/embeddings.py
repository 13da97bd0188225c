"""Skip-gram word embeddings: the settings and all that is drawn before TensorFlow sees it. Pure numpy.

For each position of a page a radius is drawn uniformly from 1..window, and the word there (the *centre*) is
paired with each word (*context*) up to that far left and right, within its page (Mikolov et al. 2013,
arXiv:1310.4546); or it is paired with the whole window, and each pair weighs as much as its `chances` of
being drawn: the same in expectation, without the noise of the draw. All draws come from a generator that the
caller seeds by (seed, block), so that a block always gives the same pairs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import UsageError
from trainers.stream import Block, Ids

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

SECTION = "embeddings"
LOSSES = ("negative_sampling", "nce")
AT_LEAST_ONE = {
    "vector_size",
    "window",
    "negative",
    "epochs",
    "tile",
    "negatives_per_tile",
    "tokens_per_step",
    "block_tokens",
    "exchange_tokens",
    "candidates",
    "batch_pairs",
}
AT_LEAST_ZERO = {"subsample", "final_learning_rate", "smoothing", "whitening", "momentum", "seed"}
LINE = 8  # the words in reach and the negatives of a tile are a multiple of it
UNKNOWN = 0  # the index of `<unk>` in every vocabulary


@dataclass(frozen=True)
class EmbeddingsSettings:
    """All that decides the vectors.

    `loss`: ``negative_sampling``, or ``nce`` for the reference model. `vector_size`: numbers a vector.
    `window`: the largest radius (``nce`` draws it for each centre, ``negative_sampling`` takes whole windows
    and weighs). `negative`: negative examples a pair. `subsample`: the relative frequency above which words
    are thinned out (0: never). `unknown`: whether `<unk>` is trained like a word; if not, it is left out
    before windows are laid. `epochs`: passes over the corpus. `learning_rate`: falls to `final_learning_rate`
    by half a cosine. `smoothing`: the power of the counts that negatives are drawn by. `whitening`: how far
    the directions of the published vectors are evened out, 0 to 1 (`trainers.vectors.whitening`).

    `tokens_per_step`: centres whose gradients are summed before the tables change. `negatives_per_tile`:
    negative words that the centres of one tile (`tile` consecutive ones) share, at least. `block_tokens` and
    `exchange_tokens`: tokens of the corpus a block, and between two exchanges of the workers.

    `candidates`, `batch_pairs`, `momentum`: of the loss ``nce`` alone. `xla`: compile by XLA.

    `judged_pairs`: a file of word pairs that people judged (`trainers.similarity`), with which the vectors
    are compared after each epoch; every worker reads it. "" for none.
    """

    loss: str = "negative_sampling"
    vector_size: int = 100
    window: int = 5
    negative: int = 5
    subsample: float = 1e-3
    unknown: bool = False
    epochs: int = 5
    learning_rate: float = 0.05
    final_learning_rate: float = 0.0001
    smoothing: float = 0.75
    whitening: float = 0.3
    tokens_per_step: int = 512
    tile: int = 16
    negatives_per_tile: int = 28
    block_tokens: int = 32768
    exchange_tokens: int = 1048576
    candidates: int = 100
    batch_pairs: int = 1000
    momentum: float = 0.5
    seed: int = 1
    xla: bool = True
    judged_pairs: str = ""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"Setting 'embeddings.loss' is {self.loss!r}; give one of {', '.join(LOSSES)}.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in AT_LEAST_ONE and value < 1:
                raise UsageError(f"Setting 'embeddings.{field.name}' is {value}; give at least 1.")
            if isinstance(value, int) and value >= 1 << 63:
                raise UsageError(f"Setting 'embeddings.{field.name}' is {value}; give less than 2**63.")
            if field.name in AT_LEAST_ZERO and not 0 <= value < math.inf:
                raise UsageError(f"Setting 'embeddings.{field.name}' is {value}; give at least 0.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(
                f"Setting 'embeddings.learning_rate' is {self.learning_rate}; give a number above 0."
            )
        if self.momentum >= 1:
            raise UsageError(f"Setting 'embeddings.momentum' is {self.momentum}; give less than 1.")
        if self.whitening > 1:
            raise UsageError(f"Setting 'embeddings.whitening' is {self.whitening}; give at most 1.")
        if self.tokens_per_step % self.tile:
            raise UsageError(
                f"Setting 'embeddings.tokens_per_step' is {self.tokens_per_step}; "
                f"give a multiple of tile, which is {self.tile}."
            )

    @property
    def halo(self) -> int:
        """Tokens that a block needs of its neighbours. What is thinned out widens the reach of a window, so
        eight windows are taken then: of 40 tokens of English fewer than 5 stay once in a million times."""
        return self.window if self.unknown and not self.subsample else 8 * self.window

    @property
    def shared_negatives(self) -> int:
        """The negatives that a tile has: `negatives_per_tile`, and as many more as bring them and the words
        in reach to a multiple of LINE."""
        return self.negatives_per_tile + -(self.tile + 2 * self.window + self.negatives_per_tile) % LINE

    @property
    def blocks_per_exchange(self) -> int:
        return max(1, self.exchange_tokens // self.block_tokens)

    def learning_rate_at(self, progress: float) -> float:
        """The rate at `progress` (0 to 1) of the whole training (Loshchilov and Hutter, arXiv:1608.03983)."""
        share = 0.5 + 0.5 * math.cos(math.pi * progress)
        return self.final_learning_rate + share * (self.learning_rate - self.final_learning_rate)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The reference settings of the task: noise-contrastive estimation by momentum SGD at a constant rate.
    "reference": {
        "loss": "nce",
        "vector_size": 200,
        "window": 10,
        "subsample": 0.0,
        "whitening": 0.0,
        "unknown": True,
        "epochs": 1,
        "learning_rate": 0.5,
        "final_learning_rate": 0.5,
        "candidates": 100,
        "batch_pairs": 1000,
        "momentum": 0.5,
    },
    # Sensible neighbours out of some millions of tokens in half a minute on two cores.
    "fast": {"vector_size": 100, "window": 5},
}


def keep_probabilities(counts: npt.ArrayLike, settings: EmbeddingsSettings) -> Floats:
    """float32 [V]: the probability with which each occurrence of a word is kept.

    ``(sqrt(f / t) + 1) * t / f`` for a word of relative frequency f under subsampling t, the form that
    word2vec's program and gensim use. `<unk>` is never kept unless `settings.unknown`.
    """
    weights = np.asarray(counts, np.float64)
    keep = np.ones(len(weights))
    if settings.subsample and weights.sum() > 0:
        total = weights.sum() if settings.unknown else weights[UNKNOWN + 1 :].sum()
        ratio = settings.subsample * max(total, 1.0) / np.maximum(weights, 1.0)
        keep = np.minimum(1.0, np.sqrt(ratio) + ratio)
    if not settings.unknown:
        keep[UNKNOWN] = 0.0
    return keep.astype(np.float32)


def noise(counts: npt.ArrayLike, settings: EmbeddingsSettings) -> Doubles:
    """float64 [V]: the distribution that negatives are drawn from, counts to the power of `smoothing`."""
    given = np.array(counts, np.float64)
    if not settings.unknown:
        given[UNKNOWN] = 0.0
    with np.errstate(over="ignore"):
        weights = given**settings.smoothing
        if not np.isfinite(weights.sum()):  # a high power: as shares of the largest nothing overflows
            weights = (given / given.max()) ** settings.smoothing
    if not settings.unknown:
        weights[UNKNOWN] = 0.0  # the power 0 made 1 of it
    if not weights.sum() > 0:
        raise UsageError("The vocabulary holds no word besides <unk>; lower vocabulary.min_count.")
    return np.asarray(weights / weights.sum())


class Sampler:
    """Draws ids from any distribution, exactly and in constant time a draw (Walker's alias method)."""

    def __init__(self, distribution: Doubles) -> None:
        size = len(distribution)
        scaled = distribution * size / distribution.sum()
        self._accept = np.ones(size, np.float32)
        self._alias = np.arange(size, dtype=np.int32)
        rest = scaled.tolist()
        small = np.flatnonzero(scaled < 1.0).tolist()
        large = np.flatnonzero(scaled >= 1.0).tolist()
        while small and large:
            low, high = small.pop(), large[-1]
            self._accept[low] = rest[low]
            self._alias[low] = high
            rest[high] -= 1.0 - rest[low]
            if rest[high] < 1.0:
                small.append(large.pop())
        # What rounding left over: a word of probability 0 must not come out of it.
        for left in small:
            if distribution[left] == 0.0:
                self._accept[left], self._alias[left] = 0.0, int(np.argmax(distribution))

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Ids:
        """int32 ids of the given shape."""
        column = random.integers(0, len(self._alias), shape, np.int32)
        accepted = random.random(shape, np.float32) < self._accept[column]
        return np.where(accepted, column, self._alias[column])


@dataclass(frozen=True, slots=True)
class Centres:
    """What stays of a block: ``values[start:stop]`` are the centres; centre c is paired with the
    `left[c]` values before it and the `right[c]` values after it (int32 [stop - start])."""

    values: Ids
    start: int
    stop: int
    left: Ids
    right: Ids

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def pairs(self) -> int:
        return int(self.left.sum(dtype=np.int64) + self.right.sum(dtype=np.int64))

    def expected_pairs(self, window: int) -> float:
        """How many there would be, in expectation, had the radius of each of these centres been drawn."""
        return float(sum(expected(each.astype(np.float64), window).sum() for each in (self.left, self.right)))


def chances(window: int) -> Floats:
    """float32 [window]: with which probability a context is within its centre's radius, 1, 2, ... away."""
    return (np.arange(window, 0, -1) / window).astype(np.float32)


def expected(reach: Any, window: int) -> Any:
    """The sum of the `chances` of what is up to `reach` (floats, at most `window`) away; array or tensor."""
    return reach * (2 * window + 1 - reach) / (2 * window)


def draw(
    block: Block, keep: Floats, window: int, random: np.random.Generator, whole: bool = False
) -> Centres:
    """Thins a block out by the probabilities `keep` (float32 [V]) and draws the radius of each centre; with
    `whole` each has the whole window."""
    values, page, start, stop = block.values, block.page, block.start, block.stop
    kept = random.random(len(values), np.float32) < keep[values]
    start, stop = int(np.count_nonzero(kept[:start])), int(np.count_nonzero(kept[:stop]))
    values, page = values[kept], page[kept]
    radius = random.integers(window if whole else 1, window + 1, stop - start, np.int32)
    if not len(values):
        return Centres(values, 0, 0, radius, radius)
    place = np.arange(len(values), dtype=np.int32)
    edges = np.flatnonzero(page[1:] != page[:-1]) + 1
    lengths = np.diff(edges, prepend=0, append=len(values))
    first = np.repeat(np.concatenate([[0], edges]), lengths).astype(np.int32)[start:stop]
    last = np.repeat(np.concatenate([edges, [len(values)]]) - 1, lengths).astype(np.int32)[start:stop]
    centres = place[start:stop]
    return Centres(
        values, start, stop, np.minimum(radius, centres - first), np.minimum(radius, last - centres)
    )


@dataclass(frozen=True, slots=True)
class Steps:
    """A block cut into steps for the loss ``negative_sampling``.

    A step takes tiles of consecutive centres from as many places of the block, so that one page does not fill
    it. `values` int32 [steps, tiles, tile + 2 window] are the tiles with the words around them, `left` and
    `right` int8 or int16 [steps, tiles, tile] the reach of each centre (0 where a tile is not full),
    `negatives` int32 [steps, tiles, K].
    """

    values: Ids
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    negatives: Ids


def steps(
    drawn: Centres, settings: EmbeddingsSettings, sampler: Sampler, random: np.random.Generator
) -> Steps:
    """Cuts `drawn` into steps of `settings.tokens_per_step` centres and draws the negatives."""
    window, tile = settings.window, settings.tile
    tiles = settings.tokens_per_step // tile
    count = -(-len(drawn) // settings.tokens_per_step)
    # Tile t of step s begins at centre (t * count + s) * tile: each walks through its own part of the block.
    number = np.arange(tiles, dtype=np.int32)[None, :] * count + np.arange(count, dtype=np.int32)[:, None]
    places = number[:, :, None] * tile + np.arange(-window, tile + window, dtype=np.int32) + drawn.start
    full = count * settings.tokens_per_step
    reach = np.int8 if window < 128 else np.int16
    left, right = np.zeros(full, reach), np.zeros(full, reach)
    left[: len(drawn)], right[: len(drawn)] = drawn.left, drawn.right
    in_tiles = (tiles, count, tile)
    return Steps(
        drawn.values[np.clip(places, 0, max(len(drawn.values) - 1, 0))],
        left.reshape(in_tiles).swapaxes(0, 1),
        right.reshape(in_tiles).swapaxes(0, 1),
        sampler.draw(random, (count, tiles, settings.shared_negatives)),
    )


def pairs(drawn: Centres) -> tuple[Ids, Ids]:
    """All (centre, context) ids of `drawn`, int32 [pairs] each: by centre, contexts from left to right."""
    reach = drawn.left + drawn.right
    centres = np.repeat(np.arange(len(drawn), dtype=np.int64), reach)
    # The contexts of a centre are counted 0, 1, ...; from `left` on they lie behind the centre.
    rank = np.arange(len(centres)) - np.repeat(np.cumsum(reach) - reach, reach)
    offset = rank - drawn.left[centres]
    offset += offset >= 0
    centres += drawn.start
    return drawn.values[centres], drawn.values[centres + offset]


def held_out_pairs(
    pages: Iterator[Ids],
    keep: Floats,
    window: int,
    negative: int,
    sampler: Sampler,
    limit: int,
    seed: int,
) -> tuple[Ids, Ids, Ids]:
    """A fixed sample for evaluation: centres [n], contexts [n] and negatives [n, negative], n <= `limit`.

    The same for the same pages and settings, whatever was trained and however far.
    """
    random = np.random.default_rng([seed, 2])
    found: list[tuple[Ids, Ids]] = []
    total = 0
    for number, page in enumerate(pages):
        block = Block(number, 0, page, np.zeros(len(page), np.int32), 0, len(page))
        found.append(pairs(draw(block, keep, window, random)))
        total += len(found[-1][0])
        if total >= limit:
            break
    none = np.empty(0, np.int32)
    centres = np.concatenate([none, *(each[0] for each in found)])[:limit]
    contexts = np.concatenate([none, *(each[1] for each in found)])[:limit]
    return centres, contexts, sampler.draw(random, (len(centres), negative))
