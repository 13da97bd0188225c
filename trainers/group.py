"""Worker groups: how the workers of one training exchange arrays.

`LocalGroup` is the group of one. `CollectiveGroup` is the group that Ray Train starts: TensorFlow's
collectives between processes, set up through ``TF_CONFIG`` (see `trainers.launch`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Group(Protocol):
    """The workers of one training. Every method but `rank` and `size` is called by all of them, in the
    same order and with arrays of the same shapes and dtypes; a peer that dies or stalls is an error
    within the timeout, never a hang.

    Arrays are numpy arrays or eager tensors; what comes back is of the kind that went in.
    """

    rank: int
    size: int

    def sum(self, arrays: Sequence[Any]) -> list[Any]:
        """The sum over all workers of each array (float32, float64, int32 or int64)."""

    def broadcast(self, arrays: Sequence[Any]) -> list[Any]:
        """The arrays of worker 0, bit for bit; the others give arrays of the same shapes and dtypes."""

    def first(self, work: Callable[[], None]) -> None:
        """Worker 0 does `work`, however long it takes, while the others wait for it."""


class LocalGroup:
    """The group of one worker."""

    rank = 0
    size = 1

    def sum(self, arrays: Sequence[Any]) -> list[Any]:
        return list(arrays)

    def broadcast(self, arrays: Sequence[Any]) -> list[Any]:
        return list(arrays)

    def first(self, work: Callable[[], None]) -> None:
        work()
