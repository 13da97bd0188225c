"""Every command takes the same options, and says its result to machines alone where it is asked to."""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wordloom
from tests import letters
from tests.kept_artefacts import KEPT

# Those that start Ray, serve or ask a server: their own tests read what they say.
ELSEWHERE = {
    "run",
    "serve",
    "submit",
    "job follow",
    "job stop",
    "ingest wikipedia",
    "ingest reviews",
    "train embeddings",
    "train language-model",
    "train sentiment",
    "train labelling",
    "models promote",
    "models rollback",
}
# All others, on the kept artefacts; {} is a folder of the test's own.
COMMANDS = {
    "ingest text": ["--source", "{}/notes.txt", "--output", "{}/notes", "--dry-run"],
    "ingest letters": ["--source", "{}/letter.data.gz", "--output", "{}/letters"],
    "ingest sequences": ["--source", "{}/tags.conll", "--output", "{}/tags"],
    "ingest abstracts": ["--source", "{}/papers.jsonl", "--output", "{}/papers"],
    "neighbours": ["--vectors", "{}/home/vectors", "boat"],
    "analogy": ["--vectors", "{}/home/vectors", "boat", "lamp", "map"],
    "evaluate vectors": ["--vectors", "{}/home/vectors", "--data", "{}/pairs.tsv"],
    "export vectors": ["--vectors", "{}/home/vectors", "--output", "{}/vectors.txt"],
    "import vectors": ["{}/vectors.txt", "--output", "{}/imported"],
    "predict sentiment": ["--model", "{}/home/sentiment", "--input", "{}/in.tsv", "--output", "{}/out.csv"],
    "generate": ["--model", "{}/home/language-model", "--length", "3", "--seed", "1"],
    "score": ["--model", "{}/home/language-model", "--text", "a boat"],
    "models list": ["--models", "{}/home"],
    "gc": ["--home", "{}/home", "--dry-run"],
    "status": ["--home", "{}/home"],
    "report": ["{}/home/vocabulary"],
    "compare": ["{}/home/vectors", "{}/home/vectors", "--output", "{}/difference.html"],
    "doctor": ["--home", "{}/home"],
}


def leaves(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for word, inner in (pair for action in below for pair in action.choices.items()):
        yield from leaves(inner, f"{name} {word}".strip())


ALL = dict(leaves(wordloom.command_line().parser))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    shutil.copytree(KEPT / "1", folder / "home")
    (folder / "notes.txt").write_text("A note of some words.\n")
    (folder / "letter.data.gz").write_bytes(gzip.compress(b"".join(letters.lines(copies=1))))
    (folder / "tags.conll").write_text("The DET\nend NOUN\n\n" * 3)
    paper = {"title": "T", "abstract": "We train a network.", "created": "2010"}
    lines = [
        json.dumps({**paper, "id": f"1001.{n:04d}", "abstract": f"Paper {n} trains."}) for n in range(40)
    ]
    (folder / "papers.jsonl").write_text("\n".join(lines))
    (folder / "pairs.tsv").write_text("boat\tlamp\t3\nmap\tlamp\t5\nboat\tmap\t1\n")
    (folder / "in.tsv").write_text('id\treview\n"1_1"\t"A dull film."\n')
    return folder


@pytest.mark.parametrize("name", ALL)
def test_every_command_takes_the_options_that_all_take(name: str) -> None:
    known = {option for action in ALL[name]._actions for option in action.option_strings}
    assert {"--json", "--quiet", "--debug", "--settings", "--set"} <= known


def test_every_command_is_walked_here_or_named_as_tested_elsewhere() -> None:
    assert COMMANDS.keys() | ELSEWHERE == ALL.keys() and not COMMANDS.keys() & ELSEWHERE


@pytest.mark.parametrize("name", COMMANDS)  # in this order: vectors are exported before they are imported
def test_a_quiet_command_says_its_result_as_one_line_of_json(
    name: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = [word.format(place) for word in COMMANDS[name]]
    capfd.readouterr()
    code = wordloom.main([*name.split(), *words, "--quiet", "--json"])
    said = capfd.readouterr()
    if name == "doctor" and code == 1:  # a machine that is not ready says so on the other stream
        assert said.out == "" and said.err.startswith("wordloom: This machine is not ready")
        return
    assert code == 0, said.err
    (line,) = said.out.splitlines()
    assert isinstance(json.loads(line), dict)
    assert said.err == "" or name in ("generate", "score", "predict sentiment")  # TensorFlow's own lines


@pytest.mark.parametrize("name", ["status", "report", "compare", "neighbours", "gc", "models list"])
def test_what_is_no_terminal_gets_no_colours(
    name: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert wordloom.main([*name.split(), *(word.format(place) for word in COMMANDS[name])]) == 0
    said = capfd.readouterr()
    assert said.out and "\x1b" not in said.out + said.err


@pytest.mark.parametrize("command", [["run"], ["serve", "--models", "home"]], ids=["run", "serve"])
def test_how_to_listen_is_what_was_said(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import main_job

    given = {}

    def stub(settings: Any, **_: Any) -> dict[str, Any]:
        given.update(settings)
        return {}

    monkeypatch.setattr(main_job, command[0], stub)
    said = ["--host", "127.0.0.2", "--port", "9", "--no-page"]
    assert wordloom.main([*command, *said]) == 0
    assert (given["serving"].host, given["serving"].port, given["serving"].page) == ("127.0.0.2", 9, False)


def test_a_corpus_without_a_vocabulary_below_it_wants_one_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "embeddings", "--corpus", f"{place}/home/corpus", "--output", f"{place}/out"]
    assert wordloom.main(words) == 2
    assert "has no vocabulary below it; name one in --vocabulary" in capsys.readouterr().err
    assert not (place / "out").exists()
