from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.errors import WordloomError
from cluster.folder import Folder
from ingest.sequence_corpus import Part
from tests.thread_group import in_threads
from trainers.group import LocalGroup
from trainers.labelled_sequences import LabelledSequences
from trainers.labelling_settings import LabellingSettings
from trainers.loop import LoopSettings, train
from trainers.sentiment_settings import PRESETS, SentimentSettings
from trainers.sequence_classifier import SequenceClassifier
from trainers.sequence_labeller import SequenceLabeller
from trainers.sequence_learner import SequenceLearner
from trainers.sequences import Sequences, SequenceStream, padded_length

SMALL: dict[str, Any] = {"units": 12, "batch": 8, "epochs": 6, "block_batches": 3, "learning_rate": 0.02}
# The classifier as the reference has it, its vectors frozen.
PLAIN: dict[str, Any] = PRESETS["reference"]


class Silent:
    """Asks for a stop after `stop` intervals."""

    def __init__(self, stop: int = 0) -> None:
        self.left = stop

    def progress(self, now: Any) -> bool:
        self.left -= 1
        return self.left == 0

    def say(self, sentence: str) -> None:
        pass


def sequences(per_frame: bool, count: int = 150) -> Sequences:
    """Words 0 to 4; a word 4 turns what follows around. Labels: that state, at every word or at the end."""
    random = np.random.default_rng(0)
    lengths = random.integers(5, 9, count)  # of one padded length: few graphs to compile
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    words = random.integers(0, 5, offsets[-1]).astype(np.int32)
    parts = [words[a:b] for a, b in itertools.pairwise(offsets)]
    turned = [np.cumsum(part == 4) % 2 for part in parts]
    held_out = np.arange(count) % 3 == 0
    if per_frame:
        return Sequences(
            np.eye(5, dtype=np.uint8)[words], offsets, np.concatenate(turned).astype(np.int32), held_out
        )
    return Sequences(words, offsets, np.array([each[-1] for each in turned], np.int32), held_out)


def unsplit(made: Sequences) -> LabelledSequences:
    """Sequences that are held out, not tested on."""
    part = Part([], made.frames, None, made.offsets, made.labels, {})
    return LabelledSequences(made, part, np.zeros(0, np.int64), ["even", "odd"], [], 0, {})


@functools.cache  # a learner keeps no state; what it has compiled serves all tests
def learner(name: str, **more: Any) -> SequenceLearner:
    return fresh(name, **more)


def fresh(name: str, **more: Any) -> SequenceLearner:
    if name == "labeller":
        labelling = LabellingSettings(**{**SMALL, "both": True, **more})
        return SequenceLabeller(unsplit(sequences(True)), labelling)
    settings = SentimentSettings(**{**PLAIN, **SMALL, **more})
    vectors = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    return SequenceClassifier(sequences(False), vectors, 2, settings)


@pytest.mark.parametrize("name", ["classifier", "labeller"])
def test_it_learns_what_the_order_of_words_decides(name: str, tmp_path: Path) -> None:
    made = learner(name)
    loop = LoopSettings(epochs=30, publish="best")
    history = train(made, Folder(tmp_path), LocalGroup(), loop, Silent()).history
    assert min(entry["held_out_error"] for entry in history) < 0.1
    assert history[0]["held_out_error"] > 0.2


@pytest.mark.parametrize("name", ["classifier", "labeller"])
def test_a_stopped_training_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    loop = LoopSettings(epochs=2)
    whole = train(learner(name), Folder(tmp_path / "whole"), LocalGroup(), loop, Silent())
    with pytest.raises(Exception, match="stopped at block"):
        train(learner(name), Folder(tmp_path / "parts"), LocalGroup(), loop, Silent(stop=1))
    again = train(learner(name), Folder(tmp_path / "parts"), LocalGroup(), loop, Silent())
    saved = learner(name).save(whole.state)
    for key, value in learner(name).save(again.state).items():
        np.testing.assert_array_equal(value, saved[key])


@pytest.mark.parametrize(("name", "workers"), [("labeller", 3), ("classifier", 9)])
def test_any_number_of_workers_learns_what_one_learns(name: str, workers: int, tmp_path: Path) -> None:
    """Batches of 8, the last of an epoch not full: some of the workers have no row of it, or never one."""

    def work(group: Any) -> Any:
        made = learner(name) if group.size == 1 else fresh(name)
        return train(made, Folder(tmp_path / f"{group.size}"), group, LoopSettings(epochs=2), Silent())

    alone, (first, *others) = work(LocalGroup()), in_threads(workers, work)
    for key, value in first.state.items():
        for other in others:
            np.testing.assert_array_equal(value, other.state[key], err_msg=key)
        np.testing.assert_allclose(value, alone.state[key], rtol=1e-3, atol=1e-5, err_msg=key)
    for entry, expected in zip(first.history, alone.history, strict=True):
        assert {**entry, "seconds": 0} == pytest.approx({**expected, "seconds": 0}, rel=1e-4)


@pytest.mark.parametrize("name", ["classifier", "labeller"])
def test_what_stands_beside_a_sequence_changes_nothing(name: str) -> None:
    made = learner(name)
    state = made.initial()
    numbers = np.arange(6, dtype=np.int32)
    together = made.predictions(state, numbers)
    for row, number in enumerate(numbers):
        alone = made.predictions(state, np.array([number], np.int32))
        length = int(made.sequences.lengths[number]) if made.per_frame else 1
        one = together[:length, row] if made.per_frame else together[row]
        other = alone[:length, 0] if made.per_frame else alone[0]
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fine_tune", [False, True])
def test_vectors_are_trained_only_where_that_is_asked(fine_tune: bool) -> None:
    made = learner("classifier", fine_tune=fine_tune)
    arrays = made.save(made.initial())
    state = {name: tf.constant(value) for name, value in arrays.items()}
    parts = ("parameters/", "rmsprop/")
    before, slots = ({n.removeprefix(p): v for n, v in state.items() if n.startswith(p)} for p in parts)
    batch = made.sequences.padded(np.arange(8, dtype=np.int32), 8, False)
    drawn = (tf.constant(0.01), tf.constant([0, 0]))
    after, _, _ = made._train_batch(before, slots, *map(tf.constant, batch), *drawn)
    moved = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert "output/kernel" in moved
    assert ("vectors" in moved) is fine_tune
    assert fine_tune or np.array_equal(made.frozen["vectors"], made.vectors)


def test_errors_are_means_over_sequences_and_over_labels() -> None:
    made = learner("labeller")
    state = made.initial()
    figures = made.evaluate(state)
    shares, wrong, labels, flawed = [], 0, 0, 0
    for number in np.flatnonzero(made.sequences.held_out):
        first, last = made.sequences.offsets[number : number + 2]
        found = made.predictions(state, np.array([number], np.int32))[: last - first, 0].argmax(-1)
        bad = found != made.sequences.labels[first:last]
        shares.append(bad.mean())
        wrong, labels, flawed = wrong + bad.sum(), labels + len(bad), flawed + bad.any()
    assert figures["held_out_error"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert figures["held_out_label_error"] == pytest.approx(wrong / labels, abs=1e-6)
    assert figures["held_out_sequence_error"] == pytest.approx(flawed / len(shares), abs=1e-6)


@pytest.mark.parametrize("pool", [1, 4])
def test_a_pass_takes_every_training_sequence_once(pool: int) -> None:
    data = sequences(False)
    stream = SequenceStream(data, batch=8, block_batches=3, seed=5, pool=pool)
    passes = [
        np.concatenate([stream.block(first + i).values for i in range(stream.blocks_per_epoch)])
        for first in (0, stream.blocks_per_epoch)
    ]
    for taken in passes:
        np.testing.assert_array_equal(np.sort(taken), np.flatnonzero(~data.held_out))
    assert not np.array_equal(*passes)
    again = SequenceStream(data, batch=8, block_batches=3, seed=5, pool=pool)
    last = stream.blocks_per_epoch + 1
    np.testing.assert_array_equal(again.block(last).values, stream.block(last).values)


def test_pools_keep_padding_below_a_tenth() -> None:
    lengths = np.random.default_rng(0).geometric(1 / 200, 4000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    none = np.zeros(len(lengths), bool)
    labels = np.zeros(len(lengths), np.int32)
    data = Sequences(np.zeros(offsets[-1], np.int32), offsets, labels, none)

    def real(pool: int) -> float:
        stream = SequenceStream(data, 20, 10, 0, pool=pool)
        blocks = [stream.block(index) for index in range(stream.blocks_per_epoch)]
        batches = [
            lengths[part]
            for block in blocks
            for part in np.split(block.values, np.flatnonzero(np.diff(block.page)) + 1)
        ]
        return lengths.sum() / sum(each.max() * len(each) for each in batches)

    assert real(1) < 0.5
    assert real(50) > 0.9


def test_padded_lengths_are_few_and_near() -> None:
    found = {padded_length(each) for each in range(1, 3000)}
    assert len(found) < 80
    assert all(each <= padded_length(each) <= 1.125 * each + 4 for each in range(1, 3000))


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(WordloomError, match="7 frames"):
        Sequences(np.zeros(7, np.int32), np.array([0, 3, 6]), np.zeros(2, np.int32), np.zeros(2, bool))
