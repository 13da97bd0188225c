"""Rows of text out of its bytes: lines, paragraphs, pieces of a file; in flat memory, from any place on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PIECE = 8 << 20  # bytes; hardly a book is longer
WINDOW = 1 << 16  # bytes in which a line end is looked for before a file is cut at white space
LARGEST = 64 << 20  # bytes of one row of lines or JSON
_SPACE = re.compile(rb"[ \t\r\f\v]")


def lines_of(chunks: Iterable[bytes], at: int) -> Iterator[tuple[int, bytes | None]]:
    """Each line with the offset of its first byte, `at` being the first of all; None for one too long."""
    rest: list[bytes] = []
    begin, length = at, 0
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        length += len(first)
        if not others:
            if length > LARGEST:
                rest = []  # goes on being measured, not kept
            continue
        yield begin, b"".join(rest) if length <= LARGEST else None
        begin += length + 1
        for line in others[:-1]:
            yield begin, line
            begin += len(line) + 1
        rest, length = [others[-1]], len(others[-1])
    if length:
        yield begin, b"".join(rest) if length <= LARGEST else None


def paragraphs_of(
    lines: Iterable[tuple[int, bytes | None]], start: int, stop: int | None
) -> Iterator[tuple[int, bytes | None]]:
    """Lines joined to paragraphs: those whose last blank line before them begins in [start, stop)."""
    mine = start == 0
    begin, size = 0, 0
    paragraph: list[bytes] = []
    whole = True
    for offset, line in lines:
        if line is not None and not line.strip():
            if mine and size:
                yield begin, b"\n".join(paragraph) if whole else None
            paragraph, size, whole = [], 0, True
            mine = True
            if stop is not None and offset >= stop:
                return
            continue
        if not mine:
            continue
        begin = begin if size else offset
        size += 1 + (len(line) if line is not None else LARGEST)
        whole = whole and line is not None and size <= LARGEST
        if whole and line is not None:
            paragraph.append(line)
        else:
            paragraph = []
    if mine and size:
        yield begin, b"\n".join(paragraph) if whole else None


def pieces_of(chunks: Iterable[bytes], start: int) -> Iterator[tuple[int, bytes | None]]:
    """A file's pieces from the one that begins at or behind `start` on, a multiple of PIECE; each with
    the multiple that it begins with.
    """
    data = bytearray()
    at = start  # of the first byte in data
    edge = start or PIECE  # where the next cut is looked for
    begun = not start
    for chunk in chunks:
        data += chunk
        while at + len(data) >= edge + WINDOW:
            cut = edge - at + _cut(bytes(data[edge - at : edge - at + WINDOW]))
            if begun:
                yield edge - PIECE, bytes(data[:cut])
            del data[:cut]
            at, edge, begun = at + cut, edge + PIECE, True
    if at + len(data) > edge:
        cut = edge - at + _cut(bytes(data[edge - at :]))
        if begun:
            yield edge - PIECE, bytes(data[:cut])
        del data[:cut]
        edge, begun = edge + PIECE, True
    if begun and data:
        yield edge - PIECE, bytes(data)


def _cut(window: bytes) -> int:
    """Where a file may be cut: behind a line end, else behind white space, else between two characters."""
    if (end := window.find(b"\n")) >= 0:
        return end + 1
    if (space := _SPACE.search(window)) is not None:
        return space.end()
    return next((place for place, byte in enumerate(window[:4]) if byte & 0xC0 != 0x80), 0)
