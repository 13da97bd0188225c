"""The state of a learner whose parameters are dense: these and the optimiser's slots, flat, by name.

Parameters are ``parameters/NAME``, slots ``OPTIMISER/NAME``: the names that checkpoints hold.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from trainers.group import Group

PARAMETERS = "parameters/"

State = dict[str, tf.Tensor]


def joined(parameters: State, slots: State, optimiser: str) -> State:
    """The state of parameters and the slots of an optimiser."""
    return {PARAMETERS + name: value for name, value in parameters.items()} | {
        f"{optimiser}/{name}": value for name, value in slots.items()
    }


def parts(state: State) -> tuple[State, State]:
    """Parameters and slots, by their own names."""
    parameters: State = {}
    slots: State = {}
    for name, value in state.items():
        (parameters if name.startswith(PARAMETERS) else slots)[name.partition("/")[2]] = value
    return parameters, slots


def averaged(state: State, group: Group, weight: float) -> State:
    """The sum of all workers' states, each times its own `weight`."""
    if group.size == 1:
        return state
    # By name: a worker that had no block has its state in another order than those that compiled steps gave.
    names = sorted(state)
    # One vector: a collective costs some milliseconds however small it is.
    flat = tf.concat([tf.reshape(state[name], [-1]) for name in names], axis=0) * weight
    (total,) = group.sum([flat])
    pieces = tf.split(total, [state[name].shape.num_elements() for name in names])
    found = dict(zip(names, pieces, strict=True))
    return {name: tf.reshape(found[name], value.shape) for name, value in state.items()}


def of_first(state: State, group: Group) -> State:
    """The state of worker 0, where all should have the same: machines that round differently do not part."""
    if group.size == 1:
        return state
    names = sorted(state)
    flat = np.concatenate([np.reshape(state[name], -1) for name in names])
    ends = np.cumsum([state[name].shape.num_elements() for name in names])
    pieces = np.split(np.asarray(group.broadcast([flat])[0]), ends[:-1])
    found = dict(zip(names, pieces, strict=True))
    return {name: tf.constant(found[name].reshape(value.shape)) for name, value in state.items()}


def saved(state: State) -> dict[str, np.ndarray]:
    """The state as a checkpoint holds it."""
    return {name: value.numpy() for name, value in state.items()}
