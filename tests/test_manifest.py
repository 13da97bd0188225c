"""A manifest says the same whether its lists stand in it or beside it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from cluster import manifest
from cluster.artefact import Artefact, Draft, Input
from cluster.errors import WordloomError
from cluster.store import Store, describe, summary

SHARDS = [{"name": f"shards/{number}", "pages": number} for number in range(5)]


def published(folder: Path) -> Artefact:
    draft = Draft(
        folder,
        kind="corpus",
        output_version=1,
        inputs={"dump": Input("dump", "0" * 64, "/dump")},
        settings={"text": True},
    )
    files = {shard["name"]: draft.folder.write(shard["name"], b"x" * shard["pages"]) for shard in SHARDS}
    return draft.publish({"pages": 10, "losses": ["one", "two"] * 3, "shards": SHARDS}, files)


def said(artefact: Artefact) -> dict[str, Any]:
    counts = {**artefact.counts, "shards": [*artefact.counts["shards"]]}
    return {**vars(artefact.manifest), "counts": counts, "files": dict(artefact.manifest.files), "made": None}


def test_lists_beside_a_manifest_say_what_lists_inside_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = published(tmp_path / "small")
    monkeypatch.setattr(manifest, "INLINE", 3)
    made = published(tmp_path / "large")
    large = Artefact.open(tmp_path / "large")
    written = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("small", "large")]
    assert [each["format"] for each in written] == [1, 2] and "shards" not in written[1]["counts"]
    tables = {f"manifest/{name}.parquet" for name in ("files", "shards")}
    assert set(large.manifest.files) == set(small.manifest.files) | tables
    files = {name: record for name, record in large.manifest.files.items() if name not in tables}
    assert {**said(large), "files": files} == said(small) == said(made)
    assert large.bytes == sum(record.bytes for record in large.manifest.files.values()) > small.bytes
    shards = large.counts["shards"]
    assert (len(shards), shards[1], shards[-1], shards[1:3]) == (5, SHARDS[1], SHARDS[4], SHARDS[1:3])
    again = pickle.loads(pickle.dumps(large))
    assert said(again) == said(large)
    large.verify()
    assert "shards" not in summary(large)["counts"] and "pages 10" in describe(large)
    assert len(Store(str(tmp_path)).artefacts()) == 2


def test_a_damaged_table_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "INLINE", 3)
    published(tmp_path / "large")
    (tmp_path / "large" / "manifest" / "shards.parquet").write_bytes(b"PAR1")
    with pytest.raises(WordloomError, match=r"shards.parquet is damaged .*; delete the folder and run"):
        list(Artefact.open(tmp_path / "large").counts["shards"])
    with pytest.raises(WordloomError, match=r"shards.parquet is damaged: 4 bytes"):
        Artefact.open(tmp_path / "large").verify()
