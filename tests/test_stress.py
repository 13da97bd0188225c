"""Serving under stress: what is killed, damaged or replaced under load costs no wrong answer."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from serving.gate import REFUSED
from serving.promotion import promote
from tests import served
from tests.benchmarks.serving_stress import resident, streams
from tests.cores import publish_language_model, publish_vectors
from tests.served import Answered, Request, Server

pytestmark = [pytest.mark.slow, pytest.mark.operate]
PHASE = 2_500  # requests of which each blow falls on some
CONNECTIONS = 16
RATE = 250.0  # a second, so that a phase lasts until what was hurt is there again
LIMIT = 120.0  # seconds after which no more is asked of what has not come back


def published(folder: Path) -> Path:
    publish_vectors(folder / "vectors" / "a", held_out_auc=0.7)
    publish_language_model(folder / "language-model" / "b")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with served.serving(models, profile="throughput") as made:
        yield made


def questions(server: Server) -> list[Request]:
    """Requests with the answers that they must get: what they got in peace."""
    asked: list[tuple[str, dict[str, object] | None]] = [
        ("/v1/words/king/vector", None),
        ("/v1/words/queen/neighbours?n=3", None),
        ("/v1/text/score", {"text": "the river is long"}),
        ("/v1/text/generate", {"length": 12, "seed": 7}),
    ]
    found = []
    for path, body in asked:
        method = "GET" if body is None else "POST"
        answer = requests.request(method, server.url + path, json=body, timeout=60)
        assert answer.status_code == 200
        found.append(Request(path, body, right=functools.partial(same, answer.json())))
    return found


def same(wanted: object, got: bytes) -> bool:
    """Whether an answer is the wanted one; numbers may differ as products of other batches do."""
    return bool(_rounded(json.loads(got)) == _rounded(wanted))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def under_load(server: Server, asked: list[Request], blow: Callable[[], None]) -> list[Answered]:
    """The answers to a phase of requests, of which the first tenth or so are over when the blow falls."""
    answers: list[Answered] = []

    def ask() -> None:
        load = functools.partial(served.load, server.port, asked, connections=CONNECTIONS, seconds=LIMIT)
        answers.extend(load(count=PHASE, rate=RATE))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    time.sleep(0.1 * PHASE / RATE)
    blow()
    asking.join(LIMIT + 3 * served.PATIENCE)
    assert answers, "the load ended without answers"
    return answers


def checked(name: str, server: Server, asked: list[Request], blow: Callable[[], None]) -> Counter[int]:
    """Each request of a phase is answered, none wrong; refusals say when to come again; then all is well.
    Returns how many answers had each status."""
    answers = under_load(server, asked, blow)
    broken = sum(each.broken for each in answers)
    longest = max(each.seconds for each in answers)
    print(f"{name}: {dict(served.statuses(answers))}, {broken} connections broke, longest {longest:.1f} s")
    assert len(answers) == PHASE
    assert set(served.statuses(answers)) <= {200, 429, 503}
    assert all(each.right for each in answers)
    assert all(each.retry_after for each in answers if each.status != 200)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        again = served.load(server.port, asked, connections=4, count=40)
        if served.statuses(again) == {200: 40}:
            return served.statuses(answers)
    raise AssertionError(f"two minutes later {dict(served.statuses(again))}")


def test_streams_go_on_together(server: Server) -> None:
    found = streams(server, 32, 8_000)
    done = min(each[-1][0] for each in found)
    behind = [max((made for at, made in each if at <= done), default=0) for each in found]
    assert min(behind) >= 2_000, behind


def test_deaths_a_redeploy_and_damaged_files_cost_no_wrong_answer(models: Path, server: Server) -> None:
    asked, before = questions(server), version(server)

    def redeploy() -> None:
        other = publish_vectors(models / "vectors" / "c", seed=2, held_out_auc=0.7)  # the same numbers
        promote(str(models), other.identity)
        until = time.monotonic() + 120
        while version(server) == before and time.monotonic() < until:
            time.sleep(0.2)

    def damage() -> None:
        for path in models.glob("*/*/*.np[yz]"):  # another file in its place, as every tool writes one
            (path.parent / "new").write_bytes(b"\0" * path.stat().st_size)
            (path.parent / "new").replace(path)

    counts: Counter[int] = Counter()
    for name, blow in {
        "killed replica": lambda: kill(*server.replicas("vectors")),
        "killed proxy": lambda: kill(*haproxies(server), *server.processes(*served.PROXIES)),
        "redeploy": redeploy,
        "damaged files": damage,
    }.items():
        counts += checked(name, server, asked, blow)
    print(f"all: {dict(counts)}")
    assert counts.total() == 10_000
    assert version(server) != before


def test_a_killed_haproxy_whose_manager_lives_costs_no_wrong_answer(server: Server) -> None:
    checked("killed HAProxy", server, questions(server), lambda: kill(*haproxies(server)))


SLOW = [Request("/v1/text/generate", {"length": 2_000, "seed": 7})]


def test_the_default_profile_counts_each_refusal_and_a_killed_proxy_costs_no_wrong_answer(
    tmp_path: Path,
) -> None:
    # 32 at once: more than ask while the proxy is killed, fewer than overload it before.
    with served.serving(published(tmp_path), concurrent=4, queue=28) as server:
        answers = served.load(server.port, SLOW, connections=128, seconds=6)
        assert set(served.statuses(answers)) == {200, 503}
        assert all(each.retry_after for each in answers if each.status == 503)
        counted(server, answers)
        blow = functools.partial(kill, *server.processes(*served.PROXIES))
        checked("killed proxy", server, questions(server), blow)


def test_more_than_it_can_carry_is_refused_and_counted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with served.serving(published(tmp_path), profile="throughput", concurrent=4, queue=8) as server:
        settled(server)
        first = served.load(server.port, SLOW, connections=128, seconds=3)
        before = resident(server)
        answers = served.load(server.port, SLOW, connections=128, seconds=6)
        after = resident(server)
        again = served.load(server.port, SLOW, connections=1, count=5)
        counted(server, [*first, *answers, *again])
    assert set(served.statuses(answers)) == {200, 503}
    assert all(each.retry_after for each in answers if each.status == 503)
    assert after - before < 64, f"{len(answers)} requests left {after - before:.0f} MiB behind"
    assert served.statuses(again) == {200: 5}


def counted(server: Server, answers: list[Answered]) -> None:
    """The metrics come to count each answer with its status, whoever refused."""
    until = time.monotonic() + LIMIT  # processes report every ten seconds, on a busy machine later
    while (found := server.counted("/v1/text/generate", REFUSED)) != served.statuses(answers):
        assert time.monotonic() < until, (found, served.statuses(answers))
        time.sleep(1)
    print(f"counted: {dict(found)}")


def settled(server: Server, seconds: float = 3.0) -> None:
    """Waits until HAProxy has long been one process: a new one comes after each replica."""
    before, since, until = haproxies(server), time.monotonic(), time.monotonic() + LIMIT
    while len(before) != 1 or time.monotonic() < since + seconds:
        assert time.monotonic() < until, before
        time.sleep(0.2)
        if (now := haproxies(server)) != before:
            before, since = now, time.monotonic()


def haproxies(server: Server) -> list[int]:
    """The processes of HAProxy itself, whose manager is an actor."""
    return [pid for pid, name in server.processes().items() if "/haproxy -db " in name]


def version(server: Server) -> str:
    answer = requests.get(f"{server.url}/v1/words/king/vector", timeout=60)
    return str(answer.headers["X-Wordloom-Version"])


def kill(*pids: int) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
