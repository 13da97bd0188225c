"""Vectors in the formats of other tools: word2vec text and binary, GloVe text, TensorBoard's projector. Pure.

- word2vec text: a line ``V d``, then a line a word: the word and d decimal numbers, parted by spaces.
- word2vec binary: the same first line, then per word its UTF-8 bytes, a space and d little-endian float32;
  a line break before a word is skipped (the C program writes one behind every vector, gensim none).
- GloVe text: as word2vec text without the first line.
- projector: a folder with ``vectors.tsv``, d numbers a line, and ``metadata.tsv``, a word a line; where the
  counts are known, ``word <tab> count`` below a heading.

A word holds no space (in the projector's files no tab) and no line break; writers refuse one that does. A
file that is not of its format raises WordloomError with the line (of binary files: the word's number and the
byte) where it goes wrong. `imported` makes an artefact of such a file.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cluster.artefact import Artefact, Draft, Input, output_file
from cluster.errors import UsageError, WordloomError
from cluster.folder import PARTIAL, local_path, settle
from trainers.vectors import KIND, WordVectors, write_vectors

PROJECTOR = "projector"
FORMATS = ("word2vec", "word2vec-binary", "glove", PROJECTOR)
TABLE, METADATA = "vectors.tsv", "metadata.tsv"  # the projector's two files
IMPORT_VERSION = 2  # raised by hand when `imported` makes something else of the same file
DIGITS = 18  # of a whole number, which 64 bits hold
Floats = npt.NDArray[np.float32]
BEGINNING = 1 << 16  # bytes by which a format is told, and of the first line at most
LONGEST_WORD = 4096  # bytes; a longer one means that the file is something else
# What vectors are often handed out in, by its first bytes, and what a person does then.
NOT_VECTORS = {
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\xba\x16\x4f\x2f": "is a model of fastText; import the .vec file that comes with it",
}
SPACE, BREAK, TAB = b" ", b"\n", b"\t"
MARK = codecs.BOM_UTF8  # which some editors put before a text


def read(path: str | Path, kind: str | None = None) -> WordVectors:
    """The vectors in a file; `kind` is one of FORMATS, None tells them apart by content.

    The projector's files are named by their folder or by ``vectors.tsv``. Raises WordloomError for a file
    that is missing, malformed or names a word twice.
    """
    _check(kind)
    try:
        kind = kind or sniff(path)
        if kind == PROJECTOR:
            return _projected(*_files(path, kind))
        _look(Path(path))
        with _opened(Path(path)) as stream:
            return _read(stream, str(path), kind)
    except OSError as error:
        raise WordloomError(
            f"Cannot read vectors {str(path)!r}: {error.strerror}; check the path."
        ) from error


def sniff(path: str | Path) -> str:
    """The format of a file (or of the projector's folder), by its beginning: one of FORMATS."""
    if Path(path).is_dir():
        return PROJECTOR
    with _opened(Path(path)) as stream:
        first = stream.readline(BEGINNING)
        if TAB in first and _numbers(first.rpartition(TAB)[0]) is not None:  # no word before them
            return PROJECTOR
        size = _header(first)
        if size is None:
            return "glove"
        beginning = stream.read(BEGINNING)
    line, end, _ = beginning.lstrip(BREAK).partition(BREAK)
    numbers = line.split()[1:]
    if not end and len(beginning) == BEGINNING:
        numbers = numbers[:-1]  # it may be cut
    # The bytes of a binary vector may break the line at once, or after one that happens to be a digit. Two
    # numbers are text, however many the header says: the error is in the line then.
    text = len(numbers) >= min(2, size[1]) and _numbers(SPACE.join(numbers)) is not None
    return "word2vec" if text else "word2vec-binary"


def write(vectors: WordVectors, path: str | Path, kind: str = "word2vec") -> None:
    """Writes all words and vectors; text has as many digits as give the same float32 back.

    All is written aside and put in place at once. A file that is there is replaced; the projector's folder
    must be new or empty. Raises UsageError where there is something else, WordloomError where it cannot be.
    """
    _check(kind)
    parting = "\t" if kind == PROJECTOR else " "
    for word in vectors.index_to_key:
        if not word or any(each in word for each in (parting, "\n", "\r")):
            what = (
                "is empty" if not word else f"holds a {'tab' if parting != ' ' else 'space'} or a line break"
            )
            raise WordloomError(f"The word {word!r} {what}, which {kind} cannot hold; use another format.")
    final = local_path(path) if kind == PROJECTOR else output_file(path)
    aside = final.parent / f"{PARTIAL}{uuid.uuid4().hex[:12]}-{final.name}"
    try:
        if kind == PROJECTOR and final.exists() and (not final.is_dir() or any(final.iterdir())):
            raise WordloomError(
                f"{str(path)!r} is there already; {kind} makes a folder of two files: name a new one."
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        if kind == PROJECTOR:
            aside.mkdir()
            _fill(aside / TABLE, projected_rows(vectors))
            _fill(aside / METADATA, projected_words(vectors))
        else:
            _fill(aside, _pieces(vectors, kind))
        aside.replace(final)
    except OSError as error:
        raise WordloomError(
            f"Cannot write vectors {str(path)!r}: {error.strerror}; check --output."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # is_dir raises, too: for a name that is too long
            if aside.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
            aside.unlink(missing_ok=True)


def imported(path: str | Path, output: str, kind: str | None = None) -> Artefact:
    """The vectors of a file as a published artefact of kind ``vectors`` in the folder `output`.

    Its identity comes from the file's bytes, so the same import again finds what it made. Words are taken to
    stand in order of frequency, as all these tools write them; counts are unknown but to the projector.
    Raises WordloomError as `read` does; a malformed file leaves nothing behind.
    """
    vectors = read(path, kind)
    kind = kind or sniff(path)
    sums = []
    for file in _files(path, kind):
        with file.open("rb") as stream:
            sums.append(hashlib.file_digest(stream, "sha256").hexdigest())
    identity = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    source = Input("vectors-file", identity, str(Path(path).expanduser().absolute()))
    draft = Draft(
        output, kind=KIND, output_version=IMPORT_VERSION, inputs={"file": source}, settings={"format": kind}
    )
    if draft.published is not None:
        return draft.published
    files = write_vectors(draft.folder, vectors.vectors, vectors.index_to_key, vectors.counts)
    return draft.publish({"words": len(vectors), "vector_size": vectors.vector_size}, files)


# writing


def _fill(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb", buffering=1 << 20) as stream:
        stream.writelines(pieces)
    settle(path)


def _pieces(vectors: WordVectors, kind: str) -> Iterator[bytes]:
    if kind != "glove":
        yield f"{len(vectors)} {vectors.vector_size}\n".encode()
    for word, vector in zip(vectors.index_to_key, vectors.vectors, strict=True):
        if kind == "word2vec-binary":
            yield word.encode() + SPACE + vector.astype("<f4").tobytes() + BREAK
        else:
            yield f"{word} {' '.join(map(str, vector))}\n".encode()


def projected_rows(vectors: WordVectors) -> Iterator[bytes]:
    """The lines of the projector's ``vectors.tsv``."""
    for vector in vectors.vectors:
        yield ("\t".join(map(str, vector)) + "\n").encode()


def projected_words(vectors: WordVectors) -> Iterator[bytes]:
    """The lines of the projector's ``metadata.tsv``."""
    if vectors.counts is None:  # one column has no heading, two have one: the projector's own rule
        yield from (f"{word}\n".encode() for word in vectors.index_to_key)
        return
    yield b"word\tcount\n"
    for word, count in zip(vectors.index_to_key, vectors.counts, strict=True):
        yield f"{word}\t{count}\n".encode()


# reading


def _files(path: str | Path, kind: str) -> list[Path]:
    """The files that a path in a format stands for."""
    given = Path(path)
    if kind != PROJECTOR:
        return [given]
    table = given / TABLE if given.is_dir() else given
    for file in (table, table.parent / METADATA):
        if not file.is_file():
            raise WordloomError(
                f"{str(path)!r} is no folder with {TABLE} and {METADATA}: there is no {str(file)!r}."
            )
    return [table, table.parent / METADATA]


def _opened(path: Path) -> BinaryIO:
    """The file, behind a byte order mark."""
    stream = path.open("rb")
    if stream.read(len(MARK)) != MARK:
        stream.seek(0)
    return stream


def _look(path: Path) -> None:
    with path.open("rb") as stream:
        first = stream.read(4)
    for start, sentence in NOT_VECTORS.items():
        if first.startswith(start):
            raise WordloomError(f"{str(path)!r} {sentence}.")


def _read(stream: BinaryIO, name: str, kind: str) -> WordVectors:
    if kind == "glove":
        words, vectors = _text(stream, name, None, 1)
    else:
        first = stream.readline(BEGINNING)
        size = _header(first)
        if size is None:
            raise WordloomError(
                f"{name!r}, line 1: {_shown(first)} is no header of {kind}; it should be two whole numbers."
            )
        words, vectors = _binary(stream, name, size) if kind != "word2vec" else _text(stream, name, size, 2)
    return _once(words, vectors, name)


def _once(words: list[str], vectors: Floats, name: str, counts: list[int] | None = None) -> WordVectors:
    seen: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        if word in seen:
            raise WordloomError(
                f"{name!r} has two vectors for {word!r}, number {seen[word]} and number {number}; "
                "remove one of them."
            )
        seen[word] = number
    return WordVectors(words, vectors, counts)


def _text(stream: BinaryIO, name: str, size: tuple[int, int] | None, start: int) -> tuple[list[str], Floats]:
    words: list[str] = []
    rows: list[Floats] = []
    width = size[1] if size else 0
    for number, line in enumerate(stream, start):
        if not line.strip():
            continue
        word, _, rest = line.rstrip().partition(SPACE)
        where = f"{name!r}, line {number}"
        rows.append(_row(rest, width, where))
        words.append(_decoded(word, where))
        width = len(rows[0])
    if size and len(words) != size[0]:
        raise WordloomError(
            f"{name!r} ends after {len(words)} vectors, its first line says {size[0]}; "
            "the file is cut or its header is wrong."
        )
    if not words:
        raise WordloomError(f"{name!r} holds no vectors.")
    return words, np.stack(rows)


def _projected(table: Path, metadata: Path) -> WordVectors:
    rows: list[Floats] = []
    with _opened(table) as stream:
        for number, line in enumerate(stream, 1):
            rows.append(_row(line, len(rows[0]) if rows else 0, f"{str(table)!r}, line {number}"))
    if not rows:
        raise WordloomError(f"{str(table)!r} holds no vectors.")
    lines = metadata.read_bytes().removeprefix(MARK).removesuffix(BREAK).split(BREAK)
    titles = lines[0].rstrip(b"\r").split(TAB)
    start = 1 if len(titles) > 1 else 0
    if len(lines) - start != len(rows):
        raise WordloomError(
            f"{str(metadata)!r} names {len(lines) - start} words, {str(table)!r} has {len(rows)} vectors; "
            "each word needs one vector."
        )
    column = titles.index(b"count") if start and b"count" in titles else None
    words, counts = [], []
    for number, line in enumerate(lines[start:], start + 1):
        where, fields = f"{str(metadata)!r}, line {number}", line.rstrip(b"\r").split(TAB)
        if len(fields) != len(titles):
            raise WordloomError(f"{where}: {len(fields)} columns, {len(titles)} are expected.")
        words.append(_decoded(fields[0], where))
        if column is not None:
            if not fields[column].isdigit() or len(fields[column]) > DIGITS:
                raise WordloomError(f"{where}: the count {_shown(fields[column])} is no whole number.")
            counts.append(int(fields[column]))
    return _once(words, np.stack(rows), str(metadata), counts or None)


def _row(text: bytes, width: int, where: str) -> Floats:
    """The numbers of a line, `width` of them (0: any number but none)."""
    row = _numbers(text)
    if row is None:
        raise WordloomError(f"{where}: {_shown(text)} holds something that is no number.")
    if len(row) != (width or len(row) or 1):
        raise WordloomError(f"{where}: {len(row)} numbers, {width or 'at least 1'} are expected.")
    if not np.isfinite(row).all():
        raise WordloomError(f"{where}: its vector is not finite.")
    return row


def _binary(stream: BinaryIO, name: str, size: tuple[int, int]) -> tuple[list[str], Floats]:
    count, width = size
    words: list[str] = []
    rows: list[Floats] = []  # grown, not laid out: a wrong header must not cost the memory it claims
    need = LONGEST_WORD + 2 + 4 * width
    buffer, at, base = b"", 0, stream.tell()  # `base` is where in the file the buffer begins
    for number in range(1, count + 1):
        if len(buffer) - at < need:
            base += at
            buffer, at = buffer[at:] + stream.read(max(1 << 20, need)), 0
        while buffer[at : at + 1] == BREAK:
            at += 1
        where = f"{name!r}, word {number} (byte {base + at})"
        if at == len(buffer):
            raise WordloomError(
                f"{name!r} ends after {number - 1} vectors, its first line says {count}; "
                "the file is cut or its header is wrong."
            )
        space = buffer.find(SPACE, at, at + LONGEST_WORD + 1)
        if space < 0:
            raise WordloomError(
                f"{where}: no space after {_shown(buffer[at : at + LONGEST_WORD])}; "
                "the file is cut or no word2vec binary."
            )
        word, end = buffer[at:space], space + 1 + 4 * width
        if len(buffer) < end:
            raise WordloomError(f"{where}: the file ends within the vector of {_shown(word)}; it is cut.")
        row = np.frombuffer(buffer, "<f4", width, space + 1)
        if not np.isfinite(row).all():
            raise WordloomError(f"{where}: the vector of {_shown(word)} is not finite.")
        words.append(_decoded(word, where))
        rows.append(row.astype(np.float32))
        at = end
    if not words:
        raise WordloomError(f"{name!r} holds no vectors.")
    if (buffer[at:] + stream.read(1)).strip(BREAK):
        raise WordloomError(
            f"{name!r} goes on after its {count} vectors (byte {base + at}); its header is wrong."
        )
    return words, np.stack(rows)


def _header(line: bytes) -> tuple[int, int] | None:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not line.endswith(BREAK):
        return None
    if max(map(len, parts)) > DIGITS:
        return None
    count, width = int(parts[0]), int(parts[1])
    return (count, width) if 0 < width < 1 << 20 else None


def _numbers(text: bytes) -> Floats | None:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
            return np.array(text.split(), dtype=np.float64).astype(np.float32)
    except ValueError:
        return None


def _decoded(word: bytes, where: str) -> str:
    if not word:
        raise WordloomError(f"{where}: there is no word.")
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
