"""The commands about the place: what is there, and whether this machine is ready."""

from __future__ import annotations

from typing import Any

from cluster.command_line import CommandLine, Options


def add(line: CommandLine) -> None:
    line.add("status", "what exists, from what, how big, how good", status, line.home)
    line.add("doctor", "checks this machine and says what to do", doctor, line.home)


def status(options: Options) -> dict[str, Any]:
    from cluster.store import Store, summary

    store = Store(options.home)
    if not options.json:
        from rich.console import Console

        console = Console(highlight=False)
        console.print(
            store.tree() if store.folder.exists() else f"{options.home}: nothing yet; `wordloom run` begins."
        )
    return {
        "home": store.folder.location,
        "artefacts": [summary(artefact) for artefact in store.artefacts()],
        "unfinished": [
            {"kind": each.kind, "location": each.location, "progress": each.progress}
            for each in store.unfinished()
        ],
    }


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
