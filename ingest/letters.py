"""The handwritten words of Kassel and Taskar (OCR letters): one letter a line, tab-separated.

``id letter next_id word_id position fold`` and 128 pixels, 16 rows of 8, each 0 or 1; `next_id` is -1 at a
word's end. A word is one run of lines in which each names the next.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest import sequence_corpus
from ingest.content import BOM, DAMAGE, line_reader
from ingest.sequence_corpus import LabelledSequence, SequenceWriter, draft_of
from ingest.settings import SequencesSettings
from ingest.source_file import SourceFile

ROWS, COLUMNS = 16, 8
PIXELS = ROWS * COLUMNS
LONGEST_WORD = 64  # letters; the set's longest has 14
LONGEST_LINE = 1 << 12  # bytes; the set's have some 280
NAMED = 3  # lines that are named for each reason
ALLOWED_SHARE = 0.01  # of malformed lines, beyond which the file is taken for another


@dataclass(frozen=True)
class Word:
    """A word: its `letters`, `pixels` uint8 [len(letters), 16, 8] of 0 and 1, the set's `fold`, and the line
    (1 is the first) at which it begins.
    """

    line: int
    letters: str
    pixels: npt.NDArray[np.uint8]
    fold: int


class Words:
    """The words of a file, in its order; iterate over it once.

    Lines that are no letters are left out, and so is the word that they tear: `dropped` counts lines by
    reason (``malformed``, ``torn``: a letter of a word that a malformed or missing line broke). Raises
    WordloomError where more than `allowed` of all lines are malformed, or none is a letter.
    """

    def __init__(self, lines: Iterable[bytes], name: str, allowed: float = ALLOWED_SHARE) -> None:
        self.lines = 0
        self.dropped: Counter[str] = Counter()
        self._lines, self._name, self._allowed = lines, name, allowed
        self._malformed: list[str] = []

    def __iter__(self) -> Iterator[Word]:
        letters: list[tuple[str, npt.NDArray[np.uint8]]] = []
        begun = fold = 0
        follows: int | None = None  # the id that the next line of this word must have
        torn = False  # lines are skipped up to the end of a torn word
        for raw in self._lines:
            self.lines += 1
            try:
                identifier, letter, following, place, own_fold, pixels = _letter(raw)
            except ValueError as error:
                self._wrong(str(error))
                self.dropped["torn"] += len(letters)
                letters, follows, torn = [], None, True
                continue
            if letters and (identifier != follows or place != len(letters) + 1 or own_fold != fold):
                self.dropped["torn"] += len(letters)
                letters, torn = [], False
            if torn and place != 1:
                self.dropped["torn"] += 1
                continue
            if not letters:
                if place != 1:
                    self.dropped["torn"] += 1
                    continue
                begun, fold, torn = self.lines, own_fold, False
            letters.append((letter, pixels))
            follows = following
            if following == -1 or len(letters) == LONGEST_WORD:
                yield Word(
                    begun, "".join(each for each, _ in letters), np.stack([p for _, p in letters]), fold
                )
                letters, follows = [], None
        self.dropped["torn"] += len(letters)
        wrong = self.dropped["malformed"]
        if not self.lines or wrong == self.lines:
            what = f"; {self._malformed[0]}" if self._malformed else ""
            raise WordloomError(f"{self._name!r} holds no letter{what}; give letter.data or letter.data.gz.")
        if wrong > self._allowed * self.lines:
            raise WordloomError(
                f"{self._name!r}: {wrong:,} of {self.lines:,} lines are malformed, more than the allowed "
                f"share of {self._allowed:.2%}; {'; '.join(self._malformed)}."
            )

    def sentences(self) -> list[str]:
        """What was left out, in a sentence."""
        if not self.dropped.total():
            return []
        return [
            f"{self._name!r}: {self.dropped['malformed']:,} malformed lines, {self.dropped['torn']:,} "
            f"letters of words that are not whole ({'; '.join(self._malformed) or 'lines are missing'})."
        ]

    def _wrong(self, reason: str) -> None:
        self.dropped["malformed"] += 1
        if len(self._malformed) < NAMED:
            self._malformed.append(f"line {self.lines:,} {reason}")


def ingest_letters(
    source: SourceFile, output: str | Folder, settings: SequencesSettings, reporter: Reporter
) -> Artefact:
    """The words of a file as a corpus of labelled sequences (see `ingest.sequence_corpus`), a frame a letter.

    All words are in the split ``train``: which of them a model is tested on, its training says. `fold` is the
    set's own, `line` where the word begins. Raises WordloomError where more than the share
    `settings.malformed` of the lines is malformed.
    """
    draft = draft_of(
        output,
        {"letters": source.as_input()},
        {"source": "letters", "image_rows": ROWS, "malformed": settings.malformed},
    )
    if draft.published is not None:
        reporter.say(f"= letters: reused, {draft.published.counts['sequences']:,} words at {draft.location}")
        return draft.published
    with (
        SequenceWriter(draft, "frame") as writer,
        reporter.stage("letters", total=source.bytes, unit="B", rows="words") as stage,
        source.open() as file,
    ):
        words = Words(read_lines(file, source.name), source.name, settings.malformed)
        for number, word in enumerate(words):
            frames = word.pixels.reshape(len(word.letters), PIXELS)
            numbers = {"fold": word.fold, "line": word.line}
            writer.add(
                LabelledSequence(
                    f"line/{word.line}", sequence_corpus.TRAIN, frames, list(word.letters), numbers
                )
            )
            if number % 500 == 0:
                stage.update(file.tell(), rows=number)
        made = writer.publish(words.sentences(), words.dropped)
        stage.update(source.bytes, rows=made.counts["sequences"])
        stage.summary(f"{made.counts['sequences']:,} words, {made.counts['frames']:,} letters")
    for sentence in words.sentences():
        reporter.say(sentence)
    return made


def read_lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a file, gzip or plain. Raises WordloomError where it is cut or damaged."""
    content = line_reader(stream)
    try:
        line = content.readline(LONGEST_LINE).removeprefix(BOM)
        while line:
            yield line
            line = content.readline(LONGEST_LINE)
    except DAMAGE as error:
        raise WordloomError(f"{name!r} is damaged or cut ({error}); fetch it again.") from error


def _letter(raw: bytes) -> tuple[int, str, int, int, int, npt.NDArray[np.uint8]]:
    """Raises ValueError with what is wrong."""
    fields = raw.rstrip(b"\r\n").rstrip(b"\t").split(b"\t")
    if len(fields) != 6 + PIXELS:
        raise ValueError(f"has {len(fields)} fields, not {6 + PIXELS}")
    if not re.fullmatch(rb"[a-z]", fields[1]):
        raise ValueError(f"has {fields[1][:12]!r} as its letter")
    for name, field in zip(
        ("id", "next id", "position", "fold"), (fields[0], *fields[2:6:2], fields[5]), strict=False
    ):
        if not re.fullmatch(rb"-?\d{1,9}", field):
            raise ValueError(f"has {field[:12]!r} as its {name}")
    bits = b"".join(fields[6:])
    if len(bits) != PIXELS or bits.translate(None, b"01"):
        raise ValueError("has pixels that are neither 0 nor 1")
    pixels = (np.frombuffer(bits, np.uint8) - ord("0")).reshape(ROWS, COLUMNS)
    return int(fields[0]), fields[1].decode(), int(fields[2]), int(fields[4]), int(fields[5]), pixels
