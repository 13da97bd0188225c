"""Profiles: how Ray Serve carries requests, chosen before Ray starts.

``default`` is Serve's own proxy. ``throughput`` puts HAProxy (it comes with ``ray[serve]``) before replicas
that listen themselves and run the routes in their own loop: a request that asks nothing costs about a tenth
(`python -m tests.benchmarks.serving`). The price is two open ports, which SECURITY.md names. Every process of
Ray reads these settings from its environment, so they must stand there before Ray starts.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from cluster.errors import UsageError
from cluster.session import joins
from serving import haproxy

DEFAULT, THROUGHPUT = "default", "throughput"
# Ray's workers, and proxies with them, would run at 15, behind whatever else the machine does: beside two
# busy processes and some jobs HAProxy's own refusals took 645 ms at p99 there, at 0 they took 46.
NICENESS = {"RAY_worker_niceness": "0"}
PROFILES: dict[str, dict[str, str]] = {
    DEFAULT: {},
    THROUGHPUT: {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # No request changes anything, so one whose replica died before it answered goes to another.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        # HAProxy knows after .1 s that a replica goes; Serve's 30 s are for balancers outside of the cluster.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        # A process of HAProxy that was replaced keeps its routes: connections that stay with it get old ones.
        "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": "1",
        **NICENESS,
    },
}
# Of a Ray of our own in any profile: a dead proxy is missed after three checks, which Serve makes 10 s apart.
OWN = {"RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1"}
# What Serve's own proxy does first (serving/door.py), and the most requests at once of a kind.
DOOR, DOOR_MOST = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "WORDLOOM_DOOR_MOST"
# Where HAProxy keeps its files, one of them a socket by which it is commanded: Ray's default is a folder of a
# known name that every user of the machine can make first.
FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
}


def prepare(profile: str, address: str | None, most: int, replicas: int = 1, *, trains: bool = False) -> None:
    """Sets the environment that a profile needs, for a Ray that this process will start; what the user has
    set there stays. `most` is how many requests at once each of a kind's `replicas` takes. A Ray that also
    `trains` stays behind the machine's other work, but in the profile `throughput`.

    Raises UsageError where another Ray (`address`) is to be joined and the environment lacks it: that Ray's
    processes would not know of the profile.
    """
    missing = {name: value for name, value in PROFILES[profile].items() if name not in os.environ}
    joining = joins(address)
    if joining and missing:
        shown = " ".join(f"{name}={value!r}" for name, value in missing.items())
        raise UsageError(
            f"The profile {profile!r} is a matter of the whole cluster: start its nodes, and this command, "
            f"with {shown} in the environment, or leave --address out."
        )
    if joining:
        return
    for name, value in (OWN | missing | ({} if trains else NICENESS)).items():
        os.environ.setdefault(name, value)
    if profile == DEFAULT:
        if os.environ.setdefault(DOOR, "serving.door:middlewares") == "serving.door:middlewares":
            os.environ[DOOR_MOST] = str(most * replicas)
    else:
        # For this user alone. Sockets may have 97 characters, of which Ray takes 70 below it.
        own = tempfile.mkdtemp(prefix="wordloom-", dir="/tmp")
        atexit.register(shutil.rmtree, own, ignore_errors=True)  # behind the session, which ends Ray
        for name, file in FILES.items():
            os.environ.setdefault(name, str(Path(own, file)))
        if (program := haproxy.install(Path(own), most * replicas)) is not None:
            os.environ.setdefault("RAY_SERVE_HAPROXY_BINARY_PATH", str(program))
