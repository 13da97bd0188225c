"""Candidates of the reference model, drawn log-uniformly (Zipf's law)."""

from __future__ import annotations

import numpy as np

from ingest.compiled import I32, I64, NOTHING, TABLE, compiled
from trainers.embeddings import Doubles
from trainers.stream import Ids


def log_uniform(size: int) -> Doubles:
    """float64 [size]: P(k) = log((k + 2) / (k + 1)) / log(size + 1), Zipf's law for ids by frequency."""
    ranks = np.arange(size, dtype=np.float64)
    return np.asarray(np.log((ranks + 2) / (ranks + 1)) / np.log(size + 1))


def distinct_candidates(size: int, wanted: int, count: int, random: np.random.Generator) -> tuple[Ids, Ids]:
    """`count` times `wanted` distinct ids drawn log-uniformly from 0..size-1, int32 [count, wanted], and the
    number of tries that each row took, int32 [count].

    With n tries, id k is expected ``1 - (1 - P(k)) ** n`` times: what TensorFlow's
    ``log_uniform_candidate_sampler`` computes for unique samples.
    """
    chosen, tries = np.empty((count, wanted), np.int32), np.zeros(count, np.int32)
    missing, length = np.arange(count), 2 * wanted
    drawn, seen = np.empty((count, 0), np.int32), np.full(size, -1, np.int32)
    while len(missing):
        more = np.exp(random.random((len(missing), length)) * np.log(size + 1)).astype(np.int32) - 1
        drawn = np.concatenate([drawn, np.minimum(more, size - 1)], 1)
        _take_distinct(drawn, missing, seen, chosen, tries)
        left = tries[missing] == 0
        missing, drawn, length = missing[left], drawn[left], 4 * wanted
        seen[:] = -1
    return chosen, tries


@compiled(NOTHING, TABLE, I64, I32, TABLE, I32)
def _take_distinct(drawn, batches, seen, chosen, tries):
    """The first distinct ids of each row of `drawn` to that row of `chosen` [count, C] that `batches` names,
    and to `tries` how many of the row it took, nothing where it has too few. `seen` [V] is -1 and holds
    afterwards in which row an id came last; all ids lie below V."""
    for row in range(len(drawn)):
        found = 0
        for at in range(drawn.shape[1]):
            each = drawn[row, at]
            if seen[each] != row:
                seen[each] = row
                chosen[batches[row], found] = each
                found += 1
                if found == chosen.shape[1]:
                    tries[batches[row]] = at + 1
                    break
