"""The embedded default words: synthetic images of the letterforms of matplotlib's fonts.

A word is written in one font with a slant of its own; each letter is shifted and sized a little, drawn into
16 rows of 8 bits, as the handwritten letters are (`ingest.letters`), and a few bits are turned over.

Everything made of these words says that they are synthetic.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest.letters import COLUMNS, PIXELS, ROWS
from ingest.sequence_corpus import TRAIN, LabelledSequence, SequenceWriter, draft_of

if TYPE_CHECKING:
    from matplotlib.path import Path

# All letters occur in several words each.
WORDS = (
    *("amber", "bronze", "cabin", "dozen", "equal", "fable", "garden", "hazel", "island", "jacket"),
    *("kitchen", "ladder", "mixture", "narrow", "oxygen", "pocket", "quartz", "river", "silver", "thunder"),
    *("umbrella", "velvet", "window", "yellow", "zebra", "jigsaw", "wax", "vivid", "unique", "joke"),
    *("box", "kayak", "lazy", "exam", "squirrel", "fjord", "puzzle", "quick", "shadow", "of"),
)
# Files that matplotlib brings along, so that every machine draws the same.
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSansMono.ttf",
    "STIXGeneralItalic.ttf",
)
DRAWING = 2  # raised when letters are drawn in another way; tests/test_word_images.py guards it
FINE = 3  # points across a pixel, which is set where three of them are inside: at half thin strokes vanish


@dataclass(frozen=True)
class WordImagesSettings:
    """Section ``word_images``: how many `words` are written; up to how much each is slanted (`shear`,
    columns a row), each letter moved (`shift`, pixels) and sized (`scale`, a share); `noise` is the share of
    bits that are turned over."""

    words: int = 1600
    shear: float = 0.12
    shift: float = 0.7
    scale: float = 0.12
    noise: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.words < 2:
            raise UsageError(f"Setting 'word_images.words' is {self.words}; give at least 2.")
        if self.seed < 0:
            raise UsageError(f"Setting 'word_images.seed' is {self.seed}; give 0 or more.")
        for name, most in (("shear", 1.0), ("shift", ROWS), ("scale", 0.9), ("noise", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"Setting 'word_images.{name}' is {getattr(self, name)}; give 0 to {most}.")


def made_settings(settings: WordImagesSettings) -> dict[str, Any]:
    """The settings of the corpus: how its images lie, and that it is synthetic."""
    drawn = {"drawing": DRAWING}
    drawn |= {name: getattr(settings, name) for name in ("words", "shear", "shift", "scale", "noise", "seed")}
    return {"source": "word images", "image_rows": ROWS, "synthetic": True, **drawn}


def make_word_images(output: str | Folder, settings: WordImagesSettings, reporter: Reporter) -> Artefact:
    """The corpus of synthetic word images, a frame a letter, in a few seconds."""
    draft = draft_of(output, {}, made_settings(settings))
    if draft.published is not None:
        return draft.published
    with reporter.stage("synthetic words") as stage:
        writer = SequenceWriter(draft, "frame")
        for row in word_images(settings):
            writer.add(row)
        made = writer.publish()
        counts = made.counts
        stage.summary(f"{counts['sequences']:,} words, {counts['frames']:,} letters, drawn from fonts")
    return made


def word_images(settings: WordImagesSettings) -> Iterator[LabelledSequence]:
    """The words in their order; each depends on the seed and its number alone."""
    for number in range(settings.words):
        random = np.random.default_rng([settings.seed, number])
        word = WORDS[int(random.integers(len(WORDS)))]
        font = FONTS[int(random.integers(len(FONTS)))]
        shear = settings.shear * random.uniform(-1, 1)
        images = [image(letter, font, shear, settings, random) for letter in word]
        frames = np.stack(images).reshape(len(word), PIXELS)
        yield LabelledSequence(f"synthetic/{number}", TRAIN, frames, list(word))


def image(
    letter: str,
    font: str,
    shear: float,
    settings: WordImagesSettings,
    random: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """One letter, uint8 [16, 8] of 0 and 1."""
    drawn = random.uniform(-1, 1, 4)
    rows, columns = (
        (np.arange(size * FINE) + 0.5) / (size * FINE) - 0.5 for size in (ROWS, COLUMNS)
    )  # -.5 to .5, downwards and to the right
    y = (rows[:, None] + settings.shift * drawn[0] / ROWS) * (1 + settings.scale * drawn[1])
    x = (columns[None, :] + settings.shift * drawn[2] / COLUMNS) * (1 + settings.scale * drawn[3])
    x = x + shear * y * ROWS / COLUMNS
    points = np.stack(np.broadcast_arrays(x + 0.5, 0.5 - y), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(points), bool)
    for outline in _outlines(letter, font):
        inside ^= outline.contains_points(points)  # a hole is an outline in an outline
    shares = inside.reshape(ROWS, FINE, COLUMNS, FINE).mean(axis=(1, 3))
    bits = (shares > 0.3) ^ (random.random((ROWS, COLUMNS)) < settings.noise)
    return np.asarray(bits, np.uint8)


@functools.cache
def _outlines(letter: str, font: str) -> list[Path]:
    """The closed outlines of a letter in an image that reaches from 0 to 1 both ways: in its middle, and as
    large as its shape lets it be, as the handwritten letters lie in theirs."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    file = FontProperties(fname=f"{matplotlib.get_data_path()}/fonts/ttf/{font}")
    polygons = [
        np.asarray(each) for each in TextPath((0, 0), letter, 100, prop=file).to_polygons(closed_only=True)
    ]
    corners = np.concatenate(polygons)
    least, most = corners.min(axis=0), corners.max(axis=0)
    size = np.array([COLUMNS, ROWS])
    scale = (size / (most - least)).min()
    return [Path((each - (least + most) / 2) * scale / size + 0.5) for each in polygons]
