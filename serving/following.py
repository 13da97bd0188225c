"""What a server holds while it runs: it follows what is promoted, and notes what it serves.

A kind changes when another version of it is promoted or rolled back (serving/promotion.py), and that kind
alone: newer models never go live unpromoted while a server runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from serving import models
from serving.notes import Note

RETRY_SECONDS = 60.0  # until a promoted version that did not come up is tried again: each try starts replicas


class Following:
    """What one server holds of the models in a folder.

    `served` is what it began with (deployments.Served), `followed` for each kind the version that was
    promoted last by then, which it may have begun without (`run --serve` serves what it made).
    """

    def __init__(self, served: Any, folder: Folder, followed: Mapping[str, str], reporter: Reporter) -> None:
        self.served = served
        self._folder = folder
        self._followed = dict(followed)
        self._again: dict[tuple[str, str], float] = {}  # when a version that failed is tried again
        self._reporter = reporter
        self._said = ""
        self._note = Note(folder)
        self._write(followed)

    def look(self) -> None:
        """Switches to what was promoted since; what goes wrong is said, and what is served is served on."""
        try:
            now = models.last(models.chosen(self._folder))
        except WordloomError as error:
            if str(error) != self._said:  # not at every look
                self._reporter.say(str(error))
            self._said = str(error)
            return
        self._said = ""
        for kind, version in now.items():
            due = self._again.get((kind, version), 0.0)
            if self._followed.get(kind) != version and time.monotonic() >= due:
                self._follow(kind, version)
                self._write(now)

    def end(self) -> None:
        """Takes the note away."""
        try:
            self._note.end()
        except (WordloomError, OSError) as error:
            self._reporter.say(str(error))

    def _follow(self, kind: str, version: str) -> None:
        from ray.exceptions import RayError  # loaded by whoever serves

        from serving import deployments

        try:
            held = self.served.models.get(kind)
            if held is None or held.version != version:
                found = models.promoted(self.served.models, self._folder, kind, version)
                self.served = deployments.switch(self.served, found)
                self._reporter.say(f"Now served: {models.names(self.served.models)}")
            self._followed[kind] = version
        except (WordloomError, OSError, RayError) as error:
            self._again[kind, version] = time.monotonic() + RETRY_SECONDS
            self._reporter.say(str(error))

    def _write(self, promoted: Mapping[str, str]) -> None:
        try:
            self._note.write(models.holding(self.served.models, promoted))
        except (WordloomError, OSError) as error:  # a folder that may only be read is served, too
            self._reporter.say(f"What is served cannot be noted for `status`, `models` and `gc`: {error}")


def follow(
    served: Any, folder: Folder, followed: Mapping[str, str], seconds: float, reporter: Reporter, word: str
) -> None:
    """Until Ctrl-C, which ends the wait as a wish, not as a failure: looks every so many seconds. Says a last
    `word` before, once what is served is noted."""
    following = Following(served, folder, followed, reporter)
    try:
        reporter.say(word)
        while True:
            threading.Event().wait(seconds)
            following.look()
    except KeyboardInterrupt:
        return
    finally:
        following.end()
