"""Writes a MediaWiki XML export, version 0.11: the format in which Wikipedia publishes its pages.

Element order and attributes follow https://www.mediawiki.org/xml/export-0.11.xsd and the files of the dump
producer: siteinfo first, then pages by id, each with its one (latest) revision.
"""

from __future__ import annotations

import bz2
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from xml.sax.saxutils import escape

SCHEMA = "http://www.mediawiki.org/xml/export-0.11/"
NAMESPACES = {
    -2: "Media",
    -1: "Special",
    0: "",
    1: "Talk",
    2: "User",
    3: "User talk",
    4: "Project",
    5: "Project talk",
    6: "File",
    7: "File talk",
    8: "MediaWiki",
    9: "MediaWiki talk",
    10: "Template",
    11: "Template talk",
    12: "Help",
    13: "Help talk",
    14: "Category",
    15: "Category talk",
    828: "Module",
    829: "Module talk",
}
FORMATS = {
    "wikitext": "text/x-wiki",
    "css": "text/css",
    "Scribunto": "text/plain",
}
# XML 1.0 has no way to write these, not even as references.
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ExportPage:
    """A page to write. `text` is None where the revision's text was deleted; `redirect` is a page's title."""

    title: str
    text: str | None
    namespace: int = 0
    redirect: str | None = None
    model: str = "wikitext"
    comment: str = ""
    minor: bool = False
    parent: bool = False

    @property
    def full_title(self) -> str:
        prefix = NAMESPACES[self.namespace]
        return f"{prefix}:{self.title}" if prefix else self.title


@dataclass(frozen=True, slots=True)
class Site:
    """The wiki that the export claims to come from.

    Pages count their ids from 1 and their revisions from `first_revision`; a page is a minute younger than
    the one before it. `contributors` take turns.
    """

    name: str
    database: str
    base: str
    generator: str
    began: datetime
    contributors: tuple[str, ...]
    language: str = "en"
    first_revision: int = 1000


class ByteSink(Protocol):
    """What takes the compressed bytes."""

    def write(self, data: bytes, /) -> object: ...


def sha1_base36(text: str) -> str:
    """The sha1 of a revision's UTF-8 text as MediaWiki writes it: 31 digits to the base of 36."""
    value = int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest(), "big")
    digits = []
    for _ in range(31):
        value, digit = divmod(value, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def export_xml(site: Site, pages: Iterable[ExportPage]) -> Iterator[str]:
    """The export as pieces of text: the head, one piece a page, the end."""
    yield _head(site)
    for number, page in enumerate(pages, 1):
        yield _page(site, page, number)
    yield "</mediawiki>\n"


def write_export(site: Site, pages: Iterable[ExportPage], sink: ByteSink) -> int:
    """Writes the export into `sink` as one bzip2 stream; returns the bytes of XML before compression."""
    compressor = bz2.BZ2Compressor(9)
    size = 0
    for piece in export_xml(site, pages):
        data = piece.encode()
        size += len(data)
        if packed := compressor.compress(data):
            sink.write(packed)
    sink.write(compressor.flush())
    return size


def _head(site: Site) -> str:
    lines = [
        f'<mediawiki xmlns="{SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{SCHEMA} {SCHEMA.rstrip("/")}.xsd" version="0.11" xml:lang="{site.language}">',
        "  <siteinfo>",
        f"    <sitename>{escape(site.name)}</sitename>",
        f"    <dbname>{escape(site.database)}</dbname>",
        f"    <base>{escape(site.base)}</base>",
        f"    <generator>{escape(site.generator)}</generator>",
        # As on Wiktionary: `numpy` and `Numpy` are two titles.
        "    <case>case-sensitive</case>",
        "    <namespaces>",
    ]
    for key, name in NAMESPACES.items():
        head = f'      <namespace key="{key}" case="case-sensitive"'
        lines.append(f"{head}>{escape(name)}</namespace>" if name else f"{head} />")
    return "\n".join([*lines, "    </namespaces>", "  </siteinfo>"]) + "\n"


def _page(site: Site, page: ExportPage, number: int) -> str:
    revision = site.first_revision + 2 * number
    when = site.began.astimezone(UTC) + timedelta(minutes=number)
    contributor = number % len(site.contributors)
    lines = ["  <page>", f"    <title>{_clean(page.full_title)}</title>", f"    <ns>{page.namespace}</ns>"]
    lines.append(f"    <id>{number}</id>")
    if page.redirect is not None:
        lines.append(f'    <redirect title="{_clean(page.redirect)}" />')
    lines += ["    <revision>", f"      <id>{revision}</id>"]
    if page.parent:
        lines.append(f"      <parentid>{revision - 1}</parentid>")
    lines += [
        f"      <timestamp>{when:%Y-%m-%dT%H:%M:%SZ}</timestamp>",
        "      <contributor>",
        f"        <username>{_clean(site.contributors[contributor])}</username>",
        f"        <id>{contributor + 1}</id>",
        "      </contributor>",
    ]
    if page.minor:
        lines.append("      <minor />")
    if page.comment:
        lines.append(f"      <comment>{_clean(page.comment)}</comment>")
    lines += [
        f"      <origin>{revision}</origin>",
        f"      <model>{page.model}</model>",
        f"      <format>{FORMATS[page.model]}</format>",
    ]
    if page.text is None:
        lines += ['      <text bytes="0" deleted="deleted" />', "      <sha1 />"]
    else:
        text = _FORBIDDEN.sub("", page.text)
        digest = sha1_base36(text)
        attributes = f'bytes="{len(text.encode())}" sha1="{digest}" xml:space="preserve"'
        body = f">{escape(text, _QUOTES)}</text>" if text else " />"
        lines += [f"      <text {attributes}{body}", f"      <sha1>{digest}</sha1>"]
    return "\n".join([*lines, "    </revision>", "  </page>"]) + "\n"


_QUOTES = {'"': "&quot;"}  # MediaWiki writes them so, inside text as well


def _clean(text: str) -> str:
    return escape(_FORBIDDEN.sub("", text), _QUOTES)
