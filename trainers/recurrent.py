"""The recurrent core: simple RNN, LSTM and GRU, stacked, in one direction or both.

Written for speed on the CPU and exact on every device: the input projection of all steps is one matrix
product before the loop; the loop holds only what depends on the step before; the backward pass is explicit
(`tf.custom_gradient`), so that the weight gradients are one matrix product after the loop. The loops are
`tf.while_loop`s, never unrolled, and compile under XLA.

Everything is time-major. Recurrent state is the `carry`, explicit in and out. Lengths travel with the data
and are never guessed from zeros; the reverse direction reverses each sequence within its own length.

Cells, with x the projected input (kernel and bias applied), U the recurrent matrix, h the state before:

- ``rnn``: h' = tanh(x + hU) (Elman, 1990).
- ``lstm``: gates i, f, c, o; c' = f*c + i*tanh(.), h' = o*tanh(c') (Hochreiter and Schmidhuber, 1997; forget
  gate of Gers et al., 2000). With peepholes i and f also see c, and o sees c' (Gers and Schmidhuber, 2000).
- ``gru``: gates z, r, h; h' = z*h + (1-z)*tanh(candidate). `reset` says where the reset gate stands:
  ``before`` the product, candidate = x + (r*h)U (the original form, Cho et al., 2014), or ``after`` it,
  candidate = x + r*(hU + recurrent_bias) (the form of cuDNN, Keras and PyTorch).

Gates lie side by side in the order named above (Keras' order).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from cluster.errors import UsageError

Tensors = tuple[tf.Tensor, ...]
Weights = Mapping[str, tf.Tensor]


class SimpleCell:
    """h' = tanh(x + hU). Saves nothing: its own output is all the backward pass needs."""

    gates = 1
    states = 1
    saved = 1  # how many tensors, shaped like the state, `step` keeps for `back`

    def weight_shapes(self, units: int) -> dict[str, tuple[int, ...]]:
        return {"recurrent": (units, units)}

    def step(self, weights: Weights, x: tf.Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
        h = tf.tanh(x + state[0] @ weights["recurrent"])
        return (h,), (h,)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        (h,) = saved
        dx = grad[0] * (1 - h * h)
        return dx, (tf.matmul(dx, weights["recurrent"], transpose_b=True),)

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

    def step(self, weights: Weights, x: tf.Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
        h, c = state
        i, f, g, o = tf.split(x + h @ weights["recurrent"], 4, axis=-1)
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
        return dx, (tf.matmul(dx, weights["recurrent"], transpose_b=True), dc)

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

    def step(self, weights: Weights, x: tf.Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
        (h,) = state
        units = h.shape[-1]
        recurrent = weights["recurrent"]
        z, r = tf.split(tf.sigmoid(x[..., : 2 * units] + h @ recurrent[:, : 2 * units]), 2, axis=-1)
        g = tf.tanh(x[..., 2 * units :] + (r * h) @ recurrent[:, 2 * units :])
        return (z * h + (1 - z) * g,), (z, r, g)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        (h,), (z, r, g), (dh,) = state, saved, grad
        units = h.shape[-1]
        recurrent = weights["recurrent"]
        dg = dh * (1 - z) * (1 - g * g)
        drh = tf.matmul(dg, recurrent[:, 2 * units :], transpose_b=True)
        dzr = tf.concat([dh * (h - g) * z * (1 - z), drh * h * r * (1 - r)], axis=-1)
        dbefore = dh * z + drh * r + tf.matmul(dzr, recurrent[:, : 2 * units], transpose_b=True)
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

    def step(self, weights: Weights, x: tf.Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
        (h,) = state
        units = h.shape[-1]
        product = h @ weights["recurrent"]
        z, r = tf.split(tf.sigmoid(x[..., : 2 * units] + product[..., : 2 * units]), 2, axis=-1)
        s = product[..., 2 * units :] + weights["recurrent_bias"]
        g = tf.tanh(x[..., 2 * units :] + r * s)
        return (z * h + (1 - z) * g,), (z, r, g, s)

    def back(
        self, weights: Weights, grad: Tensors, saved: Tensors, state: Tensors
    ) -> tuple[tf.Tensor, Tensors]:
        (h,), (z, r, g, s), (dh,) = state, saved, grad
        dg = dh * (1 - z) * (1 - g * g)
        dz = dh * (h - g) * z * (1 - z)
        dr = dg * s * r * (1 - r)
        dproduct = tf.concat([dz, dr, dg * r], axis=-1)
        dbefore = dh * z + tf.matmul(dproduct, weights["recurrent"], transpose_b=True)
        return tf.concat([dz, dr, dg], axis=-1), (dbefore,)

    def weight_gradients(self, dx: tf.Tensor, saved: Tensors, before: Tensors, after: Tensors) -> dict:
        units = before[0].shape[-1]
        ds = dx[..., 2 * units :] * saved[1]
        dproduct = tf.concat([dx[..., : 2 * units], ds], axis=-1)
        return {
            "recurrent": _over_steps(before[0], dproduct),
            "recurrent_bias": tf.reduce_sum(ds, axis=[0, 1]),
        }


Cell = SimpleCell | LSTMCell | GRUResetBeforeCell | GRUResetAfterCell


@dataclass(frozen=True)
class Recurrent:
    """A stack of recurrent layers; the parameters are handed in, so that one object serves every use.

    `inputs` is the width of the input, or the number of its symbols where it is given as indices.
    `reset` (GRU) is ``before`` or ``after``; `peepholes` (LSTM). `gate_bias` is where the biases of the
    gates that keep the state begin: the LSTM's forget gate (1 unless given), both gates of the GRU (0
    unless given: characters after 500,000 of them cost 1.98 bits so, 2.36 from 1).
    """

    cell: str
    inputs: int
    units: int
    layers: int = 1
    both: bool = False
    reset: str = "after"
    peepholes: bool = False
    gate_bias: float | None = None

    def __post_init__(self) -> None:
        if self.cell not in ("rnn", "lstm", "gru"):
            raise UsageError(f"Recurrent cell {self.cell!r} is unknown; choose rnn, lstm or gru.")
        if self.reset not in ("before", "after"):
            raise UsageError(f"GRU reset {self.reset!r} is unknown; choose before or after.")
        if self.peepholes and self.cell != "lstm":
            raise UsageError(f"Peepholes belong to the LSTM; a {self.cell} has none.")
        for name in ("inputs", "units", "layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"A recurrent network with {name} = {getattr(self, name)}; give at least 1.")

    @property
    def outputs(self) -> int:
        """The width of the output."""
        return self.units * self.directions

    @property
    def directions(self) -> int:
        return 2 if self.both else 1

    @property
    def carry_slots(self) -> int:
        """Rows of the carry: layer by layer, forward before reverse, h before c."""
        return self.layers * self.directions * self._cell().states

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter, in a fixed order; each layer and direction has its own."""
        shapes: dict[str, tuple[int, ...]] = {}
        cell = self._cell()
        for layer in range(self.layers):
            width = self.inputs if layer == 0 else self.outputs
            for prefix in self._prefixes(layer):
                shapes[f"{prefix}kernel"] = (width, cell.gates * self.units)
                shapes[f"{prefix}bias"] = (cell.gates * self.units,)
                for name, shape in cell.weight_shapes(self.units).items():
                    shapes[f"{prefix}{name}"] = shape
        return shapes

    def initial(self, seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
        """Fresh parameters: orthogonal recurrent matrices gate by gate, Glorot-uniform input matrices.

        The start decides much: after 2.5M characters 1.90 bits so, 2.62 from uniform(+-1/sqrt(units)).
        """
        random = np.random.default_rng(seed)
        parameters = {}
        for name, shape in self.shapes().items():
            kind = name.rpartition("/")[2]
            if kind == "kernel":
                limit = np.sqrt(6.0 / (shape[0] + self.units))
                value = random.uniform(-limit, limit, shape)
            elif kind == "recurrent":
                value = np.concatenate(
                    [_orthogonal(random, self.units) for _ in range(self._cell().gates)], axis=1
                )
            else:
                value = np.zeros(shape)
                if kind == "bias":
                    value[self._keeping_gates()] = self._first_gate_bias()
            parameters[name] = value.astype(dtype)
        return parameters

    def zero_carry(self, batch: int | tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """The carry of sequences that begin: zeros [carry_slots, batch, units]."""
        return tf.zeros([self.carry_slots, batch, self.units], dtype)

    def read(
        self,
        parameters: Weights,
        inputs: tf.Tensor,
        carry: tf.Tensor | None = None,
        lengths: tf.Tensor | None = None,
        starts: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads sequences: outputs [steps, batch, outputs] and the carry after each sequence's last step.

        inputs: float [steps, batch, inputs], or integer indices [steps, batch], which gather rows of the
            kernel in place of multiplying one-hot vectors.
        carry: [carry_slots, batch, units], zeros unless given. The reverse direction begins with its part
            of it at each sequence's end and hands on what it holds at the sequence's beginning.
        lengths: integers [batch] in 0..steps, all `steps` unless given. Outputs beyond are zeros, the
            carry stays what it was at the length, and what stands in the padding changes nothing.
        starts: booleans [steps, batch]: the state is zeroed before these steps (a document begins). One
            direction only.
        """
        if starts is not None and self.both:
            raise ValueError("starts are defined for one direction only")
        steps, batch = tf.shape(inputs)[0], tf.shape(inputs)[1]
        dtype = parameters[f"{self._prefixes(0)[0]}kernel"].dtype
        carry = self.zero_carry(batch, dtype) if carry is None else carry
        real = keep = None
        if lengths is not None:
            lengths = tf.cast(lengths, tf.int32)
            real = (tf.range(steps)[:, None] < lengths[None, :])[:, :, None]
            if inputs.dtype.is_floating:
                inputs = tf.where(real, inputs, tf.zeros([], inputs.dtype))
        if starts is not None:
            keep = tf.cast(tf.logical_not(starts), dtype)[:, :, None]
        cell = self._cell()
        carries: list[tf.Tensor] = []
        for layer in range(self.layers):
            outputs = []
            for direction, prefix in enumerate(self._prefixes(layer)):
                own = {name: parameters[prefix + name] for name in cell.weight_shapes(self.units)}
                x = _projected(inputs, parameters[f"{prefix}kernel"], parameters[f"{prefix}bias"])
                x = _reversed(x, lengths) if direction else x
                first = len(carries)
                state = tuple(carry[first + slot] for slot in range(cell.states))
                h, last = _sweep(cell, own, x, state, real, keep)
                if real is not None:
                    h = tf.where(real, h, tf.zeros([], dtype))
                outputs.append(_reversed(h, lengths) if direction else h)
                carries.extend(last)
            inputs = tf.concat(outputs, axis=-1) if self.both else outputs[0]
        return inputs, tf.stack(carries)

    def step(self, parameters: Weights, inputs: tf.Tensor, carry: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step in one direction: inputs [batch, inputs] or indices [batch] to outputs and carry."""
        if self.both:
            raise ValueError("a network that reads both ways has no single step")
        cell = self._cell()
        carries: list[tf.Tensor] = []
        for layer in range(self.layers):
            prefix = self._prefixes(layer)[0]
            own = {name: parameters[prefix + name] for name in cell.weight_shapes(self.units)}
            x = _projected(inputs, parameters[f"{prefix}kernel"], parameters[f"{prefix}bias"])
            state = tuple(carry[layer * cell.states + slot] for slot in range(cell.states))
            after, _ = cell.step(own, x, state)
            carries.extend(after)
            inputs = after[0]
        return inputs, tf.stack(carries)

    def _cell(self) -> Cell:
        if self.cell == "rnn":
            return SimpleCell()
        if self.cell == "lstm":
            return LSTMCell(self.peepholes)
        return GRUResetBeforeCell() if self.reset == "before" else GRUResetAfterCell()

    def _first_gate_bias(self) -> float:
        if self.gate_bias is not None:
            return self.gate_bias
        return 1.0 if self.cell == "lstm" else 0.0

    def _keeping_gates(self) -> slice:
        return {
            "rnn": slice(0, 0),
            "lstm": slice(self.units, 2 * self.units),
            "gru": slice(0, 2 * self.units),
        }[self.cell]

    def _prefixes(self, layer: int) -> list[str]:
        return [f"layer{layer}/{way}/" for way in ("forward", "reverse")[: self.directions]]


def _sweep(
    cell: Cell,
    weights: Weights,
    projected: tf.Tensor,
    carry: Tensors,
    real: tf.Tensor | None,
    keep: tf.Tensor | None,
) -> tuple[tf.Tensor, Tensors]:
    """One layer in one direction over all steps, with its backward pass.

    projected [steps, batch, gates * units]; carry: the cell's states, each [batch, units]; `real` and
    `keep` [steps, batch, 1] as `Recurrent.read` makes them. Returns h of every step and the last states.
    """
    names = list(weights)
    count = cell.states

    @tf.custom_gradient
    def sweep(x: tf.Tensor, *rest: tf.Tensor) -> tuple[Tensors, Callable]:
        first = rest[:count]
        own = dict(zip(names, rest[count:], strict=True))
        states, last, saved = _forward(cell, own, x, first, real, keep)

        def gradient(dh: tf.Tensor, *dlast: tf.Tensor) -> Tensors:
            before = tuple(
                tf.concat([one[None], each], axis=0)[:-1] for one, each in zip(first, states, strict=True)
            )
            if keep is not None:
                before = tuple(each * keep for each in before)
            dx, dfirst = _backward(cell, own, dh, dlast, saved, before, real, keep)
            gradients = cell.weight_gradients(dx, saved, before, states)
            return (dx, *dfirst, *(gradients[name] for name in names))

        return (states[0], *last), gradient

    h, *last = sweep(projected, *carry, *(weights[name] for name in names))
    return h, tuple(last)


def _forward(
    cell: Cell, weights: Weights, x: tf.Tensor, carry: Tensors, real: tf.Tensor | None, keep: tf.Tensor | None
) -> tuple[Tensors, Tensors, Tensors]:
    """The states after every step, those after the last one, and what the cell saved at each."""
    steps = _steps(x)
    arrays = _arrays(len(carry) + cell.saved, x.dtype, steps, carry[0].shape)

    def body(t: tf.Tensor, state: Tensors, arrays: tuple) -> tuple:
        if keep is not None:
            state = tuple(each * keep[t] for each in state)
        after, saved = cell.step(weights, x[t], state)
        if real is not None:
            after = tuple(tf.where(real[t], new, old) for new, old in zip(after, state, strict=True))
        written = tuple(a.write(t, v) for a, v in zip(arrays, (*after, *saved), strict=True))
        return t + 1, after, written

    _, last, arrays = tf.while_loop(
        lambda t, *_: t < steps, body, (tf.constant(0), carry, arrays), maximum_iterations=steps
    )
    stacked = tuple(_stacked(array, x) for array in arrays)
    return stacked[: len(carry)], last, stacked[len(carry) :]


def _backward(
    cell: Cell,
    weights: Weights,
    dh: tf.Tensor,
    dlast: Tensors,
    saved: Tensors,
    before: Tensors,
    real: tf.Tensor | None,
    keep: tf.Tensor | None,
) -> tuple[tf.Tensor, Tensors]:
    steps = _steps(dh)
    shape = [*dlast[0].shape[:-1], cell.gates * dlast[0].shape[-1]]
    arrays = _arrays(1, dh.dtype, steps, shape)

    def body(left: tf.Tensor, dstate: Tensors, arrays: tuple) -> tuple:
        t = left - 1
        dstate = (dstate[0] + dh[t], *dstate[1:])
        own = dstate
        if real is not None:
            own = tuple(tf.where(real[t], each, tf.zeros([], each.dtype)) for each in dstate)
        dx, dbefore = cell.back(
            weights, own, tuple(each[t] for each in saved), tuple(each[t] for each in before)
        )
        if real is not None:
            dbefore = tuple(tf.where(real[t], new, old) for new, old in zip(dbefore, dstate, strict=True))
        if keep is not None:
            dbefore = tuple(each * keep[t] for each in dbefore)
        return t, dbefore, (arrays[0].write(t, dx),)

    _, dfirst, arrays = tf.while_loop(
        lambda left, *_: left > 0,
        body,
        (tf.convert_to_tensor(steps), dlast, arrays),
        maximum_iterations=steps,
    )
    return _stacked(arrays[0], dh), dfirst


def _steps(values: tf.Tensor) -> int | tf.Tensor:
    return tf.shape(values)[0] if values.shape[0] is None else values.shape[0]


def _stacked(array: tf.TensorArray, like: tf.Tensor) -> tf.Tensor:
    """All steps in one tensor, with the static number of steps of `like`."""
    values = array.stack()
    values.set_shape([like.shape[0], *values.shape[1:]])
    return values


def _arrays(count: int, dtype: tf.DType, steps: int | tf.Tensor, shape: tf.TensorShape) -> tuple:
    return tuple(
        tf.TensorArray(dtype, size=steps, element_shape=shape, clear_after_read=False) for _ in range(count)
    )


def _projected(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """The input's share of the gates, for all steps in one product; indices gather rows of the kernel."""
    if inputs.dtype.is_integer:
        return _rows(kernel, inputs) + bias
    width = kernel.shape[-1]
    flat = tf.reshape(inputs, [-1, kernel.shape[0]]) @ kernel + bias
    return tf.reshape(flat, tf.concat([tf.shape(inputs)[:-1], [width]], axis=0))


@tf.custom_gradient
def _rows(kernel: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Rows of the kernel; the gradient is a plain tensor, for the kernel is small, never sparse slices."""

    def gradient(rows: tf.Tensor) -> tuple[tf.Tensor, None]:
        flat = tf.reshape(rows, [-1, kernel.shape[-1]])
        return tf.math.unsorted_segment_sum(flat, tf.reshape(indices, [-1]), kernel.shape[0]), None

    return tf.gather(kernel, indices), gradient


def _over_steps(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """The sum over steps and batch of outer products: one matrix product."""
    return tf.matmul(
        tf.reshape(left, [-1, left.shape[-1]]), tf.reshape(right, [-1, right.shape[-1]]), transpose_a=True
    )


def _reversed(values: tf.Tensor, lengths: tf.Tensor | None) -> tf.Tensor:
    """Each sequence reversed within its own length; the padding stays where it is."""
    if lengths is None:
        return tf.reverse(values, axis=[0])
    return tf.reverse_sequence(values, lengths, seq_axis=0, batch_axis=1)


def _orthogonal(random: np.random.Generator, size: int) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((size, size)))
    signs = np.sign(np.diag(r))
    return np.asarray(q * signs)  # the signs make the distribution uniform (Mezzadri, 2007)
