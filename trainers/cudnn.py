"""Recurrent layers by the GPU's own library (cuDNN), where there is one and it knows their form.

It reads a whole stack in one call, where the loops of `trainers.recurrent` start several kernels at every
step. XLA cannot compile that call, so it is made only in graphs that say so (`allowed`): those of the
learners on a GPU. The parameters are the same, so a checkpoint made by either goes on with the other; all is
time-major, as there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import tensorflow as tf

from trainers.cells import Weights

MODES = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}
# The places, in a cell's own order of gates, of those that the library wants first, second and so on.
GATES = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}

Read = Callable[[tf.Tensor, tf.Tensor, tf.Tensor | None], tuple[tf.Tensor, tf.Tensor]]

_ALLOWED: ContextVar[bool] = ContextVar("cudnn allowed", default=False)


def knows(cell: str, reset: str, peepholes: bool) -> bool:
    """Whether a GPU is there whose library has this form: no peepholes, the GRU's reset after the product."""
    return (
        bool(tf.config.list_physical_devices("GPU")) and not peepholes and (cell != "gru" or reset == "after")
    )


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """While a graph is traced that XLA does not compile, and whose network the library `knows`."""
    token = _ALLOWED.set(True)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def is_allowed() -> bool:
    return _ALLOWED.get()


def read(
    cell: str,
    both: bool,
    weights: Sequence[Weights],
    inputs: tf.Tensor,
    carry: tf.Tensor,
    lengths: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`Recurrent.read` without `starts`. `weights`: those of each layer and direction, forward before
    reverse, by the names of their kind (kernel, bias, recurrent, recurrent_bias)."""
    shape = inputs.shape[:2]
    if inputs.dtype.is_integer:
        inputs = tf.one_hot(inputs, weights[0]["kernel"].shape[0], dtype=carry.dtype)
    steps = tf.shape(inputs)[0]
    real = tf.range(steps)[:, None, None] < (steps if lengths is None else lengths[None, :, None])
    # A step more than there are, so that no sequence fills them all. Where all do, TensorFlow 2.21 calls
    # another form of the library; what it prepared is kept by shape alone, and a call of the other kind
    # fails. Its operations without lengths fail with cuDNN 9.19.
    inputs = tf.pad(tf.where(real, inputs, tf.zeros([], inputs.dtype)), [[0, 1], [0, 0], [0, 0]])
    states = 2 if cell == "lstm" else 1
    _, batch, units = tf.unstack(tf.shape(carry))
    h, *c = tf.unstack(tf.reshape(carry, [-1, states, batch, units]), axis=1)
    outputs, *last, _, _ = tf.raw_ops.CudnnRNNV3(
        input=inputs,
        input_h=h,
        input_c=c[0] if c else tf.zeros([], h.dtype),
        params=_parameters(cell, weights),
        # It reads one step of a sequence that has none; nothing of that is used.
        sequence_lengths=tf.fill([batch], steps) if lengths is None else tf.maximum(lengths, 1),
        rnn_mode=MODES[cell],
        direction="bidirectional" if both else "unidirectional",
        is_training=True,  # what the gradient needs is kept; nothing is dropped out
        time_major=True,
    )
    outputs = tf.where(real, outputs[:-1], tf.zeros([], outputs.dtype))
    last = tf.reshape(tf.stack(last[:states], axis=1), tf.shape(carry))
    if lengths is not None:
        last = tf.where((lengths > 0)[None, :, None], last, carry)
    outputs.set_shape([*shape, (2 if both else 1) * weights[0]["recurrent"].shape[0]])
    last.set_shape(carry.shape)
    return outputs, last


def by_document(
    read: Read, inputs: tf.Tensor, carry: tf.Tensor, starts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """What `read(inputs, carry, lengths)` gives where the state is zeroed before some steps.

    Each document's piece of a row becomes a row of its own, with a length: the first begins with that row's
    carry, the others with zeros. `starts`: booleans [steps, batch].
    """
    steps, batch = tf.unstack(tf.shape(starts))
    begun = tf.cast(tf.concat([tf.zeros_like(starts[:1]), starts[1:]], axis=0), tf.int32)
    pieces = 1 + tf.reduce_sum(begun, axis=0)
    first = tf.cumsum(pieces, exclusive=True)  # the place of each row's first piece among all pieces
    piece = first + tf.cumsum(begun, axis=0)
    count = tf.reduce_sum(pieces)
    step = tf.broadcast_to(tf.range(steps)[:, None], [steps, batch])
    begins = tf.math.unsorted_segment_min(step, piece, count)
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(step), piece, count)
    places = tf.stack([step - tf.gather(begins, piece), piece], axis=-1)
    cut = tf.scatter_nd(places, inputs, tf.concat([[steps, count], tf.shape(inputs)[2:]], axis=0))
    kept = tf.where(starts[0][None, :, None], tf.zeros([], carry.dtype), carry)
    begin = tf.transpose(
        tf.scatter_nd(first[:, None], tf.transpose(kept, [1, 0, 2]), [count, *carry.shape[::2]]), [1, 0, 2]
    )
    outputs, last = read(cut, begin, lengths)
    whole, carried = tf.gather_nd(outputs, places), tf.gather(last, piece[-1], axis=1)
    whole.set_shape([*starts.shape, outputs.shape[-1]])
    carried.set_shape(carry.shape)
    return whole, carried


def _parameters(cell: str, weights: Sequence[Weights]) -> tf.Tensor:
    """All in one vector, as the library lays them out: of every layer and direction the input's matrices and
    the recurrent ones, gate by gate, each transposed; then their biases in the same order."""
    order = GATES[cell]
    matrices, biases = [], []
    for own in weights:
        for name in ("kernel", "recurrent"):
            gates = tf.split(own[name], len(order), axis=1)
            matrices += [tf.reshape(tf.transpose(gates[place]), [-1]) for place in order]
        gates = tf.split(own["bias"], len(order))
        biases += [gates[place] for place in order]
        recurrent = [tf.zeros_like(gate) for gate in gates]
        if "recurrent_bias" in own:  # the candidate's, the last gate
            recurrent[-1] = own["recurrent_bias"]
        biases += [recurrent[place] for place in order]
    return tf.concat([*matrices, *biases], axis=0)
