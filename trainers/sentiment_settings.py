"""The settings of the classifier of reviews: section ``sentiment`` and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.errors import UsageError
from trainers.sequence_settings import SENTIMENT_REFERENCE, SequenceSettings

SECTION = "sentiment"
KIND = "sentiment"  # of the artefact
READINGS = ("last", "pooled")
KEEPS = ("beginning", "end")


@dataclass(frozen=True)
class SentimentSettings(SequenceSettings):
    """What decides a model of reviews beside `SequenceSettings`.

    Words: the `vocabulary` commonest (with ``<unk>``) of the reviews outside of the test split that occur
    `min_count` times and have a given vector; without vectors, new ones of `vector_size` numbers. `features`
    more numbers a word are learned from the labels, to which those of the pair of words (this one and the one
    before it) are added where `pairs` buckets for their hashes are given (0: none).

    Reading: the softmax reads the ``last`` state, or ``pooled``: the largest and the mean activation over all
    real words. Training reads at most `longest` words of a review (0: all), its `keep` (``beginning`` or
    ``end``); prediction reads all of it.

    Against overfitting: `word_dropout` is the share of words that are not read, `input_dropout` of the
    numbers of a review's words (the same ones throughout it), `dropout` of what the softmax reads.
    `validation` is the share of the training reviews that are held out. `mistakes`: how many of the worst are
    reported.
    """

    units: int = 32
    both: bool = True
    fine_tune: bool = True
    vocabulary: int = 30_000
    min_count: int = 2
    vector_size: int = 64
    features: int = 0
    pairs: int = 0
    reading: str = "pooled"
    longest: int = 400
    keep: str = "end"
    word_dropout: float = 0.0
    input_dropout: float = 0.0
    dropout: float = 0.0
    validation: float = 0.1
    optimiser: str = "adam"
    batch: int = 32
    clip: float = 1.0
    clip_by: str = "global_norm"
    patience: int = 2
    mistakes: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in {"reading": READINGS, "keep": KEEPS}.items():
            if getattr(self, name) not in known:
                raise _refused(name, getattr(self, name), f"choose {' or '.join(known)}")
        least = {"vocabulary": 2, "min_count": 1, "vector_size": 1, "features": 0, "pairs": 0, "longest": 0}
        for name, lowest in {**least, "mistakes": 0}.items():
            if getattr(self, name) < lowest:
                raise _refused(name, getattr(self, name), f"give at least {lowest}")
        for name in ("word_dropout", "input_dropout", "dropout", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise _refused(name, getattr(self, name), "give a share from 0 to below 1")
        if self.pairs and not self.features:
            raise _refused("pairs", self.pairs, f"set {SECTION}.features too, the numbers that a pair has")


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    # TASKS.md, section 3: one direction, the last state, whole reviews, our vectors as they are.
    "reference": {
        **SENTIMENT_REFERENCE,
        "both": False,
        "fine_tune": False,
        "optimiser": "rmsprop",
        "clip": 5.0,
        "clip_by": "value",
        "reading": "last",
        "longest": 0,
        "patience": 0,
    },
}


def _refused(name: str, value: object, mend: str) -> UsageError:
    return UsageError(f"Setting '{SECTION}.{name}' is {value!r}; {mend}.")
