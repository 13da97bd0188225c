"""Vectors in the formats of other tools: word2vec text and binary, GloVe text. Pure.

- word2vec text: a line ``V d``, then a line a word: the word and d decimal numbers, parted by spaces.
- word2vec binary: the same first line, then per word its UTF-8 bytes, a space and d little-endian float32;
  a line break before a word is skipped (the C program writes one behind every vector, gensim none).
- GloVe text: as word2vec text without the first line.

A word holds no space and no line break; writers refuse one that does. A file that is not of its format
raises WordloomError with the line (of binary files: the word's number) where it goes wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cluster.errors import UsageError, WordloomError
from trainers.vectors import WordVectors

FORMATS = ("word2vec", "word2vec-binary", "glove")
Floats = npt.NDArray[np.float32]
LONGEST_WORD = 4096  # bytes; a longer one means that the file is something else
SPACE, BREAK = b" ", b"\n"


def read(path: str | Path, kind: str | None = None) -> WordVectors:
    """The vectors in a file; `kind` is one of FORMATS, None tells them apart by content.

    Raises WordloomError for a file that is missing, malformed or names a word twice.
    """
    _check(kind)
    try:
        with Path(path).open("rb") as stream:
            return _read(stream, str(path), kind or sniff(path))
    except OSError as error:
        raise WordloomError(
            f"Cannot read vectors {str(path)!r}: {error.strerror}; check the path."
        ) from error


def sniff(path: str | Path) -> str:
    """The format of a file, by its beginning: one of FORMATS."""
    with Path(path).open("rb") as stream:
        first = stream.readline(1 << 16)
        if _header(first) is None:
            return "glove"
        word = stream.read(1 << 16).split(BREAK, 1)[0].lstrip(BREAK)
    # The first vector as text has as many numbers as the header says, or breaks off within the 64 kB.
    return "word2vec" if _is_text(word) else "word2vec-binary"


def write(vectors: WordVectors, path: str | Path, kind: str = "word2vec") -> None:
    """Writes all words and vectors; text has as many digits as give the same float32 back."""
    _check(kind)
    for word in vectors.index_to_key:
        if not word or any(each in word for each in (" ", "\n", "\r")):
            raise WordloomError(f"The word {word!r} holds a space or a line break, which {kind} cannot hold.")
    partial = Path(f"{path}.partial")
    try:
        with partial.open("wb") as stream:
            for piece in _pieces(vectors, kind):
                stream.write(piece)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WordloomError(f"Cannot write vectors {str(path)!r}: {error.strerror}.") from error


def _pieces(vectors: WordVectors, kind: str) -> Iterator[bytes]:
    if kind != "glove":
        yield f"{len(vectors)} {vectors.vector_size}\n".encode()
    for word, vector in zip(vectors.index_to_key, vectors.vectors, strict=True):
        if kind == "word2vec-binary":
            yield word.encode() + SPACE + vector.astype("<f4").tobytes() + BREAK
        else:
            yield f"{word} {' '.join(map(str, vector))}\n".encode()


def _read(stream: BinaryIO, name: str, kind: str) -> WordVectors:
    if kind == "glove":
        words, vectors = _text(stream, name, None, 1)
    else:
        first = stream.readline(1 << 16)
        size = _header(first)
        if size is None:
            raise WordloomError(
                f"{name!r}, line 1: {_shown(first)} is no header of {kind}; it should be two whole numbers."
            )
        words, vectors = _binary(stream, name, size) if kind != "word2vec" else _text(stream, name, size, 2)
    seen: dict[str, int] = {}
    for number, word in enumerate(words):
        if word in seen:
            raise WordloomError(
                f"{name!r} has two vectors for {word!r}, the {seen[word] + 1}th and the {number + 1}th; "
                "remove one of them."
            )
        seen[word] = number
    return WordVectors(words, vectors)


def _text(stream: BinaryIO, name: str, size: tuple[int, int] | None, start: int) -> tuple[list[str], Floats]:
    words: list[str] = []
    rows: list[Floats] = []
    width = size[1] if size else 0
    for number, line in enumerate(stream, start):
        if not line.strip():
            continue
        word, _, rest = line.rstrip().partition(SPACE)
        row = _numbers(rest)
        width = width or len(rest.split())
        where = f"{name!r}, line {number}"
        if row is None:
            raise WordloomError(f"{where}: {_shown(rest)} holds something that is no number.")
        if len(row) != width or not width:
            raise WordloomError(f"{where}: {len(row)} numbers, {width or 'at least 1'} are expected.")
        if not np.isfinite(row).all():
            raise WordloomError(f"{where}: the vector of {_shown(word)} is not finite.")
        words.append(_decoded(word, where))
        rows.append(row)
    if size and len(words) != size[0]:
        raise WordloomError(
            f"{name!r} ends after {len(words)} vectors, its first line says {size[0]}; "
            "the file is cut or its header is wrong."
        )
    if not words:
        raise WordloomError(f"{name!r} holds no vectors.")
    return words, np.stack(rows)


def _binary(stream: BinaryIO, name: str, size: tuple[int, int]) -> tuple[list[str], Floats]:
    count, width = size
    words: list[str] = []
    rows: list[Floats] = []  # grown, not laid out: a wrong header must not cost the memory it claims
    buffer = b""
    for number in range(1, count + 1):
        where = f"{name!r}, word {number}"
        need = LONGEST_WORD + 2 + 4 * width
        if len(buffer) < need:
            buffer += stream.read(max(1 << 20, need))
        buffer = buffer.lstrip(BREAK)
        if not buffer:
            raise WordloomError(
                f"{name!r} ends after {number - 1} vectors, its first line says {count}; "
                "the file is cut or its header is wrong."
            )
        word, space, _ = buffer[: LONGEST_WORD + 1].partition(SPACE)
        if not space:
            raise WordloomError(f"{where}: no space after {_shown(word)}; the file is no word2vec binary.")
        end = len(word) + 1 + 4 * width
        if len(buffer) < end:
            raise WordloomError(f"{where}: the file ends within the vector of {_shown(word)}; it is cut.")
        row = np.frombuffer(buffer, "<f4", width, len(word) + 1)
        if not np.isfinite(row).all():
            raise WordloomError(f"{where}: the vector of {_shown(word)} is not finite.")
        words.append(_decoded(word, where))
        rows.append(row.astype(np.float32))
        buffer = buffer[end:]
    if not words:
        raise WordloomError(f"{name!r} holds no vectors.")
    return words, np.stack(rows)


def _header(line: bytes) -> tuple[int, int] | None:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not line.endswith(BREAK):
        return None
    count, width = int(parts[0]), int(parts[1])
    return (count, width) if 0 < width < 1 << 20 else None


def _is_text(line: bytes) -> bool:
    numbers = line.split(SPACE)[1:]
    cut = numbers[:-1] if len(numbers) > 1 else numbers
    return _numbers(SPACE.join(cut)) is not None


def _numbers(text: bytes) -> Floats | None:
    try:
        return np.array(text.split(), dtype=np.float64).astype(np.float32)
    except ValueError:
        return None


def _decoded(word: bytes, where: str) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise WordloomError(f"{where}: the word {_shown(word)} is not UTF-8 ({error.reason}).") from error


def _shown(data: bytes) -> str:
    text = data[:40].decode(errors="replace").strip()
    return repr(text + ("..." if len(data) > 40 else ""))


def _check(kind: str | None) -> None:
    if kind is not None and kind not in FORMATS:
        raise UsageError(f"The format {kind!r} is not known; give one of {', '.join(FORMATS)}.")
