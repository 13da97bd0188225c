"""How well predicted classes agree with the given ones: accuracy, F1, AUC, calibration, confusion. Pure
numpy.

`labels` are int [n], `probabilities` float [n, classes], whose rows sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 10  # of confidence, of equal width
LENGTHS = 8  # groups by length

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def figures(labels: Labels, probabilities: Floats) -> dict[str, Any]:
    """All figures of a set: ``accuracy``, ``f1`` (mean over the classes), ``auc`` (of two classes that of
    class 1, of more the mean of each against the rest; None where a class has no or every sequence),
    ``log_loss`` in nats, ``calibration`` (see `calibration`) and ``confusion`` (rows: given, columns:
    predicted)."""
    predicted = probabilities.argmax(axis=1)
    classes = probabilities.shape[1]
    counts = confusion(labels, predicted, classes)
    ranked = range(1, 2) if classes == 2 else range(classes)
    areas = [auc(labels == each, probabilities[:, each]) for each in ranked]
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1": f1(counts),
        "auc": None if None in areas else float(np.mean([each for each in areas if each is not None])),
        "log_loss": float(-np.log(chosen).mean()),
        "calibration": calibration(labels, probabilities),
        "confusion": counts.tolist(),
    }


def confusion(labels: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """How many of each given class (row) were predicted as each (column): int64 [classes, classes]."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def by_length(lengths: Labels, right: npt.NDArray[np.floating]) -> list[dict[str, Any]]:
    """How the share of what is right depends on a sequence's length: at most `LENGTHS` groups of about as
    many sequences each, the shortest first, with ``from`` and ``to`` (both count), ``count`` and the mean
    ``error``. Sequences of one length are never parted.

    `lengths` int [n] and `right` [n], from 0 (wrong) to 1 (right)."""
    bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTHS + 1)[1:], method="higher"))
    places = np.searchsorted(bounds, lengths)
    return [
        {
            "from": int(lengths[places == each].min()),
            "to": int(lengths[places == each].max()),
            "count": int((places == each).sum()),
            "error": float(1 - right[places == each].mean()),
        }
        for each in np.unique(places)
    ]


def f1(counts: npt.NDArray[np.int64]) -> float:
    """The mean over classes of the harmonic mean of precision and recall; 0 for a class never right."""
    right = np.diag(counts).astype(float)
    either = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(np.divide(2 * right, either, out=np.zeros_like(right), where=either > 0)))


def auc(positive: npt.NDArray[np.bool_], scores: Floats) -> float | None:
    """The probability that a positive scores above a negative, ties half: the area under the ROC curve, from
    the rank sum (Mann and Whitney 1947). None without positives or without negatives."""
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return None
    _, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[places]
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def calibration(labels: Labels, probabilities: Floats) -> dict[str, Any]:
    """``ece``: the expected calibration error (Naeini et al. 2015), and the ``bins`` it is the mean of: each
    with ``confidence`` (mean probability of the predicted class), ``accuracy`` and ``count``; empty ones are
    left out.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        {
            "confidence": float(confidence[place == each].mean()),
            "accuracy": float(right[place == each].mean()),
            "count": int((place == each).sum()),
        }
        for each in range(BINS)
        if (place == each).any()
    ]
    gaps = [each["count"] * abs(each["confidence"] - each["accuracy"]) for each in bins]
    return {"ece": float(sum(gaps) / len(labels)), "bins": bins}


def drawn_calibration(measured: Mapping[str, Any], title: str, unit: str = "sequences") -> Figure:
    """Accuracy over confidence, and how many `unit` each point stands for."""
    drawn = picture.figure(4.2, 4.0)
    axes = drawn.subplots()
    bins = measured["bins"]
    largest = max(each["count"] for each in bins)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", label="perfect")
    axes.plot(
        [each["confidence"] for each in bins],
        [each["accuracy"] for each in bins],
        color="tab:blue",
        linewidth=1,
    )
    axes.scatter(
        [each["confidence"] for each in bins],
        [each["accuracy"] for each in bins],
        s=[10 + 150 * each["count"] / largest for each in bins],
        color="tab:blue",
        label=f"area: {unit} (at most {largest:,})",
    )
    lowest = min(each["confidence"] for each in bins) - 0.05
    axes.set(xlim=(lowest, 1), ylim=(min(lowest, *(each["accuracy"] for each in bins)), 1.02))
    axes.set(xlabel="confidence", ylabel="accuracy", title=f"{title}: expected error {measured['ece']:.3f}")
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    axes.grid(alpha=0.3)
    return drawn
