"""What a file holds, whatever it is compressed by."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from cluster.errors import WordloomError

CHUNK = 1 << 20
STEP = 1 << 14  # bytes unpacked at once
BOM = b"\xef\xbb\xbf"

COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


class NamedStream(io.RawIOBase):
    """A stream whose failures are told from damage to what it holds. Raises WordloomError for them."""

    def __init__(self, stream: Any, location: str) -> None:
        self._stream = stream
        self._location = location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = 0) -> int:
        self._stream.seek(place, whence)
        return int(self._stream.tell())

    def tell(self) -> int:
        return int(self._stream.tell())

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._stream.read(size if size >= 0 else None))
        except OSError as error:
            raise WordloomError(f"Cannot read {self._location!r}: {error}; run the command again.") from error


def compression_of(head: bytes) -> str:
    """The compression that a file's first bytes tell: ``gzip``, ``bzip2``, ``xz``, ``zstd`` or empty."""
    return next((name for magic, name in COMPRESSIONS if head.startswith(magic)), "")


def opened(stream: Any, location: str, compression: str) -> Any:
    """A reader of the content of a stream; several compressed ones one after the other are one."""
    raw = NamedStream(stream, location)
    openers: dict[str, Callable[[Any], Any]] = {
        "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
        "bzip2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zstd": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"),
    }
    return openers[compression](raw) if compression else raw


def chunks_of(stream: Any, location: str, compression: str) -> Iterator[bytes]:
    """The content of a stream, in chunks of any size. Raises one of DAMAGE behind the last that can be read:
    a large `read` would lose with the damage all that it had read before."""
    content = opened(stream, location, compression)
    # Of gzip, bzip2 and xz `read1` gives what one step has unpacked; zstd's reader fills what is asked for.
    read, size = (content.read1, STEP) if compression else (content.read, CHUNK)
    while data := read(size):
        yield bytes(data)


def line_reader(stream: Any) -> Any:
    """A reader of the lines of a file, gzip or plain. With its last reference it may close the stream."""
    packed = compression_of(stream.read(2)) == "gzip"
    stream.seek(0)
    return gzip.GzipFile(fileobj=stream) if packed else io.BufferedReader(stream)
