"""The store: a folder, ``home``, with each artefact at ``<home>/<kind>/<first 16 digits of its identity>``.

So an artefact is found by what it is made from, and two settings of one stage lie side by side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from cluster.artefact import DRAFT, MAKING, MANIFEST, PROGRESS, Artefact, Input, identity_of, settings_dict
from cluster.errors import UnreadableError, WordloomError
from cluster.folder import Folder
from cluster.manifest import RowTable
from cluster.progress import duration, quantity, state

SILENT = 60.0  # seconds without a word after which a run counts as stopped
# Inputs that are no artefacts; those of a sample, kind "package", would be too many to draw.
SOURCES = ("dump", "text", "abstracts", "file", "vectors-file")
# What a run that is under way notes as numbers.
PROGRESS_NUMBERS = (
    *("at", "began", "bytes", "done", "done_before"),
    *("pages", "pages_before", "splits", "finished_splits"),
)
# The counts by which an artefact is known, over all kinds.
FIRST = (
    "pages",
    "sequences",
    "tokens",
    "words",
    "size",
    "coverage",
    "vector_size",
    "parameters",
    "held_out_auc",
    "held_out_bits_per_character",
    "accuracy",
    "baseline_accuracy",
    "directions",
    "letter_error",
    "word_error",
)
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


@dataclass(frozen=True)
class Unreadable:
    """A folder that may not be read, or whose manifest cannot be: `sentence` says why."""

    location: str
    sentence: str


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

    def unreadable(self) -> list[Unreadable]:
        """All that cannot be looked at, and all with a manifest that cannot be read."""
        return [each for each in self._looked_at() if isinstance(each, Unreadable)]

    def _looked_at(self) -> Iterator[Artefact | Unfinished | Unreadable]:
        """The folder itself may be an artefact, named as --output, and so may those below it."""
        places = [self.folder]
        for kind in self.folder.folders():
            if kind != MAKING:
                child = self.folder.child(kind)
                try:
                    places += [child, *(child.child(name) for name in child.folders() if name != MAKING)]
                except UnreadableError as error:
                    yield Unreadable(child.location, str(error))
        for folder in places:
            try:
                yield Artefact.open(folder)
            except UnreadableError as error:
                yield Unreadable(folder.location, str(error))
            except WordloomError as error:
                if folder.exists(MANIFEST):
                    yield Unreadable(folder.location, str(error))
                elif (begun := _json(folder, DRAFT)) is not None:
                    inputs = begun.get("inputs")
                    identities = tuple(map(str, inputs.values())) if isinstance(inputs, dict) else ()
                    yield Unfinished(str(begun.get("kind")), folder.location, _progress(folder), identities)

    def tree(self, served: Collection[str] = ()) -> Tree:
        """The lineage as a tree: below each source what was read from it, below each artefact what was made
        from it. `served` are the identities of those that are served."""
        artefacts = self.artefacts()
        size = quantity(sum(artefact.bytes for artefact in artefacts), "B")
        root = Tree(_line((self.folder.location, "bold"), (f"{len(artefacts)} artefacts, {size}", "dim")))
        branches: dict[str, Tree] = {}

        def below(inputs: Iterable[str]) -> Tree:
            """Where what is made from these stands: below the last of them, which is made from the others."""
            known = [branches[identity] for identity in inputs if identity in branches]
            return known[-1] if known else root

        for artefact in _inputs_first(artefacts):
            inputs = artefact.manifest.inputs.values()
            for given in inputs:
                if given.kind in SOURCES and given.identity not in branches:
                    branches[given.identity] = root.add(_source(given))
            branches[artefact.identity] = below(given.identity for given in inputs).add(
                _line(
                    (artefact.kind, "bold"),
                    (artefact.identity[:SHORT], "dim"),
                    (quantity(artefact.bytes, "B"), "cyan"),
                    (figures(artefact), ""),
                    ("● served" if artefact.identity in served else "", "green"),
                )
            )
        for each in self.unfinished():
            below(each.inputs).add(Text(each.sentence(), "yellow", overflow="fold"))
        for broken in self.unreadable():
            root.add(Text(broken.sentence, "red", overflow="fold"))
        return root


def _inputs_first(artefacts: Sequence[Artefact]) -> Iterator[Artefact]:
    """In their order, but each behind those that it was made from: several may be made within a second."""
    waiting = {artefact.identity: artefact for artefact in artefacts}
    while waiting:
        for identity, artefact in list(waiting.items()):
            if not any(given.identity in waiting for given in artefact.manifest.inputs.values()):
                del waiting[identity]
                yield artefact


def _source(given: Input) -> Text:
    """A file or address that was read, with its size as far as it still lies here."""
    try:
        size = quantity(Path(given.location).stat().st_size, "B")
    except (OSError, ValueError):
        size = ""
    return _line((given.kind, "bold"), (given.identity[:SHORT], "dim"), (size, "cyan"), (given.location, ""))


def _line(*parts: tuple[str, str]) -> Text:
    """The parts that say something, each in its style."""
    line = Text(overflow="fold")
    for words, style in parts:
        if words:
            line.append(f"{'  ' if line else ''}{words}", style or None)
    return line


def _json(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        value = folder.read_json(name)
    except (OSError, ValueError, UnreadableError):
        return None
    return value if isinstance(value, dict) else None


def _progress(folder: Folder) -> dict[str, Any] | None:
    """What a run notes of itself; None where it is none of ours."""
    said = _json(folder, f"{MAKING}/{PROGRESS}")
    if said is None or not {"source", "host", *PROGRESS_NUMBERS} <= said.keys():
        return None
    numbers = [said[name] for name in PROGRESS_NUMBERS]
    return said if all(isinstance(each, int | float) and math.isfinite(each) for each in numbers) else None


def figures(artefact: Artefact) -> str:
    """What is to be known of it first: some of its counts, all of them for a kind that has none of these."""
    numbers = artefact.numbers
    first = {name: numbers[name] for name in FIRST if name in numbers} or numbers
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,}"
        if isinstance(value, int)
        else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in first.items()
    )


def describe(artefact: Artefact) -> str:
    """One line: what it is, how big, how good."""
    sources = [
        f"{name} {given.location}"
        for name, given in artefact.manifest.inputs.items()
        if given.kind in SOURCES
    ]
    source = f" from {'; '.join(sources)}" if sources else ""
    size = quantity(artefact.bytes, "B")
    return f"{artefact.kind} {artefact.identity[:SHORT]} ({size}) {figures(artefact)}{source}"


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
