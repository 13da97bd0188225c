"""The command line that all stages share: its options, its presets, how settings come together.

Each stage adds its commands in its ``commands.py``: ``add(line)`` gets a `CommandLine`. A command is a
function of the `Options` it was called with; it loads what it needs when it runs, so that help comes at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import UsageError

if TYPE_CHECKING:
    from cluster.artefact import Artefact
    from cluster.progress import Reporter
    from cluster.settings import Sections

HOME = ".wordloom"
PLACES = ("DIR", "FILE", "FILE.toml", "PATH", "S")  # how help calls what is a file or a folder


class CommandLine:
    """The parser of all commands.

    `sections` names each section of the settings with the frozen dataclass that holds it
    (``"module:Class"``), `presets` those sections that have presets, with their mapping of name to values.
    `home`, `ray`, `device`, `web`, `site` and `listen` are options that several commands take: parents
    for `add`.
    """

    def __init__(self, description: str, sections: Mapping[str, str], presets: Mapping[str, str]) -> None:
        self.sections = dict(sections)
        self._presets = dict(presets)
        self.parser = argparse.ArgumentParser(prog="wordloom", description=description)
        self._commands = self.parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        self._nested: dict[str, Any] = {}
        self._added: dict[str, argparse.ArgumentParser] = {}
        self._everywhere = _everywhere()
        self.home = _parent()
        self.home.add_argument(
            "--home",
            default=HOME,
            metavar="DIR",
            help=f"where artefacts lie: a path, s3:// or gs:// ({HOME})",
        )
        self.ray = _parent()
        self.ray.add_argument(
            "--address", metavar="A", help="a Ray cluster to join (auto, HOST:PORT); without: one of our own"
        )
        self.ray.add_argument("--workers", type=positive, metavar="N", help="worker processes (2)", default=2)
        self.device = _parent()
        self.device.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="what trains (cpu)")
        self.web = _parent()
        self.web.add_argument(
            "--no-download",
            dest="download",
            action="store_false",
            help="store nothing: workers read their own ranges over the network",
        )
        self.web.add_argument(
            "--connections",
            type=positive,
            metavar="N",
            help="connections to a host over the whole cluster (2)",
        )
        self.site = _parent()
        self.site.add_argument("--site", metavar="URL", help="the dump site, or a mirror of it")
        self.listen = _parent()
        self.listen.add_argument("--host", help="the address to listen on (127.0.0.1: this machine alone)")
        self.listen.add_argument(
            "--no-page", dest="page", action="store_false", default=None, help="no page to play with at /"
        )
        self.listen.add_argument("--port", type=int, help="the port to listen on (8000; 0: any free one)")

    def add(
        self,
        name: str,
        words: str,
        run: Callable[[Options], Any],
        *parents: argparse.ArgumentParser,
        presets: Sequence[str] = (),
        **defaults: Any,
    ) -> argparse.ArgumentParser:
        """The parser of one command: `name` is ``"status"`` or ``"train embeddings"``, whose first word was
        given to `group`. `run` gets the options and returns what ``--json`` prints; `presets` are those it
        offers, the last one the default; `defaults` are further values that it finds among its options.
        """
        first, _, second = name.partition(" ")
        to = self._nested[first] if second else self._commands
        made: argparse.ArgumentParser = to.add_parser(
            second or first, help=words, description=words, parents=[*parents, self._everywhere]
        )
        if presets:
            made.add_argument(
                "--preset", choices=presets, default=presets[-1], help=f"settings ({presets[-1]})"
            )
        made.set_defaults(command=run, **defaults)
        self._added[name] = made
        return made

    def group(self, name: str, words: str) -> None:
        """A command with kinds of its own: ``train embeddings``, ``train language-model``."""
        if name not in self._nested:
            made = self._commands.add_parser(name, help=words, description=words)
            self._nested[name] = made.add_subparsers(title="kinds", metavar="KIND", required=True)

    def parse(self, arguments: Sequence[str] | None) -> Options:
        """The command that was given. Exits with 2 where none was, and shows what there is."""
        given = sys.argv[1:] if arguments is None else arguments
        if not given:
            self.parser.print_help(sys.stderr)
            self.parser.exit(2)
        return self.parser.parse_args(given, namespace=Options(line=self))

    def places(self) -> dict[str, str]:
        """The options of all commands that name a file or a folder: attribute -> how a person writes it."""
        return {
            each.dest: (each.option_strings or [str(each.metavar)])[0]
            for parser in self._added.values()
            for each in parser._actions
            if each.metavar in PLACES
        }

    def keywords(self, name: str, given: Mapping[str, Any], without: Collection[str]) -> dict[str, Any]:
        """Keywords as values of the options of a command, each by the option's own rules; one that is None is
        left out. Raises TypeError for a keyword that is no option or among `without`, and UsageError for a
        value that the option does not take."""
        parser, found = self._added[name], {}
        options = {each.dest: each for each in parser._actions if each.dest not in (*without, "help")}
        for keyword, value in given.items():
            if keyword not in options:
                raise TypeError(f"{name.replace(' ', '_')}() got an unexpected keyword argument {keyword!r}")
            if value is None:
                continue
            flag, listed = options[keyword].nargs == 0, isinstance(value, list | tuple)
            known = listed or isinstance(value, str | os.PathLike | int | float)
            if not known or isinstance(value, bool) != flag:
                takes = "True or False" if flag else "what the command line takes"
                raise UsageError(f"{keyword} is {value!r}; it takes {takes}.")
            # A list as `numbers` reads it; an empty one of namespaces is all of them.
            text = (",".join(map(str, value)) or "all") if listed else str(value)
            try:
                found[keyword] = value if flag else parser._get_value(options[keyword], text)
                parser._check_value(options[keyword], found[keyword])
            except argparse.ArgumentError as error:
                raise UsageError(f"{keyword} is {value!r}: {error.message}.") from error
        return found

    def resolved(self, sections: Sections, preset: str = "fast") -> dict[str, Any]:
        """The frozen settings of every stage; a mistake in any of them is found before anything begins.
        A section that has no preset of that name takes its defaults."""
        from cluster import settings

        settings.check_sections(sections, self.sections)
        made = {}
        for section, place in self.sections.items():
            presets = _named(self._presets[section]).get(preset, {}) if section in self._presets else {}
            made[section] = settings.resolve(_named(place), section, presets, sections.get(section, {}))
        return made


class Options(argparse.Namespace):
    """What one command was told; the attributes are those of its parser."""

    line: CommandLine

    def given(self) -> Sections:
        """What the settings file and ``--set`` say, checked for unknown sections."""
        from cluster import settings

        known = self.line.sections
        return settings.merge(
            settings.read_file(self.settings, known) if self.settings else {},
            settings.read_assignments(self.set, known),
        )

    def check(self) -> None:
        """Raises UsageError for a mistake in the settings, which a command that takes none would not hear of.
        Those with presets resolve theirs with options of their own over them."""
        if (self.settings or self.set) and not hasattr(self, "preset"):
            self.resolved()

    def resolved(self, *over: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The settings of every stage: the preset, what was `given`, and `over` it."""
        from cluster import settings

        return self.line.resolved(settings.merge(self.given(), *over), getattr(self, "preset", "fast"))

    def named(self, *names: str) -> dict[str, Any]:
        """Those options that were given a value."""
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def listening(self) -> dict[str, dict[str, Any]]:
        """``--host``, ``--port``, ``--no-page`` and ``--profile``, where a command has it, as settings of
        serving."""
        return {"serving": self.named("host", "port", "page", "profile")}

    def where(self) -> dict[str, Any]:
        """How files on web servers are read."""
        return {"download": self.download, **self.named("connections", "site")}

    def reporter(self) -> Reporter:
        from cluster.progress import Reporter

        return Reporter(quiet=self.quiet)

    def show(self, *shown: Any) -> None:
        """Prints tables and trees as the result for a person; with ``--json`` nothing."""
        if not self.json:
            from cluster.progress import show

            show(*shown, stream=sys.stdout)

    def pictured(self, *made: Artefact) -> None:
        """Says where the pages with the pictures of artefacts are."""
        from cluster.report import FILE

        for each in made:
            self.reporter().say(f"  {each.location}/{FILE} has the pictures.")

    def say(self, *lines: str) -> None:
        """Prints the result for a person; with ``--json`` nothing."""
        if not self.json:
            for line in lines:
                print(line)


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    number = int(text) if text.lstrip("-").isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return number


def numbers(text: str) -> list[int]:
    """Whole numbers between commas, for argparse."""
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,14") from None


def _everywhere() -> argparse.ArgumentParser:
    made = _parent()
    group = made.add_argument_group("everywhere")
    group.add_argument("--settings", metavar="FILE.toml", help="settings, one table a stage")
    group.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting; may be repeated"
    )
    group.add_argument("--json", action="store_true", help="the result as JSON, the last line of output")
    group.add_argument("--quiet", action="store_true", help="no progress, only the result")
    group.add_argument("--debug", action="store_true", help="show where an error came from")
    return made


def _parent() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def load_tensorflow() -> None:
    """Imports TensorFlow without the lines that its C++ writes on standard error before any setting counts:
    what it found of processors and GPUs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
