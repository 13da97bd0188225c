"""trainers/competition.py: the competition's files, in and out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UsageError, WordloomError
from cluster.progress import Reporter
from trainers.competition import ReviewTable, predict_file


class Counting:
    """Takes a text for positive that holds "good"."""

    labels = ("negative", "positive")

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        positive = np.array([0.9 if "good" in text else 0.2 for text in texts], np.float32)
        return np.stack([1 - positive, positive], axis=1)


def judged(source: Path, output: str | Path, probabilities: bool = False) -> ReviewTable:
    with Reporter(quiet=True).stage("x") as stage:
        return predict_file(Counting(), str(source), output, probabilities, stage)[0]


def test_the_competitions_form_goes_in_and_comes_out(tmp_path: Path) -> None:
    source = tmp_path / "testData.tsv"
    lines = [
        b"id\treview\r",
        b'"12311_10"\t"A \\"good\\" film.<br /><br />Yes."\r',
        b"8348_2\tBad & dull",
        b'"5_1"\t"a ""good"" one"',
    ]
    source.write_bytes(b"\n".join(lines))
    assert [text for _, text in ReviewTable(str(source))] == [
        'A "good" film.\nYes.',
        "Bad & dull",
        'a "good" one',
    ]
    table = judged(source, tmp_path / "deep" / "submission.csv")
    assert (tmp_path / "deep" / "submission.csv").read_text() == "id,sentiment\n12311_10,1\n8348_2,0\n5_1,1\n"
    assert table.rows == 3 and not table.dropped
    judged(source, tmp_path / "p.csv", probabilities=True)
    assert (tmp_path / "p.csv").read_text().splitlines()[1] == "12311_10,0.900000"


@pytest.mark.parametrize(
    "heading", ["id\treview", "ID\ttext", '"id"\t"sentiment"\t"review"', "\ufeffid\treview\tstars"]
)
def test_a_heading_is_no_review_and_says_which_column_they_are(tmp_path: Path, heading: str) -> None:
    names = heading.lower().replace('"', "").split("\t")
    row = ["7", *("good" if name in ("review", "text") else "0" for name in names[1:])]
    (tmp_path / "in.tsv").write_text("\n".join([heading, "\t".join(row)]))
    assert list(ReviewTable(str(tmp_path / "in.tsv"))) == [("7", "good")]


def test_columns_that_nobody_named_are_not_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("id\tsentiment\ttext\n1\t0\tbad\n")
    with pytest.raises(WordloomError, match=r"has the columns id, sentiment, text; call the one to judge"):
        list(ReviewTable(str(tmp_path / "in.tsv")))
    (tmp_path / "in.tsv").write_text("1\t0\tbad\n2\t1\tgood\n")
    with pytest.raises(WordloomError, match=r"2 of 2 lines.*line 1 has 3 columns in place of 2;"):
        list(ReviewTable(str(tmp_path / "in.tsv")))


def test_where_nothing_can_be_written_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was judged")

    monkeypatch.setattr(Counting, "predict", never)
    source = tmp_path / "in.tsv"
    source.write_text("1\tgood\n")
    (tmp_path / "link").symlink_to(source)
    os.mkfifo(tmp_path / "pipe")
    for output, sentence in (
        ("s3://bucket/out.csv", "no local path"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "no regular file"),
        (source, "is the input itself"),
        (tmp_path / "link", "is the input itself"),
    ):
        with pytest.raises(UsageError, match=sentence):
            judged(source, output)
    assert source.read_text() == "1\tgood\n"
    with pytest.raises(WordloomError, match=r"none.tsv': no such file; check --input\."):
        judged(tmp_path / "none.tsv", tmp_path / "out.csv")


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("1\tgood\n")
    for output in ("/proc/none/out.csv", tmp_path / "in.tsv" / "out.csv", tmp_path / ("x" * 300)):
        with pytest.raises(WordloomError, match=r"Cannot write .*(check --output|choose another folder)\."):
            judged(tmp_path / "in.tsv", output)


def test_malformed_lines_are_named_and_end_the_run_past_a_share(tmp_path: Path) -> None:
    good = [f'"{number}"\t"good {number}"' for number in range(400)]
    source = tmp_path / "in.tsv"
    source.write_text("\n".join(["id\treview", *good, "no tab", '"7"\t"again"', '"x"\t""']))
    table = judged(source, tmp_path / "out.csv")
    assert table.rows == 400 and table.dropped == 3
    assert table.malformed[0].startswith("line 402 is no id<TAB>review but 'no tab'")
    assert table.malformed[1] == "line 403 repeats the id '7'"
    source.write_text("\n".join([*good[:5], "no tab"]))
    with pytest.raises(WordloomError, match=r"1 of 6 lines are no reviews \(line 6 is no id"):
        judged(source, tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize("content", [b"", b"id\treview\n", b"\x00\xff\xfe"])
def test_a_file_without_a_review_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.tsv").write_bytes(content)
    with pytest.raises(WordloomError, match="are no reviews"):
        judged(tmp_path / "in.tsv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
