"""Models: what lies below a folder is found, and of each kind the newest is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.artefact import Artefact, Draft, Input
from cluster.errors import WordloomError
from cluster.folder import Folder
from serving import models

OLD = "2026-01-01T00:00:00+00:00"


def publish(
    location: Path, kind: str, made: str, inputs: dict[str, Artefact | Input] | None = None, **settings: Any
) -> Artefact:
    """An artefact with one file, made at a given time."""
    draft = Draft(location, kind=kind, output_version=1, inputs=inputs or {}, settings=settings)
    draft.publish({}, {"file": draft.folder.write("file", b"x")})
    manifest = draft.folder.read_json("manifest.json")
    manifest["made"]["at"] = made
    draft.folder.write_json("manifest.json", manifest)
    return Artefact.open(location)


def test_a_home_gives_the_newest_model_of_each_kind(tmp_path: Path) -> None:
    publish(tmp_path / "vectors/aa", "vectors", "2026-01-02T00:00:00+00:00", seed=1)
    new = publish(tmp_path / "vectors/bb", "vectors", "2026-01-03T00:00:00+00:00", seed=2)
    text = publish(tmp_path / "language-model/cc", "language-model", OLD)
    publish(tmp_path / "corpus/dd", "corpus", "2026-01-04T00:00:00+00:00")
    found = models.find(str(tmp_path))
    assert [(kind, model.version) for kind, model in found.items()] == [
        ("vectors", new.identity),
        ("language-model", text.identity),
    ]
    assert found["vectors"].name == f"vectors-{new.identity[:12]}"
    assert found["vectors"].created == 1767398400


@pytest.mark.parametrize("below", [".", "mine", "mine/newest"])
def test_a_model_is_found_up_to_two_levels_down(tmp_path: Path, below: str) -> None:
    publish(tmp_path / below, "vectors", "2026-01-02T00:00:00+00:00")
    assert list(models.find(str(tmp_path))) == ["vectors"]


def test_a_folder_without_a_model_is_refused_with_a_mend(tmp_path: Path) -> None:
    publish(tmp_path / "a/b/c", "vectors", "2026-01-02T00:00:00+00:00")  # too deep
    with pytest.raises(WordloomError, match=r"No model lies in .*wordloom train"):
        models.find(str(tmp_path))
    with pytest.raises(WordloomError, match="no such folder"):
        models.find(str(tmp_path / "missing"))


def test_an_unfinished_model_is_not_served(tmp_path: Path) -> None:
    publish(tmp_path / "done", "vectors", "2026-01-02T00:00:00+00:00")
    Draft(tmp_path / "begun", kind="language-model", output_version=1, inputs={}, settings={})
    assert list(models.find(str(tmp_path))) == ["vectors"]


def test_a_labeller_of_each_direction_is_served(tmp_path: Path) -> None:
    both = publish(tmp_path / "a", "labelling", "2026-01-02T00:00:00+00:00", both=True)
    assert models.find(str(tmp_path))["labelling"].beside is None
    publish(tmp_path / "b", "labelling", OLD, both=False, seed=1)
    forward = publish(tmp_path / "c", "labelling", "2026-01-01T01:00:00+00:00", both=False, seed=2)
    publish(tmp_path / "d", "labelling", OLD, both=True, seed=3)
    found = models.find(str(tmp_path))["labelling"]
    assert (found.version, found.both) == (both.identity, True)
    assert found.beside is not None
    assert (found.beside.version, found.beside.both) == (forward.identity, False)


def test_the_lineage_goes_back_to_the_dump(tmp_path: Path) -> None:
    dump = Input("dump", "d" * 64, "somewhere/dump.xml.bz2")
    corpus = publish(tmp_path / "corpus", "corpus", OLD, {"dump": dump})
    vocabulary = publish(tmp_path / "vocabulary", "vocabulary", OLD, {"corpus": corpus})
    inputs: dict[str, Artefact | Input] = {"corpus": corpus, "vocabulary": vocabulary}
    vectors = publish(tmp_path / "vectors", "vectors", OLD, inputs)
    wanted = [
        ("corpus", corpus.identity),
        ("vocabulary", vocabulary.identity),
        ("dump", "d" * 64),
    ]
    assert models.lineage(vectors) == wanted
    Folder(tmp_path).delete("corpus")
    Folder(tmp_path).delete("vocabulary")
    assert models.lineage(vectors) == wanted[:2]
    described = models.Model.of(vectors).described()
    assert str(tmp_path) not in repr(described)
