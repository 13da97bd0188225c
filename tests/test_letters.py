"""ingest/letters.py: handwritten words, a letter a line."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import WordloomError
from ingest.letters import PIXELS, Words, read_lines
from tests import letters
from tests.letters import line


def word(first: int, letters: str) -> list[bytes]:
    last = first + len(letters) - 1
    return [
        line(first + place, letter, -1 if first + place == last else first + place + 1, place + 1)
        for place, letter in enumerate(letters)
    ]


MANY = [each for number in range(200) for each in word(1000 + 10 * number, "abc")]


def test_words_come_whole_with_their_pixels_row_by_row() -> None:
    pixels = "".join(str(number % 3 % 2) for number in range(PIXELS))
    (only,) = Words([line(1, "a", 2, 1, 7), line(2, "b", -1, 2, 7, pixels)], "x")
    assert (only.line, only.letters, only.fold) == (1, "ab", 7)
    assert only.pixels.shape == (2, 16, 8) and only.pixels.dtype == np.uint8
    assert "".join(map(str, only.pixels[1].ravel())) == pixels


def test_an_all_blank_image_is_a_letter_like_any_other() -> None:
    (only,) = Words([line(2, "a", 3, 1, pixels="0" * PIXELS), line(3, "b", -1, 2, pixels="0" * PIXELS)], "x")
    assert only.letters == "ab" and not only.pixels.any()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (b"1\ta\t2\n", "has 3 fields, not 134"),
        (line(5, "ab", -1, 1), "has b'ab' as its letter"),
        (line(5, "a", -1, 1, pixels="2" + "0" * 127), "neither 0 nor 1"),
        (line(5, "a", -1, 1).replace(b"5\t", b"x\t", 1), "as its id"),
        (line(5, "a", -1, 1, 99_999_999_999), "as its fold"),
        (b"\xff\xfe\n", "has 1 fields"),
    ],
)
def test_a_malformed_line_is_named_and_tears_its_word_alone(broken: bytes, says: str) -> None:
    torn = word(5, "xyz")
    lines = [*word(1, "one"), torn[0], broken, torn[2], *word(8, "two"), *MANY]
    words = Words(lines, "letters")
    assert [each.letters for each in words][:3] == ["one", "two", "abc"]
    assert words.dropped == {"malformed": 1, "torn": 2}
    (sentence,) = words.sentences()
    assert "line 5" in sentence and says in sentence


def test_a_missing_line_tears_its_word_alone() -> None:
    torn = word(5, "xyz")
    words = Words([torn[0], torn[2], *word(8, "two"), torn[1], torn[2], *word(20, "end")], "x")
    assert [each.letters for each in words] == ["two", "end"]
    assert words.dropped["torn"] == 4 and words.sentences()


def test_kept_and_dropped_letters_are_all_lines() -> None:
    lines = [*MANY[:100], b"noise\n", *MANY[101:], *word(1, "cut")[:2]]
    words = Words(lines, "x")
    kept = sum(len(each.letters) for each in words)
    assert kept + words.dropped.total() == words.lines == len(lines)


def test_too_many_malformed_lines_end_the_run() -> None:
    with pytest.raises(
        WordloomError, match=r"3 of 603 lines are malformed, more than the allowed share of 0\.10%"
    ):
        list(Words([*MANY, b"a\n", b"b\n", b"c\n"], "x", allowed=0.001))
    with pytest.raises(WordloomError, match="holds no letter; line 1 has 1 fields"):
        list(Words([b"hello\n"], "x"))
    with pytest.raises(WordloomError, match="holds no letter"):
        list(Words([], "x"))


def test_gzip_and_plain_files_are_read_and_a_cut_one_is_said() -> None:
    content = b"".join(MANY)
    packed = gzip.compress(content)
    assert b"".join(read_lines(io.BytesIO(packed), "x")) == content
    assert b"".join(read_lines(io.BytesIO(content), "x")) == content
    assert b"".join(read_lines(io.BytesIO(b"\xef\xbb\xbf" + content), "x")) == content
    with pytest.raises(WordloomError, match="damaged or cut"):
        list(read_lines(io.BytesIO(packed[:-20]), "x"))


@pytest.mark.real_data
def test_the_genuine_letters_are_read_whole(data: Path) -> None:
    with (data / "letters" / "letter.data.gz").open("rb") as stream:
        words = Words(read_lines(stream, "letters"), "letters")
        found = list(words)
    assert (len(found), words.lines, len({each.letters for each in found})) == (6877, 52152, 55)
    assert not words.dropped.total() and max(len(each.letters) for each in found) == 14


def test_a_file_becomes_a_corpus_of_labelled_frames(tmp_path: Path) -> None:
    made = letters.corpus(tmp_path, copies=2, folds=3)
    part = made.read("train")
    assert (made.per, made.width, made.labels, made.synthetic) == ("frame", PIXELS, list("abcd"), False)
    assert len(part) == 2 * len(letters.WORDS)
    assert set(part.numbers) == {"fold", "line"}
    assert part.numbers["line"].tolist() == [1 + 3 * number for number in range(len(part))]
    spelled = [
        "".join(made.labels[each] for each in part.labels[3 * n : 3 * n + 3]) for n in range(len(part))
    ]
    assert spelled == list(letters.WORDS) * 2
    again = letters.corpus(tmp_path, copies=2, folds=3)
    assert again.artefact.identity == made.artefact.identity
