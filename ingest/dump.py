"""SIGNATURES FIRST (builder A fills this in)."""
from __future__ import annotations
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.artefact import Input
from cluster.progress import Reporter
from ingest.bzip2 import Loss


@dataclass(frozen=True)
class DumpFile:
    location: str
    bytes: int
    sha256: str
    format: str  # "bzip2" | "gzip" | "xml"
    prefixes: tuple[tuple[str, int], ...] = ()  # title prefix -> namespace, for exports without <ns>


@dataclass(frozen=True)
class Dump:
    files: tuple[DumpFile, ...]
    name: str

    @property
    def identity(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    def as_input(self) -> Input: ...  # Input("dump", identity, location)


@dataclass(frozen=True)
class Split:
    index: int
    location: str
    format: str
    start: int  # [start, stop) in bytes of the (compressed) file
    stop: int
    size: int  # of the whole file
    prefixes: tuple[tuple[str, int], ...] = ()

    @property
    def bytes(self) -> int:
        return self.stop - self.start  # for progress; the sum over the splits is dump.bytes


def locate(
    source: str, downloads: str | Path, reporter: Reporter | None = None, checksums: str | Path | None = None
) -> Dump: ...


def plan(dump: Dump, split_bytes: int) -> list[Split]: ...


class SplitReader:
    """Iterable of XML bytes (from the split's first <page> to the next split's first) and of `Loss`es."""

    covered: int  # compressed bytes of the split read so far, 0..split.bytes
    losses: list[Loss]  # those seen so far; pass the reader itself to PageReader

    def __iter__(self) -> Iterator[bytes | Loss]: ...


def read(split: Split) -> SplitReader: ...
