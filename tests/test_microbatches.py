from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.test_sequence_learner import SMALL, sequences, unsplit
from trainers.characters import reference_alphabet
from trainers.labelling_settings import LabellingSettings
from trainers.language_model import CharacterLanguageModel
from trainers.language_settings import LanguageModelSettings
from trainers.microbatches import LEAST_ROWS, LEAST_UNITS, Microbatches
from trainers.recurrent import Recurrent
from trainers.sequence_labeller import SequenceLabeller
from trainers.state import parts


@pytest.mark.parametrize(
    ("told", "rows", "units", "xla", "count"),
    [
        (0, 64, 300, True, 1),  # not told
        (1, 64, 300, True, 1),
        (1, 65, 300, True, 2),
        (2, 64, 300, True, 2),
        (4, 64, 8, True, 4),
        (4, 3 * LEAST_ROWS, 300, True, 3),
        (2, LEAST_ROWS, 300, True, 1),
        (2, 1, 300, True, 1),
        (2, 64, LEAST_UNITS, False, 2),
        (2, 64, LEAST_UNITS - 1, False, 1),
    ],
)
def test_a_batch_has_a_part_for_each_thread_while_they_are_worth_it(
    told: int, rows: int, units: int, xla: bool, count: int, threads: Any
) -> None:
    threads(told)
    assert Microbatches(rows, Recurrent("gru", 3, units), xla).count == count


def test_a_gpu_gets_whole_batches(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"] if kind == "GPU" else [])
    assert Microbatches(64, Recurrent("gru", 3, 300), True).count == 1


@pytest.mark.parametrize("rows", [15, 16, 17])
def test_every_row_is_in_one_part(rows: int, threads: Any) -> None:
    threads(3)
    made = Microbatches(rows, Recurrent("gru", 3, 8), True)
    first, second = np.arange(2 * rows).reshape(2, rows), np.arange(rows)
    batch = (tf.constant(first), tf.constant(second))
    found = made.cut(batch, (1, 0))
    assert len(found) == 3
    np.testing.assert_array_equal(np.concatenate([part[0] for part in found], axis=1), first)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in found]), second)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def sizes(rows: tf.Tensor) -> list[tf.Tensor]:
        return [tf.size(part[0]) for part in made.cut((rows,), (0,))]

    assert sum(map(int, sizes(batch[1]))) == rows  # of unknown shape too


@pytest.mark.parametrize("xla", [True, False])
def test_a_step_is_traced_once_for_every_shape(xla: bool, threads: Any) -> None:
    threads(1)
    traced = []

    def sums(parameters: dict[str, tf.Tensor], rows: list[tf.Tensor], rate: tf.Tensor) -> tf.Tensor:
        traced.append(rows[0].shape)
        return rate * tf.reduce_sum(rows[0]) * parameters["weight"]

    step = Microbatches(8, Recurrent("gru", 3, 8), xla).step(sums)
    for rows in (4, 6, 4, 6):
        for weight in (1.0, 2.0):
            found = step({"weight": tf.constant(weight)}, [tf.ones([rows])], tf.constant(3.0))
            assert float(found) == 3 * rows * weight
    shapes = [[4], [6]] if xla else [[4], [None]]  # uncompiled, one graph serves what comes after the first
    assert [shape.as_list() for shape in traced] == shapes


def close(found: tuple[Any, ...], whole: tuple[Any, ...]) -> None:
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("xla", [True, False])
def test_a_labeller_in_parts_learns_what_it_learns_in_one(
    xla: bool, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is not full, so that one part has fewer sequences than the other."""
    monkeypatch.setattr("trainers.microbatches.LEAST_UNITS", 1)
    monkeypatch.setattr(SequenceLabeller, "xla", xla)
    found = []
    for told in (1, 2):
        threads(told)
        settings = LabellingSettings(**{**SMALL, "both": True, "batch": 12})
        made = SequenceLabeller(unsplit(sequences(True)), settings)
        assert made.micro.count == told
        batch = made._batch(np.arange(9, dtype=np.int32))
        drawn = (tf.constant(0.01), tf.constant([0, 0]))
        state: Any = parts(made.initial())
        for _ in range(2):
            *state, figures = made._train(*state, *batch, *drawn)
        found.append((*state, figures))
    close(found[1], found[0])


def test_what_is_drawn_differs_from_part_to_part(threads: Any) -> None:
    threads(2)
    key = tf.constant([3, 4])
    one, other = Microbatches(64, Recurrent("gru", 3, 300), True).keys(key)
    assert not np.array_equal(one, other)
    threads(1)
    (alone,) = Microbatches(64, Recurrent("gru", 3, 300), True).keys(key)
    np.testing.assert_array_equal(alone, key)


@pytest.mark.parametrize("carry", ["streams", "windows"])
def test_a_language_model_in_parts_learns_what_it_learns_in_one(carry: str, threads: Any) -> None:
    """Of three batches the third is filling, and a text begins in the second."""
    settings = LanguageModelSettings(
        units=8, batch=11, steps=6, windows=3, stride=3, carry=carry, alphabet="reference"
    )
    random = np.random.default_rng(0)
    shape = (3, 6, 11)
    starts = np.zeros(shape, bool)
    starts[1, 2, 7] = True
    batches = (
        random.integers(0, 80, shape).astype(np.int32),
        random.integers(0, 80, shape).astype(np.int32),
        (random.random(shape) < 0.8).astype(np.float32),
        starts,
    )
    found = []
    for told in (1, 2):
        threads(told)
        stream: Any = SimpleNamespace(pass_blocks=1)
        made = CharacterLanguageModel(stream, reference_alphabet(), settings)
        assert made.micro.count == told
        state = parts(made.initial())
        found.append(made._train(*state, tf.constant(2), *map(tf.constant, batches), tf.constant(0.01)))
    close(found[1], found[0])
