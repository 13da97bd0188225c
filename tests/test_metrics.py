"""Metrics: one list, well formed, and harmless without Ray."""

from __future__ import annotations

import re
import time

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


def test_a_gauge_is_set_again_until_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gauge:
        def set(self, value: float, tags: dict[str, str]) -> None:
            sets.append((value, tags["stage"]))

    sets: list[tuple[float, str]] = []
    monkeypatch.setattr(metrics, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(metrics, "_gauges", {})
    monkeypatch.setattr(metrics, "_refresher", [])
    monkeypatch.setattr(metrics, "_metric", lambda name, kind: Gauge())
    metrics.set("train_loss", 3.0, {"stage": "a"})
    metrics.set("train_loss", 5.0, {"stage": "b"})
    deadline = time.monotonic() + 30
    while min(sets.count((3.0, "a")), sets.count((5.0, "b"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    metrics.forget({"stage": "a"})
    assert list(metrics._gauges) == [("train_loss", (("stage", "b"),))]


def test_a_counter_is_scraped_with_total_behind() -> None:
    assert metrics.exported_name("ingest_tokens") == "ray_wordloom_ingest_tokens_total"
    assert metrics.exported_name("train_loss") == "ray_wordloom_train_loss"
