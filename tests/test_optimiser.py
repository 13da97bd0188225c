from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainers.optimiser import Adam, RMSProp, clipped, global_norm


def arrays(seed: int, scale: float = 1.0) -> dict[str, tf.Tensor]:
    random = np.random.default_rng(seed)
    return {
        name: tf.constant((scale * random.normal(size=shape)).astype(np.float32))
        for name, shape in (("a", (3, 4)), ("b", (5,)))
    }


def test_adam_steps_like_keras() -> None:
    import keras

    parameters = arrays(0)
    theirs = {name: keras.Variable(value) for name, value in parameters.items()}
    adam, keras_adam = Adam(), keras.optimizers.Adam(0.01, epsilon=1e-8)
    slots = adam.initial(parameters)
    for step in range(20):
        gradients = arrays(step + 1)
        parameters, slots = adam.update(parameters, gradients, slots, tf.constant(0.01))
        keras_adam.apply([gradients[name] for name in theirs], list(theirs.values()))
    for name, value in parameters.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-6)


def test_slots_averaged_over_workers_keep_their_correction() -> None:
    parameters, adam = arrays(0), Adam()
    slots = adam.initial(parameters)
    gradients = arrays(1)
    _, moved = adam.update(parameters, gradients, slots, tf.constant(0.01))
    mixed = {name: (slots[name] + moved[name]) / 2 for name in slots}  # the other worker had no block
    for name in parameters:  # the corrected mean is still that of the one gradient seen
        np.testing.assert_allclose(mixed[f"mean/{name}"] / mixed["mean_weight"], gradients[name], rtol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_gradients_are_clipped_as_named(scale: float) -> None:
    gradients = arrays(2, scale)
    by_value = clipped(gradients, 1.0, "value")
    by_norm = clipped(gradients, 1.0, "norm")
    together = clipped(gradients, 1.0, "global_norm")
    for name, value in gradients.items():
        np.testing.assert_array_equal(by_value[name], np.clip(value, -1, 1))
        norm = np.linalg.norm(value)
        np.testing.assert_allclose(by_norm[name], value / max(norm, 1), rtol=1e-5)
        np.testing.assert_allclose(together[name], value / max(global_norm(gradients), 1), rtol=1e-5)


def test_another_way_of_clipping_is_refused() -> None:
    with pytest.raises(ValueError, match="'size'"):
        clipped(arrays(0), 1.0, "size")


def test_rmsprop_has_its_epsilon_inside_the_root_and_begins_at_one() -> None:
    parameters, rmsprop = arrays(0), RMSProp()
    slots = rmsprop.initial(parameters)
    expected = {name: value.numpy().astype(np.float64) for name, value in parameters.items()}
    squares = {name: np.ones(value.shape) for name, value in parameters.items()}
    for step in range(5):
        gradients = arrays(step + 1)
        parameters, slots = rmsprop.update(parameters, gradients, slots, tf.constant(0.002))
        for name, gradient in gradients.items():
            squares[name] = 0.9 * squares[name] + 0.1 * gradient.numpy() ** 2
            expected[name] -= 0.002 * gradient.numpy() / np.sqrt(squares[name] + 1e-10)
    for name, value in parameters.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)
