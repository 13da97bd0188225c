"""Whatever the document of the routes allows or forbids is sent to them: no answer is a defect.

Schemathesis makes the requests: those that the document allows, and those that it does not (wrong types,
wrong shapes, numbers beyond all limits, hostile Unicode, missing and unknown fields). The models are real, of
a few units; the examples are the same each time, so that a failure comes again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from serving import application, models
from serving.labels import Labels
from serving.models import LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS
from serving.sentiment import Sentiment
from serving.settings import ServingSettings
from serving.text import Text
from serving.words import Words
from tests import cores

pytestmark = pytest.mark.slow

LIMITS = ServingSettings(max_body_bytes=20_000, max_generated_characters=40, max_text_characters=2_000)
EXAMPLES = 40  # of each route: 30 s in all on an idle core
ANSWERS = (200, 307, 400, 404, 405, 409, 413, 422)
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """Over models that are not warmed: what requests do not ask is not compiled."""
    from trainers.generation import CharacterModel
    from trainers.labelling import LabellingModel
    from trainers.sentiment_model import SentimentModel

    home = tmp_path_factory.mktemp("home")
    opened = {
        VECTORS: Words.open(cores.publish_vectors(home / "vectors").location),
        LANGUAGE_MODEL: Text(CharacterModel.open(cores.publish_language_model(home / "text"))),
        SENTIMENT: Sentiment(SentimentModel.open(cores.publish_sentiment(home / "sentiment"))),
        LABELLING: Labels(LabellingModel.open(cores.publish_labelling(home / "labels")), cores.IMAGES),
    }
    return application.build(opened, models.find(str(home)), LIMITS)


@pytest.mark.parametrize("mode", GenerationMode)
def test_no_request_is_answered_by_a_defect(app: FastAPI, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses: Counter[int] = Counter()

    def sent(case: Any) -> None:
        response = case.call()  # an exception in the application is raised here
        statuses[response.status_code] += 1
        assert response.status_code in ANSWERS, response.text

    routes = [found.ok() for found in schema.get_all_operations()]
    for route in routes:
        try:
            FUZZED(given(case=route.as_strategy(generation_mode=mode))(lambda case: sent(case)))()
        except Unsatisfiable:  # a route without parameters: nothing about it can be forbidden
            assert mode is GenerationMode.NEGATIVE and not route.body and not route.query, route.label
    print(mode, dict(statuses))
    assert len(routes) > 15
    assert statuses[200 if mode is GenerationMode.POSITIVE else 422] > 100
