"""Real dumps, in two scripts: the main job on one, vectors of the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.session import Session
from tests import small
from trainers.vectors import WordVectors

# One pass, a small language model, and what does not come from the dump as small as it can be: what is tested
# is the chain, not how good it can become.
REDUCED = [
    *("--set", "embeddings.epochs=1", "--set", "vocabulary.min_count=5"),
    *("--set", "language_model.epochs=1", "--set", "language_model.epoch_batches=40"),
    *small.assignments("review_grammar", "word_images", "sentiment", "labelling"),
]


def run(source: Path, home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "wordloom",
            "run",
            "--source",
            str(source),
            "--home",
            str(home),
            "--port",
            "0",
            "--json",
            *REDUCED,
        ],
        stdout=subprocess.PIPE,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert all(answer["status"] == 200 for answer in said["answers"])
    return said


@pytest.mark.slow
@pytest.mark.real_data
def test_english_neighbours_make_sense(data: Path, tmp_path: Path, ray_cluster: Session) -> None:
    dump = str(data / "dumps" / "enwiki-2015-sample.xml.bz2")
    for command in (
        ["ingest", "wikipedia", "--source", dump, "--output", "corpus"],
        ["train", "embeddings", "--corpus", "corpus", "--output", "vectors", *REDUCED[:4]],
    ):
        subprocess.run(
            [sys.executable, "-m", "wordloom", *command],
            cwd=tmp_path,
            env={**os.environ, "RAY_ADDRESS": ray_cluster.address},
            timeout=1200,
            check=True,
        )
    words = WordVectors.open(tmp_path / "vectors")
    triples = [
        ("king", "queen", "bicycle"),
        ("river", "lake", "senator"),
        ("france", "germany", "protein"),
        ("red", "blue", "committee"),
        ("mathematics", "physics", "football"),
        ("army", "troops", "melody"),
    ]
    wrong = [each for each in triples if words.similarity(*each[:2]) <= words.similarity(each[0], each[2])]
    assert len(wrong) <= 1, wrong  # one pass over 33 million tokens, one seed


@pytest.mark.slow
@pytest.mark.real_data
def test_a_japanese_dump_that_is_cut_is_served_and_the_cut_is_reported(data: Path, tmp_path: Path) -> None:
    said = run(data / "dumps" / "jawiki-truncated.xml.bz2", tmp_path / "home")
    corpus = said["artefacts"][0]
    manifest = json.loads((Path(corpus["location"]) / "manifest.json").read_text())
    assert manifest["counts"]["losses"] and corpus["counts"]["pages"] > 100
    (made,) = [each for each in said["artefacts"] if each["kind"] == "vectors"]
    words = WordVectors.open(made["location"])
    assert any("\u3040" <= word[0] <= "\u9fff" for word in words.index_to_key[:100])
