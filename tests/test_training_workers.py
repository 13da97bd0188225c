"""Workers of a training that are killed and stopped: real processes, real signals, real collectives."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cluster.folder import Folder
from tests.ports import free_port
from trainers.checkpoint import Checkpoints

pytestmark = pytest.mark.slow  # every start imports TensorFlow

ROOT = Path(__file__).parent.parent
WITHIN = 60.0  # seconds in which those who are left must end


def start(kind: str, folder: Path, workers: int, seconds: float) -> list[subprocess.Popen[str]]:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(workers)]
    folder.mkdir(exist_ok=True)
    started = []
    for rank in range(workers):
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
        environment.pop("TF_CONFIG", None)
        if workers > 1:
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            environment["TF_CONFIG"] = json.dumps(task)
        command = [sys.executable, "-m", "tests.training_worker", kind, str(folder), str(seconds)]
        with (folder / f"{rank}.log").open("w") as log:
            started.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, text=True)
            )
    return started


def finished(kind: str, folder: Path, workers: int) -> dict[str, np.ndarray]:
    """The arrays of a training that nothing disturbs."""
    for process in start(kind, folder, workers, 0.0):
        assert process.wait(timeout=180) == 0, (folder / "0.log").read_text()[-2000:]
    with np.load(folder / "final.npz") as held:
        return dict(held)


def struck(kind: str, folder: Path, workers: int, rank: int, blow: signal.Signals) -> None:
    """Signals one worker in mid-training; the others must end with a sentence, within the time."""
    started = start(kind, folder, workers, 0.2)
    try:
        checkpoints = Checkpoints(Folder(folder / "checkpoints"))
        deadline = time.monotonic() + 120
        while not checkpoints.positions():
            assert time.monotonic() < deadline and all(each.poll() is None for each in started)
            time.sleep(0.05)
        started[rank].send_signal(blow)
        for number, process in enumerate(started):
            if number != rank:
                assert process.wait(timeout=WITHIN) == 3
                assert "a worker does not answer" in (folder / f"{number}.log").read_text()
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert not (folder / "final.npz").exists()


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes(), name


def test_one_worker_killed_by_the_system_ends_in_the_same_bits(tmp_path: Path) -> None:
    struck("skipgram", tmp_path / "struck", 1, 0, signal.SIGKILL)
    assert_same(finished("skipgram", tmp_path / "struck", 1), finished("skipgram", tmp_path / "whole", 1))
    assert "Training goes on at block" in (tmp_path / "struck" / "0.log").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, np.ndarray]]:
    """The arrays of two workers that nothing disturbs, by the kind of learner."""
    return functools.cache(lambda kind: finished(kind, tmp_path_factory.mktemp(kind) / "whole", 2))


@pytest.mark.parametrize(
    ("kind", "rank", "blow"),
    [
        ("skipgram", 1, signal.SIGKILL),
        ("skipgram", 0, signal.SIGKILL),
        ("skipgram", 1, signal.SIGSTOP),
        ("labeller", 0, signal.SIGKILL),
        ("labeller", 1, signal.SIGSTOP),
    ],
)
def test_two_workers_one_of_them_struck_end_within_a_minute_and_then_in_the_same_bits(
    tmp_path: Path, whole: Callable[[str], dict[str, np.ndarray]], kind: str, rank: int, blow: signal.Signals
) -> None:
    struck(kind, tmp_path / "struck", 2, rank, blow)
    assert_same(finished(kind, tmp_path / "struck", 2), whole(kind))


@pytest.mark.parametrize(("kind", "blocks", "near"), [("skipgram", 36, 0.1), ("labeller", 39, 0.01)])
def test_what_two_workers_began_one_ends_from_the_same_place_about_as_well(
    tmp_path: Path, kind: str, blocks: int, near: float
) -> None:
    folder = tmp_path / "struck"
    struck(kind, folder, 2, 1, signal.SIGKILL)
    position = max(Checkpoints(Folder(folder / "checkpoints")).positions())
    finished(kind, folder, 1)
    said = (folder / "0.log").read_text()
    assert f"Training goes on at block {position} of {blocks}." in said
    loss = float(said.splitlines()[-1])
    finished(kind, tmp_path / "alone", 1)
    alone = float((tmp_path / "alone" / "0.log").read_text().splitlines()[-1])
    assert loss == pytest.approx(alone, abs=near)
