"""Sentiment over HTTP: what each text says, how the reading went, and in which shapes the model is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from serving import application
from serving.models import SENTIMENT
from serving.sentiment import LANES, MOST_WORDS, PLACES, STEPS, Sentiment
from serving.settings import ServingSettings
from tests.cores import ALL_MODELS, FakeClassifier, fakes, publish_sentiment
from tests.test_application import error, served
from trainers.sentiment_model import SentimentModel

LIMITS = ServingSettings(max_texts=3, max_text_characters=20_000)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(application.build(fakes(), ALL_MODELS, LIMITS)) as address:
        yield f"{address}/v1/sentiment"


def ask(url: str, **body: Any) -> requests.Response:
    return requests.post(url, json=body, timeout=30)


def test_one_text_and_many_are_answered_in_their_order(url: str) -> None:
    answer = ask(url, input=["a good film", "bad, bad", "film"])
    assert answer.headers["X-Wordloom-Model"] == SENTIMENT
    assert answer.headers["X-Wordloom-Version"] == "d" * 64
    found = answer.json()
    assert found["synthetic"] is True
    assert [each["label"] for each in found["results"]] == ["positive", "negative", "negative"]
    assert [each["words"] for each in found["results"]] == [3, 2, 1]
    assert found["results"][0]["probabilities"]["positive"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert found["results"][0]["trajectory"] is None
    (alone,) = ask(url, input="a good film").json()["results"]
    assert alone == found["results"][0]


def test_a_trajectory_names_each_word_where_it_stands_and_ends_with_the_answer(url: str) -> None:
    text = "Ça 👍 good — but bad, good good!"
    (found,) = ask(url, input=text, trajectory=True).json()["results"]
    assert [each["text"] for each in found["trajectory"]] == ["Ça", "good", "but", "bad", "good", "good"]
    for word in found["trajectory"]:
        assert text[word["start"] : word["end"]] == word["text"]
    positive = [each["probabilities"]["positive"] for each in found["trajectory"]]
    assert positive == pytest.approx([1 / (1 + np.exp(-odds)) for odds in (0, 1, 1, 0, 1, 2)])
    assert positive[-1] == pytest.approx(found["probabilities"]["positive"])


def test_a_text_without_a_word_is_answered_too(url: str) -> None:
    (found,) = ask(url, input="— !", trajectory=True).json()["results"]
    assert (found["words"], found["cut"], found["trajectory"]) == (0, 0, [])
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_of_a_text_that_is_too_long_the_last_words_are_read(url: str) -> None:
    text = "good " * 100 + "bad " * MOST_WORDS
    (found,) = ask(url, input=text, trajectory=True).json()["results"]
    assert (found["words"], found["cut"]) == (MOST_WORDS, 100)
    assert found["trajectory"][0] == {
        "text": "bad",
        "start": 500,
        "end": 503,
        "probabilities": pytest.approx({"positive": 1 / (1 + np.e), "negative": np.e / (1 + np.e)}),
    }
    assert found["label"] == "negative"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body.input"),
        ({"input": ""}, "body.input"),
        ({"input": []}, "body.input"),
        ({"input": ["a"] * 4}, "body.input"),
        ({"input": ["a", None]}, "body.input"),
        ({"input": "x" * 20_001}, "body.input"),
        ({"input": 3}, "body.input"),
        ({"input": "a", "trajectory": "maybe"}, "body.trajectory"),
        ({"input": "a", "text": "b"}, "body.text"),
    ],
)
def test_a_wrong_field_is_422_with_its_path(url: str, body: dict[str, Any], path: str) -> None:
    answer = ask(url, **body)
    assert answer.status_code == 422
    assert error(answer)["param"].startswith(path)


def test_texts_are_read_together_in_few_shapes() -> None:
    classifier = FakeClassifier()
    sentiment = Sentiment(classifier)
    lengths = [0, 1, 64, 65, 200, 300, 1024, 1500] * 4
    texts = ["good " * length for length in lengths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(sentiment.read, (texts[part::4] for part in range(4))))
    found = [reading for part in together for reading in part]
    assert sorted(reading.words for reading in found) == sorted(min(each, MOST_WORDS) for each in lengths)
    assert all(
        reading.probabilities[1] == pytest.approx(1 / (1 + np.exp(-reading.words))) for reading in found
    )
    assert len(classifier.shapes) < len(lengths)
    assert {(steps, lanes) for _, steps, lanes in classifier.shapes} <= {
        (steps, lanes) for steps in STEPS for lanes in LANES if steps * lanes <= PLACES
    }


def test_warming_compiles_every_shape_that_requests_have() -> None:
    classifier = FakeClassifier()
    Sentiment(classifier).warm()
    shapes = [(steps, lanes) for steps in STEPS for lanes in LANES if steps * lanes <= PLACES]
    assert [shape[1:] for shape in classifier.shapes] == shapes


def test_a_published_model_is_read_as_it_reads_alone(tmp_path: Path) -> None:
    model = SentimentModel.open(publish_sentiment(tmp_path))
    sentiment = Sentiment(model)
    texts = ["A good film.", "bad", "GOOD, bad; good unknown " * 30]
    found = sentiment.read(texts, trajectory=True)
    np.testing.assert_allclose(
        np.stack([each.probabilities for each in found]), model.predict(texts), atol=1e-6
    )
    for text, reading in zip(texts, found, strict=True):
        alone = model.trajectory(text)
        assert reading.steps is not None
        assert [text[step.start : step.end].lower() for step in reading.steps] == alone.words
        np.testing.assert_allclose(
            [step.probabilities for step in reading.steps], 1 / (1 + np.exp(-alone.log_odds)), atol=1e-5
        )
    shapes = {(64, 1): 3, (64, 4): 3}
    assert model._padded.experimental_get_tracing_count() <= len(shapes) + 3  # the model's own are smaller


def test_a_replica_loads_no_training_code_no_ray_and_no_keras_model(tmp_path: Path) -> None:
    publish_sentiment(tmp_path)
    program = (
        "import sys; from serving.sentiment import Sentiment\n"
        "assert 'tensorflow' not in sys.modules\n"
        f"print(Sentiment.open({str(tmp_path)!r}).read(['good'])[0].words)\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in"
        " ('ray', 'pickle5', 'dill', 'cloudpickle', 'trainers')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answered, loaded = done.stdout.splitlines()
    assert answered == "1"
    assert set(loaded.split()) == {
        "trainers",
        "trainers.cells",
        "trainers.cudnn",
        "trainers.model_files",
        "trainers.lengths",
        "trainers.recurrent",
        "trainers.review_reader",
        "trainers.sentiment_model",
        "trainers.sentiment_settings",
        "trainers.sequence_settings",
        "trainers.sweep",
    }
