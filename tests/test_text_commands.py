"""`wordloom generate` and `wordloom score`: what they print, what they give as JSON, what they refuse."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import wordloom
from tests.cores import publish_language_model
from trainers.generation import CharacterModel


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish_language_model(tmp_path_factory.mktemp("model")).location


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert wordloom.main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_text_of_a_count_is_shown_and_each_is_what_it_would_be_alone(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "--model", place, "--seed-text", "The ", "--length", "40", "--seed", "3"]
    found = said(capsys, *command, "--count", "3")
    expected = CharacterModel.open(place).generate("The ", 40, seed=3, count=3)
    assert found["texts"] == expected and len(set(expected)) == 3
    assert found["text"] == expected[0] == said(capsys, *command)["text"]
    assert wordloom.main([*command, "--count", "3"]) == 0
    assert capsys.readouterr().out == "\n\n".join(f"The {text}" for text in expected) + "\n"
    assert wordloom.main(command) == 0
    assert capsys.readouterr().out == f"The {expected[0]}\n"


def test_text_is_on_the_terminal_while_more_of_it_is_made(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndedError(Exception):
        pass

    stepped = CharacterModel.step

    def once(self: CharacterModel, carry: Any, n: int, **sampling: Any) -> Any:
        if carry.position:
            raise EndedError
        return stepped(self, carry, n, **sampling)

    monkeypatch.setattr(CharacterModel, "step", once)
    assert wordloom.main(["generate", "--model", place, "--length", "1000", "--seed", "1"]) == 1
    assert len(capsys.readouterr().out) == 256


def test_top_k_top_p_and_temperature_reach_the_model(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "--model", place, "--length", "60", "--seed", "1"]
    model = CharacterModel.open(place)
    for option, sampling in (
        (["--top-k", "2"], {"top_k": 2}),
        (["--top-p", "0.3"], {"top_p": 0.3}),
        (["--temperature", "0"], {"temperature": 0.0}),
        (["--temperature", "50"], {"temperature": 50.0}),
    ):
        assert said(capsys, *command, *option)["texts"] == model.generate("", 60, seed=1, **sampling)


def test_a_length_of_0_prints_the_seed_text_and_an_empty_seed_is_a_documents_beginning(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wordloom.main(["generate", "--model", place, "--seed-text", "We", "--length", "0"]) == 0
    assert capsys.readouterr().out == "We\n"
    assert len(said(capsys, "generate", "--model", place, "--length", "7")["text"]) == 7


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "ascii"])
def test_text_that_a_terminal_cannot_hold_is_escaped(
    place: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_text = "Ö→\udcff\U0001f600"  # \udcff: what Python makes of a byte that is no UTF-8
    command = ["generate", "--model", place, "--seed-text", seed_text, "--length", "0"]
    for given in ([], ["--json"]):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert wordloom.main([*command, *given]) == 0
        sys.stdout.flush()
        if given:
            assert json.loads(written.getvalue())["seed_text"] == seed_text
        else:
            assert written.getvalue() == f"{seed_text}\n".encode(encoding, "backslashreplace")


def test_unknown_characters_are_named_and_read_as_the_unknown_one(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wordloom.main(["score", "--model", place, "--text", "aÖ→Öb", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "! The model does not know these characters of the text: 'Ö' (2), '→' (1).\n"
    found = json.loads(shown.out)
    assert found["unknown"] == {"Ö": 2, "→": 1} and found["characters"] == 5
    assert (
        found["log_probability"]
        == said(capsys, "score", "--model", place, "--text", "a!!!b")["log_probability"]
    )
    generated = said(
        capsys, "generate", "--model", place, "--seed-text", "Öa", "--length", "5", "--seed", "1"
    )
    assert generated["unknown"] == {"Ö": 1}


def test_a_score_is_the_log_probability_bits_and_perplexity_of_the_text(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(capsys, "score", "--model", place, "--text", "The end.", "--each")
    logs = [log for _, log in found["each"]]
    assert "".join(one for one, _ in found["each"]) == "The end."
    assert found["log_probability"] == pytest.approx(sum(logs), rel=1e-6)
    assert found["bits_per_character"] == pytest.approx(-sum(logs) / 8 / math.log(2), rel=1e-6)
    assert found["perplexity"] == pytest.approx(2 ** found["bits_per_character"])
    assert wordloom.main(["score", "--model", place, "--text", "The end.", "--each"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and lines[0].endswith("'T'")
    assert lines[-1].startswith("8 characters, log-probability -")
    assert f"{found['bits_per_character']:.4f} bits a character" in lines[-1]


def test_a_file_and_standard_input_are_scored_as_they_are(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "two lines\r\nof text\n"
    path = tmp_path / "text.txt"
    path.write_bytes(content.encode())
    found = said(capsys, "score", "--model", place, "--input", str(path))
    assert found == said(capsys, "score", "--model", place, "--text", content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert found == said(capsys, "score", "--model", place, "--input", "-")
    monkeypatch.setattr(sys, "stdin", None)
    assert wordloom.main(["score", "--model", place, "--input", "-"]) == 2
    assert "The standard input is closed" in capsys.readouterr().err


def test_an_empty_text_has_no_bits(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "score", "--model", place, "--text", "")
    assert (found["characters"], found["log_probability"], found["bits_per_character"]) == (0, 0.0, None)
    assert wordloom.main(["score", "--model", place, "--text", ""]) == 0
    assert capsys.readouterr().out == "0 characters, log-probability 0.0000.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["score", "--input", "nowhere.txt"], 2, "nowhere.txt"),
        (["score", "--input", "latin.txt"], 1, "no UTF-8"),
        (["generate", "--length", "-1"], 2, "length of -1"),
        (["generate", "--temperature", "nan"], 2, "temperature is nan"),
        (["generate", "--top-p", "0"], 2, "top_p is 0"),
        (["generate", "--seed", "-1"], 2, "random seed is -1"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    place: str,
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    assert wordloom.main([*arguments, "--model", place]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


@pytest.mark.slow
def test_a_million_characters_are_made_at_a_constant_cost(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "generate", "--model", place, "--length", "1000000", "--seed", "1")["text"]
    assert len(text) == 1_000_000
    start = CharacterModel.open(place).generate("", 500, seed=1)[0]
    assert text[:500] == start and len(set(text[-1000:])) > 5
