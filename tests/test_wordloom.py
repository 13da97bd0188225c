"""The front door: help at once, one sentence for an error, the exit codes that scripts rely on."""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError

import serving.commands
import wordloom
from cluster.artefact import Draft, Input
from cluster.errors import UsageError, WordloomError
from ingest import commands as ingest_commands
from trainers import commands, formats
from trainers.vectors import WordVectors

COMMANDS = [
    ["run"],
    ["ingest", "wikipedia"],
    ["ingest", "text"],
    ["ingest", "abstracts"],
    ["train", "embeddings"],
    ["train", "language-model"],
    ["neighbours"],
    ["analogy"],
    ["evaluate", "vectors"],
    ["export", "vectors"],
    ["import", "vectors"],
    ["generate"],
    ["score"],
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
        (["run", "--set", "sentiment.epoch_batches=-5"], 2, "'epoch_batches' is -5"),
        (["run", "--set", "serving.watch_seconds=nan"], 2, "finite number"),
        (["run", "--set", "serving.watch_seconds=1e10"], 2, "at most 9,223,372,036"),
        (["run", "--settings", "nowhere.toml"], 2, "nowhere.toml"),
        (["status", "--set", "embedings.vector_size=5"], 2, "'embeddings'"),
        (["gc", "--set", "embeddings.vectr_size=5"], 2, "'embeddings.vector_size'"),
        (["models", "list", "--models", ".", "--settings", "nowhere.toml"], 2, "nowhere.toml"),
        (["status", "--home", ""], 2, "The name of a folder is empty"),
        (["train", "embeddings", "--corpus", "", "--output", "out"], 2, "The name of a folder is empty"),
        (["ingest", "wikipedia", "--source", "nowhere.xml.bz2", "--output", "out"], 1, "nowhere.xml.bz2"),
        (["ingest", "text", "--source", "nowhere.txt", "--output", "out"], 1, "nowhere.txt"),
        (["train", "embeddings", "--corpus", "nowhere", "--output", "out"], 1, "nowhere"),
        (["neighbours", "--vectors", "nowhere", "king"], 1, "nowhere"),
        (["analogy", "--vectors", "nowhere", "a", "b", "c"], 1, "nowhere"),
        (["evaluate", "vectors", "--vectors", "nowhere", "--data", "sets"], 1, "nowhere"),
        (["export", "vectors", "--vectors", "nowhere", "--output", "out"], 1, "nowhere"),
        (["import", "vectors", "nowhere.txt", "--output", "out"], 1, "nowhere.txt"),
        (["generate", "--model", "nowhere"], 1, "nowhere"),
        (["score", "--model", "nowhere", "--text", "a"], 1, "nowhere"),
        (["ingest", "abstracts", "--source", "nowhere.jsonl", "--output", "out"], 1, "nowhere.jsonl"),
        (["ingest", "abstracts", "--keywords", "two words", "--output", "out"], 2, "no single word"),
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

    monkeypatch.setattr(serving.commands, "status", broken)
    assert wordloom.main(["status"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_memory_that_ran_out_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(options: object) -> None:
        try:
            raise OutOfMemoryError("1 worker(s) were killed due to the node running low on memory")
        except OutOfMemoryError as error:
            raise RuntimeError("lost") from error

    monkeypatch.setattr(serving.commands, "status", greedy)
    assert wordloom.main(["status"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("wordloom: Memory ran out") and "--workers" in said and "defect" not in said


@pytest.mark.parametrize(("given", "wanted"), [(None, "true"), ("false", "false")])
def test_a_command_leaves_a_gpu_to_others_unless_told_otherwise(
    given: str | None, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", given or "")
    if given is None:
        monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    assert wordloom.main(["status", "--home", str(tmp_path)]) == 0
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == wanted


def test_status_shows_what_exists_and_from_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "my home"
    assert wordloom.main(["status", "--home", str(home)]) == 0
    assert f" run --home '{home}'` begins." in capsys.readouterr().out
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


def test_status_is_shown_on_a_terminal_that_lacks_its_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Draft(tmp_path / "a", kind="vectors", output_version=1, inputs={}, settings={}).publish({}, {})
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="iso-8859-1"))
    assert wordloom.main(["status", "--home", str(tmp_path)]) == 0
    sys.stdout.flush()
    assert rb"\u25cf served" in written.getvalue()


ROYALS = "5 3\nman 1 0 0\nwoman 1 1 0\nking 1 0 5\nqueen 1 1 5\nbread 9 1 0\n"


@pytest.fixture
def royals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Imported vectors, in the folder `vectors` of the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "royals.txt").write_text(ROYALS)
    assert wordloom.main(["import", "vectors", "royals.txt", "--output", "vectors"]) == 0
    assert capsys.readouterr().out == "vectors: 5 words of 3 numbers, read as word2vec.\n"
    return tmp_path / "vectors"


def test_imported_vectors_are_asked_and_served_as_trained_ones_are(
    royals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from serving import models
    from serving.words import Words

    assert wordloom.main(["neighbours", "--vectors", "vectors", "-n", "1", "man"]) == 0
    assert capsys.readouterr().out == "0.994  bread\n"
    assert wordloom.main(["analogy", "--vectors", "vectors", "-n", "1", "man", "king", "woman"]) == 0
    assert capsys.readouterr().out.split()[1] == "queen"
    assert wordloom.main(["analogy", "--vectors", "vectors", "--json", "man", "king", "woman"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["words"] == ["man", "king", "woman"]
    assert [word for word, _ in said["answers"]] == ["queen", "bread"]
    model = models.find(str(royals))["vectors"]
    assert model.lineage[0][0] == "vectors-file"
    words = Words.open(model.location)
    assert words.analogy("man", "king", "Woman", 1)[0].word == "queen"
    assert set(words.examples()) <= set(words.vectors)


def test_an_analogy_with_an_unknown_word_names_near_spellings(
    royals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wordloom.main(["analogy", "--vectors", "vectors", "man", "kking", "woman"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "wordloom: The word 'kking' has no vector; did you mean 'king'?\n"
    assert not shown.out


@pytest.mark.parametrize("kind", commands.FORMATS)
def test_what_is_exported_is_imported_again_the_same(
    royals: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.FORMATS == formats.FORMATS
    arguments = ["--vectors", "vectors", "--output", "file", "--format", kind]
    assert wordloom.main(["export", "vectors", *arguments]) == 0
    assert capsys.readouterr().out == f"file: 5 words of 3 numbers, {kind}.\n"
    for given in ([], ["--format", kind]):
        assert wordloom.main(["import", "vectors", "file", "--output", "again", "--json", *given]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["format"], said["counts"]) == (kind, {"words": 5, "vector_size": 3})
    first, again = WordVectors.open("vectors"), WordVectors.open("again")
    assert again.index_to_key == first.index_to_key
    assert again.vectors.tobytes() == first.vectors.tobytes()


def test_an_evaluation_says_how_well_and_of_how_many(
    royals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = royals.parent / "sets"
    sets.mkdir()
    (sets / "pairs.tsv").write_text("man\tbread\t9\nking\tman\t2\nking\tqueen\t8\nking\tmoon\t1\n")
    (sets / "questions.txt").write_text(": royal\nman woman king queen\n: moon\nman moon king sun\n")
    (sets / "README").write_text("Sets.\n")
    assert wordloom.main(["evaluate", "vectors", "--vectors", "vectors", "--data", "sets"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == "pairs.tsv Spearman 1.000 3 of 4 pairs have vectors"
    assert shown[1] == "questions.txt right 100.0% 1 of 2 questions have vectors"
    assert shown[2] == "royal right 100.0% 1 of 1 questions have vectors"
    assert shown[3] == "moon right - 0 of 1 questions have vectors"
    assert shown[-1] == "No sets, left out: README."
    given = ["--data", "sets/questions.txt", "sets/pairs.tsv", "--json"]
    assert wordloom.main(["evaluate", "vectors", "--vectors", "vectors", *given]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["left_out"] == []
    questions, pairs = said["sets"]
    assert questions["sections"]["moon"] == {"accuracy": None, "found": 0, "asked": 1}
    assert pairs == {"file": "sets/pairs.tsv", "spearman": pytest.approx(1), "found": 3, "asked": 4}


@pytest.mark.parametrize(
    ("content", "given", "words"),
    [
        (b"2 2\nking 1 2\nqueen 1\n", [], "line 3"),
        (b"2 2\nking 1 2\nqueen 1\n", ["--format", "glove"], "line 2"),
        (b"king 1 2\nqueen 1 x\n", [], "line 2"),
        (b"king 1 2\n", ["--format", "word2vec-binary"], "line 1"),
        (b"2 2\nking \x00\x00\x80\x3f", [], "byte 4"),
        (b"", [], "no vectors"),
        (b"\x1f\x8b\x08\x00\x00", [], "unpack it"),
    ],
)
def test_a_malformed_import_is_one_sentence_with_the_place_and_leaves_nothing(
    tmp_path: Path, content: bytes, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    output = tmp_path / "vectors"
    assert wordloom.main(["import", "vectors", str(tmp_path / "file"), "--output", str(output), *given]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and "defect" not in line
    assert not output.exists()


@pytest.mark.real_data
def test_files_of_other_tools_are_imported_and_cut_ones_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted((data / "vectors").iterdir()):
        output = tmp_path / file.name
        assert wordloom.main(["import", "vectors", str(file), "--output", str(output)]) == 0
        vectors = WordVectors.open(output)
        first = vectors.index_to_key[0]
        assert wordloom.main(["neighbours", "--vectors", str(output), "-n", "1", first]) == 0
        whole = file.read_bytes()
        (tmp_path / "cut").write_bytes(whole[: len(whole) * 3 // 5])
        capsys.readouterr()
        code = wordloom.main(["import", "vectors", str(tmp_path / "cut"), "--output", str(tmp_path / "none")])
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 1 and any(place in line for place in ("line ", "byte ", "ends after")), line
        assert not (tmp_path / "none").exists()


def test_every_public_name_is_there() -> None:
    code = "import wordloom\nfor name in wordloom.__all__: assert getattr(wordloom, name)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_section_and_preset_resolves() -> None:
    for preset in ("fast", "reference"):
        assert set(wordloom.command_line().resolved({}, preset)) == set(wordloom.SECTIONS)


@pytest.mark.parametrize("section", wordloom.SECTIONS)
def test_no_setting_is_infinite_and_no_seed_below_0(section: str) -> None:
    module, _, name = wordloom.SECTIONS[section].partition(":")
    settings = getattr(importlib.import_module(module), name)
    for key, hint in typing.get_type_hints(settings).items():
        wrong = [-1] if key == "seed" else []
        for value in [math.nan, math.inf] if float in (hint, *typing.get_args(hint)) else wrong:
            with pytest.raises(UsageError, match=f"{key}.* {value}.*; "):
                settings(**{key: value})


@pytest.mark.parametrize(
    ("keyword", "value", "sentence"),
    [
        ("preset", "referense", "preset is 'referense': invalid choice"),
        ("workers", 0, "workers is 0: '0' is no number of 1 or more"),
        ("workers", 2.5, "workers is 2.5: '2.5' is no number"),
        ("workers", True, "workers is True; it takes what the command line takes"),
        ("connections", -1, "connections is -1: "),
        ("namespaces", ["a"], "is no list of numbers"),
        ("download", "no", "download is 'no'; it takes True or False"),
        ("home", {}, "home is {}; it takes what the command line takes"),
        ("settings", {"ingest": None}, "settings is {'ingest': None}; give a mapping"),
        ("settings", "mine.toml", "settings is 'mine.toml'; give a mapping"),
        ("settings", {"ingset": {}}, "Unknown section 'ingset'"),
    ],
)
def test_a_keyword_in_python_is_checked_as_its_option_is(
    keyword: str, value: object, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        wordloom.ingest_wikipedia("none", str(tmp_path / "made"), **{keyword: value})
    assert sentence in str(raised.value)


@pytest.mark.parametrize("keyword", ["colour", "kind", "line", "command", "help", "dry_run", "work"])
def test_a_keyword_that_is_no_option_is_refused(keyword: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=rf"ingest_text\(\) got an unexpected keyword argument '{keyword}'"):
        wordloom.ingest_text("none", str(tmp_path / "made"), **{keyword: True})


def test_keywords_reach_the_command_as_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def ingest(*given: Any) -> None:
        told.extend(given)
        raise WordloomError("RAN")

    monkeypatch.setattr(ingest_commands, "ingest", ingest)
    keywords: dict[str, Any] = {"workers": 3, "namespaces": [0, 14], "download": False, "connections": None}
    with pytest.raises(WordloomError, match="RAN"):
        wordloom.ingest_wikipedia("s", "o", **keywords, home=tmp_path, settings={"ingest": {"text": True}})
    options, sections = told
    assert (options.source, options.output, options.quiet, options.preset) == ("s", "o", True, "fast")
    assert (options.workers, options.namespaces, options.download) == (3, [0, 14], False)
    assert (options.connections, options.home) == (None, str(tmp_path))
    assert sections == {"ingest": {"text": True}}
    with pytest.raises(WordloomError, match="RAN"):
        wordloom.ingest_wikipedia("s", "o", namespaces=[])
    assert told[-2].namespaces == []  # all
    with pytest.raises(WordloomError, match="RAN"):
        wordloom.ingest_wikipedia("-s", "--o")
    assert (told[-2].source, told[-2].output) == ("-s", "--o")
