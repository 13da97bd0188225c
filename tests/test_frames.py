"""Frames: what JSON and PNG say is what the model reads, and hostile images are one sentence."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.frames import LETTERS, FrameError, Frames

IMAGES = Frames(128, 16)
BITS = np.array([[int(bit == "#") for bit in row] for row in LETTERS[1]], np.float32)


def png(image: Image.Image, **options: Any) -> str:
    packed = io.BytesIO()
    image.save(packed, "PNG", **options)
    return base64.b64encode(packed.getvalue()).decode()


def black_on_white(bits: np.ndarray, mode: str = "L") -> Image.Image:
    return Image.fromarray(np.uint8(255 * (1 - bits))).convert(mode)


def test_rows_as_strings_as_numbers_and_as_a_png_are_one_image() -> None:
    rows = ["".join(str(int(bit)) for bit in row) for row in BITS]
    transparent = np.zeros((16, 8, 4), np.uint8)
    transparent[..., 3] = 255 * BITS
    given = [rows, BITS.tolist(), BITS.astype(int).tolist(), png(Image.fromarray(transparent))]
    given += [png(black_on_white(BITS, mode)) for mode in ("1", "L", "RGB", "RGBA", "P", "LA")]
    given += ["data:image/png;base64," + png(black_on_white(BITS))]
    for frame in given:
        np.testing.assert_array_equal(IMAGES.decoded(frame), BITS.reshape(128))


def test_ink_of_any_size_is_scaled_to_fit_and_put_in_the_middle() -> None:
    filled = BITS[4:13]  # the letter itself, 9 x 8
    for size in (2, 7, 20):
        large = np.kron(filled, np.ones((size, size)))
        drawn = np.pad(large, ((size, 3 * size), (5 * size, size)))
        wanted = np.zeros((16, 8))
        wanted[3:12] = filled
        np.testing.assert_array_equal(IMAGES.decoded(png(black_on_white(drawn))).reshape(16, 8), wanted)
    assert not IMAGES.decoded(png(black_on_white(np.zeros((40, 40))))).any()
    assert IMAGES.decoded(png(black_on_white(np.ones((1, 300))))).reshape(16, 8)[7].all()


def test_dark_grey_of_16_bits_on_light_grey_is_ink() -> None:
    bits = np.kron(BITS[4:13], np.ones((2, 2)))
    image = Image.fromarray(np.uint16(np.where(bits, 3_000, 60_000)))  # both above what 8 bits hold
    wanted = np.zeros((16, 8))
    wanted[3:12] = BITS[4:13]
    np.testing.assert_array_equal(IMAGES.decoded(png(image)).reshape(16, 8), wanted)


def test_the_examples_are_what_the_model_reads() -> None:
    for reads in (Frames(0), Frames(3), IMAGES, Frames(25, 5), Frames(4, 4)):
        for frame in reads.example():
            decoded = reads.decoded(frame)
            assert isinstance(decoded, str) if not reads.width else decoded.shape == (reads.width,)


@pytest.mark.parametrize(
    ("reads", "frame"),
    [
        (Frames(0), 3),
        (Frames(0), ["a"]),
        (Frames(0), None),
        (Frames(3), "abc"),
        (Frames(3), [1, 2]),
        (Frames(3), [1, 2, "3"]),
        (Frames(3), [1, 2, float("nan")]),
        (Frames(3), [1, 2, float("inf")]),
        (Frames(3), [1, 2, 1e39]),
        (IMAGES, None),
        (IMAGES, []),
        (IMAGES, ["00000000"] * 15),
        (IMAGES, ["0000000"] * 16),
        (IMAGES, ["0000000٣"] * 16),
        (IMAGES, [[0] * 8] * 15 + [[0] * 7]),
        (IMAGES, [[2] * 8] * 16),
        (IMAGES, [[float("nan")] * 8] * 16),
        (IMAGES, [{}] * 16),
        (IMAGES, ""),
        (IMAGES, "no base64 Ä"),
        (IMAGES, "AAAA"),
    ],
)
def test_another_frame_is_one_sentence(reads: Frames, frame: Any) -> None:
    with pytest.raises(FrameError, match=r"^[A-Z].*\.$"):
        reads.decoded(frame)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    )


BOMB = zlib.compress(bytes(1 << 26), 9)  # 64 MiB in 65 kB
WHOLE = base64.b64decode(png(black_on_white(BITS)))
HOSTILE = {
    "a bomb by its size": header(50_000, 50_000) + chunk(b"IDAT", BOMB) + chunk(b"IEND", b""),
    "a bomb of text": header(16, 16) + chunk(b"zTXt", b"a\0\0" + BOMB) + chunk(b"IEND", b""),
    "a bomb of a profile": header(16, 16) + chunk(b"iCCP", b"a\0\0" + BOMB) + chunk(b"IEND", b""),
    "no pixels": header(8, 16) + chunk(b"IEND", b""),
    "an empty image": header(0, 16) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""),
    "no end": WHOLE[:-30],
    "a header alone": WHOLE[:33],
    "half a header": WHOLE[:20],
    "a depth that is none": header(8, 16, depth=3) + chunk(b"IEND", b""),
    "a wrong checksum": WHOLE[:30] + b"\0" + WHOLE[31:],
    "a GIF": b"GIF89a" + bytes(100),
    "a chunk of two gigabytes": header(8, 16) + b"\x7f\xff\xff\xffIDAT" + bytes(10),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_png_is_one_sentence(name: str) -> None:
    with pytest.raises(FrameError, match=r"^(It is no PNG that can be read|The PNG has 50000 x 50000)"):
        IMAGES.decoded(base64.b64encode(HOSTILE[name]).decode())


def test_more_pixels_than_an_image_has_are_not_unpacked() -> None:
    packed = header(8, 16) + chunk(b"IDAT", BOMB) + chunk(b"IEND", b"")
    assert IMAGES.decoded(base64.b64encode(packed).decode()).all()


def test_hostile_pngs_take_little_memory() -> None:
    """In a process of its own, whose peak nothing else has raised."""
    texts = [base64.b64encode(data).decode() for data in HOSTILE.values()]
    program = (
        "import json, resource, sys\n"
        "from serving.frames import FrameError, Frames\n"
        "def ask(text):\n"
        "    try: Frames(128, 16).decoded(text)\n"
        "    except FrameError: pass\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "texts = json.load(sys.stdin)\n"
        "ask(texts[-1]); before = peak()\n"
        "for text in texts: ask(text)\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 16 << 10  # kB; each bomb holds 64 MiB


def test_any_cut_and_any_changed_byte_of_a_png_is_read_or_refused() -> None:
    for place in range(len(WHOLE)):
        for data in (WHOLE[:place], WHOLE[:place] + bytes([WHOLE[place] ^ 0x41]) + WHOLE[place + 1 :]):
            with contextlib.suppress(FrameError):
                assert IMAGES.decoded(base64.b64encode(data).decode()).shape == (128,)
