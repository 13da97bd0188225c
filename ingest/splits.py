"""One split of a dump file, read independently of all others.

A split is a range of bytes of the file as it lies there. To it belong the blocks (bzip2) or the bytes
(XML) that begin in the range, and of the pages those whose ``<page>`` begins in them. So a split reads
from its first ``<page>`` to the next split's first: what all splits give, one after the other, is exactly
the XML from the dump's first page to its end. A page that runs on is read to its end beyond the range;
the split there skips it. A gzip file cannot be entered in the middle and is one split.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from cluster.connections import LIMIT
from cluster.errors import WordloomError
from ingest import bzip2
from ingest.bzip2 import Loss
from ingest.files import open_file
from ingest.pages import PAGE
from ingest.web import Version

CHUNK = 1 << 20  # bytes of XML given out at once; a bzip2 block gives about 0.9 MB (46 MB at the very most)
UNENDED = "the XML ends before </mediawiki>"
_TAG = 6  # bytes that PAGE matches
_CLOSING = b"</mediawiki>"
_TAIL = 64  # bytes at a split's end that are kept to look for it


@dataclass(frozen=True, slots=True)
class Split:
    """The bytes [start, stop) of a dump file of `size` bytes. `index` counts over the whole dump.

    `format` is ``bzip2``, ``gzip`` or ``xml``, `encoding` the XML's, `prefixes` (title prefix ->
    namespace) those that the export names. `version` is what the file must still be where it lies
    elsewhere, `connections` how many may be open to a web server over the whole cluster.
    """

    index: int
    location: str
    format: str
    start: int
    stop: int
    size: int
    encoding: str = "utf-8"
    prefixes: tuple[tuple[str, int], ...] = ()
    version: Version | None = None
    connections: int = LIMIT

    @property
    def bytes(self) -> int:
        """The compressed bytes it covers; over all splits they add up to the dump's."""
        return self.stop - self.start


class SplitReader:
    """The XML of a split in chunks, with a `Loss` wherever bytes of the file could not be read.

    While it is iterated over (once), `covered` is how many compressed bytes of the split are done (0 to
    ``split.bytes``) and `losses` are those that belong to this split. A `Loss` that it gives out beyond
    those belongs to the next split and concerns the last page of this one.
    Raises WordloomError where the file is gone or is another one by now.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.covered = 0
        self.losses: list[Loss] = []

    def __iter__(self) -> Iterator[bytes | Loss]:
        split = self.split
        # A split reads on to the end of its last block, within a window as a rule.
        ahead = (split.start, split.stop + bzip2.WINDOW)
        with open_file(split.location, split.version, split.connections, ahead) as stream:
            size = int(stream.size())
            if size != self.split.size:
                raise WordloomError(
                    f"{self.split.location!r} has {size:,} bytes now and had {self.split.size:,} when the "
                    "run was planned; run the command again."
                )
            try:
                yield from self._pages(stream)
            except OSError as error:
                raise WordloomError(f"Cannot read {self.split.location!r}: {error}.") from error
        self.covered = self.split.bytes

    def sentences(self) -> list[str]:
        """What was lost, a sentence each."""
        return [
            f"{self.split.location!r} is damaged: {loss.reason} "
            + (f"from byte {loss.start:,} to {loss.stop:,}" if loss.stop > loss.start else "")
            + (f"at byte {loss.start:,}" if loss.stop == loss.start else "")
            + "; the other pages were read."
            for loss in self.losses
        ]

    def _pages(self, stream: BinaryIO) -> Iterator[bytes | Loss]:
        """From the first page that begins in the split to the first that begins behind it."""
        begun = False  # a page of this split has begun
        edge = b""  # the last bytes before the first page, where its tag may begin
        tail = b""  # the last bytes of the split
        items = self._items(stream)
        if self.split.encoding != "utf-8":
            items = _as_utf8(items, self.split)
        for own, item in items:
            if not own:
                behind: Iterator[bytes | Loss] = chain([item], (each for _, each in items))
                if not begun:
                    # The tag may begin in the split's last bytes and end behind them.
                    ahead, behind = _some(behind, _TAG)
                    found = PAGE.search(edge + ahead)
                    if found is None or found.start() >= len(edge):
                        return
                    yield edge[found.start() :]
                yield from _to_next_page(behind)
                return
            if isinstance(item, Loss):
                self.losses.append(item)
                edge = tail = b""
                if begun:
                    yield item
                continue
            tail = (tail + item)[-_TAIL:]
            if not begun:
                item = edge + item
                found = PAGE.search(item)
                if found is None:
                    edge = item[1 - _TAG :]
                    continue
                item = item[found.start() :]
                begun = True
            yield item
        if tail and not _ends_export(tail):
            self.losses.append(Loss(self.split.size, self.split.size, UNENDED))

    def _items(self, stream: BinaryIO) -> Iterator[tuple[bool, bytes | Loss]]:
        """What is read from the split's start on, and whether it belongs to the split."""
        split = self.split
        if split.format == "bzip2":
            limit = split.stop * 8
            for each in bzip2.blocks(stream, split.size, split.start):
                if isinstance(each, bzip2.Gap):
                    self._cover(each.loss.start)
                    yield each.bit < limit, each.loss
                else:
                    self._cover(each.bit // 8)
                    yield each.bit < limit, each.data
        elif split.format == "gzip":
            for at, item in gunzip(stream, split.size):
                self._cover(at)
                yield True, item
        else:
            at = split.start
            stream.seek(at)
            while at < split.size:
                data = stream.read(min(CHUNK, split.stop - at) if at < split.stop else CHUNK)
                if not data:
                    raise OSError(f"it ends after {at:,} bytes, {split.size:,} were there before")
                yield at < split.stop, data
                at += len(data)
                self._cover(at)

    def _cover(self, at: int) -> None:
        self.covered = max(self.covered, min(at, self.split.stop) - self.split.start)


def read(split: Split) -> SplitReader:
    """The XML of one split; see `SplitReader`."""
    return SplitReader(split)


def _as_utf8(items: Iterator[tuple[bool, bytes | Loss]], split: Split) -> Iterator[tuple[bool, bytes | Loss]]:
    """The XML of a file in another encoding (such a file is one split; bytes lost in it lose the rest)."""
    decoder = codecs.getincrementaldecoder(split.encoding)("replace")
    for own, item in items:
        if isinstance(item, Loss):
            yield own, Loss(item.start, split.size, item.reason)
            return
        yield own, decoder.decode(item).encode()


def _ends_export(tail: bytes) -> bool:
    """Whether the last bytes of an export close it; of a split that holds less, whether they may do so."""
    last = tail.rstrip()
    return last.endswith(_CLOSING) or (len(tail) < _TAIL and _CLOSING.endswith(last))


def _some(items: Iterator[bytes | Loss], count: int) -> tuple[bytes, Iterator[bytes | Loss]]:
    """At least `count` bytes if there are so many before a loss; and all items, these included."""
    taken: list[bytes | Loss] = []
    ahead = b""
    for item in items:
        taken.append(item)
        if isinstance(item, Loss):
            break
        ahead += item
        if len(ahead) >= count:
            break
    return ahead, chain(taken, items)


def _to_next_page(items: Iterator[bytes | Loss]) -> Iterator[bytes | Loss]:
    """What stands before the next ``<page>``; a loss ends it."""
    edge = b""
    for item in items:
        if isinstance(item, Loss):
            yield edge
            yield item
            return
        data = edge + item
        found = PAGE.search(data)
        if found is not None:
            yield data[: found.start()]
            return
        yield data[: 1 - _TAG]
        edge = data[1 - _TAG :]
    yield edge


def gunzip(stream: BinaryIO, size: int) -> Iterator[tuple[int, bytes | Loss]]:
    """The content of a gzip file of one or several members, with the compressed bytes read so far.

    Damage or a cut loses the rest. Bytes behind the last member that are no gzip are ignored.
    """
    decoder: Any = None  # None between members
    at = 0
    while raw := stream.read(CHUNK >> 2):
        at += len(raw)
        while True:
            if decoder is None:
                raw = raw.lstrip(b"\0")
                if not raw:
                    break
                if not raw.startswith(b"\x1f\x8b"[: len(raw)]):
                    return
                decoder = zlib.decompressobj(wbits=31)
            try:
                data = decoder.decompress(raw, CHUNK)
            except zlib.error:
                yield at, Loss(at - len(raw), size, bzip2.DAMAGED)
                return
            if data:
                yield at, data
            if decoder.eof:
                raw, decoder = decoder.unused_data, None
            else:
                raw = decoder.unconsumed_tail
                if not raw and len(data) < CHUNK:
                    break
    if decoder is not None:
        yield at, Loss(size, size, bzip2.CUT)
