"""The GPU's library reads what the loops read; here what of that needs no GPU, and a harness where one is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.test_language_model import Pages
from tests.test_recurrent import (
    ALL,
    BATCH,
    FORWARD,
    INPUTS,
    LENGTHS,
    STEPS,
    batch_of,
    parameters_of,
    weighted_sum,
)
from tests.test_sequence_learner import SMALL, learner, sequences, unsplit
from trainers import cudnn
from trainers.characters import reference_alphabet
from trainers.labelling_settings import LabellingSettings
from trainers.language_model import CharacterLanguageModel
from trainers.language_settings import LanguageModelSettings
from trainers.microbatches import Microbatches
from trainers.recurrent import Recurrent
from trainers.sequence_labeller import SequenceLabeller

STARTS = np.zeros((STEPS, BATCH), bool)
STARTS[0, 0] = STARTS[3, 0] = STARTS[4, 0] = STARTS[6, 1] = True  # the third row has none

on_gpu = pytest.mark.skipif(
    not tf.config.list_physical_devices("GPU"), reason="no GPU here: its library is not called"
)
KNOWN = [
    each
    for each in ALL
    if not each.values[0].peepholes
    and not (each.values[0].cell == "gru" and each.values[0].reset == "before")
]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow says that a GPU is there."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"] if kind == "GPU" else [])


@pytest.mark.parametrize("network", ALL)
def test_the_library_is_used_for_the_forms_that_it_knows(network: Recurrent, gpu: None) -> None:
    assert network.in_library is (network in [each.values[0] for each in KNOWN])


def test_without_a_gpu_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert not Recurrent("lstm", 3, 4).in_library


def test_only_graphs_that_allow_it_call_the_library(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def read(cell: str, both: bool, weights: Any, inputs: tf.Tensor, carry: tf.Tensor, lengths: Any) -> Any:
        calls.append(both)
        return inputs, carry

    monkeypatch.setattr(cudnn, "read", read)
    network = Recurrent("lstm", INPUTS, 4)
    inputs, _ = batch_of(network, "float32")
    parameters = parameters_of(network, "float32")
    network.read(parameters, inputs)
    assert not calls
    Microbatches(BATCH, network, xla=True).step(network.read)(parameters, inputs, None, None, None)
    assert calls == [False]
    network.read(parameters, inputs)
    assert calls == [False]
    Microbatches(BATCH, Recurrent("gru", INPUTS, 4, reset="before"), xla=True).step(tf.identity)(inputs)
    assert not cudnn.is_allowed()


@pytest.mark.parametrize("network", FORWARD)
@pytest.mark.parametrize("symbols", [False, True], ids=["vectors", "symbols"])
def test_documents_are_read_as_rows_of_their_own(network: Recurrent, symbols: bool) -> None:
    inputs, carry = batch_of(network)
    if symbols:
        inputs = tf.constant(np.random.default_rng(4).integers(0, INPUTS, (STEPS, BATCH)).astype(np.int32))
    parameters = parameters_of(network)

    def whole(parameters: Any, carry: tf.Tensor) -> Any:
        return network.read(parameters, inputs, carry, starts=tf.constant(STARTS))

    def cut(parameters: Any, carry: tf.Tensor) -> Any:
        def read(inputs: tf.Tensor, carry: tf.Tensor, lengths: tf.Tensor | None) -> Any:
            return network.read(parameters, inputs, carry, lengths)

        return cudnn.by_document(read, inputs, carry, tf.constant(STARTS))

    assert_same(cut, whole, parameters, carry, 1e-10)


def pictures(settings: LabellingSettings) -> SequenceLabeller:
    """A labeller of random pictures of 8 x 8 pixels."""
    made = sequences(True)
    frames = np.random.default_rng(0).random((len(made.frames), 64)).astype(np.float32)
    data = unsplit(dataclasses.replace(made, frames=frames))
    return SequenceLabeller(dataclasses.replace(data, rows=8), settings)


def languages(settings: LanguageModelSettings) -> CharacterLanguageModel:
    texts = ["when the cat sat on the mat " * 3] * 9
    return CharacterLanguageModel(
        Pages(texts, [], reference_alphabet(), settings), reference_alphabet(), settings
    )


MORE = {"shift": 1.0, "noise": 0.1, "recombined": 0.5, "dropout": 0.2}
LEARNERS: dict[str, Callable[[], Any]] = {
    "labeller": lambda: learner.__wrapped__("labeller"),
    "pictures": lambda: pictures(LabellingSettings(**{**SMALL, "both": True, "channels": 2, **MORE})),
    "classifier": lambda: learner.__wrapped__("classifier", reset="after", both=True),
    "language model": lambda: languages(LanguageModelSettings(units=8, batch=4, steps=6, windows=3)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_learns_the_same_by_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops stand in for the library; what is around its call is as on a GPU."""
    used = []

    def read(cell: str, both: bool, weights: Any, inputs: tf.Tensor, carry: tf.Tensor, lengths: Any) -> Any:
        used.append(cell)
        units = weights[0]["recurrent"].shape[0]
        layers = len(weights) // (1 + both)
        network = Recurrent(cell, weights[0]["kernel"].shape[0], units, layers, both)
        names = [prefix for layer in range(layers) for prefix in network._prefixes(layer)]
        own = {
            f"{at}{name}": value
            for at, each in zip(names, weights, strict=True)
            for name, value in each.items()
        }
        return network._read(own, inputs, carry, lengths, None, None)

    monkeypatch.setattr(cudnn, "read", read)
    states = []
    for devices in ([], ["one"]):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind, found=devices: found)
        made = LEARNERS[name]()
        state, _ = made.run(made.initial(), [made.stream.block(index) for index in range(2)], 10)
        made.evaluate(state)
        states.append(made.save(state))
        assert bool(used) is bool(devices)
    one, other, first = (
        np.concatenate([each[key].ravel() for key in each if key.startswith("parameters/")])
        for each in (*states, made.save(made.initial()))
    )
    change = np.linalg.norm(one - other) / np.linalg.norm(one - first)
    # What is drawn for the pictures is drawn otherwise where XLA does not compile.
    assert change < (0.5 if name == "pictures" else 1e-3)


@on_gpu
@pytest.mark.parametrize(
    ("network", "given"),
    [
        pytest.param(*each.values, given, id=f"{given}-{each.id}")
        for each in KNOWN
        for given in ("whole", "lengths", "starts", "symbols")
        if given != "starts" or not each.values[0].both  # starts are defined for one direction only
    ],
)
def test_the_library_reads_as_the_loops_do(network: Recurrent, given: str) -> None:
    inputs, carry = batch_of(network)
    if given == "symbols":
        inputs = tf.constant(np.random.default_rng(4).integers(0, INPUTS, (STEPS, BATCH)).astype(np.int32))
    lengths = tf.constant(LENGTHS, tf.int32) if given == "lengths" else None
    starts = tf.constant(STARTS) if given == "starts" else None

    def loops(parameters: Any, carry: tf.Tensor) -> Any:
        return network.read(parameters, inputs, carry, lengths, starts)

    def library(parameters: Any, carry: tf.Tensor) -> Any:
        with cudnn.allowed():
            return loops(parameters, carry)

    assert_same(library, loops, parameters_of(network), carry, 1e-8)


def assert_same(found: Any, expected: Any, parameters: Any, carry: tf.Tensor, tolerance: float) -> None:
    """Outputs, carry, and the gradients of all parameters and of the first carry."""
    results = []
    for read in (found, expected):
        with tf.GradientTape() as tape:
            tape.watch((parameters, carry))
            outputs, last = read(parameters, carry)
            value = weighted_sum(outputs, last)
        results.append(tf.nest.flatten((outputs, last, tape.gradient(value, (parameters, carry)))))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
