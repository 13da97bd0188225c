"""Small MediaWiki exports for tests."""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape, quoteattr

from ingest.dump import Dump, locate


def page(number: int, title: str, text: str, *, namespace: int = 0, redirect: str | None = None) -> str:
    """One page as an export has it; its revision is number 1000 + the page's."""
    mark = f"<redirect title={quoteattr(redirect)} />" if redirect is not None else ""
    return (
        f"<page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{mark}"
        f"<revision><id>{1000 + number}</id><timestamp>2026-01-01T00:00:00Z</timestamp>"
        f'<model>wikitext</model><text xml:space="preserve">{escape(text)}</text></revision></page>\n'
    )


def export(pages: Iterable[str]) -> bytes:
    """A whole export, schema 0.11."""
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n'
    return (head + "".join(pages) + "</mediawiki>\n").encode()


def dump_of(folder: Path, pages: Iterable[str]) -> Dump:
    """The pages as a bzip2 dump in `folder`."""
    source = folder / "dump.xml.bz2"
    source.write_bytes(bz2.compress(export(pages)))
    return locate(source, folder / "downloads")


LETTERS = "etaoinshrdlucmfwypäéжи東"
_RUN = re.compile(r"(.)\1\1\1")
LEVEL_9_BLOCK = 899_981  # bytes of input in a block of bzip2 -9, where no byte stands four times in a row


def varied_pages(size: int, seed: int) -> Iterator[bytes]:
    """An export in pieces, `size` bytes in all: its beginning, then one page each, its end.

    Lengths are very unequal, every kind of page that is dropped is there, words are of several scripts,
    and a ``<page>`` stands across most edges of blocks of bzip2 -9. The same for the same seed.
    """
    random = Random(seed)
    words = ["".join(random.choices(LETTERS, k=random.randint(2, 9))) for _ in range(20_000)]
    words += ["[[", "]]", "'''", "&amp;", "&lt;ref&gt;", "{{a|b}}", "==", "\n\n", "1984", "3.5", "Ж", "😀"]
    words = [word for word in words if not _RUN.search(word)]
    head = b'<mediawiki version="0.11" xml:lang="en">\n<siteinfo><sitename>Varied</sitename></siteinfo>\n'
    yield head
    at, number = len(head), 0
    while at < size:
        number += 1
        while _RUN.search(f"7{number}"):
            number += 1
        kind = random.choices(("", "redirect", "talk", "empty", "deleted", "css"), (80, 9, 6, 2, 2, 1))[0]
        namespace = 1 if kind == "talk" else 0
        mark = '<redirect title="Elsewhere" />' if kind == "redirect" else ""
        before = (
            f"<page>\n  <title>P {number}</title>\n  <ns>{namespace}</ns>\n  <id>{number}</id>{mark}\n"
            f"  <revision>\n  <id>7{number}</id>\n  <timestamp>2026-01-01T01:02:03Z</timestamp>\n"
            '  <contributor deleted="deleted" />\n'
            f"  <model>{'css' if kind == 'css' else 'wikitext'}</model>\n"
        ).encode()
        attribute, text = "", b""
        if kind == "deleted":
            attribute = ' deleted="deleted"'
        elif kind == "redirect":
            text = b"#REDIRECT [[Elsewhere]]"
        elif kind != "empty":
            length = min(int(random.paretovariate(1.1) * 60), 60_000)
            text = " ".join(random.choices(words, k=length)).encode()
        opening = f'  <text xml:space="preserve"{attribute}>'.encode()
        behind = b"</text>\n  </revision>\n</page>\n  "
        spare = LEVEL_9_BLOCK - (at + len(before) + len(opening) + len(text) + len(behind)) % LEVEL_9_BLOCK
        if text and spare < 30_000:  # the next page's tag is laid across the edge
            text += b" " + (b"abcdefghij" * (spare // 10 + 1))[: spare - 2 - number % 5]
        page = before + opening + text + behind
        yield page
        at += len(page)
    yield b"</mediawiki>\n"
