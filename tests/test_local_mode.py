"""Serve's local testing mode: the deployments and their routing in this process, without a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray import serve

from cluster.errors import WordloomError
from cluster.folder import Folder
from serving import deployments, models, notes
from serving.deployments import Served
from serving.keys import Keys
from serving.notes import Held
from serving.settings import ServingSettings
from tests.cores import MODELS, publish_labelling, publish_vectors

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def handle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The deployment of the vectors; there is a labeller, too, which another deployment holds."""
    home = tmp_path_factory.mktemp("home")
    publish_vectors(home / "vectors" / "a")
    publish_labelling(home / "labelling" / "b")
    found = models.find(str(home))
    vectors, labels = deployments.targets(found, ServingSettings(), Keys.find())
    assert (vectors.route_prefix, labels.route_prefix) == ("/", "/v1/labels")
    before = os.nice(0), os.environ.get("CUDA_VISIBLE_DEVICES")
    yield serve.run(vectors.target, name="vectors", _local_testing_mode=True)
    assert (os.nice(0), os.environ.get("CUDA_VISIBLE_DEVICES")) == before  # this process is the user's


def asked(handle: Any, path: str) -> tuple[int, Any]:
    """Status and JSON of what the replica answers to a request that was handed on to it."""
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET"}
    scope |= {"scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
    start, *bodies = handle.options(stream=True).relayed.remote(scope, b"")
    return start["status"], json.loads(b"".join(each.get("body", b"") for each in bodies))


def test_a_replica_answers_its_own_kind_and_knows_of_the_others(handle: Any, tmp_path: Path) -> None:
    status, vector = asked(handle, "/v1/words/king/vector")
    assert (status, vector["word"]) == (200, "king")
    status, listed = asked(handle, "/v1/models")
    assert [each["kind"] for each in listed["data"]] == ["vectors", "labelling"]
    assert handle.answers.remote().result() == listed["data"][0]["version"]
    assert "/v1/labels" in asked(handle, "/openapi.json")[1]["paths"]
    status, refused = asked(handle, "/v1/text/generate")
    assert (status, refused["error"]["code"]) == (404, "no_model")


def test_what_a_configuration_file_deploys_is_noted_by_its_replica(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text(encoding="utf-8"))
    (arguments,) = [each["args"] for each in config["applications"] if each["name"] == "vectors"]
    folder, held = Folder(tmp_path), publish_vectors(tmp_path / "vectors" / "a")
    publish_labelling(tmp_path / "labelling" / "b")
    models.record(folder, {models.VECTORS: [held.identity]})
    application = deployments.from_folder({**arguments, "models": str(tmp_path)})
    assert notes.noted(folder) == []  # built, but not held
    handle = serve.run(application, name="configured", _local_testing_mode=True)
    assert asked(handle, "/v1/words/king/vector")[0] == 200
    newer = publish_vectors(tmp_path / "vectors" / "b", seed=2)
    models.record(folder, {models.VECTORS: [held.identity, newer.identity]})
    held_here = Held({models.VECTORS: [held.identity]}, {models.VECTORS: held.identity}, follows=False)
    assert notes.noted(folder) == [held_here]
    # It is what answers: nothing here looks for promotions.
    assert newer.identity not in models.served(folder, models.artefacts(folder))
    assert models.held(folder) == {held.identity}
    built_anew = deployments.from_folder({**arguments, "models": str(tmp_path), "release": 2})
    serve.run(built_anew, name="configured", _local_testing_mode=True)
    assert models.served(folder, models.artefacts(folder)) >= {newer.identity}


@pytest.mark.parametrize("state", ["DEPLOYING", "DEPLOY_FAILED"])
def test_a_switch_that_serve_cannot_make_goes_back_and_waits_no_longer(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    message = "1 replicas that have taken more than 30s to be scheduled."
    waiting = SimpleNamespace(message=message)
    app = SimpleNamespace(status=state, message="it did not load", deployments={models.VECTORS: waiting})
    asked_for: list[str] = []
    deleted: list[str] = []

    def run_many(targets: list[str], *, wait_for_applications_running: bool) -> None:
        assert not wait_for_applications_running
        asked_for.extend(targets)

    status = SimpleNamespace(applications={models.VECTORS: app})
    monkeypatch.setattr(deployments.serve, "run_many", run_many)
    monkeypatch.setattr(deployments.serve, "status", lambda: status)
    monkeypatch.setattr(deployments, "targets", lambda found, *given: [each.name for each in found.values()])
    monkeypatch.setattr(deployments.serve, "delete", deleted.append)
    monkeypatch.setattr(deployments, "CORES_SECONDS", 0.0)
    old, new = (dataclasses.replace(MODELS[models.VECTORS], version=digit * 64) for digit in "ab")
    text = MODELS[models.LANGUAGE_MODEL]
    served = Served("http://x", {models.VECTORS: old}, ServingSettings(), Keys.find())
    reason = {"DEPLOYING": r"no node of Ray has the 0\.1 cores", "DEPLOY_FAILED": "it did not load"}[state]
    with pytest.raises(WordloomError, match=f"the old one is served on: {reason}"):
        deployments.switch(served, {models.VECTORS: new, models.LANGUAGE_MODEL: text})
    assert asked_for == [new.name, text.name, old.name]
    assert deleted == [models.LANGUAGE_MODEL]
