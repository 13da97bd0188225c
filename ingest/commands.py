"""The commands of ingest: a source to shards and a vocabulary."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.command_line import HOME, CommandLine, Options, numbers, positive

if TYPE_CHECKING:
    from cluster.store import Store

# Each section of the settings and the frozen dataclass that holds it.
SECTIONS = {
    "sample": "ingest.sample:SampleSettings",
    "ingest": "ingest.settings:IngestSettings",
    "text": "ingest.settings:TextSettings",
    "abstracts": "ingest.settings:AbstractsSettings",
    "sequences": "ingest.settings:SequencesSettings",
    "columns": "ingest.settings:SequenceColumns",
    "review_grammar": "ingest.review_grammar:GrammarSettings",
    "word_images": "ingest.word_images:WordImagesSettings",
    "vocabulary": "ingest.settings:VocabularySettings",
}
PRESETS = {
    "ingest": "ingest.settings:INGEST_PRESETS",
    "sequences": "ingest.settings:SEQUENCES_PRESETS",
    "vocabulary": "ingest.settings:VOCABULARY_PRESETS",
}

COLUMNS = ("tokens", "text", "label", "split", "id")  # as ingest.settings.SequenceColumns has them


def add(line: CommandLine) -> None:
    line.group("ingest", "a source to shards and a vocabulary")
    for kind, words, parents in (
        ("wikipedia", "a MediaWiki dump to shards and a vocabulary", (line.web, line.site)),
        ("text", "texts of your own to shards and a vocabulary", (line.web,)),
    ):
        made = line.add(
            f"ingest {kind}",
            words,
            ingest,
            line.home,
            line.ray,
            *parents,
            presets=("reference", "fast"),
            kind=kind,
        )
        made.add_argument(
            "--source",
            required=True,
            metavar="S",
            help="path, glob, URL, or a wiki of the dump site: enwiki, enwiki:20261101, simplewiki:latest"
            if kind == "wikipedia"
            else "path, glob or URL: text, JSON lines (plain, .gz, .bz2, .xz, .zst) or Parquet",
        )
        made.add_argument("--output", required=True, metavar="DIR", help="where the corpus goes")
        made.add_argument("--dry-run", action="store_true", help="only show what would be done")
        made.add_argument("--vocabulary", metavar="DIR", help="where the vocabulary goes (OUTPUT/vocabulary)")
        made.add_argument("--tokeniser", choices=("unicode", "reference"), help="how text is cut (unicode)")
        made.add_argument("--language", metavar="xx", help="the language, to be recorded")
        if kind == "wikipedia":
            made.set_defaults(names_wiki=names_wiki)
            made.add_argument("--markup", choices=("strip", "keep"), help="wiki markup (strip)")
            made.add_argument(
                "--namespaces",
                type=lambda text: [] if text == "all" else numbers(text),
                metavar="N,N|all",
                help="pages of which namespaces (0: articles)",
            )
            continue
        made.add_argument(
            "--documents",
            choices=("file", "line", "paragraph"),
            help="what of a plain text is one document (file)",
        )
        made.add_argument("--text-column", metavar="C", help="the text in JSON lines and Parquet (text)")
        made.add_argument("--id-column", metavar="C", help="... its id (id; without: a stable number)")
        made.add_argument("--title-column", metavar="C", help="... its title (title)")
    _abstracts(line)
    _reviews(line)
    _sequences(line)


def _sequences(line: CommandLine) -> None:
    for kind, words, source in (
        ("letters", "the handwritten words of Kassel and Taskar", "path or URL of letter.data[.gz]"),
        ("sequences", "labelled sequences of your own", "path or URL: .parquet, .csv, .tsv, .jsonl, .conll"),
    ):
        made = line.add(f"ingest {kind}", words, ingest_sequences, line.home, kind=kind)
        made.add_argument("--source", required=True, metavar="S", help=source)
        made.add_argument("--output", required=True, metavar="DIR", help="where the corpus goes")
        if kind == "sequences":
            for name in COLUMNS:
                made.add_argument(f"--{name}-column", metavar="C", help=f"the column of the {name} ({name})")


def _abstracts(line: CommandLine) -> None:
    made = line.add(
        "ingest abstracts",
        "abstracts from arXiv, or from a file, to shards and a vocabulary, the newest held out",
        abstracts,
        line.home,
        presets=("reference", "fast"),
    )
    made.add_argument("--output", required=True, metavar="DIR", help="where the corpus goes")
    made.add_argument("--vocabulary", metavar="DIR", help="where the vocabulary goes (OUTPUT/vocabulary)")
    made.add_argument(
        "--source",
        metavar="FILE",
        help="JSON lines with id, title, abstract, created (also compressed); without: arXiv's API",
    )
    made.add_argument(
        "--categories", nargs="+", metavar="C", help="papers in any of them (stat.ML cs.LG cs.NE math.OC)"
    )
    made.add_argument(
        "--keywords", nargs="+", metavar="W", help="... with any of these words (neural network deep)"
    )
    made.add_argument("--amount", type=positive, metavar="N", help="the first N papers (all there are)")
    made.add_argument("--api", metavar="URL", help="the API, or a mirror of it")
    made.add_argument("--tokeniser", choices=("unicode", "reference"), help="how text is cut (unicode)")


def _reviews(line: CommandLine) -> None:
    made = line.add(
        "ingest reviews",
        "the archive of labelled film reviews to labelled sequences and a vocabulary",
        reviews,
        line.home,
        presets=("reference", "fast"),
    )
    made.add_argument("--source", required=True, metavar="S", help="aclImdb_v1.tar.gz, a path or URL")
    made.add_argument("--output", required=True, metavar="DIR", help="where the sequences go")
    made.add_argument("--vocabulary", metavar="DIR", help="where the vocabulary goes (OUTPUT/vocabulary)")
    made.add_argument("--tokeniser", choices=("unicode", "reference"), help="how text is cut (unicode)")
    made.add_argument(
        "--connections", type=positive, metavar="N", help="connections to a host over the whole cluster (2)"
    )


def abstracts(options: Options) -> dict[str, Any]:
    """Papers to a corpus in the folder `output` and its vocabulary in another."""
    # Abstracts have no wiki markup.
    told = {"ingest": {"markup": "keep", **options.named("tokeniser")}}
    settings = options.resolved(told)
    from cluster.store import Store, summary
    from ingest import abstracts, arxiv, papers
    from ingest.corpus import Corpus
    from ingest.corpus_report import beside
    from ingest.vocabulary import cut_vocabulary

    reporter = options.reporter()
    terms = {name: tuple(value) for name, value in options.named("categories", "keywords").items()}
    if options.source is not None:
        # A file is taken as it is unless something is asked of it.
        query = arxiv.Query(**{"categories": (), "keywords": (), **terms}) if terms else None
        found = papers.read_file(options.source, query, options.amount)
    else:
        downloads, _ = places(Store(options.home))
        api = options.api or arxiv.API
        with reporter.stage("download", unit="papers") as stage:
            harvest = arxiv.harvest(
                arxiv.Query(**terms), f"{downloads}/arxiv", options.amount, stage=stage, api=api
            )
            stage.summary(f"{len(harvest.abstracts):,} distinct papers of {harvest.seen:,} entries")
        found = papers.gathered(harvest, api)
    corpus = abstracts.ingest(found, options.output, settings["ingest"], settings["abstracts"], reporter)
    vocabulary = options.vocabulary or f"{str(options.output).rstrip('/')}/vocabulary"
    cut = beside(cut_vocabulary(Corpus(corpus), vocabulary, settings["vocabulary"], reporter), reporter)
    options.pictured(corpus, cut)
    return {"artefacts": [summary(corpus), summary(cut)]}


def ingest(options: Options, sections: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """A source to a corpus in the folder `output` and its vocabulary in another; with ``--dry-run`` only the
    plan is said. `sections` are settings below those of the options.
    """
    # Text has no wiki markup unless a setting says so.
    plain = {"ingest": {"markup": "keep"}} if options.kind == "text" else {}
    told = {
        "ingest": options.named("tokeniser", "markup", "namespaces", "language"),
        "text": options.named("documents", "text_column", "id_column", "title_column"),
    }
    from cluster.settings import merge

    settings = options.line.resolved(merge(plain, sections or {}, options.given(), told), options.preset)
    from cluster.session import cores, session
    from cluster.store import Store, summary
    from ingest import dump, texts, wikipedia
    from ingest.corpus import Corpus
    from ingest.corpus_report import beside
    from ingest.vocabulary import cut_vocabulary

    reporter, where = options.reporter(), options.where()
    downloads, checksums = places(Store(options.home))

    def located(checksums: str, where: Mapping[str, Any]) -> Any:
        if options.kind == "text":
            reading = settings["text"]
            return texts.locate(options.source, downloads, reporter, checksums, reading=reading, **where)
        return dump.locate(options.source, downloads, reporter, checksums, **where)

    if options.dry_run:
        with tempfile.TemporaryDirectory() as aside:  # what is learnt of checksums is forgotten again
            copied = Path(aside) / "checksums.json"
            if Path(checksums).exists():
                shutil.copy(checksums, copied)
            found = located(str(copied), {**where, "download": None if where["download"] else False})
        planned = wikipedia.prepare(found, options.output, settings["ingest"])
        options.say(*planned.sentences())
        return {"plan": planned.to_json()}
    found = located(checksums, where)
    with session(options.address, cpus=cores(options.workers), home=options.output):
        corpus = wikipedia.ingest(found, options.output, settings["ingest"], reporter, options.workers)
    vocabulary = options.vocabulary or f"{str(options.output).rstrip('/')}/vocabulary"
    cut = beside(cut_vocabulary(Corpus(corpus), vocabulary, settings["vocabulary"], reporter), reporter)
    options.pictured(corpus, cut)
    return {"artefacts": [summary(corpus), summary(cut)]}


def reviews(options: Options) -> dict[str, Any]:
    """The archive of film reviews to a corpus of labelled sequences in the folder `output`."""
    settings = options.resolved({"sequences": options.named("tokeniser")})
    from cluster.store import Store, summary
    from ingest import source_file
    from ingest.corpus_report import beside
    from ingest.reviews import ingest_reviews
    from ingest.sequence_pages import SequencePages
    from ingest.vocabulary import cut_vocabulary

    reporter = options.reporter()
    downloads, checksums = places(Store(options.home))
    found = source_file.locate(options.source, downloads, reporter, checksums, **options.named("connections"))
    made = ingest_reviews(found, options.output, settings["sequences"], reporter)
    vocabulary = options.vocabulary or f"{str(options.output).rstrip('/')}/vocabulary"
    cut = cut_vocabulary(SequencePages(made), vocabulary, settings["vocabulary"], reporter)
    pages = [beside(each, reporter) for each in (made, cut)]
    options.pictured(*pages)
    return {"artefacts": [summary(each) for each in pages]}


def ingest_sequences(options: Options) -> dict[str, Any]:
    """A file of labelled sequences to a corpus of them in the folder `output`."""
    named = options.named(*(f"{name}_column" for name in COLUMNS))
    columns = {"columns": {name.removesuffix("_column"): value for name, value in named.items()}}
    settings = options.resolved(columns)
    from cluster.store import Store, summary
    from ingest import source_file
    from ingest.corpus_report import beside
    from ingest.letters import ingest_letters
    from ingest.sequence_files import ingest_sequence_files

    reporter, (downloads, checksums) = options.reporter(), places(Store(options.home))
    file = source_file.locate(options.source, downloads, reporter, checksums)
    if options.kind == "letters":
        made = ingest_letters(file, options.output, settings["sequences"], reporter)
    else:
        made = ingest_sequence_files(
            file, options.output, settings["sequences"], settings["columns"], reporter
        )
    options.pictured(beside(made, reporter))
    return {"artefacts": [summary(made)]}


def names_wiki(source: str) -> bool:
    """Whether a source is a wiki of the dump site; raises UsageError for one of a date that can be none."""
    from ingest.dump_site import named

    return named(source) is not None


def places(store: Store) -> tuple[str, str]:
    """Where downloads go and where the checksums of dumps are remembered: on this machine's disk."""
    from cluster.folder import Folder

    base = store.folder if store.folder.is_local else Folder(HOME)
    downloads = base.child("downloads")
    return downloads.location, downloads.child("checksums.json").location
