"""The main job: from a dump to served answers, and nothing twice."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.progress import Reporter
from cluster.session import Session
from cluster.store import Store
from serving import main_job, models
from serving.keys import API_VARIABLE
from serving.settings import ServingSettings
from tests import small
from tests.kept_artefacts import KEPT


def run(home: Path) -> dict[str, Any]:
    return main_job.run(
        wordloom.command_line().resolved(small.SECTIONS),
        source=None,
        home=str(home),
        workers=2,
        device="cpu",
        address=None,
        stay=False,
        reporter=Reporter(quiet=True),
    )


@pytest.mark.parametrize("owned", [True, False])
def test_replicas_that_want_more_cores_than_there_are_do_not_wait_silently(
    owned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(address="", dashboard=None, owned=owned, cpus=2, metrics=())
    main_job._check_cores(4, ServingSettings(replicas=2, replica_cpus=0.1), session, Reporter())
    assert not capsys.readouterr().err
    main_job._check_cores(4, ServingSettings(replicas=2, replica_cpus=0.25), session, Reporter())
    assert "a promotion" in capsys.readouterr().err
    much = ServingSettings(replicas=2, replica_cpus=0.3)
    if owned:
        with pytest.raises(UsageError, match=r"want 2\.4 cores, and Ray has 2;"):
            main_job._check_cores(4, much, session, Reporter())
    else:
        main_job._check_cores(4, much, session, Reporter())
        assert "waits until the cluster has them" in capsys.readouterr().err


@pytest.mark.ray
def test_the_chain_answers_and_the_second_run_makes_nothing_again(
    tmp_path: Path, ray_cluster: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path / "home")
    assert [stage["name"] for stage in first["stages"]] == [
        "download",
        "start of Ray",
        "ingest",
        "training",
        "serving",
        "shutdown",
    ]
    assert {each["kind"] for each in first["artefacts"]} == {
        "corpus",
        "vocabulary",
        "vectors",
        "language-model",
        "sequences",
        "sentiment",
        "labelling",
    }
    asked = {
        each["asked"].partition("?")[0].partition(" ")[2].split(" ")[0]: each for each in first["answers"]
    }
    assert all(each["status"] == 200 for each in first["answers"])
    assert any("neighbours" in path for path in asked)
    assert any("vector" in path for path in asked)
    assert asked["/v1/text/generate"]["body"]["text"]
    assert asked["/v1/sentiment"]["body"]["results"][0]["trajectory"]
    assert "/v1/labels" in asked
    labellers = [each for each in asked["/v1/models"]["body"]["data"] if each["kind"] == "labelling"]
    assert [each["both"] for each in labellers] == [True, False]
    home = Store(str(tmp_path / "home"))
    assert models.served(home.folder, home.artefacts()) >= {each["version"] for each in labellers}
    for artefact in home.artefacts():
        artefact.verify()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*.parquet")}
    keys = "a-key-for-clients, another-key-for-clients"
    monkeypatch.setenv(API_VARIABLE, keys)  # the run has to show one, too
    second = run(tmp_path / "home")
    assert second["artefacts"] == first["artefacts"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "home").rglob("*.parquet")} == before
    lineage = Artefact.open(next(iter((tmp_path / "home" / "vectors").iterdir()))).manifest.inputs
    assert lineage["corpus"].identity == first["artefacts"][0]["identity"]


@pytest.mark.parametrize("command", [["run", "--home", "home"], ["serve", "--models", str(KEPT / "1")]])
def test_a_file_of_keys_that_is_missing_is_said_before_any_work(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--port", "0", "--set", "serving.api_keys_file=nowhere"]
    assert wordloom.main([*command, *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("wordloom: Cannot read the keys in 'nowhere' (") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["run", "--home", "home"], ["serve", "--models", str(KEPT / "1")]])
def test_a_port_that_is_taken_is_said_before_any_work(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert wordloom.main([*command, "--port", str(port)]) == 1
    assert f"Cannot serve at 127.0.0.1:{port}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wordloom", "run", "--home", str(tmp_path / "home"), "--port", "0"]
    said = interrupted([*command, *small.ASSIGNMENTS], "✓ vocabulary")  # the start of training is under way
    assert "goes on" in said
    # The same command, until it has done what it was stopped in.
    again = interrupted([*command, *small.ASSIGNMENTS], "✓ embeddings")
    assert "= ingest: reused" in again and "= vocabulary: reused" in again


def interrupted(command: list[str], line: str) -> str:
    """What a command says that gets Ctrl-C once it has said `line`; nothing of it may be left."""
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background commands with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        said = ""
        for each in process.stderr:
            said += each
            if each.startswith(line):
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.read()
        assert process.wait(120) == 130, said
    assert "Traceback" not in said
    for _ in range(100):  # what was told to end takes a moment for it
        if not (left := group_members(process.pid)):
            break
        time.sleep(0.2)
    assert not left
    return said


def group_members(session_id: int) -> list[str]:
    """The processes of a session that are still there: what a command has left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                name = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(fields[3]) == session_id and fields[0] != "Z":
                found.append(name)
    return found
