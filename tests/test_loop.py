from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.artefact import Artefact, Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import PARTIAL, Folder, HashingWriter
from tests.test_group import collective
from tests.thread_group import ThreadGroup, in_threads
from tests.toy_learner import ToyLearner
from trainers.checkpoint import Checkpoint, Checkpoints
from trainers.group import Group, LocalGroup
from trainers.loop import LoopSettings, Outcome, Progress, StoppedError, produce, share, train
from trainers.stream import Block

EAGER = LoopSettings(epochs=3, checkpoint_seconds=0.0)


class Ears:
    """A listener that remembers, and asks for a stop at a position."""

    def __init__(self, stop_at: float = math.inf) -> None:
        self.stop_at = stop_at
        self.heard: list[Progress] = []
        self.said: list[str] = []

    def progress(self, now: Progress) -> bool:
        self.heard.append(now)
        return now.position >= self.stop_at

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def trained(
    folder: Path,
    settings: LoopSettings = EAGER,
    group: Group | None = None,
    ears: Ears | None = None,
    **toy: Any,
) -> Outcome:
    return train(ToyLearner(**toy), Folder(folder), group or LocalGroup(), settings, ears or Ears())


def timeless(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


def same(one: Outcome, other: Outcome) -> bool:
    return (
        one.state["weights"].tobytes() == other.state["weights"].tobytes()
        and timeless(one.history) == timeless(other.history)
        and one.position == other.position
    )


class KilledError(BaseException):
    """What stands for kill -9: nothing catches it."""


class Fate:
    """Kills at the tick number `last`."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks > self.last:
            raise KilledError


class MortalFolder(Folder):
    """A folder in which every write and every removal may be the last thing that happens."""

    fate: Fate

    def __init__(self, location: str | Path, fate: Fate) -> None:
        super().__init__(location)
        self.fate = fate

    def child(self, name: str) -> MortalFolder:
        return MortalFolder(f"{self.location}/{name}", self.fate)

    @contextmanager
    def writer(self, name: str) -> Iterator[HashingWriter]:
        try:
            self.fate.tick()
        except KilledError:
            path = Path(self.location) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / f"{PARTIAL}{path.name}").write_bytes(b"half")
            raise
        with super().writer(name) as stream:
            yield stream

    def delete(self, name: str = "") -> None:
        self.fate.tick()
        super().delete(name)


class MortalLearner(ToyLearner):
    """A learner that may die in any of its methods, and in the middle of an interval."""

    def __init__(self, fate: Fate, **toy: Any) -> None:
        super().__init__(**toy)
        self.fate = fate

    def run(self, state: Any, blocks: Iterable[Block], total_blocks: int) -> Any:
        def ticking() -> Iterator[Block]:
            for block in blocks:
                yield block
                self.fate.tick()

        return super().run(state, ticking(), total_blocks)

    def exchange(self, state: Any, group: Group, weight: float) -> Any:
        self.fate.tick()
        return super().exchange(state, group, weight)

    def evaluate(self, state: Any) -> Any:
        self.fate.tick()
        return super().evaluate(state)

    def publish(self, state: Any, folder: Folder, history: Any) -> Any:
        self.fate.tick()
        return super().publish(state, folder, history)


@pytest.mark.parametrize("publish", ["best", "latest"])
def test_killed_at_any_point_the_same_command_gives_the_same_artefact(tmp_path: Path, publish: str) -> None:
    settings = LoopSettings(epochs=2, checkpoint_seconds=0.0, publish=publish)
    toy = {"blocks": 4, "exchange": 2, "losses": [1.0, 2.0]}

    def make(name: str, last: int) -> None:
        fate = Fate(last)
        folder = MortalFolder(tmp_path / name, fate)
        # Without a claim: the owner of one counts as long as its process lives, and this one lives on
        # (tests/test_claim.py kills real ones).
        draft = Draft(folder, kind="toy", output_version=1, inputs={}, settings=toy, claim=False)
        if draft.published is None:
            produce(MortalLearner(fate, **toy), draft, LocalGroup(), settings, Ears())

    def result(name: str) -> Any:
        artefact = Artefact.open(tmp_path / name)
        artefact.verify()
        history = artefact.folder.read_json("history.json")
        return artefact.folder.read("weights.bin"), timeless(history), artefact.counts

    make("whole", 10**9)
    expected = result("whole")
    assert expected[2] == {"epochs": 2, "blocks": 8, "numbers": 8}
    for last in count():
        name = f"killed-{last}"
        try:
            make(name, last)
            break
        except KilledError:
            pass
        if not (tmp_path / name / "manifest.json").exists():
            make(name, 10**9)
        assert result(name) == expected
    assert last > 40  # kill points that were tried


def test_killed_again_and_again_training_still_arrives(tmp_path: Path) -> None:
    expected = trained(tmp_path / "whole")
    for _ in count():
        fate = Fate(25)  # enough for one interval and its checkpoint
        try:
            folder = MortalFolder(tmp_path / "killed", fate)
            outcome = train(MortalLearner(fate), folder, LocalGroup(), EAGER, Ears())
            break
        except KilledError:
            continue
    assert same(outcome, expected)


def test_a_process_killed_by_the_system_goes_on_bit_for_bit(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.test_loop import *; "
        "trained(Path(sys.argv[1]), LoopSettings(epochs=3, checkpoint_seconds=0.0), "
        "blocks=20, seconds=0.02)"
    )
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=Path(__file__).parent.parent)
    while not Checkpoints(Folder(folder)).positions():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ears = Ears()
    outcome = trained(folder, LoopSettings(epochs=3), ears=ears, blocks=20)
    assert ears.said and ears.said[0].startswith("Training goes on at block")
    assert same(outcome, trained(tmp_path / "whole", LoopSettings(epochs=3), blocks=20))


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_the_number_of_workers_changes_neither_order_nor_result(tmp_path: Path, workers: int) -> None:
    alone = trained(tmp_path / "alone")
    learners = [ToyLearner() for _ in range(workers)]

    def work(group: ThreadGroup) -> Outcome:
        return train(learners[group.rank], Folder(tmp_path / "together"), group, EAGER, Ears())

    for outcome in in_threads(workers, work):
        assert same(outcome, alone)
    seen = sorted(index for learner in learners for index in learner.seen)
    assert seen == list(range(21))
    assert all(learner.seen == sorted(learner.seen) for learner in learners)
    assert all(learner.group.size == workers for learner in learners)


def test_training_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        trained(tmp_path / "a", ears=Ears(stop_at=6))
    outcomes = in_threads(2, lambda group: trained(tmp_path / "a", group=group))
    assert same(outcomes[0], trained(tmp_path / "whole"))


def test_reading_a_checkpoint_is_no_stall_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LoopSettings(epochs=3, checkpoint_seconds=0.0, publish="best")
    toy = {"losses": [1.0, 2.0, 3.0]}  # the best is not the latest, so its checkpoint is read at the end
    with pytest.raises(StoppedError):
        trained(tmp_path, settings, ears=Ears(stop_at=9), **toy)
    groups: list[Any] = []
    load, loaded = Checkpoints.load, list[int]()

    def heard() -> int:
        return sum(group._sum.calls for group in groups)

    def slow(checkpoints: Checkpoints, position: int) -> Checkpoint:
        """Reads once the workers have exchanged something meanwhile."""
        before, deadline = heard(), time.monotonic() + 20
        while heard() < before + 6:
            assert time.monotonic() < deadline, "the others hear nothing"
            time.sleep(0.01)
        loaded.append(position)
        return load(checkpoints, position)

    monkeypatch.setattr(Checkpoints, "load", slow)

    def work(inner: ThreadGroup) -> Outcome:
        group = collective(inner)
        groups.append(group)
        return trained(tmp_path, settings, group=group, **toy)

    outcome, _ = in_threads(2, work)
    assert loaded == [13, 13, 7] and int(outcome.state["done"]) == 7


def test_one_workers_error_ends_all(tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="Block 8 of the toy is broken"):
        in_threads(2, lambda group: trained(tmp_path, group=group, fail_at=8))


def test_shares_are_contiguous_and_whole() -> None:
    for size in range(1, 9):
        for blocks in range(1, 12):
            parts = [share(range(20, 20 + blocks), rank, size) for rank in range(size)]
            assert [index for part in parts for index in part] == list(range(20, 20 + blocks))
            assert len(parts[0]) - len(parts[-1]) <= 1


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    rare = LoopSettings(epochs=3, checkpoint_seconds=1e9)
    assert same(trained(tmp_path / "often"), trained(tmp_path / "rarely", rare))


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = trained(tmp_path)
    learner = ToyLearner()
    again = train(learner, Folder(tmp_path), LocalGroup(), EAGER, Ears())
    assert same(first, again) and learner.seen == []


@pytest.mark.parametrize(
    "toy, what",
    [
        ({"nan_at": 17}, "the loss is nan at block 18 of 21"),
        ({"bad_at": 16}, "'slot' holds values that are not finite at block 17 of 21"),
        ({"losses": [1.0, 1.0, math.inf]}, "the held-out loss is inf at block 21 of 21"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_divergence_ends_with_a_sentence_and_the_last_good_checkpoint(
    tmp_path: Path, toy: dict[str, Any], what: str, workers: int
) -> None:
    toy = {"exchange": 1, **toy}
    with pytest.raises(WordloomError) as caught:
        in_threads(workers, lambda group: trained(tmp_path, group=group, **toy))
    assert what in str(caught.value) and str(caught.value).endswith("lower the learning rate.")
    found = Checkpoints(Folder(tmp_path)).latest()
    assert found is not None and np.isfinite(found.arrays["slot"])
    assert f"the last good checkpoint is that of block {found.position} in" in str(caught.value)
    assert found.position == int(what.partition("at block ")[2].split()[0]) - 1


def test_patience_ends_training_and_it_stays_ended(tmp_path: Path) -> None:
    settings = LoopSettings(epochs=6, patience=2, checkpoint_seconds=0.0, publish="best")
    losses = [3.0, 2.0, 2.5, 2.0, 0.1, 0.1]
    outcome = trained(tmp_path, settings, losses=losses)
    assert [entry["held_out_loss"] for entry in outcome.history] == losses[:4]
    again = trained(tmp_path, settings, losses=losses)
    assert same(outcome, again)
    two_epochs = trained(tmp_path / "two", LoopSettings(epochs=2), losses=losses)
    assert outcome.state["weights"].tolist() == two_epochs.state["weights"].tolist()  # the best ones


def test_latest_weights_are_published_if_asked_for(tmp_path: Path) -> None:
    losses = [1.0, 2.0, 3.0]
    best = trained(tmp_path / "a", LoopSettings(epochs=3, publish="best"), losses=losses)
    latest = trained(tmp_path / "b", LoopSettings(epochs=3, publish="latest"), losses=losses)
    assert int(best.state["done"]) == 7 and int(latest.state["done"]) == 21
    assert timeless(best.history) == timeless(latest.history)


def test_a_corpus_with_nothing_held_out_trains_all_the_same(tmp_path: Path) -> None:
    settings = LoopSettings(epochs=3, patience=1, publish="best", checkpoint_seconds=0.0)
    outcome = trained(tmp_path, settings, losses=[math.nan] * 3)
    assert [entry["held_out_loss"] for entry in outcome.history] == [None] * 3
    assert outcome.position == 21
    json.dumps(outcome.history, allow_nan=False)


def test_history_tells_of_every_epoch(tmp_path: Path) -> None:
    outcome = trained(tmp_path, blocks=4, exchange=3)
    assert [entry["epoch"] for entry in outcome.history] == [1, 2, 3]
    assert [entry["position"] for entry in outcome.history] == [4, 8, 12]
    assert [entry["loss"] for entry in outcome.history] == [1.5 / 4, 5.5 / 4, 9.5 / 4]
    assert [entry["numbers"] for entry in outcome.history] == [32.0] * 3
    seconds = [entry["seconds"] for entry in outcome.history]
    assert seconds == sorted(seconds)


def test_progress_is_told_after_every_interval(tmp_path: Path) -> None:
    ears = Ears()
    trained(tmp_path, LoopSettings(epochs=2), ears=ears, blocks=4, exchange=3)
    assert [now.position for now in ears.heard] == [3, 4, 7, 8]
    assert [now.epoch for now in ears.heard] == [1, 1, 2, 2]
    last = ears.heard[-1]
    assert (last.total, last.units, last.total_units, last.unit) == (8, 64.0, 64.0, "numbers")
    assert (last.loss, last.held_out_loss) == (7 / 4, 4.0)


def test_a_stop_that_is_asked_for_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="stopped at block 7 of 21"):
        trained(tmp_path / "a", LoopSettings(epochs=3), ears=Ears(stop_at=5), exchange=3, blocks=7)
    ears = Ears()
    outcome = trained(tmp_path / "a", LoopSettings(epochs=3), ears=ears)
    assert ears.said == ["Training goes on at block 7 of 21."]
    assert same(outcome, trained(tmp_path / "b"))


def test_a_damaged_newest_checkpoint_costs_only_its_interval(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        trained(tmp_path / "a", ears=Ears(stop_at=9))
    newest = Checkpoints(Folder(tmp_path / "a")).positions()[-1]
    (tmp_path / "a" / f"{newest:012d}" / "0000.npy").write_bytes(b"?")
    ears = Ears()
    outcome = trained(tmp_path / "a", ears=ears)
    assert "is damaged" in ears.said[0] and "goes on at block" in ears.said[1]
    assert same(outcome, trained(tmp_path / "b"))


def test_a_learner_that_leaves_blocks_untouched_is_found_out(tmp_path: Path) -> None:
    class Lazy(ToyLearner):
        def run(self, state: Any, blocks: Iterable[Block], total_blocks: int) -> Any:
            return super().run(state, [next(iter(blocks))], total_blocks)

    with pytest.raises(RuntimeError, match="left blocks"):
        train(Lazy(), Folder(tmp_path), LocalGroup(), EAGER, Ears())


@pytest.mark.parametrize(
    "make",
    [lambda: LoopSettings(epochs=0), lambda: LoopSettings(patience=-1), lambda: LoopSettings(publish="x")],
)
def test_impossible_settings_are_refused(make: Callable[[], LoopSettings]) -> None:
    with pytest.raises(UsageError):
        make()
