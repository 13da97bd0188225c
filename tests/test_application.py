"""The application: every route, every refusal, over a real socket."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import requests
import uvicorn
from fastapi import FastAPI

from cluster import metrics
from cluster.errors import WordloomError
from serving import application, client, gate, reference
from serving.keys import API_VARIABLE, Keys
from serving.models import LABELLING, LANGUAGE_MODEL, VECTORS
from serving.settings import ServingSettings
from serving.text import LANES, Scored, Text
from serving.words import Words
from tests.cores import ALL_MODELS, IMAGES, MODELS, FakeLanguageModel, fakes, tiny_vectors

LIMITS = ServingSettings(max_body_bytes=2_000, max_neighbours=5, max_text_characters=300)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application under uvicorn on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    up = threading.Event()
    startup = server.startup

    async def started(sockets: Any = None) -> None:
        await startup(sockets)
        up.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert up.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(application.build(fakes(), ALL_MODELS, LIMITS)) as address:
        yield address


def document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/openapi.json", timeout=10).json()
    return found


def error(answer: requests.Response) -> dict[str, Any]:
    """The error of an answer, in the one form that all have."""
    found: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(found)
    assert "Traceback" not in answer.text
    return found


# words


def test_neighbours_are_answered_and_limited(url: str) -> None:
    answer = requests.get(f"{url}/v1/words/River/neighbours", params={"n": 2}, timeout=10)
    assert answer.status_code == 200
    assert answer.json()["word"] == "river"
    assert answer.json()["neighbours"][0]["word"] == "stream"
    assert len(answer.json()["neighbours"]) == 2
    assert len(requests.get(f"{url}/v1/words/river/neighbours", timeout=10).json()["neighbours"]) == 5


def test_a_word_with_a_slash_or_an_accent_has_its_routes(url: str) -> None:
    for word in ("a%2Fb", "caf%C3%A9"):
        assert requests.get(f"{url}/v1/words/{word}/vector", timeout=10).status_code == 200


def test_a_vector_is_a_list_of_its_numbers(url: str) -> None:
    answer = requests.get(f"{url}/v1/words/king/vector", timeout=10).json()
    assert answer["vector"] == pytest.approx(tiny_vectors()["king"].tolist())


def test_similarity_and_analogy(url: str) -> None:
    alike = requests.get(
        f"{url}/v1/words/similarity", params={"first": "king", "second": "queen"}, timeout=10
    ).json()
    assert alike["similarity"] == pytest.approx(tiny_vectors().similarity("king", "queen"))
    body = {"a": "man", "b": "king", "c": "woman", "n": 1}
    answers = requests.post(f"{url}/v1/words/analogy", json=body, timeout=10).json()["answers"]
    assert [each["word"] for each in answers] == ["queen"]


def test_an_unknown_word_is_404_with_near_spellings(url: str) -> None:
    answer = requests.get(f"{url}/v1/words/rivr/neighbours", timeout=10)
    assert answer.status_code == 404
    assert error(answer)["code"] == "unknown_word"
    assert error(answer)["near"] == ["river"]


def test_a_map_holds_the_word_and_its_neighbours_in_a_plane(url: str) -> None:
    found = requests.get(f"{url}/v1/words/River/map", params={"n": 4}, timeout=10).json()
    assert [each["word"] for each in found["places"][:2]] == ["river", "stream"]
    assert len(found["places"]) == 5
    assert 0 < found["share"] <= 1
    by_word = {each["word"]: np.array([each["x"], each["y"]]) for each in found["places"]}
    assert by_word["stream"] @ by_word["river"] > 0  # alike words lie on one side of the middle
    assert requests.get(f"{url}/v1/words/rivr/map", timeout=10).status_code == 404


# text


def test_what_may_come_next_is_named_with_its_probability(url: str) -> None:
    found = requests.post(f"{url}/v1/text/next", json={"text": "ab", "n": 3}, timeout=10).json()["following"]
    assert [each["character"] for each in found] == ["a", "b", "c"]
    shares = [each["probability"] for each in found]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1


def test_the_same_seed_gives_the_same_text(url: str) -> None:
    body = {"seed_text": "ab", "length": 40, "seed": 3}
    first, second = (requests.post(f"{url}/v1/text/generate", json=body, timeout=10).json() for _ in range(2))
    assert first == second
    assert first["characters"] == len(first["text"]) == 40
    assert first["seed"] == 3


def test_a_stream_is_the_same_text_as_events(url: str) -> None:
    body = {"seed_text": "ab", "length": 40, "seed": 3}
    whole = requests.post(f"{url}/v1/text/generate", json=body, timeout=10).json()
    answer = requests.post(f"{url}/v1/text/generate", json=body | {"stream": True}, timeout=10, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    answer.encoding = "utf-8"
    events = [event.split("\n") for event in answer.text.removesuffix("\n\n").split("\n\n")]
    assert all(name.startswith("event: ") and data.startswith("data: ") for name, data in events)
    pieces = [json.loads(data[6:])["text"] for name, data in events if name == "event: text"]
    assert "".join(pieces) == whole["text"]
    assert len(pieces) > 1
    assert events[-1][0] == "event: end"
    ended = {"characters": 40, "seed": 3, "finish": "length", "state": None}
    assert json.loads(events[-1][1][6:]) == ended
    assert answer.headers["X-Wordloom-Version"] == "c" * 64


def test_a_model_that_fails_on_the_way_ends_its_stream_with_an_error() -> None:
    cores = {LANGUAGE_MODEL: Text(FakeLanguageModel(fails_after=3))}
    with served(application.build(cores, {LANGUAGE_MODEL: MODELS[LANGUAGE_MODEL]})) as address:
        body = {"length": 40, "seed": 3}
        answer = requests.post(
            f"{address}/v1/text/generate", json=body | {"stream": True}, timeout=10, stream=True
        )
        lines = []
        with pytest.raises(requests.RequestException):
            lines.extend(answer.iter_lines())
            raise requests.RequestException  # a server may also close the stream in good order
        whole = requests.post(f"{address}/v1/text/generate", json=body, timeout=10)
    assert whole.status_code == 500
    assert error(whole)["code"] == "internal"
    assert "secret" not in whole.text


class Waiting(FakeLanguageModel):
    """Makes texts only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def step_together(self, *arguments: Any) -> Any:
        assert self.may.wait(30)
        return super().step_together(*arguments)


def test_texts_in_the_making_hold_no_threads_and_choices_are_made_together() -> None:
    model = Waiting()
    core = Text(model)
    with (
        served(application.build({LANGUAGE_MODEL: core}, MODELS, ServingSettings())) as address,
        ThreadPoolExecutor(60) as pool,
    ):
        body = {"length": 40, "seed": 3}
        asked = [
            pool.submit(
                requests.post, f"{address}/v1/text/generate", json=body | {"stream": stream}, timeout=60
            )
            for stream in (False, True) * 28
        ]
        choices = {"model": "language-model", "prompt": "ab", "n": 4, "seed": 3}
        completed = pool.submit(requests.post, f"{address}/v1/completions", json=choices, timeout=60)
        try:
            until = time.monotonic() + 30
            while core._lanes.waiting < 56 + 4 - LANES[-1]:
                assert time.monotonic() < until
                time.sleep(0.01)
            # A route that runs in a thread: there are 40.
            answer = requests.post(f"{address}/v1/text/next", json={"text": "a"}, timeout=30)
            assert answer.status_code == 200
        finally:
            model.may.set()
        assert {each.result().status_code for each in asked} == {200}
        assert len(completed.result().json()["choices"]) == 4
    assert len(model.rounds) < 100  # one by one 28 + 28 * 6 + 4


def test_a_text_is_scored(url: str) -> None:
    body = {"text": "abÄ", "per_character": True}
    scores = requests.post(f"{url}/v1/text/score", json=body, timeout=10).json()
    assert scores["characters"] == 3
    assert scores["bits_per_character"] == 2
    assert scores["perplexity"] == 4
    assert scores["unknown"] == {"Ä": 1}
    assert scores["bits"] == [2, 2, 2]


# refusals


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"length": 0}, "body.length"),
        ({"length": 10_001}, "body.length"),
        ({"length": "many"}, "body.length"),
        ({"temperature": -1}, "body.temperature"),
        ({"temperature": None}, "body.temperature"),
        ({"top_p": 0}, "body.top_p"),
        ({"seed": 2**60}, "body.seed"),
        ({"seed_text": "x" * 301}, "body.seed_text"),
        ({"seed_text": ["a"]}, "body.seed_text"),
        ({"lenght": 3}, "body.lenght"),
    ],
)
def test_a_wrong_field_is_422_with_its_path(url: str, body: dict[str, Any], path: str) -> None:
    answer = requests.post(f"{url}/v1/text/generate", json=body, timeout=10)
    assert answer.status_code == 422
    assert error(answer)["param"] == path
    assert path in error(answer)["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"top_p": 1e999}',
        b'{"length": 1e2000}',
        b'{"seed_text": "\\ud800"}',
        b'{"seed": ' + b"9" * 1500 + b"}",
        b"[" * 1900,
    ],
)
def test_hostile_json_is_refused_by_every_route_and_never_500(url: str, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    paths = [path for path, methods in document(url)["paths"].items() if "post" in methods]
    assert len(paths) >= 9
    for path in paths:
        answer = requests.post(f"{url}{path}", data=raw, headers=headers, timeout=10)
        assert answer.status_code in (400, 422)
        assert error(answer)["type"] == "invalid_request_error"


def test_a_refusal_is_short_however_much_of_a_body_is_wrong(url: str) -> None:
    for body in ({f"{number:x}": 1 for number in range(200)}, {"x" * 1_500: 1}):
        answer = requests.post(f"{url}/v1/text/generate", json=body, timeout=10)
        assert answer.status_code == 422
        assert 0 < len(error(answer)["details"]) <= 100
        assert max(len(each["path"]) for each in error(answer)["details"]) < 100
        assert len(error(answer)["message"]) < 200


@pytest.mark.parametrize("wrong", ["\ud800", None, {}, [None], [[]], 1e308, -1, True, ["\udfff"], [{"a": 1}]])
def test_a_hostile_value_in_any_field_is_refused_with_its_path_or_read(url: str, wrong: Any) -> None:
    found = document(url)
    examples = [
        (target, body) for method, _, target, body in client.examples(found) if body and method == "POST"
    ]
    for target, body in examples:
        for field in body:
            # ASCII escapes: half a surrogate pair comes as `json.dumps` writes it.
            data = json.dumps(body | {field: wrong})
            answer = requests.post(
                f"{url}{target}", data=data, headers={"Content-Type": "application/json"}, timeout=10
            )
            assert answer.status_code in (200, 404, 422), (target, field, answer.text)
            if answer.status_code == 422:
                assert f"body.{field}" in f"{error(answer)['param']} {error(answer)['message']}"


@pytest.mark.parametrize("n", ["0", "6", "x", "1.5", ""])
def test_a_wrong_parameter_is_422_with_its_path(url: str, n: str) -> None:
    answer = requests.get(f"{url}/v1/words/river/neighbours", params={"n": n}, timeout=10)
    assert answer.status_code == 422
    assert error(answer)["param"] == "query.n"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_413(url: str, declared: bool) -> None:
    body = b'{"text": "' + b"a" * 5_000 + b'"}'
    data: Any = body if declared else iter([body[:1000], body[1000:]])
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{url}/v1/text/score", data=data, headers=headers, timeout=10)
    assert answer.status_code == 413
    assert error(answer)["code"] == "too_large"
    assert "2000 bytes" in error(answer)["message"]


def test_a_path_that_is_none_is_404(url: str) -> None:
    assert error(requests.get(f"{url}/v2/words", timeout=10))["code"] == "no_such_route"
    assert requests.get(f"{url}/v1/text/generate", timeout=10).status_code == 405


def test_a_kind_without_a_model_says_so_and_has_no_documentation() -> None:
    cores = {VECTORS: Words(tiny_vectors())}
    with served(application.build(cores, {VECTORS: MODELS[VECTORS]})) as address:
        answer = requests.post(f"{address}/v1/text/generate", json={}, timeout=10)
        assert answer.status_code == 404
        assert error(answer)["code"] == "no_model"
        assert "wordloom train language-model" in error(answer)["message"]
        paths = requests.get(f"{address}/openapi.json", timeout=10).json()["paths"]
        assert not [path for path in paths if path.startswith("/v1/text")]
        assert "/v1/text" not in requests.get(f"{address}/docs", timeout=10).text
        for path, command in (("sentiment", "train sentiment"), ("labels", "train labelling")):
            missing = requests.post(f"{address}/v1/{path}", json={}, timeout=10)
            assert missing.status_code == 404
            assert f"wordloom {command}" in error(missing)["message"]
        assert [each["kind"] for each in requests.get(f"{address}/v1/models", timeout=10).json()["data"]] == [
            VECTORS
        ]


def test_a_model_that_another_process_holds_is_documented_and_503_here() -> None:
    with served(application.build({VECTORS: Words(tiny_vectors())}, MODELS)) as address:
        answer = requests.post(f"{address}/v1/text/generate", json={}, timeout=10)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert "/v1/text/generate" in requests.get(f"{address}/openapi.json", timeout=10).json()["paths"]
        assert requests.get(f"{address}/livez", timeout=10).status_code == 200
        ready = requests.get(f"{address}/readyz", timeout=10)
        assert ready.status_code == 503
        assert ready.json() == {VECTORS: True, LANGUAGE_MODEL: False}


def test_no_page_of_another_origin_may_read_an_answer(url: str) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    asked = requests.options(f"{url}/v1/sentiment", headers=headers, timeout=10)
    answered = requests.get(f"{url}/v1/models", headers=headers, timeout=10)
    assert (asked.status_code, answered.status_code) == (405, 200)
    assert not [name for name in {**asked.headers, **answered.headers} if name.lower().startswith("access-c")]


# what every answer says


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/words/river/vector", VECTORS),
        ("/v1/words/rivr/vector", VECTORS),
        ("/v1/words/river/neighbours?n=0", VECTORS),
    ],
)
def test_each_answer_names_model_version_and_lineage(url: str, path: str, kind: str) -> None:
    headers = requests.get(f"{url}{path}", timeout=10).headers
    assert headers["X-Wordloom-Model"] == kind
    assert headers["X-Wordloom-Version"] == MODELS[kind].version
    assert headers["X-Wordloom-Lineage"] == f"corpus={'1' * 64}, dump={'2' * 64}"


def test_the_models_are_listed_with_their_lineage(url: str) -> None:
    listed = requests.get(f"{url}/v1/models", timeout=10).json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == [
        "vectors-bbbbbbbbbbbb",
        "language-model-cccccccccccc",
        "sentiment-dddddddddddd",
        "labelling-eeeeeeeeeeee",
    ]
    assert listed["data"][0]["created"] == 1767323045
    assert listed["data"][0]["lineage"][-1] == {"kind": "dump", "identity": "2" * 64}


def test_it_lives_and_is_ready(url: str) -> None:
    assert requests.get(f"{url}/livez", timeout=10).json() == {"status": "ok"}
    assert requests.get(f"{url}/readyz", timeout=10).json() == dict.fromkeys(ALL_MODELS, True)


def test_the_labeller_that_reads_the_other_way_is_asked_by_its_name() -> None:
    cores = fakes()
    cores[LABELLING].beside = fakes()[LABELLING]
    other = dataclasses.replace(ALL_MODELS[LABELLING], version="9" * 64, lineage=(("sequences", "8" * 64),))
    found = {LABELLING: dataclasses.replace(ALL_MODELS[LABELLING], beside=other)}
    body = {"input": [IMAGES.example()]}
    with served(application.build({LABELLING: cores[LABELLING]}, found)) as address:
        listed = [each["id"] for each in requests.get(f"{address}/v1/models", timeout=10).json()["data"]]
        assert listed == [found[LABELLING].name, other.name]
        for each in (found[LABELLING], other):
            answer = requests.post(f"{address}/v1/labels", json=body | {"model": each.name}, timeout=10)
            assert answer.json()["model"] == each.name
            assert answer.headers["X-Wordloom-Version"] == each.version
            lineage = ", ".join(f"{kind}={identity}" for kind, identity in each.lineage)
            assert answer.headers["X-Wordloom-Lineage"] == lineage
        assert requests.post(f"{address}/v1/labels", json=body, timeout=10).json()["model"] == listed[0]
        refused = requests.post(f"{address}/v1/labels", json=body | {"model": "no"}, timeout=10)
        assert (refused.status_code, error(refused)["code"]) == (404, "model_not_found")


# the documentation


def test_the_examples_of_the_documentation_run(url: str) -> None:
    answers = client.ask(url)
    assert {answer.path for answer in answers} == {
        "/v1/words/{word}/neighbours",
        "/v1/words/{word}/map",
        "/v1/words/{word}/vector",
        "/v1/words/similarity",
        "/v1/words/analogy",
        "/v1/text/generate",
        "/v1/text/score",
        "/v1/text/next",
        "/v1/sentiment",
        "/v1/labels",
        "/v1/words/embedding",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/traffic",
    }
    assert all(answer.status == 200 for answer in answers)
    assert all(0 < len(answer.line) <= client.WIDTH for answer in answers)


def test_examples_are_asked_with_a_key_where_the_server_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_VARIABLE, "a-key-for-clients, another-key-for-them")
    keys = Keys.find()
    with served(application.build(fakes(), ALL_MODELS, keys=keys)) as address:
        assert {each.status for each in client.ask(address, key=keys.own())} == {200}
        with pytest.raises(WordloomError, match="with 401"):
            client.ask(address)


def test_the_documentation_names_no_other_address_and_runs_nothing_but_its_own(url: str) -> None:
    answer = requests.get(f"{url}/docs", timeout=10)
    assert not re.findall(r"(?:https?:)?//[a-z]", answer.text)
    assert answer.headers["Content-Security-Policy"] == reference.POLICY
    for path in requests.get(f"{url}/openapi.json", timeout=10).json()["paths"]:
        assert f'data-path="{path}"' in answer.text


def test_the_page_is_safe_against_what_a_document_says() -> None:
    document = {
        "info": {"title": "<script>", "version": '"', "description": "<b>"},
        "paths": {"/<i>": {"get": {"summary": "<img>", "parameters": []}}},
    }
    page = reference.page(document)
    assert not re.findall(r"<(?:b|i|img)>", page)
    assert page.count("<script>") == 1


def test_it_works_where_a_user_mounts_it() -> None:
    outer = FastAPI()
    outer.mount("/models", application.build({VECTORS: Words(tiny_vectors())}, MODELS))
    with served(outer) as address:
        answer = requests.get(f"{address}/models/v1/words/river/vector", timeout=10)
        assert answer.status_code == 200
        assert answer.headers["X-Wordloom-Model"] == VECTORS
        assert "Wordloom" in requests.get(f"{address}/models/", timeout=10).text
        assert requests.get(f"{address}/models/web/page.js", timeout=10).status_code == 200


# the metrics


def test_the_traffic_is_counted_by_route_with_its_times() -> None:
    cores = {VECTORS: Words(tiny_vectors())}
    with served(application.build(cores, {VECTORS: MODELS[VECTORS]})) as address:
        for word in ("river", "king", "rivr"):
            requests.get(f"{address}/v1/words/{word}/vector", timeout=10)
        requests.get(f"{address}/secret", timeout=10)
        counted = requests.get(f"{address}/v1/traffic", timeout=10).json()
    by_route = {each["route"]: each for each in counted}
    assert set(by_route) == {"/v1/words/{word}/vector", "unmatched"}
    asked = by_route["/v1/words/{word}/vector"]
    assert (asked["requests"], asked["errors"]) == (3, 1)
    assert 0 < asked["median_ms"] <= asked["p95_ms"]


def test_requests_are_counted_by_route_and_never_by_what_was_asked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float, dict[str, str]]] = []

    def record(name: str, value: float = 1, labels: dict[str, str] | None = None) -> None:
        assert set(labels or {}) == set(metrics.METRICS[name].labels)
        seen.append((name, value, labels or {}))

    for kind in ("increment", "observe"):
        monkeypatch.setattr(metrics, kind, record)
    for path in ("words/river/vector", "words/rivr/vector", "words/river/neighbours?n=0", "nothing/secret"):
        requests.get(f"{url}/v1/{path}", timeout=10)
    requests.post(f"{url}/v1/text/generate", json={"length": 30}, timeout=10)

    def count(name: str, **labels: str) -> float:
        return sum(value for found, value, given in seen if found == name and given == labels)

    assert count("serve_requests", route="/v1/words/{word}/vector", status="200") == 1
    assert count("serve_requests", route="/v1/words/{word}/vector", status="404") == 1
    assert count("serve_errors", route="/v1/words/{word}/vector", kind="unknown_word") == 1
    assert count("serve_errors", route="/v1/words/{word}/neighbours", kind="invalid") == 1
    assert count("serve_errors", route="unmatched", kind="no_such_route") == 1
    assert count("serve_characters", route="/v1/text/generate") == 30
    assert len([name for name, _, _ in seen if name == "serve_latency_milliseconds"]) == 5
    assert "secret" not in repr(seen)


class Slow(Text):
    """Counts the requests that came in, and answers none before it may."""

    def __init__(self) -> None:
        super().__init__(FakeLanguageModel())
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def score(self, text: str) -> Scored:
        self.entered.release()
        assert self.go.wait(30)
        return super().score(text)


def test_what_is_too_much_is_refused_at_once_and_probes_never() -> None:
    core = Slow()
    limits = ServingSettings(concurrent=1, queue=1)
    app = application.build({LANGUAGE_MODEL: core}, {LANGUAGE_MODEL: MODELS[LANGUAGE_MODEL]}, limits)
    with served(app) as address, ThreadPoolExecutor(2) as pool:
        url = f"{address}/v1/text/score"
        inside = [pool.submit(requests.post, url, json={"text": "a"}, timeout=30) for _ in range(2)]
        assert all(core.entered.acquire(timeout=30) for _ in inside)
        refused = requests.get(f"{address}/v1/models", timeout=10)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert error(refused)["code"] == "too_busy"
        assert requests.get(f"{address}/livez", timeout=10).ok
        core.go.set()
        assert [each.result(30).status_code for each in inside] == [200, 200]
        assert requests.get(f"{address}/v1/models", timeout=10).ok


def test_the_access_log_names_routes_and_never_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="wordloom.access")
    cores = {VECTORS: Words(tiny_vectors())}
    settings = ServingSettings(access_log_share=1.0)
    with served(application.build(cores, {VECTORS: MODELS[VECTORS]}, settings)) as address:
        requests.get(f"{address}/v1/words/river/vector", timeout=10)
        requests.get(f"{address}/v1/words/secret/vector", timeout=10)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "wordloom.access"]
    assert [(line["route"], line["status"], line["error"]) for line in lines] == [
        ("/v1/words/{word}/vector", 200, None),
        ("/v1/words/{word}/vector", 404, "unknown_word"),
    ]
    assert lines[0]["version"] == "b" * 12
    assert "secret" not in caplog.text


def test_a_share_of_the_answers_is_logged_and_every_defect(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", logger="wordloom.access")
    drawn = iter([0.1, 0.9, 0.2, 0.8])
    monkeypatch.setattr(gate.random, "random", lambda: next(drawn))
    cores = {LANGUAGE_MODEL: Text(FakeLanguageModel(fails_after=0))}
    settings = ServingSettings(access_log_share=0.25)
    with served(application.build(cores, {LANGUAGE_MODEL: MODELS[LANGUAGE_MODEL]}, settings)) as address:
        for _ in range(4):
            requests.get(f"{address}/v1/models", timeout=10)
        requests.post(f"{address}/v1/text/generate", json={"length": 4}, timeout=10)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "wordloom.access"]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/models", 200),
        ("/v1/models", 200),
        ("/v1/text/generate", 500),
    ]
