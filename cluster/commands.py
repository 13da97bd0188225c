"""The commands about the place: whether this machine is ready, and jobs on a cluster elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from cluster.command_line import CommandLine, Options


def add(line: CommandLine) -> None:
    line.add("doctor", "checks this machine and says what to do", doctor, line.home)

    there = argparse.ArgumentParser(add_help=False)
    there.add_argument(
        "--address", metavar="URL", help="the cluster's dashboard (RAY_API_SERVER_ADDRESS, this machine's)"
    )
    made = line.add("submit", "runs a command on a cluster, as a job", submit, there)
    made.add_argument("--no-wait", dest="wait", action="store_false", help="only send it")
    made.add_argument(
        "--install", action="store_true", help="nodes install our libraries first (they lack them)"
    )
    made.add_argument(
        "--env", action="append", default=[], metavar="NAME", help="an environment variable to hand on"
    )
    made.add_argument(
        "job", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="run, ingest, train ..."
    )
    line.group("job", "a job that was submitted")
    for name, words, run in (
        ("follow", "its output from the beginning until it ends, and its exit code", follow),
        ("stop", "ends it; what is finished is kept, and the same command goes on", stop),
    ):
        line.add(f"job {name}", words, run, there).add_argument("id", metavar="ID", help="as submit said it")


def submit(options: Options) -> dict[str, Any]:
    from cluster.errors import UsageError
    from cluster.submission import Jobs, address_of, check_places

    command = options.job[1:] if options.job[:1] == ["--"] else options.job
    if not command:
        raise UsageError(
            "There is no command to submit; write it behind two dashes: `submit -- run --home ...`."
        )
    if options.settings or options.set:
        raise UsageError(
            "--settings and --set of `submit` itself would not reach the job; write them behind the command: "
            "`submit -- run --set ...`."
        )
    check_places(options.line.parse(command))
    if missing := [name for name in options.env if name not in os.environ]:
        raise UsageError(f"--env {missing[0]} is not set here; set it, or leave it out.")
    jobs = Jobs(address_of(options.address))
    name = jobs.submit(
        command, install=options.install, variables={name: os.environ[name] for name in options.env}
    )
    options.say(f"{name} was submitted; `wordloom job stop {name} --address {jobs.address}` ends it.")
    return _followed(jobs, name, options) if options.wait else {"id": name}


def follow(options: Options) -> dict[str, Any]:
    from cluster.submission import Jobs, address_of

    return _followed(Jobs(address_of(options.address)), options.id, options)


def stop(options: Options) -> dict[str, Any]:
    from cluster.submission import Jobs, address_of

    jobs = Jobs(address_of(options.address))
    jobs.stop(options.id)
    jobs.follow(options.id, lambda text: None)
    options.say(f"{options.id} has ended; the same command goes on where it was.")
    return {"id": options.id}


def _followed(jobs: Any, name: str, options: Options) -> dict[str, Any]:
    """A job's output on standard error or, without --json, standard output. Exits with the job's own code
    where that is not 0; Ctrl-C ends the following alone."""
    stream = sys.stderr if options.json else sys.stdout

    def say(text: str) -> None:
        print(text, end="", file=stream, flush=True)

    try:
        code = jobs.follow(name, say)
    except KeyboardInterrupt:
        options.say(f"{name} runs on; `wordloom job follow {name} --address {jobs.address}` shows it again.")
        raise SystemExit(130) from None
    if code:
        raise SystemExit(code)
    return {"id": name, "exit_code": code}


def doctor(options: Options) -> dict[str, Any]:
    from cluster.doctor import examine
    from cluster.errors import WordloomError

    findings = examine(options.home)
    marks = {"ok": "✓", "warning": "!", "failed": "✗"}
    options.say(*(f"{marks[finding.state]} {finding.name}: {finding.sentence}" for finding in findings))
    failed = [finding.name for finding in findings if finding.state == "failed"]
    if failed:
        raise WordloomError(f"This machine is not ready: see {', '.join(failed)} above.")
    return {"findings": [vars(finding) for finding in findings]}
