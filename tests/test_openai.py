"""The official `openai` client, unmodified, asks our routes; states and keys over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import requests

from serving import application
from serving.keys import Keys, Secrets
from serving.models import LANGUAGE_MODEL, VECTORS
from serving.settings import ServingSettings
from serving.text import Text
from serving.words import Words
from tests.cores import MODELS, FakeLanguageModel, fake_text, tiny_vectors
from tests.test_application import served

KEY = "a-key-that-clients-show"
STATE_KEY = Secrets((b"a-key-that-signs-states",))


def build(
    version: str = "c", settings: ServingSettings | None = None, keyed: bool = True
) -> application.FastAPI:
    import dataclasses

    models = dict(MODELS)
    models[LANGUAGE_MODEL] = dataclasses.replace(models[LANGUAGE_MODEL], version=version * 64)
    cores = {VECTORS: Words(tiny_vectors()), LANGUAGE_MODEL: Text(FakeLanguageModel())}
    keys = Keys(STATE_KEY, Secrets((KEY.encode(),)) if keyed else None)
    return application.build(cores, models, settings or ServingSettings(), keys=keys)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(build()) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == [
        "vectors-bbbbbbbbbbbb",
        "language-model-cccccccccccc",
    ]
    assert client.models.retrieve("vectors-bbbbbbbbbbbb").owned_by == "wordloom"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_embeddings_are_the_mean_of_the_words(client: openai.OpenAI) -> None:
    vectors = tiny_vectors()
    wanted = np.mean([vectors["king"], vectors["queen"]], axis=0)
    made = client.embeddings.create(model="vectors", input=["King nobody queen", "nobody"])  # asks for base64
    assert made.data[0].embedding == pytest.approx(wanted.tolist(), rel=1e-6)
    assert made.data[1].embedding == [0.0] * vectors.vector_size
    assert [each.index for each in made.data] == [0, 1]
    assert made.usage.prompt_tokens == 4
    floats = client.embeddings.create(model="vectors", input="King nobody queen", encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(made.data[0].embedding, rel=1e-6)


def test_base64_is_little_endian_float32(url: str) -> None:
    body = {"model": "vectors", "input": "river", "encoding_format": "base64"}
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.post(f"{url}/v1/embeddings", json=body, headers=headers, timeout=10)
    raw = base64.b64decode(answer.json()["data"][0]["embedding"])
    assert np.frombuffer(raw, "<f4").tolist() == tiny_vectors()["river"].tolist()
    assert answer.headers["X-Wordloom-Version"] == "b" * 64


def test_completions_are_what_generate_gives(client: openai.OpenAI) -> None:
    made = client.completions.create(model="language-model", prompt="ab", max_tokens=30, seed=3, n=2)
    assert [each.text for each in made.choices] == [fake_text(5, 0, 30), fake_text(6, 0, 30)]
    assert {each.finish_reason for each in made.choices} == {"length"}
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (2, 60)
    assert client.completions.create(model="language-model", prompt=["a", "b"]).choices[1].index == 1


@pytest.mark.parametrize("more", [{}, {"max_tokens": None}])
def test_without_a_number_of_tokens_there_are_no_more_than_the_server_allows(more: dict[str, Any]) -> None:
    app = build(settings=ServingSettings(max_generated_characters=5), keyed=False)
    with served(app) as address:
        body = {"model": "language-model", "prompt": "ab", **more}
        answer = requests.post(f"{address}/v1/completions", json=body, timeout=10)
    assert answer.json()["usage"]["completion_tokens"] == 5


def test_a_completion_streams_and_stops(client: openai.OpenAI) -> None:
    whole = fake_text(5, 0, 60)
    stop = whole[20:23]
    stream = client.completions.create(
        model="language-model",
        prompt="ab",
        max_tokens=60,
        seed=3,
        stop=[stop],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == whole[: whole.index(stop)]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == len(text)


def test_what_a_model_does_not_know_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="language-model-cccccccccccc"):
        client.completions.create(model="gpt-4", prompt="ab")
    with pytest.raises(openai.UnprocessableEntityError, match=r"body\.logprobs"):
        client.completions.create(model="language-model", prompt="ab", logprobs=3)
    with pytest.raises(openai.UnprocessableEntityError, match="have 6 numbers"):
        client.embeddings.create(model="vectors", input="a", dimensions=3)


def test_without_a_key_nothing_but_the_probes_answers(url: str) -> None:
    for path in ("/v1/models", "/docs", "/openapi.json", "/v1/words/river/vector", "/nothing"):
        answer = requests.get(f"{url}{path}", timeout=10)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "no_key"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/livez", "/readyz"):
        assert requests.get(f"{url}{path}", timeout=10).status_code == 200
    wrong = openai.OpenAI(base_url=f"{url}/v1", api_key="another", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_a_state_goes_on_anywhere_until_another_version_is_served() -> None:
    body = {"seed_text": "ab", "length": 30, "seed": 3, "return_state": True}
    with served(build(keyed=False)) as first, served(build(keyed=False)) as second:
        made = requests.post(f"{first}/v1/text/generate", json=body, timeout=10).json()
        again = {"state": made["state"], "length": 20}
        answer = requests.post(f"{second}/v1/text/generate", json=again, timeout=10).json()
        assert made["text"] + answer["text"] == fake_text(5, 0, 50)
        assert answer["seed"] is None and answer["state"] is None
        both = requests.post(f"{second}/v1/text/generate", json=again | {"seed": 1}, timeout=10)
        assert both.status_code == 422
        for forged in ("", "s1.", "x", made["state"][:-4], "s1.AAAA" + made["state"][7:], "\u00e9"):
            answer = requests.post(f"{second}/v1/text/generate", json={"state": forged}, timeout=10)
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_state")
    with served(build("d", keyed=False)) as promoted:
        refused = requests.post(f"{promoted}/v1/text/generate", json=again, timeout=10)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_version")
        assert "cccccccccccc" in refused.json()["error"]["message"]
