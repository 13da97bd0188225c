"""A user's own texts become a corpus like a dump's: same shards, any workers, readable everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import ray

import wordloom
from cluster.artefact import Draft
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from cluster.session import Session
from cluster.store import Store
from ingest import texts, wikipedia
from ingest.heartbeat import Heartbeat
from ingest.settings import IngestSettings
from ingest.shard_maker import ShardMaker
from ingest.texts import Texts
from tests.server import Server
from tests.test_wikipedia import digests

SETTINGS = IngestSettings(markup="keep", split_bytes=2_000)


def some_rows(folder: Path, count: int = 300) -> Path:
    rows = [json.dumps({"id": n, "text": f"Word{n % 7} and [[more]] words. " * 3}) for n in range(count)]
    (folder / "a.jsonl").write_text("\n".join([*rows[:50], "broken", *rows[50:]]))
    return folder / "a.jsonl"


def by_hand(corpus: Texts, output: Path, *, publish: bool = True) -> Draft:
    draft = Draft(
        output,
        kind="corpus",
        output_version=texts.OUTPUT_VERSION,
        inputs=wikipedia.ingest_inputs(corpus),
        settings=wikipedia.ingest_settings(corpus, SETTINGS),
    )
    maker = ShardMaker(draft.folder, draft.making, SETTINGS)
    records = [maker.make(split) for split in corpus.plan(SETTINGS.split_size(corpus.bytes))]
    if publish:
        with Reporter(quiet=True).stage("ingest") as stage:
            wikipedia.publish(draft, corpus, records, stage, Reporter(quiet=True))
    return draft


@pytest.mark.ray
def test_texts_give_the_same_bytes_by_hand_by_ray_and_from_python(
    ray_cluster: Session, tmp_path: Path
) -> None:
    source = some_rows(tmp_path)
    by_hand(texts.locate(source, tmp_path), tmp_path / "alone")
    corpus = wordloom.ingest_text(
        str(source),
        str(tmp_path / "corpus"),
        settings={"ingest": {"split_bytes": 2_000}, "vocabulary": {"size": 50}},
        home=str(tmp_path / "home"),
        workers=2,
    )
    words = {name: each for name, each in digests(tmp_path / "corpus").items() if "vocabulary/" not in name}
    assert words == digests(tmp_path / "alone")
    assert len(corpus.shards) > 4
    assert corpus.pages == 300
    assert corpus.counts["pages_in_dump"] == 301 == corpus.pages + corpus.counts["dropped"]["malformed"]
    assert "byte" in corpus.counts["losses"][0]
    assert wordloom.Vocabulary.open(tmp_path / "corpus" / "vocabulary").tokens
    with pytest.raises(TypeError, match="colour"):
        wordloom.ingest_text(str(source), str(tmp_path / "x"), colour="red")


@pytest.mark.ray
def test_shards_open_in_ray_data_pandas_and_duckdb(ray_cluster: Session, tmp_path: Path) -> None:
    by_hand(texts.locate(some_rows(tmp_path), tmp_path), tmp_path / "corpus")
    shards = f"{tmp_path}/corpus/shards"
    frame = pd.read_parquet(shards)
    wanted = ["word3", "and", "more", "words"] * 3
    assert len(frame) == 300
    assert list(frame.loc[frame.page_id == 3, "tokens"].item()) == wanted
    asked = duckdb.sql(f"SELECT title, tokens FROM '{shards}/*.parquet' WHERE page_id = 3").fetchall()
    assert asked == [("", wanted)]
    (row,) = [each for each in ray.data.read_parquet(shards).take_all() if each["page_id"] == 3]
    assert list(row["tokens"]) == wanted


def test_a_corpus_of_texts_is_what_it_was_at_this_output_version(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One note.\r\nTwo lines, l’été.")
    (tmp_path / "b.jsonl").write_text('{"id": 4, "text": "日本 words"}\n{"id": "k", "text": "3.14"}\n{}')
    by_hand(texts.locate(f"{tmp_path}/[ab].*", tmp_path), tmp_path / "out")
    corpus = wordloom.Corpus.open(tmp_path / "out")
    content = [corpus.folder.read_table(shard.name).to_pylist() for shard in corpus.shards]
    digest = hashlib.sha256(
        json.dumps([content, corpus.counts["dropped"], corpus.counts["bytes"]]).encode()
    ).hexdigest()[:16]
    assert (texts.OUTPUT_VERSION, digest) == (3, "a57af1bcec3f3ffe"), (
        "ingest makes something else of texts: raise OUTPUT_VERSION in ingest/texts.py if that is meant"
    )


@pytest.mark.parametrize("download", [True, False])
def test_texts_of_a_web_server_are_the_corpus_of_the_file(tmp_path: Path, download: bool) -> None:
    source = some_rows(tmp_path)
    by_hand(texts.locate(source, tmp_path), tmp_path / "file")
    server = Server()
    try:
        server.files["/texts/a.jsonl"] = source.read_bytes()
        found = texts.locate(f"{server.site}/texts/a.jsonl", tmp_path / "stored", download=download)
        by_hand(found, tmp_path / "web")
    finally:
        server.close()
    assert (tmp_path / "stored").exists() == download
    assert digests(tmp_path / "web") == digests(tmp_path / "file")


def test_nothing_kept_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n{"body": "y"}')
    with pytest.raises(WordloomError, match=r"all 2 were dropped \(2 missing\).*'body'.*--text-column"):
        by_hand(texts.locate(tmp_path / "a.jsonl", tmp_path), tmp_path / "out")


def test_a_json_array_is_no_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"text": "x"},\n{"text": "y"}\n]')
    with pytest.raises(WordloomError, match="one JSON array and no JSON lines"):
        texts.locate(tmp_path / "a.json", tmp_path)


def test_files_are_found_below_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "b [x]"
    here.mkdir()
    (here / "a.txt").write_text("x")
    monkeypatch.chdir(here)
    assert texts.locate("*.txt", tmp_path).name == "a.txt"
    Path(os.fsdecode(b"caf\xe9.txt")).write_text("x")
    with pytest.raises(WordloomError, match="its name is no UTF-8; rename it"):
        texts.locate("*.txt", tmp_path)


def test_identity_is_of_content_and_of_how_it_is_read(tmp_path: Path) -> None:
    source = some_rows(tmp_path)
    corpus = texts.locate(source, tmp_path)
    (tmp_path / "moved").mkdir()
    moved = texts.locate(source.rename(tmp_path / "moved" / "b.jsonl"), tmp_path)
    assert moved.identity == corpus.identity
    assert moved.as_input().kind == "text"
    assert wikipedia.ingest_settings(moved, SETTINGS)["text_column"] == "text"


@pytest.mark.parametrize("kind", ["text", "wikipedia"])
def test_a_dry_run_shows_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = some_rows(tmp_path)
    if kind == "wikipedia":
        source.write_text("<mediawiki><page><title>A</title></page></mediawiki>")
    arguments = ["ingest", kind, "--source", "a.jsonl", "--output", "out", "--dry-run", "--quiet"]
    assert wordloom.main(arguments) == 0
    assert "nothing is there yet" in capsys.readouterr().out
    assert wordloom.main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["bytes"] == source.stat().st_size
    assert plan["state"] == "new" and plan["splits"] == plan["expected_shards"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_plan_knows_what_is_there(tmp_path: Path) -> None:
    corpus = texts.locate(some_rows(tmp_path), tmp_path)
    by_hand(corpus, tmp_path / "out", publish=False)
    begun = wikipedia.prepare(corpus, tmp_path / "out", SETTINGS)
    assert begun.state == "begun" and begun.finished == len(begun.splits) > 4
    by_hand(corpus, tmp_path / "out")
    assert wikipedia.prepare(corpus, tmp_path / "out", SETTINGS).state == "published"
    assert wikipedia.prepare(corpus, tmp_path / "out", IngestSettings()).state == "taken"


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"identity": 5}'])
def test_a_dry_run_refuses_what_the_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    some_rows(tmp_path)
    arguments = ["ingest", "text", "--source", "a.jsonl", "--output", "out", "--dry-run", "--quiet"]
    draft = tmp_path / "out" / "making" / "draft.json"
    draft.parent.mkdir(parents=True)
    draft.write_text(content)
    assert wordloom.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.endswith(
        "holds files that are not ours ('making/draft.json'); name an empty or a new folder.\n"
    )
    assert said.count("\n") == 1
    draft.unlink()
    (tmp_path / "out" / "manifest.json").write_text(content)
    assert wordloom.main(arguments) == 1
    assert "manifest" in capsys.readouterr().err


def test_status_shows_how_far_an_ingest_is(tmp_path: Path) -> None:
    corpus = texts.locate(some_rows(tmp_path), tmp_path)
    draft = by_hand(corpus, tmp_path / "out", publish=False)
    with Reporter(quiet=True).stage("ingest", total=corpus.bytes, unit="B") as stage:
        heartbeat = Heartbeat(draft.making, corpus.name, corpus.bytes, stage, 9, 0)
        stage.update(1_000, rows=20)
        heartbeat.finished = 3
        heartbeat.beat()
    for home in (tmp_path, tmp_path / "out"):  # below a home, and the folder itself
        (unfinished,) = Store(str(home)).unfinished()
        said = unfinished.sentence()
        assert "under way" in said and "3 of 9 splits" in said and "20 pages" in said
    folder = Folder(tmp_path / "out" / "making")
    old = {**folder.read_json("progress.json"), "at": time.time() - 1_000}
    folder.write_json("progress.json", old)
    (unfinished,) = Store(str(tmp_path / "out")).unfinished()
    assert "stopped" in unfinished.sentence() and "16 min" in unfinished.sentence()
