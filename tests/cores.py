"""Models small enough to reckon with, for the tests of serving."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cluster.artefact import Artefact, Draft, Input
from serving.models import LANGUAGE_MODEL, VECTORS, Model
from trainers.vectors import WordVectors, write_vectors

WORDS = ["<unk>", "river", "stream", "king", "queen", "man", "woman", "café", "a/b", "mountain", "water"]


def tiny_vectors() -> WordVectors:
    """Eleven words in six dimensions: gender, royalty, wetness, and three that mean nothing."""
    table = np.random.default_rng(1).normal(0, 0.05, (len(WORDS), 6)).astype(np.float32)
    meaning = {"river": (0, 0, 3), "stream": (0, 0, 3), "water": (0, 0, 2), "mountain": (0, 0, 1)}
    meaning |= {"king": (1, 2, 0), "queen": (-1, 2, 0), "man": (1, 0, 0), "woman": (-1, 0, 0)}
    for word, values in meaning.items():
        table[WORDS.index(word), :3] += values
    return WordVectors(WORDS, table)


@dataclass
class FakeAlphabet:
    characters: str = "abcdefghijklmnopqrstuvwxyzT ."

    def unknown(self, text: str) -> dict[str, int]:
        return {each: text.count(each) for each in text if each not in self.characters}


@dataclass
class FakeScore:
    log_probabilities: np.ndarray


@dataclass
class FakeLanguageModel:
    """Gives every character a quarter, and draws letters from (seed, position) alone."""

    alphabet: FakeAlphabet = field(default_factory=FakeAlphabet)
    log_probability: float = math.log(0.25)
    steps: list[int] = field(default_factory=list)
    sampled: list[tuple[float, int, float]] = field(default_factory=list)
    scored: int = 0
    fails_after: int | None = None

    def start(self, seed_text: str = "", *, seed: int | None = None, count: int = 1) -> tuple[int, int]:
        assert seed is not None
        assert count == 1
        return seed + len(seed_text), 0

    def step(
        self,
        carry: tuple[int, int],
        n: int,
        *,
        temperature: float = 0.7,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> tuple[list[str], tuple[int, int]]:
        self.steps.append(n)
        self.sampled.append((temperature, top_k, top_p))
        seed, position = carry
        if self.fails_after is not None and position + n > self.fails_after:
            raise RuntimeError("secret path /somewhere")
        letters = [random.Random(seed * 1_000_003 + position + i).choice('abc\n"é') for i in range(n)]
        return ["".join(letters)], (seed, position + n)

    def score(self, text: str) -> FakeScore:
        self.scored += 1
        return FakeScore(np.full(len(text), self.log_probability, np.float32))


def model(kind: str) -> Model:
    """A model's record, of no artefact."""
    return Model(
        kind=kind,
        version=("b" if kind == VECTORS else "c") * 64,
        location="/nowhere",
        made="2026-01-02T03:04:05+00:00",
        lineage=(("corpus", "1" * 64), ("dump", "2" * 64)),
    )


MODELS = {kind: model(kind) for kind in (VECTORS, LANGUAGE_MODEL)}


def publish_language_model(location: Path) -> Artefact:
    """An untrained character model of a few units, as an artefact."""
    from trainers.characters import Alphabet
    from trainers.generation import CharacterModel
    from trainers.recurrent import Recurrent

    alphabet = Alphabet("abcdefghijklmnopqrstuvwxyzT .")
    network = Recurrent(cell="gru", inputs=alphabet.size + 1, units=8)
    random = np.random.default_rng(1)
    shapes = CharacterModel.shapes(alphabet, network)
    parameters = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    dump = Input("dump", "2" * 64, "nowhere")
    draft = Draft(location, kind=LANGUAGE_MODEL, output_version=1, inputs={"dump": dump}, settings={})
    return draft.publish({}, CharacterModel(alphabet, network, parameters).write(draft.folder))


def publish_vectors(location: Path) -> Artefact:
    """The tiny vectors as an artefact."""
    vectors = tiny_vectors()
    corpus = Input("corpus", "1" * 64, "nowhere")
    draft = Draft(location, kind=VECTORS, output_version=1, inputs={"corpus": corpus}, settings={})
    counts = np.arange(len(WORDS), 0, -1)
    return draft.publish({}, write_vectors(draft.folder, vectors.vectors, WORDS, counts))
