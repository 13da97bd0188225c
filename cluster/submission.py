"""Jobs: a command of ours that runs on a cluster elsewhere, sent through the cluster's dashboard.

What is sent is the program alone: the files of its packages, no checkout, no data. What the job
leaves has to lie where every node can reach it, so places that would end with the job's own folder are
refused before anything is sent. A job that was stopped goes on when the same command is submitted again,
under an id of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.artefact import libraries
from cluster.command_line import Options
from cluster.errors import UsageError, WordloomError
from cluster.folder import reason, refuse_password
from cluster.progress import shell_command
from cluster.session import ENVIRONMENT, LIBRARIES
from cluster.settings import read_assignments

PROGRAM = Path(__file__).resolve().parent.parent
PACKAGES = ("cluster", "ingest", "trainers", "serving")
DASHBOARD = "http://127.0.0.1:8265"
# Settings that name a file.
FILES = {"embeddings": ("judged_pairs",), "serving": ("api_keys_file", "state_keys_file")}
SIGINT_CODE = 130
# Seconds that a stopped job has for its last checkpoint and for shutting Serve down; Ray's own default is 3.
STOPPING = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}


def address_of(given: str | None) -> str:
    """The dashboard to talk to: what was given, Ray's own RAY_API_SERVER_ADDRESS, or this machine's."""
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or DASHBOARD
    if not address.startswith(("http://", "https://")):
        raise UsageError(
            f"--address is {address!r}; jobs go through the dashboard: give its http:// or https:// address."
        )
    return address.rstrip("/")


def check_places(options: Options) -> None:
    """Refuses options of a job whose files would lie in the job's own folder, which holds the program alone
    and is gone after it."""
    for name, value in _places(options):
        refuse_password(value)  # a job's command is shown to whoever lists the jobs
        if "://" in value or os.path.isabs(value):  # noqa: PTH117 (may be a URL)
            continue
        if name == "--source" and hasattr(options, "names_wiki") and options.names_wiki(value):
            continue
        raise UsageError(
            f"{name} is {value!r}, below the job's own folder, which is gone after the job; give an "
            "absolute path on a file system that all nodes share, or s3:// or gs://."
        )


def _places(options: Options) -> Iterator[tuple[str, str]]:
    """Each file or folder that a command is told, behind the name of what tells it."""
    for dest, name in options.line.places().items():
        value = getattr(options, dest, None)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield name, each
    assigned = read_assignments(options.set, options.line.sections)
    for section, keys in FILES.items():
        for key in keys:
            if value := assigned.get(section, {}).get(key):
                yield f"--set {section}.{key}", str(value)


@contextlib.contextmanager
def packed() -> Iterator[Path]:
    """A folder with the program and nothing else, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="wordloom-job-") as made:
        folder = Path(made)
        shutil.copy(PROGRAM / "wordloom.py", folder)
        for package in PACKAGES:
            shutil.copytree(PROGRAM / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


def runtime_environment(folder: Path, *, install: bool, variables: Mapping[str, str]) -> dict[str, Any]:
    """Ray's description of what the job runs in.

    The job compares the node's main libraries with ours before it begins (cluster/session.py). With `install`
    each node first installs exactly the versions that are installed here; without, it has them already.
    """
    environment: dict[str, Any] = {
        "working_dir": str(folder),
        "env_vars": {**ENVIRONMENT, **STOPPING, LIBRARIES: json.dumps(libraries()), **variables},
    }
    if install:
        environment["pip"] = {"packages": pins()}
    return environment


def pins() -> list[str]:
    """What the program needs, in the versions that are installed here: ``name==version``."""
    wanted = {"ray": "ray[data,default,serve,train]"}
    found = []
    for requirement in importlib.metadata.requires("wordloom") or []:
        if "extra ==" in requirement:
            continue
        name = requirement.partition(";")[0].split("[")[0].split(">")[0].split("<")[0].split("=")[0].strip()
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # not for this system
            found.append(f"{wanted.get(name, name)}=={importlib.metadata.version(name)}")
    return found


def job_id(command: Sequence[str]) -> str:
    """An id that no other job has: ``wordloom-run-20261125-221500-1f2e3d``."""
    words = "-".join(word for word in command[:2] if word[:1].isalpha() and word.replace("-", "").isalpha())
    return f"wordloom-{words}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class Jobs:
    """The jobs of one cluster. Raises WordloomError where its dashboard cannot be reached or refuses us."""

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.address = address
        with self._said():
            self._client = JobSubmissionClient(address)

    def submit(
        self, command: Sequence[str], *, install: bool = False, variables: Mapping[str, str] | None = None
    ) -> str:
        """Sends ``wordloom COMMAND`` and returns the job's id at once. Raises WordloomError where the program
        cannot be packed."""
        name = job_id(command)
        try:
            with packed() as folder, self._said():
                self._client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "wordloom", *command]),
                    submission_id=name,
                    runtime_env=runtime_environment(folder, install=install, variables=variables or {}),
                    metadata={"command": shlex.join(command)},
                )
        except OSError as error:
            raise WordloomError(
                f"The program cannot be packed ({reason(error)}); see that there is room in the folder for "
                "temporary files (TMPDIR) and that you may write to it."
            ) from error
        return name

    def follow(self, name: str, say: Callable[[str], object]) -> int:
        """Hands the job's output on until it ends; returns its exit code, 130 for one that was stopped.

        A connection that breaks is made again; nothing is said twice.
        """
        said = 0
        with self._said():
            self._client.get_job_info(name)  # there is such a job
        while True:
            with self._said():
                said = asyncio.run(self._tail(name, said, say))
                details = self._client.get_job_info(name)
                if details.status.is_terminal():
                    rest = self._client.get_job_logs(name)[said:]
                    if rest:
                        say(rest)
                    break
        if details.status == "SUCCEEDED":
            return 0
        if details.status == "STOPPED":
            return SIGINT_CODE
        if not details.driver_exit_code:  # it never began
            say(f"{details.message}\n")
        return details.driver_exit_code or 1

    async def _tail(self, name: str, said: int, say: Callable[[str], object]) -> int:
        seen = 0
        try:
            async for text in self._client.tail_job_logs(name):
                new = text[max(0, said - seen) :]
                seen += len(text)
                if new:
                    say(new)
        except RuntimeError as error:
            if "closed unexpectedly" not in str(error):
                raise
            await asyncio.sleep(1)
        return max(said, seen)

    def stop(self, name: str) -> None:
        """Asks the job to end; it has when `follow` returns."""
        with self._said():
            self._client.stop_job(name)

    def listed(self) -> list[dict[str, Any]]:
        """All jobs, oldest first: id, status, command, when they began and ended (ms since 1970)."""
        with self._said():
            found = [each for each in self._client.list_jobs() if each.submission_id]
        return [
            {
                "id": each.submission_id,
                "status": str(each.status.value),
                "command": (each.metadata or {}).get("command", each.entrypoint),
                "began": each.start_time,
                "ended": each.end_time,
                "exit_code": each.driver_exit_code,
            }
            for each in sorted(found, key=lambda each: each.start_time or 0)
        ]

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turns what goes wrong on the way into a sentence; what goes wrong here, as our output, stays."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError
        from requests import RequestException

        try:
            yield
        except BrokenPipeError:
            raise
        except (ConnectionError, TimeoutError, ClientError, RequestException) as error:
            raise WordloomError(
                f"The dashboard at {self.address} cannot be reached ({type(error).__name__}); check "
                "--address, and that the cluster's head runs."
            ) from error
        except (AuthenticationError, RuntimeError) as error:
            said = str(error)
            if isinstance(error, AuthenticationError):
                raise WordloomError(
                    f"The dashboard at {self.address} asks for a token; give the cluster's in RAY_AUTH_TOKEN "
                    "with RAY_AUTH_MODE=token, or in ~/.ray/auth_token."
                ) from error
            if "404" in said or "does not exist" in said:
                raise WordloomError(
                    f"The cluster at {self.address} knows no such job; "
                    f"`{shell_command('status', '--address', self.address)}` lists all."
                ) from error
            reason = (said.strip().splitlines() or ["no reason given"])[-1]
            raise WordloomError(f"The cluster at {self.address} refused: {reason}") from error
