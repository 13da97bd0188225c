"""The MediaWiki export that the sample is written as."""

from __future__ import annotations

import bz2
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from ingest.export import ExportPage, Site, export_xml, sha1_base36, write_export

SITE = Site(
    "Wiki & Co", "wiki", "http://127.0.0.1/", "MediaWiki 1.44", datetime(2026, 1, 1, tzinfo=UTC), ("A",)
)
PAGES = [
    ExportPage(
        'Ωmega & <"co">', "'''x''' < \"y\" & z\n\tÄ\x00\x0b\ufffe 𝄞", parent=True, comment="a & b", minor=True
    ),
    ExportPage("Alias", "#REDIRECT [[Ωmega]]", redirect='"Ωmega" & co'),
    ExportPage("Empty", ""),
    ExportPage("Gone", None),
    ExportPage("Common.css", "a > b", namespace=8, model="css"),
]
NS = "{http://www.mediawiki.org/xml/export-0.11/}"
# The order of https://www.mediawiki.org/xml/export-0.11.xsd; "?" may be missing.
PAGE_ORDER = "title ns id redirect? revision"
REVISION_ORDER = "id parentid? timestamp contributor minor? comment? origin model format text sha1"


def follows(element: etree._Element, order: str) -> bool:
    names = " ".join(etree.QName(child).localname for child in element) + " "
    pattern = "".join(f"(?:{name[:-1]} )?" if name.endswith("?") else f"{name} " for name in order.split())
    return re.fullmatch(pattern, names) is not None


def written() -> bytes:
    return "".join(export_xml(SITE, PAGES)).encode()


def test_elements_stand_in_the_order_of_the_schema() -> None:
    root = etree.fromstring(written())
    assert root.tag == f"{NS}mediawiki" and root.get("version") == "0.11"
    assert [etree.QName(child).localname for child in root] == ["siteinfo"] + ["page"] * len(PAGES)
    info = [etree.QName(child).localname for child in root[0]]
    assert info == ["sitename", "dbname", "base", "generator", "case", "namespaces"]
    for page in root[1:]:
        assert follows(page, PAGE_ORDER)
        assert follows(page.find(f"{NS}revision"), REVISION_ORDER)


def test_text_comes_back_as_it_was_but_for_what_xml_cannot_hold() -> None:
    pages = etree.fromstring(written()).findall(f"{NS}page")
    assert pages[0].findtext(f"{NS}title") == PAGES[0].title
    assert pages[0].findtext(f"{NS}revision/{NS}text") == "'''x''' < \"y\" & z\n\tÄ 𝄞"
    assert pages[1].find(f"{NS}redirect").get("title") == PAGES[1].redirect
    assert pages[4].findtext(f"{NS}title") == "MediaWiki:Common.css"


def test_bytes_and_sha1_are_those_of_the_text() -> None:
    for page in etree.fromstring(written()).findall(f"{NS}page")[:3]:
        text = page.find(f"{NS}revision/{NS}text")
        content = text.text or ""
        assert int(text.get("bytes")) == len(content.encode())
        assert text.get("sha1") == page.findtext(f"{NS}revision/{NS}sha1") == sha1_base36(content)


def test_the_sha1_of_an_empty_text_is_mediawikis() -> None:
    assert sha1_base36("") == "phoiac9h4m842xq45sp7s6u21eteeq1"


@pytest.mark.real_data
def test_the_sha1_is_that_of_real_dumps(data: Path) -> None:
    compared = 0
    with bz2.open(data / "dumps" / "smallwiki-whole.xml.bz2") as stream:
        for _, revision in etree.iterparse(stream, tag="{*}revision"):
            digest = revision.findtext("{*}sha1")
            if digest and compared < 200:
                compared += sha1_base36(revision.findtext("{*}text") or "") == digest
    assert compared == 200


def test_the_file_is_one_bzip2_stream() -> None:
    sink = io.BytesIO()
    size = write_export(SITE, PAGES, sink)
    reader = bz2.BZ2Decompressor()
    assert reader.decompress(sink.getvalue()) == written() and size == len(written())
    assert reader.eof and reader.unused_data == b""
