"""What the language model answers: generated text, whole or as it is made, and scores of texts."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FIRST_CHUNK = 1  # characters in a stream's first piece, so that it comes at once; the next ones double
LAST_CHUNK = 64  # and grow to this: a call of the compiled loop costs more than 64 of its steps
SEEDS = 1 << 53  # random seeds lie below this: JSON's numbers are exact up to here
EXAMPLE = "The "


class LanguageModel(Protocol):
    """What is needed of a language model; see trainers.generation.CharacterModel."""

    alphabet: Any

    def start(self, seed_text: str = "", *, seed: int | None = None, count: int = 1) -> Any:
        """The carry of `count` sequences that begin with `seed_text`."""

    def step(
        self, carry: Any, n: int, *, temperature: float = 0.7, top_k: int = 0, top_p: float = 1.0
    ) -> tuple[list[str], Any]:
        """The next `n` characters of every sequence, and the carry after them."""

    def score(self, text: str) -> Any:
        """The log-probabilities of a text's characters."""


@dataclass(frozen=True)
class Sampling:
    """What is wanted of a text: `length` characters after `seed_text` (empty: a document's beginning).

    `temperature` 0 takes the likeliest character each time; `top_k` 0 and `top_p` 1 keep all. The same
    `seed` gives the same text, whole or in pieces; one is drawn unless given.
    """

    seed_text: str = ""
    length: int = 200
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    seed: int = field(default_factory=lambda: secrets.randbelow(SEEDS))


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


class Text:
    """The answers that come from a language model."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    @classmethod
    def open(cls, location: str) -> Text:
        """Opens the model in an artefact's folder and compiles its loops. Raises WordloomError."""
        from trainers.generation import (
            CharacterModel,
        )  # imports TensorFlow: replicas of other kinds do without

        text = cls(CharacterModel.open(location))
        text.warm()
        return text

    def warm(self) -> None:
        """Compiles what requests will run, so that the first one does not wait for it."""
        self.generate(Sampling(length=1, seed=0))
        self.generate(Sampling(length=1, seed=0, top_k=2))
        self.score(" ")

    def generate(self, sampling: Sampling) -> str:
        """The text that continues the seed text, which is not repeated."""
        return "".join(self.stream(sampling, first=sampling.length))

    def stream(self, sampling: Sampling, first: int = FIRST_CHUNK) -> Iterator[str]:
        """The same text in pieces, as it is made; the first has `first` characters, the next ones more."""
        carry = self.model.start(sampling.seed_text, seed=sampling.seed)
        left, chunk = sampling.length, first
        while left > 0:
            size = min(chunk, left)
            pieces, carry = self.model.step(
                carry,
                size,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
            )
            yield pieces[0]
            left -= size
            chunk = min(2 * chunk, LAST_CHUNK)

    def score(self, text: str) -> Scored:
        """How many bits each character costs, read from a document's beginning."""
        logs = self.model.score(text).log_probabilities
        return Scored(bits=np.maximum(-logs / math.log(2), 0), unknown=self.model.alphabet.unknown(text))

    def example(self) -> str:
        """A seed text of characters that the model knows."""
        return EXAMPLE if not self.model.alphabet.unknown(EXAMPLE) else ""
