"""The commands of the trainers: a corpus to a model, and what a person asks of it."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.command_line import CommandLine, Options, load_tensorflow, positive

if TYPE_CHECKING:
    from trainers.labelling_settings import LabellingSettings

SECTIONS = {
    "embeddings": "trainers.embeddings:EmbeddingsSettings",
    "language_model": "trainers.language_settings:LanguageModelSettings",
    "sentiment": "trainers.sentiment_settings:SentimentSettings",
    "labelling": "trainers.labelling_settings:LabellingSettings",
}
PRESETS = {
    "embeddings": "trainers.embeddings:PRESETS",
    "language_model": "trainers.language_settings:PRESETS",
    "sentiment": "trainers.sentiment_settings:PRESETS",
    "labelling": "trainers.labelling_settings:PRESETS",
}
WORD_SPLITS = ("random66", "by-word", "by-fold", "given")  # as trainers/labelling_settings.py has them
FORMATS = ("word2vec", "word2vec-binary", "glove", "projector")  # as trainers/formats.py has them


def add(line: CommandLine) -> None:
    line.group("train", "a model from a corpus")
    made = _training(line, "embeddings", "skip-gram word vectors")
    made.add_argument("--vocabulary", metavar="DIR", help="the vocabulary (CORPUS/vocabulary)")
    words = "a character-level language model that generates text"
    _training(line, "language-model", words, ("reference", "best", "fast"))

    made = line.add(
        "train sentiment",
        "a classifier of reviews, or of other texts with one label each",
        train_sentiment,
        line.ray,
        line.device,
        presets=("reference", "best", "fast"),
    )
    made.add_argument("--corpus", required=True, metavar="DIR", help="ingested reviews or sequences")
    made.add_argument(
        "--vectors", metavar="DIR", help="word vectors, trained or imported (without: learned with the rest)"
    )
    made.add_argument(
        "--teacher", metavar="DIR", help="a sentiment model that judges the unlabelled reviews, to learn more"
    )
    made.add_argument("--output", required=True, metavar="DIR", help="where the model goes")

    made = line.add(
        "train labelling",
        "a label for every frame of a sequence, as of a handwritten word's letters",
        labelling,
        line.ray,
        line.device,
        presets=("reference", "best", "fast"),
    )
    made.add_argument("--corpus", required=True, metavar="DIR", help="an ingested corpus of sequences")
    made.add_argument("--output", required=True, metavar="DIR", help="where the model goes")
    made.add_argument("--split", choices=WORD_SPLITS, help="what is tested on (random66)")
    made.add_argument("--fold", type=int, metavar="N", help="one fold of the split (all, in OUTPUT/fold-N)")

    made = line.add("neighbours", "the words nearest to a word", neighbours)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    made.add_argument("word", metavar="WORD")
    made.add_argument("-n", type=positive, default=10, metavar="N", help="how many (10)")

    made = line.add("analogy", "what is to C as B is to A: man king woman gives queen", analogy)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    for each in ("A", "B", "C"):
        made.add_argument(each.lower(), metavar=each)
    made.add_argument("-n", type=positive, default=10, metavar="N", help="how many (10)")

    line.group("predict", "what a model makes of a file")
    made = line.add("predict sentiment", "a file of reviews to a file of judgements", predict_sentiment)
    made.add_argument("--model", required=True, metavar="DIR", help="a trained sentiment model")
    made.add_argument("--input", required=True, metavar="FILE", help="id<TAB>review a line, as testData.tsv")
    made.add_argument("--output", required=True, metavar="FILE", help="id,sentiment as CSV")
    made.add_argument(
        "--probabilities", action="store_true", help="the probability of a positive review in place of 1 or 0"
    )

    line.group("evaluate", "how good a model is")
    made = line.add("evaluate vectors", "how word vectors agree with people: similarity, analogies", evaluate)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    made.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="PATH",
        help="files or folders: judged pairs (WordSim-353, SimLex-999), analogies",
    )

    line.group("export", "a model in files of other tools")
    made = line.add("export vectors", "word vectors in a file of another tool", export)
    made.add_argument("--vectors", required=True, metavar="DIR", help="trained vectors")
    made.add_argument(
        "--output", required=True, metavar="FILE", help="the file; for the projector a folder of two"
    )
    made.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=f"its format ({FORMATS[0]})")

    line.group("import", "a model out of files of other tools")
    made = line.add("import vectors", "word vectors out of a file of another tool", import_)
    made.add_argument("file", metavar="FILE", help="the file; of the projector its folder")
    made.add_argument("--output", required=True, metavar="DIR", help="where the vectors go")
    made.add_argument("--format", choices=FORMATS, help="its format (without: told by its content)")

    made = line.add("generate", "text from a language model", generate)
    made.add_argument("--model", required=True, metavar="DIR", help="a trained language model")
    made.add_argument("--seed-text", default="", metavar="TEXT", help="how the text begins")
    made.add_argument("--length", type=int, default=200, metavar="N", help="characters to generate (200)")
    made.add_argument("--temperature", type=float, default=0.7, metavar="T", help="0 is the likeliest (0.7)")
    made.add_argument("--top-k", type=int, default=0, metavar="K", help="choose among the K likeliest")
    made.add_argument("--top-p", type=float, default=1.0, metavar="P", help="choose among a share P")
    made.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same text")
    made.add_argument("--count", type=positive, default=1, metavar="N", help="how many texts (1)")

    made = line.add("score", "how likely a language model finds a text: bits a character", score)
    made.add_argument("--model", required=True, metavar="DIR", help="a trained language model")
    given = made.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="TEXT", help="the text")
    given.add_argument("--input", metavar="FILE", help="a file of UTF-8 that holds it (-: standard input)")
    made.add_argument("--each", action="store_true", help="every character's log-probability, too")


def _training(
    line: CommandLine, kind: str, words: str, presets: Sequence[str] = ("reference", "fast")
) -> Any:
    made = line.add(f"train {kind}", words, train, line.ray, line.device, presets=presets, kind=kind)
    made.add_argument("--corpus", required=True, metavar="DIR", help="an ingested corpus")
    made.add_argument("--output", required=True, metavar="DIR", help="where the model goes")
    return made


def train(options: Options) -> dict[str, Any]:
    """One model of a corpus, in the folder `output`."""
    settings = options.resolved()
    from cluster.artefact import Artefact
    from cluster.errors import UsageError
    from cluster.folder import Folder
    from cluster.session import cores, session
    from cluster.store import summary
    from ingest.corpus import KIND as CORPUS
    from ingest.sequence_corpus import KIND as SEQUENCES
    from ingest.vocabulary import KIND as VOCABULARY

    corpus = Artefact.open(options.corpus)
    if corpus.kind != SEQUENCES or options.kind != "embeddings":
        corpus = Artefact.open(options.corpus, CORPUS)
    words = None
    if options.kind == "embeddings":
        place = options.vocabulary or f"{options.corpus.rstrip('/')}/vocabulary"
        if not (options.vocabulary or Folder(place).exists()):  # as of `run`, and of sequences of one's own
            raise UsageError(
                f"{options.corpus!r} has no vocabulary below it; name one in --vocabulary, of this text "
                "or of another in its language."
            )
        words = Artefact.open(place, VOCABULARY)
    from trainers import jobs
    from trainers.launch import train_all

    if words is not None:
        job = jobs.embeddings(corpus, words, options.output, settings["embeddings"])
    else:
        job = jobs.language_model(corpus, options.output, settings["language_model"])
    reporter = options.reporter()
    if (there := job.reused(reporter)) is not None:
        return {"artefacts": [summary(there)]}
    with session(options.address, cpus=cores(options.workers), home=job.draft.location):
        (made,) = train_all([job], options.workers, options.device, reporter)
    options.pictured(made)
    return {"artefacts": [summary(made)]}


def train_sentiment(options: Options) -> dict[str, Any]:
    """A classifier of labelled sequences of words, in the folder `output`."""
    settings = options.resolved()
    from cluster.artefact import Artefact
    from cluster.session import cores, session
    from cluster.store import summary
    from ingest.sequence_corpus import KIND as SEQUENCES
    from trainers import jobs
    from trainers.launch import train_all

    corpus = Artefact.open(options.corpus, SEQUENCES)
    vectors = Artefact.open(options.vectors, jobs.VECTORS) if options.vectors else None
    teacher = Artefact.open(options.teacher, jobs.SENTIMENT) if options.teacher else None
    job = jobs.sentiment(corpus, vectors, options.output, settings["sentiment"], teacher)
    reporter = options.reporter()
    made = job.reused(reporter)
    if made is None:
        with session(options.address, cpus=cores(options.workers), home=options.output):
            (made,) = train_all([job], options.workers, options.device, reporter)
    counts = made.counts
    if "accuracy" in counts:
        base = counts["baseline_accuracy"]
        beside = "" if base is None else f"; NB-SVM {base:.2%}"
        options.say(f"accuracy {counts['accuracy']:.2%} on {counts['measured_on']}{beside}")
    options.pictured(made)
    return {"artefacts": [summary(made)]}


def predict_sentiment(options: Options) -> dict[str, Any]:
    load_tensorflow()
    from trainers.competition import predict_file
    from trainers.sentiment_model import SentimentModel

    model = SentimentModel.open(options.model)
    reporter = options.reporter()
    with reporter.stage("reviews", unit="reviews") as stage:
        table, positive = predict_file(model, options.input, options.output, options.probabilities, stage)
        stage.summary(f"{table.rows:,} reviews, {positive:,} of them positive")
    if table.dropped:
        reporter.say(f"{table.dropped:,} lines left out: {'; '.join(table.malformed)}")
    options.say(f"{options.output}: {table.rows:,} reviews, {positive:,} of them positive.")
    return {
        "output": str(options.output),
        "reviews": table.rows,
        "positive": positive,
        "dropped": table.dropped,
        "malformed": table.malformed,
        "synthetic": model.synthetic,
    }


def labelling(options: Options) -> dict[str, Any]:
    """A labeller in the folder `output`; where the split has folds and none is given, one a fold in folders
    below it."""
    settings = of_split(options)
    from cluster.artefact import Artefact
    from cluster.session import cores, session
    from cluster.store import summary
    from ingest.sequence_corpus import KIND as SEQUENCES
    from ingest.sequence_corpus import SequenceCorpus
    from trainers import jobs
    from trainers.labelled_sequences import folds_of
    from trainers.launch import train_all
    from trainers.word_splits import check_fold

    corpus = Artefact.open(options.corpus, SEQUENCES)
    folds: Sequence[int] = folds_of(SequenceCorpus(corpus), settings.split)
    if options.fold is not None or "fold" in options.given().get("labelling", {}):
        check_fold(settings.fold, len(folds))
        folds = [settings.fold]
    planned = []
    for fold in folds:
        place = options.output if len(folds) == 1 else f"{str(options.output).rstrip('/')}/fold-{fold}"
        planned.append(jobs.labelling(corpus, place, dataclasses.replace(settings, fold=fold)))
    reporter = options.reporter()
    made = [there for job in planned if (there := job.reused(reporter)) is not None]
    if len(made) < len(planned):
        with session(options.address, cpus=cores(options.workers), home=options.output):
            made = train_all(planned, options.workers, options.device, reporter)
    figures = {
        name: [each.counts[name] for each in made]
        for name in ("letter_error", "word_letter_error", "word_error")
    }
    for name, words in (
        ("letter_error", "letters wrong, of all letters"),
        ("word_letter_error", "letters wrong, mean over words"),
        ("word_error", "words with a wrong letter"),
    ):
        found = figures[name]
        several = f" (mean of {len(found)} folds; worst {max(found):.2%})" if len(found) > 1 else ""
        options.say(f"{words}: {sum(found) / len(found):.2%}{several}")
    options.pictured(*made)
    return {
        "artefacts": [summary(each) for each in made],
        "split": settings.split,
        **{name: {"mean": sum(found) / len(found), "worst": max(found)} for name, found in figures.items()},
    }


def of_split(options: Options) -> LabellingSettings:
    """The settings of a labeller: those of the preset for its split, where there is one."""
    from cluster.settings import merge
    from trainers.labelling_settings import PRESETS as KNOWN

    given = merge(options.given(), {"labelling": options.named("split", "fold")})
    made: LabellingSettings = options.line.resolved(given, options.preset)["labelling"]
    preset = f"{options.preset}-{made.split}"
    if preset in KNOWN:
        made = options.line.resolved(given, preset)["labelling"]
    return made


def neighbours(options: Options) -> dict[str, Any]:
    from trainers.vectors import WordVectors

    found = WordVectors.open(options.vectors).most_similar(options.word, topn=options.n)
    options.say(*(f"{similarity:.3f}  {word}" for word, similarity in found))
    return {"word": options.word, "neighbours": [[word, float(similarity)] for word, similarity in found]}


def analogy(options: Options) -> dict[str, Any]:
    from trainers.vectors import WordVectors

    words = (options.a, options.b, options.c)
    found = WordVectors.open(options.vectors).analogy(*words, topn=options.n)
    options.say(*(f"{similarity:.3f}  {word}" for word, similarity in found))
    return {"words": words, "answers": [[word, float(similarity)] for word, similarity in found]}


def evaluate(options: Options) -> dict[str, Any]:
    from trainers.similarity import AMONG, Accuracy
    from trainers.similarity import evaluate as evaluated
    from trainers.vectors import WordVectors

    found, left_out = evaluated(WordVectors.open(options.vectors), options.data)
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
    width = max(len(title) for title, _ in rows)
    options.say(*(f"{title:<{width}}  {_figure(row)}" for title, row in rows))
    if any("accuracy" in row for row in said):
        options.say(f"Questions are asked and answered among the {AMONG:,} commonest words.")
    if left_out:
        options.say(f"No sets, left out: {', '.join(path.name for path in left_out)}.")
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


def export(options: Options) -> dict[str, Any]:
    from trainers import formats
    from trainers.vectors import WordVectors

    vectors = WordVectors.open(options.vectors)
    formats.write(vectors, options.output, options.format)
    size = f"{len(vectors):,} words of {vectors.vector_size} numbers"
    options.say(f"{options.output}: {size}, {options.format}.")
    return {
        "output": options.output,
        "format": options.format,
        "words": len(vectors),
        "vector_size": vectors.vector_size,
    }


def import_(options: Options) -> dict[str, Any]:
    from cluster.store import summary
    from ingest.corpus_report import beside
    from trainers import formats, model_report

    made = formats.imported(options.file, options.output, options.format)
    beside(made, options.reporter(), model_report.KINDS)
    read_as, counts = made.manifest.settings["format"], made.counts
    size = f"{counts['words']:,} words of {counts['vector_size']} numbers"
    options.say(f"{options.output}: {size}, read as {read_as}.")
    options.pictured(made)
    return {**summary(made), "format": read_as}


def generate(options: Options) -> dict[str, Any]:
    """Texts that go on from a seed text: the first one is printed as it is made, the others behind it."""
    load_tensorflow()
    from trainers.generation import CharacterModel

    model = CharacterModel.open(options.model)
    made = model.stream(
        options.seed_text,
        options.length,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        count=options.count,
    )
    unknown = model.alphabet.unknown(options.seed_text)
    _say_unknown(unknown, "the seed text")
    if not options.json:
        print(options.seed_text, end="", flush=True)
    chunks: list[list[str]] = []
    for pieces in made:
        chunks.append(pieces)
        if not options.json:
            print(pieces[0], end="", flush=True)
    texts = ["".join(pieces[number] for pieces in chunks) for number in range(options.count)]
    options.say("", *(f"\n{options.seed_text}{text}" for text in texts[1:]))
    return {"seed_text": options.seed_text, "unknown": unknown, "text": texts[0], "texts": texts}


def score(options: Options) -> dict[str, Any]:
    """What a model thinks of a text that is read from a document's beginning."""
    load_tensorflow()
    from trainers.generation import CharacterModel

    model = CharacterModel.open(options.model)
    text = options.text if options.text is not None else _input(options.input)
    found = model.score(text)
    unknown = model.alphabet.unknown(text)
    _say_unknown(unknown, "the text")
    bits, perplexity = found.bits_per_character, found.perplexity
    each = [[one, float(log)] for one, log in zip(text, found.log_probabilities, strict=True)]
    if options.each:
        options.say(*(f"{log:9.4f}  {one!r}" for one, log in each))
    mean = "" if bits is None else f", {bits:.4f} bits a character, perplexity {perplexity:.4f}"
    options.say(f"{len(text):,} characters, log-probability {found.log_probability:.4f}{mean}.")
    return {
        "characters": len(text),
        "unknown": unknown,
        "log_probability": found.log_probability,
        "bits_per_character": bits,
        "perplexity": perplexity,
        **({"each": each} if options.each else {}),
    }


def _say_unknown(unknown: Mapping[str, int], where: str) -> None:
    if unknown:
        named = ", ".join(f"{one!r} ({count})" for one, count in list(unknown.items())[:5])
        more = ", ..." if len(unknown) > 5 else ""
        print(f"! The model does not know these characters of {where}: {named}{more}.", file=sys.stderr)


def _input(name: str) -> str:
    """The text of a file, byte for byte: line ends are characters like any other."""
    from cluster.errors import UsageError, WordloomError

    try:
        if name != "-":
            return Path(name).read_bytes().decode()
        if sys.stdin is None:
            raise UsageError("The standard input is closed; give --input a file's name, or --text.")
        return sys.stdin.buffer.read().decode()
    except OSError as error:
        raise UsageError(f"Cannot read {name!r} ({error.strerror}); check --input.") from error
    except UnicodeDecodeError as error:
        raise WordloomError(
            f"{name!r} is no UTF-8 ({error.reason} at byte {error.start}); convert it."
        ) from error
