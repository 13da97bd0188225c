from __future__ import annotations

import numpy as np
import pytest

from trainers.candidates import distinct_candidates, log_uniform


def test_candidates_are_distinct_and_log_uniform() -> None:
    chances = log_uniform(50)
    assert chances.sum() == pytest.approx(1)
    chosen, tries = distinct_candidates(50, 8, 3000, np.random.default_rng(2))
    assert all(len(set(row)) == 8 for row in chosen.tolist())
    assert tries.min() >= 8
    expected = (1 - (1 - chances) ** tries[:, None]).mean(0)
    np.testing.assert_allclose(np.bincount(chosen.ravel(), minlength=50) / 3000, expected, atol=0.05)


def test_candidates_are_the_first_distinct_ids_even_where_that_takes_long() -> None:
    # All but the rarest few of 40 ids: the first draws hold too few, more must follow.
    chosen, tries = distinct_candidates(40, 37, 20, np.random.default_rng(3))
    assert all(len(set(row)) == 37 for row in chosen.tolist())
    assert tries.max() > 2 * 37
