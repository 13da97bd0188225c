"""The store: a folder, ``home``, with each artefact at ``<home>/<kind>/<first 16 digits of its identity>``.

So an artefact is found by what it is made from, and two settings of one stage lie side by side.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from rich.tree import Tree

from cluster.artefact import DRAFT, MAKING, PROGRESS, Artefact, Input, identity_of, settings_dict
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.manifest import RowTable
from cluster.progress import duration, quantity, state

SILENT = 60.0  # seconds without a word after which a run counts as stopped
SHORT = 16  # hex digits of an identity that name a folder: 64 bits, no two alike by chance


@dataclass(frozen=True)
class Unfinished:
    """A folder in which a run began an artefact and did not publish it yet."""

    kind: str
    location: str
    progress: dict[str, Any] | None = None
    inputs: tuple[str, ...] = ()  # identities of what it is made from

    def sentence(self) -> str:
        """How far it is and when it last said so, as far as the stage notes it."""
        said = self.progress
        if said is None:
            return f"{self.kind} (not finished) {self.location}"
        silent = time.time() - said["at"]
        ran = max(said["at"] - said["began"], 1e-9)
        how = state(said["done"], said["bytes"], "B", (said["done"] - said["done_before"]) / ran, ran)
        pages = (said["pages"] - said["pages_before"]) / ran
        return (
            f"{self.kind} ({'stopped' if silent > SILENT else 'under way'}) {self.location}\n"
            f"{said['source']}: {said['finished_splits']:,} of {said['splits']:,} splits, {how}, "
            f"{said['pages']:,} pages, {quantity(round(pages))}/s; {duration(max(silent, 0.0))} ago on "
            f"{said['host']}"
        )


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
        """The folder itself may be an artefact, named as --output, and so may those below it."""
        places = [self.folder]
        for kind in self.folder.folders():
            if kind != MAKING:
                child = self.folder.child(kind)
                places += [child, *(child.child(name) for name in child.folders() if name != MAKING)]
        for folder in places:
            try:
                yield Artefact.open(folder)
            except WordloomError:
                if (begun := _json(folder, DRAFT)) is not None:
                    progress = _json(folder, f"{MAKING}/{PROGRESS}")
                    inputs = tuple((begun.get("inputs") or {}).values())
                    yield Unfinished(str(begun.get("kind")), folder.location, progress, inputs)

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
            root.add(Text(each.sentence(), overflow="fold"))
        return root


def _json(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        value = folder.read_json(name)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


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
        if given.kind in ("dump", "text", "abstracts", "url")
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
        "counts": {
            name: value for name, value in artefact.counts.items() if not isinstance(value, list | RowTable)
        },
    }
