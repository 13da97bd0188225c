from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.stream import Block
from trainers.windows import Windows, cut_streams, cut_windows

START = 99


def block_of(pages: list[int], start: int = 0, stop: int | None = None, index: int = 0) -> Block:
    """Pages of these lengths; values count up, so that each says where it comes from."""
    total = sum(pages)
    page = np.repeat(np.arange(len(pages), dtype=np.int32), pages)
    return Block(index, 0, np.arange(total, dtype=np.int32), page, start, total if stop is None else stop)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 9))
def test_streams_predict_every_character_once_from_the_one_before(
    pages: list[int], batch: int, steps: int
) -> None:
    windows = cut_streams(block_of(pages), batch, steps, START)
    assert windows.inputs.shape == windows.weights.shape == (len(windows), steps, batch)
    real = windows.weights > 0
    assert sorted(windows.targets[real]) == list(range(sum(pages)))
    begins = set(np.cumsum([0, *pages[:-1]]))
    for read, target, starts in zip(
        windows.inputs[real], windows.targets[real], windows.starts[real], strict=True
    ):
        assert read == (START if target in begins else target - 1)
        assert starts == (target in begins)


def test_rows_of_a_stream_go_on_from_window_to_window() -> None:
    windows = cut_streams(block_of([60]), batch=3, steps=5, start=START)
    rows = windows.targets.reshape(-1, 3).T
    np.testing.assert_array_equal(rows, np.arange(60).reshape(3, 20))


def test_a_stream_reads_the_character_before_its_block() -> None:
    windows = cut_streams(block_of([10, 30], start=1), batch=1, steps=40, start=START)
    assert windows.inputs[0, 0, 0] == 0 and not windows.starts[0, 0, 0]
    windows = cut_streams(block_of([10, 30], start=10), batch=1, steps=40, start=START)
    assert windows.inputs[0, 0, 0] == START and windows.starts[0, 0, 0]


def starts(*cut: Windows) -> list[int]:
    """Where windows start; START stands for the first character of a page."""
    return sorted(np.concatenate([each.inputs[:, 0].ravel() for each in cut]).tolist())


def test_windows_of_one_pass_stand_beside_each_other_and_two_passes_start_every_stride() -> None:
    cuts = (cut_windows(block_of([125, 60]), 1, 50, 25, START, 0, turn, passes=2) for turn in (0, 1))
    one, other = cuts
    assert one.inputs.shape[1] == 49
    assert np.all(one.weights == 1)
    np.testing.assert_array_equal(one.targets[:, :-1], one.inputs[:, 1:])
    np.testing.assert_array_equal(other.targets, other.inputs + 1)
    assert (starts(one), starts(other)) == ([50, START, START], [25, 75])
    assert sorted(one.targets[one.inputs == START].tolist()) == [0, 125]
    assert starts(cut_windows(block_of([125, 60]), 1, 50, 25, START, 0)) == starts(one, other)


def test_neighbouring_blocks_share_the_windows_of_a_page() -> None:
    first = Block(0, 0, np.arange(549, dtype=np.int32), np.zeros(549, np.int32), 0, 500)
    second = Block(1, 0, np.arange(451, 1000, dtype=np.int32), np.zeros(549, np.int32), 49, 549)
    for turn in (0, 1):
        whole = cut_windows(block_of([1000]), 1, 50, 25, START, 0, turn, 2)
        assert starts(whole) == starts(
            *(cut_windows(each, 1, 50, 25, START, 0, turn, 2) for each in (first, second))
        )


def test_a_page_shorter_than_a_window_gives_one_that_ends_with_it() -> None:
    windows = cut_windows(block_of([8, 1]), batch=1, steps=50, stride=25, start=START, seed=0)
    assert len(windows) == 2
    assert windows.weights.sum() == 9
    assert sorted(windows.targets[windows.weights > 0].tolist()) == list(range(9))


def test_the_last_batch_is_filled_with_windows_drawn_again() -> None:
    windows = cut_windows(block_of([250]), 4, 50, 25, START, seed=0, passes=2)
    found, counts = np.unique(windows.inputs[:, 0], return_counts=True)
    assert found.tolist() == [50, START, 100, 150, 200] and counts.sum() == 8 and counts.max() == 2


def test_a_block_without_a_window_gives_none() -> None:
    whole = block_of([70, 30], start=60, stop=70)
    assert len(cut_windows(whole, batch=4, steps=50, stride=25, start=START, seed=0)) == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_windows_depends_on_seed_and_block_alone(seed: int) -> None:
    one, other = (cut_windows(block_of([2000], index=3), 4, 50, 25, START, seed) for _ in range(2))
    np.testing.assert_array_equal(one.inputs, other.inputs)
    other_block = cut_windows(block_of([2000], index=4), 4, 50, 25, START, seed)
    assert not np.array_equal(one.inputs, other_block.inputs)


def test_short_blocks_take_the_shape_of_full_ones() -> None:
    windows = cut_streams(block_of([25]), batch=2, steps=5, start=START)
    count, *arrays = windows.arrays(8)
    assert count == len(windows) == 3
    assert all(len(each) == 8 for each in arrays)
    np.testing.assert_array_equal(arrays[0][:3], windows.inputs)
    assert not arrays[2][3:].any()
    parts = list(windows.parts(2))
    assert [len(part) for part in parts] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([part.targets for part in parts]), windows.targets)
