"""The main job: from a dump to served answers; and serving alone.

`run` is the whole chain on one screen. Each stage finds what it made earlier by what it is made from, so the
same command does nothing twice and goes on where it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.folder import Folder
from cluster.progress import Reporter, duration, nearby, quantity, shell_command, table
from cluster.report import FILE as REPORT
from cluster.session import Session, cores, session
from cluster.store import Store, figures, summary
from ingest import mirror, review_grammar, sample, sequence_corpus, word_images
from ingest.commands import places
from ingest.corpus import KIND as CORPUS
from ingest.corpus import Corpus
from ingest.corpus_report import beside
from ingest.dump import Dump, locate
from ingest.vocabulary import KIND as VOCABULARY
from ingest.vocabulary import OUTPUT_VERSION as VOCABULARY_VERSION
from ingest.vocabulary import cut_vocabulary
from serving.following import follow
from serving.keys import Keys
from serving.models import KINDS, Model, both_ways, chosen, find, last, names
from serving.profile import prepare
from serving.settings import ServingSettings, free_port

Settings = Mapping[str, Any]


@dataclass
class Journal:
    """When each stage began and ended (seconds since 1970), in order."""

    stages: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.time()
        yield
        self.stages.append({"name": name, "began": began, "ended": time.time()})


def run(
    settings: Settings,
    *,
    source: str | None,
    home: str,
    workers: int,
    device: str,
    address: str | None,
    stay: bool,
    reporter: Reporter,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole chain; with `stay` it serves until Ctrl-C. Returns what was made and answered."""
    serving: ServingSettings = settings["serving"]
    free_port(serving.host, serving.port)  # not after minutes of training
    Keys.find(serving.state_keys_file, serving.api_keys_file)  # a file that is missing neither
    store, journal, began = Store(home), Journal(), time.monotonic()
    with journal.stage("download"):
        dump = _located(source, store, settings, reporter, where or {})
    prepare(serving.profile, address, serving.most, serving.replicas, trains=True)
    with ExitStack() as stack:
        with journal.stage("start of Ray"):
            running = stack.enter_context(session(address, cpus=cores(workers), home=home))
            _check_cores(len(KINDS), serving, running, reporter)
        with journal.stage("ingest"):
            corpus = _ingested(dump, store, settings, workers, reporter)
            place = store.place(VOCABULARY, VOCABULARY_VERSION, {"corpus": corpus}, settings["vocabulary"])
            vocabulary = cut_vocabulary(Corpus(corpus), place, settings["vocabulary"], reporter)
            reviews, words = _reviews(store, settings, reporter), _words(store, settings, reporter)
            for each in (vocabulary, reviews, words):
                beside(each, reporter)
        with journal.stage("training"):
            ground = {"corpus": corpus, "vocabulary": vocabulary, "reviews": reviews, "words": words}
            models = _trained(ground, store, settings, workers, device, reporter)
        with journal.stage("serving"):
            # What this run made or found, though the home may hold newer ones by now.
            followed = last(chosen(store.folder))
            made_here = both_ways({made.kind: Model.of(made) for made in models}, models)
            served = stack.enter_context(_served(made_here, settings, reporter))
            answers = _asked(served, reporter)
            if stay:
                _say_addresses(served, running, reporter)
        made = (*ground.values(), *models)
        _summary(made, journal, reporter)
        if stay:
            word = f"Serving until Ctrl-C. {_took(began, home)}"
            follow(served, store.folder, followed, serving.watch_seconds, reporter, word)
        with journal.stage("shutdown"):
            stack.close()
    if not stay:
        reporter.say(f"Done. {_took(began, home)}")
        reporter.say(f"`{shell_command('serve', '--models', home)}` serves this, with a page to play with.")
    return {
        "home": store.folder.location,
        "dump": {"name": dump.name, "identity": dump.identity, "bytes": dump.bytes},
        "artefacts": [summary(each) for each in made],
        "answers": [{"asked": each.asked, "status": each.status, "body": each.body} for each in answers],
        "stages": journal.stages,
    }


def serve(settings: Settings, *, models: str, address: str | None, reporter: Reporter) -> dict[str, Any]:
    """Serves the models below a folder until Ctrl-C, and switches to what is promoted meanwhile."""
    followed = last(chosen(Folder(models)))  # before what is served is looked for: none is missed
    found = find(models)  # a folder without models is said before Ray starts, as a port that is taken
    serving: ServingSettings = settings["serving"]
    free_port(serving.host, serving.port)
    Keys.find(serving.state_keys_file, serving.api_keys_file)
    prepare(serving.profile, address, serving.most, serving.replicas)
    with session(address) as running:
        _check_cores(len(found), serving, running, reporter)
        with _served(models, settings, reporter) as served:
            _say_addresses(served, running, reporter)
            word = "Serving until Ctrl-C."
            follow(served, Folder(models), followed, serving.watch_seconds, reporter, word)
    return {"url": served.url}


# the stages


def _located(
    source: str | None, store: Store, settings: Settings, reporter: Reporter, where: Mapping[str, Any]
) -> Dump:
    """The dump: the user's, or the sample, which a server of our own hands out like any other."""
    downloads, checksums = places(store)
    if source is not None:
        return locate(source, downloads, reporter, checksums, **where)
    if not store.folder.is_local:
        raise UsageError(
            f"The embedded sample is served from a local folder, and --home is {store.folder.location!r}; "
            "give --source, or a local --home."
        )
    inputs = sample.inputs(settings["sample"])
    place = store.place(sample.KIND, sample.OUTPUT_VERSION, inputs, settings["sample"])
    sample.make_sample(place, settings["sample"], reporter)
    with mirror.serve(place) as site:
        return locate(f"{site.url}/{sample.FILE}", downloads, reporter, checksums)


def _ingested(dump: Dump, store: Store, settings: Settings, workers: int, reporter: Reporter) -> Artefact:
    from ingest import wikipedia

    place = store.place(CORPUS, wikipedia.OUTPUT_VERSION, {"dump": dump.as_input()}, settings["ingest"])
    return wikipedia.ingest(dump, place, settings["ingest"], reporter, workers)


def _reviews(store: Store, settings: Settings, reporter: Reporter) -> Artefact:
    """The synthetic reviews: the user's dump has no labels."""
    made = review_grammar.made_settings(settings["review_grammar"])
    place = store.place(sequence_corpus.KIND, sequence_corpus.OUTPUT_VERSION, {}, made)
    return review_grammar.make_reviews(place, settings["review_grammar"], reporter)


def _words(store: Store, settings: Settings, reporter: Reporter) -> Artefact:
    """The synthetic word images, for the same reason."""
    made = word_images.made_settings(settings["word_images"])
    place = store.place(sequence_corpus.KIND, sequence_corpus.OUTPUT_VERSION, {}, made)
    return word_images.make_word_images(place, settings["word_images"], reporter)


def _trained(
    ground: Mapping[str, Artefact],
    store: Store,
    settings: Settings,
    workers: int,
    device: str,
    reporter: Reporter,
) -> list[Artefact]:
    """All models, by one group of workers."""
    from trainers import jobs
    from trainers.launch import train_all

    corpus, vocabulary, reviews, words = ground.values()
    inputs = {"corpus": corpus, "vocabulary": vocabulary}
    vectors = store.place(jobs.VECTORS, jobs.EMBEDDINGS_VERSION, inputs, settings["embeddings"])
    text = store.place(
        jobs.LANGUAGE_MODEL, jobs.LANGUAGE_MODEL_VERSION, {"corpus": corpus}, settings["language_model"]
    )
    judge = store.place(jobs.SENTIMENT, jobs.SENTIMENT_VERSION, {"corpus": reviews}, settings["sentiment"])
    # One labeller of each direction, for people to compare; the one that was asked for is the last.
    wanted = settings["labelling"]
    readers = [
        (each, store.place(jobs.LABELLING, jobs.LABELLING_VERSION, {"corpus": words}, each))
        for each in (replace(wanted, both=not wanted.both), wanted)
    ]
    planned = [
        jobs.embeddings(corpus, vocabulary, vectors, settings["embeddings"]),
        jobs.language_model(corpus, text, settings["language_model"]),
        jobs.sentiment(reviews, None, judge, settings["sentiment"]),
        *(jobs.labelling(words, place, each) for each, place in readers),
    ]
    for job in planned:
        job.reused(reporter)
    return train_all(planned, workers, device, reporter)


def _check_cores(kinds: int, serving: ServingSettings, running: Session, reporter: Reporter) -> None:
    """Raises UsageError where replicas want more cores than a Ray of our own has: Serve would wait for them
    without end or word, as it does in a cluster, which may grow."""
    wanted = round(kinds * serving.replicas * serving.replica_cpus, 4)
    said = (
        f"{kinds} kinds of models, serving.replicas = {serving.replicas} of each and serving.replica_cpus = "
        f"{serving.replica_cpus:g} want {wanted:g} cores, and Ray has {running.cpus}"
    )
    if wanted > running.cpus and running.owned:
        raise UsageError(f"{said}; lower one of the two settings.")
    if wanted > running.cpus:
        reporter.say(f"{said}: Serve waits until the cluster has them.")
    elif 2 * wanted > running.cpus:
        reporter.say(f"{said}: a promotion, for which new replicas start beside the old, may find too few.")


@contextmanager
def _served(models: str | Mapping[str, Model], settings: Settings, reporter: Reporter) -> Iterator[Any]:
    from serving import deployments, refusals

    with reporter.stage("serving") as stage:
        served = deployments.start(models, settings["serving"])
        stage.summary(names(served.models))
    try:
        with refusals.counted():
            yield served
    finally:
        deployments.stop()


def _asked(served: Any, reporter: Reporter) -> list[Any]:
    """One request to each endpoint, answered and printed."""
    from serving.client import ask

    answers = ask(served.url, key=served.keys.own())
    for answer in answers:
        reporter.say(f"  {answer.asked}\n    {answer.status} {answer.line}")
    return answers


# what is said


def _summary(made: Sequence[Artefact], journal: Journal, reporter: Reporter) -> None:
    """One table of what there is now, and where the time went."""
    rows = [
        (each.kind, quantity(each.bytes, "B"), figures(each), f"{nearby(each.location)}/{REPORT}")
        for each in made
    ]
    reporter.show(table("What there is", ("", "size", "figures", "its report"), rows, right=(1,)))
    spent = (f"{each['name']} {duration(each['ended'] - each['began'])}" for each in journal.stages)
    reporter.say(f"Time: {', '.join(spent)}")


def _say_addresses(served: Any, running: Session, reporter: Reporter) -> None:
    if served.page:
        reporter.say(f"A page to play with: {served.page}")
    reporter.say(f"API and its documentation: {served.docs}")
    if running.dashboard:
        reporter.say(f"Ray dashboard: {running.dashboard} (its token: ray get-auth-token)")
    reporter.say(f"Metrics: {' '.join(running.metrics)}")


def _took(began: float, home: str) -> str:
    shows = shell_command("status", "--home", home)
    return f"It took {duration(time.monotonic() - began)}; `{shows}` shows what there is."
