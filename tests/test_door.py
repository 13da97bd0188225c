"""The door of Serve's own proxy: what is too much goes no further, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope, Send

from cluster import metrics
from serving import door, profile


async def asked(app: door.Door, path: str) -> list[Message]:
    """The messages of the answer to a request."""
    found: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the door reads nothing")

    async def send(message: Message) -> None:
        found.append(message)

    await app({"type": "http", "method": "GET", "path": path, "headers": []}, receive, send)
    return found


def test_what_is_too_much_of_a_kind_is_refused_and_counted_and_no_probe_and_no_other_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, int, dict[str, str]]] = []
    monkeypatch.setattr(metrics, "increment", lambda *given: seen.append(given))
    monkeypatch.setattr(door, "SECONDS", 0.05)

    async def run() -> None:
        go = asyncio.Event()
        reached: list[str] = []

        async def inside(scope: Scope, receive: Receive, send: Send) -> None:
            reached.append(scope["path"])
            await go.wait()

        app = door.Door(inside, most=2)
        paths = [
            "/v1/words/a/vector",
            "/v1/words/b/vector",
            "/v1/text/score",
            "/livez",
            "/readyz",
            "/-/healthz",
        ]
        waiting = [asyncio.ensure_future(asked(app, path)) for path in paths]
        await asyncio.sleep(0)
        assert reached == paths
        for times in (3, 1):  # counted together, and again after that
            for _ in range(times):
                start, body = await asked(app, "/v1/words/c/vector")
                assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"1")
                assert json.loads(body["body"])["error"]["code"] == "too_busy"
            await asyncio.sleep(0.2)
            assert seen == [
                ("serve_requests", times, {"route": "refused", "status": "503"}),
                ("serve_errors", times, {"route": "refused", "kind": "too_busy"}),
            ]
            seen.clear()
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(asked(app, "/v1/words/d/vector")))
        await asyncio.sleep(0)
        assert reached[len(paths) :] == ["/v1/words/d/vector"]
        go.set()
        await asyncio.gather(*waiting[1:])
        assert not app._inside
        await asyncio.sleep(0.1)
        assert not seen  # what goes in is counted by the gate

    asyncio.run(run())


def test_a_door_is_as_wide_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profile.DOOR_MOST, "7")
    (made,) = door.middlewares()
    assert (made.cls, made.kwargs) == (door.Door, {"most": 7})
