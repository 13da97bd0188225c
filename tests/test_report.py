"""Reports: what a person sees of an artefact, made of its files alone; nothing that the data say gets out."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import wordloom
from cluster import picture, report
from cluster.artefact import Artefact, Draft
from cluster.errors import WordloomError
from cluster.folder import HashingWriter
from cluster.report import Difference, Report
from ingest import corpus_report
from ingest.settings import IngestSettings
from tests.kept_artefacts import KEPT, KINDS
from tests.test_loop import Ears
from tests.test_wikipedia import by_hand, plain_dump, some_pages
from tests.toy_learner import ToyLearner
from trainers import model_report
from trainers.group import LocalGroup
from trainers.loop import LoopSettings, produce

HOSTILE = "<script>alert(1)</script>\"'&</td><img src=http://evil.example/x> $x_1$ #000000 url(#a)"
# What the report of each kind shows, by the headings of its sections.
SHOWN = {
    "corpus": [
        "Pages by what became of them",
        "Tokens by frequency",
        "Coverage of a vocabulary",
        "Lengths",
    ],
    "vocabulary": ["Tokens by frequency", "Coverage of a vocabulary"],
    "sequences": ["Sequences by split", "Labels", "Lengths", "Tokens by frequency"],
    "vectors": ["Learning curves", "The map of words", "Neighbours"],
    "language-model": ["Bits a character of held-out text", "Learning curves"],
    "sentiment": [
        "against the baseline",
        "Learning curves",
        "Confusion",
        "Calibration",
        "The worst mistakes",
    ],
    "labelling": ["left for the test", "Learning curves", "The worst mistakes"],
}
pytestmark = pytest.mark.draws
EMPTY = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """What a browser makes of a page: its elements, whether they are closed in order, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def copied(kind: str, folder: Path) -> Artefact:
    """A kept artefact that may be written beside."""
    return Artefact.open(shutil.copytree(KEPT / "1" / kind, folder / kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_report_of_its_own_made_of_its_files(kind: str, tmp_path: Path) -> None:
    artefact = copied(kind, tmp_path)
    before = {path: path.read_bytes() for path in Path(artefact.location).rglob("*") if path.is_file()}
    made = report.made(artefact, model_report.KINDS)
    place = Path(made.write(artefact))
    page = Reader(place.read_text("utf-8"))
    assert all(heading in page.words for heading in [*SHOWN[kind], "Where it comes from"])
    assert page.tags.count("svg") == len(made.pictures) >= 1
    styles = [value or "" for name, value in page.attributes if name == "style"]
    # Nothing in a picture stands on a white of its own, where text in the page's light ink could not be read.
    assert not any("#ffffff" in style or "#000000" in style for style in styles)
    for name in made.pictures:
        drawn = place.parent / report.PICTURES / f"{name}.png"
        assert f"{name}.png" in artefact.manifest.files or drawn.read_bytes().startswith(b"\x89PNG")
    # A view: nothing of the artefact is changed, and made again it is the same, byte for byte.
    assert {path: path.read_bytes() for path in before} == before
    artefact.verify()
    again = report.made(Artefact.open(artefact.location), model_report.KINDS)
    assert again.html() == place.read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_names_no_address_and_lets_the_browser_load_and_run_nothing(kind: str) -> None:
    page = Reader(report.made(Artefact.open(KEPT / "1" / kind), model_report.KINDS).html())
    links = {value for name, value in page.attributes if name in ("href", "src", "xlink:href", "srcset")}
    assert all(value is not None and value.startswith("#") for value in links)
    assert not any("http" in (value or "") or "//" in (value or "") for _, value in page.attributes)
    assert not {"script", "img", "link", "iframe", "object", "a"} & {*page.tags}
    assert ("content", report.POLICY) in page.attributes and report.POLICY.startswith("default-src 'none'")
    identifiers = [value for name, value in page.attributes if name == "id"]
    assert {value for value in links if value} <= {f"#{each}" for each in identifiers}


def test_what_the_data_say_is_shown_as_it_is_and_never_becomes_markup() -> None:
    made = Report(HOSTILE, HOSTILE)
    made.section(HOSTILE)
    made.text(HOSTILE)
    made.quote(HOSTILE, HOSTILE)
    made.facts({HOSTILE: HOSTILE})
    made.folded(HOSTILE, {HOSTILE: HOSTILE})
    made.table((HOSTILE,), [[HOSTILE], [Difference(HOSTILE)], [[HOSTILE, {HOSTILE: 1}]]], HOSTILE)
    made.bars([(HOSTILE, 1.0, HOSTILE)])
    drawn = picture.figure(3, 2)
    drawn.subplots().text(0, 0, HOSTILE, parse_math=False)
    made.picture("hostile", drawn, HOSTILE)
    page = Reader(made.html())
    assert not {"script", "img"} & {*page.tags}
    assert not any("evil" in (value or "") for name, value in page.attributes if name != "aria-label")
    # As often as it was given (but for the words of a screen reader), and the title once more for the tab.
    assert page.words.count(HOSTILE) == 22


def test_hostile_words_labels_and_texts_of_an_artefact_are_only_shown(tmp_path: Path) -> None:
    artefact = copied("sentiment", tmp_path)
    path = Path(artefact.location) / "report.json"
    found = json.loads(path.read_text())
    found["labels"] = [HOSTILE, "$"]
    found["mistakes"] = [
        {"id": "x", "label": HOSTILE, "predicted": "$", "probability": 0.9, "text": HOSTILE},
    ]
    path.write_text(json.dumps(found))
    page = Reader(report.made(Artefact.open(artefact.location), model_report.KINDS).html())
    assert not {"script", "img"} & {*page.tags} and page.words.count(HOSTILE) == 2
    assert page.words.count(HOSTILE[: model_report.LABEL]) == 4  # the picture shows a label's beginning


def test_a_language_model_shows_what_it_wrote_from_the_first_epoch_to_the_last(tmp_path: Path) -> None:
    artefact = copied("language-model", tmp_path)
    path = Path(artefact.location) / "history.json"
    (entry,) = json.loads(path.read_text())
    told = [{**entry, "epoch": n, "position": n, "sample": f"text {n}\n{HOSTILE}"} for n in range(1, 31)]
    path.write_text(json.dumps(told))
    words = Reader(report.made(artefact, model_report.KINDS).html()).words
    assert words.count(HOSTILE) == model_report.SAMPLES
    assert "After epoch 1:text 1\n" in words and "After epoch 30:text 30\n" in words


def test_a_picture_takes_the_colours_of_the_page_and_keeps_its_text() -> None:
    drawn = picture.figure(3, 2)
    axes = drawn.subplots()
    axes.plot([0, 1], [0, 1], color="tab:blue")
    axes.set_title("日本 title")
    made = picture.svg(drawn, "some", "a line")
    assert "currentColor" in made and "#000000" not in made and "日本 title" in made
    assert 'role="img"' in made and 'aria-label="a line"' in made
    assert "#ffffff" not in made  # the page's own background is seen through it
    assert "figure svg text { fill: currentColor; }" in report.STYLE  # black text has no colour of its own
    assert set(re.findall(r' id="([^"]+)"', made)) and all(
        each.startswith("some-") for each in re.findall(r' id="([^"]+)"', made)
    )


def test_a_damaged_file_is_named_and_costs_no_model(tmp_path: Path) -> None:
    artefact = copied("sentiment", tmp_path)
    (Path(artefact.location) / "history.json").write_text("{")
    with pytest.raises(WordloomError, match=r"No report of .* damaged"):
        report.made(artefact, model_report.KINDS)
    said = report.attempt(artefact, model_report.KINDS)
    assert said is not None and "`wordloom report` tries again" in said
    assert Artefact.open(artefact.location).identity == artefact.identity


def test_the_speed_over_time_is_that_which_the_run_noted(tmp_path: Path) -> None:
    artefact = copied("corpus", tmp_path)
    path = Path(artefact.location) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["made"]["speed"] = [[0.0, 0, 0], [2.0, 4_000_000, 60], [4.0, 12_000_000, 120]]
    path.write_text(json.dumps(manifest))
    made = report.made(Artefact.open(artefact.location), corpus_report.KINDS)
    assert "speed" in made.pictures
    assert "12.0 MB and 120 pages in 4.0 s: 3.0 MB/s, 30 pages/s." in Reader(made.html()).words


def test_ingest_leaves_a_report_beside_the_corpus(tmp_path: Path) -> None:
    by_hand(plain_dump(tmp_path, some_pages(30)), tmp_path / "corpus", IngestSettings())
    words = Reader((tmp_path / "corpus" / report.FILE).read_text("utf-8")).words
    assert "Pages by what became of them" in words and "Bytes by what became of them" in words
    assert re.search(r"redirect[\d.]+ B \([\d.]+%\)", words)
    assert not [name for name in Artefact.open(tmp_path / "corpus").manifest.files if name in report.VIEWS]


def test_training_leaves_a_report_that_says_where_the_time_went(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "toy", kind="toy", output_version=1, inputs={}, settings={})
    produce(ToyLearner(seconds=0.01), draft, LocalGroup(), LoopSettings(epochs=2), Ears())
    phases = Artefact.open(tmp_path / "toy").manifest.made["phases"]
    assert {*phases} == {"training", "exchange between workers", "evaluation", "checkpoints", "publishing"}
    assert phases["training"] >= 0.08  # eight blocks of .01 s
    words = Reader((tmp_path / "toy" / report.FILE).read_text("utf-8")).words
    assert "Where the time went" in words and all(name in words for name in phases)


def test_an_import_leaves_a_report_of_its_words(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("king 1 0\nqueen 1 .1\ncat 0 1\n")
    command = ["import", "vectors", str(tmp_path / "vectors.txt"), "--output", str(tmp_path / "made")]
    assert wordloom.main([*command, "--quiet"]) == 0
    page = tmp_path / "made" / "report.html"
    assert "The map of words" in page.read_text()
    page.unlink()
    assert wordloom.main([*command, "--quiet"]) == 0  # what an earlier version imported gets one, too
    assert page.exists()


def test_no_training_code_is_needed_for_a_report() -> None:
    code = (
        "import sys\n"
        "from cluster import report\nfrom cluster.artefact import Artefact\n"
        "from trainers.model_report import KINDS\n"
        f"for kind in {KINDS!r}: report.made(Artefact.open({str(KEPT / '1')!r} + '/' + kind), KINDS).html()\n"
        "assert not {'tensorflow', 'ray', 'keras', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_makes_the_page_beside_the_files_or_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = copied("vocabulary", tmp_path)
    assert wordloom.main(["report", artefact.location]) == 0
    assert capsys.readouterr().out.strip() == f"{artefact.location}/report.html"
    assert wordloom.main(["report", artefact.location, "--output", f"{tmp_path}/own.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == f"{tmp_path}/own.html"
    assert (tmp_path / "own.html").read_text() == Path(artefact.location, "report.html").read_text()
    assert wordloom.main(["report", artefact.location, "--output", f"{tmp_path}/own.html/in.html"]) == 1
    assert "choose another folder" in capsys.readouterr().err
    for command in (["report", artefact.location], ["compare", artefact.location, artefact.location]):
        assert wordloom.main([*command, "--output", f"{artefact.location}/manifest.json"]) == 2
        assert "belongs to an artefact" in capsys.readouterr().err
    artefact.verify()
    assert Artefact.open(artefact.location).identity == artefact.identity


def test_a_page_that_breaks_off_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.html").write_text("earlier")

    def broken(self: object, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HashingWriter, "write", broken)
    with pytest.raises(WordloomError, match="No space left"):
        Report("title", "lead").save(str(tmp_path / "own.html"))
    assert (tmp_path / "own.html").read_text() == "earlier"
