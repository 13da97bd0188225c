"""The settings of the labeller and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cluster.errors import UsageError
from trainers.sequence_settings import LETTERS_REFERENCE, SequenceSettings

KIND = "labelling"
SPLITS = ("random66", "by-word", "by-fold", "given")  # see trainers/word_splits.py


@dataclass(frozen=True)
class LabellingSettings(SequenceSettings):
    """What decides a labeller: those of `SequenceSettings`, and

    - `split` (see `trainers.word_splits`) and `fold` of it; `validation`: the share of the training part (of
      its distinct words, where the split is by word) that is held out to stop and to choose by;
    - `channels` of a convolutional front end (0: none) and its `features`, or those of a token's embedding;
    - regularisation: `dropout` of features and of the context; `context_dropout`: the share of sequences
      whose context is hidden, so that each letter must be read by itself; `recombined`: the share of
      sequences put together of pieces of others, of `piece` letters on average; `shift`, `shear`, `scale`
      and `noise` of the images (see `trainers.distortion`). Drawn anew each time, in training only.
    """

    split: str = "random66"
    fold: int = 0
    validation: float = 0.1
    channels: int = 0
    features: int = 128
    dropout: float = 0.0
    context_dropout: float = 0.0
    recombined: float = 0.0
    piece: float = 2.0
    shift: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in SPLITS:
            raise UsageError(f"Setting 'split' is {self.split!r}; choose {', '.join(SPLITS)}.")
        for name in ("validation", "dropout", "context_dropout", "recombined", "noise"):
            if not 0 <= getattr(self, name) < 1 and not (name == "recombined" and self.recombined == 1):
                raise UsageError(
                    f"Setting {name!r} is {getattr(self, name)}; give a share from 0 to below 1."
                )
        for name in ("shift", "shear", "scale", "channels", "fold"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"Setting {name!r} is {getattr(self, name)}; give 0 or more.")
        if self.fold and self.split in ("random66", "given"):
            raise UsageError(
                f"Setting 'fold' is {self.fold}, and the split {self.split!r} has no folds; "
                "leave it out, or choose by-word or by-fold."
            )
        if self.patience and not self.validation:
            raise UsageError("Setting 'patience' needs something held out; set 'validation' above 0.")
        if self.features < 1 or not 1 <= self.piece < math.inf:
            raise UsageError(
                f"Settings 'features' and 'piece' are {self.features} and {self.piece}; "
                "give finite numbers of at least 1."
            )


BEST: dict[str, Any] = {
    "cell": "gru",
    "layers": 2,
    "units": 96,
    "both": True,
    "optimiser": "adam",
    "learning_rate": 0.003,
    "schedule": "linear",
    "clip_by": "global_norm",
    "batch": 32,
    "epochs": 24,
    "pool": 10,
    "validation": 0.0,
    "average": 0.99,
    "channels": 16,
    "features": 128,
    "dropout": 0.2,
    "shift": 1.0,
    "shear": 0.1,
    "scale": 0.12,
    "noise": 0.01,
}
# What a word's other letters say is right where the words are known, and misleads where they are new: there
# it is hidden from most of the words, most words are put together anew, and the letters' shapes get twice the
# channels. 6.9 % of the letters wrong; 8.1 with half of the words and the channels of "best".
NEW_WORDS: dict[str, Any] = {
    "context_dropout": 0.7,
    "channels": 32,
    "recombined": 0.7,
    "piece": 2.0,
    "dropout": 0.3,
    "shear": 0.2,
}
# PRESET-SPLIT is what a preset is for that split.
# "reference" ends after its last epoch and holds nothing out; "fast" is what `wordloom run` takes.
PRESETS: dict[str, dict[str, Any]] = {
    "reference": {**LETTERS_REFERENCE, "validation": 0.0},
    "best": BEST,
    "best-by-word": {**BEST, **NEW_WORDS},
    "fast": {
        **BEST,
        "layers": 1,
        "units": 64,
        "epochs": 20,
        "channels": 8,
        "features": 64,
        "validation": 0.1,
        "patience": 2,
    },
}
