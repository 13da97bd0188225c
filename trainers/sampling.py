"""How a character is drawn from the model's logits: temperature, top-k, top-p, and the random numbers.

Each sequence has its own stream of random numbers, a pure function of (seed, sequence, position).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cluster.errors import UsageError


@dataclass(frozen=True)
class Draw:
    """How the next character is drawn; see `trainers.generation.CharacterModel.step`."""

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raises UsageError for what no character could be drawn with."""
    if not 0 <= temperature < math.inf:
        raise UsageError(f"The temperature is {temperature}; give 0 (the most likely character) or more.")
    if top_k < 0:
        raise UsageError(f"top_k is {top_k}; give 0 (all characters) or more.")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; give a share above 0 and up to 1 (all characters).")


def drawn(
    logits: tf.Tensor, uniform: tf.Tensor, temperature: tf.Tensor, kept: tuple[tf.Tensor, tf.Tensor] | None
) -> tf.Tensor:
    """An index for each row of logits [rows, n]: where the cumulated probabilities pass `uniform`.

    `temperature` and what is `kept` (top_k, top_p) have one value a row.
    """
    indices = None
    n = logits.shape[-1]
    if kept is not None:
        logits, indices = tf.math.top_k(logits, n)  # sorted, the first of equals first
    # The floor keeps 0 / temperature a number where denormals are flushed; at it, all but the best are 0.
    scaled = (logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / tf.maximum(temperature, 1e-20)[
        :, None
    ]
    weights = tf.exp(scaled)
    # One product with a triangle is the running sum, without a loop inside the loop.
    triangle = tf.linalg.band_part(tf.ones([n, n]), 0, -1)
    if kept is not None:
        top_k, top_p = kept
        weights = tf.where(tf.range(n) < top_k[:, None], weights, 0.0)
        sums = weights @ triangle
        weights = tf.where(sums - weights < top_p[:, None] * sums[:, -1:], weights, 0.0)
    sums = weights @ triangle
    hit = tf.logical_and(sums >= uniform[:, None] * sums[:, -1:], weights > 0)
    first = tf.argmax(tf.cast(hit, tf.int32), axis=-1, output_type=tf.int32)
    # Rounding could leave no hit; the likeliest is then as good as any.
    best = tf.argmax(weights, axis=-1, output_type=tf.int32)
    chosen = tf.where(tf.reduce_any(hit, axis=-1), first, best)
    return chosen if indices is None else tf.gather(indices, chosen, batch_dims=1)


def uniform(
    seeds: np.ndarray, rows: np.ndarray, positions: np.ndarray, count: int
) -> npt.NDArray[np.float32]:
    """Random numbers in (0, 1), [count, rows], of so many positions from `positions` on: a pure function of
    seed, row and position (SplitMix64), each uint64 [rows]."""
    with np.errstate(over="ignore"):
        keys = _mixed(seeds + _mixed(rows + np.uint64(1)))
        steps = positions + np.arange(count, dtype=np.uint64)[:, None]
        mixed = _mixed(keys[None, :] + (steps + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    # 23 bits and a half: never 0, never 1, exact in float32.
    return ((mixed >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)


def _mixed(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
