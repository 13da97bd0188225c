"""A small file of handwritten words, as the letters' set has them, and its corpus: for tests."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from cluster.progress import Reporter
from ingest.letters import PIXELS, ingest_letters
from ingest.sequence_corpus import SequenceCorpus
from ingest.settings import SequencesSettings
from ingest.source_file import locate

WORDS = ("abc", "cab", "bad", "dab", "cad", "dac", "acd", "bca", "cda", "adb")


def line(number: int, letter: str, following: int, place: int, fold: int = 0, pixels: str = "") -> bytes:
    bits = pixels or f"{number % 2}" * PIXELS
    return (
        "\t".join([str(number), letter, str(following), "1", str(place), str(fold), *bits]).encode() + b"\t\n"
    )


def lines(copies: int, folds: int = 1, seed: int = 0) -> list[bytes]:
    """`copies` of each of `WORDS`; a letter's image is a pattern of its own with a few pixels turned over."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).integers(0, 2, (26, PIXELS))
    written: list[bytes] = []
    for _ in range(copies):
        for word in WORDS:
            fold = int(random.integers(folds))
            for place, letter in enumerate(word, 1):
                number = len(written) + 1
                pixels = patterns[ord(letter) - 97] ^ (random.random(PIXELS) < 0.05)
                following = -1 if place == len(word) else number + 1
                written.append(line(number, letter, following, place, fold, "".join(map(str, pixels))))
    return written


def corpus(folder: Path, copies: int = 8, folds: int = 1) -> SequenceCorpus:
    """The corpus of such a file."""
    source = folder / "letter.data.gz"
    source.write_bytes(gzip.compress(b"".join(lines(copies, folds)), mtime=0))
    quiet = Reporter(quiet=True)
    file = locate(source, folder / "downloads", quiet)
    return SequenceCorpus(ingest_letters(file, str(folder / "letters"), SequencesSettings(), quiet))
