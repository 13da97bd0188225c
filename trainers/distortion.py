"""Training images and words that were never written: distorted images, letters put together to other words.

What is drawn is a pure function of a key, so that a training that goes on draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Distortion:
    """How far an image is distorted, each time anew and uniformly up to: `shift` pixels either way, `shear`
    columns a row, `scale` of its size; `noise` is the share of pixels that are turned over.
    """

    shift: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    noise: float = 0.0

    @property
    def any(self) -> bool:
        return any((self.shift, self.shear, self.scale, self.noise))

    def apply(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Float [n, rows, columns] of images in 0..1 of that shape, between whose pixels is interpolated."""
        count, rows, columns = images.shape
        of_shape, of_noise = tf.unstack(tf.random.split(key))
        drawn = tf.random.stateless_uniform([5, count, 1, 1], of_shape, -1, 1)
        down = tf.range(rows, dtype=tf.float32)[:, None] - (rows - 1) / 2
        right = tf.range(columns, dtype=tf.float32)[None, :] - (columns - 1) / 2
        y = down * (1 + self.scale * drawn[0]) + self.shift * drawn[1] + 0 * right
        x = right * (1 + self.scale * drawn[2]) + self.shift * drawn[3] + self.shear * drawn[4] * down
        moved = _sampled(images, y + (rows - 1) / 2, x + (columns - 1) / 2)
        turned = tf.random.stateless_uniform(images.shape, of_noise) < self.noise
        return tf.where(turned, 1 - moved, moved)


def recombined(
    frames: tf.Tensor, labels: tf.Tensor, lengths: tf.Tensor, key: tf.Tensor, share: float, piece: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """The batch with a `share` of its sequences replaced by new ones of the same lengths: pieces of `piece`
    frames on average (geometric), each out of a sequence of the batch, with the labels that belong to them.

    frames [steps, batch, ...], labels [steps, batch], lengths [batch] (0 in the last rows, where there is
    no sequence: nothing comes out of them).
    """
    steps, batch = labels.shape
    of_pieces, of_sources, of_share = tf.unstack(tf.random.split(key, 3))
    step = tf.range(steps)[:, None]
    begins = tf.random.stateless_uniform([steps, batch], of_pieces) * piece < 1
    begins = tf.logical_or(begins, step == 0)
    began = _running_maximum(tf.where(begins, step, 0))  # where the piece of each frame begins
    real = tf.maximum(tf.reduce_sum(tf.cast(lengths > 0, tf.int32)), 1)
    drawn = tf.random.stateless_uniform([2, steps, batch], of_sources)
    drawn = _at(drawn, began)
    source = tf.cast(drawn[0] * tf.cast(real, tf.float32), tf.int32)
    source = tf.minimum(source, real - 1)
    length = tf.maximum(tf.gather(lengths, source), 1)
    first = tf.cast(drawn[1] * tf.cast(length, tf.float32), tf.int32)
    place = (first + step - began) % length  # a piece that reaches the end goes on at the beginning
    chosen = tf.random.stateless_uniform([batch], of_share) < share
    kept = tf.logical_or(tf.logical_not(chosen), step >= lengths)
    place = tf.where(kept, step, place)
    source = tf.where(kept, tf.range(batch)[None, :], source)
    places = place * batch + source
    flat = tf.reshape(frames, [steps * batch, *frames.shape[2:]])
    return tf.gather(flat, places), tf.gather(tf.reshape(labels, [-1]), places)


def _at(drawn: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Of what was drawn for each step [kinds, steps, batch], that of other steps [steps, batch]."""
    batch = drawn.shape[2]
    flat = tf.reshape(drawn, [drawn.shape[0], -1])
    return tf.gather(flat, steps * batch + tf.range(batch), axis=1)


def _running_maximum(values: tf.Tensor) -> tf.Tensor:
    """The largest value so far [steps, batch]: words are short, so every pair of steps is compared."""
    steps = values.shape[0]
    before = tf.linalg.band_part(tf.ones([steps, steps], tf.int32), -1, 0)
    return tf.reduce_max(before[:, :, None] * values[None], axis=1)


def _sampled(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The images [n, rows, columns] at places [n, rows, columns] between pixels; 0 beyond the edge."""
    count, rows, columns = images.shape
    wide = columns + 2
    padded = tf.reshape(tf.pad(images, [[0, 0], [1, 1], [1, 1]]), [count, -1])
    y = tf.clip_by_value(y + 1, 0.0, rows + 0.999)
    x = tf.clip_by_value(x + 1, 0.0, columns + 0.999)
    top, left = tf.floor(y), tf.floor(x)
    down, right = y - top, x - left
    corner = tf.reshape(tf.cast(top, tf.int32) * wide + tf.cast(left, tf.int32), [count, -1])

    def at(offset: int) -> tf.Tensor:
        return tf.reshape(tf.gather(padded, corner + offset, batch_dims=1), [count, rows, columns])

    above = (1 - right) * at(0) + right * at(1)
    below = (1 - right) * at(wide) + right * at(wide + 1)
    return (1 - down) * above + down * below
