"""gc: a home loses what nothing needs, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster.artefact import MANIFEST, Artefact, Draft, Input
from cluster.errors import UsageError
from cluster.folder import Folder
from cluster.store import Store
from serving import garbage, models
from serving.notes import Note

DUMP = {"dump": Input("dump", "d" * 64, "x.xml.bz2")}


def made(location: Path, kind: str, inputs: Any, at: int, **settings: Any) -> Artefact:
    """An artefact of the second `at`, with one file."""
    draft = Draft(location, kind=kind, output_version=1, inputs=inputs, settings=settings)
    draft.publish({}, {"x": draft.folder.write("x", b"content")})
    manifest = json.loads((location / MANIFEST).read_text())
    manifest["made"]["at"] = f"2026-01-01T00:00:{at:02}+00:00"
    (location / MANIFEST).write_text(json.dumps(manifest))
    return Artefact.open(location)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, Artefact]:
    """Three corpora, oldest first, each with a vocabulary in its folder and vectors of both."""
    found = {}
    for number in range(3):
        corpus = made(tmp_path / f"corpus-{number}", "corpus", DUMP, 10 * number, n=number)
        words = made(Path(corpus.location) / "vocabulary", "vocabulary", {"corpus": corpus}, 10 * number + 1)
        inputs = {"corpus": corpus, "vocabulary": words}
        vectors = made(tmp_path / "vectors" / str(number), "vectors", inputs, 10 * number + 2)
        found |= {f"corpus {number}": corpus, f"words {number}": words, f"vectors {number}": vectors}
    return found


def names(home: dict[str, Artefact], artefacts: list[Artefact]) -> set[str]:
    known = {artefact.identity: name for name, artefact in home.items()}
    return {known[artefact.identity] for artefact in artefacts}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def of(*numbers: int) -> set[str]:
    return {f"{kind} {number}" for kind in ("corpus", "words", "vectors") for number in numbers}


def test_the_newest_of_each_kind_and_all_that_they_were_made_from_stay(
    tmp_path: Path, home: dict[str, Artefact]
) -> None:
    store = Store(str(tmp_path))
    for keep, freed in ((1, of(0, 1)), (2, of(0)), (3, set())):
        found = garbage.sort(store, keep)
        assert names(home, found.freed) == freed and len(found.kept) == 9 - len(freed)
        assert found.bytes == 7 * len(freed)
    with pytest.raises(UsageError, match="at least 1"):
        garbage.sort(store, 0)


def test_what_is_promoted_keeps_its_lineage_and_the_version_for_a_rollback(
    tmp_path: Path, home: dict[str, Artefact]
) -> None:
    history = [home[f"vectors {number}"].identity for number in (2, 1, 0)]
    models.record(Folder(tmp_path), {"vectors": history})
    store = Store(str(tmp_path))
    assert names(home, garbage.sort(store, 1).freed) == of(1)
    assert not garbage.sort(store, 2).freed
    garbage.free(store, garbage.sort(store, 1))
    assert names(home, store.artefacts()) == of(0, 2)
    assert models.chosen(Folder(tmp_path)) == {"vectors": [history[0], history[2]]}
    assert models.find(str(tmp_path))["vectors"].version == history[2]
    for artefact in store.artefacts():
        artefact.verify()


def test_what_a_server_holds_stays_though_it_is_neither_newest_nor_promoted(
    tmp_path: Path, home: dict[str, Artefact]
) -> None:
    note = Note(Folder(tmp_path))
    note.write(models.holding({"vectors": models.Model.of(home["vectors 1"])}, {}))
    store = Store(str(tmp_path))
    assert names(home, garbage.sort(store, 1).freed) == of(0)
    other = Note(Folder(tmp_path))
    other.write(models.holding({"vectors": models.Model.of(home["vectors 0"])}, {}))
    assert not garbage.sort(store, 1).freed
    other.end()
    assert names(home, garbage.sort(store, 1).freed) == of(0)
    note.end()
    assert names(home, garbage.sort(store, 1).freed) == of(0, 1)


def test_what_a_server_gives_up_for_a_promotion_stays_until_it_did(
    tmp_path: Path, home: dict[str, Artefact]
) -> None:
    note = Note(Folder(tmp_path))
    note.write(models.holding({"vectors": models.Model.of(home["vectors 0"])}, {}))
    models.record(Folder(tmp_path), {"vectors": [home[f"vectors {number}"].identity for number in (0, 2)]})
    store = Store(str(tmp_path))
    assert names(home, garbage.sort(store, 1).freed) == of(1)
    note.write(models.holding({"vectors": models.Model.of(home["vectors 2"])}, {}))
    assert names(home, garbage.sort(store, 1).freed) == of(0, 1)
    note.end()


def test_what_is_served_or_promoted_from_the_folder_of_a_kind_stays(
    tmp_path: Path, home: dict[str, Artefact]
) -> None:
    store, folder = Store(str(tmp_path)), Folder(tmp_path / "vectors")
    note = Note(folder)
    note.write(models.holding({"vectors": models.Model.of(home["vectors 0"])}, {}))
    assert names(home, garbage.sort(store, 1).freed) == of(1)
    note.end()
    models.record(folder, {"vectors": [home[f"vectors {number}"].identity for number in (0, 1)]})
    found = garbage.sort(store, 1)
    assert names(home, found.freed) == of(0)
    garbage.free(store, found)
    assert models.chosen(folder) == {"vectors": [home["vectors 1"].identity]}


@pytest.mark.parametrize("broken", ["{", '{"format": 99}'])
def test_nothing_is_freed_while_an_artefact_cannot_be_read(
    tmp_path: Path, home: dict[str, Artefact], broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(home["vectors 0"].location) / MANIFEST).write_text(broken)  # made from corpus 0
    assert wordloom.main(["gc", "--home", str(tmp_path), "--keep", "1"]) == 1
    assert f"{home['vectors 0'].location}/{MANIFEST}" in capsys.readouterr().err
    assert len(Store(str(tmp_path)).artefacts()) == 8


def test_both_labellers_that_are_served_stay(tmp_path: Path) -> None:
    for second, both in enumerate((False, True)):
        settings = {"both": both}
        made(tmp_path / "labelling" / str(second), "labelling", DUMP, second, **settings)
    assert not garbage.sort(Store(str(tmp_path)), 1).freed


def test_an_unfinished_run_keeps_what_it_is_made_from(tmp_path: Path, home: dict[str, Artefact]) -> None:
    inputs = {"corpus": home["corpus 0"]}
    held = Draft(tmp_path / "vectors" / "new", kind="vectors", output_version=1, inputs=inputs, settings={})
    store = Store(str(tmp_path))
    assert names(home, garbage.sort(store, 1).freed) == of(0, 1) - {"corpus 0"}
    garbage.free(store, garbage.sort(store, 1))
    assert not (tmp_path / "corpus-0" / "vocabulary").exists()
    home["corpus 0"].verify()
    assert [run.location for run in store.unfinished()] == [held.location]


def test_a_vocabulary_that_is_wanted_survives_the_corpus_around_it(tmp_path: Path) -> None:
    around = made(tmp_path / "corpus", "corpus", DUMP, 1)
    other = made(tmp_path / "other", "corpus", DUMP, 2, n=1)
    inside = made(tmp_path / "corpus" / "vocabulary", "vocabulary", {"corpus": other}, 3)
    around.folder.write("report.html", b"a view beside its files")
    store = Store(str(tmp_path))
    found = garbage.sort(store, 1)
    assert [each.location for each in found.freed] == [around.location]
    garbage.free(store, found)
    inside.verify()
    assert not around.folder.exists("report.html")
    assert not (tmp_path / "corpus" / "x").exists()


@pytest.mark.parametrize("last", range(1, 14))
def test_ended_half_way_nothing_half_deleted_reads_as_whole_and_the_same_command_goes_on(
    tmp_path: Path, home: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    wanted = {path for path in files(tmp_path) if path.startswith(("corpus-2/", "vectors/2/"))}
    store = Store(str(tmp_path))
    delete: Callable[..., None] = Folder.delete
    calls = 0

    def killed(folder: Folder, name: str = "") -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        delete(folder, name)

    monkeypatch.setattr(Folder, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        garbage.free(store, garbage.sort(store, 1))
    monkeypatch.undo()
    for artefact in store.artefacts():
        artefact.verify()
    assert wordloom.main(["gc", "--home", str(tmp_path), "--keep", "1"]) == 0
    assert names(home, store.artefacts()) == of(2)
    assert files(tmp_path) == wanted


def test_what_was_made_anew_behind_an_end_half_way_stays(
    tmp_path: Path, home: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))

    def killed(folder: Folder, name: str = "") -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        garbage.free(store, garbage.sort(store, 1))
    monkeypatch.undo()
    for number in (0, 1):  # somebody deleted them by hand; one is there again, of one a run has begun
        shutil.rmtree(tmp_path / "vectors" / str(number))
    again = made(tmp_path / "vectors" / "1", "vectors", {}, 40, n=4)
    begun = Draft(tmp_path / "vectors" / "0", kind="vectors", output_version=1, inputs={}, settings={"n": 5})
    begun.folder.write("x", b"part")
    garbage.free(store, garbage.sort(store, 1))
    again.verify()
    assert begun.folder.exists("x")


def test_the_command_shows_first_and_frees_then(
    tmp_path: Path, home: dict[str, Artefact], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gc", "--home", str(tmp_path), "--keep", "1"]
    assert wordloom.main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "6 of 9 artefacts would go, 42 B" in said and said.count("\n- ") == 5
    assert len(Store(str(tmp_path)).artefacts()) == 9
    assert wordloom.main([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["freed"]) == 6
    assert wordloom.main(command) == 0
    assert "Nothing to free: all 3" in capsys.readouterr().out
