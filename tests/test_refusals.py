"""HAProxy's own answers: what it says of itself becomes increments, whatever happens to its processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import metrics
from serving import refusals
from serving.refusals import Refusals


def said(process: int, *, refused: int, backend: int = 0, server: int = 0, no_route: int = 0) -> str:
    """``show info`` and ``show stat`` of a HAProxy with these answers from 500 on."""
    rows = {
        "http_frontend,FRONTEND": refused + backend + no_route,
        "default_backend,BACKEND": no_route,
        "a,one": server,
        "a,BACKEND": backend,
        "too_busy,BACKEND": refused,
        "stats,FRONTEND": "",
    }
    table = "\n".join(f"{name},{answers}," for name, answers in rows.items())
    return f"Name: HAProxy\nPid: {process}\n\n# pxname,svname,hrsp_5xx,\n{table}\n\n"


def test_what_haproxy_answered_since_the_last_look_is_counted_by_kind() -> None:
    read = Refusals(Path("socket"))
    assert read.more(said(1, refused=3, backend=5, server=4, no_route=2)) == {"too_busy": 3, "not_ready": 3}
    assert read.more(said(1, refused=10, backend=6, server=5, no_route=2)) == {"too_busy": 7}
    assert read.more(said(1, refused=10, backend=6, server=5, no_route=2)) == {}


def test_a_new_process_begins_anew_though_it_has_answered_more() -> None:
    read = Refusals(Path("socket"))
    read.more(said(1, refused=3))
    assert read.more(said(2, refused=5)) == {"too_busy": 5}


def test_an_answer_on_its_way_through_is_not_counted_afterwards() -> None:
    read = Refusals(Path("socket"))
    assert read.more(said(1, refused=0, backend=5, server=3)) == {"not_ready": 2}
    assert read.more(said(1, refused=0, backend=5, server=4)) == {}
    assert read.more(said(1, refused=0, backend=6, server=4)) == {}


def test_what_was_read_goes_into_the_metrics_and_a_haproxy_that_is_not_there_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts: Iterator[str] = iter([said(1, refused=3), said(1, refused=4, no_route=1)])
    seen: list[tuple[str, float, dict[str, str]]] = []
    monkeypatch.setattr(metrics, "increment", lambda *given: seen.append(given))
    read = Refusals(tmp_path / "nobody")
    read.count()
    assert not seen
    monkeypatch.setattr(read, "said", lambda: next(texts))
    read.count()
    assert seen == [
        ("serve_requests", 3, {"route": "refused", "status": "503"}),
        ("serve_errors", 3, {"route": "refused", "kind": "too_busy"}),
    ]
    read.count()
    assert ("serve_errors", 1, {"route": "refused", "kind": "not_ready"}) in seen[2:]
    assert sum(value for name, value, _ in seen if name == "serve_requests") == 5


def test_without_haproxy_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(refusals.SOCKET, raising=False)
    with refusals.counted():
        pass
