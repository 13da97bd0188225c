"""How good word vectors are: word pairs that people judged, and analogies. Pure.

WordSim-353 (Finkelstein et al. 2002), SimLex-999 (Hill et al. 2015) and RG-65 are files of lines
``word <tab> word <tab> judgement``; the analogies of Mikolov et al. (2013) are lines of four words under
headings ``: name``. A line that begins with ``#`` is a comment. `evaluate` tells the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.errors import WordloomError
from trainers.vectors import WordVectors

Doubles = npt.NDArray[np.float64]
BATCH = 256  # questions answered by one matrix product
AMONG = 30_000  # analogies are answered among the commonest words, as is the custom


@dataclass(frozen=True)
class Agreement:
    """`correlation`: Spearman's, between cosines and judgements, over `found` of `asked` pairs: those whose
    words both have vectors. NaN below three pairs."""

    correlation: float
    found: int
    asked: int


@dataclass(frozen=True)
class Accuracy:
    """`accuracy`: the share answered right of the `found` questions, of `asked`, whose words all have
    vectors. NaN where none is found."""

    accuracy: float
    found: int
    asked: int


@dataclass(frozen=True)
class Evaluation:
    """What one file says: an Agreement, or an Accuracy with that of each section, in the file's order."""

    path: Path
    score: Agreement | Accuracy
    sections: dict[str, Accuracy] = field(default_factory=dict)


def evaluate(
    vectors: WordVectors, places: Sequence[str | Path], restrict: int | None = AMONG
) -> tuple[list[Evaluation], list[Path]]:
    """The evaluations of all sets in files and folders, and the files of folders that are no set.

    Raises WordloomError for a file that is named and is no set, for a set that is malformed or empty, and
    where a folder holds none or cannot be read.
    """
    found: list[Evaluation] = []
    left_out: list[Path] = []
    for place in map(Path, places):
        try:
            named = not place.is_dir()
            files = [place] if named else sorted(each for each in place.iterdir() if each.is_file())
        except OSError as error:
            raise WordloomError(f"Cannot read {str(place)!r}: {error.strerror}; check the path.") from error
        before = len(found)
        for path in files:
            if named or _is_set(path):
                found.append(_evaluation(vectors, path, restrict))
            else:
                left_out.append(path)
        if len(found) == before:
            raise WordloomError(
                f"No file in {str(place)!r} is a set of judged pairs (word, word, number between tabs) or of "
                "analogies (four words a line); name another folder or a file."
            )
    return found, left_out


def _evaluation(vectors: WordVectors, path: Path, restrict: int | None) -> Evaluation:
    lines = _lines(path)
    if all(line.startswith(":") for _, line in lines):  # headings are no questions
        raise WordloomError(f"{str(path)!r} holds no pairs and no analogies.")
    if not _is_analogy(lines[0][1]):
        return Evaluation(path, agreement(vectors, read_judgements(path)))
    sections = {name: analogies(vectors, part, restrict) for name, part in read_sections(path).items()}
    found = sum(part.found for part in sections.values())
    right = sum(round(part.accuracy * part.found) for part in sections.values() if part.found)
    total = Accuracy(
        right / found if found else math.nan, found, sum(part.asked for part in sections.values())
    )
    return Evaluation(path, total, sections)


def _is_analogy(line: str) -> bool:
    return line.startswith(":") or ("\t" not in line and len(line.split()) == 4)


def _is_set(path: Path) -> bool:
    """Whether a file looks like a set, by its first line only: so no malformed one is passed over."""
    try:
        line = next((line for _, line in _lines(path)), "")
    except WordloomError:
        return False
    return _is_analogy(line) or len(line.split("\t")) >= 3


def read_judgements(path: str | Path) -> list[tuple[str, str, float]]:
    """(word, word, judgement) of each line. Raises WordloomError with the number of a line that is none, and
    where there is no line."""
    judgements = []
    for number, line in _lines(path):
        parts = line.split("\t")
        try:
            first, second, value = parts[0].strip(), parts[1].strip(), float(parts[2])
            if not math.isfinite(value):
                raise ValueError
        except (IndexError, ValueError) as error:
            raise WordloomError(
                f"{str(path)!r}, line {number}: {line[:40]!r} is not word, word, number between tabs."
            ) from error
        judgements.append((first, second, value))
    if not judgements:
        raise WordloomError(f"{str(path)!r} holds no pairs; give lines of word, word, number between tabs.")
    return judgements


def read_analogies(path: str | Path) -> list[tuple[str, str, str, str]]:
    """(a, b, c, d) of each question "a is to b as c is to d"; headings are left out."""
    return [question for part in read_sections(path).values() for question in part]


def read_sections(path: str | Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """The questions of `read_analogies` below their headings; "" is what stands before the first one."""
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    name = ""
    for number, line in _lines(path):
        if line.startswith(":"):
            name = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise WordloomError(f"{str(path)!r}, line {number}: {line[:40]!r} is not four words.")
        sections.setdefault(name, []).append((words[0], words[1], words[2], words[3]))
    return sections


def agreement(vectors: WordVectors, judgements: Sequence[tuple[str, str, float]]) -> Agreement:
    """How the vectors' cosines agree with people's judgements."""
    cosines, values = [], []
    for first, second, value in judgements:
        one, other = _spelt(vectors, first), _spelt(vectors, second)
        if one is not None and other is not None:
            cosines.append(vectors.similarity(one, other))
            values.append(value)
    return Agreement(spearman(cosines, values), len(values), len(judgements))


def analogies(
    vectors: WordVectors, questions: Sequence[tuple[str, str, str, str]], restrict: int | None = AMONG
) -> Accuracy:
    """How often the word nearest to b - a + c, the three themselves left out, is d, among the first
    `restrict` words (3CosAdd; Mikolov et al. 2013, Levy and Goldberg 2014)."""
    among = min(len(vectors), restrict or len(vectors))
    table = np.array(vectors.vectors[:among])
    table /= np.maximum(vectors.norms[:among], np.float32(1e-12))[:, None]
    rows = []
    for question in questions:
        found = [_spelt(vectors, word) for word in question]
        indices = [vectors.index(word) for word in found if word is not None]
        if len(indices) == 4 and max(indices) < among:
            rows.append(indices)
    if not rows:
        return Accuracy(float("nan"), 0, len(questions))
    asked = np.array(rows)
    right = 0
    for at in range(0, len(asked), BATCH):
        a, b, c, d = asked[at : at + BATCH].T
        scores = (table[b] - table[a] + table[c]) @ table.T
        each = np.arange(len(a))
        for left_out in (a, b, c):
            scores[each, left_out] = -np.inf
        right += int(np.count_nonzero(scores.argmax(1) == d))
    return Accuracy(right / len(asked), len(asked), len(questions))


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rank correlation; equal values share the mean of their ranks. NaN below three values or
    where one side is constant."""
    one, other = _ranks(np.asarray(first, np.float64)), _ranks(np.asarray(second, np.float64))
    one, other = one - one.mean() if len(one) else one, other - other.mean() if len(other) else other
    length = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / length if len(one) >= 3 and length else float("nan")


def _ranks(values: Doubles) -> Doubles:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Doubles = (last - (count - 1) / 2)[place]
    return ranks


def _spelt(vectors: WordVectors, word: str) -> str | None:
    """The word as the vectors spell it: as given or in lower case."""
    return next((each for each in (word, word.lower()) if each in vectors), None)


def _lines(path: str | Path) -> list[tuple[int, str]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WordloomError(f"Cannot read {str(path)!r}: {error.strerror}; check the path.") from error
    except UnicodeDecodeError as error:
        raise WordloomError(
            f"{str(path)!r} is not UTF-8 (byte {error.start}); it is no set of words."
        ) from error
    return [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
