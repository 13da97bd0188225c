"""What a home may lose: artefacts that no model to be served, and nothing recent, was made from.

Kept are what any server holds or would begin with, the newest few artefacts of each kind, the last few
versions of each kind that were promoted (so a rollback still finds them), what unfinished runs begin from,
and all that any of these were made from. Downloads and what is not ours are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster import report
from cluster.artefact import MANIFEST, Artefact
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.store import Store
from serving import models, notes


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

    Ended half-way, nothing half-deleted reads as whole, and the same command goes on.
    """
    gone = {artefact.identity for artefact in found.freed}
    for folder in _served_folders(store):
        notes.sweep(folder)
        chosen = models.chosen(folder)
        left = {kind: [each for each in versions if each not in gone] for kind, versions in chosen.items()}
        if left != chosen:
            models.record(folder, left)
    for artefact in reversed(found.freed):  # what was made from others first
        artefact.folder.delete(MANIFEST)
        inside = f"{artefact.location}/"
        if any(each.location.startswith(inside) for each in found.kept):  # a vocabulary beside its shards
            for name in artefact.manifest.files:
                artefact.folder.delete(name)
            report.remove(artefact.folder)
        else:
            artefact.folder.delete()


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
