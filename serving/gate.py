"""The gate that every request passes: the limit on bodies, the metrics, the headers of lineage."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster import metrics
from serving.models import Model

UNMATCHED = "unmatched"  # the route label of all paths that no route has: clients must not make labels


class Gate:
    """ASGI middleware around the application.

    `models` maps the prefix of a kind's routes to the model that answers below it; each answer there names
    it in the headers ``X-Wordloom-Model`` (its kind), ``X-Wordloom-Version`` (its identity) and
    ``X-Wordloom-Lineage`` (what it was made from, nearest first: ``vocabulary=..., corpus=..., dump=...``).
    """

    def __init__(self, app: ASGIApp, models: Mapping[str, Model], max_body_bytes: int) -> None:
        self.app = app
        self.limit = max_body_bytes
        self._headers = {f"{prefix}/": headers_of(model) for prefix, model in models.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        added = next((found for prefix, found in self._headers.items() if path.startswith(prefix)), {})
        status = 500
        declared = Headers(scope=scope).get("content-length", "")
        refused = declared.isdigit() and int(declared) > self.limit
        read = 0

        async def limited() -> Message:
            nonlocal read
            # Raised where the body is read, so that it becomes an answer like every other error.
            if refused:
                raise self._too_large()
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise self._too_large()
            return message

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(added)
            await send(message)

        try:
            await self.app(scope, limited, named)
        finally:
            route = getattr(scope.get("route"), "path_format", None) or UNMATCHED
            metrics.increment("serve_requests", 1, {"route": route, "status": str(status)})
            metrics.observe(
                "serve_latency_milliseconds", (time.perf_counter() - began) * 1e3, {"route": route}
            )
            if status >= 400:
                kind = state.get("error", "internal")
                metrics.increment("serve_errors", 1, {"route": route, "kind": kind})

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The body is larger than the limit of {self.limit} bytes.")


def headers_of(model: Model) -> dict[str, str]:
    """The headers that name a model in an answer."""
    return {
        "X-Wordloom-Model": model.kind,
        "X-Wordloom-Version": model.version,
        "X-Wordloom-Lineage": ", ".join(f"{kind}={identity}" for kind, identity in model.lineage),
    }
