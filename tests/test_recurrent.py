"""One harness for every cell, direction and depth of the recurrent core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.errors import UsageError
from trainers.lengths import Rows
from trainers.recurrent import Recurrent

INPUTS, UNITS, STEPS, BATCH = 5, 4, 7, 3
LENGTHS = np.array([7, 3, 0])
CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "lstm": {"cell": "lstm"},
    "lstm-peepholes": {"cell": "lstm", "peepholes": True},
    "gru-before": {"cell": "gru", "reset": "before"},
    "gru-after": {"cell": "gru", "reset": "after"},
}
ALL = [
    pytest.param(
        Recurrent(inputs=INPUTS, units=UNITS, layers=layers, both=both, **cell), id=f"{name}-{layers}-{way}"
    )
    for name, cell in CELLS.items()
    for layers in (1, 2)
    for both, way in ((False, "forward"), (True, "both"))
]
FORWARD = [each for each in ALL if not each.values[0].both]


def parameters_of(network: Recurrent, dtype: str = "float64", seed: int = 0) -> dict[str, tf.Tensor]:
    """All parameters random, so that none is zero and unnoticed."""
    random = np.random.default_rng(seed)
    return {
        name: tf.constant(random.normal(0, 0.5, shape).astype(dtype))
        for name, shape in network.shapes().items()
    }


def batch_of(network: Recurrent, dtype: str = "float64", seed: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(STEPS, BATCH, network.inputs)).astype(dtype)
    carry = random.normal(0, 0.5, (network.carry_slots, BATCH, network.units)).astype(dtype)
    return tf.constant(inputs), tf.constant(carry)


def weighted_sum(outputs: tf.Tensor, carry: tf.Tensor) -> tf.Tensor:
    """A number that every output and every part of the carry moves differently."""
    random = np.random.default_rng(2)
    value = tf.reduce_sum(outputs * random.normal(size=outputs.shape))
    return value + tf.reduce_sum(carry * random.normal(size=carry.shape))


def gradients_of(loss: Callable[..., tf.Tensor], values: list[tf.Tensor]) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:  # eager: for a few steps far quicker than tracing a graph
        tape.watch(values)
        found = loss(*values)
    return tape.gradient(found, values)


@pytest.mark.parametrize(
    ("network", "given"),
    [
        pytest.param(*each.values, given, id=f"{each.id}-{given}")
        # `starts` are defined for one direction.
        for given, networks in (("whole", ALL), ("lengths", ALL), ("starts", FORWARD))
        for each in networks
    ],
)
def test_the_gradient_is_that_of_finite_differences(network: Recurrent, given: str) -> None:
    inputs, carry = batch_of(network)
    parameters = parameters_of(network)
    lengths = tf.constant(LENGTHS) if given == "lengths" else None
    starts = tf.constant(np.random.default_rng(5).random((STEPS, BATCH)) < 0.3) if given == "starts" else None
    names = list(parameters)

    def loss(inputs: tf.Tensor, carry: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
        named = dict(zip(names, values, strict=True))
        return weighted_sum(*network.read(named, inputs, carry, lengths, starts))

    values = [inputs, carry, *parameters.values()]
    # One random direction through all values at once: a wrong part of any gradient shows in it.
    random = np.random.default_rng(3)
    directions = [random.normal(size=value.shape) for value in values]
    gradients = gradients_of(loss, values)
    slope = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradients, directions, strict=True))
    step = 1e-6
    above, below = (
        float(loss(*(v + sign * step * d for v, d in zip(values, directions, strict=True))))
        for sign in (1, -1)
    )
    assert slope == pytest.approx((above - below) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("network", ALL)
def test_padding_changes_neither_output_nor_gradient(network: Recurrent) -> None:
    inputs, carry = batch_of(network)
    parameters = parameters_of(network)
    names = list(parameters)
    lengths = tf.constant(LENGTHS)

    def loss(inputs: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
        return weighted_sum(*network.read(dict(zip(names, values, strict=True)), inputs, carry, lengths))

    real = np.arange(STEPS)[:, None, None] < LENGTHS[None, :, None]
    clean = gradients_of(loss, [inputs, *parameters.values()])
    for rubbish in (1e9, np.nan):
        dirty_inputs = tf.where(real, inputs, tf.constant(rubbish, tf.float64))
        dirty = gradients_of(loss, [dirty_inputs, *parameters.values()])
        for one, other in zip(clean, dirty, strict=True):
            np.testing.assert_array_equal(one, other)
        outputs, after = network.read(parameters, dirty_inputs, carry, lengths)
        assert not np.any(np.where(real, 0, outputs))
        for row, length in enumerate(LENGTHS):
            alone, alone_after = network.read(
                parameters, inputs[:length, row : row + 1], carry[:, row : row + 1]
            )
            np.testing.assert_allclose(outputs[:length, row : row + 1], alone, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(after[:, row : row + 1], alone_after, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("network", FORWARD)
def test_the_carry_across_two_halves_equals_one_whole(network: Recurrent) -> None:
    inputs, carry = batch_of(network)
    parameters = parameters_of(network)
    names = list(parameters)

    def whole(inputs: tf.Tensor, carry: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
        return weighted_sum(*network.read(dict(zip(names, values, strict=True)), inputs, carry))

    def halves(inputs: tf.Tensor, carry: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
        named = dict(zip(names, values, strict=True))
        first, middle = network.read(named, inputs[:3], carry)
        second, last = network.read(named, inputs[3:], middle)
        return weighted_sum(tf.concat([first, second], axis=0), last)

    values = [inputs, carry, *parameters.values()]
    for one, other in zip(gradients_of(whole, values), gradients_of(halves, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", FORWARD)
def test_single_steps_equal_the_whole(network: Recurrent) -> None:
    inputs, carry = batch_of(network)
    parameters = parameters_of(network)
    outputs, last = network.read(parameters, inputs, carry)
    for t in range(STEPS):
        output, carry = network.step(parameters, network.prepared(parameters), inputs[t], carry)
        np.testing.assert_allclose(output, outputs[t], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(carry, last, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("network", FORWARD)
def test_a_start_inside_equals_two_sequences(network: Recurrent) -> None:
    inputs, carry = batch_of(network)
    parameters = parameters_of(network)
    starts = np.zeros((STEPS, BATCH), bool)
    starts[3] = True
    outputs, last = network.read(parameters, inputs, carry, starts=tf.constant(starts))
    first, _ = network.read(parameters, inputs[:3], carry)
    second, end = network.read(parameters, inputs[3:])
    np.testing.assert_allclose(outputs, tf.concat([first, second], axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(last, end, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("network", ALL)
def test_indices_read_as_one_hot_vectors_do(network: Recurrent) -> None:
    _, carry = batch_of(network)
    parameters = parameters_of(network)
    ids = np.random.default_rng(4).integers(0, INPUTS, (STEPS, BATCH)).astype(np.int32)
    hot = tf.one_hot(ids, INPUTS, dtype=tf.float64)
    for one, other in zip(
        network.read(parameters, tf.constant(ids), carry), network.read(parameters, hot, carry), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)

    def loss(values: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        named = dict(zip(parameters, weights, strict=True))
        return weighted_sum(*network.read(named, values, carry))

    gathered, multiplied = (
        gradients_of(lambda *weights, given=given: loss(given, *weights), list(parameters.values()))
        for given in (tf.constant(ids), hot)
    )
    for one, other in zip(gathered, multiplied, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(
            *each.values, id=each.id, marks=[] if each.id.endswith("1-forward") else pytest.mark.slow
        )
        for each in ALL
    ],
)
def test_graphs_with_and_without_xla_compute_the_same(network: Recurrent) -> None:
    inputs, carry = batch_of(network, "float32")
    parameters = parameters_of(network, "float32")

    def gradients(inputs: tf.Tensor, carry: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            found = weighted_sum(*network.read(parameters, inputs, carry, tf.constant(LENGTHS)))
        return found, tape.gradient(found, parameters)

    expected = gradients(inputs, carry)
    for options in ({}, {"jit_compile": True}):
        found = tf.function(gradients, autograph=False, **options)(inputs, carry)
        for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru-before", "gru-after"])
@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2])
def test_keras_layers_give_the_same(name: str, both: bool, layers: int) -> None:
    import keras

    network = Recurrent(inputs=INPUTS, units=UNITS, layers=layers, both=both, **CELLS[name])
    parameters = parameters_of(network, "float32")
    inputs, _ = batch_of(network, "float32")
    values = tf.transpose(inputs, [1, 0, 2])
    lengths = np.array([7, 3, 1])  # Keras refuses a sequence that is masked throughout
    mask = tf.constant(np.arange(STEPS)[None, :] < lengths[:, None])

    def layer(prefix: str) -> Any:
        options = {
            "return_sequences": True,
            "zero_output_for_mask": True,
            "go_backwards": "reverse" in prefix,
        }
        if name.startswith("gru"):
            made = keras.layers.GRU(UNITS, reset_after=network.reset == "after", **options)
        else:
            made = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM}[name](UNITS, **options)
        made.build((BATCH, STEPS, values.shape[-1]))
        bias = parameters[f"{prefix}bias"].numpy()
        if name == "gru-after":
            recurrent = np.concatenate([np.zeros(2 * UNITS), parameters[f"{prefix}recurrent_bias"]])
            bias = np.stack([bias, recurrent.astype(np.float32)])
        made.set_weights([parameters[f"{prefix}kernel"], parameters[f"{prefix}recurrent"], bias])
        return made

    ways = ("forward", "reverse") if both else ("forward",)
    for depth in range(layers):
        found = []
        for way in ways:
            keras_layer = layer(f"layer{depth}/{way}/")
            if way == "forward":
                found.append(keras_layer(values, mask=mask))
            else:  # Keras reverses the padding too: reversed by hand, within each length, and back
                keras_layer.go_backwards = False
                turned = keras_layer(tf.reverse_sequence(values, lengths, seq_axis=1), mask=mask)
                found.append(tf.reverse_sequence(turned, lengths, seq_axis=1))
        values = tf.concat(found, axis=-1)
    outputs, _ = network.read(parameters, inputs, lengths=tf.constant(lengths))
    np.testing.assert_allclose(tf.transpose(outputs, [1, 0, 2]), values, rtol=1e-5, atol=1e-6)


def test_the_raw_lstm_op_with_peepholes_gives_the_same() -> None:
    network = Recurrent(inputs=INPUTS, units=UNITS, **CELLS["lstm-peepholes"])
    parameters = parameters_of(network, "float32")
    inputs, carry = batch_of(network, "float32")

    def reordered(value: tf.Tensor) -> tf.Tensor:  # the op's gates stand in the order i, c, f, o
        i, f, c, o = tf.split(value, 4, axis=-1)
        return tf.concat([i, c, f, o], axis=-1)

    weights = {name.rpartition("/")[2]: value for name, value in parameters.items()}
    expected = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.constant(STEPS, tf.int64),
        x=inputs,
        cs_prev=carry[1],
        h_prev=carry[0],
        w=reordered(tf.concat([weights["kernel"], weights["recurrent"]], axis=0)),
        wci=weights["peephole"][0],
        wcf=weights["peephole"][1],
        wco=weights["peephole"][2],
        b=reordered(weights["bias"]),
        forget_bias=0.0,
        cell_clip=-1.0,
        use_peephole=True,
    )
    outputs, last = network.read(parameters, inputs, carry)
    np.testing.assert_allclose(outputs, expected.h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last[1], expected.cs[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", ALL)
def test_every_layer_and_direction_has_weights_of_its_own(network: Recurrent) -> None:
    values = network.initial(0)
    recurrent = [value for name, value in values.items() if name.endswith("/recurrent")]
    assert len(recurrent) == network.layers * network.directions
    for one in range(len(recurrent)):
        for other in range(one):
            assert not np.allclose(recurrent[one], recurrent[other])


def test_recurrent_matrices_begin_orthogonal_and_forget_biases_at_one() -> None:
    network = Recurrent(cell="lstm", inputs=INPUTS, units=UNITS)
    values = network.initial(3)
    for gate in np.split(values["layer0/forward/recurrent"], 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(UNITS), atol=1e-5)
    np.testing.assert_array_equal(
        values["layer0/forward/bias"], np.repeat([0.0, 1.0, 0.0, 0.0], UNITS).astype(np.float32)
    )
    again = network.initial(3)
    assert all(np.array_equal(values[name], again[name]) for name in values)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"cell": "cnn"}, "cnn"),
        ({"cell": "gru", "reset": "never"}, "never"),
        ({"cell": "gru", "peepholes": True}, "gru"),
        ({"cell": "lstm", "layers": 0}, "layers"),
    ],
)
def test_a_network_that_cannot_be_is_refused_with_its_value(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Recurrent(inputs=INPUTS, units=UNITS, **wrong)


def test_a_graph_for_any_number_of_steps_reads_a_large_batch_like_one_for_this_number() -> None:
    network = Recurrent("gru", inputs=3, units=4, both=True)
    parameters = {name: tf.constant(value) for name, value in network.initial(0, "float64").items()}
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(7, Rows.LEAST, 3)))
    lengths = tf.constant(random.integers(0, 8, Rows.LEAST), tf.int32)

    def gradients(inputs: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            outputs, _ = network.read(parameters, inputs, lengths=lengths)
            loss = tf.reduce_sum(tf.sin(outputs))
        return [loss, *tape.gradient(loss, list(parameters.values()))]

    any_steps = tf.TensorSpec([None, Rows.LEAST, 3], tf.float64)
    found = tf.function(gradients, input_signature=[any_steps])(inputs)
    for one, other in zip(found, gradients(inputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_rows_that_have_ended_are_left_out_and_nothing_changes(cell: str) -> None:
    network = Recurrent(cell, inputs=3, units=4, both=True, peepholes=cell == "lstm")
    parameters = {name: tf.constant(value) for name, value in network.initial(0, "float64").items()}
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(7, Rows.LEAST, 3)))
    carry = tf.constant(random.normal(size=(network.carry_slots, Rows.LEAST, 4)))
    lengths = tf.constant(random.integers(0, 8, Rows.LEAST), tf.int32)
    half = Rows.LEAST // 2  # too few rows to be sorted
    found = []
    for parts in ([slice(0, Rows.LEAST)], [slice(0, half), slice(half, Rows.LEAST)]):
        with tf.GradientTape() as tape:
            tape.watch((parameters, inputs, carry))
            made = [
                network.read(parameters, inputs[:, part], carry[:, part], lengths[part]) for part in parts
            ]
            outputs, last = (tf.concat(values, axis=1) for values in zip(*made, strict=True))
            loss = tf.reduce_sum(tf.sin(outputs)) + tf.reduce_sum(tf.cos(last))
        found.append((outputs, last, tape.gradient(loss, [*parameters.values(), inputs, carry])))
    for one, other in zip(tf.nest.flatten(found[0]), tf.nest.flatten(found[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_rows_are_left_out_only_where_that_was_seen_to_pay() -> None:
    assert Rows.of(14, 48, 64) == Rows((10, 15, 20, 25, 30, 40, 45, 48))
    assert Rows.of(14, 47, Rows.WIDE - 1) is None
    assert Rows.of(14, 32, Rows.WIDE) == Rows((5, 10, 15, 20, 25, 30, 32))
    assert Rows.of(14, 31, Rows.WIDE) is None
    assert Rows.of(None, 48, 64) is Rows.of(14, None, 64) is None
