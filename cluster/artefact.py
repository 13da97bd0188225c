"""Artefacts: immutable folders that know what they were made from.

An artefact is a folder with a ``manifest.json`` that is written last. Readers refuse a folder without
one, so whatever a crash leaves behind is never read as whole. The manifest holds

- ``kind``: what it is (``corpus``, ``vocabulary``, ``vectors``, ``language-model``, ...);
- ``format``: the version of the manifest itself (see cluster/manifest.py);
- ``identity``: sha256 over the kind, the stage's output version, the identities of the inputs and the
  settings; never over code, libraries or places, so a refactor or an upgrade costs no retraining;
- ``output_version``: a number that a stage raises by hand when its output changes (golden-output tests
  guard it);
- ``inputs``: name -> kind, identity and where it lay then; the lineage follows these;
- ``settings``: the resolved settings; ``counts``: what was counted; ``files``: size and sha256 of each;
- ``made``: when, in how many seconds, with which libraries, at which commit, where the time went; for
  lineage and the report only.

A `Draft` is an artefact being made. Its ``making/`` folder holds what a later run needs to go on and
goes when the artefact is published.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import stat
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.claim import CLAIMS, take
from cluster.errors import UsageError, WordloomError
from cluster.folder import FileRecord, Folder, local_path, reason
from cluster.manifest import FORMAT, Input, Manifest
from cluster.probe import PROBES

__all__ = ["Artefact", "Draft", "Input", "Manifest", "identity_of", "output_file", "settings_dict"]

MANIFEST = "manifest.json"
MAKING = "making"
DRAFT = f"{MAKING}/draft.json"
BEFORE = (f"{MAKING}/{CLAIMS}/", f"{PROBES}/")  # what we write before a draft
OURS = (f"{MAKING}/", f"{PROBES}/")  # what may be cleared for another run, where a draft of ours is
PROGRESS = "progress.json"  # below making/: how far the run is, by stages that take long
LIBRARIES = ("ray", "tensorflow", "keras", "numpy", "pyarrow", "lxml")


def identity_of(
    kind: str, output_version: int, inputs: Mapping[str, str], settings: Mapping[str, Any]
) -> str:
    """The identity (sha256, 64 hex digits) of what a stage makes of these inputs under these settings."""
    text = json.dumps([kind, output_version, inputs, settings], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Artefact:
    """A published artefact, open for reading."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, location: str | Path | Folder, kind: str | None = None) -> Artefact:
        """Opens the artefact in a folder. Raises WordloomError where there is none of that kind."""
        folder = location if isinstance(location, Folder) else Folder(location)
        found = published(folder)
        wanted = f"{kind} artefact" if kind else "artefact"
        if found is None:
            state = "it has no manifest.json" if folder.exists() else "there is no such folder"
            hint = "; a run that made it did not finish: run the same command again" if begun(folder) else ""
            raise WordloomError(f"{folder.location!r} is no {wanted}: {state}{hint}.")
        if kind is not None and found.kind != kind:
            raise WordloomError(
                f"{folder.location!r} is no {wanted} but one of kind {found.kind!r}; "
                f"name a folder of kind {kind!r}."
            )
        return found

    def __repr__(self) -> str:
        return f"Artefact({self.kind!r}, {self.identity[:12]}, {self.location!r})"

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def identity(self) -> str:
        return self.manifest.identity

    @property
    def location(self) -> str:
        return self.folder.location

    @property
    def counts(self) -> dict[str, Any]:
        return self.manifest.counts

    @property
    def numbers(self) -> dict[str, int | float]:
        """Those of its counts that are single numbers."""
        return {
            name: value
            for name, value in self.counts.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return self.manifest.bytes

    def as_input(self) -> Input:
        return Input(self.kind, self.identity, self.location)

    def verify(self) -> None:
        """Compares every file with the manifest; raises WordloomError for the first that differs."""
        for name, record in self.manifest.files.items():
            if not self.folder.exists(name):
                raise WordloomError(
                    f"{self.location}/{name} is missing; delete the folder and run the command again."
                )
            digest, size = hashlib.sha256(), 0
            with self.folder.open(name) as stream:
                while chunk := stream.read(1 << 22):
                    digest.update(chunk)
                    size += len(chunk)
            if (size, digest.hexdigest()) != (record.bytes, record.sha256):
                raise WordloomError(
                    f"{self.location}/{name} is damaged: {size} bytes with sha256 {digest.hexdigest()}, "
                    f"the manifest says {record.bytes} and {record.sha256}; "
                    "delete the folder and run the command again."
                )


class Draft:
    """An artefact being made in a folder.

    `settings` is the stage's frozen dataclass (or a mapping) of all that changes the output and of
    nothing else: worker counts and places do not belong into it. If the folder already holds the
    artefact with this identity, `published` is it. What an unfinished run with the same identity left
    is kept, so that the run goes on; the ``making/`` of one with another identity is cleared, where nothing
    lies beside it. While the draft lives, no other process makes an artefact here (cluster/claim.py). Raises
    WordloomError where one does, or where the folder holds anything else.
    """

    def __init__(
        self,
        location: str | Path | Folder,
        *,
        kind: str,
        output_version: int,
        inputs: Mapping[str, Artefact | Input],
        settings: Any,
        claim: bool = True,
    ) -> None:
        self.folder = location if isinstance(location, Folder) else Folder(location)
        self.making = self.folder.child(MAKING)
        self.kind = kind
        self.output_version = output_version
        self.inputs = {
            name: given.as_input() if isinstance(given, Artefact) else given for name, given in inputs.items()
        }
        self.settings = settings_dict(settings)
        self.identity = identity_of(
            kind,
            output_version,
            {name: given.identity for name, given in self.inputs.items()},
            self.settings,
        )
        self.published = published(self.folder)
        self._begun = time.time()
        self._release: Callable[[], object] = int  # nothing to give back
        if self.published is None:
            refuse_foreign(self.folder, self.identity)
            if claim:
                self._release = weakref.finalize(self, take(self.making, self.location))
                self.published = published(self.folder)  # who had the claim may have finished just now
        if self.published is None:
            self._begin()
        elif self.published.identity != self.identity:
            raise WordloomError(
                f"{self.location!r} holds another artefact already ({_difference(self.published, self)}); "
                "artefacts never change: name another folder or delete this one."
            )
        else:
            self.making.delete()  # left by a run that ended between the manifest and this

    def __reduce__(self) -> Any:
        # Workers get the draft to write into its folders; they look at the folder as it is then.
        state = (self.location, self.kind, self.output_version, self.inputs, self.settings)
        return _draft_again, state

    @property
    def location(self) -> str:
        return self.folder.location

    def publish(
        self,
        counts: Mapping[str, Any],
        files: Mapping[str, FileRecord],
        told: Mapping[str, Any] | None = None,
    ) -> Artefact:
        """Writes the manifest, which makes the folder an artefact, and clears ``making/``.

        `files` names every file of the artefact, relative to the folder, all written before. `told` is more
        of how it was made, such as where the time went (``phases``: name -> seconds).
        """
        there = set(self.folder.names())  # one listing: of a million files each would be a request
        missing = next((name for name in files if name not in there), None)
        if missing is not None:
            raise WordloomError(
                f"{self.location}/{missing} is gone before it was published; run the same command again."
            )
        manifest = Manifest(
            kind=self.kind,
            identity=self.identity,
            output_version=self.output_version,
            inputs=self.inputs,
            settings=self.settings,
            counts=dict(counts),
            files=dict(sorted(files.items())),
            made={
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.time() - self._begun, 1),
                "commit": commit(),
                "python": platform.python_version(),
                "libraries": libraries(),
                **(told or {}),
            },
        )
        manifest.write(self.folder, MANIFEST)
        self._release()
        self.making.delete()
        self.folder.sweep()
        self.published = Artefact(self.folder, manifest)
        return self.published

    def _begin(self) -> None:
        if begun(self.folder) == self.identity:
            return
        # The draft last: without it nobody could tell that the others are ours.
        for name in sorted(self.folder.names(), key=lambda name: name == DRAFT):
            if name.startswith(OURS) and not name.startswith(f"{MAKING}/{CLAIMS}/"):
                self.folder.delete(name)
        inputs = {name: given.identity for name, given in self.inputs.items()}
        self.folder.write_json(DRAFT, {"kind": self.kind, "identity": self.identity, "inputs": inputs})


def refuse_foreign(folder: Folder, identity: str) -> None:
    """Raises WordloomError where a folder in which nothing is published holds anything that an artefact of
    this identity could not be made beside: what is not ours, or more than ``making/`` of another run."""
    if begun(folder) == identity:
        return
    names = folder.names()
    there = begun(folder)  # again, behind the listing: of who began meanwhile the claim tells
    if there == identity:
        return
    beside = [name for name in names if not name.startswith(BEFORE if there is None else OURS)]
    if beside and there is None:
        raise WordloomError(
            f"{folder.location!r} holds files that are not ours ({beside[0]!r}); "
            "name an empty or a new folder."
        )
    if beside:
        # Whose they are nobody knows: parts of that run, or what a user has put there since.
        raise WordloomError(
            f"{folder.location!r} holds a run of other inputs or settings that did not finish, and files "
            f"beside it ({beside[0]!r}); name another folder, or delete this one."
        )


def settings_dict(settings: Any) -> dict[str, Any]:
    """The settings of a stage as plain JSON values."""
    plain = dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else dict(settings)  # type: ignore[arg-type]
    loaded: dict[str, Any] = json.loads(json.dumps(plain))
    return loaded


@functools.cache
def libraries() -> dict[str, str]:
    """The versions of the libraries that the output may depend on; read from metadata, without importing."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that runs, None outside one."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def published(folder: Folder) -> Artefact | None:
    """The artefact in a folder, None where none is published. Raises WordloomError where it is damaged."""
    try:
        value = folder.read_json(MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WordloomError(
            f"{folder.location}/{MANIFEST} cannot be read ({reason(error)}); see who may read it."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WordloomError(
            f"{folder.location}/{MANIFEST} is damaged ({error}); delete the folder and run the command again."
        ) from error
    try:
        if value["format"] > FORMAT:
            raise WordloomError(
                f"{folder.location}/{MANIFEST} has format {value['format']}, this version reads up to "
                f"{FORMAT}; use a newer wordloom."
            )
        return Artefact(folder, Manifest.from_json(value, folder))
    except (KeyError, TypeError, AttributeError) as error:
        raise WordloomError(
            f"{folder.location}/{MANIFEST} is no manifest of ours ({error!r}); name another folder."
        ) from error


def output_file(path: str | os.PathLike[str], source: str | os.PathLike[str] | None = None) -> Path:
    """The absolute path of a file to be written, looked at before the work begins.

    Raises UsageError where it is not local, or where there is what a file must not replace: a folder, a
    device, a file of an artefact, or `source`, of which it is made.
    """
    final = local_path(path)
    try:
        there = final.stat()
    except OSError:
        return final  # it is not there, or writing it will say what is wrong
    if stat.S_ISDIR(there.st_mode):
        raise UsageError(f"{os.fspath(path)!r} is a folder; name a file in it.")
    if not stat.S_ISREG(there.st_mode):
        raise UsageError(f"{os.fspath(path)!r} is no regular file; name another or a new one.")
    with suppress(OSError):
        if source is not None and os.path.samestat(there, Path(source).stat()):
            raise UsageError(f"{os.fspath(path)!r} is the input itself; name another file.")
    for place in final.parents:
        try:
            found = published(Folder(place))
        except WordloomError:  # a manifest that is not ours
            continue
        name = final.relative_to(place).as_posix()
        if found is not None and (name == MANIFEST or name in found.manifest.files):
            raise UsageError(
                f"{os.fspath(path)!r} belongs to an artefact, and artefacts never change; name another file."
            )
    return final


def begun(folder: Folder) -> str | None:
    """The identity that an unfinished run was making here, None where there was none."""
    try:
        identity = folder.read_json(DRAFT)["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity if isinstance(identity, str) else None


def _difference(there: Artefact, wanted: Draft) -> str:
    """In a few words, what sets the artefact that is there apart from the one that is wanted."""
    if there.kind != wanted.kind:
        return f"kind {there.kind!r} instead of {wanted.kind!r}"
    for name, given in wanted.inputs.items():
        held = there.manifest.inputs.get(name)
        if held is None or held.identity != given.identity:
            return f"made from another {name}"
    for key, value in wanted.settings.items():
        if there.manifest.settings.get(key) != value:
            return f"{key} = {there.manifest.settings.get(key)!r} instead of {value!r}"
    return f"output version {there.manifest.output_version} instead of {wanted.output_version}"


def _draft_again(
    location: str, kind: str, output_version: int, inputs: dict[str, Input], settings: dict[str, Any]
) -> Draft:
    # The driver has the claim.
    return Draft(
        location, kind=kind, output_version=output_version, inputs=inputs, settings=settings, claim=False
    )
