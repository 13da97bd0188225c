"""What `wordloom status` draws: what was made from what, from the dump to the models that are served."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster.artefact import Artefact, Draft, Input
from cluster.folder import Folder
from cluster.store import PROGRESS_NUMBERS, SOURCES
from tests.closed import close
from tests.test_house import MODULES


def published(home: Path, kind: str, inputs: Mapping[str, Artefact | Input], **counts: Any) -> Artefact:
    """An artefact of a home, with a file of five bytes."""
    draft = Draft(
        home / kind / f"{len(counts)}{sum(counts.values())}",
        kind=kind,
        output_version=1,
        inputs=inputs,
        settings=counts,
    )
    return draft.publish(counts, {"x": draft.folder.write("x", b"12345")})


@pytest.fixture
def home(tmp_path: Path) -> dict[str, Artefact]:
    dump = tmp_path / "dump.xml.bz2"
    dump.write_bytes(bytes(1200))
    home = tmp_path / "home"
    corpus = published(home, "corpus", {"dump": Input("dump", "d" * 64, str(dump))}, pages=12, tokens=3456)
    words = published(home, "vocabulary", {"corpus": corpus}, size=9)
    inputs = {"corpus": corpus, "vocabulary": words}
    return {
        "corpus": corpus,
        "vocabulary": words,
        "old": published(home, "vectors", inputs, words=9, held_out_auc=0.5),
        "new": published(home, "vectors", inputs, words=9, held_out_auc=0.75),
    }


def test_status_draws_the_lineage_from_the_dump_to_what_is_served(
    tmp_path: Path, home: dict[str, Artefact], capsys: pytest.CaptureFixture[str]
) -> None:
    assert wordloom.main(["status", "--home", f"{tmp_path}/home", "--json"]) == 0
    listed = {each["identity"]: each["served"] for each in json.loads(capsys.readouterr().out)["artefacts"]}
    (served,) = [identity for identity, chosen in listed.items() if chosen]
    assert served in (home["old"].identity, home["new"].identity)  # the newest, made in the same second
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/home  4 artefacts, 20 B"
    drawn = [line.replace("│", " ").replace("├──", "└──") for line in lines[1:]]
    assert drawn[0] == f"└── dump  {'d' * 16}  1200 B  {tmp_path}/dump.xml.bz2"
    assert drawn[1] == f"    └── corpus  {home['corpus'].identity[:16]}  5 B  pages 12, tokens 3,456"
    assert drawn[2] == f"        └── vocabulary  {home['vocabulary'].identity[:16]}  5 B  size 9"
    assert {*drawn[3:]} == {
        f"            └── vectors  {home[name].identity[:16]}  5 B  words 9, held out auc {auc}"
        + ("  ● served" if home[name].identity == served else "")
        for name, auc in (("old", "0.5"), ("new", "0.75"))
    }


def test_an_artefact_that_cannot_be_read_is_shown_with_its_sentence_beside_the_others(
    tmp_path: Path, home: dict[str, Artefact], capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(home["new"].location)
    (place / "manifest.json").write_text('{"format": 99}')
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (said,) = [line for line in lines if str(place) in line]
    assert "has format 99" in said and "newer wordloom" in said
    (served,) = [line for line in lines if "● served" in line]
    assert home["old"].identity[:16] in served
    assert wordloom.main(["status", "--home", f"{tmp_path}/home", "--json"]) == 0
    (unreadable,) = json.loads(capsys.readouterr().out)["unreadable"]
    assert unreadable["location"] == str(place)


def test_a_damaged_record_of_what_is_served_is_said_beside_what_exists(
    tmp_path: Path, home: dict[str, Artefact], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home" / "served.json").mkdir()
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    said = capsys.readouterr().out
    assert "served.json cannot be read" in said and home["new"].identity[:16] in said


def test_what_a_run_began_stands_below_what_it_is_made_from(
    tmp_path: Path, home: dict[str, Artefact], capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Draft(
        tmp_path / "home" / "language-model" / "a",
        kind="language-model",
        output_version=1,
        inputs={"corpus": home["corpus"]},
        settings={},
    )
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "language-model" in line]
    assert line.startswith("    ") and "not finished" in line and begun.location in line


@pytest.mark.parametrize(
    ("draft", "progress"),
    [
        ({"kind": "corpus", "inputs": ["a"]}, {}),
        ({"kind": "corpus", "inputs": {"dump": ["a"]}}, {"at": 1.0}),
        ({}, {**dict.fromkeys(PROGRESS_NUMBERS, 1), "source": "s", "host": "h", "at": "yesterday"}),
        ({}, {**dict.fromkeys(PROGRESS_NUMBERS, 1), "source": "s", "host": "h", "at": math.inf}),
    ],
)
def test_what_is_no_note_of_ours_is_left_out(
    draft: object, progress: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Folder(tmp_path).write_json("corpus/a/making/draft.json", draft)
    Folder(tmp_path).write_json("corpus/a/making/progress.json", progress)
    assert wordloom.main(["status", "--home", str(tmp_path)]) == 0
    assert f"(not finished) {tmp_path}/corpus/a" in capsys.readouterr().out


def test_every_source_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {
        node.args[0].value
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Input"
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    assert kinds == {*SOURCES, "package"}
    published(tmp_path, "sequences", {"letters": Input("file", "f" * 64, "/letter.data")}, sequences=3)
    assert wordloom.main(["status", "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"└── file  {'f' * 16}  /letter.data" and "sequences" in lines[2]


def test_a_reader_that_goes_away_ends_status_well(tmp_path: Path, home: dict[str, Artefact]) -> None:
    command = [sys.executable, "-m", "wordloom", "status", "--home", f"{tmp_path}/home"]
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_may_not_be_read_is_said_beside_what_may_and_stops_gc(
    tmp_path: Path,
    home: dict[str, Artefact],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shut = Path(home["old"].location)
    sentence = f"May not read '{shut}/manifest.json'; change its rights, or name another place."
    close(shut, monkeypatch)
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/home  3 artefacts") and lines[-1] == f"└── {sentence}"
    assert wordloom.main(["status", "--home", f"{tmp_path}/home", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unreadable"] == [
        {"location": str(shut), "sentence": sentence}
    ]
    for command, before in (
        (["gc", "--home"], "Nothing is freed, for "),
        (["models", "list", "--models"], ""),
    ):
        assert wordloom.main([*command, f"{tmp_path}/home"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"wordloom: {before}") and said.endswith(f"{sentence}\n")
    assert shut.exists()
    making = tmp_path / "home" / "corpus" / "b" / "making"
    Folder(making).write_json("draft.json", {"kind": "corpus"})
    Folder(making).write_json("progress.json", {})
    close(making / "progress.json", monkeypatch)
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    assert f"(not finished) {making.parent}" in capsys.readouterr().out
    close(making, monkeypatch)
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    assert f"└── May not read '{making}/draft.json';" in capsys.readouterr().out
    close(tmp_path / "home" / "vectors", monkeypatch)
    assert wordloom.main(["status", "--home", f"{tmp_path}/home"]) == 0
    assert f"└── May not read '{tmp_path}/home/vectors';" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "gc"])
def test_a_home_that_is_a_file_is_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert wordloom.main([command, "--home", f"{tmp_path}/file"]) == 1
    assert f"'{tmp_path}/file' is a file and no folder" in capsys.readouterr().err
