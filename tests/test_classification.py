"""trainers/classification.py: the figures, against what is counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.picture import png
from trainers import classification

LABELS = np.array([1, 1, 1, 0, 0])
PROBABILITIES = np.array([0.9, 0.8, 0.3, 0.6, 0.1])


def two(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


def test_the_figures_are_those_counted_by_hand() -> None:
    found = classification.figures(LABELS, two(PROBABILITIES))
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["confusion"] == [[1, 1], [1, 2]]
    # precision and recall: 1/2 and 1/2 of the negative, 2/3 and 2/3 of the positive ones
    assert found["f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["auc"] == pytest.approx(5 / 6)  # of 6 pairs only (.3, .6) is the wrong way round
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.4, 0.9]).mean())


def test_the_area_counts_ties_half_and_is_none_without_both_classes() -> None:
    assert classification.auc(np.array([True, False]), np.array([0.5, 0.5])) == pytest.approx(0.5)
    random = np.random.default_rng(0)
    positive, scores = random.random(80) < 0.4, random.integers(0, 9, 80).astype(float)
    above = np.subtract.outer(scores[positive], scores[~positive])
    assert classification.auc(positive, scores) == pytest.approx(np.mean((above > 0) + (above == 0) / 2))
    assert classification.auc(np.ones(3, bool), np.arange(3.0)) is None


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    positive = np.repeat([0.95, 0.65], 10)
    labels = np.array([1] * 9 + [0] + [1] * 4 + [0] * 6)
    measured = classification.calibration(labels, two(positive))
    assert [each["count"] for each in measured["bins"]] == [10, 10]
    assert measured["ece"] == pytest.approx((abs(0.95 - 0.9) + abs(0.65 - 0.4)) / 2)
    assert png(classification.drawn_calibration(measured, "x")).startswith(b"\x89PNG")


def test_more_than_two_classes_have_all_figures() -> None:
    labels = np.array([0, 1, 2, 2])
    found = classification.figures(labels, np.eye(3)[labels])
    assert found["accuracy"] == found["f1"] == found["auc"] == 1.0
    missing = classification.figures(np.array([0, 1]), np.eye(3)[[0, 1]])
    assert missing["auc"] is None and missing["confusion"][2] == [0, 0, 0]
