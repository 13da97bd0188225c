"""What a labeller reads, frame by frame, and how it comes in JSON: tokens, numbers, or images.

An image is as many rows as the model's images have, each a list of numbers from 0 (paper) to 1 (ink) or a
string of ``0`` and ``1``; or a PNG in base64, dark ink on light or transparent paper. A PNG of the model's
own size is taken pixel by pixel; of any other, the ink is scaled to the model's size, as wide or as high as
it goes, and put in the middle (as the letters of Kassel and Taskar are).
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_PIXELS = 1 << 18  # of a PNG: 512 x 512
PREFIX = "data:image/png;base64,"
INK = 1 / 3  # the share of a pixel's area from which on it is ink: thin strokes stay whole
LARGEST = 1e6  # of a number: far beyond what models are trained on, far below what a float holds

# Three letters of 16 x 8, for examples.
_CAT = """
........ ........ ...#....
........ ........ ...#....
........ ........ ...##...
........ ........ ..###...
..####.. ..####.. ########
.##..##. .##..#.. ...#....
##...... ##...#.. ...#....
#....... #....#.. ...#....
#....... #....#.. ...#....
#....... #...##.. ...#....
##...... ##..##.. ...#....
.##..##. .####.#. ...##...
..####.. ..##..## ....##..
........ ........ .....###
........ ........ ......##
........ ........ ........
"""
LETTERS = tuple(zip(*(line.split() for line in _CAT.strip().splitlines()), strict=True))


class FrameError(ValueError):
    """A frame that the model cannot read, in a sentence."""


@dataclass(frozen=True)
class Frames:
    """What a model reads: tokens (`width` 0), or `width` numbers a frame, which are an image where it has
    `rows`."""

    width: int
    rows: int = 0

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Frames:
        """What a published labeller reads, by its ``model.json``. Raises KeyError and TypeError."""
        front = model["front"]
        return cls(int(front["frame"]), int(front["rows"]))

    @property
    def columns(self) -> int:
        """Of an image."""
        return self.width // self.rows if self.rows else 0

    @property
    def sentence(self) -> str:
        """What a frame must be."""
        if not self.width:
            return "A frame is a token."
        if not self.rows:
            return f"A frame is a list of {self.width} numbers."
        return (
            f"A frame is an image of {self.rows} rows of {self.columns}: rows as strings of 0 and 1 or as "
            "lists of numbers from 0 to 1, or a PNG in base64."
        )

    def example(self) -> list[Any]:
        """A sequence that the model can read."""
        if not self.width:
            return ["This", "is", "one"]
        if not self.rows:
            return [[0.0] * self.width, [1.0] * self.width]
        if (self.rows, self.columns) == (16, 8):
            return [[row.replace(".", "0").replace("#", "1") for row in letter] for letter in LETTERS]
        middle = ["0" + "1" * (self.columns - 2) + "0" if self.columns > 2 else "1" * self.columns]
        return [middle * self.rows]

    def decoded(self, frame: Any) -> Any:
        """A frame of JSON as the model reads it: a token, or float32 [width]. Raises FrameError."""
        if not self.width:
            if not isinstance(frame, str):
                raise FrameError(self.sentence)
            return frame
        if self.rows and isinstance(frame, str):
            return self._from_png(frame)
        if self.rows:
            frame = self._joined(frame)
        return self._numbers(frame)

    def _joined(self, image: Any) -> list[Any]:
        """The rows of an image, one behind the other."""
        if not isinstance(image, Sequence) or len(image) != self.rows:
            raise FrameError(self.sentence)
        joined: list[Any] = []
        for row in image:
            if isinstance(row, str):
                if row.strip("01"):
                    raise FrameError(self.sentence)
                row = [int(bit) for bit in row]
            if not isinstance(row, Sequence) or len(row) != self.columns:
                raise FrameError(self.sentence)
            joined.extend(row)
        if not all(isinstance(each, int | float) and 0 <= each <= 1 for each in joined):
            raise FrameError(self.sentence)
        return joined

    def _numbers(self, frame: Any) -> npt.NDArray[np.float32]:
        if not isinstance(frame, Sequence) or isinstance(frame, str) or len(frame) != self.width:
            raise FrameError(self.sentence)
        if not all(isinstance(each, int | float) and abs(each) <= LARGEST for each in frame):
            raise FrameError(f"{self.sentence} Each is at most {LARGEST:,.0f} in size.")
        return np.array(frame, np.float32)

    def _from_png(self, text: str) -> npt.NDArray[np.float32]:
        try:
            data = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError) as error:
            raise FrameError(f"It is no base64 ({error}). {self.sentence}") from error
        ink = _ink(data)
        if ink.shape != (self.rows, self.columns):
            ink = _fitted(ink, self.rows, self.columns)
        return ink.reshape(self.width)


def _ink(data: bytes) -> npt.NDArray[np.float32]:
    """How much ink each pixel of a PNG has, 0 to 1: float32 [rows, columns]. Raises FrameError."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:  # reads the header alone
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise FrameError(f"The PNG has {width} x {height} pixels; give at most {MOST_PIXELS:,}.")
            light, opaque = _grey(image)
    except FrameError:
        raise
    except Exception as error:  # whatever Pillow says of bytes that people send, it is about the bytes
        raise FrameError(f"It is no PNG that can be read ({type(error).__name__}).") from error
    return np.asarray((1 - light) * opaque, np.float32)


def _grey(image: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """How light and how opaque each pixel of a Pillow image is, 0 to 1."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's conversion cuts off at 255
        levels = np.asarray(image, np.int64)
        return levels / 65535, levels != image.info.get("transparency")
    light, opaque = np.moveaxis(np.asarray(image.convert("LA"), np.float32) / 255, -1, 0)
    return light, opaque


def _fitted(ink: npt.NDArray[np.float32], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The part that holds ink, scaled to fit and put in the middle: 0 and 1, float32 [rows, columns]."""
    from PIL import Image

    fitted = np.zeros((rows, columns), np.float32)
    down, across = np.flatnonzero((ink > INK).any(1)), np.flatnonzero((ink > INK).any(0))
    if not len(down):
        return fitted
    part = ink[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    scale = min(rows / part.shape[0], columns / part.shape[1])
    height = min(rows, max(1, round(part.shape[0] * scale)))
    width = min(columns, max(1, round(part.shape[1] * scale)))
    scaled = Image.fromarray(part).resize((width, height), Image.Resampling.BOX)
    top, left = (rows - height) // 2, (columns - width) // 2
    fitted[top : top + height, left : left + width] = np.asarray(scaled) >= INK
    return fitted
