"""What the language model answers: generated text, whole or as it is made, and scores of texts.

All texts that are being made at the same time go on together: each call of the compiled loop advances every
one of them, so 32 streams cost little more than one and none waits for another to end.
"""

from __future__ import annotations

import asyncio
import functools
import math
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.batching import Batcher
from serving.stops import Stops

FIRST_CHUNK = 1  # characters in a stream's first piece, so that it comes at once; the next ones double
LAST_CHUNK = 64  # and grow to this: a call of the compiled loop costs more than 64 of its steps
WHOLE_CHUNK = 128  # characters a call where nobody reads along; who comes meanwhile waits that long
# Numbers of sequences that the loops are compiled for: each costs half a second at the start. A step of 8
# costs little more than a step of 1, for both wait for the memory that holds the weights.
LANES = (1, 8, 32)
SEEDS = 1 << 53  # random seeds lie below this: JSON's numbers are exact up to here
EXAMPLE = "The "


class LanguageModel(Protocol):
    """What is needed of a language model; see trainers.generation.CharacterModel."""

    alphabet: Any

    def start(self, seed_text: str = "", *, seed: int | None = None) -> Any:
        """The carry of a sequence that begins with `seed_text`."""

    def step_together(
        self, carries: Sequence[Any], n: int, draws: Sequence[Any], lanes: int | None = None
    ) -> tuple[list[str], list[Any]]:
        """The next `n` characters of every sequence, and the carries after them."""

    def scores(self, texts: Sequence[str]) -> list[Any]:
        """The log-probabilities of the characters of each text."""

    def following(self, text: str) -> npt.NDArray[np.float32]:
        """The probability of each character of the alphabet behind a text, the unknown one first."""

    def carry(self, data: bytes) -> Any:
        """The carry that a carry's `to_bytes` wrote."""


@dataclass(frozen=True)
class Sampling:
    """What is wanted of a text: `length` characters after `seed_text` (empty: a document's beginning).

    `temperature` 0 takes the likeliest character each time; `top_k` 0 and `top_p` 1 keep all. The same
    `seed` gives the same text, whole or in pieces; one is drawn unless given. The text ends before the first
    of the strings in `stop`. With a `carry` it goes on from there, and seed text and seed are not used.
    """

    seed_text: str = ""
    length: int = 200
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    seed: int = field(default_factory=lambda: secrets.randbelow(SEEDS))
    stop: tuple[str, ...] = ()
    carry: Any = None


class Making:
    """A text as it is made, piece by piece (``async for``); then `finish` (``length`` or ``stop``) says why
    it ended, and `carry` stands behind all that was read: after a stop string, which is not in the text."""

    def __init__(self, text: Text, sampling: Sampling, first: int, chunk: int) -> None:
        self._text = text
        self._sampling = sampling
        self._first = first
        self._chunk = chunk
        self.finish = "length"
        self.carry: Any = None

    async def __aiter__(self) -> AsyncIterator[str]:
        wanted, stops = self._sampling, Stops(self._sampling.stop)
        carry = wanted.carry if wanted.carry is not None else await self._text.start(wanted)
        left, chunk = wanted.length, self._first
        while left > 0:
            before = carry
            piece, carry = await self._text.advance(before, min(chunk, left), wanted)
            left -= len(piece)
            chunk = min(2 * chunk, self._chunk)
            shown, cut = stops.feed(piece)
            if cut is not None:
                self.finish = "stop"
                # The loop ran past the stop string: once more to it, which gives the same characters.
                if cut < len(piece):
                    _, carry = await self._text.advance(before, cut, wanted, exactly=True)
                left = 0
            if shown:
                yield shown
        self.carry = carry
        if self.finish == "length" and (rest := stops.rest()):
            yield rest


@dataclass(frozen=True)
class Scored:
    """A text's score: bits of each character, float32 [n]; `unknown` counts those outside the alphabet."""

    bits: npt.NDArray[np.float32]
    unknown: Mapping[str, int]

    @property
    def log_probability(self) -> float:
        """Of the whole text, in nats."""
        return -float(self.bits.sum(dtype=np.float64)) * math.log(2)

    @property
    def bits_per_character(self) -> float:
        """The mean over characters; 0 for an empty text."""
        return float(self.bits.mean(dtype=np.float64)) if len(self.bits) else 0.0

    @property
    def perplexity(self) -> float | None:
        """Two to the power of the bits a character; None where that is beyond a float."""
        bits = self.bits_per_character
        return 2.0**bits if bits < 1000 else None


@dataclass(frozen=True)
class Following:
    """A character that may come next, and its probability before any temperature."""

    character: str
    probability: float


class Text:
    """The answers that come from a language model; safe from any number of threads."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._lanes: Batcher[tuple[Any, int, Sampling], tuple[str, Any]] = Batcher(
            "generate", self._together, LANES[-1]
        )
        self._scores: Batcher[str, Any] = Batcher("score", self._scored, LANES[-1])

    @classmethod
    def open(cls, location: str) -> Text:
        """Opens the model in an artefact's folder and compiles its loops. Raises WordloomError."""
        # Imports TensorFlow: replicas of other kinds do without.
        from trainers.generation import CharacterModel

        text = cls(CharacterModel.open(location))
        text.warm()
        return text

    def warm(self) -> None:
        """Compiles what requests will run, so that the first one does not wait for it."""
        carry = self.model.start("", seed=0)
        for lanes in LANES:
            for wanted in (Sampling(seed=0), Sampling(seed=0, top_k=2)):
                self.model.step_together([carry], 1, [_Draw.of(wanted)], lanes)
            self._scored([" "] * lanes)
        self.model.following("")

    async def generate(self, sampling: Sampling) -> tuple[str, Making]:
        """The text that continues the seed text, which is not repeated, and how it ended."""
        making = Making(self, sampling, WHOLE_CHUNK, WHOLE_CHUNK)
        return "".join([piece async for piece in making]), making

    def stream(self, sampling: Sampling, first: int = FIRST_CHUNK) -> Making:
        """The same text in pieces, as it is made; the first has `first` characters, the next ones more."""
        return Making(self, sampling, first, LAST_CHUNK)

    async def start(self, wanted: Sampling) -> Any:
        """The carry behind the seed text."""
        start = functools.partial(self.model.start, wanted.seed_text, seed=wanted.seed)
        # A seed text is read by the model, which would hold the loop up.
        return await asyncio.to_thread(start) if wanted.seed_text else start()

    async def advance(
        self, carry: Any, n: int, wanted: Sampling, *, exactly: bool = False
    ) -> tuple[str, Any]:
        """At least one and at most `n` further characters, together with all texts that are in the making."""
        ((piece, carry),) = await self._lanes.soon([(carry, n, wanted)])
        while exactly and len(piece) < n:
            ((more, carry),) = await self._lanes.soon([(carry, n - len(piece), wanted)])
            piece += more
        return piece, carry

    def score(self, text: str) -> Scored:
        """How many bits each character costs, read from a document's beginning."""
        logs = self._scores(text).log_probabilities
        return Scored(bits=np.maximum(-logs / math.log(2), 0), unknown=self.model.alphabet.unknown(text))

    def following(self, text: str, count: int = 5) -> list[Following]:
        """The `count` likeliest characters behind a text, read from a document's beginning, the likeliest
        first. The unknown character is left out: it is never written."""
        found = self.model.following(text)[1:]
        best = np.argsort(-found, kind="stable")[:count]
        return [Following(self.model.alphabet.characters[each], float(found[each])) for each in best]

    def example(self) -> str:
        """A seed text of characters that the model knows."""
        return EXAMPLE if not self.model.alphabet.unknown(EXAMPLE) else ""

    def _together(self, asked: list[tuple[Any, int, Sampling]]) -> list[tuple[str, Any]]:
        """One round for all: as many characters as the one that wants fewest."""
        n = min(n for _, n, _ in asked)
        found: dict[int, tuple[str, Any]] = {}
        # Two groups, for which loop a text runs in must not depend on those beside it.
        for kept in (False, True):
            rows = [row for row, (_, _, wanted) in enumerate(asked) if self._keeps(wanted) is kept]
            if rows:
                pieces, carries = self.model.step_together(
                    [asked[row][0] for row in rows],
                    n,
                    [_Draw.of(asked[row][2]) for row in rows],
                    _bucket(len(rows)),
                )
                found |= zip(rows, zip(pieces, carries, strict=True), strict=True)
        return [found[row] for row in range(len(asked))]

    def _keeps(self, wanted: Sampling) -> bool:
        """Whether only some characters may be drawn, which is another loop."""
        return 0 < wanted.top_k < self.model.alphabet.size - 1 or wanted.top_p < 1

    def _scored(self, texts: list[str]) -> list[Any]:
        padding = [""] * (_bucket(len(texts)) - len(texts))
        return list(self.model.scores(texts + padding)[: len(texts)])


@dataclass(frozen=True)
class _Draw:
    """How a character is drawn, as the model reads it (trainers.sampling.Draw, without TensorFlow)."""

    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def of(cls, sampling: Sampling) -> _Draw:
        return cls(sampling.temperature, sampling.top_k, sampling.top_p)


def _bucket(count: int) -> int:
    return next(lanes for lanes in LANES if lanes >= count)
