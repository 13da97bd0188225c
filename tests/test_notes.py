"""Notes: every server's own, while it lives and no longer."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster import claim
from cluster.errors import WordloomError
from cluster.folder import Folder
from serving import notes
from serving.notes import Held, Note

HELD = Held({"vectors": ["a" * 64]}, {"vectors": "b" * 64})


def written(folder: Folder) -> Path:
    """The one note of a folder."""
    (name,) = folder.child(notes.FOLDER).names()
    return Path(folder.location) / notes.FOLDER / name


def rewritten(path: Path, **other: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | other))


def begin(location: str) -> None:
    """A server that ends without a word."""
    Note(Folder(location)).write(HELD)


def test_a_note_says_what_is_held_until_it_ends_and_again_never(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert notes.noted(folder) == []
    note = Note(folder, renewal=0.001)
    note.write(HELD)
    assert notes.noted(folder) == [HELD]
    written(folder).unlink()
    deadline = time.monotonic() + 60
    while not notes.noted(folder):  # it is renewed
        assert time.monotonic() < deadline
        time.sleep(0.001)
    note.end()
    note.end()
    assert not any((tmp_path / notes.FOLDER).iterdir())


def test_a_killed_server_of_this_machine_counts_no_more_at_once_and_gc_sweeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path)
    killed = multiprocessing.get_context("spawn").Process(target=begin, args=(str(tmp_path),))
    killed.start()
    killed.join()
    path = written(folder)
    assert notes.noted(folder) == []
    for options, left in ((["--dry-run"], True), ([], False)):
        assert wordloom.main(["gc", "--home", str(tmp_path), *options]) == 0
        assert path.exists() == left
    assert "Nothing to free" in capsys.readouterr().out


def test_a_server_elsewhere_counts_while_its_note_is_renewed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    Note(folder).write(HELD)
    path = written(folder)
    rewritten(path, host="elsewhere", process=0)
    assert notes.noted(folder) == [HELD]
    rewritten(path, at=time.time() - notes.PATIENCE + 2 * notes.RENEWAL)
    assert notes.noted(folder) == [HELD]
    notes.sweep(folder)
    rewritten(path, at=time.time() - notes.PATIENCE - 1)
    assert notes.noted(folder) == []
    notes.sweep(folder)
    assert not path.exists()


def test_a_number_of_a_process_that_was_given_out_again_is_not_the_server(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    Note(folder).write(HELD)
    if claim.this_process()["began"] is None:
        pytest.skip("this system does not tell when a process began")
    rewritten(written(folder), began="1")
    assert notes.noted(folder) == []


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"versions": {"vectors": 1}}', '{"versions": {}}'])
def test_a_damaged_note_is_a_sentence_with_its_name(tmp_path: Path, broken: str) -> None:
    folder = Folder(tmp_path)
    Note(folder).write(HELD)
    path = written(folder)
    path.write_text(broken)
    for read in (notes.noted, notes.sweep):
        with pytest.raises(WordloomError, match=rf"{path.name} is damaged .*; delete it"):
            read(folder)


def test_what_else_lies_there_is_no_note(tmp_path: Path) -> None:
    Folder(tmp_path).write(f"{notes.FOLDER}/mine/manifest.json", b"{}")
    assert notes.noted(Folder(tmp_path)) == []
