"""The reference language model three times, as its users run it: by this project, by Keras, by PyTorch.

A side does a task, so much of it, and gives the number of characters. `train`: batches of 100 windows of 50
characters of the reference preset. `generate_1` and `generate_32`: so many texts from an empty carry, at
temperature 0.7. Weights are fresh or little trained; a character costs the same whatever they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Task = Callable[[int], int]
TEMPERATURE = 0.7
VARIANTS = {"wordloom": [""], "wordloom_after": [""], "keras": ["xla", "graph"], "pytorch": [""]}


def text(length: int) -> str:
    """Letters that follow one another by a rule with some noise, so that there is something to learn."""
    random = np.random.default_rng(0)
    steps = np.where(random.random(length) < 0.2, random.integers(0, 26, length), 7)
    return "".join(map(chr, 97 + np.cumsum(steps) % 26))


def settings(reset: str) -> Any:
    from trainers.language_settings import PRESETS, LanguageModelSettings

    return dataclasses.replace(LanguageModelSettings(**PRESETS["reference"]), reset=reset)


def learner(reset: str) -> Any:
    from tests.test_language_model import Pages
    from trainers.characters import reference_alphabet
    from trainers.language_model import CharacterLanguageModel

    chosen, alphabet = settings(reset), reference_alphabet()
    pages = [text(1200) for _ in range(500)]
    return CharacterLanguageModel(Pages(pages, [], alphabet, chosen), alphabet, chosen)


def wordloom(variant: str, reset: str = "before") -> dict[str, Task]:
    """The product: blocks of a stream, cut into windows and trained on; texts generated."""
    made = learner(reset)
    chosen = made.settings
    state = [made.initial()]
    position = [0]

    def train(batches: int) -> int:
        blocks = [made.stream.block(position[0] + each) for each in range(max(1, batches // chosen.windows))]
        position[0] += len(blocks)
        state[0], sums = made.run(state[0], blocks, 10**6)
        assert math.isfinite(sums["loss_sum"])
        return int(sums["loss_weight"])

    def generate(length: int, count: int) -> int:
        texts = made._model(state[0]).generate("", length, temperature=TEMPERATURE, seed=1, count=count)
        return sum(map(len, texts))

    return {
        "train": train,
        "generate_1": lambda length: generate(length, 1),
        "generate_32": lambda length: generate(length, 32),
    }


def windows() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of windows, int32 [windows, steps - 1], as the reference cuts them."""
    made = learner("before")
    blocks = [made.windows(made.stream.block(each)) for each in range(made.stream.blocks_per_epoch)]

    def rows(name: str) -> np.ndarray:
        return np.concatenate([getattr(each, name).transpose(0, 2, 1).reshape(-1, 49) for each in blocks])

    return rows("inputs"), rows("targets")


def keras(variant: str) -> dict[str, Task]:
    """`compile`, `fit` and `predict`, one-hot characters into two layers of GRU."""
    import keras

    network, alphabet = settings("before"), 84

    def stack(steps: int | None, batch: int | None, stateful: bool) -> Any:
        layers = [
            keras.layers.GRU(
                network.units, return_sequences=True, reset_after=False, stateful=stateful, name=f"gru{n}"
            )
            for n in range(network.layers)
        ]
        given = keras.Input(batch_shape=(batch, steps), dtype="int32")
        one_hot = keras.layers.Lambda(lambda x: keras.ops.one_hot(x, alphabet + 1))(given)
        value = one_hot
        for layer in layers:
            value = layer(value)
        return keras.Model(given, keras.layers.Dense(alphabet)(value))

    model = stack(49, None, False)
    model.compile(
        keras.optimizers.Adam(network.learning_rate, clipvalue=network.clip),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=variant == "xla",
    )
    inputs, targets = windows()
    single = stack(1, 1, True)

    def train(batches: int) -> int:
        count = batches * network.batch
        chosen = np.resize(np.arange(len(inputs)), count)
        done = model.fit(inputs[chosen], targets[chosen], batch_size=network.batch, verbose=0)
        assert math.isfinite(done.history["loss"][-1])
        return count * 49

    def generate(length: int) -> int:
        random, last = np.random.default_rng(1), 0
        for _ in range(length):
            logits = single.predict(np.array([[last]], np.int32), verbose=0)[0, 0] / TEMPERATURE
            weights = np.exp(logits - logits.max())
            last = int(random.choice(alphabet, p=weights / weights.sum()))
        return length

    return {"train": train, "generate_1": generate}


def pytorch(variant: str) -> dict[str, Task]:
    """`nn.GRU` (its reset gate acts after the product) and a loop over single steps under inference mode."""
    import torch

    functional = torch.nn.functional
    network, alphabet = settings("after"), 84
    torch.manual_seed(0)
    layers = torch.nn.GRU(alphabet + 1, network.units, network.layers)
    output = torch.nn.Linear(network.units, alphabet)
    values = [*layers.parameters(), *output.parameters()]
    optimiser = torch.optim.Adam(values, lr=network.learning_rate)
    inputs, targets = (torch.tensor(each.astype(np.int64)) for each in windows())
    place = [0]

    def train(batches: int) -> int:
        for _ in range(batches):
            rows = (torch.arange(network.batch) + place[0]) % len(inputs)
            place[0] += network.batch
            x = functional.one_hot(inputs[rows].T, alphabet + 1).float()
            optimiser.zero_grad(set_to_none=True)
            logits = output(layers(x)[0]).reshape(-1, alphabet)
            loss = functional.cross_entropy(logits, targets[rows].T.reshape(-1))
            loss.backward()
            torch.nn.utils.clip_grad_value_(values, network.clip)
            optimiser.step()
        assert math.isfinite(float(loss.detach()))
        return batches * network.batch * 49

    @torch.inference_mode()
    def generate(length: int, count: int) -> int:
        last = torch.full((count,), alphabet)
        state = torch.zeros(network.layers, count, network.units)
        for _ in range(length):
            hidden, state = layers(functional.one_hot(last, alphabet + 1).float()[None], state)
            weights = torch.softmax(output(hidden[0]) / TEMPERATURE, dim=-1)
            last = torch.multinomial(weights, 1)[:, 0]
        return length * count

    return {
        "train": train,
        "generate_1": lambda length: generate(length, 1),
        "generate_32": lambda length: generate(length, 32),
    }


SIDES: dict[str, Callable[[str], dict[str, Task]]] = {
    "wordloom": wordloom,
    "wordloom_after": lambda variant: wordloom(variant, "after"),
    "keras": keras,
    "pytorch": pytorch,
}
