"""Models: which trained artefacts lie below a folder, and which of each kind is served.

A home keeps them as ``<home>/<kind>/<identity>/manifest.json``; any folder with artefacts up to two levels
down will do. Of several of one kind the one that was promoted last (serving/promotion.py) is served, or
else the newest by its manifest's time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cluster.artefact import MAKING, MANIFEST, Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
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
    """The model of each kind below a folder that is to be served, in the order of `KINDS`.

    Raises WordloomError where the folder or a model in it is missing, or where a manifest is damaged.
    """
    folder = location if isinstance(location, Folder) else Folder(location)
    if not folder.exists():
        raise WordloomError(f"Cannot serve {folder.location!r}: there is no such folder; check --models.")
    newest = _to_serve(folder)
    if not newest:
        raise WordloomError(
            f"No model lies in {folder.location!r} or up to {DEPTH} levels below it; train one "
            f"(`{KINDS[VECTORS]}`) or check --models."
        )
    return both_ways({kind: Model.of(newest[kind]) for kind in KINDS if kind in newest}, artefacts(folder))


def both_ways(found: Mapping[str, Model], among: Iterable[Artefact]) -> dict[str, Model]:
    """Models by kind, the labeller with the one beside it that is the newest `among` some artefacts."""
    if LABELLING not in found:
        return dict(found)
    beside = _other_way(found[LABELLING], [each for each in among if each.kind == LABELLING])
    return {**found, LABELLING: dataclasses.replace(found[LABELLING], beside=beside)}


def served(folder: Folder) -> set[str]:
    """The identities of the models that `find` finds, none where it finds none."""
    try:
        return {model.version for model in together(find(folder))}
    except WordloomError:  # something is damaged: who serves says what
        return set()


def together(found: Mapping[str, Model]) -> list[Model]:
    """All models that are served where these are: each, and the one beside it."""
    return [each for model in found.values() for each in (model, model.beside) if each is not None]


def _to_serve(folder: Folder) -> dict[str, Artefact]:
    """Of each kind that lies below a folder the one that was promoted last, or the newest."""
    promoted = {kind: versions[-1] for kind, versions in chosen(folder).items() if versions}
    newest: dict[str, Artefact] = {}
    for artefact in artefacts(folder):
        if artefact.kind not in KINDS:
            continue
        held = newest.get(artefact.kind)
        if held is None or _rank(held, promoted) < _rank(artefact, promoted):
            newest[artefact.kind] = artefact
    return newest


def chosen(folder: Folder) -> dict[str, list[str]]:
    """For each kind the versions that were promoted in a folder, the one to be served last.

    Raises WordloomError where the record is damaged.
    """
    if not folder.exists(RECORD):
        return {}
    try:
        read = folder.read_json(RECORD)["promoted"]
        return {str(kind): [str(version) for version in versions] for kind, versions in read.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WordloomError(
            f"{folder.location}/{RECORD} is damaged ({error!r}); delete it to serve the newest of each kind."
        ) from error


def record(folder: Folder, promoted: Mapping[str, list[str]]) -> None:
    """Writes which versions were promoted; readers see the old record or the new one."""
    folder.write_json(RECORD, {"promoted": dict(promoted)})


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


def _other_way(model: Model, labellers: Sequence[Artefact]) -> Model | None:
    """The newest labeller that reads the same frames, and in both directions where `model` does not."""
    for artefact in sorted(labellers, key=lambda each: _rank(each, {}), reverse=True):
        other = Model.of(artefact)
        if None not in (other.both, model.both) and other.both != model.both and other.reads == model.reads:
            return other
    return None


def _rank(artefact: Artefact, promoted: Mapping[str, str]) -> tuple[bool, str, str]:
    """What is promoted stands above what is newer."""
    first = promoted.get(artefact.kind) == artefact.identity
    return first, str(artefact.manifest.made.get("at", "")), artefact.identity
