from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ports import free_port
from tests.thread_group import ThreadGroup, in_threads
from trainers import group as groups
from trainers.group import (
    CollectiveGroup,
    Group,
    LocalGroup,
    Meeting,
    PeerError,
    SharedMemory,
    agree,
    first,
)


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
    first(group, lambda: done.append(1))
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
        first(group, work)
        return list(done), group._sum.calls  # type: ignore[attr-defined]

    for seen, calls in in_threads(3, wait):
        assert seen == [1]
        assert calls > 2  # they hear now and then that it is still at it


def test_worker_0s_error_is_raised_there_and_the_others_hear_of_it() -> None:
    def fail() -> None:
        raise ValueError("disk full")

    def wait(inner: ThreadGroup) -> str:
        try:
            first(collective(inner), fail)
        except (ValueError, PeerError) as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    assert in_threads(2, wait) == ["ValueError: disk full", "PeerFailedError: another worker failed"]


def test_each_does_its_own_work_and_an_error_is_raised_once_all_are_done() -> None:
    def told(inner: ThreadGroup) -> list[int | str]:
        group, done = collective(inner), list[int | str]()

        def late() -> int:
            time.sleep(0.05 * inner.rank)
            done.append("late")
            if inner.rank == 1:
                raise ValueError("no such file")
            return inner.rank

        done.append(group.each(lambda: 10 * inner.rank))
        try:
            group.each(late)
        except (ValueError, PeerError) as error:
            done.append(type(error).__name__)
        return done

    assert in_threads(3, told) == [
        [0, "late", "PeerFailedError"],
        [10, "late", "ValueError"],
        [20, "late", "PeerFailedError"],
    ]


def test_sums_through_shared_memory_are_those_of_numpy_in_the_order_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "SHARED_BYTES", 64)  # many turns of both banks
    random = np.random.default_rng(5)
    brought = [
        [random.standard_normal((7, 9)).astype(np.float32), random.integers(0, 9, 33), np.arange(3) * rank]
        for rank in range(3)
    ]
    path = tmp_path / "memory"
    memories = [SharedMemory(path, rank, 3, create=rank == 0) for rank in range(3)]

    def work(inner: ThreadGroup) -> list[np.ndarray]:
        return [memories[inner.rank].sum(array, inner.all_here) for array in brought[inner.rank]]

    for found in in_threads(3, work):
        for number, array in enumerate(found):
            np.testing.assert_array_equal(array, sum(each[number] for each in brought))


def meetings(path: Path, size: int, timeout: float = 20) -> list[Meeting]:
    return [Meeting(path, rank, size, timeout) for rank in range(size)]


def test_all_wait_for_the_last(tmp_path: Path) -> None:
    came: list[int] = []
    places = meetings(tmp_path / "s", 3)

    def work(inner: ThreadGroup) -> int:
        for turn in range(20):
            if inner.rank == turn % 3:
                time.sleep(0.002)
            came.append(turn)
            places[inner.rank].wait()
            assert came.count(turn) == 3
        return inner.rank

    assert in_threads(3, work) == [0, 1, 2]


@pytest.mark.parametrize("gone", [0, 1])
def test_a_worker_whose_process_has_ended_is_noticed_at_once(gone: int, tmp_path: Path) -> None:
    places = meetings(tmp_path / "s", 2, timeout=300)

    def meet(inner: ThreadGroup) -> None:
        places[inner.rank].wait()

    in_threads(2, meet)
    places[gone]._peers[0].close()
    with pytest.raises(PeerError, match="does not answer"):
        places[1 - gone].wait()


@pytest.mark.parametrize("met", [False, True])
@pytest.mark.parametrize("waiting", [0, 1])
def test_a_worker_that_stalls_is_an_error_after_the_timeout(waiting: int, met: bool, tmp_path: Path) -> None:
    places = meetings(tmp_path / "s", 2, timeout=0.3)
    if met:
        in_threads(2, lambda inner: places[inner.rank].wait())
    with pytest.raises(PeerError, match="does not answer"):
        places[waiting].wait()


def test_no_integers_of_32_bits_reach_the_collectives_which_add_up_none_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tf = pytest.importorskip("tensorflow")
    group = CollectiveGroup.__new__(CollectiveGroup)
    group.rank, group.size, group._tf, group._device = 0, 1, tf, "CPU:0"
    group._memory = group._meeting = None
    group._instance, group._timeout = 1, 1.0
    seen = []

    def reduced(input: Any, **more: Any) -> Any:
        seen.append(input.dtype)
        return input

    monkeypatch.setattr(tf.raw_ops, "CollectiveReduceV2", reduced)
    for kind in (np.int32, np.int64, np.float32, np.float64):
        given = np.array([-3, 5], kind)
        (found,) = group.sum([given])
        assert found.dtype == kind and found.tolist() == [-3, 5]
        (found,) = group.broadcast([given])
        assert found.dtype == kind and found.tolist() == [-3, 5]
    assert agree(group, ["a"]) == ["a"]
    assert set(seen) == {tf.int64, tf.float32, tf.float64}


@pytest.mark.slow  # two processes import TensorFlow
def test_two_processes_on_one_machine_exchange_through_its_memory() -> None:
    pytest.importorskip("tensorflow")
    script = (
        "import numpy as np\n"
        "from trainers.group import CollectiveGroup\n"
        "group = CollectiveGroup()\n"
        "assert group._memory is not None and group._meeting is not None\n"
        "total = group.sum([np.full((500, 100), group.rank + 1.5, np.float32)])[0]\n"
        "assert total.shape == (500, 100) and (total == 4.0).all()\n"
        "print('done')\n"
    )
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    started = []
    for rank in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": "-1"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    assert [each.communicate(timeout=120)[0] for each in started] == ["done\n", "done\n"]
