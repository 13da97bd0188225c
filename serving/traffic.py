"""What was asked of this process, by route: how often, how well, how fast. For people who look; Prometheus
has the same for those who watch (cluster/metrics.py)."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

import numpy as np

LATELY = 500  # requests of a route whose times are kept


@dataclass
class Asked:
    """Requests to one route: how many, how many with an error of ours or theirs, the last times in ms."""

    requests: int = 0
    errors: int = 0
    lately: deque[float] = field(default_factory=lambda: deque(maxlen=LATELY))


class Traffic:
    """Counts the requests that one thread tells it of."""

    def __init__(self) -> None:
        self._routes: defaultdict[str, Asked] = defaultdict(Asked)

    def count(self, route: str, status: int, milliseconds: float) -> None:
        """One request that was answered, by the template of its route: clients must not make entries."""
        asked = self._routes[route]
        asked.requests += 1
        asked.errors += status >= 400
        asked.lately.append(milliseconds)

    def summary(self) -> list[dict[str, str | int | float]]:
        """For each route `route`, `requests`, `errors`, and of the last times the median and the 95th
        percentile in milliseconds, `median_ms` and `p95_ms`."""
        return [
            {
                "route": route,
                "requests": asked.requests,
                "errors": asked.errors,
                "median_ms": round(float(np.median(asked.lately)), 2),
                "p95_ms": round(float(np.percentile(asked.lately, 95)), 2),
            }
            for route, asked in sorted(self._routes.items())
        ]
