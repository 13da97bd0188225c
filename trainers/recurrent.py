"""The recurrent core: simple RNN, LSTM and GRU, stacked, in one direction or both.

Written for speed on the CPU and exact on every device: the input projection of all steps is one matrix
product before the loop over them (`trainers.sweep`), which holds only what depends on the step before. On a
GPU its library reads what it knows (`trainers.cudnn`).

Everything is time-major. Recurrent state is the `carry`, explicit in and out. Lengths travel with the data
and are never guessed from zeros; the reverse direction reverses each sequence within its own length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from cluster.errors import UsageError
from trainers import cudnn
from trainers.cells import (
    Cell,
    GRUResetAfterCell,
    GRUResetBeforeCell,
    LSTMCell,
    SimpleCell,
    Weights,
)
from trainers.lengths import Rows, permuted
from trainers.sweep import sweep


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
        if cudnn.is_allowed():
            return self._read_by_library(parameters, inputs, carry, lengths, starts)
        rows = Rows.of(inputs.shape[0], inputs.shape[1], self.units)
        if lengths is not None and starts is None and rows is not None:
            return self._read_sorted(parameters, inputs, carry, tf.cast(lengths, tf.int32), rows)
        return self._read(parameters, inputs, carry, lengths, starts, None)

    @property
    def in_library(self) -> bool:
        """Whether a GPU's library reads it, in graphs that allow that; see `trainers.cudnn`."""
        return cudnn.knows(self.cell, self.reset, self.peepholes)

    def _read_by_library(
        self,
        parameters: Weights,
        inputs: tf.Tensor,
        carry: tf.Tensor | None,
        lengths: tf.Tensor | None,
        starts: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        names = ("kernel", "bias", *self._cell().weight_shapes(self.units))
        prefixes = (prefix for layer in range(self.layers) for prefix in self._prefixes(layer))
        weights = [{name: parameters[prefix + name] for name in names} for prefix in prefixes]
        if carry is None:
            carry = self.zero_carry(tf.shape(inputs)[1], weights[0]["kernel"].dtype)
        read = functools.partial(cudnn.read, self.cell, self.both, weights)
        if starts is not None:
            return cudnn.by_document(read, inputs, carry, starts)
        return read(inputs, carry, None if lengths is None else tf.cast(lengths, tf.int32))

    def _read_sorted(
        self,
        parameters: Weights,
        inputs: tf.Tensor,
        carry: tf.Tensor | None,
        lengths: tf.Tensor,
        rows: Rows,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`read` with the longest sequences in the first rows: a step leaves out rows that have ended."""
        order = tf.argsort(lengths, direction="DESCENDING", stable=True)
        back = tf.argsort(order)
        carry = None if carry is None else permuted(carry, order, back)
        outputs, last = self._read(
            parameters, permuted(inputs, order, back), carry, tf.gather(lengths, order), None, rows
        )
        return permuted(outputs, back, order), permuted(last, back, order)

    def _read(
        self,
        parameters: Weights,
        inputs: tf.Tensor,
        carry: tf.Tensor | None,
        lengths: tf.Tensor | None,
        starts: tf.Tensor | None,
        rows: Rows | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        steps, batch = tf.shape(inputs)[0], tf.shape(inputs)[1]
        dtype = parameters[f"{self._prefixes(0)[0]}kernel"].dtype
        carry = self.zero_carry(batch, dtype) if carry is None else carry
        real = keep = None
        if lengths is not None:
            lengths = tf.cast(lengths, tf.int32)
            real = (tf.range(steps)[:, None] < lengths[None, :])[:, :, None]
            inputs = tf.where(real if inputs.dtype.is_floating else real[:, :, 0], inputs, 0)
        if starts is not None:
            keep = tf.cast(tf.logical_not(starts), dtype)[:, :, None]
        cell = self._cell()
        carries: list[tf.Tensor] = []
        for layer in range(self.layers):
            outputs = []
            for direction, prefix in enumerate(self._prefixes(layer)):
                own = {name: parameters[prefix + name] for name in cell.weight_shapes(self.units)}
                read = _reversed(inputs, lengths) if direction else inputs
                kernel, bias = parameters[f"{prefix}kernel"], parameters[f"{prefix}bias"]
                projection = (kernel, bias) if rows is not None and read.dtype.is_floating else ()
                x = read if projection else _projected(read, kernel, bias)
                first = len(carries)
                state = tuple(carry[first + slot] for slot in range(cell.states))
                h, last = sweep(cell, own, x, state, lengths, keep, rows, projection)
                if real is not None:
                    h = tf.where(real, h, tf.zeros([], dtype))
                outputs.append(_reversed(h, lengths) if direction else h)
                carries.extend(last)
            inputs = tf.concat(outputs, axis=-1) if self.both else outputs[0]
        return inputs, tf.stack(carries)

    def prepared(self, parameters: Weights) -> list[Weights]:
        """Each layer's weights as the cell's steps want them, for a loop of `step`s: XLA does not move the
        cutting out of a loop (outside, one text by the reference GRU: 2.7 times the characters a second)."""
        cell = self._cell()
        return [
            cell.forward_weights({name: parameters[prefix + name] for name in cell.weight_shapes(self.units)})
            for prefix in (self._prefixes(layer)[0] for layer in range(self.layers))
        ]

    def step(
        self, parameters: Weights, prepared: list[Weights], inputs: tf.Tensor, carry: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step in one direction: inputs [batch, inputs] or indices [batch] to outputs and carry;
        `prepared` is what the method of that name gives."""
        if self.both:
            raise ValueError("a network that reads both ways has no single step")
        cell = self._cell()
        carries: list[tf.Tensor] = []
        for layer in range(self.layers):
            prefix = self._prefixes(layer)[0]
            x = _projected(inputs, parameters[f"{prefix}kernel"], parameters[f"{prefix}bias"])
            state = tuple(carry[layer * cell.states + slot] for slot in range(cell.states))
            gates = tuple(tf.split(x, cell.gates, axis=-1))
            after, _ = cell.step(prepared[layer], gates, state)
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


def _reversed(values: tf.Tensor, lengths: tf.Tensor | None) -> tf.Tensor:
    """Each sequence reversed within its own length; the padding stays where it is."""
    if lengths is None:
        return tf.reverse(values, axis=[0])
    return tf.reverse_sequence(values, lengths, seq_axis=0, batch_axis=1)


def _orthogonal(random: np.random.Generator, size: int) -> np.ndarray:
    q, r = np.linalg.qr(random.standard_normal((size, size)))
    signs = np.sign(np.diag(r))
    return np.asarray(q * signs)  # the signs make the distribution uniform (Mezzadri, 2007)
