from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UsageError, WordloomError
from trainers import formats
from trainers.vectors import WordVectors

WORDS = ["the", "naïve", "水", "<unk>", "3.5", "."]
VECTORS = WordVectors(WORDS, np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32) * 1e-3)


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "vectors"
    formats.write(VECTORS, path, kind)
    assert formats.sniff(path) == kind
    for given in (kind, None):
        again = formats.read(path, given)
        assert again.index_to_key == WORDS
        np.testing.assert_array_equal(again.vectors, VECTORS.vectors)
    assert [each.name for each in tmp_path.iterdir()] == ["vectors"]


def test_binary_without_line_breaks_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "vectors.bin"
    rows = b"".join(
        word.encode() + b" " + row.tobytes() for word, row in zip(WORDS, VECTORS.vectors, strict=True)
    )
    path.write_bytes(b"6 5\n" + rows)
    np.testing.assert_array_equal(formats.read(path).vectors, VECTORS.vectors)


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    ("kind", "content", "sentence"),
    [
        ("word2vec", b"", "line 1"),
        ("word2vec", b"a 1 2\n", "line 1.*header"),
        ("word2vec", b"2 2\na 1 2\nb 1\n", "line 3: 1 numbers, 2"),
        ("word2vec", b"2 2\na 1 2\nb 1 x\n", "line 3.*no number"),
        ("word2vec", b"2 2\na 1 2\nb 1 nan\n", "line 3.*not finite"),
        ("word2vec", b"3 2\na 1 2\nb 1 2\n", "ends after 2 vectors.*says 3"),
        ("word2vec", b"1 2\na 1 2\nb 1 2\n", "says 1"),
        ("word2vec", b"2 2\na 1 2\na 1 2\n", "two vectors for 'a', the 1th and the 2th"),
        ("word2vec", b"1 2\n\xff 1 2\n", "line 2.*not UTF-8"),
        ("glove", b"", "no vectors"),
        ("glove", b"a 1 2\nb 1 2 3\n", "line 2: 3 numbers, 2"),
        ("glove", b"a\n", "line 1: 0 numbers"),
        ("word2vec-binary", b"2 2\na " + floats(1, 2), "ends after 1 vectors"),
        ("word2vec-binary", b"1 2\na " + floats(1), "word 1: the file ends within"),
        ("word2vec-binary", b"999999999999 9999\na " + floats(1), "ends within"),
        ("word2vec-binary", b"1 2\na " + floats(1, np.inf), "not finite"),
        ("word2vec-binary", b"1 2\n" + b"a" * 9999, "no space"),
    ],
)
def test_a_malformed_file_is_one_sentence_with_the_place(
    tmp_path: Path, kind: str, content: bytes, sentence: str
) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(WordloomError, match=sentence):
        formats.read(path, kind)


def test_a_word_with_a_space_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="'New York'"):
        formats.write(WordVectors(["New York"], [[1.0]]), tmp_path / "vectors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="fasttext"):
        formats.write(VECTORS, tmp_path / "vectors", "fasttext")
    with pytest.raises(WordloomError, match="check the path"):
        formats.read(tmp_path / "none")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "kind", "shape", "first"),
    [
        ("crime-and-punishment.vec", "word2vec", (291, 5), "и"),
        ("euclidean_vectors.bin", "word2vec-binary", (2747, 10), "the"),
        ("high_precision.kv.bin", "word2vec-binary", (2, 2), "kangaroo.n.01"),
        ("high_precision.kv.txt", "word2vec", (2, 2), "kangaroo.n.01"),
        ("test_glove.txt", "glove", (76, 50), "the"),
        ("word2vec_pre_kv_c", "word2vec", (1750, 10), "the"),
    ],
)
def test_files_of_other_tools_are_read(
    data: Path, name: str, kind: str, shape: tuple[int, int], first: str
) -> None:
    path = data / "vectors" / name
    assert formats.sniff(path) == kind
    vectors = formats.read(path)
    assert vectors.vectors.shape == shape
    assert vectors.index_to_key[0] == first
