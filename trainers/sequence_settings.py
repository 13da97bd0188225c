"""The settings of the two trainers on labelled sequences and their presets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cluster.errors import UsageError
from cluster.settings import refuse_below


@dataclass(frozen=True)
class SequenceSettings:
    """What decides a sequence model; the defaults are those of TASKS.md's references, the GRU's form aside.

    Network: `cell`, `reset`, `layers`, `units` a layer, `both` (directions), `gate_bias`. Training: RMSProp
    (or `optimiser` ``adam``) at `learning_rate`, which stays (`schedule` ``constant``) or falls to a
    twentieth of itself (``linear``), gradients clipped at `clip` by `clip_by`, batches of `batch` sequences,
    `epochs` epochs of `epoch_batches` batches (0: a pass). `pool` batches are sorted by length together (1:
    not at all). `patience` epochs without a better held-out loss end the training (0: never). `fine_tune`:
    the words' vectors are trained too. `average`: what is measured and published is a running mean of the
    weights, of which each step keeps so much (0: the weights themselves). Workers share each batch; a
    checkpoint may lie after every `exchange_blocks` blocks of `block_batches` batches.
    """

    cell: str = "gru"
    reset: str = "after"
    layers: int = 1
    units: int = 300
    both: bool = False
    gate_bias: float | None = None
    optimiser: str = "rmsprop"
    learning_rate: float = 0.002
    schedule: str = "constant"
    average: float = 0.0
    clip: float = 5.0
    clip_by: str = "value"
    batch: int = 20
    epochs: int = 5
    epoch_batches: int = 0
    pool: int = 50
    patience: int = 0
    fine_tune: bool = False
    block_batches: int = 10
    exchange_blocks: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "layers": 1,
            "units": 1,
            "batch": 1,
            "epochs": 1,
            "epoch_batches": 0,
            "pool": 1,
            "patience": 0,
            "block_batches": 1,
            "exchange_blocks": 1,
            "seed": 0,
        }
        refuse_below(self, least)
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"Setting {name!r} is {getattr(self, name)}; give a number above 0.")
        if self.gate_bias is not None and not math.isfinite(self.gate_bias):
            raise UsageError(f"Setting 'gate_bias' is {self.gate_bias}; give a finite number.")
        for name, known in (
            ("cell", ("gru", "lstm", "rnn")),
            ("reset", ("before", "after")),
            ("clip_by", ("value", "norm", "global_norm")),
            ("optimiser", ("rmsprop", "adam")),
            ("schedule", ("constant", "linear")),
        ):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"Setting {name!r} is {getattr(self, name)!r}; choose one of {', '.join(known)}."
                )
        if not 0 <= self.average < 1:
            raise UsageError(f"Setting 'average' is {self.average}; give a share from 0 to below 1.")


# TASKS.md, sections 3 and 4: the GRU of that time resets before the product, its gate biases start at 1.
_THEN: dict[str, Any] = {"cell": "gru", "reset": "before", "units": 300, "gate_bias": 1.0}
SENTIMENT_REFERENCE: dict[str, Any] = {**_THEN, "batch": 20, "epochs": 5}
LETTERS_REFERENCE: dict[str, Any] = {**_THEN, "batch": 10, "epochs": 20, "epoch_batches": 50, "pool": 1}
