"""How a training went, as a picture and for TensorBoard.

What is drawn is what the loop keeps: the loss of every interval (a *curve*: position in blocks and loss), and
the figures after each epoch (the *history*). No TensorFlow here.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import picture
from cluster.folder import FileRecord, Folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "curves.png"
EVENTS = "tensorboard/events.out.tfevents.training"
HELD_OUT = "held_out_"
POINTS = 1000  # of a curve; a longer one loses every second point
PANEL = (5.0, 3.2)  # inches
ACROSS = 3  # panels side by side

Curve = Sequence[Sequence[float]]
History = Sequence[Mapping[str, Any]]


def write_curves(folder: Folder, curve: Curve, history: History, name: str) -> dict[str, FileRecord]:
    """Writes the picture and TensorBoard's file of a training called `name` into an artefact's folder."""
    files = {}
    for file, content in (
        (PICTURE, picture.png(drawn(curve, history, name))),
        (EVENTS, events(curve, history)),
    ):
        with folder.writer(file) as stream:
            stream.write(content)
        files[file] = stream.record
    return files


def drawn(curve: Curve, history: History, name: str) -> Figure:
    """A panel for every figure, what was held out beside what was trained on."""
    panels = _panels(history)
    across = min(len(panels), ACROSS)
    down = -(-len(panels) // across)
    made = picture.figure(PANEL[0] * across, PANEL[1] * down)
    places = made.subplots(down, across, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, series) in zip(places, panels, strict=False):
        if title == "loss" and curve:
            positions, losses = zip(*curve, strict=True)
            axes.plot(positions, losses, color="tab:blue", alpha=0.35, linewidth=1, label="each interval")
        for label, points in series.items():
            style = {"color": "tab:orange", "marker": "o"} if label == "held out" else {"color": "tab:blue"}
            axes.plot(*zip(*points, strict=True), **{"marker": ".", **style}, label=label)
        axes.set_title(title.replace("_", " "))
        axes.set_xlabel("blocks")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    made.suptitle(name)
    return made


def events(curve: Curve, history: History) -> bytes:
    """An event file of TensorBoard; its times are those of the training, counted from its writing."""
    from tensorboardX import SummaryWriter

    began = time.time() - max((float(entry["seconds"]) for entry in history), default=0.0)
    with tempfile.TemporaryDirectory() as aside:
        with SummaryWriter(aside) as writer:
            for position, loss in curve:
                writer.add_scalar("interval/loss", loss, int(position), began)
            for entry, figures in zip(history, figures_of(history), strict=True):
                for key, value in figures.items():
                    writer.add_scalar(f"epoch/{key}", value, entry["position"], began + entry["seconds"])
        (made,) = Path(aside).iterdir()
        return made.read_bytes()


def figures_of(history: History) -> list[dict[str, float]]:
    """The figures after each epoch, without texts and without counts, which are whole numbers throughout."""
    keys = {
        key: [entry.get(key) for entry in history]
        for key in (history[0] if history else {})
        if key not in ("epoch", "position", "seconds", "cpu_seconds")
    }
    drawn = [
        key
        for key, values in keys.items()
        if not all(value is None or isinstance(value, str) or value == int(value) for value in values)
    ]
    return [{key: entry[key] for key in drawn if entry.get(key) is not None} for entry in history]


def _panels(history: History) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """For each figure, the loss first, its points by what they were measured on."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    panels["loss"] = defaultdict(list)
    for entry, figures in zip(history, figures_of(history), strict=True):
        for key, value in figures.items():
            label = "held out" if key.startswith(HELD_OUT) else "trained on"
            panels[key.removeprefix(HELD_OUT)][label].append((entry["position"], value))
    return list(panels.items())
