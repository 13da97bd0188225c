"""Batching: what waits together is answered together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import metrics
from serving.batching import Batcher


def test_a_lone_request_is_answered_alone() -> None:
    calls: list[list[int]] = []

    def double(asked: list[int]) -> list[int]:
        calls.append(asked)
        return [2 * each for each in asked]

    assert Batcher("double", double, 4)(3) == 6
    assert calls == [[3]]


def test_what_comes_while_the_model_works_is_answered_by_its_next_calls() -> None:
    entered, go = threading.Event(), threading.Event()
    sizes: list[int] = []

    def square(asked: list[int]) -> list[int]:
        sizes.append(len(asked))
        if len(sizes) == 1:
            entered.set()
            assert go.wait(30)
        return [each * each for each in asked]

    batcher = Batcher("square", square, 8)
    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(batcher, 0)
        assert entered.wait(30)
        others = [pool.submit(batcher, each) for each in range(1, 21)]
        while batcher.waiting < 20:
            pass
        go.set()
        assert [each.result(30) for each in [first, *others]] == [each * each for each in range(21)]
    assert sizes == [1, 8, 8, 4]


def test_one_that_fails_fails_alone() -> None:
    entered, go = threading.Event(), threading.Event()

    def inverse(asked: list[int]) -> list[float]:
        if asked == [1]:
            entered.set()
            assert go.wait(30)
        return [1 / each for each in asked]

    batcher = Batcher("inverse", inverse, 8)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher, 1)
        assert entered.wait(30)
        others = {each: pool.submit(batcher, each) for each in (0, 2, 4)}
        while batcher.waiting < 3:
            pass
        go.set()
        assert first.result(30) == 1
        assert (others[2].result(30), others[4].result(30)) == (0.5, 0.25)
        with pytest.raises(ZeroDivisionError):
            others[0].result(30)
    assert batcher(5) == 0.2


def test_coroutines_wait_together_and_one_that_fails_fails_alone() -> None:
    sizes: list[int] = []
    threads: set[int] = set()

    def inverse(asked: list[int]) -> list[float]:
        sizes.append(len(asked))
        threads.add(threading.get_ident())
        return [1 / each for each in asked]

    async def ask(batcher: Batcher[int, float]) -> list[list[float] | BaseException]:
        asked = ([1], [2, 4], [0], [5])
        return await asyncio.gather(*map(batcher.soon, asked), return_exceptions=True)

    first, second, third, fourth = asyncio.run(ask(Batcher("inverse", inverse, 8)))
    assert (first, second, fourth) == ([1], [0.5, 0.25], [0.2])
    assert isinstance(third, ZeroDivisionError)
    assert max(sizes) > 1 and threads != {threading.get_ident()} and len(threads) == 1


def test_a_coroutine_that_is_cancelled_holds_nobody_up() -> None:
    entered, go = threading.Event(), threading.Event()

    def double(asked: list[int]) -> list[int]:
        entered.set()
        assert go.wait(30)
        return [2 * each for each in asked]

    async def ask() -> tuple[list[int], bool]:
        batcher = Batcher("double", double, 8)
        first = asyncio.create_task(batcher.soon([1]))
        await asyncio.to_thread(entered.wait, 30)
        gone, stays = (asyncio.create_task(batcher.soon([each, each + 1])) for each in (2, 4))
        while batcher.waiting < 4:
            await asyncio.sleep(0)
        gone.cancel()
        go.set()
        assert await first == [2]
        return await asyncio.wait_for(stays, 30), gone.cancelled()

    assert asyncio.run(ask()) == ([8, 10], True)


def test_a_loop_that_ended_and_metrics_that_fail_stop_no_later_call(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def double(asked: list[int]) -> list[int]:
        assert go.wait(30)
        return [2 * each for each in asked]

    batcher = Batcher("double", double, 8)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.soon([1]), 0.05)

    def fail(*_: object) -> None:
        raise RuntimeError("Ray is shutting down")

    asyncio.run(give_up())
    monkeypatch.setattr(metrics, "observe", fail)
    go.set()
    assert asyncio.run(batcher.soon([2])) == [4]
    assert batcher(3) == 6


def test_threads_and_coroutines_are_answered_by_the_same_calls() -> None:
    entered, go = threading.Event(), threading.Event()
    sizes: list[int] = []

    def double(asked: list[int]) -> list[int]:
        sizes.append(len(asked))
        if len(sizes) == 1:
            entered.set()
            assert go.wait(30)
        return [2 * each for each in asked]

    async def ask() -> list[list[int]]:
        batcher = Batcher("double", double, 8)
        first = asyncio.create_task(batcher.soon([1]))
        await asyncio.to_thread(entered.wait, 30)
        thread = asyncio.create_task(asyncio.to_thread(batcher.together, [2, 3]))
        other = asyncio.create_task(batcher.soon([4]))
        while batcher.waiting < 3:
            await asyncio.sleep(0)
        go.set()
        return list(await asyncio.gather(first, thread, other))

    assert asyncio.run(ask()) == [[2], [4, 6], [8]]
    assert sizes == [1, 3]
