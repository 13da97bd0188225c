"""Files wherever they lie: found by path or glob, opened, told apart from their other versions, summed.

A location is a path, ``s3://...``, ``gs://...`` or an http(s) URL; the latter are read by ranges.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from cluster.connections import LIMIT
from cluster.errors import UnwritableError, WordloomError
from cluster.folder import Folder, filesystem_of, inside, reason
from cluster.progress import Reporter
from ingest import web
from ingest.ranges import RangedFile, WebFile
from ingest.web import Version

INDEX = re.compile(r"-index\d*\.txt[^/]*$")  # of a multistream archive: no part of a dump


def found(source: str) -> list[str]:
    """The files that a path or glob names, in the order of the numbers in their names."""
    local = "://" not in source
    given = Path(source).expanduser()
    source = str(given.absolute()) if local else source
    filesystem, path = filesystem_of(source)
    kind = info(filesystem, path, source).type
    if kind == pafs.FileType.File:
        return [source]
    if kind == pafs.FileType.Directory:
        raise WordloomError(
            f"Cannot read {source!r}: it is a folder; name a file, or several with a glob "
            "such as 'dumps/*.bz2' in --source."
        )
    matches: list[str] = []
    if any(each in path for each in "*?["):
        if local:
            # The working directory is no part of the pattern, whatever it is called.
            pattern = str(given if given.is_absolute() else Path(glob.escape(str(Path.cwd()))) / given)
            matches = [each for each in glob.glob(pattern, recursive=True) if Path(each).is_file()]  # noqa: PTH207
        else:
            parent = path.rpartition("/")[0]
            try:
                listed = filesystem.get_file_info(pafs.FileSelector(parent, allow_not_found=True))
            except OSError as error:
                raise _cannot(source, error) from error
            files = [each.path for each in listed if each.type == pafs.FileType.File]
            matches = [inside(source, each) for each in files if fnmatch(each, path)]
        matches = [each for each in matches if not INDEX.search(each)]
        if not matches:
            raise WordloomError(f"Cannot read {source!r}: no file matches; check --source.")
    if not matches:
        raise WordloomError(f"Cannot read {source!r}: no such file; check --source.")
    for each in matches:
        try:
            each.encode()
        except UnicodeEncodeError as error:  # a byte of it is no UTF-8: no manifest can name it
            raise WordloomError(f"Cannot read {each!r}: its name is no UTF-8; rename it.") from error
    return sorted(matches, key=natural)


def open_file(
    location: str,
    version: Version | None = None,
    connections: int = LIMIT,
    ahead: tuple[int, int] = (0, 0),
    option: str = "--source",
) -> Any:
    """A file for reading, seekable, with `size()`, on any file system that pyarrow knows or over http(s).

    Where `version` is given, another version of the file is an error. `connections` is how many may be open
    to a web server at once, over the whole cluster; `ahead` the bytes [start, stop) that are going to be
    read; `option` the command's that names it. Raises WordloomError where it cannot be read.
    """
    if web.is_web(location):
        file = WebFile(location, version, connections)
        return RangedFile(file.fetch, file.size, ahead)
    filesystem, path = filesystem_of(location)
    try:
        stream = filesystem.open_input_file(path)
        if "://" not in location:
            return stream
        size = int(stream.size())
        if version is not None and not version.same(_told(stream, size)):
            raise WordloomError(
                f"{location!r} has changed since it was looked at (ETag {version.etag}, "
                f"{version.total or 0:,} bytes); run the command again."
            )
        return RangedFile(lambda start, stop: bytes(stream.read_at(stop - start, start)), size, ahead)
    except FileNotFoundError as error:
        raise WordloomError(f"Cannot read {location!r}: no such file; check {option}.") from error
    except OSError as error:
        raise _cannot(location, error, option) from error


def version_of(location: str, connections: int = LIMIT) -> Version:
    """Which version of a file lies elsewhere, without reading it: its tag, date and size."""
    if web.is_web(location):
        return WebFile(location, None, connections).version
    filesystem, path = filesystem_of(location)
    try:
        with filesystem.open_input_file(path) as stream:
            return _told(stream, int(stream.size()))
    except FileNotFoundError as error:
        raise WordloomError(f"Cannot read {location!r}: no such file; check --source.") from error
    except OSError as error:
        raise _cannot(location, error) from error


def _told(stream: Any, size: int) -> Version:
    """What an object store says of an object."""
    said = {name.lower(): value.decode() for name, value in (stream.metadata() or {}).items()}
    return Version(said.get("etag"), said.get("last-modified"), size)


def info(filesystem: pafs.FileSystem, path: str, location: str) -> Any:
    """pyarrow's FileInfo. Raises WordloomError where the file system cannot be asked."""
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        raise _cannot(location, error) from error


def _cannot(location: str, error: OSError, option: str = "--source") -> WordloomError:
    mend = f"check {option} and your credentials" if "://" in location else f"check {option}"
    return WordloomError(f"Cannot read {location!r}: {reason(error)}; {mend}.")


def natural(location: str) -> list[tuple[int, str]]:
    """A key that sorts part 2 before part 10."""
    return [(int(each), "") if each.isdecimal() else (-1, each) for each in re.split(r"(\d+)", location)]


class Checksums:
    """The sha256 of files, remembered by place, size and time of change in a small JSON file."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = Path(path) if path is not None else None
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        if self._path is not None and self._path.exists():
            try:
                loaded = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError:
                loaded = {}  # only time is lost by forgetting
            self._known = loaded if isinstance(loaded, dict) else {}

    def sha256(self, location: str, size: int, reporter: Reporter) -> str:
        if self.known(location):
            return str(self._known[location][2])
        digest = hashlib.sha256()
        with open_file(location) as stream, reporter.stage("checksum", total=size, unit="B") as stage:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
                stage.advance(len(chunk))
            stage.summary(location)
        self.remember(location, digest.hexdigest())
        return digest.hexdigest()

    def known(self, location: str) -> bool:
        """Whether the sum is remembered of the file as it is now."""
        known = self._known.get(location)
        return known is not None and known[:2] == self._state(location)

    def remember(self, location: str, sha256: str) -> None:
        self._known[location] = [*self._state(location), sha256]
        self._changed = True

    def write(self) -> None:
        """Keeps what is new, where that may be written: only time is lost by forgetting."""
        if self._changed and self._path is not None:
            with suppress(UnwritableError):
                Folder(self._path.parent).write_json(self._path.name, self._known)
            self._changed = False

    def _state(self, location: str) -> list[int]:
        filesystem, path = filesystem_of(location)
        info = filesystem.get_file_info(path)
        return [int(info.size or 0), int(info.mtime_ns or 0)]
