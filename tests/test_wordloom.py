"""The front door: help at once, one sentence for an error, the exit codes that scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import wordloom
from cluster.artefact import Draft, Input

COMMANDS = [
    ["run"],
    ["ingest", "wikipedia"],
    ["ingest", "text"],
    ["train", "embeddings"],
    ["train", "language-model"],
    ["neighbours"],
    ["generate"],
    ["serve"],
    ["status"],
    ["doctor"],
]


def test_help_loads_neither_ray_nor_tensorflow_nor_numpy() -> None:
    code = (
        "import sys, wordloom\n"
        "try: wordloom.main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "heavy = {'ray', 'tensorflow', 'numpy', 'pyarrow', 'keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        wordloom.main([*command, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--settings", "--set", "--json", "--debug", "--quiet"))


@pytest.mark.parametrize("wrong", [[], ["rnu"], ["run", "--wrokers", "2"], ["train", "embeddings"]])
def test_a_command_that_cannot_be_meant_exits_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        wordloom.main(wrong)
    assert done.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--set", "embedings.vector_size=5"], 2, "'embeddings'"),
        (["run", "--set", "embeddings.vectr_size=5"], 2, "'embeddings.vector_size'"),
        (["run", "--set", "vocabulary.size=0"], 2, "vocabulary.size"),
        (["run", "--set", "embeddings.vector_size=many"], 2, "whole number"),
        (["run", "--settings", "nowhere.toml"], 2, "nowhere.toml"),
        (["ingest", "wikipedia", "--source", "nowhere.xml.bz2", "--output", "out"], 1, "nowhere.xml.bz2"),
        (["ingest", "text", "--source", "nowhere.txt", "--output", "out"], 1, "nowhere.txt"),
        (["train", "embeddings", "--corpus", "nowhere", "--output", "out"], 1, "nowhere"),
        (["neighbours", "--vectors", "nowhere", "king"], 1, "nowhere"),
        (["generate", "--model", "nowhere"], 1, "nowhere"),
        (["serve", "--models", "nowhere"], 1, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_sentence_and_its_exit_code(
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wordloom.main([*arguments, "--quiet"]) == code
    shown = capsys.readouterr()
    lines = shown.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("wordloom: ") and words in lines[0]
    assert "Traceback" not in shown.err + shown.out
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_defect_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(options: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(wordloom, "_status", broken)
    assert wordloom.main(["status"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_status_shows_what_exists_and_from_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    assert wordloom.main(["status", "--home", str(home)]) == 0
    assert "nothing yet" in capsys.readouterr().out
    dump = Input("dump", "d" * 64, "/dumps/some.xml.bz2")
    corpus = Draft(home / "corpus" / "a", kind="corpus", output_version=1, inputs={"dump": dump}, settings={})
    made = corpus.publish({"pages": 7}, {})
    Draft(home / "vectors" / "b", kind="vectors", output_version=1, inputs={"corpus": made}, settings={})
    assert wordloom.main(["status", "--home", str(home)]) == 0
    shown = capsys.readouterr().out
    assert "pages 7" in shown and "/dumps/some.xml.bz2" in shown and "vectors (not finished)" in shown
    assert wordloom.main(["status", "--home", str(home), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["artefacts"][0]["counts"] == {"pages": 7}
    assert [each["kind"] for each in said["unfinished"]] == ["vectors"]


def test_every_public_name_is_there() -> None:
    code = "import wordloom\nfor name in wordloom.__all__: assert getattr(wordloom, name)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_section_and_preset_resolves() -> None:
    for preset in ("fast", "reference"):
        assert set(wordloom.resolved({}, preset)) == set(wordloom.SECTIONS)
