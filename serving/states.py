"""Where a text stands, as a token that clients keep: any replica with the same keys goes on from it.

A token is URL-safe base64 over the number of the key, an HMAC-SHA256 and what it signs: the version of the
model and its carry. It is signed, not secret: it holds numbers of the network, no text.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cluster.errors import UsageError
from serving.keys import Keys
from serving.problems import RefusedError

FORM = "s1."  # leads every token, so that another form can be told from this one


class States:
    """Tokens of the states of one model (its version: 64 hex digits)."""

    def __init__(self, keys: Keys, version: str) -> None:
        self._keys = keys
        self._version = version

    def seal(self, carry: Any) -> str:
        """The token of a carry, some 4/3 of its bytes and a hundred more."""
        signed = self._keys.signed(bytes.fromhex(self._version) + carry.to_bytes())
        return FORM + base64.urlsafe_b64encode(signed).decode().rstrip("=")

    def open(self, token: str, model: Any) -> Any:
        """The carry in a token. Raises RefusedError: 422 for what none of our keys signed, 409 for the state
        of another version of the model."""
        content = self._keys.verified(_decoded(token))
        if content is None or len(content) < 32:
            raise RefusedError(
                422, "invalid_state", "The state was not made by this server, or its key has gone."
            )
        made_by = content[:32].hex()
        if made_by != self._version:
            raise RefusedError(
                409,
                "other_version",
                f"The state belongs to version {made_by[:12]} of the model, and {self._version[:12]} is "
                "served now; begin again with the text so far as seed_text.",
            )
        try:
            return model.carry(content[32:])
        except UsageError as error:
            raise RefusedError(422, "invalid_state", str(error)) from error


def _decoded(token: str) -> bytes:
    try:
        body = token.removeprefix(FORM) if token.startswith(FORM) else ""
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""
