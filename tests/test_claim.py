"""Claims: of two that would make one artefact, one works."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import claim
from cluster.artefact import Artefact, Draft
from cluster.claim import Claim
from cluster.errors import WordloomError
from cluster.folder import Folder


def draft(folder: Path, **settings: Any) -> Draft:
    return Draft(folder, kind="toy", output_version=1, inputs={}, settings=settings)


def claims(folder: Path) -> list[Path]:
    return sorted((folder / "making" / "claims").glob("*.json"))


def elsewhere(folder: Path, count: int = 0, state: str = "has") -> None:
    """The file of an owner on another machine."""
    said = {"state": state, "count": count, "host": "far", "machine": [], "process": 7, "began": "1"}
    Folder(folder / "making" / "claims").write("0.json", json.dumps(said).encode())


@pytest.mark.parametrize("said", [[], {}, {"state": "has", "process": 7}, "has"])
def test_a_file_that_is_no_claim_is_nobodys(said: object, tmp_path: Path) -> None:
    Folder(tmp_path / "a" / "making" / "claims").write_json("0.json", said)
    assert draft(tmp_path / "a").published is None


OTHER = """
import sys, time
from cluster.artefact import Draft
held = Draft(sys.argv[1], kind="toy", output_version=1, inputs={}, settings={})
print("has it", flush=True)
time.sleep(600)
"""


def test_another_process_is_refused_while_one_works_and_takes_over_once_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "has it\n"
        for settings in ({}, {"another": 1}):  # nor is what it makes cleared for something else
            with pytest.raises(WordloomError, match=rf"being made by process {other.pid} on .*stop it"):
                draft(tmp_path / "a", **settings)
        assert len(claims(tmp_path / "a")) == 1
        other.kill()
        other.wait()
        held = draft(tmp_path / "a")
        files = {"x": held.folder.write("x", b"1")}
        held.publish({}, files)
    assert Artefact.open(tmp_path / "a").counts == {} and not (tmp_path / "a" / "making").exists()


def test_of_many_that_begin_at_once_exactly_one_works(tmp_path: Path) -> None:
    def begin(folder: Path) -> Claim | None:
        try:
            return Claim(Folder(folder), "x", wait=lambda _: None)
        except WordloomError:
            return None

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            got = list(pool.map(begin, [tmp_path / str(number)] * 8))
            (one,) = [each for each in got if each is not None]
            assert len(list((tmp_path / str(number) / "claims").iterdir())) == 1
            one.release()


def test_an_owner_elsewhere_counts_as_long_as_its_count_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])

    def waits(then: Callable[[], None]) -> Callable[[float], None]:
        def wait(seconds: float) -> None:
            now[0] += seconds
            if now[0] > 8:
                then()

        return wait

    making = Folder(tmp_path / "making")
    elsewhere(tmp_path)
    with pytest.raises(WordloomError, match="being made by process 7 on far"):
        Claim(making, "x", wait=waits(lambda: elsewhere(tmp_path, count=1)))
    assert [path.name for path in claims(tmp_path)] == ["0.json"] and now[0] < 10
    held = Claim(making, "x", wait=waits(lambda: None))
    assert now[0] > claim.PATIENCE and len(claims(tmp_path)) == 1 and claims(tmp_path)[0].name != "0.json"
    held.release()


def test_who_wants_it_and_never_decides_does_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    making = Folder(tmp_path / "making")
    said = {"state": claim.WANTS, "count": 0, **claim.this_process()}
    making.child("claims").write("z.json", json.dumps(said).encode())
    held = Claim(making, "x", wait=lambda seconds: now.__setitem__(0, now[0] + seconds))
    assert claim.PATIENCE < now[0] < claim.PATIENCE + 2
    assert [path.name for path in claims(tmp_path)] != ["z.json"] and len(claims(tmp_path)) == 1
    held.release()


def test_what_finished_while_one_waited_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draft(tmp_path / "a")
    take = claim.take

    def finished_meanwhile(*given: Any) -> Callable[[], None]:
        first.publish({"n": 1}, {})
        return take(*given)

    monkeypatch.setattr("cluster.artefact.take", finished_meanwhile)
    again = draft(tmp_path / "a")
    assert again.published is not None and again.published.counts == {"n": 1}
    assert not (tmp_path / "a" / "making").exists()


def test_a_claim_beats_and_ends_with_its_drafts(tmp_path: Path) -> None:
    first, second = (
        draft(tmp_path / "a"),
        draft(tmp_path / "a"),
    )  # the same process may, as a run that goes on
    assert len(claims(tmp_path / "a")) == 1
    del first
    gc.collect()
    assert len(claims(tmp_path / "a")) == 1
    del second
    gc.collect()
    assert not claims(tmp_path / "a")
    held = Claim(Folder(tmp_path / "b"), "x", beat=0.01)
    (path,) = (tmp_path / "b" / "claims").iterdir()
    while json.loads(path.read_text())["count"] < 3:
        pass
    held.release()
    held.release()
    assert not path.exists()


def test_the_collector_may_give_back_in_a_thread_that_a_taking_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = claim.take(Folder(tmp_path / "a" / "making"), "a")
    made = claim.Claim

    def starting(making: Folder, location: str) -> Claim:
        collector = threading.Thread(target=release, daemon=True)
        collector.start()
        collector.join(20)
        assert not collector.is_alive(), "who takes and who gives back wait for each other"
        return made(making, location)

    monkeypatch.setattr(claim, "Claim", starting)
    again = claim.take(Folder(tmp_path / "b" / "making"), "b")
    assert not claims(tmp_path / "a") and len(claims(tmp_path / "b")) == 1
    again()
    again()
    assert not claims(tmp_path / "b")
