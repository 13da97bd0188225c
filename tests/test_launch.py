from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError

from cluster.artefact import Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from tests.test_loop import Ears, timeless
from tests.toy_learner import ToyLearner
from trainers.board import Board, Seen
from trainers.group import LocalGroup
from trainers.launch import (
    TrainingJob,
    _raise_for,
    _scaling,
    _Shown,
    cores_each,
    load_factory,
    train_all,
)
from trainers.loop import LoopSettings, Progress, train

LOOP = LoopSettings(epochs=3, checkpoint_seconds=0.0)


def job(folder: Path, name: str, **toy: Any) -> TrainingJob:
    draft = Draft(folder / name, kind="toy", output_version=1, inputs={}, settings={"name": name})
    return TrainingJob(name, "numbers", "tests.toy_learner:toy", draft, toy, LOOP)


@pytest.mark.ray
def test_one_group_trains_all_jobs_through_a_killed_worker_to_a_sentence(
    tmp_path: Path, ray_cluster: object
) -> None:
    # One start of Ray Train for all of it: a group takes 20 s to start.
    flag = tmp_path / "flag"
    flag.touch()
    jobs = [
        job(tmp_path, "plain", blocks=5),
        job(tmp_path, "killed", kill_at=9, flag=str(flag)),
        job(tmp_path, "broken", fail_at=8),
    ]
    log = io.StringIO()
    with pytest.raises(WordloomError) as caught:
        train_all(jobs, 2, "cpu", Reporter(stream=log))
    assert str(caught.value) == "Block 8 of the toy is broken; mend it."
    assert not flag.exists()
    text = log.getvalue()
    assert "A worker was lost; the workers were started again." in text
    assert re.search(r"Training goes on at block (\d+) of 21", text)
    assert "✓ plain: 120 numbers, loss 3.375, held out 3.000" in text and "✓ killed" in text
    assert jobs[2].draft.folder.exists("making") and not jobs[0].draft.folder.exists("making")

    # What is finished is reused without a worker, and is what one process alone would have made.
    for artefact, toy in zip(
        train_all([job(tmp_path, "plain"), job(tmp_path, "killed")], 2, "cpu", Reporter(stream=log)),
        [{"blocks": 5}, {}],
        strict=True,
    ):
        artefact.verify()
        alone = train(
            ToyLearner(**toy), Folder(tmp_path / "alone" / artefact.identity), LocalGroup(), LOOP, Ears()
        )
        assert artefact.folder.read("weights.bin") == alone.state["weights"].tobytes()
        assert timeless(artefact.folder.read_json("history.json")) == timeless(alone.history)


@pytest.mark.parametrize(
    "nodes, workers, cores",
    [
        ([2], 2, 1),
        ([2], 1, 2),
        ([8, 8, 8], 2, 8),
        ([8, 4], 3, 4),
        ([2], 4, 0.5),
        ([2, 1], 7, 1 / 3),
        ([0, 16], 3, 5),
        ([0], 2, 1),  # the head of a cluster that has no worker yet
    ],
)
def test_the_workers_share_the_cores(nodes: list[float], workers: int, cores: float) -> None:
    assert cores_each(nodes, workers) == cores


@pytest.mark.parametrize(
    "nodes, gpus, workers, cores",
    [
        ([64, 8], [0, 1], 1, 8),
        ([8, 64, 64], [2, 1, 1], 4, 4),
        ([0, 16], [0, 2], 2, 8),
        ([1, 8], [4, 0], 4, 1 / 4),
        ([0, 8], [1, 0], 1, 1),
    ],
)
def test_workers_with_a_gpu_share_the_cores_that_lie_beside_gpus(
    nodes: list[float], gpus: list[float], workers: int, cores: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cores_each(nodes, workers, gpus) == cores
    there = [
        {"Alive": True, "Resources": {"CPU": node, "GPU": gpu}} for node, gpu in zip(nodes, gpus, strict=True)
    ]
    monkeypatch.setattr(ray, "nodes", lambda: there)
    scaling, threads = _scaling(workers, "gpu")
    assert scaling.resources_per_worker == {"CPU": cores, "GPU": 1} and threads == max(1, int(cores))


@pytest.mark.parametrize(
    "workers, device, word", [(0, "cpu", "--workers is 0"), (1, "tpu", "--device is 'tpu'")]
)
def test_impossible_groups_are_refused(workers: int, device: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        _scaling(workers, device)


def test_errors_of_workers_come_as_what_they_are() -> None:
    for kind, error in (("usage", UsageError), ("mendable", WordloomError)):
        with pytest.raises(error, match=r"^what it was$"):
            _raise_for(Seen(failure=(kind, "what it was")), None)
    with pytest.raises(RuntimeError, match=r"^KeyError: 'x'\nTraceback"):
        _raise_for(Seen(failure=("defect", "Traceback (...):\n  somewhere\nKeyError: 'x'\n")), None)
    with pytest.raises(WordloomError, match="Memory ran out"):
        _raise_for(Seen(), OutOfMemoryError("1 worker(s) were killed"))
    with pytest.raises(WordloomError, match=r"gave up after 3 restarts \(worker died\); run the same"):
        _raise_for(Seen(), RuntimeError("a\nworker died\n"))
    _raise_for(Seen(), None)


def progress(units: float) -> Progress:
    return Progress(int(units), 100, units, 100.0, "numbers", 1, 2.5, 3.25, 0.001)


def test_the_board_carries_progress_one_way_and_the_wish_to_stop_the_other() -> None:
    board = Board("train-toy")
    board.begin(0)
    assert board.progress(progress(10)) is False
    board.ask_to_stop()
    assert board.progress(progress(20)) is True
    board.fail("mendable", "first")
    board.fail("defect", "second")
    seen = board.read()
    assert seen.progress[0].units == 20 and seen.failure == ("mendable", "first") and seen.sentences == []
    board.begin(0)
    assert board.read().sentences == ["A worker was lost; the workers were started again."]


def test_every_job_has_its_line_even_if_it_ends_between_two_looks(tmp_path: Path) -> None:
    log = io.StringIO()
    with _Shown([job(tmp_path, "one"), job(tmp_path, "two")], 2, Reporter(stream=log)) as shown:
        shown.update(Seen())
        seen = Seen(
            current=1, finished=[0, 1], progress={0: progress(100), 1: progress(100)}, sentences=["Hm."]
        )
        shown.update(seen)
        shown.update(seen)
    lines = log.getvalue().splitlines()
    assert [re.sub(" in .*", "", line) for line in lines] == [
        "Hm.",
        "✓ one: 100 numbers, loss 2.500, held out 3.250",
        "✓ two: 100 numbers, loss 2.500, held out 3.250",
    ]


def test_a_factory_is_found_by_its_name() -> None:
    assert isinstance(load_factory("tests.toy_learner:toy")({}, {"blocks": 2}), ToyLearner)
