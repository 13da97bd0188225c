"""Models: which trained artefacts lie below a folder, and which of each kind is served.

A home keeps them as ``<home>/<kind>/<identity>/manifest.json``; any folder with artefacts up to two levels
down will do. Of several of one kind a server begins with the one that was promoted last
(serving/promotion.py), or else with the newest by its manifest's time. What it holds from then on it notes
beside them (serving/notes.py), for all who ask what is served.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cluster.artefact import MAKING, MANIFEST, Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from serving import notes
from serving.frames import Frames
from trainers import labelling_settings, language_settings, sentiment_settings, vectors

VECTORS = vectors.KIND
LANGUAGE_MODEL = language_settings.KIND
SENTIMENT = sentiment_settings.KIND
LABELLING = labelling_settings.KIND

DEPTH = 2
RECORD = "served.json"
# Each kind that can be served, and what a person runs to have one.
KINDS = {
    VECTORS: "wordloom train embeddings --corpus DIR --output DIR",
    LANGUAGE_MODEL: "wordloom train language-model --corpus DIR --output DIR",
    SENTIMENT: "wordloom train sentiment --corpus DIR --output DIR",
    LABELLING: "wordloom train labelling --corpus DIR --output DIR",
}


@dataclass(frozen=True)
class Model:
    """A trained model that can be served.

    `version` is the artefact's identity (sha256, hex); `made` the ISO time of its manifest, which sorts by
    time; `lineage` the kinds and identities of all that it was made from, nearest first, down to the dump;
    `figures` the numbers that its training counted and measured; `reads` what a labeller reads: every process
    of a server documents its routes; `both` whether it reads in both directions, and `beside` the newest one
    that differs in that alone, which the same routes ask by its name.
    """

    kind: str
    version: str
    location: str
    made: str
    lineage: tuple[tuple[str, str], ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    reads: Frames | None = None
    both: bool | None = None
    beside: Model | None = None

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
            figures={name: value for name, value in artefact.numbers.items() if math.isfinite(value)},
            reads=_reads(artefact) if artefact.kind == LABELLING else None,
            both=artefact.manifest.settings.get("both") if artefact.kind == LABELLING else None,
        )

    def described(self) -> dict[str, Any]:
        """What clients may know: everything but where it lies."""
        return {
            "id": self.name,
            "kind": self.kind,
            "version": self.version,
            "made": self.made,
            "lineage": [{"kind": kind, "identity": identity} for kind, identity in self.lineage],
            "figures": dict(self.figures),
            "reads": dataclasses.asdict(self.reads) if self.reads else None,
            "both": self.both,
        }


def find(location: str | Folder) -> dict[str, Model]:
    """The model of each kind below a folder that a server begins with, in the order of `KINDS`.

    Raises WordloomError where the folder or a model in it is missing, or where a manifest is damaged.
    """
    folder = location if isinstance(location, Folder) else Folder(location)
    if not folder.exists():
        raise WordloomError(f"Cannot serve {folder.location!r}: there is no such folder; check --models.")
    found = _to_serve(folder, artefacts(folder), {})
    if not found:
        raise WordloomError(
            f"No model lies in {folder.location!r} or up to {DEPTH} levels below it; train one "
            f"(`{KINDS[VECTORS]}`) or check --models."
        )
    return found


def serving(folder: Folder, among: Iterable[Artefact]) -> dict[str, Model]:
    """The model of each kind `among` the artefacts of a folder that is served now: what a server that runs
    holds, or, where none does, what one would begin with. Of several servers' the one that was promoted last
    counts, or else the newest.

    Raises WordloomError where a record or a note is damaged.
    """
    wanted = last(chosen(folder))
    best: dict[str, Model] = {}
    for each in _by_server(folder, list(among)):
        for kind, model in each.items():
            best[kind] = max(
                (best.get(kind, model), model),
                key=lambda of: (of.version == wanted.get(of.kind), of.made, of.version),
            )
    return best


def served(folder: Folder, among: Iterable[Artefact]) -> set[str]:
    """The identities of the models that servers serve now, with those beside them; raises as `serving`."""
    return {model.version for each in _by_server(folder, list(among)) for model in together(each)}


def held(folder: Folder) -> set[str]:
    """The identities of all that servers hold, also of what they are about to give up for a promotion."""
    return {
        version for each in notes.noted(folder) for of_kind in each.versions.values() for version in of_kind
    }


def promoted(held: Mapping[str, Model], folder: Folder, kind: str, version: str) -> dict[str, Model]:
    """The models that a server `held`, but for one kind the version that was promoted in a folder. Raises
    WordloomError where it is not there any more."""
    lying = [each for each in artefacts(folder) if each.kind == kind]
    for artefact in lying:
        if artefact.identity == version:
            new = both_ways({kind: Model.of(artefact)}, lying, {each.version for each in together(held)})
            return {**held, **new}
    raise WordloomError(
        f"Version {version[:12]} of kind {kind!r}, which was promoted, is not in {folder.location!r} any "
        "more; promote another one."
    )


def both_ways(
    found: Mapping[str, Model], among: Iterable[Artefact], held: Collection[str] = ()
) -> dict[str, Model]:
    """Models by kind, the labeller with the one beside it: of those `among` some artefacts the newest, but
    before it one of the versions `held` by the server that runs."""
    if LABELLING not in found:
        return dict(found)
    labellers = [each for each in among if each.kind == LABELLING]
    beside = _other_way(found[LABELLING], labellers, held)
    return {**found, LABELLING: dataclasses.replace(found[LABELLING], beside=beside)}


def together(found: Mapping[str, Model]) -> list[Model]:
    """All models that are served where these are: each, and the one beside it."""
    return [each for model in found.values() for each in (model, model.beside) if each is not None]


def names(found: Mapping[str, Model]) -> str:
    """The names of all models that are served where these are."""
    return ", ".join(model.name for model in together(found))


def _by_server(folder: Folder, among: Sequence[Artefact]) -> list[dict[str, Model]]:
    """What each server serves by kind, or will at its next look, if it looks; without a server what one would
    begin with."""
    promoted = last(chosen(folder))
    found = []
    for each in notes.noted(folder):
        versions = {kind: list(of_kind) for kind, of_kind in each.versions.items()}
        for kind, version in promoted.items():
            if each.follows and each.followed.get(kind) != version:
                versions[kind] = [version, *versions.get(kind, [])]
        lying = [artefact for artefact in among if artefact.kind in versions]
        found.append(_to_serve(folder, lying, versions))
    return found or [_to_serve(folder, among, {})]


def _to_serve(
    folder: Folder, among: Iterable[Artefact], held: Mapping[str, Sequence[str]]
) -> dict[str, Model]:
    """Of each kind the version that is `held`, or else the one that was promoted last, or else the newest."""
    lying = [each for each in among if each.kind in KINDS]
    wanted = {kind: [version] for kind, version in last(chosen(folder)).items()}
    for kind, versions in held.items():
        wanted.setdefault(kind, []).extend(versions[:1])
    best: dict[str, Artefact] = {}
    for artefact in lying:
        first = wanted.get(artefact.kind, ())
        other = best.get(artefact.kind)
        if other is None or _rank(other, first) < _rank(artefact, first):
            best[artefact.kind] = artefact
    found = {kind: Model.of(best[kind]) for kind in KINDS if kind in best}
    return both_ways(found, lying, held.get(LABELLING, ()))


def chosen(folder: Folder) -> dict[str, list[str]]:
    """For each kind the versions that were promoted in a folder, the one to be served last.

    Raises WordloomError where the record is damaged or cannot be read.
    """
    with notes.reading(folder, RECORD, "delete it, and the next server begins with the newest of each kind"):
        try:
            read = folder.read_json(RECORD)["promoted"]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {str(kind): [str(version) for version in versions] for kind, versions in read.items()}


def last(chosen: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each kind the version that was promoted last."""
    return {kind: versions[-1] for kind, versions in chosen.items() if versions}


def record(folder: Folder, promoted: Mapping[str, list[str]]) -> None:
    """Writes which versions were promoted; readers see the old record or the new one."""
    folder.write_json(RECORD, {"promoted": dict(promoted)})


def holding(found: Mapping[str, Model], followed: Mapping[str, str], *, follows: bool = True) -> notes.Held:
    """What a server notes that serves these models, `followed` these promotions, and `follows` later ones."""
    versions = {kind: [each.version for each in together({kind: model})] for kind, model in found.items()}
    return notes.Held(versions, followed, follows)


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


def _reads(artefact: Artefact) -> Frames | None:
    """What a labeller reads; None where its file is damaged, which is said when it is opened."""
    try:
        return Frames.of(artefact.folder.read_json("model.json"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _other_way(model: Model, labellers: Sequence[Artefact], held: Collection[str]) -> Model | None:
    """The newest labeller that reads the same frames, and in both directions where `model` does not; but
    before it one that is `held`."""
    newest = sorted(labellers, key=lambda each: (each.identity in held, *_rank(each)), reverse=True)
    for artefact in newest:
        other = Model.of(artefact)
        if None not in (other.both, model.both) and other.both != model.both and other.reads == model.reads:
            return other
    return None


def _rank(artefact: Artefact, wanted: Sequence[str] = ()) -> tuple[int, str, str]:
    """What is wanted stands above what is newer, the last of it highest."""
    place = wanted.index(artefact.identity) + 1 if artefact.identity in wanted else 0
    return place, str(artefact.manifest.made.get("at", "")), artefact.identity
