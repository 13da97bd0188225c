"""Dynamic batching: requests that wait at the same time are answered by one call of the model.

There is no timer: the first request that finds the model idle takes everybody who waits along, up to `most`.
So a lone request waits for nothing, and under load the batches grow by themselves.
Not `serve.batch`, for its queue lives in Ray, and an exception in its size function hangs it (ray#66140).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from cluster import metrics

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Waiting(Generic[Asked, Answer]):
    """A request on its way through the batcher; `told` ends for a coroutine when it is done."""

    def __init__(self, asked: Asked, loop: asyncio.AbstractEventLoop | None) -> None:
        self.asked = asked
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.done = False
        self.told: asyncio.Future[None] | None = None if loop is None else loop.create_future()


class Batcher(Generic[Asked, Answer]):
    """Calls `call` with a list of what was asked; it returns as many answers in the same order.

    An exception of `call` reaches every request of the batch; where several were in it, each is tried again
    alone, so that one that cannot be answered does not take the others with it.
    """

    def __init__(self, name: str, call: Callable[[list[Asked]], Sequence[Answer]], most: int) -> None:
        self.name = name
        self._call = call
        self.most = most
        self._queue: deque[_Waiting[Asked, Answer]] = deque()
        self._changes = threading.Lock()
        self._model = threading.Lock()
        self._working = False  # whether the batcher's own thread is at it
        self._thread = ThreadPoolExecutor(1, f"batch-{name}")  # starts with the first `soon`

    def __call__(self, asked: Asked) -> Answer:
        """The answer to one request; safe from any thread."""
        return self.together([asked])[0]

    def together(self, asked: Sequence[Asked]) -> list[Answer]:
        """The answers to several at once, which wait side by side; the first error among them is raised."""
        own = self._queued(asked, None)
        while not all(each.done for each in own):
            with self._model:
                # Whoever held the model before may have answered these too.
                if not all(each.done for each in own):
                    self._next()
        return _answers(own)

    async def soon(self, asked: Sequence[Asked]) -> list[Answer]:
        """`together` for a coroutine. A thread of the batcher's own makes the calls, one right behind the
        other, and wakes the loop once a batch: with a job a request for that thread the model stood still for
        1 to 1.7 ms between calls of 16."""
        own = self._queued(asked, asyncio.get_running_loop())
        for each in own:
            assert each.told is not None
            await each.told
        return _answers(own)

    def _queued(
        self, asked: Sequence[Asked], loop: asyncio.AbstractEventLoop | None
    ) -> list[_Waiting[Asked, Answer]]:
        own: list[_Waiting[Asked, Answer]] = [_Waiting(each, loop) for each in asked]
        with self._changes:
            self._queue.extend(own)
            begins = loop is not None and not self._working
            self._working = self._working or begins
        if begins:
            self._thread.submit(self._work)
        return own

    def _work(self) -> None:
        """Makes calls for as long as somebody waits."""
        while True:
            with self._changes:
                if not self._queue:
                    self._working = False
                    return
            with self._model:
                self._next()

    @property
    def waiting(self) -> int:
        """Requests that are not in work yet."""
        return len(self._queue)

    def _next(self) -> None:
        """One call for those who wait, by whoever holds the model."""
        with self._changes:
            batch = [self._queue.popleft() for _ in range(min(self.most, len(self._queue)))]
            left = len(self._queue)
        if not batch:  # another thread was quicker
            return
        self._answer(batch)
        waited = [each.told for each in batch if each.told is not None]
        for loop in {each.get_loop() for each in waited}:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_tell, [each for each in waited if each.get_loop() is loop])
        with contextlib.suppress(Exception):  # Ray may be shutting down, and the next batch still waits
            metrics.observe("serve_batch_size", len(batch), {"call": self.name})
            metrics.set("serve_queue_length", left, {"call": self.name})

    def _answer(self, batch: list[_Waiting[Asked, Answer]]) -> None:
        try:
            answers = self._call([each.asked for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                each.answer = answer
        except BaseException as error:
            if len(batch) > 1 and isinstance(error, Exception):
                for each in batch:
                    self._answer([each])
                return
            for each in batch:  # of several, the thread is told to end: nobody may wait for it
                each.error = error
        for each in batch:
            each.done = True


def _answers(own: Sequence[_Waiting[Any, Answer]]) -> list[Answer]:
    for each in own:
        if each.error is not None:
            raise each.error
    return [each.answer for each in own]  # type: ignore[misc]


def _tell(waited: Sequence[asyncio.Future[None]]) -> None:
    for each in waited:
        if not each.done():  # the client may have gone away, which cancels it
            each.set_result(None)
