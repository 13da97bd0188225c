"""The embedded dump: made from what is installed, genuine in form, the same each time."""

from __future__ import annotations

import bz2
import gc
import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from lxml import etree

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.progress import Reporter
from ingest import docstrings, sample
from ingest.export import sha1_base36
from ingest.pages import PageReader
from ingest.sample import FILE, SampleSettings, make_sample
from tests.test_export import PAGE_ORDER, REVISION_ORDER, follows

QUIET = Reporter(quiet=True)
SMALL = SampleSettings(packages=("numpy", "python"), size=400_000)


def xml_of(artefact: Artefact) -> bytes:
    reader = bz2.BZ2Decompressor()
    data = reader.decompress(artefact.folder.read(FILE))
    assert reader.eof and not reader.unused_data  # one stream and nothing behind it
    return data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return make_sample(str(tmp_path_factory.mktemp("sample") / "a"), SMALL, QUIET)


@pytest.fixture(scope="module")
def root(made: Artefact) -> etree._Element:
    return etree.fromstring(xml_of(made), etree.XMLParser(huge_tree=True))


def test_it_is_a_sound_artefact_with_counts(made: Artefact, root: etree._Element) -> None:
    made.verify()
    assert made.kind == "sample" and list(made.manifest.files) == [FILE]
    pages = root.findall("{*}page")
    assert made.counts["pages"] == len(pages)
    assert made.counts["redirects"] == sum(page.find("{*}redirect") is not None for page in pages)
    assert made.counts["xml_bytes"] == len(xml_of(made))
    assert made.counts["namespaces"] == dict(Counter(page.findtext("{*}ns") for page in pages))
    assert set(made.counts["modules"]) == {"numpy", "python"}


def test_the_size_is_kept_to(made: Artefact) -> None:
    assert SMALL.size <= made.counts["xml_bytes"] < 3 * SMALL.size  # the last module, letters and the frame


def test_every_page_has_the_form_of_the_schema(root: etree._Element) -> None:
    identifiers = []
    for page in root.findall("{*}page"):
        revision = page.find("{*}revision")
        assert follows(page, PAGE_ORDER) and follows(revision, REVISION_ORDER)
        identifiers.append(int(page.findtext("{*}id")))
        text = revision.find("{*}text")
        if text.get("deleted") is None:
            assert int(text.get("bytes")) == len((text.text or "").encode())
            assert text.get("sha1") == sha1_base36(text.text or "")
    assert identifiers == sorted(set(identifiers))
    titles = [page.findtext("{*}title") for page in root.findall("{*}page")]
    assert len(set(titles)) == len(titles)


def test_it_holds_what_real_dumps_hold(root: etree._Element) -> None:
    pages = root.findall("{*}page")
    assert {"0", "1", "4", "8", "10", "12", "14", "828"} <= {page.findtext("{*}ns") for page in pages}
    assert {page.findtext("{*}revision/{*}model") for page in pages} == {"wikitext", "css", "Scribunto"}
    texts = [page.find("{*}revision/{*}text") for page in pages]
    assert any(text.get("bytes") == "0" and text.get("deleted") is None for text in texts)
    assert sum(text.get("deleted") == "deleted" for text in texts) == 1
    titles = {page.findtext("{*}title") for page in pages}
    assert {"Ω", "Ж", "א", "あ"} <= titles
    whole = "\n".join(text.text or "" for text in texts)
    for markup in (
        "'''",
        "[[numpy",
        "|",
        "\n== ",
        "\n* ",
        "{{Infobox",
        "{| class=",
        "<code>",
        "[[Category:",
        "<!--",
    ):
        assert markup in whole, markup


def test_every_redirect_leads_to_a_page(root: etree._Element) -> None:
    titles = {page.findtext("{*}title") for page in root.findall("{*}page")}
    for page in root.findall("{*}page"):
        if (redirect := page.find("{*}redirect")) is not None:
            assert redirect.get("title") in titles
            assert (page.findtext("{*}revision/{*}text") or "").startswith("#REDIRECT [[")


def test_the_reader_of_dumps_finds_the_articles(made: Artefact) -> None:
    reader = PageReader([xml_of(made)])
    pages = list(reader)
    assert len(pages) == made.counts["articles"]
    assert reader.seen == made.counts["pages"] and not reader.cut
    for reason in ("redirect", "namespace", "empty", "deleted"):
        assert reader.dropped[reason] > 0, reason


def test_most_of_it_is_prose(root: etree._Element) -> None:
    texts = [
        p.findtext("{*}revision/{*}text") or "" for p in root.findall("{*}page") if p.findtext("{*}ns") == "0"
    ]
    words = re.findall(r"\w+", "\n".join(text for text in texts if not text.startswith("#REDIRECT")).lower())
    assert sum(word.isalpha() for word in words) > 0.85 * len(words)
    assert sum(word in ("the", "of", "a", "is", "to", "and") for word in words) > 0.12 * len(words)


def test_the_same_packages_give_the_same_bytes(made: Artefact, tmp_path: Path) -> None:
    again = make_sample(str(tmp_path / "b"), SMALL, QUIET)
    assert again.manifest.files == made.manifest.files and again.identity == made.identity


def test_a_finished_sample_is_not_made_again(made: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "write_export", lambda *_: pytest.fail("made again"))
    assert make_sample(made.location, SMALL, QUIET).manifest == made.manifest


def test_another_version_of_a_package_is_another_sample(
    tmp_path: Path, made: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = docstrings.version_of
    monkeypatch.setattr(docstrings, "version_of", lambda name: real(name) + ".1")
    assert make_sample(str(tmp_path / "c"), SMALL, QUIET).identity != made.identity


DEMO = '''"""Reads & writes *things*.

See `loomdemo.other` and :func:`~loomdemo.read` [1]_; the values are [[1, 2]].

.. [1] A. Writer, "Things", 2020.
"""

class Reader:
    """Reads a thing from the place where it lies, a piece at a time.

    Parameters
    ----------
    size : int
        How much is read at once, in bytes; the larger the faster.

    Raises
    ------
    ValueError
        If the size is not positive.
    """

def read(place):
    """Returns the thing that lies in a place, whole and as it is.

    Nothing is kept of it here, and a thing that is large takes its time: read it piece by piece
    where that matters, or leave it where it lies.

    Args:
        place: Where it lies, as a path
            or an address.

    Example::

        thing = read("here")
    """
'''


def test_golden_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails because the output was changed on purpose: raise OUTPUT_VERSION, then mend the sum."""
    (tmp_path / "loomdemo" / "other").mkdir(parents=True)
    (tmp_path / "loomdemo" / "__init__.py").write_text(DEMO)
    (tmp_path / "loomdemo" / "other" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(docstrings, "version_of", lambda name: "1.0")
    monkeypatch.setattr(sample, "LETTERS", ((0x03B1, 0x03B3),))
    made = make_sample(str(tmp_path / "out"), SampleSettings(packages=("loomdemo",), size=10**6), QUIET)
    data = xml_of(made)
    text = (
        etree.fromstring(data)
        .xpath("//*[local-name()='page'][*[1]='loomdemo']//*[local-name()='text']")[0]
        .text
    )
    assert "Reads &amp; writes ''things''." in text
    assert "=== Parameters ===\n\n* <code>size</code> (''int''): How much" in text
    assert (sample.OUTPUT_VERSION, hashlib.sha256(data).hexdigest()) == (
        1,
        "252bf4f1f19df924ff977b9143d140058ba51190a11d6a272946dc4daa3160bd",
    )


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"size": 0}, "sample.size"),
        ({"packages": ()}, "sample.packages"),
        ({"packages": ("nosuch",)}, "nosuch"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_sentence(
    tmp_path: Path, settings: dict[str, object], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        make_sample(str(tmp_path / "out"), SampleSettings(**settings), QUIET)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_the_cycle_collector_is_left_as_it_was(made: Artefact) -> None:
    assert gc.isenabled()
