"""The commands that reach from end to end: the whole chain, and models over HTTP."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.command_line import CommandLine, Options, load_tensorflow, positive
from cluster.errors import WordloomError
from ingest.commands import names_wiki

SECTIONS = {"serving": "serving.settings:ServingSettings"}
PRESETS: dict[str, str] = {}


def add_run(line: CommandLine) -> None:
    """The whole chain, which help names first."""
    parents = (line.home, line.ray, line.device, line.listen, line.web, line.site)
    made = line.add("run", "the whole chain: dump to served answers", run, *parents, names_wiki=names_wiki)
    made.add_argument(
        "--source",
        metavar="S",
        help="a dump: path, glob, URL or enwiki:latest (without: the embedded sample)",
    )
    made.add_argument("--serve", action="store_true", help="keep serving until Ctrl-C")


def add(line: CommandLine) -> None:
    made = line.add("serve", "trained models over HTTP", serve, line.listen)
    made.add_argument("--models", required=True, metavar="DIR", help="a home, or any folder with models")
    made.add_argument("--address", metavar="A", help="a Ray cluster to join; without: one of our own")
    made.add_argument(
        "--profile",
        choices=("default", "throughput"),
        help="how requests are carried (default); throughput: by HAProxy, which opens two ports to others",
    )

    line.group("models", "which versions are served")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--models", required=True, metavar="DIR", help="what `wordloom serve` was given")
    line.add("models list", "all versions, their figures, and which are served", list_models, folder)
    made = line.add("models promote", "serve this version, if it passes its gates", promote, folder)
    made.add_argument("name", metavar="NAME", help="its name, or the beginning of its version")
    made = line.add("models rollback", "serve the version that was served before", rollback, folder)
    made.add_argument("kind", metavar="KIND", help="vectors, language-model, ...")

    made = line.add("status", "what exists, from what, how big, how good, what is served", status, line.home)
    made.add_argument(
        "--address", metavar="URL", help="a cluster's dashboard: its jobs instead of the artefacts of a home"
    )
    made = line.add("report", "an artefact's report.html, made again from its files", report)
    made.add_argument("folder", metavar="DIR", help="the artefact: a corpus, a model, ...")
    made.add_argument("--output", metavar="FILE", help="where the page goes (DIR/report.html)")
    made = line.add("compare", "two artefacts of one kind side by side", compare)
    made.add_argument("first", metavar="DIR", help="the one")
    made.add_argument("second", metavar="DIR", help="the other; differences are from the one to it")
    made.add_argument("--output", metavar="FILE", help="an HTML page of it, with both learning curves")

    made = line.add("gc", "frees what no served model and nothing recent was made from", gc, line.home)
    made.add_argument(
        "--keep", type=positive, default=2, metavar="N", help="artefacts of each kind that stay anyway (2)"
    )
    made.add_argument("--dry-run", action="store_true", help="only show what would go")


def run(options: Options) -> dict[str, Any]:
    settings = options.resolved(options.listening())
    from serving import main_job

    return main_job.run(
        settings,
        source=options.source,
        where=options.where(),
        home=options.home,
        workers=options.workers,
        device=options.device,
        address=options.address,
        stay=options.serve,
        reporter=options.reporter(),
    )


def serve(options: Options) -> dict[str, Any]:
    settings = options.resolved(options.listening())
    from serving import main_job

    return main_job.serve(
        settings, models=options.models, address=options.address, reporter=options.reporter()
    )


def list_models(options: Options) -> dict[str, Any]:
    from serving.promotion import versions

    listed = versions(options.models)
    if not listed:
        options.say(f"No model lies in {options.models!r}; `wordloom run` and `wordloom train` make some.")
    for each in listed:
        figures = ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in each["figures"].items()
            if value is not None
        )
        mark = "*" if each["served"] else " "
        way = {True: "both ways, ", False: "from the left, ", None: ""}[each["both"]]
        options.say(f"{mark} {each['name']}  {each['made']}  {way}{figures}".rstrip())
    return {"models": listed}


def promote(options: Options) -> dict[str, Any]:
    from cluster.progress import shell_command
    from serving import promotion

    load_tensorflow()

    model, gates = promotion.promote(options.models, options.name)
    options.say(*(f"✓ {gate.name}: {gate.sentence}" for gate in gates))
    undo = ""
    if promotion.earlier(options.models, model):
        undo = f"; `{shell_command('models', 'rollback', '--models', options.models, model.kind)}` undoes it"
    waiting = _waiting(options, model)
    options.say(f"{model.name} is {'promoted' if waiting else 'served now'}{undo}.", *waiting)
    return {"model": model.described(), "gates": [vars(gate) for gate in gates]}


def rollback(options: Options) -> dict[str, Any]:
    from serving import promotion

    model = promotion.rollback(options.models, options.kind)
    waiting = _waiting(options, model)
    options.say(f"{model.name} is {'promoted' if waiting else 'served'} again.", *waiting)
    return {"model": model.described()}


def _waiting(options: Options, model: Any) -> list[str]:
    """What is to be said where a server does not take up a version by itself."""
    from serving import promotion

    if not promotion.waits(options.models, model):
        return []
    return ["What Serve's file deployed serves it once `release` is raised there (deploy/serve.yaml)."]


def gc(options: Options) -> dict[str, Any]:
    from cluster.progress import quantity
    from cluster.store import Store, describe, summary
    from serving import garbage

    store = Store(options.home)
    found = garbage.sort(store, options.keep)
    options.say(*(f"- {describe(artefact)}" for artefact in found.freed))
    if not options.dry_run:
        garbage.free(store, found)
    words = f"{len(found.freed)} of {len(found.freed) + len(found.kept)} artefacts"
    if not found.freed:
        options.say(f"Nothing to free: all {len(found.kept)} artefacts are wanted.")
    elif options.dry_run:
        options.say(f"{words} would go, {quantity(found.bytes, 'B')}.")
    else:
        options.say(f"{words} are gone, {quantity(found.bytes, 'B')}.")
    return {
        "freed": [summary(artefact) for artefact in found.freed],
        "kept": [artefact.location for artefact in found.kept],
        "bytes": found.bytes,
        "dry_run": options.dry_run,
    }


def status(options: Options) -> dict[str, Any]:
    if options.address:
        from cluster.submission import Jobs, address_of

        found = Jobs(address_of(options.address)).listed()
        options.say(*(f"{each['id']}  {each['status'].lower()}  {each['command']}" for each in found))
        if not found:
            options.say(f"No job was submitted to {options.address} yet.")
        return {"address": options.address, "jobs": found}
    from cluster.progress import shell_command
    from cluster.store import Store, summary
    from serving import models

    store = Store(options.home)
    artefacts, served = store.artefacts(), set[str]()
    try:
        served = models.served(store.folder, artefacts)
    except WordloomError as error:  # a damaged record: the artefacts are shown all the same
        options.say(str(error))
    if not store.folder.exists():
        options.say(f"{options.home}: nothing yet; `{shell_command('run', '--home', options.home)}` begins.")
    elif not options.json:
        options.show(store.tree(served))
    return {
        "home": store.folder.location,
        "artefacts": [summary(each) | {"served": each.identity in served} for each in artefacts],
        "unfinished": [
            {"kind": each.kind, "location": each.location, "progress": each.progress}
            for each in store.unfinished()
        ],
        "unreadable": [vars(each) for each in store.unreadable()],
    }


def report(options: Options) -> dict[str, Any]:
    """The page of an artefact, beside its files or in a file of its own."""
    from cluster import report as reports
    from cluster.artefact import Artefact
    from cluster.store import summary
    from trainers.model_report import KINDS

    artefact = Artefact.open(options.folder)
    page = reports.made(artefact, KINDS)
    place = page.save(options.output) if options.output else page.write(artefact)
    options.say(place)
    return {"report": place, "artefact": summary(artefact)}


def compare(options: Options) -> dict[str, Any]:
    from cluster.artefact import Artefact
    from cluster.progress import table
    from cluster.report import said
    from trainers import comparison

    found = comparison.compare(Artefact.open(options.first), Artefact.open(options.second))
    place = found.report().save(options.output) if options.output else None
    for title, columns, rows in found.tables():
        options.show(table(title, columns, [[said(each) for each in row] for row in rows]))
    if place:
        options.say(place)
    return {**found.to_json(), "report": place}
