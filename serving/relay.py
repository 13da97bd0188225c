"""Hands requests on to the replicas of another kind, whole or streamed.

Serve's proxy knows one prefix a kind. What the `openai` client asks of a kind stands below other prefixes and
comes to the replicas of ``/``; for these routes one hop more (5 ms) is the price of keeping each model in
replicas of its own. The request goes on as it came, and the answer comes back message by message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gate import Refusal, below

# Asks a kind's replicas: the scope without what does not travel, and the body; the answer's messages.
Ask = Callable[[str, dict[str, Any], bytes], AsyncIterator[Message]]
TRAVELS = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers")


class Relay:
    """ASGI middleware: what begins with a prefix of `elsewhere` (prefix -> kind) is answered by `ask`."""

    def __init__(self, app: ASGIApp, elsewhere: Mapping[str, str], ask: Ask, max_body_bytes: int) -> None:
        self.app = app
        self._elsewhere = elsewhere
        self._ask = ask
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = None
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            kind = next((kind for prefix, kind in self._elsewhere.items() if below(path, prefix)), None)
        if kind is None:
            await self.app(scope, receive, send)
            return
        body = await self._body(receive)
        travelling = {name: scope[name] for name in TRAVELS if name in scope} | {"path": path}
        started = False
        try:
            async for message in self._ask(kind, travelling, body):
                started = started or message["type"] == "http.response.start"
                await send(message)
        except Exception:
            if started:  # the answer breaks off: nothing better can be said on this connection
                raise
            refusal = Refusal(
                503, "not_ready", "The model is not ready or too busy; try again.", {"Retry-After": "1"}
            )
            await refusal(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes:
        """The whole body, or of one that is too large a little more than the limit: it is refused there."""
        parts, size, more = [], 0, True
        while more and size <= self._limit:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        return b"".join(parts)


async def answered(app: ASGIApp, scope: Mapping[str, Any], body: bytes) -> AsyncIterator[Message]:
    """Runs an application on a request that was handed on; yields its messages as they come."""
    messages: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=16)
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client is the relay's concern: it cancels this request
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def run() -> None:
        try:
            await app(dict(scope), receive, messages.put)
        finally:
            await messages.put(None)

    task = asyncio.ensure_future(run())
    try:
        while (message := await messages.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
