"""A dump: one export file or several parts, found, checked and cut into splits.

What a file is, its first bytes say, never its name. What a dump is, its content says: the identity comes
from the files' sha256, so a dump that moves or is downloaded again is the same dump.
"""

from __future__ import annotations

import glob
import hashlib
import html
import json
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.fs as pafs

from cluster.artefact import Input
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder, filesystem_of
from cluster.progress import Reporter
from ingest import bzip2
from ingest.download import download
from ingest.pages import PAGE
from ingest.splits import Split, SplitReader, gunzip, open_file, read

__all__ = ["Dump", "DumpFile", "Split", "SplitReader", "locate", "plan", "read"]

HEAD = 1 << 16  # bytes of XML in which an export shows what it is
_INDEX = re.compile(r"-index\d*\.txt[^/]*$")
_NAMESPACE = re.compile(rb'<namespace key="(-?\d+)"[^>]*>([^<]+)</namespace>')


@dataclass(frozen=True)
class DumpFile:
    """One file of a dump, as it lies: `bytes` and `sha256` are of the compressed file.

    `format` is ``bzip2``, ``gzip`` or ``xml``, `encoding` the XML's. `prefixes` (title prefix ->
    namespace) is filled for exports that have no ``<ns>``.
    """

    location: str
    bytes: int
    sha256: str
    format: str
    encoding: str = "utf-8"
    prefixes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Dump:
    """One dump: its files in the order of their pages."""

    files: tuple[DumpFile, ...]
    name: str

    @property
    def identity(self) -> str:
        """sha256 (hex) over the files' sha256: the same wherever and under whatever names they lie."""
        return hashlib.sha256("\n".join(file.sha256 for file in self.files).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def as_input(self) -> Input:
        """What an artefact says it was made from."""
        return Input("dump", self.identity, self.files[0].location)


def locate(
    source: str | Path,
    downloads: str | Path | Folder,
    reporter: Reporter | None = None,
    checksums: str | Path | None = None,
) -> Dump:
    """The dump at `source`: a path or glob (local, s3://, gs://; all its files are one dump) or an
    http(s) URL, which is downloaded into the local folder `downloads` first.

    `checksums` names a file that remembers the sha256 of files by place, size and time, so that 40 GB
    are not read again for it at every run. Raises WordloomError where there is nothing, or no dump.
    """
    reporter = reporter or Reporter(quiet=True)
    memory = _Checksums(checksums)
    source = str(source)
    if re.match(r"https?://", source, re.IGNORECASE):
        folder = downloads if isinstance(downloads, Folder) else Folder(downloads)
        if not folder.is_local:
            raise UsageError(
                f"Cannot download into {folder.location!r}: downloads go into a local folder; name one, or "
                "copy the dump there and name it with --source."
            )
        done = download(source, folder.location, reporter)
        locations = [str(done.path)]
        memory.remember(locations[0], done.sha256)
    else:
        locations = _found(source)
    files = tuple(_examined(location, memory, reporter) for location in locations)
    memory.write()
    return Dump(files, _name(locations))


def plan(dump: Dump, split_bytes: int) -> list[Split]:
    """The splits of a dump, of about `split_bytes` compressed bytes each, in the order of its pages.

    The same dump and `split_bytes` always give the same splits.
    """
    if split_bytes < 1:
        raise UsageError(f"Setting 'ingest.split_bytes' is {split_bytes}; give at least 1.")
    splits: list[Split] = []
    for file in dump.files:
        whole = file.format == "gzip" or file.encoding != "utf-8"
        count = 1 if whole else max(1, round(file.bytes / split_bytes))
        edges = [file.bytes * each // count for each in range(count + 1)]
        for start, stop in pairwise(edges):
            split = Split(len(splits), file.location, file.format, start, stop, file.bytes)
            splits.append(replace(split, encoding=file.encoding, prefixes=file.prefixes))
    return splits


def _found(source: str) -> list[str]:
    """The files that a path or glob names, in the order of the numbers in their names."""
    local = "://" not in source
    source = str(Path(source).expanduser().absolute()) if local else source
    filesystem, path = filesystem_of(source)
    kind = _info(filesystem, path, source).type
    if kind == pafs.FileType.File:
        return [source]
    if kind == pafs.FileType.Directory:
        raise WordloomError(
            f"Cannot read {source!r}: it is a folder; name a dump file, or several with a glob "
            "such as 'dumps/*.bz2' in --source."
        )
    found: list[str] = []
    if any(each in path for each in "*?["):
        if local:
            found = [each for each in glob.glob(path, recursive=True) if Path(each).is_file()]  # noqa: PTH207
        else:
            parent = path.rpartition("/")[0]
            listed = filesystem.get_file_info(pafs.FileSelector(parent, allow_not_found=True))
            scheme = source.partition("://")[0]
            files = [each.path for each in listed if each.type == pafs.FileType.File]
            found = [f"{scheme}://{each}" for each in files if fnmatch(each, path)]
        found = [each for each in found if not _INDEX.search(each)]
        if not found:
            raise WordloomError(f"Cannot read {source!r}: no file matches; check --source.")
    if not found:
        raise WordloomError(f"Cannot read {source!r}: no such file; check --source.")
    return sorted(found, key=_natural)


def _examined(location: str, memory: _Checksums, reporter: Reporter) -> DumpFile:
    """What a file is. Raises WordloomError for one that is no readable export."""
    filesystem, path = filesystem_of(location)
    size = int(_info(filesystem, path, location).size or 0)
    if not size:
        raise WordloomError(f"{location!r} is empty (0 bytes); fetch it again or check --source.")
    with open_file(location) as stream:
        try:
            kind, head = _sniffed(stream, size, location)
        except OSError as error:
            raise WordloomError(f"Cannot read {location!r}: {error}.") from error
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    if encoding != "utf-8":
        head = head.decode(encoding, "ignore").encode()
    if b"<mediawiki" not in head[:HEAD] and not PAGE.search(head[:HEAD]):
        begins = head[:40].decode("utf-8", "replace")
        raise WordloomError(
            f"{location!r} is no MediaWiki export, it begins with {begins!r}; "
            "give a pages-articles or pages-meta-current dump as --source."
        )
    prefixes: tuple[tuple[str, int], ...] = ()
    if b"<ns>" not in head:
        names = _NAMESPACE.findall(head.partition(b"</siteinfo>")[0])
        prefixes = tuple((html.unescape(name.decode("utf-8", "replace")), int(key)) for key, name in names)
    return DumpFile(location, size, memory.sha256(location, size, reporter), kind, encoding, prefixes)


def _sniffed(stream: BinaryIO, size: int, location: str) -> tuple[str, bytes]:
    """The format of a file and the first bytes of its XML."""
    first = stream.read(HEAD)
    stream.seek(0)
    if re.match(rb"BZh[1-9]", first):
        for each in bzip2.blocks(stream, size):
            if isinstance(each, bzip2.Block):
                return "bzip2", each.data
        raise WordloomError(
            f"{location!r} holds no whole bzip2 block in its {size:,} bytes: it is empty, cut off or "
            "damaged; fetch it again."
        )
    if first.startswith(b"\x1f\x8b"):
        pieces = [each for _, each in islice(gunzip(stream, size), 2)]
        head = b"".join(each for each in pieces if isinstance(each, bytes))
        if head:
            return "gzip", head
        raise WordloomError(
            f"{location!r} holds no readable gzip data in its {size:,} bytes: it is empty, cut off or "
            "damaged; fetch it again."
        )
    marked = first.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16
    if marked or first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "xml", first
    raise WordloomError(
        f"{location!r} is no dump: it begins with {first[:8]!r}, which is neither bzip2 nor gzip nor XML; "
        "unpack it if it is another archive, or check --source."
    )


def _info(filesystem: pafs.FileSystem, path: str, location: str) -> Any:
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        raise WordloomError(f"Cannot read {location!r}: {error}; check --source.") from error


def _natural(location: str) -> list[tuple[int, str]]:
    """A key that sorts part 2 before part 10."""
    return [(int(each), "") if each.isdigit() else (-1, each) for each in re.split(r"(\d+)", location)]


def _name(locations: list[str]) -> str:
    name = locations[0].rstrip("/").rpartition("/")[2]
    name = re.sub(r"(\.xml)?([-.]p\d+p\d+)?(\.(bz2|gz|xml))*$", "", name) or name
    return name if len(locations) == 1 else f"{name} (+{len(locations) - 1})"


class _Checksums:
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
        known = self._known.get(location)
        if known is not None and known[:2] == self._state(location):
            return str(known[2])
        digest = hashlib.sha256()
        with open_file(location) as stream, reporter.stage("checksum", total=size, unit="B") as stage:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
                stage.advance(len(chunk))
            stage.summary(location)
        self.remember(location, digest.hexdigest())
        return digest.hexdigest()

    def remember(self, location: str, sha256: str) -> None:
        self._known[location] = [*self._state(location), sha256]
        self._changed = True

    def write(self) -> None:
        if self._changed and self._path is not None:
            Folder(self._path.parent).write_json(self._path.name, self._known)
            self._changed = False

    def _state(self, location: str) -> list[int]:
        filesystem, path = filesystem_of(location)
        info = filesystem.get_file_info(path)
        return [int(info.size or 0), int(info.mtime_ns or 0)]
