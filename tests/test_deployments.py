"""Deployments: real Ray Serve over tiny models, one replica a kind, every route through the proxy."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import openai
import pytest
import ray
import requests
from prometheus_client.parser import text_string_to_metric_families
from ray import serve
from ray.serve.config import ProxyLocation
from ray.util.state import list_actors

from cluster import metrics
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.session import Session
from serving import client, deployments, models, notes
from serving.deployments import Served
from serving.settings import ServingSettings, free_port
from tests.cores import publish_labelling, publish_language_model, publish_sentiment, publish_vectors

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

OLD_KEY, NEW_KEY = "a-key-that-signed-first", "a-key-that-signs-now"
API_KEY = "a-key-that-a-client-shows"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one model of each kind."""
    home = tmp_path_factory.mktemp("home")
    publish_vectors(home / "vectors" / "a")
    publish_language_model(home / "language-model" / "b")
    publish_sentiment(home / "sentiment" / "c")
    publish_labelling(home / "labelling" / "d")
    return home


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "states"
    path.write_text(f"{OLD_KEY}\n")
    return path


@pytest.fixture(scope="module")
def served(ray_cluster: object, home: Path, key_file: Path) -> Iterator[Served]:
    settings = ServingSettings(
        port=0, max_body_bytes=5_000, access_log_share=1.0, state_keys_file=str(key_file)
    )
    made = deployments.start(str(home), settings)
    yield made
    deployments.stop()


def test_every_example_is_answered_by_the_kind_it_asks(served: Served) -> None:
    answers = {answer.path: answer for answer in client.ask(served.url)}
    assert {answer.status for answer in answers.values()} == {200}
    assert "/v1/words/{word}/neighbours" in answers
    assert len(answers["/v1/text/generate"].body["text"]) == 200
    assert len(answers["/v1/sentiment"].body["results"][0]["trajectory"]) == 13
    assert len(answers["/v1/labels"].body["results"][0]["frames"]) == 3
    for path, kind in (("/v1/words/king/vector", "vectors"), ("/v1/words/nobody/vector", "vectors")):
        headers = requests.get(f"{served.url}{path}", timeout=30).headers
        assert headers["X-Wordloom-Version"] == served.models[kind].version
    bodies = {
        "language-model": ("/v1/text/score", {"text": "a"}),
        "sentiment": ("/v1/sentiment", {"input": "a"}),
        "labelling": ("/v1/labels", {"input": []}),
    }
    for kind, (path, body) in bodies.items():
        headers = requests.post(f"{served.url}{path}", json=body, timeout=30).headers
        assert headers["X-Wordloom-Version"] == served.models[kind].version
    assert requests.get(served.docs, timeout=30).ok


def test_a_text_streams_through_the_proxy(served: Served) -> None:
    body = {"seed_text": "a", "length": 70, "seed": 5, "stream": True}
    with requests.post(f"{served.url}/v1/text/generate", json=body, timeout=60, stream=True) as answer:
        answer.encoding = "utf-8"
        lines = [line for line in answer.iter_lines(decode_unicode=True) if line]
    pieces = [json.loads(line[6:])["text"] for line in lines if line.startswith('data: {"text"')]
    whole = requests.post(f"{served.url}/v1/text/generate", json=body | {"stream": False}, timeout=60)
    assert "".join(pieces) == whole.json()["text"]
    assert len(pieces) > 2


def test_the_openai_client_asks_through_the_proxy(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        made = client.completions.create(model="language-model", prompt="a", max_tokens=40, seed=5)
        stream = client.completions.create(
            model="language-model", prompt="a", max_tokens=40, seed=5, stream=True
        )
        pieces = [choice.text for chunk in stream for choice in chunk.choices]
        embedded = client.embeddings.create(model="vectors", input="king")
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="gpt-4", prompt="a")
    own = {"seed_text": "a", "length": 40, "seed": 5, "temperature": 1.0}
    generated = requests.post(f"{served.url}/v1/text/generate", json=own, timeout=60).json()["text"]
    assert made.choices[0].text == "".join(pieces) == generated
    assert len(pieces) > 2
    vector = requests.get(f"{served.url}/v1/words/king/vector", timeout=30).json()["vector"]
    assert embedded.data[0].embedding == pytest.approx(vector)


def test_it_is_ready_when_every_kind_answers(served: Served) -> None:
    ready = requests.get(f"{served.url}/readyz", timeout=30)
    assert ready.json() == dict.fromkeys(["vectors", "language-model", "sentiment", "labelling"], True)
    assert requests.get(f"{served.url}/livez", timeout=30).ok


def test_a_key_that_signs_states_rotates_while_replicas_serve(served: Served, key_file: Path) -> None:
    def went_on(state: str) -> int:
        body = {"state": state, "length": 5}
        return requests.post(f"{served.url}/v1/text/generate", json=body, timeout=60).status_code

    def state() -> str:
        body = {"length": 5, "seed": 1, "return_state": True}
        answer = requests.post(f"{served.url}/v1/text/generate", json=body, timeout=60).json()
        return str(answer["state"])

    old = state()
    key_file.write_text(f"{NEW_KEY}\n{OLD_KEY}\n")
    new = state()
    assert (went_on(old), went_on(new)) == (200, 200)
    key_file.write_text(f"{NEW_KEY}\n")
    assert (went_on(old), went_on(new)) == (422, 200)


def test_a_request_that_takes_too_long_is_ended_without_a_stack_trace(served: Served) -> None:
    # By the header that Serve reads; what it is without it is the setting `timeout_seconds`.
    body, short = {"length": 10_000, "seed": 1}, {"X-Request-Timeout-Seconds": "0.001"}
    answer = requests.post(f"{served.url}/v1/text/generate", json=body, headers=short, timeout=60)
    assert answer.status_code == 408
    assert "Traceback" not in answer.text


def test_refusals_come_through_the_proxy(served: Served) -> None:
    too_large = requests.post(f"{served.url}/v1/text/score", json={"text": "a" * 6_000}, timeout=30)
    assert too_large.status_code == 413
    invalid = requests.post(f"{served.url}/v1/text/generate", json={"length": 0}, timeout=30)
    assert invalid.status_code == 422
    assert invalid.json()["error"]["param"] == "body.length"


def test_the_replica_of_the_vectors_holds_no_tensorflow(served: Served) -> None:
    address = ray.get_runtime_context().gcs_address  # not whichever cluster was started last on this machine
    maps = {
        actor.name: Path(f"/proc/{actor.pid}/maps").read_text()
        for actor in list_actors(address=address, filters=[("state", "=", "ALIVE")])
        if actor.name and actor.name.startswith("SERVE_REPLICA")
    }
    assert len(maps) == 4
    for name, loaded in maps.items():
        assert ("tensorflow" in loaded) == ("vectors" not in name)


def test_where_cores_are_short_serve_s_proxy_goes_before_the_models(served: Served) -> None:
    address = ray.get_runtime_context().gcs_address
    niceness: dict[str, set[int]] = {"SERVE_REPLICA": set(), "SERVE_PROXY": set()}
    for actor in list_actors(address=address, filters=[("state", "=", "ALIVE")]):
        if actor.name and (kind := next((each for each in niceness if actor.name.startswith(each)), None)):
            fields = Path(f"/proc/{actor.pid}/task").glob("*/stat")
            niceness[kind].update(int(each.read_text().rpartition(")")[2].split()[16]) for each in fields)
    assert max(niceness["SERVE_REPLICA"]) > max(niceness["SERVE_PROXY"])


def test_it_listens_on_loopback_alone(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_second_start_is_refused(served: Served, home: Path) -> None:
    with pytest.raises(WordloomError, match="already runs"):
        deployments.start(str(home), ServingSettings(port=0))


def test_ctrl_c_while_it_comes_up_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    stopped: list[bool] = []
    monkeypatch.setattr(deployments, "_refuse_another_serve", lambda: None)
    monkeypatch.setattr(deployments.serve, "start", lambda **named: None)
    monkeypatch.setattr(deployments.serve, "run_many", interrupted)
    monkeypatch.setattr(deployments, "stop", lambda: stopped.append(True))
    with pytest.raises(KeyboardInterrupt):
        deployments.start(str(home), ServingSettings(port=0))
    assert stopped == [True]


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(WordloomError, match=rf"127\.0\.0\.1:{port} .*choose another --port"):
            free_port("127.0.0.1", port)


def scraped(addresses: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Our own metrics (of a histogram, its count), summed over all processes but this one, where other
    modules' tests have asked applications: name and labels -> value."""
    labels = {metrics.exported_name(name): each.labels for name, each in metrics.METRICS.items()}
    this = ray.get_runtime_context().get_worker_id()
    found: Counter[tuple[str, ...]] = Counter()
    for address in addresses:
        for family in text_string_to_metric_families(requests.get(address, timeout=30).text):
            for sample in family.samples:
                name = sample.name.removesuffix("_count")
                if name in labels and sample.labels["WorkerId"] != this:
                    found[(name, *(sample.labels[label] for label in labels[name]))] += sample.value
    return dict(found)


def test_a_damaged_file_that_can_still_be_read_is_not_served(tmp_path: Path) -> None:
    model = models.Model.of(publish_vectors(tmp_path))
    assert deployments.opened(model).vector("king").any()
    path = tmp_path / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WordloomError, match=r"vectors\.npy is damaged"):
        deployments.opened(model)


@pytest.mark.slow
def test_known_traffic_shows_in_the_scrape(served: Served, ray_cluster: Session) -> None:
    # As an application in this process would have counted; it is not to be seen below.
    asked = {"route": "/v1/words/{word}/neighbours", "status": "404"}
    metrics.increment("serve_requests", 5, asked)
    before = scraped(ray_cluster.metrics)
    # Routes and statuses that no other test of this module brings together: reports lag behind requests.
    neighbours, similarity = "/v1/words/{word}/neighbours", "/v1/words/similarity"
    for _ in range(3):
        requests.get(f"{served.url}/v1/words/nobody/neighbours", timeout=30)
    for _ in range(2):
        requests.get(f"{served.url}{similarity}", timeout=30)
    answers = client.ask(served.url)
    requests.post(f"{served.url}/v1/sentiment", json={"input": ["good", "bad"]}, timeout=30)
    requests.post(f"{served.url}/v1/labels", json={"input": 3}, timeout=30)

    def key(name: str, *labels: str) -> tuple[str, ...]:
        return (metrics.exported_name(name), *labels)

    calls = ("neighbours", "generate", "score", "sentiment", "labels")
    exact = {
        key("serve_requests", neighbours, "404"): 3,
        key("serve_errors", neighbours, "unknown_word"): 3,
        key("serve_requests", similarity, "422"): 2,
        key("serve_errors", similarity, "invalid"): 2,
        **{key("serve_model", kind, model.version): 1 for kind, model in served.models.items()},
        **{key("serve_queue_length", call): 0 for call in calls},  # nobody waits any more
    }
    more = {
        key("serve_characters", "/v1/text/generate"): 200,
        key("serve_characters", "/v1/completions"): 64,
        key("serve_requests", "/v1/sentiment", "200"): 2,
        key("serve_latency_milliseconds", neighbours): 3,
        key("serve_latency_milliseconds", "/v1/labels"): 2,
        key("serve_errors", "/v1/labels", "invalid"): 1,
        **{key("serve_batch_size", call): 1 for call in calls},
    }
    for answer in answers:
        more.setdefault(key("serve_requests", answer.path, "200"), 1)
    of_serving = {metrics.exported_name(name) for name in metrics.METRICS if name.startswith("serve_")}
    assert {name for name, *_ in [*exact, *more]} == of_serving

    deadline = time.monotonic() + 120  # replicas report every ten seconds, on a busy machine later
    while True:
        found = scraped(ray_cluster.metrics)
        missing = {
            each: (value, found.get(each)) for each, value in exact.items() if found.get(each) != value
        }
        for each, value in more.items():
            risen = found.get(each, 0) - before.get(each, 0)
            if risen < value:
                missing[each] = (value, risen)
        if not missing:
            break
        assert time.monotonic() < deadline, missing
        time.sleep(1)


@pytest.mark.slow
def test_the_access_log_stands_line_by_line_in_the_logs_of_ray(served: Served) -> None:
    shown = {"Authorization": f"Bearer {API_KEY}"}
    requests.get(f"{served.url}/v1/words/a-secret-word/vector", headers=shown, timeout=30)
    requests.post(f"{served.url}/v1/sentiment", json={"input": "a secret text"}, timeout=30)
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    deadline = time.monotonic() + 30
    routes: set[tuple[str, int]] = set()
    while not {("/v1/words/{word}/vector", 404), ("/v1/sentiment", 200)} <= routes:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        written = "".join(path.read_text(errors="replace") for path in logs.glob("worker-*.err"))
        lines = [json.loads(line) for line in written.splitlines() if line.startswith('{"at"')]
        routes = {(line["route"], line["status"]) for line in lines}
    assert "secret" not in str(lines)
    everything = b"".join(path.read_bytes() for path in logs.rglob("*") if path.is_file())
    assert not [key for key in (OLD_KEY, NEW_KEY, API_KEY) if key.encode() in everything]
    fields = {"at", "method", "route", "status", "milliseconds", "bytes_in", "bytes_out", "model", "version"}
    assert all(fields <= set(line) for line in lines)


@pytest.mark.slow
def test_another_version_is_switched_to_and_back_without_a_failed_request(home: Path, served: Served) -> None:
    old = served.models["vectors"]
    other = publish_vectors(home / "vectors" / "other", seed=2)
    seen: list[tuple[int, str]] = []
    ended = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not ended.is_set():
                answer = session.get(f"{served.url}/v1/words/king/vector", timeout=60)
                seen.append((answer.status_code, answer.headers.get("X-Wordloom-Version", "")))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for each in askers:
        each.start()
    try:
        models.record(Folder(home), {"vectors": [old.version, other.identity]})
        switched = deployments.switch(served, models.find(str(home)))
        during = len(seen)
        models.record(Folder(home), {})
        back = dict(switched.models) | {"vectors": old}
        deployments.switch(switched, back)
    finally:
        ended.set()
        for each in askers:
            each.join(60)
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {old.version, other.identity}
    assert seen[-1][1] == old.version
    assert 0 < during < len(seen)


@pytest.mark.slow
def test_a_killed_replica_costs_no_wrong_answer(served: Served) -> None:
    wanted = requests.get(f"{served.url}/v1/words/king/vector", timeout=30).json()
    statuses: Counter[int] = Counter()
    for number in range(600):
        if number == 100:
            address = ray.get_runtime_context().gcs_address
            (pid,) = [
                actor.pid
                for actor in list_actors(address=address, filters=[("state", "=", "ALIVE")])
                if actor.name and actor.name.startswith("SERVE_REPLICA::vectors")
            ]
            os.kill(pid, signal.SIGKILL)
        try:
            answer = requests.get(f"{served.url}/v1/words/king/vector", timeout=60)
        except requests.ConnectionError:
            statuses[0] += 1
            continue
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            assert answer.json() == wanted
    print(dict(statuses))
    assert statuses[200] >= 500
    assert set(statuses) <= {200, 429, 503}


@pytest.mark.slow
def test_a_model_that_does_not_load_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    deployments.stop()
    publish_language_model(tmp_path / "model")
    (tmp_path / "model" / "parameters.npz").write_bytes(b"no zip")
    with pytest.raises(WordloomError, match="cannot be read") as raised:
        deployments.start(str(tmp_path), ServingSettings(port=0))
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="Failed to look up actor"):
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")


@pytest.mark.slow
def test_a_kind_that_sorts_before_the_one_at_the_root_is_taken_up(tmp_path: Path) -> None:
    deployments.stop()
    text = publish_language_model(tmp_path / "text")
    served = deployments.start(str(tmp_path), ServingSettings(port=0))
    try:
        vectors = publish_vectors(tmp_path / "vectors")
        served = deployments.switch(served, models.find(str(tmp_path)))
        answer = requests.get(f"{served.url}/v1/words/king/vector", timeout=60)
        assert (answer.status_code, answer.headers["X-Wordloom-Version"]) == (200, vectors.identity)
        answer = requests.post(f"{served.url}/v1/text/score", json={"text": "a"}, timeout=60)
        assert (answer.status_code, answer.headers["X-Wordloom-Version"]) == (200, text.identity)
        with pytest.raises(WordloomError, match=r"'language-model' holds .* cannot go"):
            deployments.switch(served, {"vectors": served.models["vectors"]})
    finally:
        deployments.stop()


@pytest.mark.slow
def test_a_first_model_of_a_kind_that_does_not_load_leaves_its_paths_as_they_were(tmp_path: Path) -> None:
    deployments.stop()
    publish_vectors(tmp_path / "vectors")
    served = deployments.start(str(tmp_path), ServingSettings(port=0))
    try:
        publish_language_model(tmp_path / "text")
        (tmp_path / "text" / "parameters.npz").write_bytes(b"no zip")
        with pytest.raises(WordloomError, match=r"the old one is served on: .*cannot be read"):
            deployments.switch(served, models.find(str(tmp_path)))
        deadline = time.monotonic() + 120
        while True:  # a replica that knew of it already goes first
            answer = requests.post(f"{served.url}/v1/text/score", json={"text": "a"}, timeout=60)
            if answer.json()["error"]["code"] == "no_model":
                break
            assert answer.json()["error"]["code"] == "not_ready" and time.monotonic() < deadline
            time.sleep(0.2)
        assert requests.get(f"{served.url}/v1/words/king/vector", timeout=60).ok
    finally:
        deployments.stop()


@pytest.mark.slow
def test_neither_version_s_files_can_be_read_and_what_was_served_is_served_on(tmp_path: Path) -> None:
    deployments.stop()
    old, new = (models.Model.of(publish_vectors(tmp_path / name, seed=len(name))) for name in ("a", "bb"))
    served = deployments.start({"vectors": old}, ServingSettings(port=0))
    try:
        for path in tmp_path.glob("*/*.np[yz]"):
            (path.parent / "new").write_bytes(b"no array")
            (path.parent / "new").replace(path)
        with pytest.raises(WordloomError, match=r"the old one is served on: .*damaged"):
            deployments.switch(served, {"vectors": new})
        answer = requests.get(f"{served.url}/v1/words/king/vector", timeout=60)
        assert (answer.status_code, answer.headers["X-Wordloom-Version"]) == (200, old.version)
    finally:
        deployments.stop()


@pytest.mark.slow
def test_what_a_configuration_file_deploys_is_noted_until_it_is_ended(tmp_path: Path) -> None:
    deployments.stop()
    held = publish_vectors(tmp_path / "vectors")
    arguments = {"models": str(tmp_path), "kind": models.VECTORS, "prefix": "/"}
    try:
        serve.start(proxy_location=ProxyLocation.Disabled)
        serve.run(deployments.from_folder(arguments), name=models.VECTORS)
        assert models.held(Folder(tmp_path)) == {held.identity}
    finally:
        deployments.stop()
    assert not Folder(tmp_path).child(notes.FOLDER).names()


@pytest.mark.slow
def test_a_switch_for_which_no_cores_are_free_ends_in_a_sentence_and_what_was_served_is_served_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments, "CORES_SECONDS", 0.0)  # until Serve says so
    deployments.stop()
    old, new = (models.Model.of(publish_vectors(tmp_path / name, seed=len(name))) for name in ("a", "bb"))
    served = deployments.start({"vectors": old}, ServingSettings(port=0, replica_cpus=1.5))
    try:
        for _ in range(2):  # and so does another try
            with pytest.raises(WordloomError, match=r"the old one is served on: no node .* 1\.5 cores free"):
                deployments.switch(served, {"vectors": new})
            answer = requests.get(f"{served.url}/v1/words/king/vector", timeout=60)
            assert (answer.status_code, answer.headers["X-Wordloom-Version"]) == (200, old.version)
    finally:
        deployments.stop()
