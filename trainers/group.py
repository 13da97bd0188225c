"""Worker groups: how the workers of one training exchange arrays.

`LocalGroup` is the group of one. `CollectiveGroup` is the group that Ray Train starts: TensorFlow's
collectives between processes, set up through ``TF_CONFIG`` (see `trainers.launch`).
"""

from __future__ import annotations

import json
import math
import mmap
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
# Does something with the rows of an array that the slice names: a worker's [rows, width], or all workers'
# [size, rows, width].
OnRows = Callable[[slice, npt.NDArray[Any]], None]

TIMEOUT_SECONDS = 45.0  # a peer that stays away from a collective for so long has died or stalled
GROUP_KEY = 7001  # any number that the strategy does not use for its own groups
FIRST_INSTANCE = 1_000_000  # likewise for its own collectives
SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 4 << 20  # what a worker lays down at a time; two of them a worker
LARGE_BYTES = 1 << 12  # what goes through shared memory where there is any


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

    def merged(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, lay: OnRows, merge: OnRows
    ) -> npt.NDArray[Any] | None:
        """One array out of all workers': `lay` writes rows of this worker's, `merge` makes of all workers'
        what is wanted, in those of worker 0. Each worker merges some of the rows. None where the workers
        share no memory: arrays are better added up on their way then."""

    def each(self, work: Callable[[], T]) -> T:
        """What `work` returns, which every worker does for itself, however long it takes: all wait for the
        last. Where it raises an error, that is raised there, and PeerFailedError by the others."""


class LocalGroup:
    """The group of one worker."""

    rank = 0
    size = 1

    def sum(self, arrays: Sequence[Any]) -> list[Any]:
        return list(arrays)

    def broadcast(self, arrays: Sequence[Any]) -> list[Any]:
        return list(arrays)

    def merged(self, shape: tuple[int, int], dtype: npt.DTypeLike, lay: OnRows, merge: OnRows) -> None:
        return None

    def each(self, work: Callable[[], T]) -> T:
        return work()


class PeerError(Exception):
    """Another worker died or stalled; training goes on from the last checkpoint after a restart."""


class PeerFailedError(PeerError):
    """Another worker raised an error, told all of it and ends; a restart would not help."""


class CollectiveGroup:
    """Processes that exchange arrays by TensorFlow's collectives: gRPC between CPUs, NCCL between GPUs.

    ``TF_CONFIG`` names the processes; `tf.distribute.MultiWorkerMirroredStrategy` connects them. Must be made
    before TensorFlow is used for anything else. A collective in which a peer does not take part within
    `timeout` seconds raises PeerError.

    The collectives are issued op by op, not through the strategy's replica functions: no tracing for every
    new shape. Measured between two processes on 2 cores: 2 ms for a few numbers, 9 ms for 1 MB, 0.8 s for
    80 MB. So where all workers share one machine's memory, large numpy arrays go through that, added in the
    order of ranks, and all meet at a socket when they have laid theirs down. A peer that was killed is
    noticed at once or after 10 s, one that was stopped after some 25 s, or after `timeout` at the socket.
    TensorFlow has no way to bind its servers to loopback: they listen on every address of the machine while a
    training runs.
    """

    def __init__(self, timeout: float = TIMEOUT_SECONDS) -> None:
        import tensorflow as tf

        self._tf = tf
        self._timeout = timeout
        with self._peers():
            self.strategy = tf.distribute.MultiWorkerMirroredStrategy(
                communication_options=tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
            )
        self.rank = int(self.strategy.cluster_resolver.task_id)
        self.size = int(self.strategy.num_replicas_in_sync)
        self._instance = FIRST_INSTANCE
        gpus = tf.config.list_logical_devices("GPU")
        self._device = gpus[0].name if gpus else "CPU:0"
        self._memory: SharedMemory | None = None
        self._meeting: Meeting | None = None
        self._memory = self._shared_memory()

    def sum(self, arrays: Sequence[Any]) -> list[Any]:
        return [self._sum(array) for array in arrays]

    def broadcast(self, arrays: Sequence[Any]) -> list[Any]:
        # A sum in which all others give zeros; as integers, so that not even the sign of a zero changes.
        told = []
        for array in arrays:
            numbers = np.ascontiguousarray(array)
            bits = np.zeros(-(-numbers.nbytes // 8), np.int64)
            if self.rank == 0:
                bits.view(np.uint8)[: numbers.nbytes] = numbers.reshape(-1).view(np.uint8)
            same = np.asarray(self._sum(bits)).view(np.uint8)[: numbers.nbytes]
            told.append(self._like(array, same.view(numbers.dtype).reshape(numbers.shape)))
        return told

    def merged(
        self, shape: tuple[int, int], dtype: npt.DTypeLike, lay: OnRows, merge: OnRows
    ) -> npt.NDArray[Any] | None:
        if not self._memory or not self._meeting:
            return None
        return self._memory.merged(shape, np.dtype(dtype), lay, merge, self._meeting.wait)

    def each(self, work: Callable[[], T]) -> T:
        # All learn every now and then that somebody is still at it, so that long work is no stall.
        done, returned, failed = threading.Event(), list[T](), list[BaseException]()

        def run() -> None:
            try:
                returned.append(work())
            except BaseException as error:  # raised again below, by the thread that called
                failed.append(error)
            finally:
                done.set()

        threading.Thread(target=run, name="each", daemon=True).start()
        working, failures, pause = 1, 0, 0.01
        while working:
            done.wait(pause)
            pause = min(2 * pause, 1.0)
            mine = np.array([not done.is_set(), bool(failed)], np.int32)
            working, failures = np.asarray(self._sum(mine)).tolist()
        if failed:
            raise failed[0]
        if failures:
            raise PeerFailedError("another worker failed")
        return returned[0]

    def _sum(self, array: Any) -> Any:
        tf = self._tf
        if not math.prod(array.shape):
            return array
        large = isinstance(array, np.ndarray) and array.nbytes >= LARGE_BYTES
        if large and self._memory and self._meeting:
            return self._memory.sum(array, self._meeting.wait)
        with self._peers(), tf.device(self._device):
            given = tf.convert_to_tensor(array)
            short = given.dtype == tf.int32  # which TensorFlow's collectives do not add up on a GPU
            total = tf.raw_ops.CollectiveReduceV2(
                input=tf.cast(given, tf.int64) if short else given,
                group_size=self.size,
                group_key=GROUP_KEY,
                instance_key=self._instance,
                ordering_token=[],
                merge_op="Add",
                final_op="Id",
                communication_hint="auto",
                timeout_seconds=self._timeout,
            )
            self._instance += 1
            return self._like(array, tf.cast(total, tf.int32) if short else total)

    def _all_here(self) -> None:
        self._sum(np.ones(1, np.int32))

    def _shared_memory(self) -> SharedMemory | None:
        """Memory that all workers see, if they are on one machine and it has room."""
        if self.size == 1:
            return None
        token = agree(self, secrets.token_hex(16))
        memory, path = None, SHARED_MEMORY / f"wordloom-{token}"
        at = path.with_suffix(".socket")
        with suppress(OSError):
            if self.rank == 0:
                memory = SharedMemory(path, self.rank, self.size, create=True)
                self._meeting = Meeting(at, self.rank, self.size, self._timeout)
        self._all_here()
        with suppress(OSError):
            memory = memory or SharedMemory(path, self.rank, self.size)
            self._meeting = self._meeting or Meeting(at, self.rank, self.size, self._timeout)
        have = memory is not None and self._meeting is not None
        seen = int(np.asarray(self._sum(np.array([have], np.int32)))[0])
        if self.rank == 0:
            path.unlink(missing_ok=True)  # it stays mapped, and goes with the last process
            at.unlink(missing_ok=True)
        return memory if seen == self.size else None

    def _like(self, given: Any, value: Any) -> Any:
        if isinstance(given, np.ndarray):
            return np.asarray(value)
        return self._tf.convert_to_tensor(value)

    @contextmanager
    def _peers(self) -> Iterator[None]:
        errors = self._tf.errors
        lost = (
            errors.DeadlineExceededError,
            errors.UnavailableError,
            errors.AbortedError,
            errors.CancelledError,
            errors.FailedPreconditionError,
        )
        try:
            yield
        except lost as error:
            raise PeerError(f"a worker does not answer: {str(error).splitlines()[0][:200]}") from error


class Meeting:
    """Where the workers of one machine wait for one another: over a Unix socket of worker 0, .02 ms where a
    collective of one number takes 1.1. A worker whose process has ended is noticed at once, one that was
    stopped after `timeout` seconds; both are a PeerError.
    """

    def __init__(self, path: Path, rank: int, size: int, timeout: float) -> None:
        self._rank, self._timeout = rank, timeout
        own = socket.socket(socket.AF_UNIX)
        own.settimeout(timeout)
        if rank:
            own.connect(str(path))
        else:
            own.bind(str(path))
            own.listen(size)
        self._server = None if rank else own
        self._missing = 0 if rank else size - 1
        self._peers = [own] if rank else []

    def wait(self) -> None:
        """Returns once all workers called it."""
        try:
            if self._server and self._missing:
                self._peers = [self._server.accept()[0] for _ in range(self._missing)]
                self._missing = 0
                for peer in self._peers:
                    peer.settimeout(self._timeout)
            if self._rank:
                self._tell()
                self._hear()
            else:
                self._hear()
                self._tell()
        except OSError as error:
            raise PeerError(f"a worker does not answer: {error}") from error

    def _tell(self) -> None:
        for peer in self._peers:
            peer.sendall(b"1")

    def _hear(self) -> None:
        for peer in self._peers:
            if not peer.recv(1):
                raise PeerError("a worker does not answer: its process has ended")


class SharedMemory:
    """Two banks of one slot a worker, in a file that all of them map.

    A worker writes to the banks in turn. When all are known to have written to one, all have read the other.
    """

    def __init__(self, path: Path, rank: int, size: int, create: bool = False) -> None:
        self._rank, self._turn = rank, 0
        total = 2 * size * SHARED_BYTES
        handle = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        try:
            if create:
                os.posix_fallocate(handle, 0, total)  # an error now, not a signal when it is written to
            # All pages now, not at the first exchange, where all would wait for them.
            mapped = mmap.mmap(handle, total, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
            self._banks = np.frombuffer(mapped, np.uint8).reshape(2, size, SHARED_BYTES)
        finally:
            os.close(handle)

    def sum(self, array: np.ndarray, all_here: Callable[[], None]) -> np.ndarray:
        """The sum of all workers' arrays in the order of ranks; `all_here` returns once all called it."""
        given = np.ascontiguousarray(array).reshape(-1, 1)
        total = np.empty_like(given)
        for rows, slots in self._parts(given.shape, given.dtype):
            slots[self._rank] = given[rows]
            all_here()
            np.sum(slots, 0, dtype=given.dtype, out=total[rows])
        return total.reshape(array.shape)

    def merged(
        self,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        lay: OnRows,
        merge: OnRows,
        all_here: Callable[[], None],
    ) -> np.ndarray:
        """See `Group`; `all_here` returns once all called it."""
        result = np.empty(shape, dtype)
        for rows, slots in self._parts(shape, dtype):
            lay(rows, slots[self._rank])
            all_here()
            count, size = rows.stop - rows.start, len(slots)
            mine = slice(self._rank * count // size, (self._rank + 1) * count // size)
            merge(slice(rows.start + mine.start, rows.start + mine.stop), slots[:, mine])
            all_here()
            result[rows] = slots[0]
        return result

    def _parts(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows of arrays of this shape, and where the workers lay theirs: [size, rows, width]."""
        count, width = shape
        step = max(1, SHARED_BYTES // (width * dtype.itemsize))
        for begin in range(0, count, step):
            rows = slice(begin, min(begin + step, count))
            used = (rows.stop - begin) * width * dtype.itemsize
            yield rows, self._banks[self._turn, :, :used].view(dtype).reshape(-1, rows.stop - begin, width)
            self._turn = 1 - self._turn


def end_together(group: Group, failure: Exception | None) -> None:
    """Raises `failure` if this worker has one, and PeerFailedError if another worker has."""
    failed = np.asarray(group.sum([np.array([failure is not None], np.int32)])[0])[0]
    if failure is not None:
        raise failure
    if failed:
        raise PeerFailedError("another worker failed")


def first(group: Group, work: Callable[[], T]) -> T | None:
    """What `work` returns on worker 0, which alone does it, however long it takes; None on the others."""
    return group.each(work if group.rank == 0 else lambda: None)


def agree(group: Group, value: T) -> T:
    """Worker 0's value (anything that JSON holds) on every worker."""
    if group.size == 1:
        return value
    data = json.dumps(value).encode() if group.rank == 0 else b""
    size = int(np.asarray(group.broadcast([np.array([len(data)], np.int64)])[0])[0])
    words = np.zeros(-(-size // 4), np.int32)
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    told = np.asarray(group.broadcast([words])[0], np.int32)
    agreed: T = json.loads(told.tobytes()[:size])
    return agreed
