"""The front door of Wordloom: the command line and the public names.

``wordloom --help`` (or ``python -m wordloom``) and ``from wordloom import WordVectors``. Everything behind it
is loaded when it is used, so that help comes at once and no import runs backwards. The commands stand with
their stages, in ``commands.py`` of each folder.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cluster.commands
import ingest.commands
import serving.commands
import trainers.commands
from cluster import memory
from cluster.command_line import CommandLine
from cluster.errors import UsageError, WordloomError

if TYPE_CHECKING:
    from ingest.corpus import Corpus

PUBLIC = {
    "Artefact": "cluster.artefact",
    "session": "cluster.session",
    "Corpus": "ingest.corpus",
    "locate": "ingest.dump",
    "Vocabulary": "ingest.vocabulary",
    "WordVectors": "trainers.vectors",
    "SkipGram": "trainers.skipgram",
    "CharacterLanguageModel": "trainers.language_model",
    "CharacterModel": "trainers.generation",
    "SequenceCorpus": "ingest.sequence_corpus",
    "SequenceClassifier": "trainers.sequence_classifier",
    "SentimentModel": "trainers.sentiment_model",
}
SECTIONS = {**ingest.commands.SECTIONS, **trainers.commands.SECTIONS, **serving.commands.SECTIONS}
PRESETS = {**ingest.commands.PRESETS, **trainers.commands.PRESETS, **serving.commands.PRESETS}

__all__ = [*PUBLIC, "WordloomError", "ingest_text", "ingest_wikipedia"]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module 'wordloom' has no attribute {name!r}")


def ingest_wikipedia(source: str, output: str, **options: Any) -> Corpus:
    """A MediaWiki dump to shards and a vocabulary, as ``wordloom ingest wikipedia`` makes them.

    `source` and `output` and every keyword are options of that command with the same defaults
    (``namespaces=[0, 14]``, ``workers=2``, ``download=False`` for ``--no-download``); `settings` is a mapping
    of sections, ``{"ingest": {"tokeniser": "reference"}}``. Works within ``session()``, else with a Ray of
    its own. Raises WordloomError with the value and the mend, and TypeError for a keyword that is no option.
    """
    return _ingest_here("wikipedia", source, output, options)


def ingest_text(source: str, output: str, **options: Any) -> Corpus:
    """Texts of one's own to shards and a vocabulary, as ``wordloom ingest text`` makes them: see
    `ingest_wikipedia`; ``documents="line"``, ``text_column="content"`` and so on are that command's options.
    """
    return _ingest_here("text", source, output, options)


def _ingest_here(kind: str, source: str, output: str, given: Mapping[str, Any]) -> Corpus:
    from ingest.corpus import Corpus

    line = command_line()
    # With "=", for a name may begin with a dash.
    options = line.parse(["ingest", kind, f"--source={source}", f"--output={output}", "--quiet"])
    keywords, sections = dict(given), given.get("settings") or {}
    keywords.pop("settings", None)
    if not isinstance(sections, Mapping) or not all(isinstance(each, Mapping) for each in sections.values()):
        raise UsageError(f"settings is {sections!r}; give a mapping such as {{'ingest': {{'text': True}}}}.")
    without = ("source", "output", "json", "debug", "dry_run", "set")
    vars(options).update(line.keywords(f"ingest {kind}", keywords, without))
    ingest.commands.ingest(options, sections)
    return Corpus.open(output)


def command_line() -> CommandLine:
    """All commands, in the order in which help names them."""
    line = CommandLine(
        "From a raw Wikipedia dump to served language models, on one laptop or a Ray cluster.",
        SECTIONS,
        PRESETS,
    )
    serving.commands.add_run(line)
    ingest.commands.add(line)
    trainers.commands.add(line)
    serving.commands.add(line)
    cluster.commands.add(line)
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code: 0 done, 1 failed, 2 not meant so, 130 stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What its encoding cannot hold is escaped, as on standard error: no work fails for a letter.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = command_line().parse(arguments)
    # Else TensorFlow takes all of a GPU's memory, and `generate` or `predict` may run beside a training.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    try:
        options.check()
        result = options.command(options)
        if options.json:
            print(json.dumps(result), flush=True)  # in ASCII: JSON on every terminal
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
        if (sentence := memory.ran_out(error)) is not None:
            _complain(sentence)
            return 1
        reason = (str(error).strip().splitlines() or [""])[0]
        _complain(f"Failed with {type(error).__name__}: {reason} (a defect of ours; --debug shows where).")
        return 1
    return 0


def _complain(sentence: str) -> None:
    print(f"wordloom: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
