"""One recurrent layer in one direction over all steps, with its backward pass.

The backward pass is explicit (`tf.custom_gradient`), so that the weight gradients are one matrix product
after the loop. The loops are `tf.while_loop`s, never unrolled, and compile under XLA. All is time-major, as
in `trainers.recurrent`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from trainers.cells import Cell, Tensors, Weights
from trainers.lengths import Rows, of_real_frames


def sweep(
    cell: Cell,
    weights: Weights,
    inputs: tf.Tensor,
    carry: Tensors,
    lengths: tf.Tensor | None,
    keep: tf.Tensor | None,
    rows: Rows | None,
    projection: Tensors = (),
) -> tuple[tf.Tensor, Tensors]:
    """h of every step, and the states after each sequence's last real one.

    inputs: the input's share of the gates, [steps, batch, gates * units]; with `projection`, a kernel and a
    bias that make it out of them, [steps, batch, inputs], and `rows`: each step then makes it for the rows
    that it does. carry: the cell's states, each [batch, units]. lengths: int32 [batch], all `steps` unless
    given. keep: 0 or 1 [steps, batch, 1], what the state is multiplied by before a step. rows: given where
    lengths fall from row to row.

    Steps beyond a sequence's length are left out or computed like any other and used by nobody: padding comes
    last, so it reaches no real step, and no gradient comes back from it.
    """
    names = list(weights)
    count = cell.states
    which = None
    if rows is not None:
        which = rows.needed(lengths, _steps(inputs))

    @tf.custom_gradient
    def swept(x: tf.Tensor, *rest: tf.Tensor) -> tuple[Tensors, Callable]:
        first, projection = rest[:count], rest[count + len(names) :]
        own = dict(zip(names, rest[count : count + len(names)], strict=True))
        states, last, saved = _forward(cell, own, x, projection, first, keep, rows, which)
        if lengths is not None:
            last = tuple(_at(each, one, lengths) for each, one in zip(states, first, strict=True))

        def gradient(dh: tf.Tensor, *dlast: tf.Tensor) -> Tensors:
            before = tuple(
                tf.concat([one[None], each], axis=0)[:-1] for one, each in zip(first, states, strict=True)
            )
            if keep is not None:
                before = tuple(each * keep for each in before)
            dx, dfirst = _backward(cell, own, dh, dlast, saved, before, lengths, keep, rows, which)
            if rows is None:
                gradients = cell.weight_gradients(dx, saved, before, states)
            else:
                read = x if projection else None
                gradients = _packed_gradients(cell, read, dx, saved, before, states, lengths)
            learned = names
            if projection:
                learned = [*names, "kernel", "bias"]
                flat = tf.reshape(dx, [-1, dx.shape[-1]]) @ tf.transpose(projection[0])
                dx = tf.reshape(flat, x.shape)
            return (dx, *dfirst, *(gradients[name] for name in learned))

        return (states[0], *last), gradient

    h, *last = swept(inputs, *carry, *(weights[name] for name in names), *projection)
    return h, tuple(last)


def _forward(
    cell: Cell,
    weights: Weights,
    x: tf.Tensor,
    projection: Tensors,
    carry: Tensors,
    keep: tf.Tensor | None,
    rows: Rows | None,
    which: tf.Tensor | None,
) -> tuple[Tensors, Tensors, Tensors]:
    """The states after every step, those after the last one, and what the cell saved at each."""
    steps = _steps(x)
    gates = () if projection else tf.split(x, cell.gates, axis=-1)
    arrays = _arrays(len(carry) + cell.saved, x.dtype, steps, carry[0].shape)
    weights = cell.forward_weights(weights)

    def body(t: tf.Tensor, state: Tensors, arrays: tuple) -> tuple:
        if keep is not None:
            state = tuple(each * keep[t] for each in state)

        def work(size: int | None) -> Tensors:
            if projection:
                kernel, bias = projection
                given = tuple(tf.split(x[t, :size] @ kernel + bias, cell.gates, axis=-1))
            else:
                given = tuple(each[t, :size] for each in gates)
            after, saved = cell.step(weights, given, tuple(each[:size] for each in state))
            return (*after, *saved)

        made = work(None) if rows is None or which is None else rows.do(which[t], work)
        written = tuple(a.write(t, v) for a, v in zip(arrays, made, strict=True))
        return t + 1, made[: len(state)], written

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
    lengths: tf.Tensor | None,
    keep: tf.Tensor | None,
    rows: Rows | None,
    which: tf.Tensor | None,
) -> tuple[tf.Tensor, Tensors]:
    """The gradients of the projected input and of the first states."""
    steps = _steps(dh)
    shape = [*dlast[0].shape[:-1], cell.gates * dlast[0].shape[-1]]
    arrays = _arrays(1, dh.dtype, steps, shape)
    weights = cell.backward_weights(weights)

    def body(left: tf.Tensor, dstate: Tensors, arrays: tuple) -> tuple:
        t = left - 1
        if lengths is not None:
            dstate = _added_where(lengths == left, dlast, dstate)
        dstate = (dstate[0] + dh[t], *dstate[1:])

        def work(size: int | None) -> Tensors:
            given = (tuple(each[t, :size] for each in values) for values in (saved, before))
            dx, dbefore = cell.back(weights, tuple(each[:size] for each in dstate), *given)
            return (dx, *dbefore)

        dx, *dbefore = work(None) if rows is None or which is None else rows.do(which[t], work)
        if keep is not None:
            dbefore = [each * keep[t] for each in dbefore]
        return t, tuple(dbefore), (arrays[0].write(t, dx),)

    begin = dlast if lengths is None else tuple(tf.zeros_like(each) for each in dlast)
    _, dfirst, arrays = tf.while_loop(
        lambda left, *_: left > 0,
        body,
        (tf.convert_to_tensor(steps), begin, arrays),
        maximum_iterations=steps,
    )
    if lengths is not None:
        dfirst = _added_where(lengths == 0, dlast, dfirst)
    return _stacked(arrays[0], dh), dfirst


def _packed_gradients(
    cell: Cell,
    inputs: tf.Tensor | None,
    dx: tf.Tensor,
    saved: Tensors,
    before: Tensors,
    after: Tensors,
    lengths: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """The gradients of the weights, and with `inputs` of the projection that was made of them, out of real
    frames only."""
    values = (dx, *saved, *before, *after)

    def gradients(packed: Tensors) -> dict[str, tf.Tensor]:
        dx, *rest = (each[None] for each in packed[: len(values)])
        parts = (rest[: len(saved)], rest[len(saved) : -len(after)], rest[-len(after) :])
        made = cell.weight_gradients(dx, *map(tuple, parts))
        if inputs is not None:
            made["kernel"] = tf.matmul(packed[-1], dx[0], transpose_a=True)
            made["bias"] = tf.reduce_sum(dx[0], axis=0)
        return made

    return of_real_frames(values if inputs is None else (*values, inputs), lengths, gradients)


def _at(states: tf.Tensor, first: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The state [batch, units] of each sequence after its own length of steps; `first` where that is 0."""
    places = tf.stack([tf.maximum(lengths - 1, 0), tf.range(tf.size(lengths))], axis=1)
    return tf.where((lengths == 0)[:, None], first, tf.gather_nd(states, places))


def _added_where(rows: tf.Tensor, values: Tensors, to: Tensors) -> Tensors:
    return tuple(
        each + tf.where(rows[:, None], value, tf.zeros([], value.dtype))
        for value, each in zip(values, to, strict=True)
    )


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
