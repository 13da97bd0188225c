"""What ingest.bzip2 promises: any byte of a bzip2 file is a place to begin, and damage stays where it is."""

from __future__ import annotations

import bz2
import io
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import bzip2
from ingest.bzip2 import Block, Gap

RANDOM = random.Random(5)
WORDS = ["".join(RANDOM.choices("etaoinshrdlu", k=RANDOM.randint(2, 9))) for _ in range(3000)]


def prose(size: int, seed: int = 1) -> bytes:
    return " ".join(random.Random(seed).choices(WORDS, k=size // 6)).encode()[:size]


TEXT = prose(1_000_000)
SINGLE = bz2.compress(TEXT, 1)  # 11 blocks of 100 kB
SHORT = bz2.compress(TEXT[:130_000], 1) + bz2.compress(TEXT[:210_000], 1)
MULTI = b"".join(bz2.compress(TEXT[at : at + 130_000], 1) for at in range(0, len(TEXT), 130_000))


def read(data: bytes, start: int = 0) -> list[Block | Gap]:
    return list(bzip2.blocks(io.BytesIO(data), len(data), start))


def content(items: list[Block | Gap]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, Block))


def gaps(items: list[Block | Gap]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def real(data: bytes) -> list[Block]:
    return [item for item in read(data) if isinstance(item, Block)]


@pytest.mark.parametrize("data", [SINGLE, MULTI], ids=["one stream", "many streams"])
def test_all_blocks_together_are_what_bz2_reads(data: bytes) -> None:
    assert content(read(data)) == bz2.decompress(data) == TEXT
    assert not gaps(read(data))


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, len(SINGLE)), multi=st.booleans())
def test_from_any_byte_on_the_blocks_are_those_that_begin_behind_it(start: int, multi: bool) -> None:
    data = MULTI if multi else SINGLE
    assert read(data, start) == [block for block in real(data) if block.bit >= start * 8]


def test_marks_are_found_at_every_bit_and_across_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(SINGLE)
    assert len({block.bit % 8 for block in whole if isinstance(block, Block)}) > 3
    for window in (7, 8, 1001, 65_536):
        monkeypatch.setattr(bzip2, "WINDOW", window)
        few = SINGLE if window > 100 else bz2.compress(TEXT[:3000])
        assert content(read(few)) == bz2.decompress(few)


@given(st.binary(max_size=40), st.integers(0, 7), st.booleans(), st.binary(min_size=7, max_size=20))
def test_a_mark_is_found_wherever_it_stands(before: bytes, shift: int, ends: bool, behind: bytes) -> None:
    value = bzip2.END if ends else bzip2.BLOCK
    middle = (value << (8 - shift)).to_bytes(7, "big")
    marks = bzip2.find_marks(before + middle + behind)
    assert bzip2.Mark(len(before) * 8 + shift, ends) in marks


def text_with_marks(size: int, value: int = bzip2.BLOCK) -> bytes:
    """Text whose blocks' tables of used bytes (one bit a byte value) spell a mark.

    The 48 bits for the bytes 0x80 to 0xAF, the second bytes of letters, are those of the mark.
    """
    used = [0x80 + place for place in range(48) if value >> (47 - place) & 1]
    letters = [bytes([lead, second]).decode() for lead in (0xC4, 0xD0) for second in used]
    chosen = random.Random(3)
    words = ["".join(chosen.choices(letters, k=6)) for _ in range(4000)]
    return " ".join(chosen.choices(words, k=size // 13)).encode()


MARKED = bz2.compress(text_with_marks(250_000), 1)


def planted(data: bytes, count: int) -> bytes:
    """The one stream of `data` with `count` marks of blocks and ends by turns inside each block, still valid.

    A block names the table of each 50 symbols in unary numbers and may name more than it uses; libbz2
    reads those and leaves them.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    made, stop = [bits[:32]], 32
    for number, block in enumerate(real(data)):
        head = block.bit + 48 + 32 + 1 + 24  # mark, checksum, a flag, the origin
        head += 16 + 16 * bits[head : head + 16].count("1")  # the table of used bytes
        named = int(bits[head + 3 : head + 18], 2)
        end = head + 18
        for _ in range(named):
            end = bits.index("0", end) + 1
        more = "".join(
            "0" * ((each * 3 + number) % 8) + f"{(bzip2.END if each % 2 else bzip2.BLOCK):048b}0"
            for each in range(count)
        )
        many = f"{named + more.count('0'):015b}"
        made += [bits[block.bit : head + 3], many, bits[head + 18 : end], more, bits[end : block.stop]]
        stop = block.stop
    whole = "".join([*made, bits[stop : stop + bzip2.END_BITS]])
    whole += "0" * (-len(whole) % 8)
    return int(whole, 2).to_bytes(len(whole) // 8, "big")


PLANTED = planted(SHORTER := bz2.compress(TEXT[:250_000], 1), 12)


@pytest.mark.parametrize("value", [bzip2.BLOCK, bzip2.END], ids=["block", "end"])
def test_a_mark_by_chance_inside_a_block_changes_nothing(value: int) -> None:
    text = text_with_marks(300_000, value)
    data = bz2.compress(text, 1)
    blocks = real(data)
    marks = [mark.bit for mark in bzip2.find_marks(data + bytes(7))]
    assert len(marks) >= 2 * len(blocks)  # one by chance in each, but perhaps in the short last one; the end
    assert content(read(data)) == text
    for start in {bit // 8 + delta for bit in marks for delta in (0, 1, 2)}:
        assert read(data, start) == [block for block in blocks if block.bit >= start * 8]


@pytest.mark.parametrize("count", [1, 3, bzip2.TRIES, bzip2.TRIES + 1, 12, 600])
def test_any_number_of_marks_inside_blocks_changes_nothing(count: int) -> None:
    data = planted(SHORTER, count)
    assert bz2.decompress(data) == TEXT[:250_000]
    assert content(read(data)) == TEXT[:250_000] and not gaps(read(data))
    blocks = real(data)
    marks = [mark.bit for mark in bzip2.find_marks(data + bytes(7))]
    assert len(marks) == len(blocks) * (count + 1) + 1
    assert count < 8 or len({bit % 8 for bit in marks}) == 8
    for bit in RANDOM.sample(marks, min(len(marks), 25 if count < 100 else 3)):
        for start in (bit // 8, bit // 8 + 1):
            assert read(data, start) == [block for block in blocks if block.bit >= start * 8]


class Short(io.BytesIO):
    """A file that gives fewer bytes than it is asked for, as one over a network may."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and size > 0
        return super().read(RANDOM.randint(1, size))


@settings(max_examples=25, deadline=None)
@given(
    window=st.integers(1, 30_000), start=st.integers(0, len(PLANTED)), short=st.booleans(), tail=st.booleans()
)
def test_how_the_file_is_read_changes_nothing(window: int, start: int, short: bool, tail: bool) -> None:
    data = PLANTED + (b"garbage" if tail else b"")
    start = max(start, len(PLANTED) - 30 * window)  # small windows for the end alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bzip2, "WINDOW", window)
        stream = Short(data) if short else io.BytesIO(data)
        found = list(bzip2.blocks(stream, len(data), start))
    assert found == [block for block in real(data) if block.bit >= start * 8]


def test_a_damaged_block_is_lost_alone_and_its_place_is_told() -> None:
    blocks = real(SINGLE)
    for number in (0, 4, len(blocks) - 1):
        broken = bytearray(SINGLE)
        middle = (blocks[number].bit + blocks[number].stop) // 16
        broken[middle : middle + 20] = bytes(20)
        items = read(bytes(broken))
        assert content(items) == b"".join(block.data for at, block in enumerate(blocks) if at != number)
        (gap,) = gaps(items)
        assert gap.loss.start == blocks[number].bit // 8
        last = number == len(blocks) - 1
        assert gap.loss.stop == (len(SINGLE) if last else blocks[number].stop // 8)
        assert gap.loss.reason == bzip2.DAMAGED


def test_a_block_whose_mark_is_damaged_is_lost_alone() -> None:
    blocks = real(SINGLE)
    for number in (0, 3, len(blocks) - 1):
        broken = bytearray(SINGLE)
        place = blocks[number].bit // 8
        broken[place + 1 : place + 5] = b"\xff\xff\xff\xff"
        items = read(bytes(broken))
        assert content(items) == b"".join(block.data for at, block in enumerate(blocks) if at != number)
        assert len(gaps(items)) == 1


@settings(max_examples=30, deadline=None)
@given(data=st.data(), whole=st.sampled_from([SHORT, MARKED, PLANTED]))
def test_what_is_lost_is_told_by_exactly_one_split(data: st.DataObject, whole: bytes) -> None:
    blocks = real(whole)
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        broken[place : place + 8] = data.draw(st.binary(min_size=8, max_size=8))
    damaged = bytes(broken)
    serial = read(damaged)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    edges = [0, *cuts, len(whole) + 1]
    together: list[Block | Gap] = []
    for start, stop in pairwise(edges):
        together += [each for each in read(damaged, start) if start * 8 <= each.bit < stop * 8]
    assert together == serial
    # Whatever comes out is a block of the whole file.
    assert {item.data for item in serial if isinstance(item, Block)} <= {block.data for block in blocks}


@settings(max_examples=40, deadline=None)
@given(size=st.one_of(st.integers(0, len(SINGLE)), st.integers(len(SINGLE) - 14, len(SINGLE))))
def test_a_cut_file_gives_what_bz2_gives_and_says_so(size: int) -> None:
    cut = SINGLE[:size]
    items = read(cut)
    decompressor = bz2.BZ2Decompressor()
    expected = [decompressor.decompress(cut)]
    while expected[-1] and not decompressor.eof:
        expected.append(decompressor.decompress(b""))
    assert content(items) == b"".join(expected)
    if size < len(SINGLE) - 5:  # else only the combined checksum is cut
        assert gaps(items)[-1].loss.stop == size
        assert gaps(items)[-1].loss.reason == bzip2.CUT


def test_empty_streams_hold_nothing_and_are_no_loss() -> None:
    empty = bz2.compress(b"")
    data = empty + bz2.compress(b"one ") + empty + empty + bz2.compress(b"two") + empty
    assert content(read(data)) == b"one two"
    assert not gaps(read(data)) and not read(empty)


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"garbage" * 100, b"BZh9", b"BZh9 and no block"])
def test_what_stands_behind_the_last_stream_is_ignored(garbage: bytes) -> None:
    assert content(read(SINGLE + garbage)) == TEXT
    assert not gaps(read(SINGLE + garbage))


def test_bytes_between_two_streams_that_are_no_bzip2_are_told() -> None:
    first, second = bz2.compress(b"one "), bz2.compress(b"two")
    items = read(first + b"what is this?" + second)
    assert content(items) == b"one two"
    (gap,) = gaps(items)
    assert gap.loss == bzip2.Loss(len(first), len(first) + 13 + 4, bzip2.DAMAGED)


def test_a_block_of_one_byte_value_stays_small_in_memory() -> None:
    bomb = bz2.compress(bytes(100_000_000))  # 113 bytes
    sizes = [len(item.data) for item in read(bomb) if isinstance(item, Block)]
    assert sum(sizes) == 100_000_000 and max(sizes) < 50_000_000
