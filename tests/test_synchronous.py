from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.thread_group import ThreadGroup, in_threads
from trainers.group import LocalGroup, PeerFailedError
from trainers.synchronous import Lockstep, Synchronous, flattened, shaped


class Made(Synchronous):
    """Notes for whom graphs were made."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def make_graphs(self) -> None:
        self.seen.append((self.group.rank, self.group.size))

    def _updated(self, *given: object) -> None:
        raise AssertionError("nothing is trained here")


@pytest.mark.parametrize("at", range(4))
def test_a_worker_that_fails_in_step_tells_those_who_wait_for_its_next_sum(at: int) -> None:
    """Worker 1 fails before its sum number `at` of three; after the last nobody waits."""

    def work(inner: ThreadGroup) -> tuple[list[float], Exception | None]:
        sums = []
        try:
            with Lockstep(inner, 3, {"a": tf.zeros([2])}) as lockstep:
                for number in range(3):
                    if inner.rank == 1 and number == at:
                        raise ValueError("no memory")
                    sums.append(float(lockstep.sum(tf.fill([2], float(inner.rank + number)))[1]))
                if inner.rank == 1 and at == 3:
                    raise ValueError("no memory")
        except Exception as error:
            return sums, error
        return sums, None

    for rank, (sums, error) in enumerate(in_threads(3, work)):
        assert sums == [3.0, 6.0, 9.0][:at]
        if rank == 1:
            assert isinstance(error, ValueError)
        else:
            assert error is None if at == 3 else isinstance(error, PeerFailedError)


def test_what_has_no_row_brings_nothing_to_a_sum() -> None:
    def work(inner: ThreadGroup) -> list[float]:
        with Lockstep(inner, 2, {"a": tf.zeros([1]), "b": tf.zeros([1, 2])}) as lockstep:
            first = lockstep.sum(tf.constant([1.0, 2.0, 3.0]))
            second = lockstep.sum(None if inner.rank else tf.constant([4.0, 5.0, 6.0]))
        return [*first.numpy(), *second.numpy()]

    assert in_threads(2, work) == 2 * [[2.0, 4.0, 6.0, 4.0, 5.0, 6.0]]


def test_graphs_are_made_anew_only_for_another_place_among_the_workers() -> None:
    made = Made()
    assert made.group.size == 1
    made.group = LocalGroup()
    assert made.seen == []

    def work(inner: ThreadGroup) -> list[tuple[int, int]]:
        own = Made()
        own.group = inner
        own.group = inner
        own.group = LocalGroup()
        return own.seen

    assert in_threads(2, work) == [[(0, 2), (0, 1)], [(1, 2), (0, 1)]]


def test_an_exchange_gives_all_workers_the_state_of_the_first() -> None:
    def work(inner: ThreadGroup) -> dict[str, np.ndarray]:
        state = {"b": tf.fill([2, 3], 1.0 + inner.rank), "a": tf.constant(5.0 - inner.rank)}
        return {name: value.numpy() for name, value in Made().exchange(state, inner, 1.0).items()}

    for state in in_threads(3, work):
        assert list(state) == ["b", "a"]
        assert (state["b"] == 1.0).all() and state["b"].shape == (2, 3)
        assert state["a"] == 5.0 and state["a"].shape == ()
    state = {"a": tf.zeros([])}
    assert Made().exchange(state, LocalGroup(), 1.0) is state


def test_a_vector_holds_arrays_in_the_order_of_their_names() -> None:
    arrays = {"b": tf.constant([[1.0, 2.0]]), "a": tf.constant(3.0)}
    flat = flattened(arrays)
    assert flat.numpy().tolist() == [3.0, 1.0, 2.0]
    again = shaped(flat, arrays)
    assert {name: value.numpy().tolist() for name, value in again.items()} == {"a": 3.0, "b": [[1.0, 2.0]]}
