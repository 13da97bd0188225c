"""What ingest.page_form promises: a page of MediaWiki's form is read as the XML parser reads it, and what
differs is left to the parser."""

from __future__ import annotations

import html
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import page_form
from ingest.bzip2 import Block, blocks
from ingest.character_data import Characters
from ingest.export import export_xml
from ingest.page import Page, characters
from ingest.page_form import FormReader
from ingest.pages import PAGE, PageReader
from tests.test_export import PAGES, SITE

# As dumps have them: 0.10 with everything in it; a redirect of 0.11; an anonymous talk page of 0.8; a page
# whose text is hidden (0.11, by the writer of Wikimedia's newer dumps); an empty one; one of another model.
FORMS = (
    """  <page>
    <title>A &amp; B, &quot;é&quot; &amp;lt; it&#039;s</title>
    <ns>0</ns>
    <id>12</id>
    <revision>
      <id>5</id>
      <parentid>4</parentid>
      <timestamp>2015-01-01T00:00:00Z</timestamp>
      <contributor>
        <username>Ünal &lt;b&gt;</username>
        <id>7</id>
      </contributor>
      <minor />
      <comment>/* A */ &lt;ref&gt;</comment>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text xml:space="preserve" bytes="12">Some &lt;ref name=&quot;x&quot;&gt;Пример 中文 😀&lt;/ref&gt;
*\tit&amp;nbsp; it&#x27;s &amp;lt; and more</text>
      <sha1>abc09</sha1>
    </revision>
  </page>
""",
    '<page><title>R</title><ns>0</ns><id>3</id><redirect title="A &quot;B&quot; é" />'
    "<restrictions>edit=sysop</restrictions><revision><id>6</id><timestamp>t</timestamp><contributor>"
    "<ip>1.2.3.4</ip></contributor><minor/><comment deleted='deleted' /><origin>3</origin>"
    "<model>wikitext</model><format>f</format>"
    '<text bytes="1" sha1="a" xml:space="preserve">#REDIRECT [[A]]</text><sha1>abc</sha1></revision></page>',
    "<page><title>Talk:R</title><ns>1</ns><id>4</id><revision><id>6</id><timestamp>t</timestamp>"
    '<contributor deleted="deleted" /><text xml:space="preserve">Hello.</text><sha1 />'
    "<model>wikitext</model><format>f</format></revision></page>\n",
    "<page><title>Hidden</title><ns>0</ns><id>5</id><revision><id>6</id><timestamp>t</timestamp><contributor>"
    '<ip>1</ip></contributor><text bytes="-1" deleted="deleted" /><sha1 /></revision></page>\n',
    "<page><title>Empty</title><ns>0</ns><id>5</id><revision><id>6</id><timestamp>t</timestamp><contributor>"
    '<ip>1</ip></contributor><text xml:space="preserve" /><sha1 /></revision></page>\n',
    "<page><title>Module:A</title><ns>828</ns><id>5</id><revision><id>6</id><timestamp>t</timestamp>"
    "<contributor><ip>1</ip></contributor><model>Scribunto</model><format>f</format>"
    '<text xml:space="preserve">\u00a0\u3000 \n\t</text></revision></page>',
)
WRITTEN = [form.replace("'deleted'", '"deleted"').encode() for form in FORMS]
# What may make a page another one or none: references, control and other characters that XML has not, broken
# UTF-8, other markup, elements twice.
PIECES = [
    *b"&lt; &gt; &amp; &quot; &#39; &#039; &#x27; &#9; &#13; &#0; &nbsp; & < > ]]> ]]&gt; ' \"".split(),
    *(b"&apos;", b"\r", b"\n", b"\t", b" ", b"\0", b"\x01", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"9", b"-"),
    *(b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2\x80", b"\xdf\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf"),
    *(b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xed\xa0\x80", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xef\xbf\xbe"),
    *(b"\xef\xbf\xbf", b"\xef\xbb\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80\x80"),
    *(
        b"\xf0\x9f\xbf\xbe",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"\xe4\xb8",
    ),
    *(b"<!-- c -->", b"<![CDATA[x]]>", b"<?p?>", b"<page>", b"</page>", b"<text>", b"</text>", b"<title/>"),
    *(
        b"<minor/>",
        b"<id>9</id>",
        b"<ns>0</ns>",
        b"<revision>",
        b"</revision>",
        b"<model>x</model>",
        b"<model />",
    ),
    *(
        b' bytes="1"',
        b' xml:space="preserve"',
        b' deleted="deleted"',
        b"<redirect />",
        b'<redirect title="" />',
    ),
    *(
        b"<contributor />",
        b"<comment />",
        b"<comment></comment>",
        b"#REDIRECT [[X]]",
        b"99999999999999999999",
    ),
]


def read(xml: bytes, cut: int | None, namespaces: tuple[int, ...]) -> tuple[Any, ...]:
    """All that a reader makes of the XML, given to it in chunks of `cut` bytes."""
    size = cut or max(len(xml), 1)
    reader = PageReader((xml[at : at + size] for at in range(0, len(xml), size)), namespaces)
    kept = [(each, each.size) for each in reader]
    return kept, reader.seen, reader.kept, reader.dropped, reader.sizes, reader.redirects, reader.cut


def parsed(xml: bytes, cut: int | None, namespaces: tuple[int, ...]) -> tuple[Any, ...]:
    """The same by the parser alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FormReader, "read", lambda *_: None)
        return read(xml, cut, namespaces)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What begins where the form was looked for and not found."""
    places: list[bytes] = []
    original = FormReader.read

    def noted(self: FormReader, xml: bytes, begin: int) -> tuple[Page, int] | None:
        found = original(self, xml, begin)
        if found is None:
            places.append(xml[begin : begin + 2000])
        return found

    monkeypatch.setattr(FormReader, "read", noted)
    return places


@pytest.mark.parametrize("page", WRITTEN, ids=["whole", "redirect", "talk", "hidden", "empty", "module"])
def test_each_kind_of_page_has_the_form_and_is_read_as_the_parser_reads_it(
    page: bytes, refused: list[bytes]
) -> None:
    found = read(page, None, ())
    assert not refused
    assert found == parsed(page, None, ())


def test_the_fields_of_a_page() -> None:
    found = FormReader().read(WRITTEN[0], 0)
    assert found is not None
    page, end = found
    assert WRITTEN[0][end:] == b"\n" and page.size == len(WRITTEN[0].strip())
    assert page == Page(
        12,
        5,
        0,
        'A & B, "é" &lt; it\'s',
        'Some <ref name="x">Пример 中文 😀</ref>\n*\tit&nbsp; it\'s &lt; and more'.encode(),
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A few pages, of which some are changed somewhere: mostly where elements begin or end."""
    xml = b"".join(draw(st.lists(st.sampled_from(WRITTEN), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        edges = [match.start() for match in re.finditer(rb"[<>]", xml)]
        anywhere = st.integers(0, len(xml))
        at = draw(st.sampled_from(edges) if edges and draw(st.booleans()) else anywhere) + draw(
            st.integers(0, 1)
        )
        lost = draw(st.sampled_from((0, 0, 1, 9)))
        xml = xml[:at] + draw(st.sampled_from(PIECES)) + xml[at + lost :]
    return xml


@settings(max_examples=400, deadline=None)
@given(damaged(), st.sampled_from((None, 7, 100)), st.sampled_from(((0,), ())))
def test_whatever_is_changed_in_a_page_the_parser_and_the_form_agree(
    xml: bytes, cut: int | None, namespaces: tuple[int, ...]
) -> None:
    assert read(xml, cut, namespaces) == parsed(xml, cut, namespaces)


@pytest.mark.parametrize("piece", PIECES)
def test_each_piece_in_a_text_or_a_title_is_judged_as_the_parser_does(piece: bytes) -> None:
    for place in (b"Some ", "Пример ".encode(), b"<title>", b"<comment>", b'title="', b"<text"):
        for page in WRITTEN[:2]:
            if place in page:
                at = page.index(place) + len(place)
                xml = page[:at] + piece + page[at:] + WRITTEN[2]
                assert read(xml, None, ()) == parsed(xml, None, ())


@pytest.mark.parametrize(
    ("number", "old", "new"),
    [
        (1, '"A &quot;B&quot; é"', '""'),  # the text names the target
        (1, "<id>3</id>", "<id>9223372036854775808</id>"),  # more than 63 bits
        (1, "<id>6</id>", "<id>99999999999999999999</id>"),
        (1, "<id>3</id>", "<id>٣</id>"),
        (1, 'bytes="1"', 'bytes="1" bytes="1"'),
        (3, 'deleted="deleted"', 'deleted="deleted" bytes="1"'),
        (3, 'bytes="-1"', 'xml:space="preserve"'),
        (3, 'bytes="-1"', 'bytes="0" sha1=""'),
        (3, 'bytes="-1" deleted="deleted"', 'bytes="0"'),
        (1, 'xml:space="preserve">', 'xml:space="preserve" xml:space="preserve">'),
        (0, "Ünal", "\ufffe"),
        (2, "<model>wikitext</model>", "<model>css</model>"),
        (2, "<model>wikitext</model>", "<model></model>"),
        (2, "<text", "<model>css</model><text"),
        (0, "</revision>", "</revision><revision><id>9</id><text>later</text></revision>"),
        (0, "<ns>0</ns>", "<ns>-1</ns>"),
        (0, "<ns>0</ns>", ""),
        (0, "<page>", "<page >"),
    ],
)
def test_what_is_filled_in_otherwise_is_read_as_the_parser_reads_it(number: int, old: str, new: str) -> None:
    page = WRITTEN[number]
    assert page.count(old.encode()) >= 1
    xml = page.replace(old.encode(), new.encode(), 1) + WRITTEN[0]
    assert read(xml, None, ()) == parsed(xml, None, ())


def test_the_largest_pages_are_left_to_the_parser(
    monkeypatch: pytest.MonkeyPatch, refused: list[bytes]
) -> None:
    long = b"<page><title>L</title>" + WRITTEN[0].partition(b"</title>")[2].replace(b"more", b"more " * 2000)
    monkeypatch.setattr(page_form, "LONGEST_TEXT", 9_000)
    assert read(long, None, ()) == parsed(long, None, ()) and len(refused) == 1
    comment = WRITTEN[0].replace(b"/* A */", b"c" * page_form.LONGEST_FORM)
    assert read(comment, None, ()) == parsed(comment, None, ()) and len(refused) == 2


def test_our_own_exports_have_the_form(refused: list[bytes]) -> None:
    xml = "".join(export_xml(SITE, PAGES)).encode()
    begun = PAGE.search(xml)
    assert begun is not None
    xml = xml[begun.start() :]
    assert read(xml, None, ()) == parsed(xml, None, ()) and not refused


SPECIAL = ["<", ">", "&", '"', "'", "\n", "\t", "é", "中", "😀", "\x7f"]


@pytest.mark.parametrize("special", SPECIAL)
def test_a_reference_or_a_long_character_may_stand_anywhere_among_eight_bytes(special: str) -> None:
    content = Characters()
    for before in range(18):
        for behind in range(10):
            text = "a" * before + 2 * special + "b" * behind + special
            written = html.escape(text).encode()
            xml = b"." * before + written + b"</text></page>"
            assert content.read(xml, before) == (text.encode(), before + len(written))


def test_what_has_no_end_is_not_read_beyond_its_own() -> None:
    for size in range(40):
        assert Characters().read(b"a" * size, 0) is None
        assert Characters().read(b"a" * size + b"&lt", 0) is None
        assert Characters().read(b"a" * size + "中".encode()[:2], 0) is None


@given(st.text())
def test_characters_are_those_of_the_text(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert characters(text.encode()) == len(text)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u00a0\u3000", "\u2028", "\x85"])
def test_a_text_of_white_space_of_any_kind_is_blank(text: str) -> None:
    assert Page(1, 1, 0, "T", text.encode()).blank
    assert not Page(1, 1, 0, "T", f"{text}é{text}".encode()).blank
    assert not Page(1, 1, 0, "T", f"{text}!".encode()).blank


def test_without_a_compiler_the_parser_reads_all() -> None:
    code = (
        "from ingest.page_form import FormReader\nfrom tests.test_page_form import WRITTEN, read\n"
        "assert FormReader().read(WRITTEN[0], 0) is None\nprint(read(WRITTEN[0], None, ())[1])"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.slow
@pytest.mark.real_data
def test_every_page_of_the_real_dumps_has_the_form_and_is_read_as_the_parser_reads_it(
    data: Path, refused: list[bytes]
) -> None:
    dumps = [path for path in sorted((data / "dumps").rglob("*.bz2")) if "index" not in path.name]
    seen = 0
    for path in dumps:
        with path.open("rb") as stream:
            found = blocks(stream, path.stat().st_size, 0)
            xml = b"".join(each.data for each in itertools.islice(found, 40) if isinstance(each, Block))
        if (begun := PAGE.search(xml)) is not None:
            xml = xml[begun.start() :]
            made = read(xml, None, ())
            assert made == parsed(xml, None, ()), path.name
            seen += made[1]
    assert seen > 1000 and not refused
