"""Ports that are free now, on loopback."""

from __future__ import annotations

import socket

_given: set[int] = set()


def free_port() -> int:
    """One that this process was not given before: whoever asks for several must not get one of them twice."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
