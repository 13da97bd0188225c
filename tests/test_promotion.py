"""Promotion: a version passes its gates or nothing changes, and one command goes back."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster.artefact import Artefact, Draft, Input
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from serving import models, promotion
from serving.keys import API_VARIABLE
from serving.models import LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS
from serving.notes import Note
from tests.cores import WORDS, fakes, tiny_vectors
from trainers.vectors import write_vectors


def publish(location: Path, seed: int, at: str, **counts: Any) -> Artefact:
    """Vectors with some figures, made at a time."""
    draft = Draft(
        location,
        kind=VECTORS,
        output_version=1,
        inputs={"corpus": Input("corpus", "1" * 64, "nowhere")},
        settings={"seed": seed},
    )
    files = write_vectors(draft.folder, tiny_vectors().vectors, WORDS, range(len(WORDS), 0, -1))
    draft.publish(counts, files)
    manifest = draft.folder.read_json("manifest.json")
    manifest["made"]["at"] = f"2026-01-0{at}T00:00:00+00:00"
    draft.folder.write_json("manifest.json", manifest)
    return Artefact.open(location)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    publish(tmp_path / "vectors/old", 1, "1", held_out_auc=0.75)
    publish(tmp_path / "vectors/new", 2, "2", held_out_auc=0.74)
    publish(tmp_path / "vectors/bad", 3, "3", held_out_auc=0.60)
    return tmp_path


def version(home: Path, name: str) -> str:
    return Artefact.open(home / "vectors" / name).identity


def served(home: Path) -> str:
    return models.find(str(home))[VECTORS].version


def test_what_was_promoted_is_served_and_rolled_back_by_one_command(home: Path) -> None:
    bad, new, old = (version(home, name) for name in ("bad", "new", "old"))
    assert served(home) == bad  # the newest, before anything was promoted
    model, gates = promotion.promote(str(home), f"vectors-{old[:12]}")
    assert (model.version, served(home)) == (old, old)
    assert [gate.name for gate in gates] == ["files", "figures", "answers"]
    promotion.promote(str(home), new[:10])
    assert served(home) == new
    assert promotion.rollback(str(home), VECTORS).version == served(home) == old
    assert promotion.rollback(str(home), VECTORS).version == served(home) == bad
    with pytest.raises(UsageError, match="no earlier version"):
        promotion.rollback(str(home), VECTORS)


def test_keys_that_clients_of_a_server_must_show_do_not_keep_a_version_from_its_gates(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_VARIABLE, "a-key-for-clients")
    _, gates = promotion.promote(str(home), version(home, "old"))
    assert gates[-1].name == "answers" and gates[-1].passed


def test_a_worse_version_is_not_promoted(home: Path) -> None:
    promotion.promote(str(home), version(home, "old"))
    with pytest.raises(WordloomError, match=r"worse .*held_out_auc 0\.6 against 0\.75.* as before"):
        promotion.promote(str(home), version(home, "bad"))
    assert served(home) == version(home, "old")


def test_what_a_server_holds_is_what_a_version_is_compared_with_and_goes_back_to(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, bad = (
        models.Model.of(Artefact.open(home / "vectors" / name)) for name in ("old", "new", "bad")
    )
    # A server that began before the others were trained.
    Note(Folder(home)).write(models.holding({VECTORS: old}, {}))
    (marked,) = [each["version"] for each in promotion.versions(str(home)) if each["served"]]
    assert marked == old.version
    with pytest.raises(WordloomError, match=r"worse .*0\.6 against 0\.75"):
        promotion.promote(str(home), bad.version)
    assert wordloom.main(["models", "promote", "--models", str(home), new.name]) == 0
    undo = re.search(r"(models rollback .*)` undoes it", capsys.readouterr().out)
    (marked,) = [each["version"] for each in promotion.versions(str(home)) if each["served"]]
    assert marked == new.version  # the note is older than the promotion
    assert undo and wordloom.main(shlex.split(undo[1])) == 0
    assert f"{old.name} is served again." in capsys.readouterr().out


def test_a_server_that_follows_no_promotion_serves_what_it_holds_and_a_promotion_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (models.Model.of(Artefact.open(home / "vectors" / name)) for name in ("old", "new"))
    note = Note(Folder(home))  # as what deploy/serve.yaml deploys leaves it
    note.write(models.holding({VECTORS: old}, {}, follows=False))
    command = ["models", "promote", "--models", str(home), new.name]
    assert wordloom.main(command) == 0
    said = capsys.readouterr().out
    assert f"{new.name} is promoted; " in said and "once `release` is raised there" in said
    (marked,) = [each["version"] for each in promotion.versions(str(home)) if each["served"]]
    assert marked == old.version
    note.write(models.holding({VECTORS: new}, {VECTORS: new.version}, follows=False))  # deployed anew
    assert wordloom.main(["models", "rollback", "--models", str(home), VECTORS]) == 0
    said = capsys.readouterr().out
    assert f"{old.name} is promoted again." in said and "once `release` is raised there" in said
    note.write(models.holding({VECTORS: old}, {VECTORS: old.version}, follows=False))
    assert wordloom.main(command) == 0
    note.end()
    assert wordloom.main(command) == 0
    assert f"{new.name} is served now" in capsys.readouterr().out


def test_a_note_of_a_version_that_is_gone_counts_for_nothing(home: Path) -> None:
    held = models.Model.of(Artefact.open(home / "vectors" / "old"))
    Note(Folder(home)).write(models.holding({VECTORS: held}, {}))
    Folder(home).delete("vectors/old")
    (marked,) = [each["version"] for each in promotion.versions(str(home)) if each["served"]]
    assert marked == version(home, "bad")


def test_a_damaged_version_is_not_promoted(home: Path) -> None:
    promotion.promote(str(home), version(home, "old"))
    path = home / "vectors/new/vectors.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(WordloomError, match="damaged"):
        promotion.promote(str(home), version(home, "new"))
    assert served(home) == version(home, "old")


def test_a_version_that_was_not_measured_is_not_promoted(home: Path) -> None:
    promotion.promote(str(home), version(home, "old"))
    publish(home / "vectors/unknown", 4, "4")
    with pytest.raises(WordloomError, match="not measured"):
        promotion.promote(str(home), version(home, "unknown"))


def test_a_version_that_does_not_answer_is_not_promoted(home: Path) -> None:
    def broken(model: models.Model) -> Any:
        raise WordloomError("The model cannot be read.")

    with pytest.raises(WordloomError, match="cannot be read"):
        promotion.promote(str(home), version(home, "old"), opened=broken)
    assert served(home) == version(home, "bad")


@pytest.mark.parametrize(
    ("kind", "figure", "old", "better", "worse"),
    [
        (LANGUAGE_MODEL, "held_out_bits_per_character", 1.5, 1.4, 1.6),
        (SENTIMENT, "accuracy", 0.9, 0.91, 0.85),
        (LABELLING, "letter_error", 0.05, 0.04, 0.06),
    ],
)
def test_each_kind_is_promoted_by_its_own_figure(
    tmp_path: Path, kind: str, figure: str, old: float, better: float, worse: float
) -> None:
    versions = {}
    for name, value in (("old", old), ("better", better), ("worse", worse)):
        draft = Draft(tmp_path / name, kind=kind, output_version=1, inputs={}, settings={"name": name})
        made = draft.publish({figure: value}, {"file": draft.folder.write("file", b"x")})
        versions[name] = made.identity
    core = fakes()[kind]
    for name in ("old", "better"):
        promotion.promote(str(tmp_path), versions[name], opened=lambda model: core)
        assert models.find(str(tmp_path))[kind].version == versions[name]
    with pytest.raises(WordloomError, match=rf"worse than .*{figure}"):
        promotion.promote(str(tmp_path), versions["worse"], opened=lambda model: core)
    assert promotion.rollback(str(tmp_path), kind).version == versions["old"]
    listed = {each["version"]: each for each in promotion.versions(str(tmp_path))}
    assert [version for version, each in listed.items() if each["served"]] == [versions["old"]]
    assert listed[versions["worse"]]["figures"] == {figure: worse}


def test_a_name_that_means_none_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="models list"):
        promotion.promote(str(home), "vectors-000000000000")


def test_a_damaged_record_is_one_sentence(home: Path) -> None:
    (home / "served.json").write_text('{"promoted": 3}')
    with pytest.raises(WordloomError, match=r"served\.json is damaged"):
        models.find(str(home))


def test_the_command_line_lists_promotes_and_rolls_back(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"vectors-{version(home, 'old')[:12]}"
    assert wordloom.main(["models", "promote", "--models", str(home), name]) == 0
    assert wordloom.main(["models", "list", "--models", str(home)]) == 0
    listed = capsys.readouterr().out
    assert f"* {name}" in listed and "0.75" in listed and listed.count("*") == 1
    assert wordloom.main(["models", "rollback", "--models", str(home), "vectors"]) == 0
    assert wordloom.main(["models", "rollback", "--models", str(home), "vectors"]) == 2


def test_a_folder_that_is_missing_or_empty_is_said_when_its_models_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wordloom.main(["models", "list", "--models", str(tmp_path)]) == 0
    assert "No model lies in" in capsys.readouterr().out
    assert wordloom.main(["models", "list", "--models", str(tmp_path / "missing")]) == 1
    assert "no folder" in capsys.readouterr().err
