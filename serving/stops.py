"""Stop strings: a text ends before the first of them, also where it comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Watches the pieces of one text. What might be the beginning of a stop string is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def feed(self, piece: str) -> tuple[str, int | None]:
        """What may be shown now, and how many characters of `piece` the text had read when a stop string was
        complete (None: none is). Of several that are complete together the one that begins first counts."""
        text = self._held + piece
        ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in self._stops if stop in text]
        if ends:
            # The first to be complete ends the text, as it would if the text came character by character.
            end, begin = min(ends)
            return text[:begin], end - len(self._held)
        keep = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def rest(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """How many characters at the end of `text` begin `stop`."""
        longest = min(len(text), len(stop) - 1)
        return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
