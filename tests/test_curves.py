"""How a training went: pictures for people, event files that TensorBoard's own reader understands."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from matplotlib.image import imread

from cluster.folder import Folder
from cluster.picture import png
from cluster.progress import thinned
from trainers import curves

HISTORY = [
    {"epoch": 1, "position": 10, "seconds": 2.5, "loss": 2.0, "tokens": 900.0, "held_out_loss": 2.25},
    {"epoch": 2, "position": 20, "seconds": 5.0, "loss": 1.5, "tokens": 901.0, "held_out_loss": None},
]
CURVE = [[5, 2.5], [10, 2.0], [15, 1.75], [20, 1.5]]


def scalars(content: bytes) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), out of the records of a TFRecord file, each an event in TensorBoard's form."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    place = 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + length])
        place += 12 + length + 4
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_gets_every_figure_at_its_position_and_no_count() -> None:
    assert scalars(curves.events(CURVE, HISTORY)) == {
        "interval/loss": [(5, 2.5), (10, 2.0), (15, 1.75), (20, 1.5)],
        "epoch/loss": [(10, 2.0), (20, 1.5)],
        "epoch/held_out_loss": [(10, 2.25)],
    }


def test_the_picture_shows_what_was_given() -> None:
    drawn = imread(io.BytesIO(png(curves.drawn(CURVE, HISTORY, "vectors"))))
    without = imread(io.BytesIO(png(curves.drawn([], [], "vectors"))))
    assert drawn.shape == without.shape
    assert (drawn != without).any(axis=2).sum() > 500


def test_the_same_training_gives_the_same_picture() -> None:
    one, other = (png(curves.drawn(CURVE, HISTORY, "vectors")) for _ in range(2))
    assert one == other


def test_a_long_curve_keeps_its_last_point_and_its_length_is_bounded() -> None:
    curve: list[list[float]] = []
    for position in range(5000):
        curve = thinned([*curve, [position, 1.0]], curves.POINTS)
        assert len(curve) <= curves.POINTS and curve[-1][0] == position


def test_both_files_are_written_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    files = curves.write_curves(folder, CURVE, HISTORY, "vectors")
    assert set(files) == {curves.PICTURE, curves.EVENTS}
    assert all((tmp_path / name).stat().st_size == record.bytes for name, record in files.items())
