"""Labels over HTTP: words of letters, sentences of tokens, and what the model does not read."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from serving import application
from serving.frames import LETTERS, Frames
from serving.labels import Labels
from serving.models import LABELLING, Model
from serving.settings import ServingSettings
from tests.cores import ALL_MODELS, FakeLabeller, fakes, model, publish_labelling
from tests.test_application import error, served
from trainers.labelling import LabellingModel

LIMITS = ServingSettings(max_texts=3, max_frames=4)
DARK, LIGHT = ["11111110"] * 16, ["00000001"] * 16


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(application.build(fakes(), ALL_MODELS, LIMITS)) as address:
        yield f"{address}/v1/labels"


def ask(url: str, **body: Any) -> requests.Response:
    return requests.post(url, json=body, timeout=30)


def test_words_of_letters_are_answered_with_the_likeliest_labels(url: str) -> None:
    answer = ask(url, input=[[DARK, LIGHT], [LIGHT]], alternatives=1)
    assert answer.headers["X-Wordloom-Model"] == LABELLING
    found = answer.json()
    assert found["labels"] == 2
    assert [each["text"] for each in found["results"]] == ["ba", "a"]
    first = found["results"][0]["frames"][0]
    assert first["probability"] == pytest.approx(7 / 8)
    assert first["alternatives"] == [{"label": "b", "probability": pytest.approx(7 / 8)}]
    (word,) = ask(url, input=[[DARK]], alternatives=100).json()["results"]
    assert [each["label"] for each in word["frames"][0]["alternatives"]] == ["b", "a"]


def test_a_letter_may_be_a_png(url: str) -> None:
    packed = io.BytesIO()
    Image.fromarray(np.uint8([[255 * (bit == "0") for bit in row] for row in DARK])).save(packed, "PNG")
    (word,) = ask(url, input=[[base64.b64encode(packed.getvalue()).decode(), DARK]]).json()["results"]
    assert word["frames"][0] == word["frames"][1]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body.input"),
        ({"input": []}, "body.input"),
        ({"input": [[]]}, "body.input.0"),
        ({"input": [[DARK], [DARK, None]]}, "body.input.1.1"),
        ({"input": [[DARK]] * 4}, "body.input"),
        ({"input": [[DARK] * 5]}, "body.input.0"),
        ({"input": [[DARK, "no PNG"]]}, "body.input.0.1"),
        ({"input": [[DARK, DARK[:15]]]}, "body.input.0.1"),
        ({"input": [[[[0.5] * 8] * 15 + [[2] * 8]]]}, "body.input.0.0"),
        ({"input": [[DARK]], "alternatives": 0}, "body.alternatives"),
        ({"input": [[DARK]], "model": 7}, "body.model"),
    ],
)
def test_a_wrong_field_is_422_with_its_path(url: str, body: dict[str, Any], path: str) -> None:
    answer = ask(url, **body)
    assert answer.status_code == 422
    assert error(answer)["param"].startswith(path)


@pytest.mark.parametrize("raw", ['{"input": [[[[NaN, 0, 0, 0, 0, 0, 0, 0]]]]}', '{"input": [["\\ud800"]]}'])
def test_what_is_no_json_is_422(url: str, raw: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert requests.post(url, data=raw, headers=headers, timeout=30).status_code == 422


@pytest.mark.parametrize(
    ("reads", "right", "wrong"),
    [
        (Frames(0), ["The", "end"], [DARK]),
        (Frames(3), [[0.5, 1, 0], [0, 0, 0]], [[0.5, 1]]),
        (Frames(3), [[0.5, 1, 0]], ["The"]),
        (Frames(3), [[0.5, 1, 0]], [[1e39, 1, 0]]),
    ],
)
def test_what_the_model_was_trained_on_decides_what_is_read(reads: Frames, right: Any, wrong: Any) -> None:
    models: dict[str, Model] = {LABELLING: model(LABELLING, reads)}
    with served(application.build({LABELLING: Labels(FakeLabeller(), reads)}, models)) as address:
        url = f"{address}/v1/labels"
        assert len(ask(url, input=[right]).json()["results"][0]["frames"]) == len(right)
        refused = ask(url, input=[wrong])
        assert refused.status_code == 422
        assert error(refused)["param"].startswith("body.input.0.0")
        listed = requests.get(f"{address}/v1/models", timeout=30).json()["data"][0]
        assert listed["reads"] == {"width": reads.width, "rows": reads.rows}


def test_a_published_labeller_says_what_it_says_alone(tmp_path: Path) -> None:
    artefact = publish_labelling(tmp_path / "letters")
    assert Model.of(artefact).reads == Frames(128, 16)
    labels = Labels.open(artefact.location)
    letters = [labels.reads.decoded(frame) for frame in labels.reads.example()]
    alone = LabellingModel.open(artefact).label([np.stack(letters), np.stack(letters[:1])])
    together = labels.label([letters, letters[:1]])
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    tokens = Labels.open(publish_labelling(tmp_path / "tokens", tokens=("The", "end")).location)
    assert tokens.reads == Frames(0) and tokens.between == " "
    assert len(tokens.label([["The", "never seen", "end"]])[0].labels) == 3


def test_the_graph_is_traced_before_the_first_request(tmp_path: Path) -> None:
    labels = Labels.open(publish_labelling(tmp_path).location)
    traced = labels.model._compiled.experimental_get_tracing_count()  # type: ignore[attr-defined]
    word = [np.zeros(128, np.float32)]
    labels.label([word * length for length in (1, 2, 5, 9)])
    labels.label([word])
    assert labels.model._compiled.experimental_get_tracing_count() == traced  # type: ignore[attr-defined]


def test_the_example_spells_a_word() -> None:
    assert len(LETTERS) == 3 and all(len(letter) == 16 for letter in LETTERS)
    assert {len(row) for letter in LETTERS for row in letter} == {8}


def test_a_replica_loads_no_training_code_and_no_ray(tmp_path: Path) -> None:
    publish_labelling(tmp_path)
    program = (
        "import sys; from serving.labels import Labels\n"
        "assert 'tensorflow' not in sys.modules\n"
        f"print(len(Labels.open({str(tmp_path)!r}).model.labels))\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('ray', 'trainers')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answered, loaded = done.stdout.splitlines()
    assert answered == "4"
    assert set(loaded.split()) == {
        "trainers",
        "trainers.cells",
        "trainers.cudnn",
        "trainers.front_end",
        "trainers.labelling",
        "trainers.labelling_network",
        "trainers.labelling_settings",
        "trainers.model_files",
        "trainers.lengths",
        "trainers.recurrent",
        "trainers.sequence_settings",
        "trainers.sweep",
    }
