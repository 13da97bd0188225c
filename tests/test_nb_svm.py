"""trainers/nb_svm.py: a linear baseline that knows words and pairs of words."""

from __future__ import annotations

import numpy as np

from trainers.nb_svm import NBSVM

NOT, GOOD, BAD, FILM = range(4)


def made(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(rows), np.cumsum([0, *map(len, rows)])


def test_it_knows_words_and_pairs_and_takes_a_stranger_for_nothing() -> None:
    kinds = [([FILM, GOOD], 1), ([FILM, BAD], 0), ([FILM, NOT, GOOD], 0), ([FILM, NOT, BAD], 1)]
    rows, labels = zip(*kinds * 10, strict=True)
    baseline = NBSVM.fit(*made(list(rows)), np.array(labels), words=4)
    asked = [[NOT, GOOD], [NOT, BAD], [FILM, GOOD], [FILM, BAD]]
    assert (baseline.scores(*made(asked)) > 0).tolist() == [False, True, True, False]
    strange, plain = baseline.scores(*made([[-1, FILM, -1], [FILM]]))
    assert strange == plain


def test_pairs_do_not_reach_from_one_review_into_the_next() -> None:
    baseline = NBSVM.fit(*made([[GOOD], [BAD]] * 10), np.array([1, 0] * 10), words=4)
    whole = baseline.scores(*made([[GOOD, BAD]]))
    apart = baseline.scores(*made([[GOOD], [BAD]]))
    assert apart[0] > 0 > apart[1]
    np.testing.assert_allclose(whole, [apart.sum() - baseline.scores(*made([[FILM]]))[0]], atol=1e-12)


def test_the_machine_reaches_the_optimum_of_its_loss() -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(0, 30, 12).tolist() for _ in range(60)]
    labels = (np.array([row.count(3) + row.count(5) - row.count(7) for row in rows]) > 0).astype(int)
    first, second = (NBSVM.fit(*made(rows), labels, words=30) for _ in range(2))
    scores = first.scores(*made(rows))
    np.testing.assert_array_equal(scores, second.scores(*made(rows)))
    assert ((scores > 0) == (labels > 0)).mean() > 0.95
