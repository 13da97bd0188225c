"""The baseline that a reader of reviews has to beat: NB-SVM over single words and pairs (Wang and Manning,
ACL 2012, P12-2018).

Which words and pairs a review holds, each weighed by how much oftener it stands in reviews of one class
(naive Bayes' log-count ratio), is given to a linear support vector machine; its weights are then mixed with
their mean size. The machine is trained by dual coordinate descent with squared hinge loss (Hsieh et al., ICML
2008), what LIBLINEAR does. Word order beyond pairs is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from trainers.stream import shuffled

COSTS = (0.01, 0.1, 1.0)  # tried on a tenth of the training reviews
MIXED = 0.25  # the share of the machine's own weights, as in the paper
ALPHA = 1.0  # added to every count
PASSES = 20

Ids = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bags:
    """Which features each review holds, once each: features of review i are
    ``features[starts[i]:starts[i + 1]]``."""

    features: Ids
    starts: Ids

    def __len__(self) -> int:
        return len(self.starts) - 1

    def taken(self, rows: Ids) -> Bags:
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], sizes)
        return Bags(self.features[places], starts)


class NBSVM:
    """A trained baseline of two classes, numbered 0 and 1."""

    def __init__(self, keys: Ids, words: int, weights: Doubles, bias: float, cost: float) -> None:
        self._keys, self._words, self._weights, self._bias, self.cost = keys, words, weights, bias, cost

    @classmethod
    def fit(cls, tokens: npt.ArrayLike, offsets: npt.ArrayLike, labels: npt.ArrayLike, words: int) -> NBSVM:
        """`tokens` int [n] below `words`, `offsets` int [reviews + 1], `labels` 0 or 1 [reviews]. The cost
        is the one of `COSTS` that is best on a tenth of the reviews, which then joins the training."""
        occurring, owners = _occurring(np.asarray(tokens), np.asarray(offsets), words)
        keys, features = np.unique(occurring, return_inverse=True)
        targets = np.asarray(labels, np.float64) * 2 - 1
        bags = _bags(features.astype(np.int64), owners, len(targets), len(keys))
        order = shuffled(len(targets), 0, len(targets))
        tenth, rest = order[: len(order) // 10], order[len(order) // 10 :]
        cost = COSTS[0]
        if len(tenth) >= 10:
            scores = {}
            for tried in COSTS:
                weights, bias = _trained(bags.taken(rest), targets[rest], len(keys), tried)
                said = _scores(bags.taken(tenth), weights, bias)
                scores[tried] = float(((said > 0) == (targets[tenth] > 0)).mean())
            cost = max(COSTS, key=lambda each: scores[each])
        weights, bias = _trained(bags, targets, len(keys), cost)
        return cls(keys, words, weights, bias, cost)

    def scores(self, tokens: npt.ArrayLike, offsets: npt.ArrayLike) -> Doubles:
        """Above 0 for class 1: float64 [reviews]. Tokens of -1 are words that training did not have."""
        places = np.asarray(offsets)
        occurring, owners = _occurring(np.asarray(tokens), places, self._words)
        found = np.searchsorted(self._keys, occurring)
        known = found < len(self._keys)
        known[known] = self._keys[found[known]] == occurring[known]
        bags = _bags(found[known], owners[known], len(places) - 1, len(self._keys))
        return _scores(bags, self._weights, self._bias)


def _occurring(tokens: npt.NDArray[np.int_], offsets: npt.NDArray[np.int_], words: int) -> tuple[Ids, Ids]:
    """The key of every word and pair, and the review each stands in; pairs do not reach across reviews."""
    tokens = tokens.astype(np.int64)
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = words + tokens[:-1] * words + tokens[1:]
    within = (owners[:-1] == owners[1:]) & (tokens[:-1] >= 0) & (tokens[1:] >= 0)
    known = tokens >= 0
    return np.concatenate((tokens[known], pairs[within])), np.concatenate(
        (owners[known], owners[:-1][within])
    )


def _bags(features: Ids, owners: Ids, reviews: int, count: int) -> Bags:
    once = np.unique(owners * count + features)
    return Bags(once % count, np.searchsorted(once // count, np.arange(reviews + 1)).astype(np.int64))


def _trained(bags: Bags, targets: Doubles, count: int, cost: float) -> tuple[Doubles, float]:
    sizes = np.diff(bags.starts)
    positive = np.repeat(targets > 0, sizes)
    p = np.bincount(bags.features[positive], minlength=count) + ALPHA
    q = np.bincount(bags.features[~positive], minlength=count) + ALPHA
    ratio = np.log(p / p.sum()) - np.log(q / q.sum())
    orders = np.stack([shuffled(len(bags), turn) for turn in range(PASSES)])
    weights, bias = _descend(bags.features, bags.starts, ratio, targets, cost, orders)
    mixed = (1 - MIXED) * np.abs(weights).mean() + MIXED * weights
    return mixed * ratio, bias


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _descend(
    features: Ids, starts: Ids, ratio: Doubles, targets: Doubles, cost: float, orders: Ids
) -> tuple[Doubles, float]:
    weights = np.zeros(len(ratio))
    bias = 0.0
    alpha = np.zeros(len(targets))
    diagonal = 0.5 / cost
    squares = np.full(len(targets), diagonal + 1.0)
    for row in range(len(targets)):
        for place in range(starts[row], starts[row + 1]):
            squares[row] += ratio[features[place]] ** 2
    for order in orders:
        for row in order:
            score = bias
            for place in range(starts[row], starts[row + 1]):
                score += weights[features[place]] * ratio[features[place]]
            gradient = targets[row] * score - 1.0 + diagonal * alpha[row]
            changed = max(alpha[row] - gradient / squares[row], 0.0)
            step = (changed - alpha[row]) * targets[row]
            alpha[row] = changed
            if step != 0.0:
                bias += step
                for place in range(starts[row], starts[row + 1]):
                    weights[features[place]] += step * ratio[features[place]]
    return weights, bias


def _scores(bags: Bags, weights: Doubles, bias: float) -> Doubles:
    owners = np.repeat(np.arange(len(bags)), np.diff(bags.starts))
    sums: Doubles = np.bincount(owners, weights[bags.features], minlength=len(bags)).astype(np.float64)
    return sums + bias
