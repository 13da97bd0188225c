"""Secrets of a server: keys that sign the states it hands out, and keys that clients must show.

Both come from a file (one a line, ``#`` begins a comment) or from an environment variable (separated by
spaces or commas). A file is read again when it changes: to rotate a key, put the new one first, and take the
old one away when nobody needs it any more. While the file is missing, empty or malformed the keys stay as
they were, and a line in the log says so. Secrets are shown in no log and by no `repr`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import UsageError

SHORTEST = 16  # characters: what is shorter can be guessed
STATE_VARIABLE = "WORDLOOM_STATE_KEYS"
API_VARIABLE = "WORDLOOM_API_KEYS"
ID_BYTES = 4
MAC_BYTES = 32
LOG = logging.getLogger("wordloom.keys")


@dataclass
class Secrets:
    """Some secrets, the first one in use. Picklable, so that every replica holds the same."""

    given: tuple[bytes, ...] = field(default=(), repr=False)
    path: str | None = None
    _seen: tuple[int, int] = field(default=(-1, -1), repr=False)
    _said: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self.all()

    def all(self) -> tuple[bytes, ...]:
        """The secrets as they are now. Raises UsageError where there never were any: the file is missing or
        holds none."""
        if self.path is not None:
            try:
                self._read_again(Path(self.path))
            except UsageError as error:  # a file may be half-written, or none, for a moment
                if not self.given:
                    raise
                if str(error) != self._said:  # not at every request
                    LOG.warning("The keys stay as they were: %s", error)
                self._said = str(error)
            else:
                self._said = ""
        return self.given

    def _read_again(self, path: Path) -> None:
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                # -sig: the mark that some editors put before the first key is no part of it.
                self.given = parsed(path.read_text(encoding="utf-8-sig"), str(path))
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"Cannot read the keys in {str(path)!r} ({error}); check the path.") from error


def parsed(text: str, place: str) -> tuple[bytes, ...]:
    """The keys that a text lists. Raises UsageError for none, for short ones and for other characters
    than ASCII's; names none of them."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    found = [word for line in lines for word in line.replace(",", " ").split()]
    if not found:
        raise UsageError(f"There is no key in {place!r}; write one a line.")
    # Others stand in a header as each client writes them, if at all.
    if not all(word.isascii() and word.isprintable() for word in found):
        raise UsageError(f"A key in {place!r} has other characters than ASCII's; take letters and digits.")
    if any(len(word) < SHORTEST for word in found):
        raise UsageError(f"A key in {place!r} is too short; take at least {SHORTEST} characters.")
    return tuple(word.encode() for word in found)


@dataclass
class Keys:
    """The secrets of one server: `state` signs, `api` (None: everybody may ask) lets in."""

    state: Secrets
    api: Secrets | None = None

    @classmethod
    def find(cls, state_file: str = "", api_file: str = "") -> Keys:
        """From the files, or else from the environment; without a key for states one is drawn, which lasts
        as long as the server."""
        state = _found(state_file, STATE_VARIABLE)
        return cls(state or cls.drawn().state, _found(api_file, API_VARIABLE))

    @classmethod
    def drawn(cls) -> Keys:
        """A key for states that nobody else has; everybody may ask."""
        return cls(Secrets((secrets.token_hex(32).encode(),)))

    def own(self) -> str | None:
        """A key that is let in, for requests of the server's own; None where everybody may ask."""
        return self.api.all()[0].decode() if self.api is not None else None

    def admits(self, shown: str) -> bool:
        """Whether a client that shows this key may ask; all keys are compared, each in constant time."""
        if self.api is None:
            return True
        digest = hashlib.sha256(shown.encode("utf-8", "surrogatepass")).digest()
        fits = [hmac.compare_digest(digest, hashlib.sha256(key).digest()) for key in self.api.all()]
        return any(fits)

    def signed(self, data: bytes) -> bytes:
        """The data, behind the number of the key and the signature."""
        key = self.state.all()[0]
        return _key_id(key) + _mac(key, data) + data

    def verified(self, data: bytes) -> bytes | None:
        """What `signed` was given; None where no key of ours signed it."""
        number, mac, content = (
            data[:ID_BYTES],
            data[ID_BYTES : ID_BYTES + MAC_BYTES],
            data[ID_BYTES + MAC_BYTES :],
        )
        for key in self.state.all():
            if number == _key_id(key) and hmac.compare_digest(mac, _mac(key, content)):
                return content
        return None


def _found(path: str, variable: str) -> Secrets | None:
    if path:
        return Secrets(path=path)
    if listed := os.environ.get(variable):
        return Secrets(parsed(listed, variable))
    return None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"number of " + key).digest()[:ID_BYTES]


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()
