"""What all tests share: the real data, where there is any, and one Ray cluster for the whole session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import report
from cluster.session import Session, session

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(autouse=True)
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made in this process has a report only where the test is about reports (`draws`): the pictures
    of one take .8 s of CPU, and hundreds of small artefacts are made here. Workers draw theirs."""
    if "draws" not in request.keywords:
        monkeypatch.setattr(report, "attempt", lambda artefact, kinds: None)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many threads TensorFlow was told of, and that there is no GPU; it cannot be told again in this
    process."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])

    def told(count: int) -> None:
        monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: count)

    return told


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that WORDLOOM_DATA names."""
    if not (named := os.environ.get("WORDLOOM_DATA")):
        pytest.skip("WORDLOOM_DATA is not set: it names the folder of real data")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Session]:
    """One Ray of the tests' own, started with the first test that needs it; 2 cores, loopback."""
    with session("local", cpus=2) as running:
        yield running
