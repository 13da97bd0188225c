"""Models small enough to reckon with, for the tests of serving."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cluster.artefact import Artefact, Draft, Input
from serving.frames import Frames
from serving.labels import Labels
from serving.models import LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS, Model
from serving.sentiment import Sentiment
from serving.text import Text
from serving.words import Words
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

    @property
    def size(self) -> int:
        return len(self.characters) + 1

    def unknown(self, text: str) -> dict[str, int]:
        return {each: text.count(each) for each in text if each not in self.characters}


@dataclass
class FakeScore:
    log_probabilities: np.ndarray


@dataclass(frozen=True)
class FakeCarry:
    seed: int
    position: int = 0

    def to_bytes(self) -> bytes:
        return f"{self.seed},{self.position}".encode()


@dataclass
class FakeLanguageModel:
    """Gives every character a quarter, and draws letters from (seed, position) alone."""

    alphabet: FakeAlphabet = field(default_factory=FakeAlphabet)
    log_probability: float = math.log(0.25)
    steps: list[int] = field(default_factory=list)
    rounds: list[tuple[int, int | None]] = field(default_factory=list)
    sampled: list[tuple[float, int, float]] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    fails_after: int | None = None

    def start(self, seed_text: str = "", *, seed: int | None = None) -> FakeCarry:
        assert seed is not None
        return FakeCarry(seed + len(seed_text))

    def step_together(
        self, carries: Sequence[FakeCarry], n: int, draws: Sequence[Any], lanes: int | None = None
    ) -> tuple[list[str], list[FakeCarry]]:
        self.steps.append(n)
        self.rounds.append((len(carries), lanes))
        self.sampled += [(draw.temperature, draw.top_k, draw.top_p) for draw in draws]
        if self.fails_after is not None and carries[0].position + n > self.fails_after:
            raise RuntimeError("secret path /somewhere")
        after = [dataclasses.replace(carry, position=carry.position + n) for carry in carries]
        return [fake_text(carry.seed, carry.position, n) for carry in carries], after

    def scores(self, texts: Sequence[str]) -> list[FakeScore]:
        self.scored.append(len(texts))
        return [FakeScore(np.full(len(text), self.log_probability, np.float32)) for text in texts]

    def following(self, text: str) -> np.ndarray:
        weights = np.arange(self.alphabet.size, 0, -1, dtype=np.float32)
        return weights / weights.sum()

    def carry(self, data: bytes) -> FakeCarry:
        seed, position = map(int, data.split(b","))
        return FakeCarry(seed, position)


def fake_text(seed: int, position: int, n: int) -> str:
    """What the fake model writes from a position on."""
    return "".join(random.Random(seed * 1_000_003 + position + i).choice('abc\n"é') for i in range(n))


@dataclass
class FakeClassifier:
    """Praise are the words `good`, blame are the words `bad`; each moves the log-odds by one."""

    labels: list[str] = field(default_factory=lambda: ["negative", "positive"])
    synthetic: bool = True
    shapes: list[tuple[int, int, int]] = field(default_factory=list)  # texts, steps, lanes

    def rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        meaning = {"good": 1, "bad": -1}
        return [
            np.array([meaning.get(word, 0) for word in re.findall(r"\w+", text)], np.int32) for text in texts
        ]

    def spans(self, text: str) -> np.ndarray:
        return np.array([each.span() for each in re.finditer(r"\w+", text)], int).reshape(-1, 2)

    def read_padded(
        self, texts: Sequence[np.ndarray], steps: int, lanes: int, unfold: Sequence[int] = ()
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        assert len(texts) <= lanes and all(len(each) <= steps for each in texts)
        self.shapes.append((len(texts), steps, lanes))
        positive = np.array([1 / (1 + math.exp(-max(int(each.sum()), -30))) for each in texts], np.float32)
        odds = [np.cumsum(texts[number]).astype(np.float32) for number in unfold]
        return np.stack([1 - positive, positive], 1), [np.stack([-each, each], 1) for each in odds]


@dataclass
class FakeLabeller:
    """Reads how much ink a frame has, or whether a token begins with a capital letter."""

    labels: list[str] = field(default_factory=lambda: ["a", "b"])
    sizes: list[int] = field(default_factory=list)

    def label(self, sequences: Sequence[Any]) -> list[Labelled]:
        self.sizes.append(len(sequences))
        found = []
        for each in sequences:
            if isinstance(each, np.ndarray):
                share = each.reshape(len(each), -1).mean(1)
            else:
                share = np.array([token[:1].isupper() for token in each], np.float32)
            probabilities = np.stack([1 - share, share], 1).astype(np.float32)
            found.append(Labelled([self.labels[best] for best in probabilities.argmax(1)], probabilities))
        return found


@dataclass
class Labelled:
    labels: list[str]
    probabilities: np.ndarray


VERSIONS = {VECTORS: "b", LANGUAGE_MODEL: "c", SENTIMENT: "d", LABELLING: "e"}
IMAGES = Frames(128, 16)


def model(kind: str, reads: Frames | None = None) -> Model:
    """A model's record, of no artefact."""
    return Model(
        kind=kind,
        version=VERSIONS[kind] * 64,
        location="/nowhere",
        made="2026-01-02T03:04:05+00:00",
        lineage=(("corpus", "1" * 64), ("dump", "2" * 64)),
        reads=reads,
    )


MODELS = {kind: model(kind) for kind in (VECTORS, LANGUAGE_MODEL)}
ALL_MODELS = {**MODELS, SENTIMENT: model(SENTIMENT), LABELLING: model(LABELLING, IMAGES)}


def fakes() -> dict[str, Any]:
    """A core of each kind that answers at once."""
    return {
        VECTORS: Words(tiny_vectors()),
        LANGUAGE_MODEL: Text(FakeLanguageModel()),
        SENTIMENT: Sentiment(FakeClassifier()),
        LABELLING: Labels(FakeLabeller(), IMAGES),
    }


def publish_sentiment(location: Path, words: Sequence[str] = ("good", "bad", "film")) -> Artefact:
    """An untrained classifier of a few units, as an artefact."""
    from trainers.recurrent import Recurrent
    from trainers.review_reader import ReviewReader
    from trainers.sentiment_model import SentimentModel

    reader = ReviewReader(Recurrent("gru", 5, 4), "last")
    random = np.random.default_rng(1)
    shapes = {**reader.network.shapes(), "vectors": (len(words) + 1, 5)}
    shapes |= {"output/kernel": (reader.width, 2), "output/bias": (2,)}
    parameters = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    tokeniser = {"tokeniser": "reference", "lower_case": True, "normalise": "NFC"}
    model = SentimentModel(
        reader, ["negative", "positive"], ["<unk>", *words], tokeniser, parameters, synthetic=True
    )
    corpus = Input("sequences", "1" * 64, "nowhere")
    draft = Draft(location, kind=SENTIMENT, output_version=1, inputs={"corpus": corpus}, settings={})
    return draft.publish({"accuracy": 0.5}, model.write(draft.folder))


def publish_labelling(location: Path, tokens: Sequence[str] = ()) -> Artefact:
    """An untrained labeller of letters (or of tokens) of a few units, as an artefact."""
    import tensorflow as tf

    from trainers.front_end import FrontEnd
    from trainers.labelling import LabellingModel
    from trainers.labelling_network import LabellingNetwork
    from trainers.recurrent import Recurrent

    front = FrontEnd(0, 0, len(tokens) + 1, 0, 3) if tokens else FrontEnd(128, 16, 0, 2, 6)
    network = LabellingNetwork(front, Recurrent("gru", front.width, 4, both=True))
    labels = ["NOUN", "VERB"] if tokens else ["a", "b", "c", "t"]
    random = np.random.default_rng(1)
    shapes = {**network.recurrent.shapes(), "output/kernel": (network.width, len(labels))}
    shapes["output/bias"] = (len(labels),)
    parameters = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    parameters |= front.initial(1)
    model = LabellingModel(
        labels, network, tokens, {name: tf.constant(value) for name, value in parameters.items()}
    )
    corpus = Input("sequences", "1" * 64, "nowhere")
    draft = Draft(location, kind=LABELLING, output_version=1, inputs={"corpus": corpus}, settings={})
    return draft.publish({"letter_error": 0.5}, model.write(draft.folder))


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


def publish_vectors(location: Path, seed: int = 1, **figures: float) -> Artefact:
    """The tiny vectors as an artefact; another seed makes another version of the same numbers. Only one with
    the `figures` of its kind is promoted over another one."""
    vectors = tiny_vectors()
    corpus = Input("corpus", "1" * 64, "nowhere")
    settings = {"seed": seed}
    draft = Draft(location, kind=VECTORS, output_version=1, inputs={"corpus": corpus}, settings=settings)
    counts = np.arange(len(WORDS), 0, -1)
    return draft.publish(figures, write_vectors(draft.folder, vectors.vectors, WORDS, counts))
