"""A group of threads in one process: what the loop sees of several workers, without TensorFlow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trainers.group import OnRows, PeerError, SharedMemory

T = TypeVar("T")


class _Table:
    """Where the threads of a group lay what they bring; all that is laid is there once all have come."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.laid: list[Any] = [None] * size

    def together(self, rank: int, value: Any) -> list[Any]:
        try:
            self.laid[rank] = value
            self.barrier.wait()
        except threading.BrokenBarrierError as error:
            raise PeerError("another worker failed") from error
        seen = list(self.laid)
        with suppress(threading.BrokenBarrierError):  # all have laid theirs: who fails now, fails later
            self.barrier.wait()
        return seen


class ThreadGroup:
    """One worker's end of the group; see `trainers.group.Group`."""

    def __init__(self, rank: int, size: int, table: _Table, memory: SharedMemory | None = None) -> None:
        self.rank, self.size, self._table, self._memory = rank, size, table, memory

    def sum(self, arrays: Sequence[Any]) -> list[Any]:
        brought = self._table.together(self.rank, [np.array(array) for array in arrays])
        return [np.asarray(sum(each[1:], start=each[0])) for each in zip(*brought, strict=True)]

    def broadcast(self, arrays: Sequence[Any]) -> list[Any]:
        brought = self._table.together(self.rank, [np.array(array) for array in arrays])
        assert len({tuple(a.shape for a in each) for each in brought}) == 1, "shapes differ between workers"
        return [array.copy() for array in brought[0]]

    def merged(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, lay: OnRows, merge: OnRows
    ) -> np.ndarray | None:
        if not self._memory:
            return None
        return self._memory.merged(shape, np.dtype(dtype), lay, merge, self.all_here)

    def all_here(self) -> None:
        self._table.together(self.rank, None)

    def each(self, work: Callable[[], T]) -> T:
        returned = work()
        self.all_here()
        return returned


def in_threads(size: int, work: Callable[[ThreadGroup], T], shared: Path | None = None) -> list[T]:
    """What `work` returns on each of `size` workers; of several errors a PeerError is the last choice. With
    `shared`, a file to be made, they share memory as the processes of one machine do."""
    table = _Table(size)
    memories = [SharedMemory(shared, rank, size, rank == 0) if shared else None for rank in range(size)]

    def run(rank: int) -> T:
        try:
            return work(ThreadGroup(rank, size, table, memories[rank]))
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception())]
    for error in sorted(errors, key=lambda each: isinstance(each, PeerError)):
        raise error
    return [future.result() for future in futures]
