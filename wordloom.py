"""The front door of Wordloom: the command line and the public names.

``wordloom --help`` (or ``python -m wordloom``) and ``from wordloom import WordVectors``. Everything behind it
is loaded when it is used, so that help comes at once and no import runs backwards.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.progress import Reporter
    from cluster.settings import Sections
    from ingest.corpus import Corpus

PUBLIC = {
    "Artefact": "cluster.artefact",
    "WordloomError": "cluster.errors",
    "session": "cluster.session",
    "Corpus": "ingest.corpus",
    "locate": "ingest.dump",
    "Vocabulary": "ingest.vocabulary",
    "WordVectors": "trainers.vectors",
    "SkipGram": "trainers.skipgram",
    "CharacterLanguageModel": "trainers.language_model",
    "CharacterModel": "trainers.generation",
}
# Each section of the settings and the frozen dataclass that holds it.
SECTIONS = {
    "sample": "ingest.sample:SampleSettings",
    "ingest": "ingest.settings:IngestSettings",
    "text": "ingest.settings:TextSettings",
    "vocabulary": "ingest.settings:VocabularySettings",
    "embeddings": "trainers.embeddings:EmbeddingsSettings",
    "language_model": "trainers.language_settings:LanguageModelSettings",
    "serving": "serving.settings:ServingSettings",
}
# The presets of a section; "fast" is what `wordloom run` takes.
PRESETS = {
    "ingest": "ingest.settings:INGEST_PRESETS",
    "vocabulary": "ingest.settings:VOCABULARY_PRESETS",
    "embeddings": "trainers.embeddings:PRESETS",
    "language_model": "trainers.language_settings:PRESETS",
}
HOME = ".wordloom"
FORMATS = ("word2vec", "word2vec-binary", "glove", "projector")  # as trainers/formats.py has them

__all__ = [*PUBLIC, "ingest_text", "ingest_wikipedia"]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'wordloom' has no attribute {name!r}")


def ingest_wikipedia(source: str, output: str, **options: Any) -> Corpus:
    """A MediaWiki dump to shards and a vocabulary, as ``wordloom ingest wikipedia`` makes them.

    `source` and `output` and every keyword are options of that command with the same defaults
    (``namespaces=[0, 14]``, ``workers=2``, ``download=False`` for ``--no-download``); `settings` is a mapping
    of sections, ``{"ingest": {"tokeniser": "reference"}}``. Works within ``session()``, else with a Ray of
    its own. Raises WordloomError with the value and the mend.
    """
    return _ingest_here("wikipedia", source, output, options)


def ingest_text(source: str, output: str, **options: Any) -> Corpus:
    """Texts of one's own to shards and a vocabulary, as ``wordloom ingest text`` makes them: see
    `ingest_wikipedia`; ``documents="line"``, ``text_column="content"`` and so on are that command's options.
    """
    return _ingest_here("text", source, output, options)


def _ingest_here(kind: str, source: str, output: str, given: Mapping[str, Any]) -> Corpus:
    from cluster.settings import merge
    from ingest.corpus import Corpus

    options = parser().parse_args(["ingest", kind, "--source", str(source), "--output", str(output)])
    options.quiet = True
    sections = given.get("settings", {})
    for name, value in given.items():
        if name == "settings":
            continue
        if not hasattr(options, name) or name in ("command", "source", "output", "json", "debug", "dry_run"):
            raise TypeError(f"ingest_{kind}() got an unexpected keyword argument {name!r}")
        setattr(options, name, value)
    _ingested(options, merge(sections))
    return Corpus.open(output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code: 0 done, 1 failed, 2 not meant so, 130 stopped by Ctrl-C."""
    options = parser().parse_args(arguments)
    from cluster.errors import UsageError, WordloomError

    try:
        result = options.command(options)
        if options.json:
            print(json.dumps(result, ensure_ascii=False), flush=True)
    except KeyboardInterrupt:
        _complain("Stopped. The same command goes on where this one was.")
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except WordloomError as error:
        if options.debug:
            traceback.print_exc()
        _complain(str(error))
        return 2 if isinstance(error, UsageError) else 1
    except Exception as error:
        if options.debug:
            raise
        reason = (str(error).strip().splitlines() or [""])[0]
        _complain(f"Failed with {type(error).__name__}: {reason} (a defect of ours; --debug shows where).")
        return 1
    return 0


def _complain(sentence: str) -> None:
    print(f"wordloom: {sentence}", file=sys.stderr, flush=True)


# The command line


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("everywhere")
    group.add_argument("--settings", metavar="FILE.toml", help="settings, one table a stage")
    group.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting; may be repeated"
    )
    group.add_argument("--json", action="store_true", help="the result as JSON, the last line of output")
    group.add_argument("--quiet", action="store_true", help="no progress, only the result")
    group.add_argument("--debug", action="store_true", help="show where an error came from")
    home = argparse.ArgumentParser(add_help=False)
    home.add_argument(
        "--home", default=HOME, metavar="DIR", help=f"where artefacts lie: a path, s3:// or gs:// ({HOME})"
    )
    ray = argparse.ArgumentParser(add_help=False)
    ray.add_argument(
        "--address", metavar="A", help="a Ray cluster to join (auto, HOST:PORT); without: one of our own"
    )
    ray.add_argument("--workers", type=_positive, metavar="N", help="worker processes (2)", default=2)
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where to train (cpu)")
    web = argparse.ArgumentParser(add_help=False)
    web.add_argument(
        "--no-download",
        dest="download",
        action="store_false",
        help="store nothing: workers read their own ranges over the network",
    )
    web.add_argument(
        "--connections", type=_positive, metavar="N", help="connections to a host over the whole cluster (2)"
    )
    site = argparse.ArgumentParser(add_help=False)
    site.add_argument("--site", metavar="URL", help="the dump site, or a mirror of it")
    serve = argparse.ArgumentParser(add_help=False)
    serve.add_argument("--host", help="the address to listen on (127.0.0.1: this machine alone)")
    serve.add_argument("--port", type=int, help="the port to listen on (8000; 0 takes any free one)")

    top = argparse.ArgumentParser(
        prog="wordloom",
        description="From a raw Wikipedia dump to served language models, on one laptop or a Ray cluster.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        to: Any, name: str, words: str, run: Callable[[argparse.Namespace], Any], *parents: Any
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = to.add_parser(
            name, help=words, description=words, parents=[*parents, common]
        )
        made.set_defaults(command=run)
        return made

    def nested(name: str, words: str) -> Any:
        return commands.add_parser(name, help=words, description=words).add_subparsers(
            title="kinds", metavar="KIND", required=True
        )

    made = add(
        commands, "run", "the whole chain: dump to served answers", _run, home, ray, device, serve, web, site
    )
    made.add_argument(
        "--source",
        metavar="S",
        help="a dump: path, glob, URL or enwiki:latest (without: the embedded sample)",
    )
    made.add_argument("--serve", action="store_true", help="keep serving until Ctrl-C")

    kinds = nested("ingest", "a source to shards and a vocabulary")
    for kind, words, parents in (
        ("wikipedia", "a MediaWiki dump to shards and a vocabulary", (home, ray, web, site)),
        ("text", "texts of your own to shards and a vocabulary", (home, ray, web)),
    ):
        made = add(kinds, kind, words, _ingest, *parents)
        made.set_defaults(kind=kind)
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
        made.add_argument("--preset", choices=("reference", "fast"), default="fast", help="settings (fast)")
        made.add_argument("--tokeniser", choices=("unicode", "reference"), help="how text is cut (unicode)")
        made.add_argument("--language", metavar="xx", help="the language, to be recorded")
        if kind == "wikipedia":
            made.add_argument("--markup", choices=("strip", "keep"), help="wiki markup (strip)")
            made.add_argument(
                "--namespaces", type=_numbers, metavar="N,N", help="pages of which namespaces (0: articles)"
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

    kinds = nested("train", "a model from a corpus")
    for name, words in (
        ("embeddings", "skip-gram word vectors"),
        ("language-model", "a character-level language model that generates text"),
    ):
        made = add(kinds, name, words, _train, ray, device)
        made.set_defaults(kind=name)
        made.add_argument("--corpus", required=True, metavar="DIR", help="an ingested corpus")
        made.add_argument("--output", required=True, metavar="DIR", help="where the model goes")
        made.add_argument("--preset", choices=("reference", "fast"), default="fast", help="settings (fast)")
        if name == "embeddings":
            made.add_argument("--vocabulary", metavar="DIR", help="the vocabulary (CORPUS/vocabulary)")

    made = add(commands, "neighbours", "the words nearest to a word", _neighbours)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    made.add_argument("word", metavar="WORD")
    made.add_argument("-n", type=_positive, default=10, metavar="N", help="how many (10)")

    made = add(commands, "analogy", "what is to C as B is to A: man king woman gives queen", _analogy)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    for each in ("A", "B", "C"):
        made.add_argument(each.lower(), metavar=each)
    made.add_argument("-n", type=_positive, default=10, metavar="N", help="how many (10)")

    kinds = nested("evaluate", "how good a model is")
    made = add(kinds, "vectors", "how word vectors agree with people: similarity, analogies", _evaluate)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    made.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="PATH",
        help="files or folders: judged pairs (WordSim-353, SimLex-999), analogies",
    )

    kinds = nested("export", "a model in files of other tools")
    made = add(kinds, "vectors", "word vectors in a file of another tool", _export)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    made.add_argument(
        "--output", required=True, metavar="FILE", help="the file; for the projector a folder of two"
    )
    made.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=f"its format ({FORMATS[0]})")

    kinds = nested("import", "a model out of files of other tools")
    made = add(kinds, "vectors", "word vectors out of a file of another tool", _import)
    made.add_argument("file", metavar="FILE", help="the file; of the projector its folder")
    made.add_argument("--output", required=True, metavar="DIR", help="where the vectors go")
    made.add_argument("--format", choices=FORMATS, help="its format (without: told by its content)")

    made = add(commands, "generate", "text from a language model", _generate)
    made.add_argument("--model", required=True, metavar="DIR", help="a trained language model")
    made.add_argument("--seed-text", default="", metavar="TEXT", help="how the text begins")
    made.add_argument("--length", type=int, default=200, metavar="N", help="characters to generate (200)")
    made.add_argument("--temperature", type=float, default=0.7, metavar="T", help="0 is the likeliest (0.7)")
    made.add_argument("--top-k", type=int, default=0, metavar="K", help="choose among the K likeliest")
    made.add_argument("--top-p", type=float, default=1.0, metavar="P", help="choose among a share P")
    made.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same text")

    made = add(commands, "serve", "trained models over HTTP", _serve, serve)
    made.add_argument("--models", required=True, metavar="DIR", help="a home, or any folder with models")
    made.add_argument("--address", metavar="A", help="a Ray cluster to join; without: one of our own")

    kinds = nested("models", "which versions are served")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--models", required=True, metavar="DIR", help="what `wordloom serve` was given")
    add(kinds, "list", "all versions, their figures, and which are served", _models_list, folder)
    made = add(kinds, "promote", "serve this version, if it passes its gates", _models_promote, folder)
    made.add_argument("name", metavar="NAME", help="its name, or the beginning of its version")
    made = add(kinds, "rollback", "serve the version that was served before", _models_rollback, folder)
    made.add_argument("kind", metavar="KIND", help="vectors, language-model, ...")

    add(commands, "status", "what exists, from what, how big, how good", _status, home)
    made = add(commands, "doctor", "checks this machine and says what to do", _doctor, home)
    return top


def _numbers(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,14") from None


def _positive(text: str) -> int:
    number = int(text) if text.lstrip("-").isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return number


# What the commands share


def _reporter(options: argparse.Namespace) -> Reporter:
    from cluster.progress import Reporter

    return Reporter(quiet=options.quiet)


def _sections(options: argparse.Namespace) -> Sections:
    """What the settings file and ``--set`` say, checked for unknown sections."""
    from cluster import settings

    return settings.merge(
        settings.read_file(options.settings, SECTIONS) if options.settings else {},
        settings.read_assignments(options.set, SECTIONS),
    )


def resolved(sections: Sections, preset: str = "fast") -> dict[str, Any]:
    """The frozen settings of every stage; a mistake in any of them is found before anything begins."""
    from cluster import settings

    made = {}
    for section, place in SECTIONS.items():
        presets = _named(PRESETS[section]).get(preset, {}) if section in PRESETS else {}
        made[section] = settings.resolve(_named(place), section, presets, sections.get(section, {}))
    return made


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _with_address(sections: Sections, options: argparse.Namespace) -> Sections:
    from cluster import settings

    given = {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}
    return settings.merge(sections, {"serving": given})


# The commands


def _run(options: argparse.Namespace) -> Any:
    settings = resolved(_with_address(_sections(options), options))
    from serving import main_job

    return main_job.run(
        settings,
        source=options.source,
        where=_where(options),
        home=options.home,
        workers=options.workers,
        device=options.device,
        address=options.address,
        stay=options.serve,
        reporter=_reporter(options),
    )


def _ingest(options: argparse.Namespace) -> Any:
    return _ingested(options, _sections(options))


def _ingested(options: argparse.Namespace, sections: Sections) -> Any:
    from cluster import settings as layers

    layers.check_sections(sections, SECTIONS)
    given: dict[str, dict[str, Any]] = {"ingest": {}, "text": {}}
    for section, names in (
        ("ingest", ("tokeniser", "markup", "namespaces", "language")),
        ("text", ("documents", "text_column", "id_column", "title_column")),
    ):
        for name in names:
            if (value := getattr(options, name, None)) is not None:
                given[section][name] = value
    # Text has no wiki markup unless a setting says so.
    plain = {"ingest": {"markup": "keep"}} if options.kind == "text" else {}
    settings = resolved(layers.merge(plain, sections, given), options.preset)
    from serving import main_job

    return main_job.ingest(
        options.kind,
        settings,
        source=options.source,
        where=_where(options),
        output=options.output,
        vocabulary=options.vocabulary or f"{str(options.output).rstrip('/')}/vocabulary",
        home=options.home,
        workers=options.workers,
        address=options.address,
        dry_run=options.dry_run,
        say=(lambda sentence: None) if options.json else print,
        reporter=_reporter(options),
    )


def _where(options: argparse.Namespace) -> dict[str, Any]:
    """How files on web servers are read."""
    given = {name: getattr(options, name, None) for name in ("connections", "site")}
    return {"download": options.download, **{name: value for name, value in given.items() if value}}


def _train(options: argparse.Namespace) -> Any:
    settings = resolved(_sections(options), options.preset)
    from serving import main_job

    return main_job.train(
        options.kind,
        settings,
        corpus=options.corpus,
        vocabulary=getattr(options, "vocabulary", None) or f"{options.corpus.rstrip('/')}/vocabulary",
        output=options.output,
        workers=options.workers,
        device=options.device,
        address=options.address,
        reporter=_reporter(options),
    )


def _neighbours(options: argparse.Namespace) -> Any:
    from trainers.vectors import WordVectors

    found = WordVectors.open(options.vectors).most_similar(options.word, topn=options.n)
    if not options.json:
        for word, similarity in found:
            print(f"{similarity:.3f}  {word}")
    return {"word": options.word, "neighbours": [[word, float(similarity)] for word, similarity in found]}


def _analogy(options: argparse.Namespace) -> Any:
    from trainers.vectors import WordVectors

    words = (options.a, options.b, options.c)
    found = WordVectors.open(options.vectors).analogy(*words, topn=options.n)
    if not options.json:
        for word, similarity in found:
            print(f"{similarity:.3f}  {word}")
    return {"words": words, "answers": [[word, float(similarity)] for word, similarity in found]}


def _evaluate(options: argparse.Namespace) -> Any:
    from trainers.similarity import AMONG, Accuracy, evaluate
    from trainers.vectors import WordVectors

    found, left_out = evaluate(WordVectors.open(options.vectors), options.data)
    rows, said = [], []
    for each in found:
        words = isinstance(each.score, Accuracy)
        figure = each.score.accuracy if isinstance(each.score, Accuracy) else each.score.correlation
        name = "accuracy" if words else "spearman"
        row = {"file": str(each.path), **_scored(name, figure, each.score.found, each.score.asked)}
        rows.append((each.path.name, row))
        if words:
            row["sections"] = {
                part: _scored(name, score.accuracy, score.found, score.asked)
                for part, score in each.sections.items()
            }
            rows += [(f"  {part or '(no heading)'}", inner) for part, inner in row["sections"].items()]
        said.append(row)
    if not options.json:
        width = max(len(title) for title, _ in rows)
        for title, row in rows:
            print(f"{title:<{width}}  {_figure(row)}")
        if any("accuracy" in row for row in said):
            print(f"Questions are asked and answered among the {AMONG:,} commonest words.")
        if left_out:
            print(f"No sets, left out: {', '.join(path.name for path in left_out)}.")
    return {"sets": said, "left_out": [str(path) for path in left_out]}


def _scored(name: str, figure: float, found: int, asked: int) -> dict[str, Any]:
    """A figure as JSON has it: null where there is none."""
    return {name: figure if math.isfinite(figure) else None, "found": found, "asked": asked}


def _figure(row: Mapping[str, Any]) -> str:
    if "accuracy" in row:
        right = row["accuracy"]
        shown = "-" if right is None else f"{right:.1%}"
        return f"right {shown:>6}   {row['found']:,} of {row['asked']:,} questions have vectors"
    shown = "-" if row["spearman"] is None else f"{row['spearman']:.3f}"
    return f"Spearman {shown}   {row['found']:,} of {row['asked']:,} pairs have vectors"


def _export(options: argparse.Namespace) -> Any:
    from trainers import formats
    from trainers.vectors import WordVectors

    vectors = WordVectors.open(options.vectors)
    formats.write(vectors, options.output, options.format)
    if not options.json:
        print(f"{options.output}: {len(vectors):,} words of {vectors.vector_size} numbers, {options.format}.")
    return {
        "output": options.output,
        "format": options.format,
        "words": len(vectors),
        "vector_size": vectors.vector_size,
    }


def _import(options: argparse.Namespace) -> Any:
    from cluster.store import summary
    from trainers import formats

    made = formats.imported(options.file, options.output, options.format)
    read_as, counts = made.manifest.settings["format"], made.counts
    size = f"{counts['words']:,} words of {counts['vector_size']} numbers"
    if not options.json:
        print(f"{options.output}: {size}, read as {read_as}.")
    return {**summary(made), "format": read_as}


def _generate(options: argparse.Namespace) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from trainers.generation import CharacterModel

    pieces: list[str] = []
    if not options.json:
        print(options.seed_text, end="", flush=True)
    for piece in CharacterModel.open(options.model).stream(
        options.seed_text,
        options.length,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    ):
        pieces += piece
        if not options.json:
            print(*piece, end="", flush=True)
    if not options.json:
        print()
    return {"seed_text": options.seed_text, "text": "".join(pieces)}


def _serve(options: argparse.Namespace) -> Any:
    settings = resolved(_with_address(_sections(options), options))
    from serving import main_job

    return main_job.serve(
        settings, models=options.models, address=options.address, reporter=_reporter(options)
    )


def _models_list(options: argparse.Namespace) -> Any:
    from serving.promotion import versions

    listed = versions(options.models)
    if not options.json:
        for each in listed:
            figures = ", ".join(
                f"{name.replace('_', ' ')} {value:.4g}"
                for name, value in each["figures"].items()
                if value is not None
            )
            print(f"{'*' if each['served'] else ' '} {each['name']}  {each['made']}  {figures}".rstrip())
    return {"models": listed}


def _models_promote(options: argparse.Namespace) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from serving.promotion import promote

    model, gates = promote(options.models, options.name)
    if not options.json:
        for gate in gates:
            print(f"✓ {gate.name}: {gate.sentence}")
        print(f"{model.name} is served now; `wordloom models rollback` undoes it.")
    return {"model": model.described(), "gates": [vars(gate) for gate in gates]}


def _models_rollback(options: argparse.Namespace) -> Any:
    from serving.promotion import rollback

    model = rollback(options.models, options.kind)
    if not options.json:
        print(f"{model.name} is served again.")
    return {"model": model.described()}


def _status(options: argparse.Namespace) -> Any:
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


def _doctor(options: argparse.Namespace) -> Any:
    from cluster.doctor import examine
    from cluster.errors import WordloomError

    findings = examine(options.home)
    if not options.json:
        marks = {"ok": "✓", "warning": "!", "failed": "✗"}
        for finding in findings:
            print(f"{marks[finding.state]} {finding.name}: {finding.sentence}")
    failed = [finding.name for finding in findings if finding.state == "failed"]
    if failed:
        raise WordloomError(f"This machine is not ready: see {', '.join(failed)} above.")
    return {"findings": [vars(finding) for finding in findings]}


if __name__ == "__main__":
    sys.exit(main())
