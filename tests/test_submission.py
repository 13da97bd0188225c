"""Submitting: what is sent, what is refused before it is, what comes back."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import wordloom
from cluster import submission
from cluster.artefact import libraries
from cluster.errors import WordloomError
from cluster.session import LIBRARIES, session
from serving import page


def test_what_is_sent_is_the_program_alone_and_small() -> None:
    with submission.packed() as folder:
        sent = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        assert {name.partition("/")[0] for name in sent} == {"wordloom.py", *submission.PACKAGES}
        assert {path.suffix for path in sent.values()} <= {
            ".py",
            *page.TYPES,
        } and "ingest/wikipedia.py" in sent
        assert page.files(folder / "serving" / "web").keys() == page.files().keys()
        assert sum(path.stat().st_size for path in sent.values()) < 2_000_000
    assert not folder.exists()


def test_the_environment_is_pinned(tmp_path: Path) -> None:
    made = submission.runtime_environment(tmp_path, install=True, variables={"A": "b"})
    assert made["env_vars"]["A"] == "b" and made["env_vars"][LIBRARIES]
    assert all("==" in pin for pin in made["pip"]["packages"])
    assert f"tensorflow=={libraries()['tensorflow']}" in made["pip"]["packages"]
    assert not [pin for pin in made["pip"]["packages"] if pin.startswith("pytest")]
    assert "pip" not in submission.runtime_environment(tmp_path, install=False, variables={})


def test_a_node_with_other_libraries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARIES, '{"ray": "0.1"}')
    with (
        pytest.raises(WordloomError, match=r"This node has ray 2\..*submitted with 0\.1; use an image"),
        session(),
    ):
        pass


def test_no_two_jobs_have_one_id() -> None:
    made = {submission.job_id(["train", "embeddings", "--x"]) for _ in range(100)}
    assert len(made) == 100 and all(each.startswith("wordloom-train-embeddings-2") for each in made)
    assert submission.job_id(["run", "--home", "h"]).startswith("wordloom-run-2")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["run"], "--home is '.wordloom', below the job's own folder"),
        (["run", "--home", "/h", "--source", "dump.xml.bz2"], "--source is 'dump.xml.bz2', below"),
        (
            ["ingest", "text", "--home", "s3://b/h", "--source", "/x", "--output", "o"],
            "--output is 'o', below",
        ),
        (["serve", "--models", "home"], "--models is 'home', below"),
        (["run", "--home", "s3://key:hidden@b/h"], "The address of s3://b has a password in it"),
        ([], "There is no command to submit"),
        (["run", "--home", "/h", "--settings", "my.toml"], "--settings is 'my.toml', below"),
        (["run", "--home", "/h", "--set", "x"], "--set 'x' has not the form"),
        (
            ["run", "--home", "/h", "--set", "embeddings.judged_pairs=pairs.tsv"],
            "--set embeddings.judged_pairs is 'pairs.tsv', below",
        ),
        (
            ["serve", "--models", "/h", "--set", "serving.api_keys_file=keys"],
            "--set serving.api_keys_file is 'keys', below",
        ),
        (
            ["train", "sentiment", "--corpus", "/c", "--output", "/o", "--teacher", "t"],
            "--teacher is 't', below",
        ),
        (
            ["predict", "sentiment", "--model", "/m", "--output", "/o", "--input", "i"],
            "--input is 'i', below",
        ),
        (["evaluate", "vectors", "--vectors", "/v", "--data", "/d", "e"], "--data is 'e', below"),
        (["import", "vectors", "v.txt", "--output", "/o"], "FILE is 'v.txt', below"),
        (["report", "folder"], "DIR is 'folder', below"),
        (["compare", "/a", "b"], "DIR is 'b', below"),
        (
            ["run", "--home", "/h", "--source", "enwiki:latest", "--set", "embeddings.judged_pairs=/p"],
            "RAN",
        ),
        (["run", "--home", "/h", "--source", "enwiki"], "RAN"),
        (["run", "--home", "/h", "--source", "enwiki:2026"], "give one such as enwiki:20261101"),
        (["run", "--home", "/h", "--source", "dump:2.xml"], "--source is 'dump:2.xml', below"),
        (["ingest", "text", "--home", "/h", "--output", "/o", "--source", "enwiki"], "'enwiki', below"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_sent(
    command: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sends(address: str) -> None:
        raise WordloomError("RAN")

    monkeypatch.setattr(submission, "Jobs", sends)
    assert wordloom.main(["submit", "--", *command]) == (1 if sentence == "RAN" else 2)
    assert sentence in capsys.readouterr().err


def test_settings_that_would_not_reach_the_job_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert wordloom.main(["submit", "--set", "vocabulary.size=9", "--", "run", "--home", "/h"]) == 2
    assert "write them behind the command" in capsys.readouterr().err


def test_a_command_that_there_is_not_and_a_variable_that_is_not_set_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as error:
        wordloom.main(["submit", "--", "rum", "--home", "/h"])
    assert error.value.code == 2 and "invalid choice: 'rum'" in capsys.readouterr().err
    assert wordloom.main(["submit", "--env", "NOT_SET_HERE", "--", "run", "--home", "/h"]) == 2
    assert "--env NOT_SET_HERE is not set here" in capsys.readouterr().err
    assert wordloom.main(["status", "--address", "127.0.0.1:6379"]) == 2
    assert "jobs go through the dashboard" in capsys.readouterr().err


class Cluster:
    """Ray's client of a cluster whose connection breaks once in the middle of a job's output."""

    def __init__(self, status: str, code: int | None) -> None:
        self.output, self.broken = "one\ntwo\nthree\n", False
        self.details = SimpleNamespace(
            status=_Status("RUNNING"), message="no node has it", driver_exit_code=code
        )
        self.ends = _Status(status)

    async def tail_job_logs(self, name: str) -> Any:
        if not self.broken:
            self.broken = True
            yield self.output[:5]
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
        for start in range(0, len(self.output), 4):
            yield self.output[start : start + 4]
        self.details.status = self.ends
        self.output += "last\n"

    def get_job_info(self, name: str) -> Any:
        return self.details

    def get_job_logs(self, name: str) -> str:
        return self.output


class _Status(str):
    def is_terminal(self) -> bool:
        return self != "RUNNING"


@pytest.mark.parametrize(
    ("status", "code", "exits", "more"),
    [
        ("SUCCEEDED", 0, 0, ""),
        ("FAILED", 2, 2, ""),
        ("FAILED", None, 1, "no node has it\n"),
        ("STOPPED", None, 130, ""),
    ],
)
def test_the_output_comes_once_over_a_broken_connection_and_the_exit_code_is_the_jobs(
    status: str, code: int | None, exits: int, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(seconds: float) -> None:
        return

    monkeypatch.setattr(submission.asyncio, "sleep", at_once)
    jobs: Any = submission.Jobs.__new__(submission.Jobs)
    jobs.address, jobs._client = "http://x", Cluster(status, code)
    said: list[str] = []
    assert jobs.follow("job", said.append) == exits
    assert "".join(said) == f"one\ntwo\nthree\nlast\n{more}"


def test_output_that_nobody_reads_any_more_is_no_dashboard_that_cannot_be_reached() -> None:
    def say(text: str) -> None:
        raise BrokenPipeError  # as to `head`

    jobs: Any = submission.Jobs.__new__(submission.Jobs)
    jobs.address, jobs._client = "http://x", Cluster("SUCCEEDED", 0)
    with pytest.raises(BrokenPipeError):
        jobs.follow("job", say)


def test_a_program_that_cannot_be_packed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def copies(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(submission.shutil, "copytree", copies)
    jobs: Any = submission.Jobs.__new__(submission.Jobs)
    with pytest.raises(WordloomError, match=r"cannot be packed \(.*No space left on device\); see"):
        jobs.submit(["run"])


def test_a_failed_job_is_the_commands_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails:
        address = "http://x"

        def __init__(self, address: str) -> None: ...

        def submit(self, command: list[str], **_: Any) -> str:
            assert command[0] == "run"
            return "id-1"

        def follow(self, name: str, say: Callable[[str], object]) -> int:
            say("output\n")
            return 3

    monkeypatch.setattr(submission, "Jobs", Fails)
    with pytest.raises(SystemExit) as error:
        wordloom.main(["submit", "run", "--home", "/h"])
    assert error.value.code == 3
    assert capsys.readouterr().out == (
        "id-1 was submitted; `wordloom job stop id-1 --address http://x` ends it.\noutput\n"
    )


def test_a_dashboard_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert wordloom.main(["status", "--address", "http://127.0.0.1:9"]) == 1
    assert "The dashboard at http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err
