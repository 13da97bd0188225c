"""The commonest words as a picture and for TensorBoard's projector. Pure; no TensorFlow here.

The picture is the plane in which the words' unit vectors differ most (principal components). Neighbours there
need not be neighbours among the vectors: the plane says some tenth of what they hold, and its title how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster import picture
from cluster.folder import FileRecord, Folder
from trainers.formats import METADATA, TABLE, projected_rows, projected_words
from trainers.vectors import UNKNOWN, Floats, WordVectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "words.png"
BOARD = "tensorboard"  # the folder that `tensorboard --logdir` is given
CONFIG = "projector_config.pbtxt"  # the name that the projector looks for
SHOWN = 250  # words in the picture; more cannot be read
PROJECTED = 5000  # words for the projector, which loads them into a browser


def write_map(folder: Folder, vectors: WordVectors) -> dict[str, FileRecord]:
    """Writes the picture, and beside it what TensorBoard's projector reads, into an artefact's folder."""
    common = commonest(vectors, PROJECTED)
    words = common.index_to_key
    config = f'embeddings {{\n  tensor_path: "{TABLE}"\n  metadata_path: "{METADATA}"\n}}\n'
    files = {
        PICTURE: [picture.png(drawn(words[:SHOWN], common.vectors[:SHOWN]))],
        f"{BOARD}/{TABLE}": projected_rows(common),
        f"{BOARD}/{METADATA}": projected_words(common),
        f"{BOARD}/{CONFIG}": [config.encode()],
    }
    records = {}
    for name, pieces in files.items():
        with folder.writer(name) as stream:
            stream.write(b"".join(pieces))
        records[name] = stream.record
    return records


def commonest(vectors: WordVectors, count: int) -> WordVectors:
    """The `count` commonest words, without the unknown one, in a table of their own."""
    rows = [row for row, word in enumerate(vectors.index_to_key[: count + 1]) if word != UNKNOWN][:count]
    words = [vectors.index_to_key[row] for row in rows]
    counts = None if vectors.counts is None else np.asarray(vectors.counts)[rows]
    return WordVectors(words, np.asarray(vectors.vectors[rows], np.float32), counts)


def plane(vectors: Floats) -> tuple[Floats, float]:
    """Points float32 [n, 2] of vectors [n, d] in the plane of the two largest principal components of their
    unit vectors, and the share of the variance that lies in it. The sign of each axis is such that its
    farthest point is positive."""
    table = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)
    unit -= unit.mean(0) if len(unit) else 0.0
    left, values, _ = np.linalg.svd(unit, full_matrices=False)
    points = np.zeros((len(unit), 2))
    axes = min(2, len(values))
    points[:, :axes] = left[:, :axes] * values[:axes]
    if len(points):
        points *= np.where(points[np.abs(points).argmax(0), [0, 1]] < 0, -1.0, 1.0)
    total = float(values @ values)
    return points.astype(np.float32), float(values[:2] @ values[:2]) / total if total else 0.0


def drawn(words: list[str], vectors: Floats) -> Figure:
    """`words` at their points in the plane."""
    points, share = plane(vectors)
    made = picture.figure(11, 8.5)
    axes = made.subplots()
    axes.scatter(points[:, 0], points[:, 1], s=4, color="tab:orange")
    for word, (x, y) in zip(words, points.tolist(), strict=True):
        # A dollar sign would begin a formula.
        axes.annotate(word.replace("$", r"\$"), (x, y), fontsize=7, alpha=0.8)
    axes.set_title(f"the {len(words)} commonest words; the plane holds {share:.0%} of their variance")
    axes.grid(alpha=0.3)
    return made
