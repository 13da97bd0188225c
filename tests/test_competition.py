"""trainers/submission.py: the competition's files, in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import WordloomError
from cluster.progress import Reporter
from trainers.competition import ReviewTable, predict_file


class Counting:
    """Takes a text for positive that holds "good"."""

    labels = ("negative", "positive")

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        positive = np.array([0.9 if "good" in text else 0.2 for text in texts], np.float32)
        return np.stack([1 - positive, positive], axis=1)


def judged(source: Path, output: Path, probabilities: bool = False) -> ReviewTable:
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
