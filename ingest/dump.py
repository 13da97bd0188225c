"""A dump: one export file or several parts, found, checked and cut into splits.

What a file is, its first bytes say, never its name. What a dump is, its content says: the identity comes
from the files' sha256, so a dump that moves or is downloaded again is the same dump. Of a file that is read
where it lies and never stored nobody has the sha256 before the end; there the sha1 of the dump's status
file stands for it, or what the server says of the version.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO

from cluster.artefact import Input
from cluster.connections import LIMIT, Connections
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest import bzip2, dump_site
from ingest.download import Part, kept, stored
from ingest.dump_site import SITE
from ingest.files import Checksums, found, open_file, version_of
from ingest.pages import PAGE
from ingest.splits import Split, SplitReader, gunzip, read
from ingest.web import Version, is_web, without_query

__all__ = ["Dump", "DumpFile", "Split", "SplitReader", "locate", "plan", "read"]

HEAD = 1 << 16  # bytes of XML in which an export shows what it is
_NAMESPACE = re.compile(rb'<namespace key="(-?\d+)"[^>]*>([^<]+)</namespace>')


@dataclass(frozen=True)
class DumpFile:
    """One file of a dump, as it lies: `bytes` and `sha256` are of the compressed file.

    For a file that is read elsewhere and never stored `sha256` is empty, and `unstored` stands for it: the
    sha1 of the dump's status file, or a digest of what the server says of the version and of the first
    bytes. `version` is what such a file must still be when it is read. `format` is ``bzip2``, ``gzip`` or
    ``xml``, `encoding` the XML's. `prefixes` (title prefix -> namespace) are those that the export names: by
    them links to files and categories are known in any language.
    """

    location: str
    bytes: int
    sha256: str
    format: str
    encoding: str = "utf-8"
    prefixes: tuple[tuple[str, int], ...] = ()
    version: Version | None = None
    unstored: str = ""

    @property
    def identity(self) -> str:
        """The same wherever the file lies, as far as that is known without reading all of it."""
        return self.sha256 or self.unstored


@dataclass(frozen=True)
class Dump:
    """One dump: its files in the order of their pages.

    `connections` is how many may be open to a web server at once, over the whole cluster.
    """

    files: tuple[DumpFile, ...]
    name: str
    connections: int = LIMIT

    @property
    def identity(self) -> str:
        """sha256 (hex) over the files' identities: the same wherever and under whatever names they lie."""
        return hashlib.sha256("\n".join(file.identity for file in self.files).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def as_input(self) -> Input:
        """What an artefact says it was made from."""
        return Input("dump", self.identity, without_query(self.files[0].location))


def locate(
    source: str | Path,
    downloads: str | Path | Folder,
    reporter: Reporter | None = None,
    checksums: str | Path | None = None,
    *,
    download: bool | None = True,
    connections: int = LIMIT,
    site: str = SITE,
) -> Dump:
    """The dump that `source` names: a path or glob (local, s3://, gs://; all its files are one dump), an
    http(s) URL, or a wiki of the dump site `site`, ``enwiki``, ``enwiki:20261101``, ``enwiki:latest``.

    What lies on a web server is downloaded into the local folder `downloads` first; with `download` False
    nothing is stored and each worker reads its own byte ranges; with None, for a plan, nothing is stored and
    what an earlier run stored is looked at. At most `connections` are open to a host at once, over the whole
    cluster. `checksums` names a file that remembers the sha256 of files by place,
    size and time, so that 40 GB are not read again for it at every run. Raises WordloomError where there
    is nothing, or no dump.
    """
    reporter = reporter or Reporter(quiet=True)
    memory = Checksums(checksums)
    parts = _parts(str(source), site, Connections(connections).limit)
    if parts is None:
        parts = [Part(location) for location in found(str(source))]
    elif download is None:
        parts = kept(parts, downloads)
    elif download:
        parts = [Part(each) for each in stored(parts, downloads, reporter, memory, connections)]
    files = tuple(_examined(part, memory, reporter, download, connections) for part in parts)
    memory.write()
    return Dump(files, _name([file.location for file in files]), connections)


def _parts(source: str, site: str, connections: int) -> list[Part] | None:
    """The files on a web server that a URL or a wiki's name stands for; None for what is neither."""
    if is_web(source):
        return [Part(source)]
    if (name := dump_site.named(source)) is None or Path(source).is_file():
        return None
    return list(dump_site.resolve(*name, site, connections).parts)


def plan(dump: Dump, split_bytes: int) -> list[Split]:
    """The splits of a dump, of about `split_bytes` compressed bytes each, in the order of its pages.

    The same dump and `split_bytes` always give the same splits. The index of a multistream archive is not
    used: finding the first block behind any byte costs 3 ms (a split takes seconds), and a split that
    begins where a stream does would be no other work.
    """
    if split_bytes < 1:
        raise UsageError(f"Setting 'ingest.split_bytes' is {split_bytes}; give at least 1.")
    splits: list[Split] = []
    for file in dump.files:
        whole = file.format == "gzip" or file.encoding != "utf-8"
        count = 1 if whole else max(1, round(file.bytes / split_bytes))
        edges = [file.bytes * each // count for each in range(count + 1)]
        for start, stop in pairwise(edges):
            place = (len(splits), file.location, file.format, start, stop, file.bytes)
            splits.append(Split(*place, file.encoding, file.prefixes, file.version, dump.connections))
    return splits


def _examined(
    part: Part, memory: Checksums, reporter: Reporter, download: bool | None, connections: int
) -> DumpFile:
    """What a file is. Raises WordloomError for one that is no readable export."""
    location = part.url
    version = version_of(location, connections) if "://" in location else None
    size = version.total or 0 if version is not None else Path(location).stat().st_size
    if not size:
        raise WordloomError(f"{location!r} is empty (0 bytes); fetch it again or check --source.")
    if part.bytes is not None and size != part.bytes:
        raise WordloomError(
            f"{location!r} has size {size:,} and must have {part.bytes:,}, says the dump's status file; try "
            "another mirror with --site."
        )
    with open_file(location, version, connections) as stream:
        try:
            begin = stream.read(HEAD)
            stream.seek(0)
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
    names = _NAMESPACE.findall(head.partition(b"</siteinfo>")[0])
    prefixes = tuple((html.unescape(name.decode("utf-8", "replace")), int(key)) for key, name in names)
    sha256, unstored = "", ""
    stays = is_web(location) or (version is not None and version.condition and not download)
    if stays and not (download is None and memory.known(location)):
        unstored = f"sha1 {part.sha1}" if part.sha1 else _unstored(version, begin)
    else:
        sha256 = memory.sha256(location, size, reporter)
    return DumpFile(location, size, sha256, kind, encoding, prefixes, version, unstored)


def _unstored(version: Version | None, begin: bytes) -> str:
    """What tells a file from others that nobody has read to its end."""
    told = json.dumps([version and asdict(version), hashlib.sha256(begin).hexdigest()])
    return hashlib.sha256(told.encode()).hexdigest()


def _sniffed(stream: BinaryIO, size: int, location: str) -> tuple[str, bytes]:
    """The format of a file and the first bytes of its XML."""
    first = stream.read(HEAD)
    stream.seek(0)
    if re.match(rb"BZh[1-9]", first):
        for each in bzip2.blocks(stream, size, compiled=False):  # one block: nothing is loaded for it
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


def _name(locations: list[str]) -> str:
    name = re.sub(r"[?#].*", "", locations[0]) if "://" in locations[0] else locations[0]
    name = name.rstrip("/").rpartition("/")[2]
    name = re.sub(r"(\.xml)?([-.]p\d+p\d+)?(\.(bz2|gz|xml))*$", "", name) or name
    return name if len(locations) == 1 else f"{name} (+{len(locations) - 1})"
