"""The door of Serve's own proxy: it refuses what is too much before the proxy does anything for it.

A request costs the proxy some milliseconds of its one loop, be it answered by a replica or refused there
(serving/gate.py); under four times what the replicas carry, a refusal waited a second for its turn. The door
counts what is inside and refuses the rest at once. HAProxy does the same for the profile ``throughput``
(serving/haproxy.py). Refusals stand in the metrics beside those of the gate, but for their latency, and in no
access log.

Ray calls `middlewares` in the proxy, for serving/profile.py names it in the environment.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.gate import OPEN, TOO_MANY, below, record_refused
from serving.profile import DOOR_MOST

SECONDS = 1.0  # between looks at what was refused
SERVE = "/-"  # below it are the routes of Serve's own, health checks among them


def middlewares() -> list[Middleware]:
    """The door, for as many requests at once as the environment says."""
    return [Middleware(Door, most=int(os.environ[DOOR_MOST]))]


class Door:
    """ASGI middleware: at most `most` requests at once of a kind, which is the first two parts of a path
    (``/v1/text``); the next one gets 503 with ``Retry-After``, before any of its bytes is read. Probes are
    never too many. Paths that lead nowhere are kinds of their own, and the gate behind counts them all."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self._most = most
        self._inside: Counter[str] = Counter()
        self._refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or below(scope["path"], SERVE):
            await self.app(scope, receive, send)
            return
        kind = "/".join(scope["path"].split("/", 3)[:3])
        if self._inside[kind] >= self._most:
            if not self._refused:
                asyncio.get_running_loop().call_later(SECONDS, self._count)
            self._refused += 1
            await TOO_MANY(scope, receive, send)
            return
        self._inside[kind] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._inside[kind] -= 1
            if not self._inside[kind]:  # clients must not make entries that stay
                del self._inside[kind]

    def _count(self) -> None:
        """Puts the refusals since the last time into the metrics: one by one took a quarter of the loop."""
        refused, self._refused = self._refused, 0
        record_refused(TOO_MANY.code, refused)
