"""The commands of ingest: a source to shards and a vocabulary."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.command_line import HOME, CommandLine, Options, numbers

if TYPE_CHECKING:
    from cluster.store import Store

# Each section of the settings and the frozen dataclass that holds it.
SECTIONS = {
    "sample": "ingest.sample:SampleSettings",
    "ingest": "ingest.settings:IngestSettings",
    "text": "ingest.settings:TextSettings",
    "vocabulary": "ingest.settings:VocabularySettings",
}
PRESETS = {
    "ingest": "ingest.settings:INGEST_PRESETS",
    "vocabulary": "ingest.settings:VOCABULARY_PRESETS",
}


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
            found = located(str(copied), {**where, "download": False})
        planned = wikipedia.prepare(found, options.output, settings["ingest"])
        options.say(*planned.sentences())
        return {"plan": planned.to_json()}
    found = located(checksums, where)
    with session(options.address, cpus=cores(options.workers)):
        corpus = wikipedia.ingest(found, options.output, settings["ingest"], reporter, options.workers)
    vocabulary = options.vocabulary or f"{str(options.output).rstrip('/')}/vocabulary"
    cut = cut_vocabulary(Corpus(corpus), vocabulary, settings["vocabulary"], reporter)
    return {"artefacts": [summary(corpus), summary(cut)]}


def places(store: Store) -> tuple[str, str]:
    """Where downloads go and where the checksums of dumps are remembered: on this machine's disk."""
    from cluster.folder import Folder

    base = store.folder if store.folder.is_local else Folder(HOME)
    downloads = base.child("downloads")
    return downloads.location, downloads.child("checksums.json").location
