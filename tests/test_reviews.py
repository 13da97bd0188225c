"""ingest/reviews.py: film reviews out of an archive that may be hostile."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from cluster.progress import Reporter
from ingest import reviews, source_file
from ingest.reviews import Review, Reviews, plain
from ingest.sequence_corpus import SequenceCorpus
from ingest.settings import SequencesSettings


def archive(*members: tuple[str, bytes], links: tuple[tuple[str, str], ...] = ()) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return made.getvalue()


def read(content: bytes) -> tuple[list[Review], Reviews]:
    made = Reviews(io.BytesIO(content), "x.tar.gz")
    return list(made), made


def test_label_rating_and_part_come_from_the_place_in_the_archive() -> None:
    found, made = read(
        archive(
            ("aclImdb/train/pos/0_9.txt", b"Good."),
            ("aclImdb/test/neg/12_1.txt", "Un film très mauvais.".encode()),
            ("aclImdb/train/unsup/3_0.txt", b"Unknown."),
            ("aclImdb/README", b"read me"),
            ("aclImdb/train/urls_pos.txt", b"http://"),
        )
    )
    assert found == [
        Review("train/pos/0_9", "train", "positive", 9, "Good."),
        Review("test/neg/12_1", "test", "negative", 1, "Un film très mauvais."),
        Review("train/unsup/3_0", "train", None, None, "Unknown."),
    ]
    assert made.seen == 3 and made.other == 2 and not made.dropped


def test_tags_and_entities_are_no_words() -> None:
    assert plain("One<br /><br />two &amp; <i>three</i>  four") == "One\ntwo & three four"
    assert plain("5 < 6 and a <b") == plain("5 < 6 and a <b").strip()
    assert plain("plain") == "plain"


def test_every_review_that_is_left_out_is_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "LARGEST_REVIEW", 100)
    found, made = read(
        archive(
            ("train/pos/1_9.txt", b"kept"),
            ("train/pos/2_9.txt", b" <br /> "),
            ("train/pos/3_9.txt", b"\xff\xfe"),
            ("train/pos/4_9.txt", b"x" * 101),
            ("train/pos/1_9.txt", b"again"),
            links=(("train/pos/5_9.txt", "/etc/passwd"),),
        )
    )
    assert [each.text for each in found] == ["kept"]
    assert made.dropped == {"empty": 1, "encoding": 1, "oversize": 1, "twice": 1, "link": 1}
    assert made.seen == len(found) + made.dropped.total()


def test_nothing_of_an_archive_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, _ = read(
        archive(
            ("../../train/pos/1_9.txt", b"outside"), ("/train/neg/1_2.txt", b"root"), ("../evil.txt", b"x")
        )
    )
    assert [each.id for each in found] == ["train/pos/1_9", "train/neg/1_2"]
    assert not list(tmp_path.rglob("*")) and not (tmp_path.parent / "evil.txt").exists()


def test_a_bomb_ends_the_run_and_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = archive(("zeros", bytes(50_000_000)))
    assert len(bomb) < 100_000
    monkeypatch.setattr(reviews, "LARGEST_ARCHIVE", 1_000_000)
    with pytest.raises(WordloomError, match="unpacks to more than 1,000,000 bytes"):
        read(bomb)
    monkeypatch.setattr(reviews, "MOST_FILES", 3)
    with pytest.raises(WordloomError, match="more than 3 files"):
        read(archive(*((f"f{number}", b"") for number in range(5))))


@pytest.mark.parametrize("content", [b"", b"noise", gzip.compress(b"noise" * 1000)])
def test_what_is_no_archive_is_said_so(content: bytes) -> None:
    with pytest.raises(WordloomError, match=r"x\.tar\.gz.* is no whole tar archive"):
        read(content)


def test_a_cut_archive_is_an_error_and_not_a_smaller_set() -> None:
    whole = archive(*((f"train/pos/{number}_9.txt", os.urandom(400).hex().encode()) for number in range(100)))
    with pytest.raises(WordloomError, match=r"no whole tar archive .* after \d+ reviews; fetch it again"):
        read(whole[: len(whole) // 2])


def ingested(tmp_path: Path, content: bytes, **settings: Any) -> Artefact:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "set.tar.gz").write_bytes(content)
    found = source_file.locate(tmp_path / "set.tar.gz", tmp_path / "downloads")
    return reviews.ingest_reviews(
        found, str(tmp_path / "corpus"), SequencesSettings(**settings), Reporter(quiet=True)
    )


def test_an_archive_becomes_sequences_with_the_sets_own_split(tmp_path: Path) -> None:
    content = archive(
        ("aclImdb/train/pos/0_9.txt", b"Good.<br /><br />10/10"),
        ("aclImdb/train/neg/1_2.txt", b"Bad."),
        ("aclImdb/test/neg/12_1.txt", b"Not good"),
        ("aclImdb/train/unsup/3_0.txt", b"Unknown."),
    )
    made = ingested(tmp_path, content)
    corpus = SequenceCorpus(made)
    assert corpus.read("train").ids == ["train/pos/0_9", "train/neg/1_2"]
    assert corpus.texts("train") == ["Good.\n10/10", "Bad."]
    assert corpus.read("unlabelled").labels.tolist() == [-1]
    assert corpus.read().numbers["rating"].tolist() == [9, 2, 1, 0]
    assert ingested(tmp_path, content).manifest == made.manifest


def test_malformed_reviews_are_named_and_end_the_run_past_a_share(tmp_path: Path) -> None:
    content = archive(
        *((f"train/pos/{number}_9.txt", b"good") for number in range(9)), ("train/neg/3_1.txt", b"\xff")
    )
    made = ingested(tmp_path, content, malformed=0.1)
    assert made.counts["dropped"] == {"encoding": 1}
    assert "such as train/neg/3_1" in made.counts["losses"][0]
    with pytest.raises(WordloomError, match=r"1 of 10 reviews are malformed.*train/neg/3_1"):
        ingested(tmp_path / "again", content)


@pytest.mark.real_data
def test_the_genuine_set_is_read_whole(data: Path) -> None:
    with (data / "reviews" / "aclImdb_v1.tar.gz").open("rb") as stream:
        made = Reviews(stream, "aclImdb_v1.tar.gz")
        found = Counter((each.part, each.label) for each in made)
    quarter = 12_500
    assert found == {
        ("train", "positive"): quarter,
        ("train", "negative"): quarter,
        ("train", None): 4 * quarter,
        ("test", "positive"): quarter,
        ("test", "negative"): quarter,
    }
    assert made.seen == found.total() and not made.dropped
