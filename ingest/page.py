"""One page of a corpus to be, wherever it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

_INK = re.compile(rb"[!-~]")


@dataclass(slots=True)
class Page:
    """One page with its latest revision.

    `namespace` is 0 for articles. `utf8` is the wiki markup. `redirect` is the title that a redirect
    leads to (perhaps empty), None for any other page. `size` is the bytes that it takes in its source: of an
    export the XML from ``<page`` to ``</page>``. `model` is the content model (``wikitext``), and
    `deleted` says that the text was hidden from the public. `held_out` says whether models train on it where
    the hash of its id does not decide that (see `ingest.shards.held_out`).
    """

    page_id: int
    revision_id: int
    namespace: int
    title: str
    utf8: bytes
    redirect: str | None = None
    model: str = "wikitext"
    deleted: bool = False
    held_out: bool | None = None
    size: int = field(default=0, compare=False)

    @property
    def text(self) -> str:
        return self.utf8.decode()

    @property
    def blank(self) -> bool:
        """Whether there is nothing to be seen in the text."""
        return _INK.search(self.utf8) is None and (not self.utf8 or self.text.isspace())


def characters(utf8: bytes) -> int:
    """How many characters these bytes are: ``len(utf8.decode())``."""
    if utf8.isascii():
        return len(utf8)
    # All but those that go on with a character: as signed numbers, 10xxxxxx are the lowest.
    return len(utf8) - int(np.count_nonzero(np.frombuffer(utf8, np.int8) < -64))
