"""Stripping wiki markup: what stays, what goes, and that hostile text costs linear time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.markup import Stripper

STRIPPER = Stripper({"Fail": 6, "Rühm": 14})


def strip(text: str) -> str:
    return STRIPPER.strip(text).text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        # links
        ("A [[cat]] and [[Dog|dogs]]s.", "A cat and dogss."),
        ("[[:Category:Cats]] [[Help:Contents (x)|]]", "Category:Cats Contents"),
        ("[[a|''b'' {{x|[[c]]}}d]]", "b d"),
        ("[[wikt:word]] [[de:Katze]][[zh-min-nan:Niau]] [[simple:Cat]]", "wikt:word"),
        ("[http://x.org/a_b label here] [https://x.org] [//x y]", "label here y"),
        # files and categories
        ("[[File:a.jpg|thumb|200px|A [[cat]] {{x}} [http://y z]]]Text", "Text"),
        ("[[Fichier:a.jpg|vignette]][[画像:a.jpg]][[Fail:b.png|pisi]]Text", "Text"),
        ("Text[[Category:Cats|*]]\n[[Rühm:Kassid]]", "Text"),
        # templates
        ("a {{b|c={{d|{{e}}}}|f}} g", "a g"),
        ("{{Infobox\n| a = [[b]]\n| c = {{d\n}}\n}}\n'''Text'''", "Text"),
        ("{{convert|5|km|mi}}, {{convert|5|to|10|km|mi|abbr=on}}", "5 km, 5 to 10 km"),
        ("{{formatnum:1234.5}} {{Formatnum: 7 }}", "1234.5 7"),
        ("{{lang|fr|l'[[eau]] ''bleue''}} {{lang-de|Wasser}}", "l'eau bleue Wasser"),
        ("{{nowrap|1 = {{convert|2|m}}}}", "2 m"),
        ("{{nowrap|1=a {{convert|2|m}}}}", "a 2 m"),
        ("{{quote|text=x|Good words}}{{frac|3|1|2}} {{as of|2010|5}}", "Good words3 1/2 As of 2010 5"),
        # brackets without a partner are text
        ("a {{b c [[d]] e", "a {{b c d e"),
        ("a }} b ]] c |} d [[e", "a }} b ]] c |} d [[e"),
        ("{{a|[[b}} c", "c"),
        # tables
        ("x\n{| class=a\n|-\n| b || {{c|}}\n{|\n| d\n|}\n|}\ny", "x\n\ny"),
        (":{|\n|a\n|}\nb", "b"),
        # tags, comments, protected content
        ("a<!-- b {{ -->c<!-- d", "ac"),
        ("a<ref name=x>b {{c}}</ref> d<ref name=x /> e<REF>f</Ref>", "a d e"),
        ("<math>\\frac{{a}}</math>x<gallery>\nFile:a\n</gallery>", "x"),
        ("<b>a</b> <span style='x'>b</span><br/>c < d > e", "a b\nc < d > e"),
        ("<nowiki>[[a]] {{b}} ''c'' &amp;</nowiki>", "[[a]] {{b}} ''c'' &"),
        ("<ref>never closed [[a]]", "never closed a"),
        ("&lt;b&gt; a&nbsp;b &eacute; &#x65E5;", "<b> a b é 日"),
        # lines
        ("== A ''b'' ==\ntext\n===C===\n", "A b\n\ntext\n\nC"),
        ("x = y\n= z", "x = y\n= z"),
        ("* a\n** b\n# c\n:; d\n----\ne", "a\nb\nc\nd\n\ne"),
        ("'''bold''' ''it'' '''''both''''' l''''a''' don't", "bold it both l'a don't"),
        ("__NOTOC__a\n\n\n\nb  c \n d", "a\n\nb c\nd"),
        ("Cat ({{IPA|x}}; ) is", "Cat is"),
        ("-{zh-hans:计算机;zh-hant:電腦}- -{文}-", "计算机 文"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_what_stays_and_what_goes(markup: str, text: str) -> None:
    assert strip(markup) == text


def test_categories_are_handed_back() -> None:
    markup = "a[[Category:Black cats|b]][[category: Dogs ]][[Kategorie:Tiere]][[Rühm:Kassid]]"
    stripped = STRIPPER.strip(markup)
    assert stripped.categories == ["Black cats", "Dogs", "Tiere", "Kassid"]


def test_paragraphs_stay_apart() -> None:
    assert strip("a\nb\n\n{{x}}\n\nc") == "a\nb\n\nc"


# "_" stands for a space.
HOSTILE = """{{ }} [[ ]] {| \\n{| \\n|} {{lang|a| [[a| <ref> <!-- <nowiki> < <a_ ' {{[[ [[{{]] =_ \\n=_= -{
    [http:// [http://a_ (_ __\\n \\n & __A <math>{{ ]]]"""


@pytest.mark.parametrize("piece", HOSTILE.split())
def test_hostile_repetition_ends_soon(piece: str) -> None:
    # Quadratic work on a hundred thousand characters would outlast any patience.
    for end in ("", "}}", "]]", "\n|}", "</ref>"):
        mark = piece.replace("_", " ").replace("\\n", "\n")
        strip(mark * (100_000 // len(mark)) + end)


@pytest.mark.parametrize(
    ("opening", "closing", "left"),
    [
        ("[[a|", "]]", "x"),
        ("{{", "}}", ""),
        ("{{lang|a|", "}}", ""),
        ("\n{|\n|", "\n|}", ""),
        ("<div>", "</div>", "x"),
        ("'''", "'''", "x"),
    ],
)
def test_markup_nested_ten_thousand_deep_is_stripped(opening: str, closing: str, left: str) -> None:
    assert strip(opening * 10_000 + "x" + closing * 10_000) == left


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["{{", "}}", "[[", "]]", "|", "\n{|", "\n|}", "<ref>", "</ref>", "a", ":", "lang", "=", "''"]
        )
    )
)
def test_any_heap_of_markup_is_survived_and_lone_words_stay(pieces: list[str]) -> None:
    strip("".join(pieces))
    assert strip("{{" + "[[" * len(pieces) + " word").endswith("word")
