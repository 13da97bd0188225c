"""The map of the commonest words: a picture, and what TensorBoard's projector reads."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from cluster.folder import Folder
from cluster.picture import png
from trainers import formats
from trainers.vectors import WordVectors
from trainers.word_map import BOARD, CONFIG, PICTURE, PROJECTED, drawn, plane, write_map


def test_the_plane_is_the_one_in_which_the_words_differ_most() -> None:
    random = np.random.default_rng(3)
    angles = random.random(40) * 2 * np.pi
    flat = np.zeros((40, 5), np.float32)
    flat[:, 1], flat[:, 3] = np.cos(angles), np.sin(angles)
    points, share = plane(flat * random.uniform(0.1, 9, (40, 1)).astype(np.float32))
    assert share > 0.999999
    centred = flat[:, [1, 3]] - flat[:, [1, 3]].mean(0)
    np.testing.assert_allclose(points @ points.T, centred @ centred.T, atol=1e-5)


def test_one_word_none_and_zero_vectors_have_a_plane_too() -> None:
    for table in (np.zeros((0, 3)), np.ones((1, 3)), np.zeros((4, 3)), np.ones((3, 1))):
        points, share = plane(table.astype(np.float32))
        assert points.shape == (len(table), 2)
        assert np.isfinite(points).all()
        assert 0 <= share <= 1


def test_the_picture_shows_every_script_and_sign() -> None:
    content = png(drawn(["a$b$", "$", "\\frac", "{", "_^", "日本"], np.eye(6, dtype=np.float32)))
    assert imread(io.BytesIO(content)).ndim == 3


def test_the_projector_gets_the_commonest_words_without_the_unknown(tmp_path: Path) -> None:
    size = PROJECTED + 20
    table = np.random.default_rng(1).standard_normal((size, 4)).astype(np.float32)
    words = ["<unk>", *(f"w{number}" for number in range(1, size))]
    vectors = WordVectors(words, table, np.arange(size, 0, -1))
    files = write_map(Folder(tmp_path), vectors)
    assert set(files) == {PICTURE, *(f"{BOARD}/{name}" for name in ("vectors.tsv", "metadata.tsv", CONFIG))}
    read = formats.read(tmp_path / BOARD, "projector")
    assert read.index_to_key == words[1 : PROJECTED + 1]
    np.testing.assert_array_equal(read.vectors, table[1 : PROJECTED + 1])
    assert read.counts is not None and read.counts[0] == size - 1
    config = (tmp_path / BOARD / CONFIG).read_text()
    assert 'tensor_path: "vectors.tsv"' in config and 'metadata_path: "metadata.tsv"' in config
