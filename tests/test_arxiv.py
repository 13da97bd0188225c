"""ingest/arxiv.py: abstracts from arXiv's API, each paper once, politely."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from cluster.errors import UsageError, WordloomError
from ingest import arxiv
from ingest.arxiv import Abstract, Query, distinct, harvest, normalised_id, parse
from tests.arxiv_api import ENTRY, ERROR, HEAD, Api, api, paper

QUERY = Query(("cs.NE",), ("neural",))


def gathered(server: Api, cache: Path, amount: int | None = None) -> arxiv.Harvest:
    return harvest(QUERY, cache, amount, api=server.url, pause=lambda seconds: None)


def test_every_page_is_another_page_and_every_paper_comes_once(tmp_path: Path) -> None:
    with api(250) as server:
        found = gathered(server, tmp_path)
    assert [each.id for each in found.abstracts] == [paper(number)["id"] for number in range(250)]
    assert [each["start"] for each in server.asked] == ["0", "100", "200"]
    assert {each["max_results"] for each in server.asked} == {"100"}
    assert server.asked[0]["search_query"] == "(cat:cs.NE) AND (all:neural)"
    assert server.asked[0]["sortBy"] == "submittedDate" and server.asked[0]["sortOrder"] == "ascending"
    assert found.abstracts[1] == Abstract("1001.0001", "T 1001.0001", "text 1", ("cs.NE",), "2010-01-02")


def test_an_amount_ends_the_harvest_when_so_many_are_there(tmp_path: Path) -> None:
    with api(1000) as server:
        assert len(gathered(server, tmp_path, 120).abstracts) == 120
        assert len(server.asked) == 2


def test_calls_keep_the_interval_that_the_manual_asks_for(tmp_path: Path) -> None:
    waits: list[float] = []
    with api(250) as server:
        harvest(QUERY, tmp_path, api=server.url, pause=waits.append)
    long = [wait for wait in waits if wait > 1]
    assert len(long) == 2  # before the second and the third call
    assert all(2.0 < wait <= arxiv.INTERVAL for wait in long)


def test_a_page_from_the_future_makes_no_call_wait_longer(tmp_path: Path) -> None:
    with api(250) as server:
        gathered(server, tmp_path)
        for page in tmp_path.rglob("*.xml"):
            os.utime(page, (4e9, 4e9))
        waits: list[float] = []
        harvest(QUERY, tmp_path, api=server.url, pause=waits.append)
    assert waits and max(waits) <= arxiv.INTERVAL


def test_a_harvest_that_was_killed_goes_on_with_the_pages_it_has(tmp_path: Path) -> None:
    with api(350) as server:
        server.faults = [None, None, (403, b"no", {})]
        with pytest.raises(WordloomError, match=r"Cannot read entries 200 and on .* 403"):
            gathered(server, tmp_path)
        asked = len(server.asked)
        assert len(gathered(server, tmp_path).abstracts) == 350
        assert [each["start"] for each in server.asked[asked:]] == ["200", "300"]


def test_a_page_that_was_short_is_asked_for_again_when_papers_have_come_since(tmp_path: Path) -> None:
    with api(150) as server:
        assert len(gathered(server, tmp_path).abstracts) == 150
        server.papers += [paper(number) for number in range(150, 260)]
        assert len(gathered(server, tmp_path).abstracts) == 260
        assert [each["start"] for each in server.asked] == ["0", "100", "100", "200"]


def test_a_damaged_page_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    with api(150) as server:
        gathered(server, tmp_path)
        (page,) = tmp_path.glob("*/begin-00000.xml")
        page.write_bytes(page.read_bytes()[:1000])
        assert len(gathered(server, tmp_path).abstracts) == 150


@pytest.mark.parametrize(
    "fault",
    [(503, b"", {"Retry-After": "7"}), (200, b"<feed><entry>", {}), (200, b"<html>busy</html>", {}), 0, 30],
)
def test_a_busy_server_a_cut_page_and_an_empty_one_are_tried_again(tmp_path: Path, fault: Any) -> None:
    waits: list[float] = []
    with api(250) as server:
        server.faults = [None, fault]
        found = harvest(QUERY, tmp_path, api=server.url, pause=waits.append)
    assert len(found.abstracts) == 250 and found.missing == 0
    if isinstance(fault, tuple) and fault[2]:
        assert 7.0 in waits


def test_entries_that_the_api_never_gives_are_counted(tmp_path: Path) -> None:
    with api(250) as server:
        server.faults = [None, 40, 40, 40]
        found = gathered(server, tmp_path)
    assert len(found.abstracts) == 190 and found.missing == 60


def test_a_query_with_too_many_hits_goes_on_from_the_last_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv, "WINDOW", 200)
    with api(650) as server:
        found = gathered(server, tmp_path)
    assert len(found.abstracts) == 650
    assert max(int(each["start"]) for each in server.asked) < arxiv.WINDOW
    assert sum("submittedDate" in each["search_query"] for each in server.asked) >= 3
    assert found.dropped["the same paper"] > 0  # those of the date at which the queries meet


def test_no_hit_and_a_refusal_are_sentences(tmp_path: Path) -> None:
    with api(0) as server, pytest.raises(WordloomError, match=r"no paper for .*cs\.NE.*check --categories"):
        gathered(server, tmp_path)
    with api(5) as server:
        server.faults = [(400, (HEAD.format(total=1) + ERROR + "</feed>").encode(), {})]
        with pytest.raises(WordloomError, match="refuses the query: bad query"):
            gathered(server, tmp_path)


@pytest.mark.parametrize("terms", [("two words",), ("a) OR (b",), ("",)])
def test_a_keyword_is_one_word(terms: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="is no single word"):
        Query(("cs.NE",), terms)
    with pytest.raises(UsageError, match="query is empty"):
        Query((), ())


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("http://arxiv.org/abs/0704.0047v2", "0704.0047"),
        ("704.0047", "0704.0047"),
        ("0704.004", "0704.0040"),
        ("1502.0123", "1502.01230"),
        ("https://arxiv.org/abs/2202.12139v1", "2202.12139"),
        ("arXiv:1412.6980", "1412.6980"),
        ("math.OC/0101001v1", "math/0101001"),
        ("cs/9809111", "cs/9809111"),
        ("adap-org/9807003", "adap-org/9807003"),
        ("something else", "something else"),
    ],
)
def test_identifiers_of_one_paper_are_one(given: str, normal: str) -> None:
    assert normalised_id(given) == normal


def test_a_paper_counts_once_by_its_id_and_by_its_text() -> None:
    def one(identifier: str, text: str, created: str) -> Abstract:
        return Abstract(identifier, "t", text, (), created)

    found = distinct(
        [
            one("2", "b", "2002-01-01"),
            one("1", "a", "2001-01-01"),
            one("1", "a, revised", "2001-01-01"),
            one("3", "a", "2003-01-01"),
            one("4", "", "2004-01-01"),
        ]
    )
    assert [(each.id, each.text) for each in found.abstracts] == [("1", "a"), ("2", "b")]
    assert found.dropped == {"the same paper": 1, "the same text": 1, "without text": 1}
    assert found.seen == 5


def test_hostile_replies_expand_nothing() -> None:
    bomb = '<!DOCTYPE feed [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]>' + HEAD.format(
        total=1
    )
    text = bomb + ENTRY.format(id="1001.0001", text="x &a; &b; y", date="2010-01-01") + "</feed>"
    (entry,) = parse(text.encode()).entries
    assert "aaaa" not in entry.text and "root" not in entry.text
    with pytest.raises(ValueError, match="no XML"):
        parse((HEAD.format(total=1) + "<a>" * 10_000).encode())
    assert parse((HEAD.format(total=1) + f"<x>{escape('<')}</x></feed>").encode()).entries == ()


@pytest.mark.real_data
def test_genuine_replies_are_understood(data: Path) -> None:
    folder = data / "abstracts"
    pages = [json.loads(path.read_text()) for path in sorted(folder.glob("q_testing_*.json"))]
    replies = [parse(page["body"].encode()) for page in pages]
    assert all(len(reply.entries) == 10 and reply.total > 200_000 for reply in replies)
    entries = [entry for reply in replies for entry in reply.entries]
    found = distinct(entries)
    assert found.seen == 40 and len(found.abstracts) == len({entry.id for entry in entries})
    assert all(each.text and each.title and each.categories and len(each.created) == 10 for each in entries)
    (empty,) = folder.glob("id_0000*.json")
    assert parse(json.loads(empty.read_text())["body"].encode()) == arxiv.Reply(0, (), None)
    (refused,) = folder.glob("id_abc*.json")
    with pytest.raises(WordloomError, match="incorrect id format for abc"):
        parse(json.loads(refused.read_text())["body"].encode())
    assert len(parse((folder / "del_maestro.xml").read_bytes()).entries) == 10


@pytest.mark.real_data
def test_a_server_that_gives_genuine_replies_is_harvested(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data / "abstracts"
    bodies = [
        json.loads(next(folder.glob(f"q_testing_s{start}_*.json")).read_text())["body"].encode()
        for start in (0, 10, 20, 30)
    ]
    entries = [entry for body in bodies for entry in parse(body).entries]
    wanted = len(distinct(entries).abstracts)
    monkeypatch.setattr(arxiv, "PAGE", 10)
    (refused,) = folder.glob("id_abc*.json")
    (empty,) = folder.glob("id_0000*.json")
    with api(0) as server:
        # The server is busy, then hands out a page that it cut; both are asked for again.
        cut = (200, bodies[1][:2000], {})
        pages = [(200, body, {}) for body in bodies]
        server.faults = [(503, b"", {"Retry-After": "1"}), pages[0], cut, *pages[1:]]
        found = gathered(server, tmp_path / "a", wanted)
        assert [each["start"] for each in server.asked] == ["0", "0", "10", "10", "20", "30"]
        assert sorted(each.id for each in found.abstracts) == sorted({each.id for each in entries})
        assert found.dropped.total() == len(entries) - wanted
        server.faults = [(400, json.loads(refused.read_text())["body"].encode(), {})]
        with pytest.raises(WordloomError, match="incorrect id format for abc"):
            gathered(server, tmp_path / "b")
        server.faults = [(200, json.loads(empty.read_text())["body"].encode(), {})]
        with pytest.raises(WordloomError, match="no paper for"):
            gathered(server, tmp_path / "c")
