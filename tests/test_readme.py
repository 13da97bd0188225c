"""The README is true: every command in it runs (in a reduced form), its tree is the tree."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from cluster.session import Session
from ingest import review_grammar
from tests import letters, small
from tests.served import serving

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The lines of its shell blocks."""
    return [
        line.partition("#")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    ]


COMMANDS = commands(README)
TRAINS = ("run", "ingest", "train")


def test_every_module_has_its_line_in_the_tree() -> None:
    shown = set(re.findall(r"^\s+([a-z0-9_]+\.py) ", README, re.MULTILINE))
    there = {
        path.name
        for folder in ("cluster", "ingest", "trainers", "serving")
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    assert there <= shown and shown - {"wordloom.py"} <= there


def test_the_readme_begins_with_the_two_commands() -> None:
    assert [command.split() for command in COMMANDS[:2]] == [["make", "run"], ["make", "test"]]


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path, ray_cluster: Session) -> None:
    """Ingest and training on one Ray, for its start and end take ten seconds a command; `run` and Python
    start their own, as a person's do."""
    joined = {**os.environ, "RAY_ADDRESS": ray_cluster.address}
    small.dump(tmp_path / "sample").rename(tmp_path / "dump.xml.bz2")
    (tmp_path / "notes").mkdir()
    rows = [f'{{"id": {n}, "body": "A note of some words, number {n}."}}' for n in range(300)]
    (tmp_path / "notes" / "a.jsonl").write_text("\n".join(rows))
    papers = [
        {
            "id": f"1001.{n:04d}",
            "title": f"T {n}",
            "abstract": f"We train network {n}. " * 9,
            "created": "2010",
        }
        for n in range(60)
    ]
    (tmp_path / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)))
    reviews = review_grammar.reviews(review_grammar.GrammarSettings(training=80, test=20))
    with tarfile.open(tmp_path / "aclImdb_v1.tar.gz", "w:gz") as archive:
        for number, row in enumerate(reviews):
            info = tarfile.TarInfo(f"aclImdb/{row.split}/{str(row.label)[:3]}/{number}_5.txt")
            info.size = len(content := str(row.content).encode())
            archive.addfile(info, io.BytesIO(content))
    (tmp_path / "testData.tsv").write_text('id\treview\n"1_1"\t"A dull film."\n')
    (tmp_path / "letter.data.gz").write_bytes(gzip.compress(b"".join(letters.lines(copies=4))))
    (tmp_path / "sentences.conll").write_text("The DET\nend NOUN\n\n" * 20)
    for command in COMMANDS:
        words = shlex.split(command)
        if words[:2] == ["make", "test"]:
            continue
        if words[0] == "make":
            home = tmp_path / "made"
            arguments = shlex.join(["--home", str(home), "--set", "serving.port=0", *small.ASSIGNMENTS])
            subprocess.run([*words, f"ARGS={arguments}"], cwd=ROOT, check=True, timeout=400)
            continue
        assert words[0] == "wordloom", command
        reduced = small.ASSIGNMENTS if words[1] in TRAINS else []
        if words[1] == "run":
            reduced = [*reduced, "--port", "0"]
        if "embeddings.vector_size=50" in words:  # what the command sets itself must win
            reduced = [*reduced, "--set", "embeddings.vector_size=50"]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "wordloom", *words[1:], *reduced],
            cwd=tmp_path,
            env=joined if words[1] in ("ingest", "train") else None,
            timeout=400,
            check=False,
        )
        print(f"{time.monotonic() - began:.1f} s: {command}")
        assert done.returncode == 0, command
    (python,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    subprocess.run([sys.executable, "-c", python], cwd=tmp_path, check=True, timeout=100)


def test_the_tutorial_names_files_and_sections_that_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TUTORIAL):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path: Path, ray_cluster: Session) -> None:
    """On one Ray for all of them, which a person's commands each start for themselves."""
    small.dump(tmp_path / "sample").rename(tmp_path / "dump.xml.bz2")
    with (tmp_path / "opinions.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("text", "label", "split"))
        for row in review_grammar.reviews(review_grammar.GrammarSettings(training=60, test=20)):
            rows.writerow((row.content, row.label, row.split))
    (tmp_path / "new.tsv").write_text('id\treview\n"1_1"\t"A dull film."\n')
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster.address}
    server = next(command for command in commands(TUTORIAL) if command.startswith("wordloom serve"))
    for command in commands(TUTORIAL):
        words = shlex.split(command)
        if command == server:
            continue
        if words[0] == "curl":
            folder = words_after(server, "--models")
            with serving(tmp_path / folder) as running:
                asked = urlsplit(next(word for word in words if word.startswith("http")))
                body = words_after(command, "-d").encode()
                request = Request(f"{running.url}{asked.path}", body, {"Content-Type": "application/json"})
                with urlopen(request, timeout=60) as reply:
                    assert json.load(reply)["results"][0]["label"] in ("negative", "positive")
            continue
        assert words[0] == "wordloom", command
        reduced = small.ASSIGNMENTS if words[1] in TRAINS else []
        done = subprocess.run(
            [sys.executable, "-m", "wordloom", *words[1:], *reduced],
            cwd=tmp_path,
            env=environment,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, command
    assert (tmp_path / "judged.csv").read_text().startswith("id,sentiment\n1_1,0.")
    assert all((tmp_path / "mine" / name / "report.html").exists() for name in ("corpus", "vectors", "judge"))


def words_after(command: str, option: str) -> str:
    words = shlex.split(command)
    return words[words.index(option) + 1]
