"""Nearest: many questions in one pass, each with the answers it would get alone."""

from __future__ import annotations

import numpy as np
import pytest

from serving import nearest as module
from serving.nearest import Question, nearest
from trainers.vectors import WordVectors


@pytest.mark.parametrize("rows", [7, 64, 10_000])
def test_many_questions_get_the_answers_of_one_at_a_time(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    table = np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32)
    table[40] = 0
    words = ["<unk>", *(f"w{number}" for number in range(1, 300))]
    vectors = WordVectors(words, table)
    questions = [Question((f"w{row}",), (), row) for row in range(1, 20)]
    questions += [Question(("w3", "w4"), ("w5",), 10), Question(("w40",), (), 5), Question(("w1",), (), 999)]
    for question, found in zip(questions, nearest(vectors, questions), strict=True):
        wanted = vectors.most_similar(list(question.towards), list(question.away), question.count)
        assert len(found) == len(wanted)
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted], abs=1e-6)
        if "w40" not in question.towards:  # has no direction, so all words are equally near
            assert {word for word, _ in found} == {word for word, _ in wanted}
        assert not {"<unk>", *question.towards, *question.away} & {word for word, _ in found}
