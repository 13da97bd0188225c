"""One file that a command's ``--source`` names: found, or fetched first, and known by its sha256."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.artefact import Input
from cluster.connections import LIMIT
from cluster.errors import WordloomError
from cluster.folder import Folder, filesystem_of
from cluster.progress import Reporter
from ingest.download import Part, stored
from ingest.files import Checksums, found, info, open_file
from ingest.web import is_web


@dataclass(frozen=True)
class SourceFile:
    """A file as it lies, of so many `bytes`; its `sha256` is its identity, wherever it lies."""

    location: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.location.rpartition("/")[2]

    def as_input(self) -> Input:
        """What an artefact says it was made from."""
        return Input("file", self.sha256, self.location)

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The file for reading, seekable."""
        with open_file(self.location) as stream:
            yield stream


def locate(
    source: str | Path,
    downloads: str | Path | Folder,
    reporter: Reporter | None = None,
    checksums: str | Path | None = None,
    *,
    connections: int = LIMIT,
) -> SourceFile:
    """The file at a path (local, s3://, gs://) or an http(s) URL, which is downloaded into the local folder
    `downloads` first. `checksums` as in `ingest.dump.locate`. Raises WordloomError where there is not one.
    """
    reporter = reporter or Reporter(quiet=True)
    memory = Checksums(checksums)
    source = str(source)
    if is_web(source):
        locations = stored([Part(source)], downloads, reporter, memory, connections)
    else:
        locations = found(source)
    if len(locations) > 1:
        raise WordloomError(f"{source!r} names {len(locations)} files; give one in --source.")
    (location,) = locations
    filesystem, path = filesystem_of(location)
    size = int(info(filesystem, path, location).size or 0)
    located = SourceFile(location, size, memory.sha256(location, size, reporter))
    memory.write()
    return located
