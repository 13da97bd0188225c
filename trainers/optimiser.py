"""Optimisers as pure functions over named tensors, and the three ways to clip a gradient.

Functional, so that a whole chunk of steps compiles into one graph and the slots travel in checkpoints
under names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

Tensors = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015).

    In place of a step count, the slots hold how much weight each running mean has gathered (`1 - beta**t`
    for one worker). Averaged over workers together with the means, the correction stays exact.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def initial(self, parameters: Mapping[str, tf.Tensor]) -> Tensors:
        """Empty slots: ``mean/NAME`` and ``square/NAME`` for every parameter and their two weights."""
        slots = {f"mean/{name}": tf.zeros_like(value) for name, value in parameters.items()}
        slots |= {f"square/{name}": tf.zeros_like(value) for name, value in parameters.items()}
        return slots | {"mean_weight": tf.zeros([]), "square_weight": tf.zeros([])}

    def update(
        self,
        parameters: Mapping[str, tf.Tensor],
        gradients: Mapping[str, tf.Tensor],
        slots: Mapping[str, tf.Tensor],
        rate: tf.Tensor,
    ) -> tuple[Tensors, Tensors]:
        """One step: the new parameters and the new slots."""
        mean_weight = self.beta1 * slots["mean_weight"] + (1 - self.beta1)
        square_weight = self.beta2 * slots["square_weight"] + (1 - self.beta2)
        updated: Tensors = {}
        moved: Tensors = {"mean_weight": mean_weight, "square_weight": square_weight}
        for name, gradient in gradients.items():
            mean = self.beta1 * slots[f"mean/{name}"] + (1 - self.beta1) * gradient
            square = self.beta2 * slots[f"square/{name}"] + (1 - self.beta2) * gradient * gradient
            root = tf.sqrt(square / square_weight) + self.epsilon
            updated[name] = parameters[name] - rate / mean_weight * mean / root
            moved[f"mean/{name}"], moved[f"square/{name}"] = mean, square
        return updated, moved


@dataclass(frozen=True)
class RMSProp:
    """RMSProp (Tieleman and Hinton, 2012): each gradient over the root of its running mean square.

    `epsilon` stands inside the root; the mean square begins at `first`. The defaults are the optimiser as it
    was when the reference settings were written (TASKS.md, section 3).
    """

    decay: float = 0.9
    epsilon: float = 1e-10
    first: float = 1.0

    def initial(self, parameters: Mapping[str, tf.Tensor]) -> Tensors:
        """The slots of a training that begins: ``square/NAME`` for every parameter."""
        return {f"square/{name}": tf.fill(value.shape, self.first) for name, value in parameters.items()}

    def update(
        self,
        parameters: Mapping[str, tf.Tensor],
        gradients: Mapping[str, tf.Tensor],
        slots: Mapping[str, tf.Tensor],
        rate: tf.Tensor,
    ) -> tuple[Tensors, Tensors]:
        """One step: the new parameters and the new slots."""
        updated: Tensors = {}
        moved: Tensors = {}
        for name, gradient in gradients.items():
            square = self.decay * slots[f"square/{name}"] + (1 - self.decay) * gradient * gradient
            updated[name] = parameters[name] - rate * gradient * tf.math.rsqrt(square + self.epsilon)
            moved[f"square/{name}"] = square
        return updated, moved


def clipped(gradients: Mapping[str, tf.Tensor], limit: float, by: str) -> Tensors:
    """The gradients, each number cut at +-limit (``value``), each array scaled to a norm of at most `limit`
    (``norm``), or all scaled together to one (``global_norm``)."""
    if by == "value":
        return {name: tf.clip_by_value(each, -limit, limit) for name, each in gradients.items()}
    if by == "norm":
        return {name: each * _scale(each, limit) for name, each in gradients.items()}
    if by == "global_norm":
        scale = limit / tf.maximum(global_norm(gradients), limit)
        return {name: each * scale for name, each in gradients.items()}
    raise ValueError(f"gradients are clipped by value, norm or global_norm, not by {by!r}")


def global_norm(gradients: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The Euclidean norm of all gradients taken as one vector."""
    return tf.sqrt(tf.add_n([tf.reduce_sum(each * each) for each in gradients.values()]))


def _scale(gradient: tf.Tensor, limit: float) -> tf.Tensor:
    return limit / tf.maximum(tf.sqrt(tf.reduce_sum(gradient * gradient)), limit)
