"""The store: a folder, ``home``, with each artefact at ``<home>/<kind>/<first 16 digits of its identity>``.

So an artefact is found by what it is made from, and two settings of one stage lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from rich.tree import Tree

from cluster.artefact import DRAFT, Artefact, Input, identity_of, settings_dict
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import quantity

SHORT = 16  # hex digits of an identity that name a folder: 64 bits, no two alike by chance


@dataclass(frozen=True)
class Unfinished:
    """A folder in which a run began an artefact and did not publish it yet."""

    kind: str
    location: str


class Store:
    """The artefacts below one folder on any file system that pyarrow knows."""

    def __init__(self, home: str | Folder) -> None:
        self.folder = home if isinstance(home, Folder) else Folder(home)

    def place(
        self, kind: str, output_version: int, inputs: Mapping[str, Artefact | Input], settings: Any
    ) -> str:
        """Where the artefact of this kind lies that is made from these inputs under these settings."""
        identities = {name: given.identity for name, given in inputs.items()}
        identity = identity_of(kind, output_version, identities, settings_dict(settings))
        return f"{self.folder.location}/{kind}/{identity[:SHORT]}"

    def artefacts(self) -> list[Artefact]:
        """All that is published, oldest first."""
        found = [artefact for artefact in self._looked_at() if isinstance(artefact, Artefact)]
        return sorted(found, key=lambda artefact: (artefact.manifest.made.get("at", ""), artefact.location))

    def unfinished(self) -> list[Unfinished]:
        """All that was begun and is not published: a run that goes on now, or one that was stopped."""
        return [each for each in self._looked_at() if isinstance(each, Unfinished)]

    def _looked_at(self) -> Iterator[Artefact | Unfinished]:
        for kind in self.folder.folders():
            for name in self.folder.child(kind).folders():
                folder = self.folder.child(f"{kind}/{name}")
                try:
                    yield Artefact.open(folder)
                except WordloomError:
                    if folder.exists(DRAFT):
                        yield Unfinished(kind, folder.location)

    def tree(self) -> Tree:
        """The lineage as a tree: below each artefact, what was made from it."""
        artefacts = self.artefacts()
        root = Tree(self.folder.location)
        branches: dict[str, Tree] = {}
        for artefact in artefacts:  # oldest first: inputs come before what is made from them
            parents = [given.identity for given in artefact.manifest.inputs.values()]
            known = [branches[parent] for parent in parents if parent in branches]
            branches[artefact.identity] = (known[-1] if known else root).add(
                Text(describe(artefact), overflow="fold")
            )
        for each in self.unfinished():
            root.add(f"{each.kind} (not finished) {each.location}")
        return root


def describe(artefact: Artefact) -> str:
    """One line: what it is, how big, how good."""
    figures = ", ".join(
        f"{name.replace('_', ' ')} {value:,}"
        if isinstance(value, int)
        else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in artefact.counts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    sources = [
        f"{name} {given.location}"
        for name, given in artefact.manifest.inputs.items()
        if given.kind in ("dump", "url")
    ]
    source = f" from {'; '.join(sources)}" if sources else ""
    return f"{artefact.kind} {artefact.identity[:SHORT]} ({quantity(artefact.bytes, 'B')}) {figures}{source}"


def summary(artefact: Artefact) -> dict[str, Any]:
    """What `describe` says, for machines."""
    manifest = artefact.manifest
    return {
        "kind": artefact.kind,
        "identity": artefact.identity,
        "location": artefact.location,
        "bytes": artefact.bytes,
        "made": manifest.made.get("at"),
        "inputs": {name: given.identity for name, given in manifest.inputs.items()},
        "counts": {name: value for name, value in artefact.counts.items() if not isinstance(value, list)},
    }
