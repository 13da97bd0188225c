"""Settings of serving: addresses and limits. None of them changes an answer, so none enters an identity."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from threading import TIMEOUT_MAX

from cluster.errors import UsageError, WordloomError
from serving.profile import DEFAULT, PROFILES

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServingSettings:
    """Section ``serving``.

    `host` other than loopback lets others reach the models; port 0 takes any free one. `replicas` and
    `replica_cpus` (cores that Ray sets aside for each) hold for every kind of model. `queue` is how many
    requests may wait for one kind beyond those in work; the next is answered 503 at once.

    `state_keys_file` and `api_keys_file` name files with secrets (serving/keys.py); where they are empty the
    environment may hold them (``WORDLOOM_STATE_KEYS``, ``WORDLOOM_API_KEYS``), and without a key for the API
    everybody who reaches the port may ask. `access_log_share` of the requests are logged (0: none; those that
    fail in the server always are), by route, never by what was asked. `watch_seconds` is how often a server
    looks whether another version was promoted. `profile` is how Ray Serve carries requests: ``default`` or
    ``throughput``, which opens two ports to others (serving/profile.py).
    `page` serves the page to play with at ``/``, which else leads to the documentation.
    """

    host: str = LOOPBACK
    port: int = 8000
    replicas: int = 1
    replica_cpus: float = 0.1
    concurrent: int = 32
    queue: int = 128
    timeout_seconds: float = 60.0
    max_body_bytes: int = 1_000_000
    max_neighbours: int = 1_000
    max_word_characters: int = 200
    max_text_characters: int = 20_000
    max_generated_characters: int = 10_000
    max_texts: int = 64
    max_frames: int = 256
    max_stops: int = 8
    state_keys_file: str = ""
    api_keys_file: str = ""
    access_log_share: float = 0.0
    watch_seconds: float = 2.0
    profile: str = DEFAULT
    page: bool = True

    def __post_init__(self) -> None:
        if not self.host:
            raise UsageError(f"Setting 'serving.host' is empty; {LOOPBACK} serves this machine alone.")
        if self.profile not in PROFILES:
            raise UsageError(
                f"Setting 'serving.profile' is {self.profile!r}; choose {' or '.join(PROFILES)}."
            )
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"Setting 'serving.port' is {self.port}; give 0 to 65535.")
        for name in (
            "replicas",
            "concurrent",
            "max_body_bytes",
            "max_neighbours",
            "max_word_characters",
            "max_text_characters",
            "max_generated_characters",
            "max_texts",
            "max_frames",
            "max_stops",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting 'serving.{name}' is {getattr(self, name)}; give at least 1.")
        if self.queue < 0:
            raise UsageError(f"Setting 'serving.queue' is {self.queue}; give 0 or more.")
        if not 0 <= self.replica_cpus < math.inf:
            raise UsageError(
                f"Setting 'serving.replica_cpus' is {self.replica_cpus}; give a finite number from 0 on."
            )
        if not 0 <= self.access_log_share <= 1:
            raise UsageError(
                f"Setting 'serving.access_log_share' is {self.access_log_share}; give a share from 0 to 1."
            )
        for name in ("timeout_seconds", "watch_seconds"):
            if not 0 < getattr(self, name) <= TIMEOUT_MAX:  # what is longer, Python cannot wait for
                raise UsageError(
                    f"Setting 'serving.{name}' is {getattr(self, name)}; give a number above 0 and at most "
                    f"{TIMEOUT_MAX:,.0f}."
                )

    @property
    def most(self) -> int:
        """Requests at once that a replica takes, those that wait included."""
        return self.concurrent + self.queue


def free_port(host: str, port: int) -> int:
    """The port if it is free, any free one for 0. Raises WordloomError where it is taken or cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise WordloomError(
            f"Cannot serve at {host}:{port} ({error.strerror}); choose another --port or --host."
        ) from error
