"""A dump becomes a corpus: the same for any number of workers, after any end; nothing is lost unsaid."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from cluster import metrics, report
from cluster.artefact import MANIFEST, Draft
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from cluster.session import Session
from ingest import wikipedia
from ingest.corpus import Corpus
from ingest.dump import Dump, locate, plan
from ingest.ledger import SplitRecord
from ingest.settings import IngestSettings, VocabularySettings
from ingest.shard_maker import ShardMaker
from ingest.vocabulary import cut_vocabulary
from tests.dumps import export, page

SETTINGS = IngestSettings(split_bytes=20_000)


def plain_dump(folder: Path, pages: list[str]) -> Dump:
    source = folder / "dump.xml"
    source.write_bytes(export(pages))
    return locate(source, folder / "downloads")


def some_pages(count: int) -> list[str]:
    pages = [
        page(number, f"Page {number}", f"About [[word{number % 17}]] and more. " * 20)
        for number in range(count)
    ]
    pages[5::10] = [
        page(n, f"Old {n}", "#REDIRECT [[Page 1]]", redirect="Page 1") for n in range(5, count, 10)
    ]
    return pages


def digests(folder: Path) -> dict[str, str]:
    """Those of an artefact's files, without the manifest and the views beside them."""
    beside = {MANIFEST, *report.VIEWS}
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name.parts[0] not in beside
    }


def by_hand(dump: Dump, output: Path, settings: IngestSettings, *, publish: bool = True) -> list[SplitRecord]:
    """What `ingest` does, in this process: the shards of every split, then the corpus."""
    draft = Draft(
        output,
        kind="corpus",
        output_version=wikipedia.OUTPUT_VERSION,
        inputs={"dump": dump.as_input()},
        settings=settings,
    )
    maker = ShardMaker(draft.folder, draft.making, settings)
    records = [maker.make(split) for split in plan(dump, settings.split_size(dump.bytes))]
    if publish:
        reporter = Reporter(quiet=True)
        with reporter.stage("ingest") as stage:
            wikipedia.publish(draft, dump, records, stage, reporter)
    return records


def test_kept_and_dropped_pages_add_up_in_the_manifest(tmp_path: Path) -> None:
    by_hand(plain_dump(tmp_path, some_pages(100)), tmp_path / "corpus", SETTINGS)
    counts = Corpus.open(tmp_path / "corpus").counts
    assert counts["pages"] == 90
    assert counts["dropped"]["redirect"] == counts["redirects"] == 10
    assert counts["pages_in_dump"] == 100 == counts["pages"] + sum(counts["dropped"].values())
    pages = [each.strip() for each in some_pages(100)]
    assert sum(counts["bytes"].values()) == sum(map(len, pages))  # though the splits cut pages apart
    assert counts["bytes"]["redirect"] == sum(map(len, pages[5::10]))
    assert counts["losses"] == []
    assert sum(shard["tokens"] for shard in counts["shards"]) == counts["tokens"]


def test_files_and_categories_are_known_by_the_names_that_the_dump_has_for_them(tmp_path: Path) -> None:
    """Welsh is none of the languages that `ingest.markup` knows itself."""
    names = '<namespace key="6">Delwedd</namespace><namespace key="14">Categori</namespace>'
    text = "Prifddinas [[Cymru]]. [[Delwedd:Castell.jpg|bawd|Castell]]\n\n[[Categori:Caerdydd]]"
    head, pages = export([page(1, "Caerdydd", text)]).split(b"\n", 1)
    siteinfo = f"<siteinfo><namespaces>{names}</namespaces></siteinfo>".encode()
    (tmp_path / "dump.xml").write_bytes(head + siteinfo + pages)
    by_hand(locate(tmp_path / "dump.xml", tmp_path), tmp_path / "corpus", SETTINGS)
    (shard,) = Corpus.open(tmp_path / "corpus").shards
    (row,) = Folder(tmp_path / "corpus").read_table(shard.name).to_pylist()
    assert (row["text"], row["categories"]) == ("Prifddinas Cymru.", ["Caerdydd"])


def test_counts_and_redirects_are_those_of_all_splits(tmp_path: Path) -> None:
    by_hand(plain_dump(tmp_path, some_pages(100)), tmp_path / "corpus", SETTINGS)
    corpus = Corpus.open(tmp_path / "corpus")
    assert len(corpus.shards) > 2
    counts = {}
    for batch in corpus.token_counts():
        counts.update(zip(batch["token"].to_pylist(), batch["count"].to_pylist(), strict=True))
    assert sum(counts.values()) == corpus.tokens
    assert len(counts) == corpus.counts["distinct_tokens"]
    assert counts["about"] == 90 * 20
    assert corpus.redirects()["title"].to_pylist() == [f"Old {n}" for n in range(5, 100, 10)]


def test_many_runs_are_merged_in_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Here:
        """Ray's tasks, done at once."""

        @staticmethod
        def remote(function):  # type: ignore[no-untyped-def]
            return type("Task", (), {"remote": staticmethod(function)})

        @staticmethod
        def get(results):  # type: ignore[no-untyped-def]
            return results

    dump = plain_dump(tmp_path, some_pages(100))
    by_hand(dump, tmp_path / "flat", SETTINGS)
    monkeypatch.setattr(wikipedia, "FAN_IN", 2)
    monkeypatch.setattr(wikipedia, "ray", Here)
    by_hand(dump, tmp_path / "tree", SETTINGS)
    assert digests(tmp_path / "tree") == digests(tmp_path / "flat")


def test_a_dump_without_pages_to_keep_says_why(tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="empty dump: it holds no page"):
        by_hand(plain_dump(tmp_path, []), tmp_path / "a", SETTINGS)
    pages = [page(1, "Talk:A", "b", namespace=1), page(2, "C", "", redirect="D")]
    with pytest.raises(WordloomError, match=r"all 2 were dropped \(1 redirect, 1 namespace\)"):
        by_hand(plain_dump(tmp_path, pages), tmp_path / "b", SETTINGS)
    assert not Folder(tmp_path / "b").exists("manifest.json")


def test_a_cut_is_said_and_recorded(tmp_path: Path) -> None:
    whole = export(some_pages(60))
    source = tmp_path / "cut.xml"
    source.write_bytes(whole[: len(whole) * 2 // 3])
    dump, said = locate(source, tmp_path / "downloads"), io.StringIO()
    draft = Draft(
        tmp_path / "corpus",
        kind="corpus",
        output_version=wikipedia.OUTPUT_VERSION,
        inputs={"dump": dump.as_input()},
        settings=SETTINGS,
    )
    maker = ShardMaker(draft.folder, draft.making, SETTINGS)
    records = [maker.make(split) for split in plan(dump, SETTINGS.split_bytes)]
    reporter = Reporter(stream=said)
    with reporter.stage("ingest") as stage:
        made = wikipedia.publish(draft, dump, records, stage, reporter)
    assert made.counts["dropped"]["cut"] == 1
    assert made.counts["losses"]
    assert all(sentence in said.getvalue() for sentence in made.counts["losses"])


def test_the_driver_counts_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "cut.xml"
    source.write_bytes(export(some_pages(60))[:-3000])
    dump = locate(source, tmp_path / "downloads")
    counted: list[tuple[str, float]] = []
    monkeypatch.setattr(
        metrics, "increment", lambda name, value=1, labels=None: counted.append((name, value))
    )
    records = by_hand(dump, tmp_path / "corpus", SETTINGS, publish=False)
    assert len(records) > 1 and "ingest_losses" not in dict(counted)
    (tmp_path / "corpus" / "making" / "splits" / f"{records[-1].index:05d}.json").unlink()
    monkeypatch.setattr(wikipedia, "_made", lambda *_: records[-1:])
    made = wikipedia.ingest(dump, tmp_path / "corpus", SETTINGS)
    assert dict(counted)["ingest_losses"] == len(made.counts["losses"]) > 0


@pytest.mark.parametrize("error", [MemoryError(), pa.lib.ArrowMemoryError("malloc of size 64 failed")])
def test_a_split_whose_worker_ran_out_of_memory_is_no_defect(tmp_path: Path, error: MemoryError) -> None:
    class Full:
        def make(self, *_: Any) -> None:
            raise error

    split = list(plan(plain_dump(tmp_path, some_pages(100)), 2_000))[1]
    actor = object.__new__(wikipedia.IngestSplit)  # its constructor is a process' own
    actor._maker, actor._channel = Full(), ""  # type: ignore[assignment]
    (said,) = actor({"split": [split]})["result"]
    assert isinstance(said, WordloomError) and "defect" not in str(said)
    where = rf"^Split 1 \(bytes {split.start:,} to {split.stop:,}\) ran out of its worker's memory; "
    assert re.match(where + r".*fewer --workers.* what is finished is kept\.$", str(said))


@pytest.mark.ray
def test_a_worker_that_ray_ended_for_its_memory_is_said_as_that(
    ray_cluster: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        def iter_rows(self) -> None:
            raise ray.exceptions.OutOfMemoryError("node is short of memory")

    monkeypatch.setattr(wikipedia, "over_splits", lambda *_: Ended())
    with pytest.raises(WordloomError, match=r"^Memory ran out, .* fewer --workers"):
        wikipedia.ingest(plain_dump(tmp_path, some_pages(10)), tmp_path / "corpus", SETTINGS, workers=1)


@pytest.mark.ray
def test_workers_and_restarts_change_no_byte(ray_cluster: Session, tmp_path: Path) -> None:
    dump = plain_dump(tmp_path, some_pages(300))
    by_hand(dump, tmp_path / "alone", SETTINGS)
    expected = digests(tmp_path / "alone")
    # A run that ended early: some splits finished, one half-written, one damaged.
    begun = tmp_path / "begun"
    records = by_hand(dump, begun, SETTINGS, publish=False)
    (begun / "making" / "splits" / "00001.json").unlink()
    (begun / "shards" / "00002.parquet").unlink()
    (begun / "shards" / ".partial-0123-00001.parquet").write_bytes(b"half")
    said = io.StringIO()
    made = wikipedia.ingest(dump, begun, SETTINGS, Reporter(stream=said), workers=2)
    assert not list(begun.rglob(".partial-*"))  # what killed writers left is cleared
    assert f"{len(records) - 2} of {len(records)} splits were finished" in said.getvalue()
    assert digests(begun) == expected
    made.verify()
    # The same again is found, not made.
    again = wikipedia.ingest(dump, begun, SETTINGS, Reporter(stream=said), workers=1)
    assert "reused" in said.getvalue()
    assert again.manifest == made.manifest
    cut_vocabulary(Corpus(made), tmp_path / "words", VocabularySettings(size=100))


@pytest.mark.ray
def test_a_failure_in_an_actor_is_one_sentence(
    ray_cluster: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = plain_dump(tmp_path, some_pages(100))
    source = tmp_path / "dump.xml"
    source.write_bytes(source.read_bytes() + b"more")
    with pytest.raises(WordloomError, match="run the command again") as caught:
        wikipedia.ingest(dump, tmp_path / "corpus", SETTINGS, workers=1)
    assert "\n" not in str(caught.value)
    assert not Folder(tmp_path / "corpus").exists("manifest.json")

    class Faulty(wikipedia.IngestSplit):
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            self._maker = None  # type: ignore[assignment]
            return super().__call__(batch)

    with monkeypatch.context() as patch:
        patch.setattr(wikipedia, "IngestSplit", Faulty)
        with pytest.raises(WordloomError, match=r"^Split .* failed with AttributeError: .* defect of ours"):
            wikipedia.ingest(plain_dump(tmp_path, some_pages(10)), tmp_path / "faulty", SETTINGS, workers=1)


@pytest.mark.ray
@pytest.mark.slow
def test_a_split_that_kills_every_worker_ends_in_a_sentence_and_loses_no_other(
    ray_cluster: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"

    class Poisoned(wikipedia.IngestSplit):
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            if batch["split"][0].index == 1:
                with tries.open("a") as file:
                    file.write("x")
                os._exit(1)  # as the system ends a process that takes too much memory
            return super().__call__(batch)

    dump = plain_dump(tmp_path, some_pages(100))
    with monkeypatch.context() as patch:
        patch.setattr(wikipedia, "IngestSplit", Poisoned)
        with pytest.raises(WordloomError, match=r"A worker of ingest failed .* is kept"):
            wikipedia.ingest(dump, tmp_path / "corpus", SETTINGS, workers=1)
    assert len(tries.read_text()) == wikipedia.RETRIES + 1
    wikipedia.ingest(dump, tmp_path / "corpus", SETTINGS, workers=1)
    by_hand(dump, tmp_path / "other", SETTINGS)
    assert digests(tmp_path / "corpus") == digests(tmp_path / "other")
