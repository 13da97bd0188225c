from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.thread_group import ThreadGroup, in_threads
from trainers.group import CollectiveGroup, Group, LocalGroup, PeerError, agree


class Wires:
    """In place of TensorFlow's collectives: the same group on top of threads."""

    def __init__(self, inner: ThreadGroup) -> None:
        self.inner = inner
        self.calls = 0

    def __call__(self, array: Any) -> Any:
        self.calls += 1
        return self.inner.sum([array])[0]


def collective(inner: ThreadGroup) -> CollectiveGroup:
    """A CollectiveGroup whose sums go over threads; all else is its own."""
    group = CollectiveGroup.__new__(CollectiveGroup)
    group.rank, group.size = inner.rank, inner.size
    group._sum = Wires(inner)  # type: ignore[method-assign]
    group._like = lambda given, value: value  # type: ignore[method-assign]
    return group


def test_a_group_of_one_gives_back_what_it_gets() -> None:
    group: Group = LocalGroup()
    arrays: Sequence[Any] = [np.arange(3), np.float32(2)]
    assert group.sum(arrays) == list(arrays) and group.broadcast(arrays) == list(arrays)
    done: list[int] = []
    group.first(lambda: done.append(1))
    assert done == [1] and agree(group, {"a": [1, None]}) == {"a": [1, None]}


@pytest.mark.parametrize("value", [{"loss": 0.1 + 0.2, "ä": None}, [], "x" * 5001, 2**53 + 1])
def test_all_agree_on_what_worker_0_says(value: Any) -> None:
    told = in_threads(3, lambda group: agree(collective(group), value if group.rank == 0 else "other"))
    assert told == [value] * 3


def test_a_broadcast_keeps_every_bit() -> None:
    arrays = [
        np.array([-0.0, np.nan, np.inf, 1e-45], np.float32),
        np.array([[-0.0], [5e-324]]),
        np.array([-1, 2**62]),
        np.array([7, -7], np.int32),
    ]

    def told(inner: ThreadGroup) -> list[Any]:
        return collective(inner).broadcast(
            arrays if inner.rank == 0 else [np.full_like(array, 3) for array in arrays]
        )

    for received in in_threads(3, told):
        for array, copy in zip(arrays, received, strict=True):
            assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
            assert copy.tobytes() == array.tobytes()


def test_the_others_wait_for_worker_0_however_long_it_takes() -> None:
    done: list[int] = []

    def work() -> None:
        time.sleep(0.2)
        done.append(1)

    def wait(inner: ThreadGroup) -> tuple[list[int], int]:
        group = collective(inner)
        group.first(work)
        return list(done), group._sum.calls  # type: ignore[attr-defined]

    for seen, calls in in_threads(3, wait):
        assert seen == [1]
        assert calls > 2  # they hear now and then that it is still at it


def test_worker_0s_error_is_raised_there_and_the_others_hear_of_it() -> None:
    def fail() -> None:
        raise ValueError("disk full")

    def wait(inner: ThreadGroup) -> str:
        try:
            collective(inner).first(fail)
        except (ValueError, PeerError) as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    assert in_threads(2, wait) == ["ValueError: disk full", "PeerFailedError: worker 0 failed"]
