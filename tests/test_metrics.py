"""Metrics: one list, well formed, and harmless without Ray."""

from __future__ import annotations

import re

import pytest

from cluster import metrics


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_has_a_good_name_a_unit_and_a_meaning(name: str) -> None:
    described = metrics.METRICS[name]
    assert re.fullmatch(r"[a-z][a-z_]+", name) and not name.endswith("_total")
    assert described.kind in ("counter", "gauge", "histogram")
    assert described.unit and described.meaning.endswith(".")


def test_recording_without_ray_does_nothing_and_a_wrong_use_is_found() -> None:
    metrics.increment("ingest_tokens", 3)
    with pytest.raises(TypeError, match="counter"):
        metrics.set("ingest_tokens", 3)
    with pytest.raises(KeyError):
        metrics.increment("no_such_metric")


def test_a_counter_is_scraped_with_total_behind() -> None:
    assert metrics.exported_name("ingest_tokens") == "ray_wordloom_ingest_tokens_total"
    assert metrics.exported_name("train_loss") == "ray_wordloom_train_loss"
