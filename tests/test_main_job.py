"""The main job: from a dump to served answers, and nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster.artefact import Artefact
from cluster.progress import Reporter
from cluster.session import Session
from cluster.store import Store
from serving import main_job
from tests import small


def run(home: Path) -> dict[str, Any]:
    return main_job.run(
        wordloom.resolved(small.SECTIONS),
        source=None,
        home=str(home),
        workers=2,
        device="cpu",
        address=None,
        stay=False,
        reporter=Reporter(quiet=True),
    )


@pytest.mark.ray
def test_the_chain_answers_and_the_second_run_makes_nothing_again(
    tmp_path: Path, ray_cluster: Session
) -> None:
    first = run(tmp_path / "home")
    assert [stage["name"] for stage in first["stages"]] == [
        "download",
        "start of Ray",
        "ingest",
        "training",
        "serving",
        "shutdown",
    ]
    assert {each["kind"] for each in first["artefacts"]} == {
        "corpus",
        "vocabulary",
        "vectors",
        "language-model",
    }
    asked = {
        each["asked"].partition("?")[0].partition(" ")[2].split(" ")[0]: each for each in first["answers"]
    }
    assert all(each["status"] == 200 for each in first["answers"])
    assert any("neighbours" in path for path in asked)
    assert any("vector" in path for path in asked)
    assert asked["/v1/text/generate"]["body"]["text"]
    for artefact in Store(str(tmp_path / "home")).artefacts():
        artefact.verify()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*.parquet")}
    second = run(tmp_path / "home")
    assert second["artefacts"] == first["artefacts"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*.parquet")} == before
    lineage = Artefact.open(next(iter((tmp_path / "home" / "vectors").iterdir()))).manifest.inputs
    assert lineage["corpus"].identity == first["artefacts"][0]["identity"]
