from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cluster.folder import Folder
from trainers.checkpoint import Checkpoints, DamagedError

ARRAYS = {
    "tables/in": np.array([[0.1, -0.0, np.nan], [np.inf, 1e-45, -3.5]], np.float32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(2**62 + 1, np.int64),
    "none": np.zeros((0, 4), np.float32),
    "flags": np.array([True, False]),
}
NOTES = {"history": [{"epoch": 1, "loss": 0.1 + 0.2}], "seconds": 1.5}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(Folder(tmp_path / "checkpoints"))


def test_arrays_and_notes_come_back_bit_for_bit(checkpoints: Checkpoints) -> None:
    checkpoints.save(12, ARRAYS, NOTES)
    found = checkpoints.latest()
    assert found is not None and (found.position, found.notes) == (12, NOTES)
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        loaded = found.arrays[name]
        assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
        assert loaded.tobytes() == array.tobytes()


def test_without_a_checkpoint_there_is_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.latest() is None and checkpoints.positions() == []


def test_the_two_newest_and_the_best_are_kept(checkpoints: Checkpoints) -> None:
    for position in (3, 6, 9, 12, 15):
        checkpoints.save(position, ARRAYS, {}, keep=6 if position >= 6 else None)
    assert checkpoints.positions() == [6, 12, 15]
    assert {name.partition("/")[0] for name in checkpoints.folder.names()} == {
        f"{position:012d}" for position in (6, 12, 15)
    }


@pytest.mark.parametrize(
    "damage",
    [
        "a changed byte",
        "a changed header",
        "a cut file",
        "a lost file",
        "another position",
        "another figure",
        "a marker that is no JSON",
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(checkpoints: Checkpoints, damage: str) -> None:
    checkpoints.save(5, ARRAYS, NOTES)
    checkpoints.save(10, ARRAYS, NOTES)
    folder = Path(checkpoints.location) / f"{10:012d}"
    array, marker = folder / "0001.npy", folder / "checkpoint.json"
    match damage:
        case "a changed byte":
            array.write_bytes(array.read_bytes()[:-1] + b"\x07")
        case "a changed header":  # which numpy's reader answers with tokenize.TokenError
            array.write_bytes(array.read_bytes().replace(b")", b"i", 1))
        case "a cut file":
            array.write_bytes(array.read_bytes()[:-3])
        case "a lost file":
            array.unlink()
        case "another position":
            marker.write_text(marker.read_text().replace('"position": 10', '"position": 12'))
        case "another figure":
            marker.write_text(marker.read_text().replace('"seconds": 1.5', '"seconds": 1.7'))
        case _:
            marker.write_text("{")
    found = checkpoints.latest()
    assert found is not None and found.position == 5
    (sentence,) = checkpoints.warnings
    assert f"{10:012d}' is damaged" in sentence and sentence.endswith("goes on from the one before it.")
    with pytest.raises(DamagedError):
        checkpoints.load(10)


def test_a_checkpoint_of_an_earlier_version_has_no_sum_of_its_marker_and_loads(
    checkpoints: Checkpoints,
) -> None:
    checkpoints.save(5, ARRAYS, NOTES)
    path = Path(checkpoints.location) / f"{5:012d}" / "checkpoint.json"
    marker = json.loads(path.read_text())
    del marker["sha256"]
    path.write_text(json.dumps(marker))
    assert checkpoints.load(5).notes == NOTES


def test_memory_that_runs_out_is_no_damage(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    checkpoints.save(5, ARRAYS, NOTES)
    monkeypatch.setattr(Checkpoints, "_array", short)
    with pytest.raises(MemoryError):
        checkpoints.latest()


def test_a_damaged_checkpoint_is_replaced_when_training_comes_there_again(checkpoints: Checkpoints) -> None:
    for position in (5, 10):
        checkpoints.save(position, ARRAYS, NOTES)
    (Path(checkpoints.location) / f"{10:012d}" / "0000.npy").write_bytes(b"")
    checkpoints.save(8, ARRAYS, NOTES)
    assert checkpoints.positions() == [5, 8]
    checkpoints.save(10, ARRAYS, NOTES)
    found = checkpoints.latest()
    assert found is not None and found.position == 10


def test_a_folder_without_its_marker_does_not_count(checkpoints: Checkpoints) -> None:
    checkpoints.save(5, ARRAYS, NOTES)
    checkpoints.save(10, ARRAYS, NOTES)
    (Path(checkpoints.location) / f"{10:012d}" / "checkpoint.json").unlink()
    found = checkpoints.latest()
    assert found is not None and found.position == 5 and checkpoints.warnings == []


def test_objects_are_refused(checkpoints: Checkpoints) -> None:
    with pytest.raises(TypeError, match="'words' holds Python objects"):
        checkpoints.save(1, {"words": np.array(["a", None], object)}, {})
