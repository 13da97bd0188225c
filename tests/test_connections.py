"""What cluster.connections promises: never more connections to a host than allowed, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from cluster import connections
from cluster.connections import LAPSE, Book, Connections, host_of
from cluster.errors import UsageError


@pytest.fixture
def url() -> str:
    return f"http://{uuid.uuid4().hex}/dump"  # a host that no other test has


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_book_gives_no_more_leases_than_allowed_and_each_host_its_own() -> None:
    book = Book(clock=Clock())
    assert [book.take("h", name, 2) for name in "abc"] == [True, True, False]
    assert book.take("other", "c", 2)
    assert book.take("h", "c", 3)  # a mirror of one's own
    book.give_back("h", "a")
    book.give_back("h", "unknown")
    assert not book.take("h", "d", 2) and book.take("h", "d", 3)


def test_a_lease_whose_holder_died_lapses_and_one_that_is_renewed_does_not() -> None:
    clock = Clock()
    book = Book(clock=clock)
    assert book.take("h", "dead", 2) and book.take("h", "alive", 2)
    clock.now += LAPSE * 0.6
    book.renew("h", "alive")
    assert not book.take("h", "next", 2)
    clock.now += LAPSE * 0.6
    assert book.take("h", "next", 2) and not book.take("h", "another", 2)


def test_a_book_that_replaces_another_first_hears_who_holds_a_lease() -> None:
    clock = Clock()
    book = Book(grace=10.0, clock=clock)
    assert not book.take("h", "new", 1)
    book.renew("h", "old")
    clock.now += 11
    assert not book.take("h", "new", 1) and book.take("h", "new", 2)


def test_threads_and_processes_of_one_machine_count_together(url: str) -> None:
    # The child is killed, so it gives nothing back by itself.
    code = (
        "import sys, time; from cluster.connections import Connections\n"
        f"with Connections(2).to({url!r}): print('held', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parent.parent
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        waits: list[float] = []

        def pause(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 1:
                os.kill(child.pid, signal.SIGKILL)
            time.sleep(seconds)

        with Connections(2).to(url), Connections(2).to(url, pause):
            assert waits  # the second had to wait for the killed one's
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_no_more_are_open_at_once_than_allowed_and_all_get_their_turn(url: str) -> None:
    now, most, turns = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal now, most, turns
        for _ in range(3):
            with Connections(3).to(url):
                with lock:
                    now, turns = now + 1, turns + 1
                    most = max(most, now)
                time.sleep(0.01)
                with lock:
                    now -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (3, 24)


def test_a_host_is_named_without_user_or_path() -> None:
    assert host_of("https://Dumps.Wikimedia.org/enwiki/") == "dumps.wikimedia.org"
    assert host_of("http://user:secret@127.0.0.1:8080/x") == "127.0.0.1:8080"
    with pytest.raises(UsageError, match="The number of connections is 0; give at least 1"):
        Connections(0)


@pytest.mark.ray
def test_the_workers_of_a_cluster_count_together(
    ray_cluster: object, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    @ray.remote(num_cpus=0.1, max_retries=0)
    def hold(machine: str, log: str) -> None:
        # Each worker has a folder of locks of its own, as on a machine of its own: only the book joins them.
        connections.tempfile.tempdir = machine
        for _ in range(3):
            with Connections(2).to(url):
                with Path(log).open("a") as file:
                    file.write("+\n")
                time.sleep(0.03)
                with Path(log).open("a") as file:
                    file.write("-\n")

    log = tmp_path / "log"
    for number in range(4):
        (tmp_path / str(number)).mkdir()
    ray.get([hold.remote(str(tmp_path / str(number)), str(log)) for number in range(4)])
    open_now = most = 0
    for line in log.read_text().split():
        open_now += 1 if line == "+" else -1
        most = max(most, open_now)
    assert most == 2 and open_now == 0 and log.read_text().count("+") == 12

    # The book's keeper dies: the next to ask starts another, which first hears who holds a lease.
    monkeypatch.setattr(connections, "RENEW", 0.2)
    monkeypatch.setattr(connections.tempfile, "tempdir", str(tmp_path / "0"))
    with Connections(1).to(url) as lease:
        ray.kill(ray.get_actor(connections.BOOK, namespace=connections.NAMESPACE))
        time.sleep(0.3)
        lease.renew()
        book = connections._cluster()
        assert book is not None
        time.sleep(0.5)
        assert not book.call("take", lease.host, "another", 1)
    assert book.call("take", lease.host, "another", 1)
    book.call("give_back", lease.host, "another")
