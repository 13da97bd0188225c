"""deploy/serve.yaml as `serve run` reads it, over one tiny model of each kind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import requests
import yaml

from serving import client, deployments
from serving.settings import free_port
from tests.cores import publish_labelling, publish_language_model, publish_sentiment, publish_vectors

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
ROOT = Path(__file__).resolve().parent.parent


def test_serve_run_serves_what_stands_in_serve_yaml(tmp_path: Path) -> None:
    deployments.stop()  # of another module
    home = tmp_path / "home"
    publish_vectors(home / "vectors" / "a")
    publish_language_model(home / "language-model" / "b")
    publish_sentiment(home / "sentiment" / "c")
    publish_labelling(home / "labelling" / "d")
    port = free_port("127.0.0.1", 0)
    described = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text(encoding="utf-8"))
    described["http_options"]["port"] = port
    for each in described["applications"]:
        each["args"]["models"] = str(home)
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(described))
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", address, "--app-dir", str(ROOT)]
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [*command, str(tmp_path / "serve.yaml")],
            stdout=said,
            stderr=said,
            cwd=ROOT,
            start_new_session=True,
        ) as process,
    ):
        try:
            url, until = f"http://127.0.0.1:{port}", time.monotonic() + 300
            while not _ready(url):
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.5)
            answers = client.ask(url)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert len(answers) > 15
    assert {answer.status for answer in answers} == {200}


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=30).ok
    except requests.ConnectionError:
        return False
