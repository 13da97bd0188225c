"""The gate: what never came whole is no failure of the server, and all that fails is counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cluster.errors import UsageError
from serving import application, gate
from serving.keys import Keys, Secrets
from tests.cores import ALL_MODELS, fakes

SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/words/analogy",
    "raw_path": b"/v1/words/analogy",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"100")],
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Status and error of each answer, as the metrics get them."""
    found: list[tuple[int, str]] = []
    monkeypatch.setattr(gate, "record", lambda route, status, ms, error: found.append((status, error)))
    return found


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_body_that_never_comes_whole_is_not_counted_as_an_error_of_ours(
    hangs_up: bool, counted: list[tuple[int, str]]
) -> None:
    app = application.build(fakes(), ALL_MODELS)
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]
    messages += [{"type": "http.disconnect"}] if hangs_up else []

    async def receive() -> Any:
        if not messages:  # Serve cancels a request that takes too long
            raise asyncio.CancelledError
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    async def ask() -> None:
        await app(dict(SCOPE), receive, send)

    if hangs_up:
        asyncio.run(ask())
    else:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(ask())
    assert counted == [(408, "unfinished")]


def test_what_fails_in_the_gate_itself_is_counted(
    counted: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(keys: Keys, shown: str) -> bool:
        raise UsageError("There is no key.")

    monkeypatch.setattr(Keys, "admits", broken)
    keys = Keys(Secrets((b"x" * 16,)), Secrets((b"x" * 16,)))
    app = application.build(fakes(), ALL_MODELS, keys=keys)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/v1/models", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert counted == [(500, "internal")]


BODY = b'{"a": "king", "b": "man", "c": "queen"}'


@pytest.mark.parametrize(
    ("body", "sent_as", "wanted"),
    [
        (
            BODY,
            None,
            "body: It was not sent as JSON; send it with the header Content-Type: application/json.",
        ),
        (BODY, "text/json", "not sent as JSON"),
        (BODY[:-1], "application/json", "body: It is no JSON: Expecting ',' delimiter, at character 38."),
        (b"[" * 100_000, "application/json", "body: It cannot be read as JSON: it is nested too deeply."),
        (
            b"9" * 5000,
            "application/json",
            "body: It cannot be read as JSON: a number in it has too many digits.",
        ),
        (b'"\xff"', "application/json", "body: It cannot be read as JSON: it is not in UTF-8."),
    ],
)
def test_a_body_that_is_no_json_is_one_sentence_about_the_body(
    body: bytes, sent_as: str | None, wanted: str
) -> None:
    with TestClient(application.build(fakes(), ALL_MODELS)) as client:
        headers = {"Content-Type": sent_as} if sent_as else {}
        answer = client.post("/v1/words/analogy", content=body, headers=headers)
    error = json.loads(answer.text)["error"]
    assert (answer.status_code, error["param"], error["code"]) == (422, "body", "invalid")
    assert wanted in error["message"]
