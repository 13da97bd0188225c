"""A learner of whole numbers for the tests of the loop: exact, so any number of workers gives one result."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cluster.artefact import Input
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from trainers.group import Group, LocalGroup
from trainers.loop import Arrays, History
from trainers.stream import Block, Ids, shuffled

SIZE = 8
MODULUS = 1_000_003


class ToyStream:
    """Blocks of numbers that follow from their index."""

    unit = "numbers"

    def __init__(self, blocks_per_epoch: int) -> None:
        self.blocks_per_epoch = blocks_per_epoch
        self.units_per_epoch = blocks_per_epoch * SIZE

    def block(self, index: int) -> Block:
        values = shuffled(SIZE, index).astype(np.int32)
        return Block(index, index // self.blocks_per_epoch, values, np.zeros(SIZE, np.int32), 0, SIZE)

    def held_out(self) -> Iterator[Ids]:
        yield np.arange(SIZE, dtype=np.int32)


class ToyLearner:
    """Mixes blocks into a vector. Settings, all optional:

    `blocks` an epoch, `exchange` blocks; `losses`: the held-out loss of each epoch; `nan_at`, `bad_at`: the
    block whose loss, or whose weight, is no number; `fail_at`: the block that raises WordloomError;
    `seconds` a block; `kill_at`: the block after which the last worker kills itself once (`flag` is a file
    that is there until then), `signal` the signal.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.stream = ToyStream(settings.get("blocks", 7))
        self.blocks_per_exchange = settings.get("exchange", 3)
        self.synchronous = False
        self.group: Group = LocalGroup()
        self.seen: list[int] = []

    def initial(self) -> dict[str, Any]:
        return {
            "weights": np.arange(SIZE, dtype=np.int64),
            "slot": np.zeros((), np.float32),
            "done": np.zeros((), np.int64),
            "delta": np.zeros(SIZE + 1, np.int64),
        }

    def run(
        self, state: dict[str, Any], blocks: Iterable[Block], total_blocks: int
    ) -> tuple[dict[str, Any], Mapping[str, float]]:
        delta, loss = state["delta"].copy(), 0.0
        for block in blocks:
            self.seen.append(block.index)
            if block.index == self.settings.get("fail_at"):
                raise WordloomError(f"Block {block.index} of the toy is broken; mend it.")
            time.sleep(self.settings.get("seconds", 0.0))
            delta[:SIZE] += (state["weights"] * (block.index + 1) + block.values) % MODULUS
            delta[SIZE] += 1
            loss += float("nan") if block.index == self.settings.get("nan_at") else block.index / 4
            if block.index == self.settings.get("bad_at"):
                state["slot"] = np.array(np.inf, np.float32)
        size = float(delta[SIZE])
        return {**state, "delta": delta}, {"loss_sum": loss, "loss_weight": size, "numbers": size * SIZE}

    def exchange(self, state: dict[str, Any], group: Group, weight: float) -> dict[str, Any]:
        flag = self.settings.get("flag")
        if group.rank == group.size - 1 and flag and state["done"] >= self.settings["kill_at"]:
            path = Path(flag)
            if path.exists():
                path.unlink()
                os.kill(os.getpid(), self.settings.get("signal", signal.SIGKILL))
        (total,) = group.sum([state["delta"]])
        return {
            **state,
            "weights": (state["weights"] + total[:SIZE]) % MODULUS,
            "done": np.asarray(state["done"] + total[SIZE]),
            "delta": np.zeros(SIZE + 1, np.int64),
        }

    def evaluate(self, state: dict[str, Any]) -> Mapping[str, float]:
        epoch = int(state["done"]) // self.stream.blocks_per_epoch
        losses = self.settings.get("losses", [5.0, 4.0, 3.0, 2.0, 1.0])
        return {"held_out_loss": losses[epoch - 1], "checksum": float(state["weights"].sum())}

    def save(self, state: dict[str, Any]) -> Arrays:
        return {name: state[name] for name in ("weights", "slot", "done")}

    def load(self, arrays: Arrays) -> dict[str, Any]:
        return {**arrays, "delta": np.zeros(SIZE + 1, np.int64)}

    def publish(
        self, state: dict[str, Any], folder: Folder, history: History
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        return {"numbers": SIZE}, {"weights.bin": folder.write("weights.bin", state["weights"].tobytes())}


def toy(inputs: Mapping[str, Input], settings: Mapping[str, Any]) -> ToyLearner:
    """The factory that `trainers.launch` calls."""
    return ToyLearner(**settings)
