"""The page in a real browser, used as a person would, on small trained models. Needs Debian's chromium.

Screenshots lie in pytest's temporary folder; each shape's test prints where.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from cluster import report
from cluster.artefact import Artefact
from ingest.settings import IngestSettings
from serving import application, models
from serving.keys import Keys, Secrets
from serving.labels import Labels
from serving.sentiment import Sentiment
from serving.settings import ServingSettings
from serving.text import Text
from serving.words import Words
from tests import kept_artefacts, page_models
from tests.test_application import served
from tests.test_wikipedia import by_hand, plain_dump, some_pages
from trainers import comparison, model_report
from trainers.generation import CharacterModel
from trainers.sentiment_model import SentimentModel

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make install)")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (apt-get install chromium)"),
]
SHAPES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1100, "height": 800}},
    "dark": {"viewport": {"width": 1100, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}, "has_touch": True},
}
PANELS = ("Words", "Sentiment", "Handwriting", "Text", "About")
PATIENCE = 30_000  # ms that a condition may take on a busy machine; what fails waits so long, nothing else


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    page_models.make(folder)
    return folder


@pytest.fixture(scope="module")
def site(home: Path) -> Iterator[str]:
    """All kinds of models, served without Ray."""
    found = models.find(str(home))
    # Without the warming of a server, which compiles shapes that nobody asks for here.
    openers: dict[str, Callable[[str], Any]] = {
        models.VECTORS: Words.open,
        models.LANGUAGE_MODEL: lambda place: Text(CharacterModel.open(place)),
        models.SENTIMENT: lambda place: Sentiment(SentimentModel.open(place)),
        models.LABELLING: Labels.open,
    }
    cores = {kind: openers[kind](model.location) for kind, model in found.items()}
    beside = found[models.LABELLING].beside
    assert beside is not None
    cores[models.LABELLING].beside = Labels.open(beside.location)
    with served(application.build(cores, found, ServingSettings())) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield (made := driver.chromium.launch(executable_path=CHROMIUM, args=["--no-proxy-server"]))
        made.close()


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")


class Visit:
    """A page in a browser of a certain shape, and what it asked for and complained of."""

    def __init__(self, context: Any, url: str, *, ready: bool = True) -> None:
        self.url = url
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        playwright.expect.set_options(timeout=PATIENCE)
        self.page.goto(f"{url}/")
        if ready:
            expect(self.page.get_by_role("main")).to_have_attribute("aria-busy", "false")

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(f"{self.url}/"):
            self.elsewhere.append(request.url)

    def open(self, panel: str) -> Any:
        """Walks to a panel by its link."""
        self.page.get_by_role("link", name=panel, exact=True).click()
        opened = self.page.get_by_role("region", name=panel, exact=True)
        playwright.expect(opened).to_be_visible()
        return opened


@contextlib.contextmanager
def visiting(browser: Any, url: str, shape: str = "light", *, ready: bool = True) -> Iterator[Visit]:
    """A visit that must end without a complaint and without a request to anybody else."""
    context = browser.new_context(**SHAPES[shape])
    try:
        visit = Visit(context, url, ready=ready)
        yield visit
        assert not visit.complaints
        assert not visit.elsewhere
    finally:
        context.close()


def expect(what: Any) -> Any:
    return playwright.expect(what)


def test_the_first_view_is_there_at_once(
    browser: Any, site: str, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with visiting(browser, site) as visit:
        expect(visit.page.locator("#near li").first).to_be_visible()
        milliseconds = visit.page.evaluate("performance.getEntriesByName('first view')[0].startTime")
        record_property("first_view_milliseconds", milliseconds)
        with capsys.disabled():
            print(f"\nfirst view with its answer after {milliseconds:.0f} ms")


def test_words_are_looked_up_walked_along_and_compared(browser: Any, site: str) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("Words")
        panel.get_by_label("A word").fill("Music")
        panel.get_by_label("A word").press("Enter")
        expect(panel.get_by_role("heading", name="Nearest to “music”")).to_be_visible()
        trail = panel.locator("#trail button").all_inner_texts() or [
            "music"
        ]  # of the page's own beginning, too
        assert trail[-1] == "music"
        word = next(each for each in panel.locator("#near button").all_inner_texts() if each not in trail)
        panel.locator("#near").get_by_role("button", name=word, exact=True).click()
        expect(panel.get_by_role("heading", name=f"Nearest to “{word}”")).to_be_visible()
        expect(panel.locator("#trail button")).to_have_text([*trail, word])
        shares = panel.locator("#near span").all_inner_texts()
        assert shares == sorted(shares, reverse=True) and len(shares) == 12
        expect(panel.locator("#map circle")).to_have_count(41)
        named = panel.locator("#map text").all_text_contents()
        further = next(place for place, each in enumerate(named) if each not in (*trail, word))
        panel.locator("#map text").nth(further).click()
        expect(panel.locator("#trail button")).to_have_text([*trail, word, named[further]])
        for name, asked in (("a", "film"), ("b", "was"), ("c", "music")):
            panel.get_by_label(name, exact=True).fill(asked)
        panel.get_by_role("button", name="Answer").click()
        expect(panel.locator("#analogy li")).to_have_count(5)


def test_an_unknown_word_is_a_sentence_with_near_spellings(browser: Any, site: str) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("Words")
        panel.get_by_label("A word").fill("musik")
        panel.get_by_role("button", name="Look up").click()
        expect(panel.get_by_role("status").first).to_contain_text("The word 'musik' is not in the vocabulary")
        panel.get_by_role("status").first.get_by_role("button", name="music").click()
        expect(panel.get_by_role("heading", name="Nearest to “music”")).to_be_visible()
        expect(panel.get_by_role("status").first).to_be_empty()
        # Chromium notes each answer that is an error; it was asked for.
        assert len(visit.complaints) == 1 and "404" in visit.complaints.pop()


def test_an_answer_that_took_too_long_is_a_sentence_and_the_next_try_works(browser: Any, home: Path) -> None:
    found = {models.VECTORS: models.find(str(home))[models.VECTORS]}
    app = application.build({models.VECTORS: Words.open(found[models.VECTORS].location)}, found)
    late: list[Response] = []

    @app.middleware("http")
    async def ended(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        return late[0] if late and request.url.path.endswith("/map") else await go_on(request)

    unfinished = {"error": {"message": "The body did not come whole.", "code": "unfinished"}}
    with served(app) as url, visiting(browser, url) as visit:
        panel = visit.open("Words")
        told = panel.get_by_role("status").first
        for answer, sentence in (
            (PlainTextResponse("Request timed out.", 408), "The server took too long; try again."),  # Serve's
            (JSONResponse(unfinished, 408), "The body did not come whole."),  # ours
        ):
            late[:] = [answer]
            panel.get_by_label("A word").fill("music")
            panel.get_by_role("button", name="Look up").click()
            expect(told).to_have_text(sentence)
            # Chromium notes each answer that is an error; it was asked for.
            assert len(visit.complaints) == 1 and "408" in visit.complaints.pop()
            late.clear()
            panel.get_by_role("button", name="Look up").click()
            expect(panel.get_by_role("heading", name="Nearest to “music”")).to_be_visible()
            expect(told).to_be_empty()


def test_the_verdict_follows_the_typing_and_a_negation_turns_it(browser: Any, site: str) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("Sentiment")
        panel.get_by_label("A review").press_sequentially("everybody could seriously claim that the plot was")
        panel.get_by_label("A review").press_sequentially(" quite dull.")
        verdict = panel.locator("#verdict-label")
        expect(verdict).to_have_text("negative")
        expect(panel.locator("#tinted mark")).to_have_count(11)
        assert panel.locator("#tinted").inner_text() == panel.get_by_label("A review").input_value()
        panel.get_by_role("button", name="nobody could seriously").click()
        expect(verdict).to_have_text("positive")
        # What moved the reading most is tinted most; the way is in the style, not in the colour alone.
        shares = [
            float(each.evaluate("mark => mark.style.getPropertyValue('--share')")) for each in marks(panel)
        ]
        assert max(shares) == 1 and len(set(shares)) > 3
        assert {each.get_attribute("class") for each in marks(panel)} == {"up", "down"}
        points = panel.locator("#course polyline").get_attribute("points")
        assert points is not None and len(points.split()) == len(shares)
        panel.get_by_label("A review").fill("")
        expect(panel.locator("#verdict")).to_be_hidden()


def marks(panel: Any) -> list[Any]:
    found: list[Any] = panel.locator("#tinted mark").all()
    return found


def draw(visit: Visit, cell: Any, letter: str) -> None:
    """Draws a letter with the mouse into a cell."""
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    for stroke in page_models.STROKES[letter]:
        points = [(box["x"] + x / 100 * box["width"], box["y"] + y / 150 * box["height"]) for x, y in stroke]
        visit.page.mouse.move(*points[0])
        visit.page.mouse.down()
        for point in points[1:]:
            visit.page.mouse.move(*point, steps=3)
        visit.page.mouse.up()


def test_a_word_is_read_while_it_is_drawn(browser: Any, site: str) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("Handwriting")
        read = panel.locator(".word-read").first
        for place, letter in enumerate("not"):
            draw(visit, panel.locator(".ink").nth(place), letter)
            expect(read).to_have_text("not"[: place + 1])
        expect(panel.locator(".letters").first.locator("li")).to_have_count(3)
        expect(panel.locator(".letters").first.locator("small")).to_have_count(9)
        # Both directions, side by side.
        expect(panel.locator("#readings h3")).to_have_text(["Read both ways", "Read from the left"])
        expect(panel.locator(".word-read")).to_have_text(["not", "not"])
        # The bits are those that the letters' files were made with.
        for letter, strokes in page_models.STROKES.items():
            assert visit.page.evaluate("bitsOf", strokes) == page_models.bits(strokes), letter
        panel.get_by_role("button", name="Clear").click()
        expect(read).to_be_hidden()
        panel.get_by_role("button", name="Show an example").click()
        expect(panel.locator(".letters").first.locator("li")).to_have_count(3)


class Finger:
    """A finger on the screen, as the browser's own input hears it: it would scroll the page where it may."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._session = visit.page.context.new_cdp_session(visit.page)

    def stroke(self, points: list[tuple[float, float]], steps: int = 4) -> float:
        """Goes along the points of the window; how far the page scrolled meanwhile, in pixels."""
        before = self._visit.page.evaluate("scrollY")
        path = [points[0]]
        for (x, y), (to_x, to_y) in itertools.pairwise(points):
            path += [(x + (to_x - x) * n / steps, y + (to_y - y) * n / steps) for n in range(1, steps + 1)]
        for place, (x, y) in enumerate(path):
            self._touch("touchMove" if place else "touchStart", [{"x": x, "y": y}])
        self._touch("touchEnd", [])
        self._visit.page.wait_for_timeout(100)  # a scroll comes with a later frame
        return float(self._visit.page.evaluate("scrollY")) - before

    def _touch(self, kind: str, points: list[dict[str, float]]) -> None:
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_word_is_drawn_with_a_finger_and_the_page_stays_where_it_is(browser: Any, site: str) -> None:
    with visiting(browser, site, "narrow") as visit:
        panel = visit.open("Handwriting")
        finger = Finger(visit)
        # On the text above the cells the same finger does scroll: what stays below could have moved.
        lead = panel.locator(".lead").bounding_box()
        assert finger.stroke([(lead["x"] + 90, lead["y"] + 9), (lead["x"] + 90, 9)]) > 50
        for place, letter in enumerate("lot"):
            cell = panel.locator(".ink").nth(place)
            cell.scroll_into_view_if_needed()
            box = cell.bounding_box()
            for stroke in page_models.STROKES[letter]:
                points = [
                    (box["x"] + x / 100 * box["width"], box["y"] + y / 150 * box["height"]) for x, y in stroke
                ]
                assert finger.stroke(points) == 0
            expect(panel.locator(".word-read").first).to_have_text("lot"[: place + 1])
        expect(panel.locator(".word-read")).to_have_text(["lot", "lot"])


def test_a_letter_can_be_set_bit_by_bit_with_the_keyboard(browser: Any, site: str) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("Handwriting")
        cell = panel.get_by_role("application", name="Bits of cell 1")
        cell.focus()
        wanted = page_models.bits(page_models.STROKES["l"])
        for bit in wanted:
            if bit:
                visit.page.keyboard.press("Space")
            visit.page.keyboard.press("ArrowRight")
        expect(cell).to_have_accessible_name(f"Bits of cell 1: {sum(wanted)} set, at row 1, column 1")
        expect(panel.locator(".word-read").first).to_have_text("l")
        visit.page.keyboard.press("Delete")
        expect(panel.locator(".word-read")).to_have_count(0)


def test_text_is_written_paused_and_goes_on_from_the_same_state(browser: Any, site: str) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("Text")
        bodies = []
        visit.page.on("request", lambda request: bodies.append((request.url, request.post_data_json)))
        panel.get_by_label("Begins with").fill("the film was ")
        panel.get_by_label("Characters").fill("400")
        panel.get_by_role("button", name="Write").click()
        made = panel.locator("#page-text")
        expect(made.locator("mark").nth(20)).to_be_visible()
        panel.get_by_role("button", name="Pause").click()
        expect(panel.get_by_role("button", name="Go on")).to_be_visible()
        before = made.inner_text()
        assert before.startswith("the film was ") and 33 < len(before) < 413
        panel.get_by_label("Temperature").fill("0")
        panel.get_by_label("Characters").fill("60")
        panel.get_by_role("button", name="Go on").click()
        expect(panel.get_by_role("button", name="Pause")).to_be_visible()
        expect(panel.get_by_role("button", name="Go on")).to_be_visible()
        after = made.inner_text()
        assert after.startswith(before) and len(after) == len(before) + 60
        # The coldest continuation of what stands there is one text: the state was the one behind it.
        wanted = visit.page.evaluate(
            "text => ask('v1/text/generate', {seed_text: text, temperature: 0, length: 60})", before
        )
        assert after.removeprefix(before) == wanted["text"]
        asked = [body for url, body in bodies if url.endswith("/generate") and "state" in (body or {})]
        assert {body["temperature"] for body in asked} >= {0}
        made.locator("mark").nth(3).click()
        expect(panel.locator("#likely li")).to_have_count(6)
        expect(made.locator("mark").nth(3)).to_have_class(re.compile(r"\bhere\b"))
        panel.get_by_label("Look at a character").press("ArrowRight")
        expect(made.locator("mark").nth(4)).to_have_class(re.compile(r"\bhere\b"))
        panel.get_by_role("button", name="Begin again").click()
        expect(panel.get_by_role("button", name="Write")).to_be_visible()


def test_about_shows_versions_lineage_figures_and_live_requests(browser: Any, site: str, home: Path) -> None:
    with visiting(browser, site) as visit:
        panel = visit.open("About")
        for kind, model in models.find(str(home)).items():
            card = panel.locator(".model").filter(
                has=visit.page.get_by_role("heading", name=kind.replace("-", " "))
            )
            card = card.filter(has_text=model.version[:12])
            expect(card).to_have_count(1)
            for _, identity in model.lineage:
                expect(card).to_contain_text(identity[:12])
        row = panel.locator("tbody tr").filter(has_text="/v1/words/{word}/map")
        before = int(row.locator("td").nth(1).inner_text())
        visit.page.evaluate("ask('v1/words/film/map')")
        expect(row.locator("td").nth(1)).to_have_text(str(before + 1))


def test_a_server_with_keys_asks_for_one_and_the_page_keeps_it_to_itself(
    browser: Any, home: Path, album: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = {models.VECTORS: models.find(str(home))[models.VECTORS]}
    cores = {models.VECTORS: Words.open(found[models.VECTORS].location)}
    right, wrong = "a-key-of-this-test", "another-key-of-this-test"
    keys = Keys(Secrets((b"signs-states-of-this-test",)), Secrets((right.encode(),)))
    with (
        served(application.build(cores, found, keys=keys)) as url,
        visiting(browser, url, ready=False) as visit,
    ):
        page = visit.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        form = page.get_by_role("form", name="This server answers only those who have a key")
        expect(form.get_by_label("Key")).to_be_focused()
        expect(page.locator("main > section:visible")).to_have_count(0)
        assert not axe.run(page).response["violations"]
        page.screenshot(path=album / "key.png")
        form.get_by_label("Key").fill(wrong)
        form.get_by_label("Key").press("Enter")
        expect(form.get_by_role("alert")).to_have_text(
            "The server does not know this key; check it and enter it again."
        )
        assert form.get_by_label("Key").input_value() == ""
        form.get_by_label("Key").fill(right)
        form.get_by_role("button", name="Use it").click()
        expect(page.locator("#near li")).to_have_count(12)
        expect(form).to_be_hidden()
        expect(visit.open("About").locator("tbody tr").first).to_be_visible()
        stored = page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href]")
        assert stored == ["", 0, 0, f"{url}/#about"]
        assert not any(right in address or wrong in address for address in asked)
        # Forgotten with the page.
        page.reload()
        expect(form.get_by_label("Key")).to_be_focused()
        # Chromium notes each answer that is an error; these were asked for.
        assert all("401" in each for each in visit.complaints)
        visit.complaints.clear()


def test_a_kind_without_a_model_says_what_makes_one(browser: Any, home: Path) -> None:
    found = {models.VECTORS: models.find(str(home))[models.VECTORS]}
    cores = {models.VECTORS: Words.open(found[models.VECTORS].location)}
    with served(application.build(cores, found)) as url, visiting(browser, url) as visit:
        assert visit.page.locator("#directions").is_hidden()
        for panel, command in (("Text", "wordloom train language-model"), ("Sentiment", "train sentiment")):
            opened = visit.open(panel)
            expect(opened).to_contain_text(command)
            expect(opened.locator(".present")).to_be_hidden()


def test_the_page_keeps_to_the_limits_of_a_server_that_allows_little(browser: Any, home: Path) -> None:
    listed = models.find(str(home))
    found = {kind: listed[kind] for kind in (models.VECTORS, models.LANGUAGE_MODEL)}
    cores = {
        models.VECTORS: Words.open(found[models.VECTORS].location),
        models.LANGUAGE_MODEL: Text(CharacterModel.open(found[models.LANGUAGE_MODEL].location)),
    }
    little = ServingSettings(max_neighbours=3, max_generated_characters=10)
    with served(application.build(cores, found, little)) as url, visiting(browser, url) as visit:
        expect(visit.page.locator("#near li")).to_have_count(3)
        visit.page.locator("#analogy-form").get_by_role("button").click()
        expect(visit.page.locator("#analogy li")).to_have_count(3)
        text = visit.open("Text")
        text.get_by_label("Characters").fill("25")
        text.get_by_role("button", name="Write").click()
        expect(text.locator("#page-text mark")).to_have_count(25)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_panel_is_accessible_fits_and_has_its_picture(
    browser: Any, site: str, album: Path, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with visiting(browser, site, shape) as visit:
        for panel in PANELS:
            fill(visit, panel)
            found = axe.run(visit.page)
            assert not found.response["violations"], found.generate_report()
            wide = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], f"{panel} is wider than the window"
            visit.page.screenshot(path=album / f"{panel.lower()}-{shape}.png", full_page=True)
    assert all((album / f"{panel.lower()}-{shape}.png").exists() for panel in PANELS)
    with capsys.disabled():
        print(f"\nscreenshots: {album}/*-{shape}.png")


def test_every_report_is_accessible_and_asks_nobody_in_light_and_dark(
    browser: Any, home: Path, album: Path, tmp_path: Path
) -> None:
    """The artefacts of a home, a corpus, and two models side by side."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    corpus = tmp_path / "corpus" / "a"
    by_hand(plain_dump(tmp_path, some_pages(30)), corpus, IngestSettings())
    pages: dict[str, Path] = {}
    for manifest in [*home.glob("*/*/manifest.json"), corpus / "manifest.json"]:
        artefact = Artefact.open(manifest.parent)
        pages[artefact.kind] = tmp_path / f"{artefact.kind}.html"
        report.made(artefact, model_report.KINDS).save(str(pages[artefact.kind]))
    two = [Artefact.open(home / "labelling" / name) for name in ("both", "forward")]
    pages["comparison"] = tmp_path / "comparison.html"
    comparison.compare(*two).report().save(str(pages["comparison"]))
    assert pages.keys() == {*kept_artefacts.KINDS, "comparison"}
    for scheme, (name, path) in itertools.product(("light", "dark"), pages.items()):
        shape = SHAPES[scheme]
        complaints: list[str] = []
        asked: list[str] = []
        with contextlib.closing(browser.new_context(**shape)) as context:
            page = context.new_page()
            page.on("console", lambda message, heard=complaints: heard.append(message.text))
            page.on("request", lambda request, heard=asked: heard.append(request.url))
            page.goto(path.as_uri())
            page.screenshot(path=album / f"report-{name}-{scheme}.png", full_page=True)
        assert not complaints and asked == [path.as_uri()], name
        # The page's own policy lets no script run, axe's neither.
        with contextlib.closing(browser.new_context(**shape, bypass_csp=True)) as context:
            page = context.new_page()
            page.goto(path.as_uri())
            found = axe.run(page)
            assert not found.response["violations"], (name, scheme, found.generate_report())


def fill(visit: Visit, panel: str) -> None:
    """Makes a panel show its answers."""
    opened = visit.open(panel)
    if panel == "Words":
        opened.get_by_role("button", name="Answer").click()
        expect(opened.locator("#analogy li")).to_have_count(5)
        expect(opened.locator("#near li")).to_have_count(12)
    elif panel == "Sentiment":
        opened.get_by_role("button", name="nobody could seriously").click()
        expect(opened.locator("#course polyline")).to_have_count(1)
    elif panel == "Handwriting":
        for place, letter in enumerate("not"):
            draw(visit, opened.locator(".ink").nth(place), letter)
        expect(opened.locator(".word-read").first).to_have_text("not")
    elif panel == "Text":
        opened.get_by_label("Characters").fill("80")
        opened.get_by_label("Temperature").fill("1.2")
        opened.get_by_role("button", name="Write").click()
        expect(opened.get_by_role("button", name="Go on")).to_be_visible()
        opened.locator("mark").nth(5).click()
        expect(opened.locator("#likely li")).to_have_count(6)
    elif panel == "About":
        expect(opened.locator("tbody tr").first).to_be_visible()
