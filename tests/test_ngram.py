"""The counting baseline of the language model's benchmark is a distribution and learns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.benchmarks.ngram import NGrams


def test_probabilities_sum_to_one_after_every_context() -> None:
    random = np.random.default_rng(0)
    model = NGrams([random.integers(0, 4, 50), random.integers(0, 3, 300)], 5, order=3)
    for context in ([], [0], [1, 2], [4, 4, 4], [0, 1, 2, 3]):
        total = sum(model.probabilities([*context, last])[-1] for last in range(5))
        assert total == pytest.approx(1.0)


def test_text_that_repeats_itself_costs_next_to_nothing_and_noise_what_it_must() -> None:
    assert NGrams([[0, 1, 2, 3] * 500], 4, order=3).bits([[0, 1, 2, 3] * 50]) < 0.05
    random = np.random.default_rng(1)
    noise = NGrams([random.integers(0, 8, 50_000)], 8, order=3).bits([random.integers(0, 8, 5000)])
    assert math.log2(8) <= noise < math.log2(8) + 0.02


def test_it_is_what_the_formula_gives_by_hand() -> None:
    """Two characters in order 2 over 'aab': contexts '^', 'a'; bigrams ^a, aa, ab, each once."""
    model = NGrams([[0, 0, 1]], 2, order=2)
    # Order 1 counts distinct bigrams that end in a (^a, aa) and in b (ab): n1 = 1, n2 = 1, D = 1/3.
    low = [(2 - 1 / 3) / 3 + (2 / 9) / 2, (1 - 1 / 3) / 3 + (2 / 9) / 2]
    # Order 2: all once, so D = 1/2: after a, each of a and b has (1 - D) / 2 and D takes 2 types of 2.
    assert model.probabilities([0, 1]).tolist() == pytest.approx([0.5 + 0.5 * low[0], 0.25 + 0.5 * low[1]])


def test_more_than_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        NGrams([], 1000, order=7)
