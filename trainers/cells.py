"""The recurrent cells: one step, its backward pass, and the weight gradients of all steps in one product.

Cells, with x the projected input (kernel and bias applied), U the recurrent matrix, h the state before:

- ``rnn``: h' = tanh(x + hU) (Elman, 1990).
- ``lstm``: gates i, f, c, o; c' = f*c + i*tanh(.), h' = o*tanh(c') (Hochreiter and Schmidhuber, 1997; forget
  gate of Gers et al., 2000). With peepholes i and f also see c, and o sees c' (Gers and Schmidhuber, 2000).
- ``gru``: gates z, r, h; h' = z*h + (1-z)*tanh(candidate). `reset` says where the reset gate stands:
  ``before`` the product, candidate = x + (r*h)U (the original form, Cho et al., 2014), or ``after`` it,
  candidate = x + r*(hU + recurrent_bias) (the form of cuDNN, Keras and PyTorch).

Gates lie side by side in the order named above (Keras' order).

A cell keeps what `back` needs of each step in tensors shaped like the state. What does not change from step
to step (slices and transposes of the weights) is made once, before the loop: with the transpose made there,
forward and backward together are 8 % faster at a batch of 20 and 15 % at 10. The projected input comes as a
tensor a gate: where a step's slice was cut into gates within the loop, XLA did not vectorise what follows,
and a forward loop alone (64 x 300) took 5.2 ms in place of 2.9; a training step, where the states are kept,
gained nothing by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]
Weights = Mapping[str, tf.Tensor]


class Cell(Protocol):
    """What the layer asks of a cell; `units` is the width of its state."""

    gates: int  # the projected input has gates * units numbers
    states: int  # tensors of the state, h first
    saved: int  # tensors, shaped like the state, that `step` keeps for `back`

    def weight_shapes(self, units: int) -> dict[str, tuple[int, ...]]:
        """The weights beside the input's kernel and bias."""

    def forward_weights(self, weights: Weights) -> Weights:
        """The weights as `step` wants them."""

    def backward_weights(self, weights: Weights) -> Weights:
        """The weights as `back` wants them."""

    def step(self, weights: Weights, x: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """The state after a step, and what is saved; x: a tensor [batch, units] for each gate."""

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        """From the gradient of the state after: those of x and of the state before (given as `state`)."""

    def weight_gradients(self, dx: tf.Tensor, saved: Tensors, before: Tensors, after: Tensors) -> dict:
        """The gradients of the weights, from all steps' values [steps, batch, ...]."""


class SimpleCell:
    """h' = tanh(x + hU). Saves nothing: its own output is all the backward pass needs."""

    gates = 1
    states = 1
    saved = 1

    def weight_shapes(self, units: int) -> dict[str, tuple[int, ...]]:
        return {"recurrent": (units, units)}

    def forward_weights(self, weights: Weights) -> Weights:
        return weights

    def backward_weights(self, weights: Weights) -> Weights:
        return {**weights, "transposed": tf.transpose(weights["recurrent"])}

    def step(self, weights: Weights, x: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        h = tf.tanh(x[0] + state[0] @ weights["recurrent"])
        return (h,), (h,)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        (h,) = saved
        dx = grad[0] * (1 - h * h)
        return dx, (dx @ weights["transposed"],)

    def weight_gradients(self, dx: tf.Tensor, saved: Tensors, before: Tensors, after: Tensors) -> dict:
        return {"recurrent": _over_steps(before[0], dx)}


class LSTMCell:
    """The LSTM, with or without peephole connections (`peephole` rows: for i, f and o)."""

    gates = 4
    states = 2
    saved = 5

    def __init__(self, peepholes: bool) -> None:
        self.peepholes = peepholes

    def weight_shapes(self, units: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"recurrent": (units, 4 * units)}
        if self.peepholes:
            shapes["peephole"] = (3, units)
        return shapes

    def forward_weights(self, weights: Weights) -> Weights:
        return weights

    def backward_weights(self, weights: Weights) -> Weights:
        return {**weights, "transposed": tf.transpose(weights["recurrent"])}

    def step(self, weights: Weights, x: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        h, c = state
        products = tf.split(h @ weights["recurrent"], 4, axis=-1)
        i, f, g, o = (a + b for a, b in zip(x, products, strict=True))
        if self.peepholes:
            peephole = weights["peephole"]
            i, f = i + c * peephole[0], f + c * peephole[1]
        i, f, g = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g)
        c = f * c + i * g
        if self.peepholes:
            o = o + c * peephole[2]
        o = tf.sigmoid(o)
        t = tf.tanh(c)
        return (o * t, c), (i, f, g, o, t)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        i, f, g, o, t = saved
        dh, dc = grad
        do = dh * t * o * (1 - o)
        dc = dc + dh * o * (1 - t * t)
        if self.peepholes:
            peephole = weights["peephole"]
            dc = dc + do * peephole[2]
        di = dc * g * i * (1 - i)
        df = dc * state[1] * f * (1 - f)
        dg = dc * i * (1 - g * g)
        dc = dc * f
        if self.peepholes:
            dc = dc + di * peephole[0] + df * peephole[1]
        dx = tf.concat([di, df, dg, do], axis=-1)
        return dx, (dx @ weights["transposed"], dc)

    def weight_gradients(self, dx: tf.Tensor, saved: Tensors, before: Tensors, after: Tensors) -> dict:
        gradients = {"recurrent": _over_steps(before[0], dx)}
        if self.peepholes:
            di, df, _, do = tf.split(dx, 4, axis=-1)
            pairs = ((di, before[1]), (df, before[1]), (do, after[1]))
            gradients["peephole"] = tf.stack([tf.reduce_sum(d * c, axis=[0, 1]) for d, c in pairs])
        return gradients


class GRUResetBeforeCell:
    """The GRU as first published: the reset gate acts on the state, before the recurrent product."""

    gates = 3
    states = 1
    saved = 3

    def weight_shapes(self, units: int) -> dict[str, tuple[int, ...]]:
        return {"recurrent": (units, 3 * units)}

    def forward_weights(self, weights: Weights) -> Weights:
        gates, candidate = self._parts(weights)
        return {"gates": gates, "candidate": candidate}

    def backward_weights(self, weights: Weights) -> Weights:
        gates, candidate = self._parts(weights)
        return {"gates": tf.transpose(gates), "candidate": tf.transpose(candidate)}

    def _parts(self, weights: Weights) -> Tensors:
        recurrent = weights["recurrent"]
        units = recurrent.shape[0]
        return recurrent[:, : 2 * units], recurrent[:, 2 * units :]

    def step(self, weights: Weights, x: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        (h,) = state
        gates = tf.split(h @ weights["gates"], 2, axis=-1)
        z, r = tf.sigmoid(x[0] + gates[0]), tf.sigmoid(x[1] + gates[1])
        g = tf.tanh(x[2] + (r * h) @ weights["candidate"])
        return (z * h + (1 - z) * g,), (z, r, g)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        (h,), (z, r, g), (dh,) = state, saved, grad
        dg = dh * (1 - z) * (1 - g * g)
        drh = dg @ weights["candidate"]
        dzr = tf.concat([dh * (h - g) * z * (1 - z), drh * h * r * (1 - r)], axis=-1)
        dbefore = dh * z + drh * r + dzr @ weights["gates"]
        return tf.concat([dzr, dg], axis=-1), (dbefore,)

    def weight_gradients(self, dx: tf.Tensor, saved: Tensors, before: Tensors, after: Tensors) -> dict:
        units = before[0].shape[-1]
        gates = _over_steps(before[0], dx[..., : 2 * units])
        candidate = _over_steps(before[0] * saved[1], dx[..., 2 * units :])
        return {"recurrent": tf.concat([gates, candidate], axis=-1)}


class GRUResetAfterCell:
    """The GRU of cuDNN, Keras and PyTorch: the reset gate acts after the recurrent product."""

    gates = 3
    states = 1
    saved = 4

    def weight_shapes(self, units: int) -> dict[str, tuple[int, ...]]:
        return {"recurrent": (units, 3 * units), "recurrent_bias": (units,)}

    def forward_weights(self, weights: Weights) -> Weights:
        return weights

    def backward_weights(self, weights: Weights) -> Weights:
        return {**weights, "transposed": tf.transpose(weights["recurrent"])}

    def step(self, weights: Weights, x: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        (h,) = state
        product = tf.split(h @ weights["recurrent"], 3, axis=-1)
        z, r = tf.sigmoid(x[0] + product[0]), tf.sigmoid(x[1] + product[1])
        s = product[2] + weights["recurrent_bias"]
        g = tf.tanh(x[2] + r * s)
        return (z * h + (1 - z) * g,), (z, r, g, s)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        (h,), (z, r, g, s), (dh,) = state, saved, grad
        dg = dh * (1 - z) * (1 - g * g)
        dz = dh * (h - g) * z * (1 - z)
        dr = dg * s * r * (1 - r)
        dproduct = tf.concat([dz, dr, dg * r], axis=-1)
        dbefore = dh * z + dproduct @ weights["transposed"]
        return tf.concat([dz, dr, dg], axis=-1), (dbefore,)

    def weight_gradients(self, dx: tf.Tensor, saved: Tensors, before: Tensors, after: Tensors) -> dict:
        units = before[0].shape[-1]
        ds = dx[..., 2 * units :] * saved[1]
        dproduct = tf.concat([dx[..., : 2 * units], ds], axis=-1)
        return {
            "recurrent": _over_steps(before[0], dproduct),
            "recurrent_bias": tf.reduce_sum(ds, axis=[0, 1]),
        }


def _over_steps(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The sum over steps and batch of outer products: one matrix product."""
    return tf.matmul(
        tf.reshape(left, [-1, left.shape[-1]]), tf.reshape(right, [-1, right.shape[-1]]), transpose_a=True
    )
