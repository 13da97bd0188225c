"""What ingest.burrows_wheeler promises: what libbz2 gives, or nothing; no byte elsewhere is touched."""

from __future__ import annotations

import bz2
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import burrows_wheeler, bzip2
from ingest.block_codes import ITEMS, LIMIT, unpack, words_of
from ingest.burrows_wheeler import LANES, STARTS, Decoder
from ingest.compiled import eights

DECODER = Decoder()
BEGIN = 32  # bits of "BZh9", before the first block's mark


def decoded(stream: bytes, bit: int = BEGIN) -> bytes | None:
    """The block at this bit, None where it is refused."""
    found = DECODER.decode(stream, bit, len(stream) * 8)
    return found[1] if found is not None else None


def spread(text: bytes, room: int) -> bytes | int:
    """The text with its runs, or what is said in place of it."""
    packed, out = np.frombuffer(text + bytes(8), np.uint8).copy(), np.empty(room, np.uint8)
    size = burrows_wheeler._spread(packed[: len(text)], eights(packed), out, eights(out))
    return out[:size].tobytes() if size >= 0 else int(size)


def skewed(size: int) -> bytes:
    """Bytes of which each value is 1.5 times as frequent as the next: their codes are up to 17 bits long."""
    weights = [1.5**-place for place in range(256)]
    return bytes(random.Random(4).choices(range(256), weights, k=size))


def every_run() -> bytes:
    return b"".join(bytes([65 + length % 3]) * length for length in range(300))


CONTENTS = {
    "one byte": b"x",
    "runs of every length": every_run(),
    "a period of two": b"ab" * 3001,
    "a period of three, odd": b"abc" * 3001,
    "all bytes": bytes(range(256)) * 9,
    "noise": random.Random(1).randbytes(5000),
    "long codes": skewed(60_000),
    "words": b" ".join(random.Random(2).choices([b"the", b"of", b"dump", b"[[link]]", b"==="], k=900)),
    "more pairs of bytes than there are codes, some of them often": skewed(30_000)
    + b"".join(bytes([first, second]) for first in range(256) for second in range(256))
    + skewed(30_000),
    "zeros": bytes(100_000),
}
STREAMS = {name: bz2.compress(content) for name, content in CONTENTS.items()}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_block_is_what_was_compressed(name: str) -> None:
    assert decoded(STREAMS[name]) == CONTENTS[name]


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(min_size=1, max_size=3000), st.lists(st.sampled_from(["aaaa", "b", "xyz"])).map("".join)
    )
)
def test_any_content_comes_back(content: bytes | str) -> None:
    data = content.encode() if isinstance(content, str) else content
    if data:
        assert decoded(bz2.compress(data)) == data


@pytest.mark.parametrize("period", [1, 2, 7, 250])
def test_a_text_of_any_length_and_period_comes_back(period: int) -> None:
    """As many rotations as walkers and marks, some more, some fewer; rings that are never entered."""
    chosen = random.Random(period)
    for size in (1, 2, LANES - 1, LANES, LANES + 1, STARTS - 1, STARTS, STARTS + 1, 2 * STARTS + 3, 10_007):
        for shift in range(4):
            part = bytes(chosen.randrange(97, 100) for _ in range(period))
            content = (part * (size + 4))[shift : shift + size]
            assert decoded(bz2.compress(content)) == content, (size, shift)


def test_blocks_one_after_the_other_leave_nothing_behind() -> None:
    whole, bits = b"", []
    for content in CONTENTS.values():
        bits.append(len(whole) * 8 + BEGIN)
        whole += bz2.compress(content)
    assert [decoded(whole, bit) for bit in bits] == list(CONTENTS.values())


def test_a_full_block_and_one_that_unpacks_to_fifty_times_its_size() -> None:
    noise = random.Random(3).randbytes(899_981)
    assert decoded(bz2.compress(noise)) == noise
    assert decoded(bz2.compress(bytes(40_000_000))) == bytes(40_000_000)


def test_the_checksum_is_that_of_bzip2() -> None:
    for size in (0, 1, 15, 16, 17, 1000):
        data = random.Random(size).randbytes(size)
        value = 0xFFFFFFFF
        for byte in data:
            value ^= byte << 24
            for _ in range(8):
                value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        own = burrows_wheeler._checksum(
            np.frombuffer(data, np.uint8).copy(), size, burrows_wheeler._CHECKSUMS
        )
        assert own == value ^ 0xFFFFFFFF


def test_a_cut_block_is_refused_at_every_byte() -> None:
    stream = STREAMS["words"]
    whole = next(block for block in bzip2.find_marks(stream + bytes(7)) if block.ends).bit
    for size in range(len(stream)):
        assert (decoded(stream[:size]) is None) == (size * 8 < whole)


def mutants(count: int, seed: int) -> list[tuple[bytes, int]]:
    """Streams with a block that was changed, and the bit of the end mark."""
    chosen = random.Random(seed)
    made = []
    small = [STREAMS[name] for name in CONTENTS if name not in ("long codes", "zeros")]
    small += [bz2.compress(skewed(3000)), bz2.compress(b"a")]
    ends = [max(mark.bit for mark in bzip2.find_marks(stream + bytes(7)) if mark.ends) for stream in small]
    for _ in range(count):
        which = chosen.randrange(len(small))
        broken = bytearray(small[which])
        head = chosen.random() < 0.7  # most bits that an index comes from stand in a block's first 100 bytes
        last = min(ends[which] // 8, 4 + 6 + 100 if head else len(broken))
        for _ in range(chosen.choice((1, 1, 1, 2, 5))):
            place = chosen.randrange(10, max(last, 11))
            kind = chosen.random()
            if kind < 0.6:
                broken[place] ^= 1 << chosen.randrange(8)
            elif kind < 0.8:
                broken[place] = chosen.choice((0, 0xFF, chosen.randrange(256)))
            else:
                broken[place : place + 4] = chosen.randbytes(4)
        made.append((bytes(broken), ends[which]))
    return made


def compare(count: int, seed: int) -> Counter[str]:
    """What became of so many mutants. Raises AssertionError where libbz2 has other bytes or none."""
    outcomes: Counter[str] = Counter()
    for stream, end in mutants(count, seed):
        found = DECODER.decode(stream, BEGIN, len(stream) * 8)
        end, own = found if found is not None else (end, None)  # it may end elsewhere now
        checksum = int.from_bytes(stream[10:14], "big")
        bits = f"{int.from_bytes(stream, 'big'):0{len(stream) * 8}b}"
        tail = f"{bzip2.END:048b}{checksum:032b}"
        judged = None
        for stop in {end, *(mark.bit for mark in bzip2.find_marks(stream + bytes(7)) if mark.bit > BEGIN)}:
            whole = bits[:stop] + tail
            whole += "0" * (-len(whole) % 8)
            try:
                judged = bz2.decompress(int(whole, 2).to_bytes(len(whole) // 8, "big"))
                break
            except (OSError, ValueError, EOFError):
                continue
        if own is not None:
            assert own == judged, stream.hex()
        outcomes["both" if own is not None else "libbz2 alone" if judged is not None else "none"] += 1
    return outcomes


def test_changed_blocks_give_what_libbz2_gives_or_nothing() -> None:
    outcomes = compare(3000, 7)
    assert outcomes["none"] > 1000 and outcomes["both"] > 10
    assert outcomes["libbz2 alone"] <= outcomes["both"], outcomes


@pytest.mark.slow
def test_no_index_of_changed_blocks_is_out_of_bounds(tmp_path: Path) -> None:
    """Compiled once more with numba's own checks of every index, which raise IndexError."""
    script = (
        "from tests.test_burrows_wheeler import compare\n"
        "import numpy as np\nfrom ingest.compiled import I64, INTEGER, compiled\n"
        "@compiled(INTEGER, I64, INTEGER)\ndef at(array, index):\n    return array[index]\n"
        "try:\n    at(np.zeros(3, np.int64), 3)\n    raise SystemExit('indexes are not checked')\n"
        "except IndexError:\n    pass\n"
        "for seed in range(5):\n    print(compare(10_000, 100 + seed))\n"
    )
    checks = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **checks}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Counter") == 5


def test_a_number_of_further_bytes_that_is_missing_is_refused() -> None:
    for before in (b"x", b"many other bytes before"):
        assert spread(before + b"aaaa", 40) == -1
        assert spread(before + b"aaaa\2", 40) == before + b"aaaaaa"
        assert spread(before + b"aaaa\2bb", 40) == before + b"aaaaaabb"
        assert spread(before + b"aaaa\x20", 20) == -2
        assert spread(before + b"no runs", len(before) + 7) == before + b"no runs"
    assert spread(b"no runs either", 13) == -2


@given(
    st.lists(st.sampled_from([b"a", b"b", b"aaa", b"aaaa\0", b"aaaa\7", b"bbbb\xff"])).map(b"".join),
    st.integers(8, 900),
)
def test_runs_are_spread_as_by_one_byte_at_a_time(text: bytes, room: int) -> None:
    wanted, same, place = bytearray(), 0, 0
    while place < len(text):
        wanted.append(text[place])
        same = same + 1 if place and same and text[place] == text[place - 1] else 1
        place += 1
        if same == 4:
            if place == len(text):
                assert spread(text, 1 << 16) == -1
                return
            wanted += bytes([text[place - 1]]) * text[place]
            same, place = 0, place + 1
    assert spread(text, 1 << 16) == wanted
    assert spread(text, room) == (wanted if len(wanted) <= room else -2)


@pytest.mark.parametrize("digits", [19, 20, 21, 22, 40])
def test_a_run_longer_than_a_block_is_refused(digits: int) -> None:
    """A block of one run, whose length is written as so many digits of value 1."""
    used = f"{1 << 15:016b}{1 << 15:016b}"  # the byte 0
    lengths = "00001" + "0" + "100" + "0"  # of codes: 1, 2, 2
    bits = f"{bzip2.BLOCK:048b}{0:032b}0{0:024b}{used}{2:03b}{1:015b}0{lengths}{lengths}"
    bits = f"{int.from_bytes(b'BZh9', 'big'):032b}{bits}{'0' * digits}11"
    stream = int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big") + bytes(64)
    items, counts, found = np.empty(ITEMS, np.uint32), np.empty(256, np.int64), np.empty(5, np.int64)
    known = unpack(words_of(stream), BEGIN, items, counts, found)
    assert (found[0] if known else None) == (len(bits) if (1 << digits) - 1 <= LIMIT else None)
