"""What an earlier version published is opened, and answers as it did then."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cluster import artefact
from cluster.artefact import Artefact
from cluster.errors import WordloomError
from ingest.corpus import Corpus
from ingest.sequence_corpus import SequenceCorpus
from ingest.vocabulary import Vocabulary
from tests.kept_artefacts import KEPT, KINDS
from trainers.vectors import WordVectors

pytestmark = pytest.mark.operate

SETS = sorted(path.name for path in KEPT.iterdir())
# The modules whose models have a format of their own, in model.json.
MODELS = {
    "language-model": "trainers.generation",
    "sentiment": "trainers.sentiment_model",
    "labelling": "trainers.labelling",
}


def corpus(folder: Path) -> None:
    kept = Corpus.open(folder)
    assert (kept.pages, kept.tokens, kept.counts["distinct_tokens"]) == (120, 10_320, 138)
    assert kept.redirects().to_pylist() == [{"title": "Tale", "target": "Story 1"}]
    shard = kept.shard_tokens(0, "all")
    first = [shard.dictionary[int(index)].as_py() for index in shard.indices[:8]]
    assert first == ["story", "1", "omar", "found", "a", "map", "in", "the"]
    texts = kept.shard_texts(0, "all")
    assert texts.titles[119] == "Story 120" and texts.texts[0].startswith("Story 1. Omar found a map in the")
    assert sum(batch["count"].to_numpy().sum() for batch in kept.token_counts()) == 10_320


def vocabulary(folder: Path) -> None:
    kept = Vocabulary.open(folder)
    assert len(kept) == 139 and kept.tokens[:5] == ["<unk>", "a", "found", "in", "the"]
    assert kept.counts[:3].tolist() == [0, 1_440, 1_440] and kept["the"] == 4 and kept["there"] == 0


def vectors(folder: Path) -> None:
    kept = WordVectors.open(folder)
    assert kept.vectors.shape == (139, 8) and kept.counts is not None and kept.counts[1] == 1_440
    near = kept.most_similar("boat", topn=3)
    assert [word for word, _ in near] == ["8", "109", "1"]
    assert [cosine for _, cosine in near] == pytest.approx([0.85728, 0.80655, 0.73124], abs=1e-4)


def language_model(folder: Path) -> None:
    from trainers.generation import CharacterModel

    score = CharacterModel.open(str(folder)).score("Anna found a boat.")
    assert score.log_probabilities[:4] == pytest.approx([-3.8927, -2.6595, -2.4876, -2.3658], abs=1e-3)


def sequences(folder: Path) -> None:
    kept = SequenceCorpus.open(folder)
    assert kept.counts["splits"] == {"train": 60, "test": 20} and kept.synthetic
    part = kept.read("test")
    assert part.ids[:2] == ["test/0", "test/1"] and part.offsets[:3].tolist() == [0, 32, 81]
    words = [part.dictionary[int(index)].as_py() for index in part.frames[:6]]
    assert words == ["nobody", "in", "the", "row", "before", "us"]


def sentiment(folder: Path) -> None:
    from trainers.sentiment_model import SentimentModel

    kept = SentimentModel.open(str(folder))
    assert kept.labels == ["negative", "positive"] and kept.synthetic and len(kept.words) == 102
    found = kept.predict(["a great film, not dull", "bad"])
    assert found[:, 1] == pytest.approx([0.52937, 0.51271], abs=1e-4)


def labelling(folder: Path) -> None:
    from trainers.labelling import LabellingModel

    kept = LabellingModel.open(str(folder))
    (found,) = kept.label([np.ones((3, 128), np.float32)])
    assert kept.labels == ["a", "b", "c", "d"] and found.labels == ["a", "a", "a"]
    assert found.probabilities[0] == pytest.approx([0.28295, 0.25222, 0.23048, 0.23435], abs=1e-4)


ANSWERS: dict[str, Callable[[Path], None]] = {
    "corpus": corpus,
    "vocabulary": vocabulary,
    "vectors": vectors,
    "language-model": language_model,
    "sequences": sequences,
    "sentiment": sentiment,
    "labelling": labelling,
}


@pytest.mark.parametrize(
    ("kept", "kind"), [(kept, path.name) for kept in SETS for path in (KEPT / kept).iterdir()]
)
def test_what_an_earlier_version_published_answers_as_it_did(kept: str, kind: str) -> None:
    Artefact.open(KEPT / kept / kind, kind).verify()
    ANSWERS[kind](KEPT / kept / kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_format_is_read_by_the_next_version(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that has raised its formats by one does not turn away what lies there."""
    monkeypatch.setattr(artefact, "FORMAT", artefact.FORMAT + 1)
    if kind in MODELS:
        module = importlib.import_module(MODELS[kind])
        monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    ANSWERS[kind](newest(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_artefact_of_a_newer_format_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    newer = shutil.copytree(newest(kind), tmp_path / kind)
    _raise_format(newer / "manifest.json", artefact.FORMAT + 1)
    with pytest.raises(WordloomError, match=r"manifest.json has format \d+, .*; use a newer wordloom\."):
        ANSWERS[kind](newer)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_a_newer_format_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    newer = shutil.copytree(newest(kind), tmp_path / kind)
    _raise_format(newer / "model.json", importlib.import_module(MODELS[kind]).FORMAT + 1)
    with pytest.raises(
        WordloomError, match=r"format \d+, this version reads up to \d+; use a newer wordloom"
    ):
        ANSWERS[kind](newer)


def test_every_kind_of_artefact_and_every_format_is_kept() -> None:
    root = Path(artefact.__file__).resolve().parent.parent
    sources = [
        path.read_text("utf-8") for part in ("ingest", "trainers") for path in (root / part).glob("*.py")
    ]
    there = {kind for source in sources for kind in re.findall(r'^KIND = "([^"]+)"', source, re.MULTILINE)}
    # The sample is a dump like another: read by `ingest`, made again wherever it is not there.
    assert there - {"sample"} == {*KINDS} == ANSWERS.keys()
    models = [importlib.import_module(module).FORMAT for module in MODELS.values()]
    assert len(SETS) >= max(artefact.FORMAT, *models), "a format was raised: keep what it makes as a set"


def newest(kind: str) -> Path:
    """The artefact of this kind in the newest set that has one."""
    return next(path for name in reversed(SETS) if (path := KEPT / name / kind).exists())


def _raise_format(path: Path, number: int) -> None:
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "format": number}), "utf-8")
