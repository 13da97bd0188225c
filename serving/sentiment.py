"""What the classifier of texts answers: a label with its probabilities, and how the reading came to it.

Texts that wait at the same time are read together, in shapes that are compiled when the model is opened:
words are padded to one of `STEPS`, texts to one of `LANES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.batching import Batcher

# Words that a call has room for. Each shape costs half a second at the start.
STEPS = (64, 128, 256, 512, 1024)
# Texts of a call: 16 of them cost as little a text as 32 do (GRU of 300 over 128 words: 1.46 ms; one: 3.6).
LANES = (1, 4, 16)
PLACES = 4096  # steps times lanes at most: 16 texts of 256 words, 4 of 1,024
MOST_WORDS = STEPS[-1]
MOST_AT_ONCE = 1 << 14  # characters that are cut in the loop: some 1 ms where all words are new
EXAMPLE = "A wonderful film. Nobody could claim that the plot was dull."


class Classifier(Protocol):
    """What is needed of a classifier; see trainers.sentiment_model.SentimentModel."""

    labels: list[str]
    synthetic: bool

    def rows(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Each text's words as rows of the vectors."""

    def spans(self, text: str) -> npt.NDArray[np.int64]:
        """Where a text's words stand in it."""

    def read_padded(
        self, texts: Sequence[npt.NDArray[np.int32]], steps: int, lanes: int, unfold: Sequence[int] = ()
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """The probabilities of the labels, and for some texts the log-odds after each word."""


@dataclass(frozen=True)
class Step:
    """A word as it was read: where it stands in the text (the first character and the one behind the last),
    and the `probabilities` of all labels after it, float32 [labels]."""

    start: int
    end: int
    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """What a text was read as: the `probabilities` of all labels, float32 [labels]; `words` were read, `cut`
    were left out at the text's beginning; `steps` where they were asked for."""

    probabilities: npt.NDArray[np.float32]
    words: int
    cut: int
    steps: list[Step] | None


@dataclass(frozen=True)
class _Asked:
    text: str
    rows: npt.NDArray[np.int32]
    trajectory: bool


class Sentiment:
    """The answers that come from a classifier of texts; safe from any number of threads."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self._batch: Batcher[_Asked, Reading] = Batcher("sentiment", self._together, LANES[-1])

    @classmethod
    def open(cls, location: str) -> Sentiment:
        """Opens the model in an artefact's folder and compiles its shapes. Raises WordloomError."""
        # Imports TensorFlow: replicas of other kinds do without.
        from trainers.sentiment_model import SentimentModel

        sentiment = cls(SentimentModel.open(location))
        sentiment.warm()
        return sentiment

    def warm(self) -> None:
        """Compiles what requests will run, so that the first one does not wait for it."""
        self.model.rows([EXAMPLE, "é"])  # a letter beyond ASCII has tables of its own made
        word = np.zeros(1, np.int32)
        for steps in STEPS:
            for lanes in LANES:
                if steps * lanes <= PLACES:
                    self.model.read_padded([word], steps, lanes, unfold=[0])

    def read(self, texts: Sequence[str], trajectory: bool = False) -> list[Reading]:
        """What each text is read as. Of one with more than MOST_WORDS words the last ones are read: reviews
        come to their point at the end, and the models are trained on it."""
        return self._batch.together(self._asked(texts, trajectory))

    async def judge(self, texts: Sequence[str], trajectory: bool = False) -> list[Reading]:
        """`read` for a coroutine, which it does not hold up."""
        # The loop cuts texts into words while the model reads others; in the model's thread, cutting 16 texts
        # waited 2.4 ms for the loop to let go of the interpreter (of 16 ms a call).
        if sum(map(len, texts)) <= MOST_AT_ONCE:
            asked = self._asked(texts, trajectory)
        else:
            asked = await asyncio.to_thread(self._asked, texts, trajectory)
        return await self._batch.soon(asked)

    def _asked(self, texts: Sequence[str], trajectory: bool) -> list[_Asked]:
        rows = self.model.rows(texts)
        return [_Asked(text, words, trajectory) for text, words in zip(texts, rows, strict=True)]

    def _together(self, asked: list[_Asked]) -> list[Reading]:
        """One call of the model for all texts that are padded to the same number of words."""
        rows = [each.rows for each in asked]
        found: dict[int, Reading] = {}
        for steps, numbers in _groups([min(len(each), MOST_WORDS) for each in rows]):
            unfold = [place for place, number in enumerate(numbers) if asked[number].trajectory]
            lanes = next(lanes for lanes in LANES if lanes >= len(numbers))
            probabilities, log_odds = self.model.read_padded(
                [rows[number][-MOST_WORDS:] for number in numbers], steps, lanes, unfold
            )
            unfolded = dict(zip(unfold, log_odds, strict=True))
            for place, number in enumerate(numbers):
                after = None
                if place in unfolded:
                    spans = self.model.spans(asked[number].text)[-MOST_WORDS:]
                    after = _steps(spans, unfolded[place])
                words = min(len(rows[number]), MOST_WORDS)
                found[number] = Reading(probabilities[place], words, len(rows[number]) - words, after)
        return [found[number] for number in range(len(asked))]


def _groups(lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Which texts are read by one call, and for how many words."""
    for least, steps in zip((-1, *STEPS), STEPS, strict=False):
        numbers = [number for number, length in enumerate(lengths) if least < length <= steps]
        most = PLACES // steps
        for first in range(0, len(numbers), most):
            yield steps, numbers[first : first + most]


def _steps(spans: npt.NDArray[np.int64], log_odds: npt.NDArray[np.float32]) -> list[Step]:
    with np.errstate(over="ignore"):  # beyond a float the probability is 0
        after = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
    return [
        Step(int(start), int(end), each.astype(np.float32))
        for (start, end), each in zip(spans, after, strict=True)
    ]
