"""One training step of a recurrent network three times: by this project, by Keras' layers, by PyTorch's.

Each side does the whole step (loss, gradients, clipping, optimiser) from the same weights on the same batch,
in the form of the GRU that all three share (the reset gate after the product). A side is made for a shape and
a variant of itself; calling it does one step and gives the loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from trainers.recurrent import Recurrent

Step = Callable[[], float]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """What is trained; `shortest` is the shortest sequence of the batch, the longest has all `steps`."""

    inputs: int
    units: int
    layers: int
    both: bool
    batch: int
    steps: int
    shortest: int
    classes: int
    optimiser: str
    symbols: bool = False  # inputs are indices, else vectors
    last_only: bool = False  # the softmax reads the last real step, else every step

    @property
    def full(self) -> bool:
        return self.shortest == self.steps

    def arrays(self) -> Arrays:
        """The batch, time-major: x, labels, lengths and the weight of every label."""
        random = np.random.default_rng(0)
        lengths = random.integers(self.shortest, self.steps + 1, self.batch).astype(np.int32)
        lengths[0] = self.steps
        frames = (self.steps, self.batch)
        if self.symbols:
            x = random.integers(0, self.inputs, frames).astype(np.int32)
        else:
            x = random.normal(0, 0.5, (*frames, self.inputs)).astype(np.float32)
        labels = random.integers(0, self.classes, (self.batch,) if self.last_only else frames)
        real = (np.arange(self.steps)[:, None] < lengths).astype(np.float32)
        if self.last_only:
            weights = np.full(self.batch, 1 / self.batch, np.float32)
        else:  # each sequence is averaged over its own length
            weights = (real / lengths / self.batch).astype(np.float32)
        return {"x": x, "labels": labels.astype(np.int32), "lengths": lengths, "weights": weights}

    def parameters(self) -> Arrays:
        from trainers.recurrent import Recurrent

        network = Recurrent("gru", self.inputs, self.units, self.layers, self.both)
        arrays = network.initial(0)
        limit = np.sqrt(6 / (network.outputs + self.classes))
        kernel = np.random.default_rng(1).uniform(-limit, limit, (network.outputs, self.classes))
        return arrays | {
            "output/kernel": kernel.astype(np.float32),
            "output/bias": np.zeros(self.classes, np.float32),
        }

    def prefixes(self) -> list[list[str]]:
        ways = ("forward", "reverse") if self.both else ("forward",)
        return [[f"layer{layer}/{way}/" for way in ways] for layer in range(self.layers)]


SHAPES = {
    "characters": Shape(84, 200, 2, False, 100, 50, 50, 84, "adam", symbols=True),
    "reviews": Shape(200, 300, 1, False, 20, 400, 360, 2, "rmsprop", last_only=True),
    "letters_10": Shape(128, 300, 1, True, 10, 14, 3, 26, "rmsprop"),
    "letters_64": Shape(128, 300, 1, True, 64, 14, 3, 26, "rmsprop"),
}
RATE, CLIP = 0.002, 5.0


def variants(side: str, shape: Shape) -> list[str]:
    """The ways in which a side can be run; the fastest is measured."""
    if side == "wordloom":
        return ["xla", "graph"]
    if side == "loops":
        return ["xla"]
    if side == "pytorch":
        return ["padded"] if shape.full else ["padded", "packed"]
    ways = [""]
    if shape.both:  # with a mask, or each sequence reversed by hand and then none is needed
        ways.append(" masked")
    if shape.steps <= 16:  # a longer loop takes minutes to compile when unrolled
        ways.append(" unrolled")
    return [f"{compiler}{way}" for compiler in ("xla", "graph") for way in ways]


def wordloom(shape: Shape, variant: str) -> Step:
    from trainers.recurrent import Recurrent

    return our_step(shape, variant, Recurrent)


def loops(shape: Shape, variant: str) -> Step:
    from trainers.recurrent import Recurrent

    class Loops(Recurrent):
        in_library = False

    return our_step(shape, variant, Loops)


def our_step(shape: Shape, variant: str, kind: type[Recurrent]) -> Step:
    import tensorflow as tf

    from trainers.microbatches import Microbatches, added
    from trainers.optimiser import Adam, RMSProp, clipped

    network = kind("gru", shape.inputs, shape.units, shape.layers, shape.both)
    batch = {name: tf.constant(value) for name, value in shape.arrays().items()}
    parameters = {name: tf.constant(value) for name, value in shape.parameters().items()}
    optimiser: Any = Adam() if shape.optimiser == "adam" else RMSProp()
    state = [parameters, optimiser.initial(parameters)]

    micro = Microbatches(shape.batch, network, variant == "xla")

    def gradients(parameters: Any, x: Any, labels: Any, lengths: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            outputs, last = network.read(parameters, x, lengths=None if shape.full else lengths)
            read = last[-1] if shape.last_only else tf.reshape(outputs, [-1, network.outputs])
            logits = read @ parameters["output/kernel"] + parameters["output/bias"]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(labels, [-1]), logits)
            loss = tf.reduce_sum(losses * tf.reshape(weights, [-1]))
        return loss, tape.gradient(loss, parameters)

    def update(parameters: Any, slots: Any, of_parts: Any) -> Any:
        gradients = clipped(added(of_parts), CLIP, "value")
        return optimiser.update(parameters, gradients, slots, tf.constant(RATE))

    of_part, updated = micro.part(gradients), micro.part(update)
    axis = 0 if shape.last_only else 1  # of labels and weights

    def step(parameters: Any, slots: Any, x: Any, labels: Any, lengths: Any, weights: Any) -> Any:
        parts = micro.cut((x, labels, lengths, weights), (1, axis, 0, axis))
        losses, found = zip(*(of_part(parameters, *part) for part in parts), strict=True)
        return added(losses), *updated(parameters, slots, list(found))

    compiled = micro.step(step)

    def run() -> float:  # by position, as the learners call it: by name TensorFlow takes .5 ms more
        loss, state[0], state[1] = compiled(*state, *batch.values())
        return float(loss)

    return run


def keras(shape: Shape, variant: str) -> Step:
    import keras
    import tensorflow as tf

    given, arrays = shape.arrays(), shape.parameters()
    masked = "masked" in variant

    def bias(prefix: str) -> np.ndarray:
        recurrent = np.zeros_like(arrays[f"{prefix}bias"])
        recurrent[2 * shape.units :] = arrays[f"{prefix}recurrent_bias"]
        return np.stack([arrays[f"{prefix}bias"], recurrent])

    layers = []
    width = shape.inputs
    for prefixes in shape.prefixes():
        layer = [
            keras.layers.GRU(shape.units, return_sequences=True, unroll="unrolled" in variant)
            for _ in prefixes
        ]
        if masked:
            layer = [keras.layers.Bidirectional(layer[0])]
        for each in layer:
            each.build((shape.batch, shape.steps, width))
        weights = [[arrays[f"{p}kernel"], arrays[f"{p}recurrent"], bias(p)] for p in prefixes]
        if masked:
            weights = [list(itertools.chain(*weights))]
        for each, values in zip(layer, weights, strict=True):
            each.set_weights(values)
        layers.append(layer)
        width = shape.units * len(prefixes)
    output = keras.layers.Dense(shape.classes)
    output.build((None, width))
    output.set_weights([arrays["output/kernel"], arrays["output/bias"]])
    variables = [v for layer in (*itertools.chain(*layers), output) for v in layer.trainable_variables]
    if shape.optimiser == "adam":
        optimiser = keras.optimizers.Adam(RATE, clipvalue=CLIP)
    else:
        optimiser = keras.optimizers.RMSprop(RATE, rho=0.9, clipvalue=CLIP)
    optimiser.build(variables)
    x = given["x"].swapaxes(0, 1)
    real = np.arange(shape.steps)[None] < given["lengths"][:, None]
    labels, weights = given["labels"].T, given["weights"].T
    batch = [tf.constant(each) for each in (np.ascontiguousarray(x), labels, given["lengths"], weights)]

    def step(x: Any, labels: Any, lengths: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.one_hot(x, shape.inputs) if shape.symbols else x
            for layer in layers:  # one way needs no mask: the padding comes last
                if masked:
                    value = layer[0](value, mask=tf.constant(real))
                else:
                    found = [layer[0](value)]
                    for reverse in layer[1:]:
                        turned = reverse(tf.reverse_sequence(value, lengths, seq_axis=1))
                        found.append(tf.reverse_sequence(turned, lengths, seq_axis=1))
                    value = tf.concat(found, axis=-1)
            if shape.last_only:
                value = tf.gather(value, lengths - 1, batch_dims=1)
            logits = output(value)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_sum(losses * weights)
        optimiser.apply(tape.gradient(loss, variables), variables)
        return loss

    graph = tf.function(step, autograph=False, jit_compile=variant.startswith("xla"))
    compiled = graph.get_concrete_function(*batch)  # as ours is called: 2 to 6 % for the letters
    return lambda: float(compiled(*batch))


def pytorch(shape: Shape, variant: str) -> Step:
    import torch

    functional, rnn = torch.nn.functional, torch.nn.utils.rnn
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")  # TensorFloat-32 on a GPU, as TensorFlow
    given, arrays = shape.arrays(), shape.parameters()
    reverse = shape.both and variant == "padded"  # reversed by hand, within each length

    def order(value: np.ndarray) -> np.ndarray:  # its gates stand in the order r, z, n
        z, r, n = np.split(value, 3, axis=-1)
        return np.concatenate([r, z, n], axis=-1)

    def filled(prefixes: list[str], width: int) -> Any:
        layer = torch.nn.GRU(width, shape.units, bidirectional=len(prefixes) == 2)
        with torch.no_grad():
            for prefix, end in zip(prefixes, ("", "_reverse"), strict=False):
                recurrent = np.zeros_like(arrays[f"{prefix}bias"])
                recurrent[2 * shape.units :] = arrays[f"{prefix}recurrent_bias"]
                values = {
                    "weight_ih_l0": order(arrays[f"{prefix}kernel"]).T,
                    "weight_hh_l0": order(arrays[f"{prefix}recurrent"]).T,
                    "bias_ih_l0": order(arrays[f"{prefix}bias"]),
                    "bias_hh_l0": order(recurrent),
                }
                for name, value in values.items():
                    getattr(layer, name + end).copy_(torch.tensor(np.ascontiguousarray(value)))
        return layer

    def gru() -> list[Any]:
        found, width = [], shape.inputs
        for prefixes in shape.prefixes():
            found.append(
                torch.nn.ModuleList(filled([p], width) for p in prefixes)
                if reverse
                else filled(prefixes, width)
            )
            width = shape.units * len(prefixes)
        return found

    layers = gru()
    if shape.layers > 1:  # one call for the whole stack, as its users write it
        whole = torch.nn.GRU(shape.inputs, shape.units, shape.layers)
        with torch.no_grad():
            for number, layer in enumerate(layers):
                for name, value in layer.named_parameters():
                    getattr(whole, name.replace("l0", f"l{number}")).copy_(value)
        layers = [whole]
    output = torch.nn.Linear(shape.units * (2 if shape.both else 1), shape.classes)
    with torch.no_grad():
        output.weight.copy_(torch.tensor(arrays["output/kernel"].T))
        output.bias.copy_(torch.tensor(arrays["output/bias"]))
    values = [v for module in (*layers, output) for v in module.parameters()]
    if shape.optimiser == "adam":
        optimiser: Any = torch.optim.Adam(values, lr=RATE)
    else:
        optimiser = torch.optim.RMSprop(values, lr=RATE, alpha=0.9)
    x, lengths = torch.tensor(given["x"]), torch.tensor(given["lengths"].astype(np.int64))
    packed = lengths.cpu()
    labels, weights = torch.tensor(given["labels"].astype(np.int64)), torch.tensor(given["weights"])
    steps = torch.arange(shape.steps)[:, None]
    turned = torch.where(steps < lengths, lengths - 1 - steps, steps)  # where each reversed step comes from
    columns = torch.arange(shape.batch)

    def read(value: Any) -> Any:
        if variant == "packed":
            value = rnn.pack_padded_sequence(value, packed, enforce_sorted=False)
            return rnn.pad_packed_sequence(layers[0](value)[0])[0]
        for layer in layers:
            if reverse:
                forward = layer[0](value)[0]
                backward = layer[1](value[turned, columns])[0][turned, columns]
                value = torch.cat([forward, backward], dim=-1)
            else:
                value = layer(value)[0]
        return value

    def run() -> float:
        optimiser.zero_grad(set_to_none=True)
        value = functional.one_hot(x.long(), shape.inputs).float() if shape.symbols else x
        value = read(value)
        if shape.last_only:
            value = value[lengths - 1, columns]
        logits = output(value).reshape(-1, shape.classes)
        losses = functional.cross_entropy(logits, labels.reshape(-1), reduction="none")
        loss = (losses * weights.reshape(-1)).sum()
        loss.backward()
        torch.nn.utils.clip_grad_value_(values, CLIP)
        optimiser.step()
        return float(loss)

    return run


SIDES = {"wordloom": wordloom, "loops": loops, "keras": keras, "pytorch": pytorch}
