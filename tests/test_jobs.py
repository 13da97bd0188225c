"""The main job as a Ray job: ``ray job submit`` to a head with its dashboard and token authentication."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.session import ENVIRONMENT, OWN_ENVIRONMENT
from tests import small
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
RAY = Path(sys.executable).parent / "ray"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which `ray job` reaches a head of the test's own."""
    dashboard, log_file = free_port(), tmp_path_factory.mktemp("head") / "head.log"
    environment = {
        **os.environ,
        **ENVIRONMENT,
        **OWN_ENVIRONMENT,
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",  # a node's `python` has the packages
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        environment.pop(name, None)
    command = ["start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    environment["AGENT_PORT"] = str(free_port())
    command += [
        f"--dashboard-agent-listen-port={environment['AGENT_PORT']}",
        f"--ray-client-server-port={free_port()}",
    ]
    with log_file.open("wb") as log:
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
            assert process.poll() is None, log_file.read_text()
            time.sleep(0.5)
        else:
            pytest.fail(log_file.read_text())
        yield environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
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


def wordloom(head: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Our own command line, started elsewhere; the head's address comes from the environment."""
    return subprocess.run(
        [sys.executable, "-m", "wordloom", *words],
        cwd="/",
        env={**head, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


SDK = """
import sys
from cluster.submission import Jobs
jobs = Jobs(sys.argv[1])
name = jobs.submit(["run", "--source", "/nowhere.xml.bz2", "--home", sys.argv[2]])
code = jobs.follow(name, lambda text: print(text, end=""))
(said,) = [each for each in jobs.listed() if each["id"] == name]
print(code, said["status"], said["exit_code"])
"""


@pytest.mark.operate
@pytest.mark.slow
def test_a_job_that_fails_says_why_and_exits_so(head: dict[str, str], tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    done = wordloom(head, "submit", "--", "run", "--source", "/nowhere.xml.bz2", "--home", home)
    assert done.returncode == 1 and "nowhere.xml.bz2" in done.stdout


@pytest.mark.operate
@pytest.mark.slow
def test_a_job_is_followed_stopped_and_gone_on_with(head: dict[str, str], tmp_path: Path) -> None:
    home, address = tmp_path / "home", head["RAY_API_SERVER_ADDRESS"]
    source = small.dump(tmp_path / "sample").rename(tmp_path / "dump.xml.bz2")
    command = ["--", "run", "--home", str(home), "--source", str(source), "--port", "0", *small.ASSIGNMENTS]
    sent = wordloom(head, "submit", "--no-wait", "--json", *command)
    assert sent.returncode == 0, sent.stderr
    name = json.loads(sent.stdout.splitlines()[-1])["id"]
    for _ in range(240):  # until the corpus is there, and training is under way
        if list(home.glob("vectors/*/making/draft.json")):
            break
        time.sleep(0.5)
    else:
        pytest.fail(wordloom(head, "job", "follow", name).stdout)
    corpus = next(home.glob("corpus/*/manifest.json"))
    before = corpus.stat().st_mtime_ns
    assert wordloom(head, "job", "stop", name).returncode == 0
    followed = wordloom(head, "job", "follow", name)
    assert followed.returncode == 130 and "ingest" in followed.stdout
    again = submit(head, ["python", "-m", "wordloom", *command[1:]])
    assert again.returncode == 0, again.stdout
    assert "= ingest: reused" in again.stdout and "/v1/text/generate" in again.stdout
    assert "succeeded" in again.stdout
    assert {"corpus", "vocabulary", "vectors", "language-model"} <= {path.name for path in home.iterdir()}
    assert corpus.stat().st_mtime_ns == before
    listed = json.loads(wordloom(head, "status", "--address", address, "--json").stdout.splitlines()[-1])
    states = [each["status"] for each in listed["jobs"] if shlex.join(command[1:]) in each["command"]]
    assert states == ["STOPPED", "SUCCEEDED"], listed
    sdk = subprocess.run(
        [sys.executable, "-c", SDK, address, str(home)],
        cwd=ROOT,
        env=head,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "nowhere.xml.bz2" in sdk.stdout and sdk.stdout.splitlines()[-1] == "1 FAILED 1"
    stranger = wordloom({**head, "RAY_AUTH_TOKEN": "0" * 32}, "status", "--address", address)
    assert stranger.returncode == 1 and "asks for a token" in stranger.stderr
    health = urllib.request.urlopen(
        f"http://127.0.0.1:{head['AGENT_PORT']}/api/local_raylet_healthz", timeout=10
    )
    assert health.status == 200 and b"success" in health.read()  # what the probes of deploy/kubernetes ask
