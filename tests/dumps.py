"""Small MediaWiki exports for tests."""

from __future__ import annotations

import bz2
from collections.abc import Iterable
from pathlib import Path
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
