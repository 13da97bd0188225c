"""The settings of the character language model: section ``language_model`` and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cluster.errors import UsageError
from cluster.settings import refuse_below

SECTION = "language_model"
KIND = "language-model"  # of the artefact


@dataclass(frozen=True)
class LanguageModelSettings:
    """What decides the model. The defaults are those of the preset ``fast``.

    Network: `cell` (gru, lstm, rnn), `reset` (GRU: before or after the product), `peepholes` (LSTM),
    `layers`, `units` a layer, `gate_bias` (where the biases of the gates begin; unset: 1 for the LSTM's
    forget gate, 0 for the GRU's gates), `input_deviation` (the standard deviation with which the first
    layer's rows begin, one for each character; unset: Glorot's). Large rows learn faster at first, for a row
    is the whole input of a step; small ones end lower after very many characters.

    Text: `alphabet` is ``derived`` (the `alphabet_size` commonest characters of the training text) or
    ``reference`` (83 characters). `carry` is ``streams`` (each row of a batch is one run of text; the
    recurrent state goes from window to window, gradients end at the window's edge) or ``windows`` (windows
    start every `stride` characters of a page, in one pass over the corpus or, where they overlap, in the
    next, with an empty state; their first character is not predicted, but for a page's). A window has `steps`
    characters, a batch `batch` rows, a block `windows` batches; in streams a row is read over the `windows`
    windows of its block.

    Training: Adam at `learning_rate`, `schedule` ``constant`` or ``linear`` (falling to a twentieth of it),
    gradients clipped at `clip` by ``value``, ``norm`` (of each array) or ``global_norm``. `epochs` epochs of
    `epoch_batches` full batches each (0: a pass over the corpus); `patience` epochs without a better held-out
    loss end it (0: never).

    Workers share each batch; a checkpoint may lie after every `exchange_blocks` blocks.
    `held_out_characters` bounds what an evaluation reads (0: all of the held-out pages). After each epoch a
    sample of `sample_length` characters is made and kept in the history (0: none).
    """

    cell: str = "gru"
    reset: str = "after"
    peepholes: bool = False
    layers: int = 1
    units: int = 200
    gate_bias: float | None = None
    input_deviation: float | None = 1.0
    alphabet: str = "derived"
    alphabet_size: int = 200
    carry: str = "streams"
    batch: int = 16
    steps: int = 32
    stride: int = 25
    windows: int = 16
    learning_rate: float = 0.01
    schedule: str = "linear"
    clip: float = 1.0
    clip_by: str = "global_norm"
    epochs: int = 4
    epoch_batches: int = 800
    patience: int = 0
    exchange_blocks: int = 4
    held_out_characters: int = 60_000
    sample_length: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "cell": ("gru", "lstm", "rnn"),
            "reset": ("before", "after"),
            "alphabet": ("derived", "reference"),
            "carry": ("streams", "windows"),
            "schedule": ("constant", "linear"),
            "clip_by": ("value", "norm", "global_norm"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise _refused(name, getattr(self, name), f"choose {' or '.join(known)}")
        least = {
            "layers": 1,
            "units": 1,
            "alphabet_size": 1,
            "batch": 1,
            "steps": 2,
            "stride": 1,
            "windows": 1,
            "epochs": 1,
            "epoch_batches": 0,
            "patience": 0,
            "exchange_blocks": 1,
            "held_out_characters": 0,
            "sample_length": 0,
            "seed": 0,
        }
        refuse_below(self, least, SECTION)
        for name in ("learning_rate", "clip", "input_deviation"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise _refused(name, value, "give a number above 0")
        if self.gate_bias is not None and not math.isfinite(self.gate_bias):
            raise _refused("gate_bias", self.gate_bias, "give a finite number")
        if self.peepholes and self.cell != "lstm":
            raise _refused("peepholes", self.peepholes, f"a {self.cell} has none, an lstm has")

    @property
    def block_size(self) -> int:
        """Characters of a block of the stream: what `windows` batches take."""
        return self.windows * self.batch_size

    @property
    def batch_size(self) -> int:
        """Characters of the text that a batch takes; those of other passes lie between windows."""
        return self.batch * (self.steps if self.carry == "streams" else self.passes * self.stride)

    @property
    def passes(self) -> int:
        """Passes over the corpus that take all windows, for those of one pass do not overlap."""
        return max(1, self.steps // self.stride)

    @property
    def halo(self) -> int:
        """Characters beside a block that its batches also see: the one before, or a window's overhang."""
        return 1 if self.carry == "streams" else self.steps - 1


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    # TASKS.md, section 5, with the GRU of that time, which resets before the product. The section names no
    # gate biases: from 0 and with windows shuffled over 50 batches the first 2M characters lead to 2.17 bits,
    # from 1 and over 10 batches to 2.27. Nor the characters' rows: 4.9M lead to 1.630 with those of deviation
    # 1, to 1.694 with Glorot's (windows shuffled over the whole text).
    "reference": {
        "cell": "gru",
        "reset": "before",
        "layers": 2,
        "units": 200,
        "alphabet": "reference",
        "carry": "windows",
        "batch": 100,
        "steps": 50,
        "stride": 25,
        "windows": 50,
        "learning_rate": 0.002,
        "schedule": "constant",
        "clip": 5.0,
        "clip_by": "value",
        "epochs": 20,
        "epoch_batches": 200,
        "exchange_blocks": 2,
        "held_out_characters": 0,
    },
    # For some 13M characters, read three times: 1.289 bits after 82 minutes of CPU on one thread.
    "best": {
        "cell": "gru",
        "layers": 2,
        "units": 448,
        "input_deviation": None,  # after 12.6M characters 1.435 bits, 1.497 from a deviation of 1
        "batch": 32,
        "steps": 64,
        "windows": 32,
        "learning_rate": 0.003,
        "schedule": "linear",
        "clip": 1.0,
        "epochs": 3,
        "epoch_batches": 0,
        "exchange_blocks": 2,
        "held_out_characters": 0,
    },
}


def _refused(name: str, value: object, mend: str) -> UsageError:
    return UsageError(f"Setting '{SECTION}.{name}' is {value!r}; {mend}.")
