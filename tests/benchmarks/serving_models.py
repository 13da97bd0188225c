"""The models that the benchmark of serving asks: random weights, for speed does not depend on them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from cluster.artefact import Draft

WORDS = 128  # of each text
VOCABULARY = 10_000
UNITS = 300


def publish_sentiment(location: Path) -> None:
    """The reference's classifier: vectors of 200 numbers, one GRU of 300 units, the last state."""
    from trainers.recurrent import Recurrent
    from trainers.review_reader import VECTORS, ReviewReader
    from trainers.sentiment_model import SentimentModel
    from trainers.sentiment_settings import KIND

    network = Recurrent(cell="gru", inputs=200, units=UNITS)
    generator = np.random.default_rng(1)
    shapes = {VECTORS: (VOCABULARY, 200), **network.shapes()}
    shapes |= {"output/kernel": (UNITS, 2), "output/bias": (2,)}
    parameters = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    words = ["<unk>", *(_word(number) for number in range(1, VOCABULARY))]
    tokeniser = {"tokeniser": "unicode", "lower_case": True, "normalise": "NFC"}
    model = SentimentModel(
        ReviewReader(network, "last"), ["negative", "positive"], words, tokeniser, parameters
    )
    draft = Draft(location, kind=KIND, output_version=1, inputs={}, settings={})
    draft.publish({}, model.write(draft.folder))


def publish_text(location: Path) -> None:
    """A character model with one GRU of 300 units."""
    from trainers.characters import reference_alphabet
    from trainers.generation import KIND, CharacterModel
    from trainers.recurrent import Recurrent

    alphabet = reference_alphabet()
    network = Recurrent(cell="gru", inputs=alphabet.size + 1, units=UNITS)
    generator = np.random.default_rng(1)
    shapes = CharacterModel.shapes(alphabet, network)
    parameters = {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    draft = Draft(location, kind=KIND, output_version=1, inputs={}, settings={})
    draft.publish({}, CharacterModel(alphabet, network, parameters).write(draft.folder))


def publish_vectors(location: Path, words: int = 100_000, size: int = 100) -> None:
    from trainers.vectors import KIND, write_vectors

    table = np.random.default_rng(1).standard_normal((words, size), np.float32)
    draft = Draft(location, kind=KIND, output_version=1, inputs={}, settings={})
    names = [f"w{number}" for number in range(words)]
    draft.publish({}, write_vectors(draft.folder, table, names, np.arange(words, 0, -1)))


def texts(count: int) -> list[str]:
    """Texts of `WORDS` words of the vocabulary."""
    drawn = random.Random(3)
    return [" ".join(_word(drawn.randrange(1, VOCABULARY)) for _ in range(WORDS)) for _ in range(count)]


def _word(number: int) -> str:
    """A word of letters alone, another for each number."""
    letters = ""
    while number:
        number, rest = divmod(number, 26)
        letters += chr(ord("a") + rest)
    return f"q{letters}"
