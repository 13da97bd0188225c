"""Batches of the reference model: runs of pairs, held by the distinct words in them.

A batch of noise-contrastive estimation is so many consecutive pairs. By words they are far fewer: 1,000 pairs
of English of radius 1..10 have some 91 centres, which are 56 distinct words, and 62 distinct words around
them, some of which are among the candidates. What a pair adds to the loss depends on its two words alone, so
a batch is held as two lists of words and the place of each pair in the table between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.compiled import I32, INTEGER, NOTHING, TABLE, compiled
from trainers.embeddings import Centres
from trainers.stream import Ids


@dataclass(frozen=True, slots=True)
class PairBatches:
    """A block's pairs in batches of `size`, the last one shorter.

    `centres` int32 [batches, n] are the distinct centres of a batch; `words` int32 [batches, m] its
    candidates and, behind them, what other words are paired with the centres. Of both the first are the
    batch's own, as many as `filled` int32 [batches, 2] says; they are filled up with other ids, no id twice.
    `places` int32 [batches, size]: of each pair its word's number times n plus its centre's, and m * n where
    the last batch has no more pairs.
    """

    centres: Ids
    words: Ids
    filled: Ids
    places: Ids


def pair_batches(drawn: Centres, size: int, candidates: Ids, vocabulary: int) -> PairBatches:
    """The pairs of `drawn` (in the order of `embeddings.pairs`) in as many batches of `size` as there are
    rows of `candidates`, distinct ids int32 [batches, C]; all ids are below `vocabulary`."""
    count = len(candidates)
    centres = np.empty((count, min(size, vocabulary)), np.int32)
    words = np.empty((count, min(size + candidates.shape[1], vocabulary)), np.int32)
    filled, places = np.zeros((count, 2), np.int32), np.empty((count, size), np.int32)
    columns = np.empty((count, size), np.int32)
    text = (np.ascontiguousarray(each, np.int32) for each in (drawn.values, drawn.left, drawn.right))
    number = np.full((2, vocabulary), -1, np.int32)
    _cut(*text, drawn.start, candidates, number, centres, words, filled, columns, places)
    n, m = (_rounded(int(each)) for each in filled.max(0, initial=1))
    n, m = min(n, centres.shape[1]), min(m, words.shape[1])
    _fill_up(number, filled, centres, words, columns, places, n, m)
    return PairBatches(
        np.ascontiguousarray(centres[:, :n]), np.ascontiguousarray(words[:, :m]), filled, places
    )


def _rounded(most: int) -> int:
    """In steps of 16, or of a sixteenth: each number of rows is compiled for itself."""
    step = max(16, 1 << max(0, most.bit_length() - 4))
    return -(-most // step) * step


@compiled(NOTHING, I32, I32, I32, INTEGER, TABLE, TABLE, TABLE, TABLE, TABLE, TABLE, TABLE)
def _cut(values, left, right, start, candidates, number, centres, words, filled, columns, rows):
    """Writes the own ids of each batch to `centres` and `words`, how many they are to `filled`, and for each
    pair the numbers of its centre and of its word to `columns` and `rows` (-1: no pair). `number` [2, V], the
    number in the batch of each centre and of each word, is -1 before and after.

    All ids lie below V, and start - left and start + right within `values`; a batch of s pairs and C
    candidates has at most s centres and s + C words, V of either, which is the room that there is.
    """
    at, offset, reach = -1, 1, 0
    for batch in range(len(candidates)):
        n, m = 0, candidates.shape[1]
        for each in range(m):
            words[batch, each] = candidates[batch, each]
            number[1, candidates[batch, each]] = each
        pair = 0
        while pair < rows.shape[1] and at < len(left):
            if offset > reach:
                at += 1
                if at < len(left):
                    offset, reach = -left[at], right[at]
            elif offset == 0:
                offset = 1
            else:
                centre, word = values[start + at], values[start + at + offset]
                if number[0, centre] < 0:
                    number[0, centre] = n
                    centres[batch, n] = centre
                    n += 1
                if number[1, word] < 0:
                    number[1, word] = m
                    words[batch, m] = word
                    m += 1
                columns[batch, pair], rows[batch, pair] = number[0, centre], number[1, word]
                offset += 1
                pair += 1
        rows[batch, pair:] = -1
        filled[batch, 0], filled[batch, 1] = n, m
        for each in range(n):
            number[0, centres[batch, each]] = -1
        for each in range(m):
            number[1, words[batch, each]] = -1


@compiled(NOTHING, TABLE, TABLE, TABLE, TABLE, TABLE, TABLE, INTEGER, INTEGER)
def _fill_up(number, filled, centres, words, columns, places, n, m):
    """Fills `centres` up to n and `words` to m, at most V each, with the lowest ids that are not among them,
    and puts places for the numbers of the words in `places`."""
    for batch in range(len(filled)):
        for kind in range(2):
            ids, size = (centres, n) if kind == 0 else (words, m)
            for each in range(filled[batch, kind]):
                number[kind, ids[batch, each]] = each
            other = 0
            for each in range(filled[batch, kind], size):
                while number[kind, other] >= 0:
                    other += 1
                ids[batch, each] = other
                other += 1
            for each in range(filled[batch, kind]):
                number[kind, ids[batch, each]] = -1
        for pair in range(places.shape[1]):
            row = places[batch, pair]
            places[batch, pair] = m * n if row < 0 else row * n + columns[batch, pair]
