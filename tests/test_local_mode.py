"""Serve's local testing mode: the deployments and their routing in this process, without a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from serving import deployments, models
from serving.keys import Keys
from serving.settings import ServingSettings
from tests.cores import publish_labelling, publish_vectors


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
