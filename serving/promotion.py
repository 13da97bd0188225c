"""Which version of each kind is served: promoted through gates, rolled back in one step.

The choice lies beside the models as ``served.json``: for each kind the versions that were promoted, the one
that is to be served last. A server begins with the newest version of a kind that is not in it. It looks there
every few seconds and switches to what was promoted, each new replica answering before an old one goes; what
is newer than what it holds does not go live while it runs. What deploy/serve.yaml deploys looks when it is
built, and then no more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI

from cluster.artefact import Artefact
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.progress import shell_command
from serving import application, models, notes
from serving.client import examples
from serving.keys import Keys
from serving.models import LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS, Model, chosen, record

TOLERANCE = 0.02  # a figure may be so much worse, as a share: two seeds of one training differ by as much
# The figures that are compared: name in the manifest's counts, and whether more is better.
FIGURES = {
    VECTORS: (("held_out_auc", True),),
    LANGUAGE_MODEL: (("held_out_bits_per_character", False),),
    SENTIMENT: (("accuracy", True),),
    LABELLING: (("letter_error", False),),
}


@dataclass(frozen=True)
class Gate:
    """One check of a version before it is served, with the sentence that says how it went."""

    name: str
    passed: bool
    sentence: str


def versions(location: str | Folder) -> list[dict[str, Any]]:
    """All models below a folder, oldest first: what they are, their figures, which of them are served. Raises
    WordloomError where there is no such folder."""
    folder = location if isinstance(location, Folder) else Folder(location)
    if not folder.exists():
        raise WordloomError(f"There is no folder {folder.location!r}; check --models.")
    lying = [each for each in models.artefacts(folder) if each.kind in models.KINDS]
    served = models.served(folder, lying)
    listed = []
    for artefact in sorted(lying, key=lambda each: (each.kind, str(each.manifest.made.get("at", "")))):
        model = Model.of(artefact)
        figures = {name: artefact.counts.get(name) for name, _ in FIGURES.get(model.kind, ())}
        listed.append(
            {
                "name": model.name,
                "kind": model.kind,
                "version": model.version,
                "made": model.made,
                "location": model.location,
                "figures": figures,
                "both": model.both,
                "served": model.version in served,
            }
        )
    return listed


def promote(
    location: str | Folder,
    name: str,
    *,
    tolerance: float = TOLERANCE,
    opened: Callable[[Model], Any] | None = None,
) -> tuple[Model, list[Gate]]:
    """Serves the version `name` (`KIND-VERSION`, or the beginning of a version) from now on.

    Its gates: the files are those of its manifest, its figures are not worse than those of the version that
    is served (by more than `tolerance`), and it answers every example of its routes. Raises WordloomError
    with the gate that it does not pass; then nothing changes. `opened` makes the core of a model.
    """
    folder = location if isinstance(location, Folder) else Folder(location)
    artefact = _named(folder, name)
    candidate = Model.of(artefact)
    present = models.serving(folder, models.artefacts(folder)).get(artefact.kind)
    gates: list[Gate] = []
    checks: list[Callable[[], Gate]] = [
        lambda: _whole(artefact),
        lambda: _figures(artefact, present, tolerance),
        lambda: _answers(candidate, opened),
    ]
    for check in checks:
        gates.append(check())
        if not gates[-1].passed:
            raise WordloomError(
                f"{candidate.name} is not promoted: {gates[-1].sentence}"
                f" {present.name if present else 'No other version'} is served as before."
            )
    held = chosen(folder)
    # What is served now is what a rollback goes back to, though nobody ever promoted it.
    now = [present.version] if present and present.version != candidate.version else []
    earlier = [each for each in held.get(candidate.kind, []) if each not in (*now, candidate.version)]
    held[candidate.kind] = [*earlier, *now, candidate.version]
    record(folder, held)
    return candidate, gates


def waits(location: str | Folder, model: Model) -> bool:
    """Whether a server that follows no promotion (deploy/serve.yaml) holds another version of its kind."""
    folder = location if isinstance(location, Folder) else Folder(location)
    return any(
        model.kind in each.versions and not each.follows and model.version != each.versions[model.kind][0]
        for each in notes.noted(folder)
    )


def earlier(location: str | Folder, model: Model) -> bool:
    """Whether there is a version to go back to from this one."""
    folder = location if isinstance(location, Folder) else Folder(location)
    return len(chosen(folder).get(model.kind, [])) > 1


def rollback(location: str | Folder, kind: str) -> Model:
    """Serves the version of a kind that was served before this one. Raises UsageError where there is none."""
    folder = location if isinstance(location, Folder) else Folder(location)
    held = chosen(folder)
    history = held.get(kind, [])
    if len(history) < 2:
        raise UsageError(
            f"There is no earlier version of kind {kind!r} in {folder.location!r} to go back to."
        )
    there = {each.identity: each for each in models.artefacts(folder) if each.kind == kind}
    if history[-2] not in there:
        raise WordloomError(
            f"Version {history[-2][:12]} of kind {kind!r}, which was served before, is not in "
            f"{folder.location!r} any more; promote another one."
        )
    held[kind] = history[:-1]
    record(folder, held)
    return Model.of(there[history[-2]])


# the gates


def _whole(artefact: Artefact) -> Gate:
    try:
        artefact.verify()
    except WordloomError as error:
        return Gate("files", False, str(error))
    return Gate("files", True, "Every file is the one of the manifest.")


def _figures(artefact: Artefact, present: Model | None, tolerance: float) -> Gate:
    if present is None:
        return Gate("figures", True, "There is no other version to be compared with.")
    if present.version == artefact.identity:
        return Gate("figures", True, "It is the version that is served.")
    held = Artefact.open(present.location)
    said = []
    for name, more_is_better in FIGURES.get(artefact.kind, ()):
        new, old = artefact.counts.get(name), held.counts.get(name)
        if new is None or old is None:
            missing = "it" if new is None else "the version that is served"
            return Gate("figures", False, f"The figure {name} of {missing} was not measured.")
        worse = (old - new if more_is_better else new - old) > tolerance * abs(old)
        said.append(f"{name} {new:.4g} against {old:.4g}")
        if worse:
            return Gate("figures", False, f"It is worse than the version that is served: {said[-1]}.")
    return Gate("figures", True, f"{', '.join(said) or 'No figure is compared for this kind'}.")


def _answers(candidate: Model, opened: Callable[[Model], Any] | None) -> Gate:
    """Asks the candidate, in this process, every example of its routes."""
    if opened is None:
        from serving.deployments import CORES

        opened = lambda model: CORES[model.kind](model.location)  # noqa: E731
    try:
        core = opened(candidate)
        # Keys of its own: those that stand in the environment are for clients of a server.
        app = application.build({candidate.kind: core}, {candidate.kind: candidate}, keys=Keys.drawn())
        asked = 0
        for method, _, target, body in examples(app.openapi()):
            status, answer = asyncio.run(_asked(app, method, target, body))
            if status != 200:
                return Gate("answers", False, f"It answers {method} {target} with {status}: {answer[:200]}")
            asked += 1
    except (WordloomError, OSError, ValueError) as error:
        return Gate("answers", False, str(error))
    return Gate("answers", True, f"It answers {asked} requests.")


async def _asked(app: FastAPI, method: str, target: str, body: Mapping[str, Any] | None) -> tuple[int, str]:
    """Status and body of one request to an application, without a socket."""
    path, _, query = target.partition("?")
    content = json.dumps(body).encode() if body is not None else b""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    return int(sent[0]["status"]), answer.decode(errors="replace")


def _named(folder: Folder, name: str) -> Artefact:
    """The model that a name means. Raises UsageError where none or several do."""
    found = []
    for artefact in models.artefacts(folder):
        if artefact.kind in models.KINDS:
            model = Model.of(artefact)
            if name == model.name or (len(name) >= 6 and model.version.startswith(name)):
                found.append(artefact)
    if len(found) != 1:
        problem = "No model" if not found else f"More than one model ({len(found)})"
        shows = shell_command("models", "list", "--models", folder.location)
        raise UsageError(
            f"{problem} in {folder.location!r} has the name {name!r}; `{shows}` shows the names."
        )
    return found[0]
