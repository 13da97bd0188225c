"""Models: which trained artefacts lie below a folder, and which of each kind is served.

A home keeps them as ``<home>/<kind>/<identity>/manifest.json``; any folder with artefacts up to two levels
down will do. Of several of one kind the newest by its manifest's time is served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.artefact import MAKING, MANIFEST, Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from trainers import language_settings, vectors

VECTORS = vectors.KIND
LANGUAGE_MODEL = language_settings.KIND
SENTIMENT = "sentiment"
LABELLING = "labelling"

DEPTH = 2
# Each kind that can be served, and what a person runs to have one.
KINDS = {
    VECTORS: "wordloom train embeddings --corpus DIR --output DIR",
    LANGUAGE_MODEL: "wordloom train language-model --corpus DIR --output DIR",
    SENTIMENT: "wordloom train sentiment",
    LABELLING: "wordloom train labelling",
}


@dataclass(frozen=True)
class Model:
    """A trained model that can be served.

    `version` is the artefact's identity (sha256, hex); `made` the ISO time of its manifest, which sorts by
    time; `lineage` the kinds and identities of all that it was made from, nearest first, down to the dump.
    """

    kind: str
    version: str
    location: str
    made: str
    lineage: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The name by which clients ask for it: the kind and twelve digits of the version."""
        return f"{self.kind}-{self.version[:12]}"

    @property
    def created(self) -> int:
        """When it was made, in seconds since 1970; 0 where that is not known."""
        return int(datetime.fromisoformat(self.made).timestamp()) if self.made else 0

    @classmethod
    def of(cls, artefact: Artefact) -> Model:
        return cls(
            kind=artefact.kind,
            version=artefact.identity,
            location=artefact.location,
            made=str(artefact.manifest.made.get("at", "")),
            lineage=tuple(lineage(artefact)),
        )

    def described(self) -> dict[str, Any]:
        """What clients may know: everything but where it lies."""
        return {
            "id": self.name,
            "kind": self.kind,
            "version": self.version,
            "made": self.made,
            "lineage": [{"kind": kind, "identity": identity} for kind, identity in self.lineage],
        }


def find(location: str | Folder) -> dict[str, Model]:
    """The newest model of each kind below a folder, in the order of `KINDS`.

    Raises WordloomError where the folder or a model in it is missing, or where a manifest is damaged.
    """
    folder = location if isinstance(location, Folder) else Folder(location)
    if not folder.exists():
        raise WordloomError(f"Cannot serve {folder.location!r}: there is no such folder; check --models.")
    newest: dict[str, Artefact] = {}
    for artefact in artefacts(folder):
        if artefact.kind not in KINDS:
            continue
        held = newest.get(artefact.kind)
        if held is None or _age(held) < _age(artefact):
            newest[artefact.kind] = artefact
    if not newest:
        raise WordloomError(
            f"No model lies in {folder.location!r} or up to {DEPTH} levels below it; train one "
            f"(`{KINDS[VECTORS]}`) or check --models."
        )
    return {kind: Model.of(newest[kind]) for kind in KINDS if kind in newest}


def artefacts(folder: Folder, depth: int = DEPTH) -> Iterator[Artefact]:
    """The published artefacts in a folder and down to `depth` levels below it; never inside another one."""
    if folder.exists(MANIFEST):
        yield Artefact.open(folder)
    elif depth:
        for name in folder.folders():
            if name != MAKING and not name.startswith("."):
                yield from artefacts(folder.child(name), depth - 1)


def lineage(artefact: Artefact) -> list[tuple[str, str]]:
    """Kind and identity of all that an artefact was made from, nearest first, each once.

    Followed as far as the inputs still lie where they lay: one that is gone is named, what it was made from
    is not.
    """
    found: dict[tuple[str, str], None] = {}
    level = [artefact]
    while level:
        deeper = []
        for each in level:
            for given in each.manifest.inputs.values():
                key = (given.kind, given.identity)
                if key not in found:
                    found[key] = None
                    if (behind := _behind(given.location, given.identity)) is not None:
                        deeper.append(behind)
        level = deeper
    return list(found)


def _behind(location: str, identity: str) -> Artefact | None:
    """The artefact that an input was; None where it is gone or another has taken its place."""
    try:
        found = Artefact.open(location)
    except (WordloomError, OSError):
        return None
    return found if found.identity == identity else None


def _age(artefact: Artefact) -> tuple[str, str]:
    return str(artefact.manifest.made.get("at", "")), artefact.identity
