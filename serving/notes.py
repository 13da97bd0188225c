"""Notes: what the servers of a folder of models hold, for `models`, `status` and `gc`, which else could only
guess.

Each server has a note of its own, ``serving/NAME.json`` beside the models. It writes it anew every `RENEWAL`
seconds and takes it away when it ends. A note of a server that was killed counts no more: on this machine as
soon as its process is gone, on another one when it was not renewed for `PATIENCE` seconds, which is long
enough for clocks that differ and for machines that sleep.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cluster import claim
from cluster.artefact import MANIFEST
from cluster.errors import WordloomError
from cluster.folder import Folder, reason

FOLDER = "serving"
NAME = re.compile(r"[0-9a-f]{12}\.json")
RENEWAL = 3_600.0
PATIENCE = 24 * RENEWAL


@dataclass(frozen=True)
class Held:
    """What one server holds: for each kind the versions, the one that its routes ask first, and for each kind
    the promotion that it followed last; a later one counts for more than the note where the server `follows`
    promotions."""

    versions: Mapping[str, Sequence[str]]
    followed: Mapping[str, str]
    follows: bool = True


class Note:
    """The note of one server, from its first `write` to its `end`; renewed by a thread meanwhile.

    A folder that is itself the one model gets none. What goes wrong with `write` and `end` is raised
    (WordloomError, OSError), with a renewal not: the next one may go well.
    """

    def __init__(self, folder: Folder, renewal: float = RENEWAL) -> None:
        self._folder = folder
        self._name = f"{FOLDER}/{uuid.uuid4().hex[:12]}.json"
        self._renewal = renewal
        self._held: Held | None = None
        self._lock, self._over = threading.Lock(), threading.Event()
        threading.Thread(target=self._renew, name="note", daemon=True).start()

    def write(self, held: Held) -> None:
        """Notes what the server holds from now on."""
        with self._lock:
            self._held = held
            self._write(held)

    def end(self) -> None:
        """Takes the note away; a second call does nothing."""
        self._over.set()
        with self._lock:
            self._folder.delete(self._name)

    def _write(self, held: Held) -> None:
        if self._folder.exists(MANIFEST):
            return
        said = {"versions": dict(held.versions), "followed": dict(held.followed), "follows": held.follows}
        self._folder.write_json(self._name, {"at": time.time(), **claim.this_process(), **said})

    def _renew(self) -> None:
        while not self._over.wait(self._renewal):
            with self._lock, suppress(WordloomError, OSError):
                if self._held is not None and not self._over.is_set():
                    self._write(self._held)


def noted(folder: Folder) -> list[Held]:
    """What each server of a folder holds that lives, as far as that is known.

    Raises WordloomError where a note is damaged or cannot be read.
    """
    return [held for _, held, lives in _notes(folder) if lives]


def sweep(folder: Folder) -> None:
    """Deletes the notes of servers that live no more; raises as `noted`."""
    for name, _, lives in _notes(folder):
        if not lives:
            folder.delete(name)


def _notes(folder: Folder) -> Iterator[tuple[str, Held, bool]]:
    """Every note: its name, what it says, and whether its server lives."""
    for base in folder.child(FOLDER).names():
        if not NAME.fullmatch(base):  # a model that somebody put there
            continue
        name = f"{FOLDER}/{base}"
        with reading(folder, name, "delete it and start its server anew"):
            try:
                said = folder.read_json(name)
            except FileNotFoundError:
                continue  # its server ended since it was listed
            versions = {str(kind): [str(each) for each in held] for kind, held in said["versions"].items()}
            followed = {str(kind): str(version) for kind, version in said["followed"].items()}
            lives = claim.alive(said) if claim.here(said) else time.time() - said["at"] < PATIENCE
        yield name, Held(versions, followed, bool(said.get("follows", True))), lives


@contextmanager
def reading(folder: Folder, name: str, mend: str) -> Iterator[None]:
    """Makes one sentence of what goes wrong with a file of ours beside the models."""
    try:
        yield
    except OSError as error:
        raise WordloomError(
            f"{folder.location}/{name} cannot be read ({reason(error)}); see who may read it, or {mend}."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WordloomError(f"{folder.location}/{name} is damaged ({error!r}); {mend}.") from error
