"""Artefacts are whole or not there, and are found by what they were made from."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.artefact import Artefact, Draft, Input, output_file
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder

DUMP = Input("dump", "d" * 64, "/somewhere/dump.xml.bz2")


@dataclass(frozen=True)
class Settings:
    size: int = 3
    name: str = "x"


def draft(folder: Path, settings: Settings = Settings(), version: int = 1, dump: Input = DUMP) -> Draft:
    return Draft(folder, kind="corpus", output_version=version, inputs={"dump": dump}, settings=settings)


def test_a_published_artefact_reads_back_what_was_written(tmp_path: Path) -> None:
    made = draft(tmp_path / "a")
    record = made.folder.write("part/0.bin", b"hello")
    made.publish({"pages": 1}, {"part/0.bin": record})
    read = Artefact.open(tmp_path / "a", "corpus")
    assert read.identity == made.identity
    assert read.counts == {"pages": 1}
    assert read.manifest.inputs["dump"] == DUMP
    assert read.manifest.settings == {"size": 3, "name": "x"}
    assert read.folder.read("part/0.bin") == b"hello"
    read.verify()


def test_the_same_inputs_and_settings_are_found_again(tmp_path: Path) -> None:
    draft(tmp_path / "a").publish({}, {})
    again = draft(tmp_path / "a")
    assert again.published is not None
    elsewhere = Input("dump", DUMP.identity, "/moved/dump.xml.bz2")
    assert draft(tmp_path / "a", dump=elsewhere).published is not None  # places are no part of an identity


@pytest.mark.parametrize(
    "other",
    [
        {"settings": Settings(size=4)},
        {"version": 2},
        {"dump": Input("dump", "e" * 64, DUMP.location)},
    ],
)
def test_another_setting_version_or_input_is_another_artefact(tmp_path: Path, other: dict) -> None:  # type: ignore[type-arg]
    first = draft(tmp_path / "a")
    first.publish({}, {})
    assert draft(tmp_path / "b", **other).identity != first.identity
    with pytest.raises(WordloomError, match="holds another artefact"):
        draft(tmp_path / "a", **other)


def test_readers_refuse_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="no such folder"):
        Artefact.open(tmp_path / "none")
    made = draft(tmp_path / "a")
    made.folder.write("part", b"x")
    with pytest.raises(WordloomError, match="did not finish"):
        Artefact.open(tmp_path / "a")


def test_readers_refuse_another_kind_and_a_damaged_manifest(tmp_path: Path) -> None:
    draft(tmp_path / "a").publish({}, {})
    with pytest.raises(WordloomError, match="'corpus'"):
        Artefact.open(tmp_path / "a", "vectors")
    (tmp_path / "a" / "manifest.json").write_text('{"kind": ')
    with pytest.raises(WordloomError, match="damaged"):
        Artefact.open(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(WordloomError, match="newer"):
        Artefact.open(tmp_path / "a")


@pytest.mark.parametrize(
    "other", [{"made": None}, {"counts": []}, {"kind": 5}, {"identity": None}, {"output_version": "2"}]
)
def test_a_manifest_with_a_value_of_another_kind_is_none_of_ours(
    tmp_path: Path, other: dict[str, object]
) -> None:
    draft(tmp_path / "a").publish({}, {})
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **other}))
    with pytest.raises(WordloomError, match=rf"is no manifest of ours .*{next(iter(other))} is"):
        Artefact.open(tmp_path / "a")


def test_an_unfinished_draft_goes_on_and_one_of_another_identity_is_cleared(tmp_path: Path) -> None:
    draft(tmp_path / "a").making.write("splits/0.json", b"{}")
    assert draft(tmp_path / "a").making.exists("splits/0.json")
    assert not draft(tmp_path / "a", Settings(size=4)).making.exists("splits/0.json")


def test_publishing_clears_what_was_only_for_resuming(tmp_path: Path) -> None:
    made = draft(tmp_path / "a")
    made.making.write("checkpoint", b"x")
    made.publish({}, {})
    assert made.folder.names() == ["manifest.json"]


def test_what_a_kill_behind_the_manifest_left_is_cleared(tmp_path: Path) -> None:
    made = draft(tmp_path / "a")
    made.publish({}, {})
    made.making.write("checkpoint", b"x")
    assert draft(tmp_path / "a").published is not None
    assert made.folder.names() == ["manifest.json"]


def test_a_folder_with_foreign_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(WordloomError, match=r"not ours \('thesis.txt'\)"):
        draft(tmp_path / "a")
    assert (tmp_path / "a" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["[]", "3", '{"identity": "ab', "{}"])
def test_a_making_folder_that_is_not_ours_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a" / "making" / "draft.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(WordloomError, match=r"not ours \('making/draft.json'\)"):
        draft(tmp_path / "a")
    file.rename(file.with_name("thesis.txt"))
    with pytest.raises(WordloomError, match=r"not ours \('making/thesis.txt'\)"):
        draft(tmp_path / "a")
    assert file.with_name("thesis.txt").read_text() == content


def test_who_begins_while_the_folder_is_looked_at_is_not_foreign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Folder.names
    begins = [lambda: draft(tmp_path / "a")]

    def listed(folder: Folder) -> list[str]:
        if begins:
            begins.pop()()
        return names(folder)

    monkeypatch.setattr(Folder, "names", listed)
    assert draft(tmp_path / "a").published is None and not begins


def test_clearing_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making = draft(tmp_path / "a").making
    for name in ("a.json", "splits/0.json"):
        making.write(name, b"{}")
    delete = Folder.delete

    def killed(folder: Folder, name: str = "") -> None:
        if name == "making/splits/0.json":
            raise KeyboardInterrupt
        delete(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            draft(tmp_path / "a", Settings(size=4))
    assert making.exists("splits/0.json") and not making.exists("a.json")
    assert not draft(tmp_path / "a", Settings(size=4)).making.exists("splits/0.json")


def test_what_lies_beside_an_unfinished_draft_is_never_cleared(tmp_path: Path) -> None:
    within = draft(tmp_path / "a")
    draft(tmp_path / "a" / "within").publish({}, {})  # as people nest them
    for name in ("notes.txt", "shards/0.parquet"):
        within.folder.write(name, b"x")
        there = within.folder.names()
        with pytest.raises(WordloomError, match="did not finish, and files beside it"):
            draft(tmp_path / "a", Settings(size=4))
        assert within.folder.names() == there
    assert draft(tmp_path / "a").published is None  # the same run goes on


def test_a_file_of_an_artefact_is_no_place_for_output(tmp_path: Path) -> None:
    made = draft(tmp_path / "made")
    files = {"board/table.tsv": made.folder.write("board/table.tsv", b"of the artefact")}
    made.publish({}, files)
    for name in ("board/table.tsv", "manifest.json"):
        with pytest.raises(UsageError, match=f"{name}' belongs to an artefact"):
            output_file(tmp_path / "made" / name)
    (tmp_path / "link").symlink_to(tmp_path / "made" / "manifest.json")
    with pytest.raises(UsageError, match="link' belongs to an artefact"):
        output_file(tmp_path / "link")
    for beside in ("made/report.html", "made/board/mine.txt", "manifest.json", "out.txt"):
        (tmp_path / beside).write_text("written before")
        assert output_file(tmp_path / beside) == tmp_path / beside


def test_damage_to_a_file_is_found(tmp_path: Path) -> None:
    made = draft(tmp_path / "a")
    made.publish({}, {"x": made.folder.write("x", b"hello")})
    (tmp_path / "a" / "x").write_bytes(b"hullo")
    with pytest.raises(WordloomError, match="damaged"):
        Artefact.open(tmp_path / "a").verify()


def test_a_draft_travels_to_a_worker(tmp_path: Path) -> None:
    made = draft(tmp_path / "a")
    there = pickle.loads(pickle.dumps(made))
    there.making.write("x", b"1")
    assert there.identity == made.identity and made.making.exists("x")
