"""The state of a learner whose parameters are dense: these and the optimiser's slots, flat, by name.

Parameters are ``parameters/NAME``, slots ``OPTIMISER/NAME``: the names that checkpoints hold.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

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


def saved(state: State) -> dict[str, np.ndarray]:
    """The state as a checkpoint holds it."""
    return {name: value.numpy() for name, value in state.items()}
