"""A published network that is damaged, cut or not ours is one sentence, whatever its kind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from tests.cores import publish_labelling, publish_language_model, publish_sentiment
from trainers.generation import CharacterModel
from trainers.labelling import LabellingModel
from trainers.sentiment_model import SentimentModel

KINDS: dict[str, tuple[Callable[[Path], Artefact], Callable[[str], Any]]] = {
    "language-model": (publish_language_model, CharacterModel.open),
    "sentiment": (publish_sentiment, SentimentModel.open),
    "labelling": (publish_labelling, LabellingModel.open),
    "labelling of tokens": (lambda place: publish_labelling(place, ("a", "b")), LabellingModel.open),
}


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


def other_parameters(whole: bytes) -> dict[str, bytes]:
    """Files that could stand in the place of the parameters."""
    with np.load(io.BytesIO(whole)) as stored:
        arrays = dict(stored)
    name = "output/kernel"
    changed = {
        "another shape": arrays[name][:-1],
        "another type": arrays[name].astype(np.float64),
        "objects": np.array([{}] * 3, object),
    }
    return {
        "nothing": b"",
        "noise": b"noise",
        "half": whole[: len(whole) // 2],
        "one array less": packed({each: value for each, value in arrays.items() if each != name}),
        **{what: packed(arrays | {name: value}) for what, value in changed.items()},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_parameters_are_one_sentence_with_their_place(kind: str, tmp_path: Path) -> None:
    publish, open_ = KINDS[kind]
    location = publish(tmp_path / "model").location
    path = tmp_path / "model" / "parameters.npz"
    for data in other_parameters(path.read_bytes()).values():
        path.write_bytes(data)
        with pytest.raises(WordloomError, match=r"^The model in .*/model' cannot be read .*again\.$"):
            open_(location)
    path.unlink()
    with pytest.raises(WordloomError, match="cannot be read"):
        open_(location)


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_that_is_not_ours_is_one_sentence(kind: str, tmp_path: Path) -> None:
    publish, open_ = KINDS[kind]
    location = publish(tmp_path / "model").location
    path = tmp_path / "model" / "model.json"
    described = json.loads(path.read_text())
    less = [{each: value for each, value in described.items() if each != name} for name in described]
    for other in (3, [], {}, None, "x", *(each for each in less if set(described) - set(each) != {"kind"})):
        path.write_text(json.dumps(other))
        with pytest.raises(WordloomError, match="cannot be read"):
            open_(location)
    path.write_text(json.dumps(described)[:-9])
    with pytest.raises(WordloomError, match="cannot be read"):
        open_(location)
    path.write_text(json.dumps(described | {"format": described["format"] + 1}))
    with pytest.raises(WordloomError, match=r"this version reads up to .*use a newer wordloom"):
        open_(location)
