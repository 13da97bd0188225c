from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
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


def test_the_projector_gets_a_word_a_line_and_counts_below_a_heading(tmp_path: Path) -> None:
    formats.write(VECTORS, tmp_path / "plain", "projector")
    assert (tmp_path / "plain" / "metadata.tsv").read_text().splitlines() == WORDS
    lines = (tmp_path / "plain" / "vectors.tsv").read_text().splitlines()
    assert [len(line.split("\t")) for line in lines] == [5] * 6
    counted = WordVectors(["New York", "b"], [[1, 2], [3, 4]], [7, 5])
    formats.write(counted, tmp_path / "counted", "projector")
    assert (tmp_path / "counted" / "metadata.tsv").read_text() == "word\tcount\nNew York\t7\nb\t5\n"
    again = formats.read(tmp_path / "counted" / "vectors.tsv")
    assert again.index_to_key == ["New York", "b"]
    assert again.counts is not None and again.counts.tolist() == [7, 5]


@pytest.mark.parametrize(
    ("table", "metadata", "sentence"),
    [
        (b"1\t2\n3\t4\n", b"a\n", "names 1 words.*has 2 vectors"),
        (b"1\t2\n3\t4\n", b"word\tcount\na\t1\n", "names 1 words.*has 2 vectors"),
        (b"1\t2\n3\n", b"a\nb\n", "vectors.tsv', line 2: 1 numbers, 2"),
        (b"1\t2\n\n", b"a\nb\n", "vectors.tsv', line 2: 0 numbers, 2"),
        (b"1\t2\n3\tx\n", b"a\nb\n", "vectors.tsv', line 2.*no number"),
        (b"1\t2\n3\tinf\n", b"a\nb\n", "vectors.tsv', line 2.*not finite"),
        (b"1\t2\n3\t4\n", b"a\n\n\n", "names 3 words"),
        (b"1\t2\n3\t4\n", b"\nb\n", "metadata.tsv', line 1: there is no word"),
        (b"1\t2\n3\t4\n", b"word\tcount\na\t1\nb\n", "metadata.tsv', line 3: 1 columns, 2"),
        (b"1\t2\n3\t4\n", b"word\tcount\na\t1\nb\tmany\n", "metadata.tsv', line 3: the count 'many'"),
        (b"1\t2\n3\t4\n", b"a\na\n", "two vectors for 'a', number 1 and number 2"),
        (b"", b"", "holds no vectors"),
        (b"1\t2\n", None, "there is no '.*metadata.tsv'"),
    ],
)
def test_malformed_files_of_the_projector_are_one_sentence_with_the_line(
    tmp_path: Path, table: bytes, metadata: bytes | None, sentence: str
) -> None:
    (tmp_path / "vectors.tsv").write_bytes(table)
    if metadata is not None:
        (tmp_path / "metadata.tsv").write_bytes(metadata)
    with pytest.raises(WordloomError, match=sentence):
        formats.read(tmp_path)


def test_a_folder_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    for kind in formats.FORMATS:
        with pytest.raises(WordloomError, match="taken"):
            formats.write(VECTORS, tmp_path / "taken", kind)
    assert [each.name for each in tmp_path.rglob("*")] == ["taken", "mine"]
    with pytest.raises(UsageError, match="no local path"):
        formats.write(VECTORS, "s3://bucket/vectors.txt")


def test_a_name_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    for kind in formats.FORMATS:
        with pytest.raises(
            WordloomError, match=r"Cannot write vectors .*: File name too long; check --output"
        ):
            formats.write(VECTORS, tmp_path / ("x" * 300), kind)


def test_a_device_is_never_replaced_and_a_link_leads_to_its_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "stdout"):
        with pytest.raises(UsageError, match="no regular file"):
            formats.write(VECTORS, tmp_path / name)
    assert (tmp_path / "stdout").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "vectors")
    formats.write(VECTORS, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert formats.read(tmp_path / "vectors").index_to_key == WORDS


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_a_write_that_breaks_off_leaves_the_old_file_alone(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vectors"
    if kind != formats.PROJECTOR:
        path.write_text("old")

    def broken(path: Path, pieces: Iterator[bytes]) -> None:
        path.write_bytes(next(pieces))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "_fill", broken)
    with pytest.raises(WordloomError, match="No space left"):
        formats.write(VECTORS, path, kind)
    left = [] if kind == formats.PROJECTOR else [path]
    assert list(tmp_path.iterdir()) == left
    assert all(each.read_text() == "old" for each in left)


def test_an_import_is_an_artefact_that_opens_and_is_found_again(tmp_path: Path) -> None:
    formats.write(VECTORS, tmp_path / "vectors.txt")
    made = formats.imported(tmp_path / "vectors.txt", str(tmp_path / "out"))
    opened = WordVectors.open(tmp_path / "out")
    assert opened.index_to_key == WORDS
    assert opened.counts is None
    np.testing.assert_array_equal(opened.vectors, VECTORS.vectors)
    assert made.counts == {"words": 6, "vector_size": 5}
    digest = hashlib.sha256((tmp_path / "vectors.txt").read_bytes()).hexdigest()
    assert made.manifest.inputs["file"].identity == digest
    again = formats.imported(tmp_path / "vectors.txt", str(tmp_path / "out"))
    assert again.manifest.made == made.manifest.made
    formats.write(WordVectors(["other"], [[1.0]]), tmp_path / "vectors.txt")
    with pytest.raises(WordloomError, match="another"):
        formats.imported(tmp_path / "vectors.txt", str(tmp_path / "out"))


def test_counts_survive_the_projector_and_back(tmp_path: Path) -> None:
    formats.write(WordVectors(["a", "b"], [[1, 2], [3, 4]], [7, 5]), tmp_path / "files", "projector")
    formats.imported(tmp_path / "files", str(tmp_path / "out"))
    counts = WordVectors.open(tmp_path / "out").counts
    assert counts is not None and counts.tolist() == [7, 5]


def test_binary_without_line_breaks_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "vectors.bin"
    rows = b"".join(
        word.encode() + b" " + row.tobytes() for word, row in zip(WORDS, VECTORS.vectors, strict=True)
    )
    path.write_bytes(b"6 5\n" + rows)
    np.testing.assert_array_equal(formats.read(path).vectors, VECTORS.vectors)


def test_binary_vectors_whose_bytes_break_a_line_early_are_no_text(tmp_path: Path) -> None:
    for early in (b"\n\n\n\n", b"7\n\0\0", b" \n\0\0", b" 7\n\0", b"7 x\n"):
        rows = b"a " + early + floats(1) + b"b " + floats(2, 3)
        (tmp_path / "vectors").write_bytes(b"2 2\n" + rows)
        assert formats.sniff(tmp_path / "vectors") == "word2vec-binary"
        assert formats.read(tmp_path / "vectors").index_to_key == ["a", "b"]
    for row in (b"a 1\n", b"\na 1 \n", b"a 1"):
        (tmp_path / "vectors").write_bytes(b"1 1\n" + row)
        assert formats.sniff(tmp_path / "vectors") == "word2vec"
    long = " ".join(["0.125"] * 20_000)  # a line that goes on beyond what is looked at
    (tmp_path / "vectors").write_text(f"1 20000\na {long}\n")
    assert formats.sniff(tmp_path / "vectors") == "word2vec"
    (tmp_path / "vectors").write_bytes(b"1 3\na 1 2\n")
    with pytest.raises(WordloomError, match="line 2: 2 numbers, 3 are expected"):
        formats.read(tmp_path / "vectors")
    (tmp_path / "vectors").write_bytes(b"1" * 5000 + b" 5\na 1 2 3 4 5\n")
    with pytest.raises(WordloomError, match="line 2: 5 numbers, 1 are expected"):
        formats.read(tmp_path / "vectors")


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "vectors"
    formats.write(VECTORS, path, kind)
    for file in path.iterdir() if path.is_dir() else [path]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert formats.sniff(path) == kind
    again = formats.read(path)
    assert again.index_to_key == WORDS
    np.testing.assert_array_equal(again.vectors, VECTORS.vectors)


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
        ("word2vec", b"1 2\na 1 1e39\n", "line 2.*not finite"),
        ("word2vec", b"3 2\na 1 2\nb 1 2\n", "ends after 2 vectors.*says 3"),
        ("word2vec", b"1 2\na 1 2\nb 1 2\n", "says 1"),
        ("word2vec", b"2 2\na 1 2\na 1 2\n", "two vectors for 'a', number 1 and number 2"),
        ("word2vec", b"1 2\n\xff 1 2\n", "line 2.*not UTF-8"),
        ("glove", b"", "no vectors"),
        ("glove", b"a 1 2\n 1 2\n", "line 2: there is no word"),
        ("glove", b"a 1 2\nb 1 2 3\n", "line 2: 3 numbers, 2"),
        ("glove", b"a\n", "line 1: 0 numbers"),
        ("word2vec-binary", b"2 2\na " + floats(1, 2), "ends after 1 vectors"),
        ("word2vec-binary", b"1 2\na " + floats(1), r"word 1 \(byte 4\): the file ends within"),
        (
            "word2vec-binary",
            b"2 2\na " + floats(1, 2) + b"\nb " + floats(1),
            r"word 2 \(byte 15\): the file ends within",
        ),
        (
            "word2vec-binary",
            b"1 2\na " + floats(1, 2) + b"\nb " + floats(1, 2),
            r"goes on after its 1.*byte 14",
        ),
        ("word2vec-binary", b"999999999999 9999\na " + floats(1), "ends within"),
        ("word2vec-binary", b"1 2\na " + floats(1, np.inf), "not finite"),
        ("word2vec-binary", b"1 2\n" + b"a" * 9999, "no space"),
        ("word2vec-binary", b"1 2\n " + floats(1, 2), r"word 1 \(byte 4\): there is no word"),
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
    for kind, word in (
        ("word2vec", "New York"),
        ("projector", "New\tYork"),
        ("glove", ""),
        ("word2vec", "a\n"),
    ):
        with pytest.raises(WordloomError, match=kind):
            formats.write(WordVectors([word], [[1.0]]), tmp_path / "vectors", kind)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="fasttext"):
        formats.write(VECTORS, tmp_path / "vectors", "fasttext")
    with pytest.raises(WordloomError, match="check the path"):
        formats.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("start", "sentence"), [(b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "zip"), (b"\xba\x16O/", r"\.vec file")]
)
def test_a_file_that_is_packed_or_a_whole_model_says_what_to_do(
    tmp_path: Path, start: bytes, sentence: str
) -> None:
    (tmp_path / "file").write_bytes(start + b" 1 2\n")
    for kind in (None, "word2vec", "word2vec-binary", "glove"):
        with pytest.raises(WordloomError, match=sentence):
            formats.read(tmp_path / "file", kind)


@pytest.mark.parametrize("kind", ["word2vec", "word2vec-binary", "glove"])
def test_gensim_reads_ours_with_the_same_neighbours_and_we_read_gensims(tmp_path: Path, kind: str) -> None:
    models = pytest.importorskip("gensim.models", reason="gensim comes with the extra `bench`")
    words = [f"w{number}" for number in range(200)]
    table = np.random.default_rng(2).standard_normal((200, 20)).astype(np.float32)
    ours, path, binary = WordVectors(words, table), tmp_path / "ours", kind == "word2vec-binary"
    formats.write(ours, path, kind)
    theirs = models.KeyedVectors.load_word2vec_format(str(path), binary=binary, no_header=kind == "glove")
    assert theirs.index_to_key == words
    assert theirs.vectors.tobytes() == table.tobytes()
    for question in (["w3"], ["w7", "w9"]):
        said = theirs.most_similar(question, topn=10)
        found = ours.most_similar(question, topn=10)
        assert [word for word, _ in found] == [word for word, _ in said]
        assert [score for _, score in found] == pytest.approx([score for _, score in said], abs=1e-6)
    theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary, write_header=kind != "glove")
    again = formats.read(tmp_path / "theirs")
    assert again.index_to_key == words
    assert again.vectors.tobytes() == table.tobytes()


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


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["crime-and-punishment.vec", "euclidean_vectors.bin", "word2vec_pre_kv_c"])
def test_a_file_of_another_tool_that_is_cut_anywhere_is_refused(
    data: Path, tmp_path: Path, name: str
) -> None:
    whole = (data / "vectors" / name).read_bytes()
    kind = formats.sniff(data / "vectors" / name)
    for share in (0.1, 0.37, 0.5, 0.99):
        (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WordloomError, match=r"line|byte|ends after"):
            formats.read(tmp_path / "cut", kind)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("test_glove.txt", "word2vec", "line 1.*no header"),
        ("euclidean_vectors.bin", "glove", "line 1: 1 numbers|line 2"),
        ("euclidean_vectors.bin", "word2vec", "line 2"),
        ("crime-and-punishment.vec", "word2vec-binary", "byte"),
        ("word2vec_pre_kv_c", "glove", "line 2: 10 numbers, 1 are"),
        ("test_glove.txt", "projector", "there is no"),
    ],
)
def test_a_file_of_another_format_than_said_is_refused(
    data: Path, name: str, kind: str, sentence: str
) -> None:
    with pytest.raises(WordloomError, match=sentence):
        formats.read(data / "vectors" / name, kind)
