"""The page to play with, as files and headers; tests/test_browser.py uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving import application, page
from serving.keys import Keys, Secrets
from serving.models import KINDS, VECTORS
from serving.settings import ServingSettings
from serving.words import Words
from tests.cores import MODELS, tiny_vectors

ROOT = Path(__file__).resolve().parent.parent


def built(settings: ServingSettings | None = None, keys: Keys | None = None) -> FastAPI:
    cores = {VECTORS: Words(tiny_vectors())}
    return application.build(cores, {VECTORS: MODELS[VECTORS]}, settings or ServingSettings(), keys=keys)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(built()) as made:
        yield made


class Addresses(HTMLParser):
    """Every address that a page names, and what would need a policy that lets more run."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.found += [str(named[name]) for name in ("href", "src", "action", "data") if name in named]
        self.inline += [name for name in named if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in named):
            self.inline.append(tag)


def test_each_file_comes_with_its_type_and_the_strict_policy(client: TestClient) -> None:
    types = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
    assert set(page.files()) == {*types, page.INDEX}
    for path, media in {"/": "text/html", **{f"/web/{name}": each for name, each in types.items()}}.items():
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] == media
        assert answer.headers["content-security-policy"] == page.POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.head(path).headers["etag"] == answer.headers["etag"]
    assert "default-src 'none'" in page.POLICY and "unsafe" not in page.POLICY and "*" not in page.POLICY


def test_the_page_needs_nothing_but_this_server(client: TestClient) -> None:
    addresses = Addresses(client.get("/").text)
    assert not addresses.inline
    for address in addresses.found:
        assert re.match(r"(#|web/|docs$)", address), address
        if not address.startswith("#"):
            assert client.get(address).status_code == 200
    for name, file in page.files().items():
        text = file.content.decode()
        for address in re.findall(r"(?:https?:)?//[A-Za-z][^\s\"')]*", re.sub(r"(?m)^\s*//.*$", "", text)):
            assert address == "http://www.w3.org/2000/svg", (name, address)  # the name of a language
        assert not re.search(r"@import|url\(|eval\(|innerHTML|localStorage|sessionStorage|cookie", text), name


def test_what_changes_has_another_address_and_the_page_is_asked_about(client: TestClient) -> None:
    index = client.get("/")
    assert index.headers["cache-control"] == page.ASK_AGAIN
    assert client.get("/", headers={"If-None-Match": index.headers["etag"]}).status_code == 304
    for name in ("page.css", "page.js", "icon.svg"):
        (address,) = re.findall(rf'"(web/{re.escape(name)}\?[0-9a-f]{{16}})"', index.text)
        assert client.get(address).headers["cache-control"] == page.FOR_GOOD
        for other in (f"/web/{name}", f"/web/{name}?0123456789abcdef"):
            assert client.get(other).headers["cache-control"] == page.ASK_AGAIN


def test_without_the_page_the_root_leads_to_the_documentation() -> None:
    with TestClient(built(ServingSettings(page=False))) as client:
        answer = client.get("/", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
        assert client.get("/web/page.js").status_code == 404


def test_the_page_wants_no_key_and_all_that_it_asks_does() -> None:
    keys = Keys(Secrets((b"a-key-that-signs-states",)), Secrets((b"a-key-that-clients-show",)))
    with TestClient(built(keys=keys)) as client:
        assert client.get("/").status_code == client.get("/web/page.js").status_code == 200
        for path in ("/v1/models", "/v1/traffic", "/v1/words/river/map", "/docs", "/web/", "/web/other"):
            assert client.get(path).status_code == 401


def test_a_kind_without_a_model_is_listed_with_what_makes_one(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["absent"] == {kind: command for kind, command in KINDS.items() if kind != VECTORS}


def test_every_part_that_the_script_asks_for_is_in_the_page() -> None:
    files = page.files()
    script, index = files["page.js"].content.decode(), files[page.INDEX].content.decode()
    wanted = set(re.findall(r'\$\("([a-z0-9-]+)"\)', script)) | set(
        re.findall(r'teller\("([a-z-]+)"', script)
    )
    there = re.findall(r'\bid="([^"]+)"', index)
    assert wanted <= set(there)
    assert len(there) == len(set(there))


def test_the_wheel_holds_the_page() -> None:
    import tomllib

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = {
        path for pattern in tool["package-data"]["serving"] for path in (ROOT / "serving").glob(pattern)
    }
    assert packed == set(page.FOLDER.iterdir())
