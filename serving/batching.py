"""Dynamic batching: requests that wait at the same time are answered by one call of the model.

There is no timer and no thread of its own: the first request that finds the model idle takes everybody who
waits along, up to `most`. So a lone request waits for nothing, and under load the batches grow by themselves.
Not `serve.batch`, for its queue lives in Ray, and an exception in its size function hangs it (ray#66140).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from cluster import metrics

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Waiting(Generic[Asked, Answer]):
    """A request on its way through the batcher."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.done = False


class Batcher(Generic[Asked, Answer]):
    """Calls `call` with a list of what was asked; it returns as many answers in the same order.

    An exception of `call` reaches every request of the batch; where several were in it, each is tried again
    alone, so that one that cannot be answered does not take the others with it. `linger` (seconds) is how
    long a call waits for more while others still come.
    """

    def __init__(
        self, name: str, call: Callable[[list[Asked]], Sequence[Answer]], most: int, linger: float = 0.0
    ) -> None:
        self.name = name
        self._call = call
        self.most = most
        self._linger = linger
        self._queue: deque[_Waiting[Asked, Answer]] = deque()
        self._changes = threading.Lock()
        self._model = threading.Lock()
        self._thread = ThreadPoolExecutor(1, f"batch-{name}")  # starts with the first `soon`

    def __call__(self, asked: Asked) -> Answer:
        """The answer to one request; safe from any thread."""
        return self.together([asked])[0]

    def together(self, asked: Sequence[Asked]) -> list[Answer]:
        """The answers to several at once, which wait side by side; the first error among them is raised."""
        return self._until(self._queued(asked))

    async def soon(self, asked: Sequence[Asked]) -> list[Answer]:
        """`together` for a coroutine: one thread of the batcher's own waits in place of one a request (32 at
        once, without the model's own work: 1.10 -> .75 ms of CPU each)."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._until, self._queued(asked))

    def _queued(self, asked: Sequence[Asked]) -> list[_Waiting[Asked, Answer]]:
        own: list[_Waiting[Asked, Answer]] = [_Waiting(each) for each in asked]
        with self._changes:
            self._queue.extend(own)
        return own

    def _until(self, own: list[_Waiting[Asked, Answer]]) -> list[Answer]:
        """Works until these are answered."""
        while not all(each.done for each in own):
            with self._model:
                # Whoever held the model before may have answered these too.
                if not all(each.done for each in own):
                    self._answer(self._taken())
        for each in own:
            if each.error is not None:
                raise each.error
        return [each.answer for each in own]  # type: ignore[misc]

    @property
    def waiting(self) -> int:
        """Requests that are not in work yet."""
        return len(self._queue)

    def _taken(self) -> list[_Waiting[Asked, Answer]]:
        if self._linger:
            seen = 0
            while seen < len(self._queue) < self.most:
                seen = len(self._queue)
                time.sleep(self._linger)
        with self._changes:
            batch = [self._queue.popleft() for _ in range(min(self.most, len(self._queue)))]
            left = len(self._queue)
        metrics.observe("serve_batch_size", len(batch), {"call": self.name})
        metrics.set("serve_queue_length", left, {"call": self.name})
        return batch

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
            batch[0].error = error
            if not isinstance(error, Exception):  # the thread is told to end: nobody may wait for it
                for each in batch[1:]:
                    each.error = error
        for each in batch:
            each.done = True
