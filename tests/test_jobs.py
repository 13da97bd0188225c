"""The main job as a Ray job: ``ray job submit`` to a head with its dashboard and token authentication."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.session import ENVIRONMENT, OWN_ENVIRONMENT
from tests import small
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
RAY = Path(sys.executable).parent / "ray"


@pytest.fixture
def head(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which `ray job` reaches a head of the test's own."""
    dashboard = free_port()
    environment = {
        **os.environ,
        **ENVIRONMENT,
        **OWN_ENVIRONMENT,
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",  # a node's `python` has the packages
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    environment.pop("RAY_ADDRESS", None)
    command = ["start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    with (tmp_path / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [str(RAY), *command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    try:
        for _ in range(120):
            asked = subprocess.run(
                [str(RAY), "job", "list"], env=environment, capture_output=True, check=False
            )
            if asked.returncode == 0:
                break
            assert process.poll() is None, (tmp_path / "head.log").read_text()
            time.sleep(0.5)
        else:
            pytest.fail((tmp_path / "head.log").read_text())
        yield environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def submit(head: dict[str, str], job: list[str]) -> subprocess.CompletedProcess[str]:
    """What `ray job submit` of this checkout ends with, its output and errors together."""
    return subprocess.run(
        [str(RAY), "job", "submit", "--working-dir", ".", "--", *job],
        cwd=ROOT,
        env=head,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.operate
@pytest.mark.slow
def test_the_main_job_runs_as_a_submitted_job(head: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    job = ["python", "-m", "wordloom", "run", "--home", str(home), "--port", "0", *small.ASSIGNMENTS]
    done = submit(head, job)
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout and "/v1/text/generate" in done.stdout
    kinds = {path.name for path in home.iterdir()}
    assert {"corpus", "vocabulary", "vectors", "language-model"} <= kinds


@pytest.mark.operate
@pytest.mark.slow
def test_a_job_that_fails_says_why_and_exits_so(head: dict[str, str], tmp_path: Path) -> None:
    job = ["python", "-m", "wordloom", "run", "--source", "nowhere.xml.bz2", "--home", str(tmp_path / "home")]
    done = submit(head, job)
    assert done.returncode != 0 and "nowhere.xml.bz2" in done.stdout
