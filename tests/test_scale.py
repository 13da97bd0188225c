"""Many splits: the books stay right and small. tests/benchmarks/scale.py takes the time for a million."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import manifest
from ingest import ledger
from tests.benchmarks import scale

pytestmark = pytest.mark.operate


def test_an_ingest_of_many_splits_goes_on_and_its_manifest_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "INLINE", 1_000)
    monkeypatch.setattr(ledger, "RANGE", 256)
    monkeypatch.setattr(scale, "RANGE", 256)
    figures = scale.simulate(3_000, tmp_path)  # what it finds is checked within
    assert figures["manifest_kb"] < 3
    assert figures["tables_mb"] * 1e6 < 150 * figures["splits"]
    corpus = tmp_path / "corpus"
    assert not (corpus / "making").exists() and len(list((corpus / "shards").iterdir())) == 3_000
