"""The gate that every request passes: keys, limits, metrics, the access log, the headers of lineage."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Container, Mapping, Sequence
from typing import TextIO

from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster import metrics
from serving.keys import Keys
from serving.models import Model
from serving.traffic import Traffic

OPEN = ("/livez", "/readyz")  # probes show no key and are never too many
LOG = logging.getLogger("wordloom.access")
REFUSED = "refused"  # the route label of what the gate answers itself, before a route is found
UNMATCHED = "unmatched"  # the route label of all paths that no route has: clients must not make labels


class Gate:
    """ASGI middleware around the application.

    `models` maps the prefix of a kind's routes to the model that answers below it; each answer there names
    it in the headers ``X-Wordloom-Model`` (its kind), ``X-Wordloom-Version`` (its identity) and
    ``X-Wordloom-Lineage`` (what it was made from, nearest first: ``vocabulary=..., corpus=..., dump=...``).
    A route that asks another model than its prefix's says so by `request.state.model`, and that one is named.
    Where `keys` hold some for the API, a request shows one (``Authorization: Bearer ...``) or gets 401, but
    for the paths in `keyless`. Each answer is counted in `traffic`. More
    than `most` requests at once get 503 with ``Retry-After``, before any of their bytes is read.
    `log_share` of the answers are logged as JSON, one a line; those with a status from 500 on always. A
    request that is cancelled before its answer begins (the client hung up, or the time was over) counts as
    408 ``unfinished``: nothing failed in the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        models: Mapping[str, Model],
        max_body_bytes: int,
        keys: Keys,
        most: int,
        traffic: Traffic,
        keyless: Container[str] = (),
        log_share: float = 0.0,
    ) -> None:
        self.app = app
        self.limit = max_body_bytes
        self._headers = {prefix: headers_of(model) for prefix, model in models.items()}
        self._keys = keys
        self._most = most
        self._traffic = traffic
        self._keyless = keyless
        self._log_share = log_share
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        added = next((found for prefix, found in self._headers.items() if below(path, prefix)), {})
        status = read = sent = 0
        refusal = None
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        large = declared.isdecimal() and (len(declared) > 15 or int(declared) > self.limit)

        async def limited() -> Message:
            nonlocal read
            # Raised where the body is read, so that it becomes an answer like every other error.
            if large:
                raise self._too_large()
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise self._too_large()
            return message

        async def named(message: Message) -> None:
            nonlocal status, sent, added
            if message["type"] == "http.response.start":
                status = message["status"]
                if (answering := state.get("model")) is not None:
                    added = headers_of(answering)
                MutableHeaders(scope=message).update(added)
            sent += len(message.get("body", b""))
            await send(message)

        self._inside += 1
        try:
            refusal = self._refusal(headers, path)
            if refusal is not None:
                state["error"] = refusal.code
                await refusal(scope, limited, named)
            else:
                await self.app(scope, limited, named)
        except asyncio.CancelledError:
            if not status:
                status, state["error"] = 408, "unfinished"
            raise
        finally:
            self._inside -= 1
            status = status or 500
            route = getattr(scope.get("route"), "path_format", None) or (REFUSED if refusal else UNMATCHED)
            milliseconds = (time.perf_counter() - began) * 1e3
            self._traffic.count(route, status, milliseconds)
            record(route, status, milliseconds, state.get("error", "internal"))
            if self._log_share and (status >= 500 or random.random() < self._log_share):
                line = {
                    "at": round(time.time(), 3),
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "milliseconds": round(milliseconds, 2),
                    "bytes_in": read,
                    "bytes_out": sent,
                    "model": added.get("X-Wordloom-Model"),
                    "version": added.get("X-Wordloom-Version", "")[:12] or None,
                    "error": state.get("error"),
                }
                LOG.info(json.dumps(line))

    def _refusal(self, headers: Headers, path: str) -> Refusal | None:
        """What to answer at once, None where the request, which is counted already, may come in."""
        if path in OPEN:
            return None
        if self._inside > self._most:
            return TOO_MANY
        if self._keys.api is not None and path not in self._keyless:
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._keys.admits(shown.strip()):
                return Refusal(
                    401,
                    "no_key",
                    "This server wants a key that it knows: Authorization: Bearer KEY.",
                    {"WWW-Authenticate": "Bearer"},
                )
        return None

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The body is larger than the limit of {self.limit} bytes.")


def log_to(stream: TextIO) -> None:
    """Writes the access log of this process to a stream, a JSON object a line."""
    if not LOG.handlers:
        LOG.addHandler(logging.StreamHandler(stream))
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


def headers_of(model: Model) -> dict[str, str]:
    """The headers that name a model in an answer."""
    return {
        "X-Wordloom-Model": model.kind,
        "X-Wordloom-Version": model.version,
        "X-Wordloom-Lineage": ", ".join(f"{kind}={identity}" for kind, identity in model.lineage),
    }


class Refusal:
    """An answer of the gate itself, in the form of all errors."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str]) -> None:
        self.status, self.code = status, code
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        self.body = json.dumps({"error": error}).encode()
        self.headers = {"Content-Type": "application/json", "Content-Length": str(len(self.body)), **headers}
        self._raw = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The gate adds to the headers.
        await send({"type": "http.response.start", "status": self.status, "headers": [*self._raw]})
        await send({"type": "http.response.body", "body": self.body})


# The answer to a request that is one too many.
TOO_MANY = Refusal(503, "too_busy", "Too many requests at once; try again.", {"Retry-After": "1"})


def record(route: str, status: int, milliseconds: float, error: str) -> None:
    """Puts an answer into the metrics; `error` is the kind that one from 400 on is of."""
    metrics.increment("serve_requests", 1, {"route": route, "status": str(status)})
    metrics.observe("serve_latency_milliseconds", milliseconds, {"route": route})
    if status >= 400:
        metrics.increment("serve_errors", 1, {"route": route, "kind": error})


def record_refused(kind: str, count: int) -> None:
    """Puts into the metrics what others refused with 503 before the gate; `kind` is that of the error."""
    metrics.increment("serve_requests", count, {"route": REFUSED, "status": "503"})
    metrics.increment("serve_errors", count, {"route": REFUSED, "kind": kind})


def below(path: str, prefix: str) -> bool:
    """Whether a path is the prefix or lies below it."""
    return path == prefix or path.startswith(f"{prefix}/")


def prefixed(models: Mapping[str, Model], prefixes: Mapping[str, Sequence[str]]) -> dict[str, Model]:
    """Each prefix of each kind that has a model, and the model."""
    return {prefix: model for kind, model in models.items() for prefix in prefixes[kind]}
