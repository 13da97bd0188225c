"""ingest/abstracts.py, ingest/papers.py: papers become a corpus, the newest of them held out."""

from __future__ import annotations

import json
import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import wordloom
from cluster.errors import WordloomError
from cluster.progress import Reporter
from ingest import abstracts, arxiv, papers
from ingest.arxiv import Abstract, Query
from ingest.corpus import Corpus
from ingest.papers import Papers, read_file
from ingest.settings import AbstractsSettings, IngestSettings
from tests.arxiv_api import api, paper

PLAIN = IngestSettings(markup="keep")


def row(number: int, **change: Any) -> dict[str, Any]:
    given = paper(number)
    return {
        "id": given["id"],
        "title": f"T {given['id']}",
        "abstract": given["text"],
        "created": given["date"],
        "categories": "cs.NE",
    } | change


def lines(path: Path, rows: list[Any]) -> Path:
    content = "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in rows).encode()
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return path


def made(found: Papers, output: Path, settings: IngestSettings = PLAIN, share: float = 0.05) -> Corpus:
    own = AbstractsSettings(share)
    return Corpus(abstracts.ingest(found, output, settings, own, Reporter(quiet=True)))


def texts(corpus: Corpus, part: Any) -> list[str]:
    return [text for shard in range(len(corpus.shards)) for text in corpus.shard_texts(shard, part).texts]


def test_the_newest_papers_are_held_out_and_all_stand_in_the_order_of_their_dates(tmp_path: Path) -> None:
    rows = [row(number) for number in np.random.default_rng(1).permutation(200).tolist()]
    corpus = made(read_file(str(lines(tmp_path / "a.jsonl", rows))), tmp_path / "corpus")
    whole = [f"text {number}" for number in range(200)]
    assert texts(corpus, "all") == whole
    assert texts(corpus, "training") == whole[:190] and texts(corpus, "held_out") == whole[190:]
    shard = corpus.shards[0]
    assert (shard.training_pages, shard.pages) == (190, 200)
    assert shard.training_characters == sum(map(len, whole[:190]))
    tokens = corpus.shard_tokens(0, "held_out")
    assert len(tokens.page_ids) == 10 and len(tokens.indices) == shard.tokens - shard.training_tokens


def test_a_cut_into_shards_changes_neither_order_nor_what_is_held_out(tmp_path: Path) -> None:
    found = read_file(str(lines(tmp_path / "a.jsonl", [row(number) for number in range(100)])))
    one, many = made(found, tmp_path / "one"), made(found, tmp_path / "many", IngestSettings(split_bytes=64))
    assert len(many.shards) > 5
    for part in ("all", "training", "held_out"):
        assert texts(one, part) == texts(many, part)
    assert one.counts["dropped"] == many.counts["dropped"]


def test_the_api_and_a_file_of_the_same_papers_give_the_same_corpus(tmp_path: Path) -> None:
    with api(150) as server:
        harvest = arxiv.harvest(
            Query(("cs.NE",), ("neural",)), tmp_path / "cache", api=server.url, pause=len_
        )
    asked = made(papers.gathered(harvest, server.url), tmp_path / "asked")
    path = lines(tmp_path / "a.jsonl.xz", [row(number) for number in range(150)])
    read = made(read_file(str(path)), tmp_path / "read")
    assert asked.identity == read.identity
    files = [corpus.artefact.manifest.files for corpus in (asked, read)]
    assert files[0] == files[1]


def len_(seconds: float) -> None:
    """A pause that does not wait."""


def test_what_is_no_paper_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        row(1),
        row(2, id="704.0047"),
        row(3, id="0704.0047"),
        row(4, abstract="text 1"),
        row(5, abstract=" "),
        row(6, abstract=None),
        row(7, abstract=7),
        row(8, id=""),
        row(10, created="12/31/2017"),
        row(0, id=0, abstract="the first", title=None),
        "[1, 2]",
        '{"id": "1", "abstract": "\\ud800"}',
        "{broken",
        "",
        row(9, abstract="two\n lines"),
    ]
    corpus = made(read_file(str(lines(tmp_path / "a.jsonl", rows))), tmp_path / "corpus", share=0.0)
    assert texts(corpus, "all") == ["the first", "text 1", "text 2", "two lines"]
    assert corpus.counts["dropped"] == {
        "date": 1,
        "empty": 0,
        "encoding": 1,
        "malformed": 2,
        "missing": 3,
        "the same paper": 1,
        "the same text": 1,
        "without text": 1,
    }
    assert corpus.counts["pages_in_dump"] == 14


def test_entries_that_the_api_never_gave_stand_among_the_losses(tmp_path: Path) -> None:
    with api(250) as server:
        server.faults = [None, 40, 40, 40]
        harvest = arxiv.harvest(
            Query(("cs.NE",), ("neural",)), tmp_path / "cache", api=server.url, pause=len_
        )
    corpus = made(papers.gathered(harvest, "the api"), tmp_path / "corpus")
    assert corpus.counts["losses"] == ["'the api' promised 60 entries that it never gave."]


def test_a_file_that_is_cut_gives_the_papers_before_the_cut(tmp_path: Path) -> None:
    texts_of = ["".join(map(chr, np.random.default_rng(n).integers(97, 123, 500))) for n in range(400)]
    path = lines(tmp_path / "a.jsonl.xz", [row(n, abstract=text) for n, text in enumerate(texts_of)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    corpus = made(read_file(str(path)), tmp_path / "corpus")
    kept = texts(corpus, "all")
    assert 0 < len(kept) < 400 and kept == texts_of[: len(kept)]
    assert "is damaged" in corpus.counts["losses"][0]


def test_a_query_and_an_amount_choose_among_the_papers_of_a_file(tmp_path: Path) -> None:
    rows = [
        row(1, categories=["cs.LG", "cs.NE"], abstract="Networks learn"),
        row(2, categories="math.OC, stat.ML", abstract="deep things"),
        row(3, categories="math.OC", abstract="a subnetwork"),
        row(4, categories="cs.CL", abstract="neural words"),
    ]
    path = str(lines(tmp_path / "a.jsonl", rows))

    def chosen(*query: Any, amount: int | None = None) -> list[str]:
        return [each.text for each in read_file(path, *query, amount=amount).abstracts]

    assert chosen() == ["Networks learn", "deep things", "a subnetwork", "neural words"]
    assert chosen(Query()) == ["Networks learn", "deep things"]
    assert chosen(Query(("math.OC",), ())) == ["deep things", "a subnetwork"]
    assert read_file(path, Query()).dropped == {"not asked for": 2}
    assert read_file(path, None, 3).dropped == {"beyond the amount": 1}
    with pytest.raises(WordloomError, match=r"leaves no paper \(4 not asked for\)"):
        chosen(Query(("q-bio.NC",), ()))


def test_a_share_that_cannot_be_meant_is_refused() -> None:
    for share in (-0.1, 1.0, math.nan):
        with pytest.raises(WordloomError, match=r"abstracts\.held_out_share"):
            AbstractsSettings(share)


def test_the_corpus_of_some_papers_is_what_it_was(tmp_path: Path) -> None:
    """Where this differs, raise ingest.abstracts.OUTPUT_VERSION."""
    found = Papers(
        tuple(
            Abstract(f"1001.{n:04d}", f"T {n}", f"Text no. {n}, naïve.", (), "2010-01-01") for n in range(40)
        ),
        {},
        (),
        "papers",
    )
    corpus = made(found, tmp_path / "corpus")
    table = pq.read_table(tmp_path / "corpus" / corpus.shards[0].name)
    assert table.column_names == ["page_id", "revision_id", "title", "text", "tokens", "held_out"]
    assert table["page_id"][0].as_py() == 6467159548478802231
    assert table["held_out"].to_pylist() == [False] * 38 + [True] * 2
    assert table["tokens"][7].as_py() == ["text", "no", "7", "naïve"]
    assert abstracts.OUTPUT_VERSION == 1


def test_the_command_goes_on_after_a_failure_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv, "INTERVAL", 0.0)
    home, output = tmp_path / "home", tmp_path / "corpus"
    with api(350) as server:
        command = ["ingest", "abstracts", "--output", str(output), "--home", str(home), "--api", server.url]
        command += ["--categories", "cs.NE", "--keywords", "neural", "deep", "--quiet"]
        server.faults = [None, None, (403, b"no", {})]
        assert wordloom.main(command) == 1
        assert "Cannot read entries 200 and on" in capsys.readouterr().err
        assert not (output / "manifest.json").exists()
        assert wordloom.main([*command, "--json"]) == 0
        assert [each["start"] for each in server.asked] == ["0", "100", "200", "200", "300"]
        assert server.asked[0]["search_query"] == "(cat:cs.NE) AND (all:neural OR all:deep)"
        made = json.loads(capsys.readouterr().out)["artefacts"]
        assert [each["kind"] for each in made] == ["corpus", "vocabulary"]
        assert made[0]["counts"]["pages"] == 350
        assert wordloom.main([*command, "--json"]) == 0
        again = json.loads(capsys.readouterr().out)["artefacts"]
        assert [each["made"] for each in again] == [each["made"] for each in made]


def test_the_command_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "a.jsonl.xz", [row(number) for number in range(60)])
    command = ["ingest", "abstracts", "--source", str(path), "--output", str(tmp_path / "corpus"), "--json"]
    assert wordloom.main([*command, "--amount", "40", "--quiet"]) == 0
    counts = json.loads(capsys.readouterr().out)["artefacts"][0]["counts"]
    assert counts["pages"] == 40 and counts["dropped"]["beyond the amount"] == 20
    assert wordloom.main([*command[:3], str(tmp_path / "none.jsonl"), *command[4:]]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.real_data
def test_genuine_abstracts_are_each_there_once(data: Path, tmp_path: Path) -> None:
    found = read_file(str(data / "abstracts" / "arxiv-neural-until-2019-06.jsonl.xz"))
    assert len(found.abstracts) + sum(found.dropped.values()) == 14_976
    assert (
        len({each.id for each in found.abstracts}) == len({each.text for each in found.abstracts}) == 12_172
    )
    corpus = made(found, tmp_path / "corpus")
    held_out = texts(corpus, "held_out")
    assert len(held_out) == 609 and held_out[-1] == found.abstracts[-1].text
    assert found.abstracts[-609].created >= found.abstracts[-610].created
