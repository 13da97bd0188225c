"""The large film-review set (Maas et al., ACL 2011) out of its archive, streamed, never unpacked to disk.

The archive is taken for hostile: only regular files at ``PART/LABEL/NUMBER_RATING.txt`` are read, each up to
a bound, from a stream that ends when it gives too much; names never become paths.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning

from cluster.errors import WordloomError

PARTS = ("train", "test")
LABELS = ("negative", "positive")
LARGEST_REVIEW = 1 << 20  # bytes; the longest of the set has 14,106
LARGEST_ARCHIVE = 4 << 30  # bytes unpacked; the set has 0.3 GB
MOST_FILES = 2_000_000  # the set has 100,021
_NAME = re.compile(r"(?:^|/)(train|test)/(pos|neg|unsup)/(\d{1,9})_(\d{1,2})\.txt$")
_FOLDERS = {"pos": "positive", "neg": "negative", "unsup": None}


@dataclass(frozen=True)
class Review:
    """One review. `id` is its path in the set (``train/pos/12_9``), `label` ``positive``, ``negative`` or
    None where the set has none; `rating` 1 to 10, None where the set has none.
    """

    id: str
    part: str
    label: str | None
    rating: int | None
    text: str


class Reviews:
    """The reviews of an archive, in its order; iterate over it once.

    `dropped` counts what was left out, by reason: ``empty``, ``encoding``, ``oversize``, ``link`` (links and
    devices), ``twice`` (a name that came before); `other` counts files that are no reviews. Raises
    WordloomError for what is no archive, is cut, or unpacks to more than any set of reviews.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.dropped: Counter[str] = Counter()
        self.other = 0
        self.seen = 0
        self._stream, self._name = stream, name

    def __iter__(self) -> Iterator[Review]:
        known: set[str] = set()
        try:
            # "r|": a stream is never sought in, so a member cannot point at another's bytes.
            with tarfile.open(fileobj=cast(Any, _Bounded(self._stream, self._name)), mode="r|") as archive:
                for number, member in enumerate(archive):
                    if number >= MOST_FILES:
                        raise WordloomError(
                            f"{self._name!r} holds more than {MOST_FILES:,} files; check --source."
                        )
                    if (review := self._review(archive, member, known)) is not None:
                        yield review
        except (tarfile.TarError, EOFError, OSError) as error:
            raise WordloomError(
                f"{self._name!r} is no whole tar archive ({str(error) or type(error).__name__}) after "
                f"{self.seen:,} reviews; fetch it again."
            ) from error

    def _review(self, archive: tarfile.TarFile, member: tarfile.TarInfo, known: set[str]) -> Review | None:
        found = _NAME.search(member.name)
        if found is None:
            self.other += member.isfile()
            return None
        self.seen += 1
        part, folder, number, rating = found.groups()
        identifier = f"{part}/{folder}/{number}_{rating}"
        if not member.isreg():
            return self._drop("link")
        if identifier in known:
            return self._drop("twice")
        known.add(identifier)
        if member.size > LARGEST_REVIEW:
            return self._drop("oversize")
        content = archive.extractfile(member)
        assert content is not None  # it is a regular file
        try:
            text = plain(content.read().decode())
        except UnicodeDecodeError:
            return self._drop("encoding")
        if not text:
            return self._drop("empty")
        return Review(identifier, part, _FOLDERS[folder], int(rating) or None, text)

    def _drop(self, reason: str) -> Review | None:
        self.dropped[reason] += 1
        return None


def plain(html: str) -> str:
    """The text of a review: line breaks for ``<br />``, no other tags, entities resolved."""
    if "<" in html or "&" in html:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)  # a review may be one word
            soup = BeautifulSoup(html, "lxml")
        for tag in soup.find_all("br"):
            tag.replace_with("\n")
        html = soup.get_text()
    lines = (" ".join(line.split()) for line in html.split("\n"))
    return "\n".join(line for line in lines if line)


class _Bounded:
    """The archive's bytes as they are unpacked, up to a bound: a small file may hold a terabyte of zeros."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        # Unpacked here and not by tarfile, which would not say how much it has unpacked.
        self._stream = cast(Any, _unpacked(stream))
        self._name = name
        self._given = 0

    def read(self, size: int) -> bytes:
        data = bytes(self._stream.read(size))
        self._given += len(data)
        if self._given > LARGEST_ARCHIVE:
            raise WordloomError(
                f"{self._name!r} unpacks to more than {LARGEST_ARCHIVE:,} bytes, which no set of reviews "
                "has; check --source."
            )
        return data


def _unpacked(stream: BinaryIO) -> Any:
    first = stream.read(6)
    stream.seek(0)
    if first.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if first.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if first.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(stream)
    return stream
