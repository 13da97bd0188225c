"""What ingest.pages promises: every page is kept or dropped for a counted reason, whatever the XML holds."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import pages
from ingest.bzip2 import Loss
from ingest.pages import DROPPED, KEPT, Page, PageReader


def page(
    number: int, text: str = "Some text.", *, extra: str = "", body: str | None = None, ns: int = 0
) -> str:
    revision = body or (
        f"<revision><id>{number + 100}</id><timestamp>2020-01-01T00:00:00Z</timestamp><contributor>"
        f"<username>U</username><id>7</id></contributor><model>wikitext</model><format>text/x-wiki</format>"
        f'<text bytes="{len(text)}" xml:space="preserve">{escape(text)}</text><sha1>x</sha1></revision>'
    )
    return f"<page><title>Title {number}</title><ns>{ns}</ns><id>{number}</id>{extra}{revision}</page>\n"


def reader(xml: str | Iterable[bytes | Loss], **options: object) -> tuple[PageReader, list[Page]]:
    chunks = [xml.encode()] if isinstance(xml, str) else xml
    made = PageReader(chunks, **options)  # type: ignore[arg-type]
    kept = list(made)
    assert made.seen == made.kept + sum(made.dropped.values())
    assert made.kept == len(kept) and set(made.dropped) == set(DROPPED)
    assert set(made.sizes) == {KEPT, *DROPPED} and made.sizes[KEPT] == sum(each.size for each in kept)
    return made, kept


def test_a_page_has_its_ids_title_text_and_namespace() -> None:
    _, kept = reader(page(12, "Ein <b>Überblick</b> &c.\n\nMehr."))
    assert kept == [Page(12, 112, 0, "Title 12", "Ein <b>Überblick</b> &c.\n\nMehr.".encode())]


def test_every_dropped_page_is_counted_by_its_reason() -> None:
    hidden = '<revision><id>1</id><text deleted="deleted" /></revision>'
    css = "<revision><id>1</id><model>css</model><text>a {}</text></revision>"
    xml = (
        page(1)
        + page(2, ns=1)
        + page(3, "#REDIRECT [[Elsewhere]]", extra='<redirect title="Elsewhere" />')
        + page(4, " \n ")
        + page(5, body='<revision><id>1</id><text bytes="9" /></revision>')
        + page(6, body="<i/>")
        + page(7, body=hidden)
        + page(8, body=css)
        + page(9, ns=1, extra='<redirect title="Talk" />')
        + "<page><title>Cut</title><ns>0</ns><id>10</id><revision><id>1</id><text>And then"
    )
    made, kept = reader(xml)
    assert [each.page_id for each in kept] == [1]
    assert made.dropped == {"namespace": 2, "redirect": 1, "empty": 3, "deleted": 1, "model": 1, "cut": 1}
    assert made.redirects == [("Title 3", "Elsewhere")]
    assert made.cut == "The page 'Cut' is dropped behind 9 others of its split: the XML ends there."
    assert [each.page_id for each in reader(xml, namespaces=(1,))[1]] == [2]
    every, kept = reader(xml, namespaces=())
    assert [each.page_id for each in kept] == [1, 2] and not every.dropped["namespace"]
    assert [title for title, _ in every.redirects] == ["Title 3", "Title 9"]


def test_of_a_full_history_the_latest_revision_is_taken() -> None:
    def revision(number: int, day: int) -> str:
        when = f"<timestamp>2020-01-{day:02}T00:00:00Z</timestamp>"
        return f"<revision><id>{number}</id>{when}<text>text {number}</text></revision>"

    _, (one,) = reader(page(1, body=revision(7, 1) + revision(9, 3) + revision(8, 2)))
    assert (one.revision_id, one.text) == (9, "text 9")


def test_a_long_history_needs_no_more_memory_than_its_latest_revisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "LARGE_PAGE", 300_000)

    def chunks() -> Iterable[bytes]:
        yield b"<page><title>Long</title><ns>0</ns><id>1</id>"
        for number in range(600):
            when = b"<timestamp>%d</timestamp>" % (5000 if number == 300 else 1000 + number)
            yield b"<revision><id>%d</id>%s<text>" % (number, when)
            yield b"word " * 20_000
            yield b"%d</text></revision>" % number
        yield b"</page>"

    tracemalloc.start()
    made, (one,) = reader(chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert one.revision_id == 300 and one.text.endswith("word 300")
    assert peak < 5_000_000  # of 60 MB
    assert made.sizes[KEPT] == sum(map(len, chunks()))  # what was let go is counted


def test_memory_stays_flat_over_any_number_of_pages() -> None:
    def peak(count: int) -> int:
        chunk = "".join(page(each, "word " * 2000) for each in range(20)).encode()
        tracemalloc.start()
        made = PageReader(chunk for _ in range(count))
        assert sum(1 for _ in made) == 20 * count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(100) < 1.3 * peak(10)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_chunks_may_be_cut_anywhere(data: st.DataObject) -> None:
    xml = (
        "".join(page(each, "Größe 東京 & <x>" * each, ns=each % 2) for each in range(6)).encode()
        + b"</mediawiki>"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(xml)), max_size=8)))
    pieces = [xml[a:b] for a, b in zip([0, *cuts], [*cuts, len(xml)], strict=True)]
    made, kept = reader(pieces)
    whole, wanted = reader([xml])
    assert (made.dropped, made.sizes, kept) == (whole.dropped, whole.sizes, wanted)


def test_the_bytes_by_reason_are_those_of_the_pages_xml() -> None:
    one, talk = page(1, "Größe 東京"), page(2, ns=1)
    moved = page(3, "#REDIRECT [[Elsewhere]]", extra='<redirect title="Elsewhere" />')
    broken, foreign = page(4).replace("</revision>", ""), page(5).replace("<page>", '<page xmlns="x">')
    cut = "<page><title>Cut</title><ns>0</ns>"
    # Broken XML is read page by page, the rest as a batch: with both, and with the whole ones alone.
    for pieces in ([one, talk, moved, foreign], [one, talk, moved, broken, foreign, cut]):
        made, _ = reader("<mediawiki>" + "\n ".join(pieces) + "\n")
        there = {KEPT: [one], "namespace": [talk], "redirect": [moved]}
        there["cut"] = [each for each in pieces if each not in (one, talk, moved)]
        sizes = {why: sum(len(each.strip().encode()) for each in some) for why, some in there.items()}
        if cut in pieces:
            sizes["cut"] += len("\n")  # it goes on to the end of the file
        assert made.sizes == {**dict.fromkeys((KEPT, *DROPPED), 0), **sizes}


def test_what_stands_before_and_between_pages_is_passed_over() -> None:
    header = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><siteinfo><x>&y;</x></siteinfo>'
    whole = header + page(1) + page(2) + "</mediawiki>\n"
    made, kept = reader("\ufeff" + whole + whole)
    assert [each.page_id for each in kept] == [1, 2, 1, 2]
    assert made.cut is None


def test_a_page_that_is_not_well_formed_is_dropped_alone() -> None:
    bad = page(2).replace("</revision>", "")
    made, kept = reader(page(1) + bad + page(3) + page(4).replace("Some", "\x01") + page(5))
    assert [each.page_id for each in kept] == [1, 3, 5]
    assert made.dropped["cut"] == 2 and made.cut is not None
    assert made.cut.startswith(
        "The page 'Title 2' is dropped behind 1 others of its split: it is not well-formed"
    )
    made, kept = reader(page(1) + page(2).replace("<id>2</id>", "<id>two</id>") + page(3))
    assert [each.page_id for each in kept] == [1, 3] and made.dropped["cut"] == 1
    for number in ("9" * 20, "-1"):  # beyond int64
        made, kept = reader(page(1) + page(2).replace("<id>102</id>", f"<id>{number}</id>") + page(3))
        assert [each.page_id for each in kept] == [1, 3] and made.dropped["cut"] == 1
        assert made.cut is not None and f"its ids cannot be read ({number} is none)" in made.cut


def test_missing_bytes_cut_the_page_they_stand_in_and_no_other() -> None:
    first, second, third = (page(each).encode() for each in (1, 2, 3))
    loss = Loss(1000, 2000, "the bytes are damaged")
    made, kept = reader([first + second[:60], loss, second[-40:] + third])
    assert [each.page_id for each in kept] == [1, 3]
    assert made.dropped["cut"] == 1 and made.cut is not None and "bytes of the file are missing" in made.cut
    made, kept = reader([first, loss, second[-40:] + third])
    assert [each.page_id for each in kept] == [1, 3] and made.cut is None


@pytest.mark.parametrize(
    "hostile",
    [
        '<!DOCTYPE page [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE page SYSTEM "http://127.0.0.1:9/x.dtd">',
    ],
)
def test_a_document_type_never_reaches_the_parser(hostile: str) -> None:
    made, kept = reader("<?xml version='1.0'?>" + hostile + "<mediawiki>" + page(1) + "</mediawiki>")
    assert [each.page_id for each in kept] == [1]
    inside = page(2).replace("<title>", hostile + "<title>")
    made, kept = reader(page(1) + inside + page(3))
    assert [each.page_id for each in kept] == [1, 3] and made.dropped["cut"] == 1


def test_entities_are_not_resolved(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    declared = f'<!DOCTYPE mediawiki [<!ENTITY x SYSTEM "file://{secret}">]>'
    made, kept = reader(declared + "<mediawiki>" + page(1) + page(2).replace("Some", "&x;") + "</mediawiki>")
    assert [each.page_id for each in kept] == [1] and made.dropped["cut"] == 1


def test_bombs_of_depth_and_size_are_dropped_as_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = page(2, body="<a>" * 5000 + "</a>" * 5000)
    large = page(3, "x" * 10_000_001)
    made, kept = reader(page(1) + deep + large + page(4))
    assert [each.page_id for each in kept] == [1, 4] and made.dropped["cut"] == 2
    monkeypatch.setattr(pages, "LARGE_PAGE", 1 << 20)
    monkeypatch.setattr(pages, "LARGEST_PAGE", 2 << 20)
    endless = [page(5).encode(), b"<page><title>Endless</title>", *[b"x" * 100_000] * 60, page(6).encode()]
    made, kept = reader(endless)
    assert [each.page_id for each in kept] == [5, 6] and made.dropped["cut"] == 1
    assert made.cut == "The page 'Endless' is dropped behind 1 others of its split: it is larger than 2 MiB."


def test_a_bomb_of_tags_is_dropped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_TAGS", 2_000)
    bomb = page(2, body="<a/>" * 400_000)
    unended = "<page><title>Unended</title>" + "<b/>" * 400_000
    made, kept = reader(page(1) + bomb + unended + page(3, "large " * 200_000) + page(4))
    assert [each.page_id for each in kept] == [1, 3, 4] and made.dropped["cut"] == 2
    assert (
        made.cut == "The page 'Title 2' is dropped behind 1 others of its split: it has more than 2,000 tags."
    )


def test_what_libxml2_says_is_put_into_one_line() -> None:
    made, _ = reader(page(1) + page(2).replace("<text ", f'<text a="{"x" * 10_000_001}" ') + page(3))
    assert made.dropped["cut"] == 1 and made.cut is not None and "\n" not in made.cut


# How each hostile dump goes on behind its first page: its beginning, what is repeated and how often, its end.
BIG = b"<page><title>B</title><id>2</id>"
HUGE = {
    "pages without end": (b"", b"<page><title>a</title>", 4_000_000, b""),
    "a text": (BIG, b"word ", 60_000_000, b"</page>"),
    "elements": (BIG, b"<a/>", 15_000_000, b"</page>"),
    "instructions": (BIG, b"<?a b?>", 8_000_000, b"</page>"),
    "an attribute": (b"<page a='", b"x", 60_000_000, b"'></page>"),
    "depth": (BIG, b"<a>", 15_000_000, b"</page>"),
    "small pages": (b"", b"<page><title>B</title><ns>1</ns><id>2</id></page>", 2_000_000, b""),
}
PEAK = """
import re, sys
from pathlib import Path
from ingest.pages import PageReader
from tests.test_pages import HUGE, page

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10

def chunks():
    head, unit, count, tail = HUGE[sys.argv[1]]
    yield page(1).encode() + b" " * 1_000_000 + head
    for _ in range(count // 50_000):
        yield unit * 50_000
    yield tail + page(3).encode()

reader = PageReader(chunks())
pages = iter(reader)
next(pages)
before = peak()
for _ in pages:
    pass
print(peak() - before, reader.kept, reader.seen - sum(reader.dropped.values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(HUGE))
def test_no_dump_takes_more_memory_than_a_few_large_pages(kind: str) -> None:
    """The resident memory of the process, libxml2's share included, which tracemalloc does not see."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, kind],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    grown, kept, judged = map(int, done.stdout.split())
    print(f"\n{kind}: {grown} MiB")
    assert kept == judged == 2
    assert grown < (80 if kind == "small pages" else 350)  # MiB


def test_an_old_export_without_namespaces_and_marked_redirects_is_read() -> None:
    def old(number: int, title: str, text: str) -> str:
        revision = f"<revision><id>{number}</id><text>{text}</text></revision>"
        return f"<page><title>{title}</title><id>{number}</id>{revision}</page>"

    xml = (
        old(1, "Talk:One", "talk")
        + old(2, "Two", "#redirect : [[One|x]]")
        + old(3, "Drei", "#WEITERLEITUNG [[Eins#x]]")
        + old(4, "2001: A Space Odyssey", "A film.")
        + old(5, "Five", "# item [[with link]]")
    )
    made, kept = reader(xml, prefixes={"Talk": 1})
    assert [(each.page_id, each.namespace) for each in kept] == [(4, 0), (5, 0)]
    assert made.dropped["namespace"] == 1
    assert made.redirects == [("Two", "One"), ("Drei", "Eins")]
    # 0.4 marks them without saying where they lead
    xml = page(1, "#REDIRECT [[Target]]", extra="<redirect />")
    assert reader(xml)[0].redirects == [("Title 1", "Target")]


# What each version of the schema added (the notes at the head of its XSD), as the exporter wrote it.
TEXT, MODEL = '<text xml:space="preserve"{}>{}</text>', "<model>wikitext</model><format>text/x-wiki</format>"
SCHEMAS = {
    "0.3": ("", "", TEXT.format("", "{}")),
    "0.4": ("", "<redirect />", TEXT.format("", "{}")),
    "0.5": ("", "<redirect />", TEXT.format(' bytes="9"', "{}")),
    "0.6": ("<ns>{}</ns>", '<redirect title="One" />', "<sha1>x</sha1>" + TEXT.format(' bytes="9"', "{}")),
    "0.7": ("<ns>{}</ns>", '<redirect title="One" />', TEXT.format(' bytes="9"', "{}") + "<sha1>x</sha1>"),
    "0.8": ("<ns>{}</ns>", '<redirect title="One" />', TEXT.format("", "{}") + "<sha1>x</sha1>" + MODEL),
    "0.9": ("<ns>{}</ns>", '<redirect title="One" />', TEXT.format("", "{}") + "<sha1>x</sha1>" + MODEL),
    "0.10": (
        "<ns>{}</ns>",
        '<redirect title="One" />',
        MODEL + TEXT.format(' bytes="9"', "{}") + "<sha1>x</sha1>",
    ),
    "0.11": (
        "<ns>{}</ns>",
        '<redirect title="One" />',
        "<origin>8</origin>" + MODEL + TEXT.format(' bytes="9" sha1="x"', "{}") + "<sha1>x</sha1>",
    ),
}


@pytest.mark.parametrize("version", SCHEMAS)
def test_every_version_of_the_schema_says_the_same(version: str) -> None:
    namespace, redirect, body = SCHEMAS[version]

    def written(number: int, title: str, ns: int, text: str, is_redirect: bool = False) -> str:
        head = f"<title>{title}</title>{namespace.format(ns)}<id>{number}</id>{redirect * is_redirect}"
        when = "<timestamp>2020-01-01T00:00:00Z</timestamp><contributor><ip>10.0.0.1</ip></contributor>"
        revision = f"<id>{number + 50}</id>{when}<minor /><comment>c &amp; d</comment>{body.format(text)}"
        return f"<page>{head}<revision>{revision}</revision></page>"

    xml = (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-{version}/" version="{version}">'
        + written(1, "One", 0, "A &lt;b&gt;.")
        + written(2, "Two", 0, "#REDIRECT [[One]]", True)
        + written(3, "Talk:One", 1, "Talk.")
        + "</mediawiki>"
    )
    made, kept = reader(xml, prefixes={} if namespace else {"Talk": 1})
    assert kept == [Page(1, 51, 0, "One", b"A <b>.")]
    assert made.redirects == [("Two", "One")] and made.dropped["namespace"] == 1 and made.seen == 3


def test_content_slots_of_the_newest_schema_leave_the_main_text_alone() -> None:
    slot = "<content><role>mediainfo</role><model>json</model><text>{}</text></content>"
    body = f"<revision><id>5</id><model>wikitext</model><text>Main.</text>{slot}</revision>"
    _, (one,) = reader(page(1, body=body))
    assert (one.text, one.model) == ("Main.", "wikitext")


def test_no_pages_are_no_error() -> None:
    made, kept = reader("<mediawiki></mediawiki>")
    assert not kept and made.seen == 0 and made.cut is None
