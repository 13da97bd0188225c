"""Asking web servers politely: who we are, how long to wait, when to try again, what they say a file is.

RFC 9110: validators (ETag, Last-Modified), ranges, Retry-After. Every request holds a lease of its host
(`cluster.connections`), given back during the waits.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from cluster.connections import Connections
from cluster.errors import WordloomError
from cluster.folder import refuse_password

USER_AGENT = "wordloom/0.1 (corpus building from Wikipedia dumps; at most two connections; requests)"
TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte
ATTEMPTS = 6  # in a row without a new byte
LONGEST_WAIT = 600.0  # seconds; a server that wants more is taken at its word on the next run
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
CHUNK = 1 << 18
PAGE_BYTES = 64 << 20  # of a page that is read whole; the largest wiki's status file has a few MB

Pause = Callable[[float], object]


@dataclass(frozen=True)
class Version:
    """Which version of a file a server hands out, as far as it says."""

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    def same(self, other: Version) -> bool:
        """Whether nothing that both of them say differs, and something agrees."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.total, other.total))
        told = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
        return bool(told) and all(mine == theirs for mine, theirs in told)

    @property
    def condition(self) -> str | None:
        """What If-Range may hold: a strong tag or a date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class AgainError(Exception):
    """This attempt failed and another may do better; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def is_web(location: str) -> bool:
    """Whether it is an http(s) URL. Raises UsageError for one with a password in it."""
    refuse_password(location)
    return re.match(r"https?://", location, re.IGNORECASE) is not None


def without_query(location: str) -> str:
    """What a manifest says of a location: the query of a URL may be a signature, which lets others in."""
    return location.partition("?")[0] if is_web(location) else location


class _Session(requests.Session):
    """Asks this machine itself without the proxy of the environment, which could not reach it."""

    def merge_environment_settings(self, url: Any, proxies: Any, *others: Any) -> Any:
        host = urlsplit(url).hostname or ""
        if host in ("localhost", "::1") or host.startswith("127."):
            proxies = {**(proxies or {}), "no_proxy": host}
        return super().merge_environment_settings(url, proxies, *others)


def session() -> requests.Session:
    made = _Session()
    made.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    return made


def insist(
    attempt: Callable[[], None],
    have: Callable[[], int],
    cannot: Callable[[str, bool], str],
    pause: Pause,
    waiting: Callable[[str], None] | None = None,
) -> None:
    """Attempts until one ends well: waits 1, 2, 4 ... 60 s after a failure, or what the server asks for.

    `have` counts what has come so far. After ATTEMPTS failures in a row without more of it, and at once
    where no attempt can do better, it raises WordloomError with the sentence that `cannot` makes of the
    reason and of whether it may do better later. `waiting` hears why there is a wait.
    """
    failures, furthest = 0, have()
    while True:
        try:
            attempt()
            return
        except (
            AgainError,
            urllib3.exceptions.HTTPError,
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            failures = 1 if have() > furthest else failures + 1
            furthest = max(furthest, have())
            if failures >= ATTEMPTS:
                reason = f"{_reason(error)}, {ATTEMPTS} times in a row"
                raise WordloomError(cannot(reason, True)) from error
            asked = error.wait if isinstance(error, AgainError) else None
            wait = min(2.0 ** (failures - 1), 60.0) if asked is None else min(asked, LONGEST_WAIT)
            if waiting is not None:
                waiting(f"{_reason(error)}, next attempt in {wait:.0f} s")
            pause(wait)
        except requests.RequestException as error:
            raise WordloomError(cannot(str(error), False)) from error


def busy(reply: requests.Response) -> None:
    """Raises AgainError where the server asks to come again."""
    if reply.status_code in TRY_AGAIN:
        wait = retry_after(reply.headers.get("Retry-After"))
        raise AgainError(f"the server answers {reply.status_code} {reply.reason}", wait)


def page(url: str, connections: Connections, pause: Pause = time.sleep) -> bytes | None:
    """A small page, whole; None where the server has none (404, 410). Raises WordloomError."""
    content: bytes | None = None

    def attempt() -> None:
        nonlocal content
        with (
            connections.to(url, pause),
            session() as asking,
            asking.get(url, stream=True, timeout=TIMEOUT) as reply,
        ):
            busy(reply)
            if reply.status_code in (404, 410):
                return
            if reply.status_code != 200:
                raise WordloomError(cannot(f"the server answers {reply.status_code} {reply.reason}", False))
            body = bytearray()
            for chunk in reply.raw.stream(CHUNK, decode_content=True):
                body += chunk
                if len(body) > PAGE_BYTES:
                    raise WordloomError(cannot(f"it has more than {PAGE_BYTES:,} bytes", False))
            if len(body) < (length(reply.headers) or 0):
                raise AgainError("the connection was cut")
            content = bytes(body)

    def cannot(reason: str, later: bool) -> str:
        return (
            f"Cannot read {url!r}: {reason}; {'try again later' if later else 'check --source and --site'}."
        )

    insist(attempt, lambda: 0, cannot, pause)
    return content


def version(headers: Mapping[str, str], total: int | None) -> Version:
    return Version(headers.get("ETag"), headers.get("Last-Modified"), total)


def length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def content_range(headers: Mapping[str, str]) -> tuple[int, int, int | None] | None:
    """The first and the last byte and the whole size that a partial answer states."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", ""))
    if match is None:
        return None
    return int(match[1]), int(match[2]), int(match[3]) if match[3] != "*" else None


def retry_after(text: str | None) -> float | None:
    """Seconds to wait, from a number of them or a date."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, AgainError):
        return str(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy that the environment names (http_proxy, https_proxy) cannot be reached"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server does not answer"
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached"
    return "the connection was cut"
