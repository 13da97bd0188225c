"""The main job as a Ray job: ``ray job submit`` to a head with its dashboard and token authentication."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import yaml

from cluster.folder import Folder
from cluster.session import ENVIRONMENT, OWN_ENVIRONMENT
from cluster.store import Store
from serving import models
from serving.client import ask
from tests import small
from tests.cores import publish_vectors
from tests.kept_artefacts import KEPT
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


def submit(head: dict[str, str], job: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """What `ray job submit` of this checkout ends with, its output and errors together."""
    return subprocess.run(
        [str(RAY), "job", "submit", "--working-dir", ".", *options, "--", *job],
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


def until(happened: Callable[[], bool], missing: Callable[[], object]) -> None:
    for _ in range(480):
        if happened():
            return
        time.sleep(0.5)
    pytest.fail(str(missing()))


def sent(head: dict[str, str], *command: str) -> str:
    """The id of a job of ours that nobody waits for."""
    done = wordloom(head, "submit", "--no-wait", "--json", "--", *command)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["id"])


def stopped(head: dict[str, str], name: str) -> str:
    """What a job said that is stopped now, as one is that got a Ctrl-C."""
    assert wordloom(head, "job", "stop", name).returncode == 0
    followed = wordloom(head, "job", "follow", name)
    assert followed.returncode == 130 and "Traceback" not in followed.stdout, followed.stdout
    return followed.stdout


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def home(head: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `wordloom submit run`, stopped, and then `ray job submit` of the same command have made."""
    folder, address = tmp_path_factory.mktemp("job"), head["RAY_API_SERVER_ADDRESS"]
    home = folder / "home"
    source = small.dump(folder / "sample").rename(folder / "dump.xml.bz2")
    command = ["run", "--home", str(home), "--source", str(source), "--port", "0", *small.ASSIGNMENTS]
    name = sent(head, *command)
    # Until the corpus is there, and training is under way.
    until(
        lambda: bool(list(home.glob("vectors/*/making/draft.json"))),
        lambda: wordloom(head, "job", "follow", name).stdout,
    )
    corpus = next(home.glob("corpus/*/manifest.json"))
    before = corpus.stat().st_mtime_ns
    assert "ingest" in stopped(head, name)
    again = submit(head, ["python", "-m", "wordloom", *command])
    assert again.returncode == 0, again.stdout
    assert "= ingest: reused" in again.stdout and "/v1/text/generate" in again.stdout
    assert "succeeded" in again.stdout
    assert corpus.stat().st_mtime_ns == before
    listed = json.loads(wordloom(head, "status", "--address", address, "--json").stdout.splitlines()[-1])
    states = [each["status"] for each in listed["jobs"] if shlex.join(command) in each["command"]]
    assert states == ["STOPPED", "SUCCEEDED"], listed
    return home


@pytest.mark.operate
@pytest.mark.slow
def test_a_main_job_is_followed_stopped_and_gone_on_with(home: Path) -> None:
    """By the fixture."""
    made = {each.kind for each in Store(str(home)).artefacts()}
    assert made >= {"corpus", "vocabulary", "vectors", "language-model", "sentiment", "labelling"}


@pytest.mark.operate
@pytest.mark.slow
def test_each_stage_is_a_job_by_either_way(head: dict[str, str], home: Path) -> None:
    """Made by the one, found by the other; what serves is asked, and gone once it is stopped."""
    source, corpus, port = home.parent / "dump.xml.bz2", home.parent / "corpus", free_port()
    url = f"http://127.0.0.1:{port}/readyz"
    ingest = ["ingest", "wikipedia", "--source", str(source), "--output", str(corpus), "--home", str(home)]
    train = ["train", "embeddings", "--corpus", str(corpus), "--output", str(home.parent / "vectors")]
    train += small.ASSIGNMENTS
    serve = ["serve", "--models", str(home), "--port", str(port)]
    done = wordloom(head, "submit", "--", *ingest)
    assert done.returncode == 0 and "✓ ingest" in done.stdout, done.stdout
    done = submit(head, ["python", "-m", "wordloom", *ingest])
    assert done.returncode == 0 and "= ingest: reused" in done.stdout, done.stdout
    done = submit(head, ["python", "-m", "wordloom", *train])
    assert done.returncode == 0 and "✓ embeddings" in done.stdout, done.stdout
    done = wordloom(head, "submit", "--", *train)
    assert done.returncode == 0 and "= embeddings: reused" in done.stdout, done.stdout
    name = sent(head, *serve)
    until(lambda: answers(url), lambda: wordloom(head, "job", "follow", name).stdout)
    assert answers(url.replace("readyz", ""))  # the page went with the job
    stopped(head, name)
    assert not answers(url)
    done = submit(head, ["python", "-m", "wordloom", *serve], "--no-wait", "--submission-id=served")
    assert done.returncode == 0, done.stdout
    until(lambda: answers(url), lambda: wordloom(head, "job", "follow", "served").stdout)
    assert subprocess.run([str(RAY), "job", "stop", "served"], env=head, check=False).returncode == 0
    until(lambda: not answers(url), lambda: "it serves still")


@pytest.mark.operate
@pytest.mark.slow
def test_serve_deploy_serves_what_deploy_serve_yaml_says(head: dict[str, str], tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text(encoding="utf-8"))
    home = tmp_path / "home"
    shutil.copytree(KEPT / "1", home)
    port = config["http_options"]["port"] = free_port()
    for application in config["applications"]:
        application["args"]["models"] = str(home)
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    address = ["--address", head["RAY_API_SERVER_ADDRESS"]]

    def serve(*words: str) -> str:
        done = subprocess.run(
            [str(RAY.parent / "serve"), *words, *address],
            env=head,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    serve("deploy", str(tmp_path / "serve.yaml"))
    until(lambda: serve("status").count("status: RUNNING") == 4, lambda: serve("status"))
    # The applications may be there before the proxy that hands them requests.
    until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), lambda: serve("status"))
    asked = ask(f"http://127.0.0.1:{port}")
    assert asked and all(each.status == 200 for each in asked), asked
    # What was promoted since is served once `release` is raised, and not before.
    new, folder = publish_vectors(home / "promoted").identity, Folder(home)
    models.record(folder, {models.VECTORS: [new]})
    assert new not in models.served(folder, models.artefacts(folder))
    for application in config["applications"]:
        application["args"]["release"] += 1
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    serve("deploy", str(tmp_path / "serve.yaml"))

    def version() -> str:
        answer = requests.get(f"http://127.0.0.1:{port}/v1/words/similarity?first=a&second=a", timeout=30)
        return answer.headers["X-Wordloom-Version"]

    until(lambda: version() == new, lambda: serve("status"))
    until(lambda: new in models.served(folder, models.artefacts(folder)), lambda: serve("status"))
    serve("shutdown", "--yes")
    until(lambda: not answers(f"http://127.0.0.1:{port}/readyz"), lambda: serve("status"))


@pytest.mark.operate
@pytest.mark.slow
def test_a_job_that_fails_says_why_and_exits_so(head: dict[str, str], tmp_path: Path) -> None:
    address, home = head["RAY_API_SERVER_ADDRESS"], str(tmp_path / "home")
    done = wordloom(head, "submit", "--", "run", "--source", "/nowhere.xml.bz2", "--home", home)
    assert done.returncode == 1 and "nowhere.xml.bz2" in done.stdout
    sdk = subprocess.run(
        [sys.executable, "-c", SDK, address, home],
        cwd=ROOT,
        env=head,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "nowhere.xml.bz2" in sdk.stdout and sdk.stdout.splitlines()[-1] == "1 FAILED 1"


@pytest.mark.operate
@pytest.mark.slow
def test_a_head_answers_its_probes_and_nobody_without_the_token(head: dict[str, str]) -> None:
    address = head["RAY_API_SERVER_ADDRESS"]
    stranger = wordloom({**head, "RAY_AUTH_TOKEN": "0" * 32}, "status", "--address", address)
    assert stranger.returncode == 1 and "asks for a token" in stranger.stderr
    health = urllib.request.urlopen(
        f"http://127.0.0.1:{head['AGENT_PORT']}/api/local_raylet_healthz", timeout=10
    )
    assert health.status == 200 and b"success" in health.read()  # what the probes of deploy/kubernetes ask
