"""Metrics: the one list of names, units and meanings, used by actors, workers and replicas.

They leave through Ray's Prometheus endpoint of each node, where a name gets ``ray_`` before it and a
counter ``_total`` behind it: ``wordloom_ingest_pages`` is scraped as ``ray_wordloom_ingest_pages_total``.
In a process that is not connected to Ray, recording does nothing.

Ray forgets a gauge that was not set for two of its reports (20 s). So each process sets those that it has
again every few seconds, for as long as it lives.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MILLISECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)


@dataclass(frozen=True)
class Metric:
    """One metric: its kind (``counter``, ``gauge`` or ``histogram``), unit, meaning and labels."""

    kind: str
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    "ingest_pages": Metric("counter", "pages", "Pages of the dump that were read, by outcome: kept or the reason of the drop.", ("outcome",)),
    "ingest_tokens": Metric("counter", "tokens", "Tokens written to shards."),
    "ingest_bytes": Metric("counter", "bytes", "Bytes of the compressed dump that were read."),
    "ingest_splits": Metric("counter", "splits", "Splits of the dump that were finished."),
    "ingest_splits_left": Metric("gauge", "splits", "Splits that the driver of an ingest still waits for; 0 after it."),
    "ingest_losses": Metric("counter", "losses", "Damages found in the dump, each a sentence in the manifest."),
    "train_units": Metric("counter", "tokens or characters", "Units trained, by stage.", ("stage",)),
    "train_loss": Metric("gauge", "nats", "Mean training loss a unit since the last exchange, by stage.", ("stage",)),
    "train_held_out_loss": Metric("gauge", "nats", "Loss a unit on held-out pages after the last epoch, by stage.", ("stage",)),
    "train_position": Metric("gauge", "blocks", "Blocks of the stream done, by stage.", ("stage",)),
    "train_blocks": Metric("gauge", "blocks", "Blocks of the stream in the whole training, by stage.", ("stage",)),
    "train_restarts": Metric("counter", "restarts", "Times the workers were started again after one was lost."),
    "train_exchange_milliseconds": Metric("histogram", "ms", "Time of one exchange between the workers, by stage.", ("stage",)),
    "serve_requests": Metric("counter", "requests", "Requests answered, by route and status; what is refused before a route is found has the route refused.", ("route", "status")),
    "serve_latency_milliseconds": Metric("histogram", "ms", "Time from a request's arrival at the application to its answer, by route.", ("route",)),
    "serve_errors": Metric("counter", "errors", "Requests that were not answered well, by route and kind of error.", ("route", "kind")),
    "serve_characters": Metric("counter", "characters", "Characters generated, by route.", ("route",)),
    "serve_batch_size": Metric("histogram", "requests", "Requests that one call of a model answered, by call.", ("call",)),
    "serve_queue_length": Metric("gauge", "requests", "Requests that waited for a model when its last call began, by call.", ("call",)),
    "serve_model": Metric("gauge", "1", "1 for the model that a replica serves, by kind and version.", ("model", "version")),
}  # fmt: skip

REFRESH_SECONDS = 5.0  # half of the time between Ray's reports

_made: dict[str, Any] = {}
_gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}  # name and labels -> value
_refresher: list[threading.Thread] = []


def increment(name: str, value: float = 1.0, labels: Mapping[str, str] | None = None) -> None:
    """Adds `value` to a counter."""
    if value and (metric := _metric(name, "counter")) is not None:
        metric.inc(value, tags=dict(labels or {}))


def set(name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
    """Sets a gauge, which keeps its value until it is set again or forgotten, or the process ends."""
    if (metric := _metric(name, "gauge")) is not None:
        metric.set(value, tags=dict(labels or {}))
        _gauges[name, tuple((labels or {}).items())] = value
        if not _refresher:
            _refresher.append(threading.Thread(target=_refresh, name="gauges", daemon=True))
            _refresher[0].start()


def forget(labels: Mapping[str, str]) -> None:
    """Lets the gauges with these labels lapse: what they were about is over, though the process lives on."""
    for key in [key for key in _gauges if key[1] == tuple(labels.items())]:
        _gauges.pop(key, None)


def observe(name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
    """Puts one value into a histogram."""
    if (metric := _metric(name, "histogram")) is not None:
        metric.observe(value, tags=dict(labels or {}))


def exported_name(name: str) -> str:
    """The name under which Prometheus scrapes the metric (a histogram's series add a suffix to it)."""
    return f"ray_wordloom_{name}" + ("_total" if METRICS[name].kind == "counter" else "")


def _refresh() -> None:
    while True:
        time.sleep(REFRESH_SECONDS)
        for (name, labels), value in list(_gauges.items()):
            with contextlib.suppress(Exception):  # Ray may be shutting down
                if (metric := _metric(name, "gauge")) is not None:
                    metric.set(value, tags=dict(labels))


def _metric(name: str, kind: str) -> Any:
    described = METRICS[name]
    if described.kind != kind:
        raise TypeError(f"Metric {name!r} is a {described.kind}, not a {kind}.")
    # Never the first to import ray: a pure module that counts must stay pure.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    if name not in _made:
        from ray.util import metrics as ray_metrics

        arguments: dict[str, Any] = {
            "description": f"{described.meaning} Unit: {described.unit}.",
            "tag_keys": described.labels,
        }
        if kind == "histogram":
            arguments["boundaries"] = list(MILLISECONDS)
        cls = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}[kind]
        _made[name] = getattr(ray_metrics, cls)(f"wordloom_{name}", **arguments)
    return _made[name]
