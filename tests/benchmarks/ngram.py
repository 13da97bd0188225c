"""An interpolated Kneser-Ney model of characters (Ney, Essen, Kneser 1994): what counting alone can do.

The highest order counts occurrences; every lower one counts in how many contexts a character follows (Kneser
and Ney, 1995); the discount of an order is n1 / (n1 + 2 n2). Counts are sorted arrays of integer keys, so ten
million characters are a matter of seconds. The order is the number of characters that a count covers: 6
predicts from the 5 before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Order:
    """Sorted keys of (context, character) with their counts, and of contexts with their sums and types."""

    keys: Ids
    counts: Ids
    contexts: Ids
    totals: Ids
    types: Ids
    discount: float


class NGrams:
    """The model of documents given as ids below `size`; a document begins with no context at all."""

    def __init__(self, documents: Iterable[npt.ArrayLike], size: int, order: int = 6) -> None:
        if (size + 1) ** order >= 2**63:
            raise ValueError(f"{size} characters in order {order} are more than 64 bits hold")
        self.order, self.base = order, size + 1  # one more: what stands before a document
        self._orders: list[_Order] = []
        keys, counts = np.unique(self._keys(documents, order), return_counts=True)
        for covered in range(order, 0, -1):
            self._orders.append(self._of(keys, counts))
            # A lower order counts the distinct keys above it that end alike.
            keys, counts = np.unique(keys % self.base ** (covered - 1), return_counts=True)
        self._orders.reverse()

    def probabilities(self, document: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The probability of every character of a document, float64 [n]."""
        whole = self._keys([document], self.order)
        found = np.full(len(whole), 1 / (self.base - 1))
        for covered, order in enumerate(self._orders, 1):
            keys = whole % self.base**covered
            place, there = _find(order.contexts, keys // self.base)
            totals = np.where(there, order.totals[place], 1)
            own, known = _find(order.keys, keys)
            counts = np.where(known, np.maximum(order.counts[own] - order.discount, 0.0), 0.0)
            left = order.discount * order.types[place] / totals
            found = np.where(there, counts / totals + left * found, found)
        return found

    def bits(self, documents: Iterable[npt.ArrayLike]) -> float:
        """Bits a character, the mean over all characters."""
        found = np.concatenate([self.probabilities(each) for each in documents])
        return float(-np.log2(found).mean())

    def _keys(self, documents: Iterable[npt.ArrayLike], order: int) -> Ids:
        """For every character the number whose digits are it and the `order - 1` before it."""
        before = np.full(order - 1, self.base - 1, np.int64)
        pieces = []
        for each in documents:
            ids = np.concatenate([before, np.asarray(each, np.int64)])
            keys = np.zeros(len(ids) - order + 1, np.int64)
            for place in range(order):
                keys = keys * self.base + ids[place : place + len(keys)]
            pieces.append(keys)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def _of(self, keys: Ids, counts: Ids) -> _Order:
        contexts, first = np.unique(keys // self.base, return_index=True)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        return _Order(
            keys,
            counts,
            contexts,
            np.add.reduceat(counts, first),
            np.diff(np.append(first, len(keys))),
            once / (once + 2 * twice) if once and twice else 0.5,
        )


def _find(keys: Ids, wanted: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Where each wanted key stands among sorted keys, and whether it does."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
