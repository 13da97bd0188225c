"""What a home may lose: artefacts that no model to be served, and nothing recent, was made from.

Kept are what any server holds or would begin with, the newest few artefacts of each kind, the last few
versions of each kind that were promoted (so a rollback still finds them), what unfinished runs begin from,
and all that any of these were made from. Downloads and what is not ours are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster import report
from cluster.artefact import MAKING, MANIFEST, Artefact
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.store import Store
from serving import models, notes

FREEING = "freeing.json"  # in a home while something is deleted


@dataclass(frozen=True)
class Sorted:
    """What of a home is kept and what may go, each oldest first."""

    kept: list[Artefact]
    freed: list[Artefact]

    @property
    def bytes(self) -> int:
        """What freeing gives back."""
        return sum(artefact.bytes for artefact in self.freed)


def sort(store: Store, keep: int) -> Sorted:
    """Parts a home, `keep` artefacts of each kind being kept for their age alone. Changes nothing.

    Raises UsageError for a `keep` below 1, for then what a server would begin with could go, and
    WordloomError where an artefact cannot be read: what it was made from is not known then.
    """
    if keep < 1:
        raise UsageError(f"--keep is {keep}; give at least 1, which is what a server would begin with.")
    for unreadable in store.unreadable():
        raise WordloomError(
            f"Nothing is freed, for what this was made from is not known: {unreadable.sentence}"
        )
    artefacts = store.artefacts()
    by_kind: dict[str, list[Artefact]] = {}
    for artefact in artefacts:
        by_kind.setdefault(artefact.kind, []).append(artefact)
    wanted = {each.identity for listed in by_kind.values() for each in listed[-keep:]}
    wanted |= models.served(store.folder, artefacts)
    for folder in _served_folders(store):
        for versions in models.chosen(folder).values():
            wanted |= set(versions[-keep:])
        wanted |= models.held(folder)
    for run in store.unfinished():
        wanted |= set(run.inputs)
    wanted = _with_lineage(wanted, artefacts)
    return Sorted(
        kept=[each for each in artefacts if each.identity in wanted],
        freed=[each for each in artefacts if each.identity not in wanted],
    )


def free(store: Store, found: Sorted) -> None:
    """Deletes what `sort` found that may go, and the notes of servers that are gone.

    Ended half-way, nothing half-deleted reads as whole, and the next call goes on: what it deletes stands in
    the home until it is gone, for a folder without its manifest tells nobody what it was.
    """
    gone = {artefact.identity for artefact in found.freed}
    for folder in _served_folders(store):
        notes.sweep(folder)
        chosen = models.chosen(folder)
        left = {kind: [each for each in versions if each not in gone] for kind, versions in chosen.items()}
        if left != chosen:
            models.record(folder, left)
    going: dict[str, list[str] | None] = {}
    for artefact in reversed(found.freed):  # what was made from others first
        place = artefact.location.removeprefix(store.folder.location).lstrip("/")
        # A vocabulary may lie beside its shards.
        going[place] = list(artefact.manifest.files) if _holds(artefact.folder, found.kept) else None
    going |= _half_gone(store, found.kept)  # behind what may lie in them
    if going:
        store.folder.write_json(FREEING, going)
    for place, names in going.items():
        folder = _below(store, place)
        folder.delete(MANIFEST)
        if names is None:
            folder.delete()
        else:
            for name in names:
                folder.delete(name)
            report.remove(folder)
    store.folder.delete(FREEING)


def _half_gone(store: Store, kept: Iterable[Artefact]) -> dict[str, list[str] | None]:
    """What an earlier call began to delete and did not end, as it noted it: the folders (below the home), and
    of one that held another artefact its files. Without those in which something was made or begun since."""
    with notes.reading(store.folder, FREEING, "delete it and what it names"):
        try:
            noted = dict(store.folder.read_json(FREEING))
        except (FileNotFoundError, NotADirectoryError):
            return {}
    kept = list(kept)
    going: dict[str, list[str] | None] = {}
    for place, names in noted.items():
        folder = _below(store, place)
        there = folder.names()
        begun = any(name == MANIFEST or name.startswith(f"{MAKING}/") for name in there)
        if there and not begun and (names is not None or not _holds(folder, kept)):
            going[place] = names
    return going


def _below(store: Store, place: str) -> Folder:
    return store.folder.child(place) if place else store.folder


def _holds(folder: Folder, kept: Iterable[Artefact]) -> bool:
    """Whether one of these artefacts lies inside a folder."""
    return any(each.location.startswith(f"{folder.location}/") for each in kept)


def _served_folders(store: Store) -> Iterator[Folder]:
    """The folders that servers may have been given: the home, and each kind's."""
    yield store.folder
    yield from map(store.folder.child, store.folder.folders())


def _with_lineage(wanted: set[str], artefacts: Iterable[Artefact]) -> set[str]:
    """Those identities and the ones of all that they were made from."""
    made_from = {
        each.identity: {given.identity for given in each.manifest.inputs.values()} for each in artefacts
    }
    found: set[str] = set()
    ahead = list(wanted)
    while ahead:
        identity = ahead.pop()
        if identity not in found:
            found.add(identity)
            ahead += made_from.get(identity, ())
    return found
