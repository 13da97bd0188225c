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

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest import sequence_corpus
from ingest.content import DAMAGE
from ingest.sequence_corpus import LabelledSequence, SequenceWriter, draft_of
from ingest.settings import SequencesSettings
from ingest.source_file import SourceFile
from ingest.tokens import Tokeniser

PARTS = ("train", "test")
LABELS = ("negative", "positive")
LARGEST_REVIEW = 1 << 20  # bytes; the longest of the set has 14,106
LARGEST_ARCHIVE = 4 << 30  # bytes unpacked; the set has 0.3 GB
MOST_FILES = 2_000_000  # the set has 100,021
NAMED = 3  # files that are named for each reason
_NAME = re.compile(r"(?:^|/)(train|test)/(pos|neg|unsup)/(\d{1,9})_(\d{1,2})\.txt$")
_BREAK = re.compile(r"<br ?/?>")
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
    devices), ``twice`` (a name that came before), and `named` has the first of each; `other` counts files
    that are no reviews. Raises WordloomError for what is no archive, is cut, or unpacks to more than any set
    of reviews.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.dropped: Counter[str] = Counter()
        self.named: dict[str, list[str]] = {}
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
        except (tarfile.TarError, *DAMAGE) as error:
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
            return self._drop("link", identifier)
        if identifier in known:
            return self._drop("twice", identifier)
        known.add(identifier)
        if member.size > LARGEST_REVIEW:
            return self._drop("oversize", identifier)
        content = archive.extractfile(member)
        assert content is not None  # it is a regular file
        try:
            text = plain(content.read().decode())
        except UnicodeDecodeError:
            return self._drop("encoding", identifier)
        if not text:
            return self._drop("empty", identifier)
        return Review(identifier, part, _FOLDERS[folder], int(rating) or None, text)

    def sentences(self) -> list[str]:
        """What was left out, in a sentence a reason."""
        return [
            f"{self._name!r}: {count:,} reviews left out as {reason!r}, such as "
            f"{', '.join(self.named[reason])}."
            for reason, count in sorted(self.dropped.items())
        ]

    def _drop(self, reason: str, identifier: str) -> Review | None:
        self.dropped[reason] += 1
        named = self.named.setdefault(reason, [])
        if len(named) < NAMED:
            named.append(identifier)
        return None


def ingest_reviews(
    source: SourceFile, output: str | Folder, settings: SequencesSettings, reporter: Reporter
) -> Artefact:
    """The reviews of an archive as a corpus of labelled sequences (see `ingest.sequence_corpus`).

    The labelled ones keep the set's own split, the others are ``unlabelled``; `rating` is 0 where there is
    none. Raises WordloomError where more than the share `settings.malformed` had to be left out.
    """
    draft = draft_of(output, {"reviews": source.as_input()}, settings)
    if draft.published is not None:
        reporter.say(f"= reviews: reused, {draft.published.counts['sequences']:,} at {draft.location}")
        return draft.published
    tokeniser = Tokeniser(settings.tokeniser, lower_case=settings.lower_case, normalise=settings.normalise)
    with (
        SequenceWriter(draft, "sequence", tokeniser, settings.text) as writer,
        reporter.stage("reviews", total=source.bytes, unit="B", rows="reviews") as stage,
        source.open() as file,
    ):
        reviews = Reviews(file, source.name)
        for number, review in enumerate(reviews):
            split = review.part if review.label else sequence_corpus.UNLABELLED
            numbers = {"rating": review.rating or 0}
            writer.add(LabelledSequence(review.id, split, review.text, review.label, numbers))
            if number % 500 == 0:
                stage.update(file.tell(), rows=number)
        writer.flush()
        dropped = reviews.dropped + writer.dropped
        losses = sequence_corpus.checked(
            source.name, "reviews", reviews.seen, dropped, reviews.sentences(), settings.malformed
        )
        made = writer.publish(losses, reviews.dropped)
        splits = ", ".join(f"{count:,} {name}" for name, count in made.counts["splits"].items())
        stage.update(source.bytes, rows=made.counts["sequences"])
        stage.summary(
            f"{splits}; {made.counts['frames']:,} tokens, {made.counts['dropped'] or 'none'} left out"
        )
    for sentence in losses:
        reporter.say(sentence)
    return made


def plain(html: str) -> str:
    """The text of a review: line breaks for ``<br />``, no other tags, entities resolved."""
    html = _BREAK.sub("\n", html)  # the one tag that most reviews have; the parser takes 1 ms a review
    if "<" in html or "&" in html:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)  # a review may be one word
            soup = BeautifulSoup(html, "lxml")
        for tag in soup.find_all("br"):  # written in yet another way
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
