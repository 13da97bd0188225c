"""What a person sees while a stage runs: a bar on a terminal, a line now and then in a log.

A `Reporter` is handed to every stage. ``with reporter.stage("ingest", total=n, unit="B") as stage:``
shows how much is done, the rate and the time left; ``stage.summary("...")`` is the one line that stays.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

WIDTH = 200  # of tables and trees where there is no terminal
LOG_SECONDS = 10.0  # between two lines of one stage where there is no terminal


class Reporter:
    """Where the stages of a run report to: a terminal, a log or (quiet) nobody.

    `stream` is standard error unless given, so that ``--json`` keeps standard output for itself.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self._stream = stream if stream is not None else sys.stderr
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        self.terminal = self._console.is_terminal and not quiet

    def stage(self, name: str, *, total: float | None = None, unit: str = "", rows: str = "rows") -> Stage:
        """A stage that begins now. `unit` ``"B"`` shows kB, MB, GB; any other stands behind the count.
        `rows` is what the stage's rows are called.
        """
        return Stage(self, name, total, unit, rows)

    def say(self, sentence: str) -> None:
        """One line that stays."""
        if not self.quiet:
            self._console.print(Text(sentence))

    def show(self, *shown: RenderableType) -> None:
        """Tables and trees that stay."""
        if not self.quiet:
            show(*shown, stream=self._stream)

    def progress(self) -> Progress:
        return Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _DoneColumn(table_column=Column(no_wrap=True)),
            # What a narrow terminal has no room for is cut: a bar of two lines would leave its first behind.
            TextColumn(
                "{task.fields[note]}",
                style="dim",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=5,
        )


class Stage:
    """One stage of a run; use it as a context manager."""

    def __init__(
        self, reporter: Reporter, name: str, total: float | None, unit: str, row_unit: str = "rows"
    ) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.rows = 0
        self.row_unit = row_unit
        self._before = (0.0, 0)  # units and rows that an earlier run had done
        self.seconds = 0.0
        self._reporter = reporter
        self._note = ""
        self._progress: Progress | None = None
        self._began = time.monotonic()
        self._logged = self._began
        self._summary: str | None = None

    def __enter__(self) -> Stage:
        self._began = self._logged = time.monotonic()
        if self._reporter.terminal:
            self._progress = self._reporter.progress()
            self._task = self._progress.add_task(self.name, total=self.total, note="", unit=self.unit)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.monotonic() - self._began
        if self._progress is not None:
            self._progress.stop()
        if kind is None:
            self._reporter.say(f"✓ {self.name}: {self._summary or self._state()} in {duration(self.seconds)}")

    def resume(self, done: float, rows: int = 0) -> None:
        """`done` units and `rows` rows were done by an earlier run: they count, but for no rate."""
        self._before = (done, rows)
        self.update(done, rows=rows)

    def advance(self, units: float = 0.0, *, rows: int = 0, note: str | None = None) -> None:
        """`units` more are done, with `rows` more rows; `note` replaces what stands at the end."""
        self.update(self.done + units, rows=self.rows + rows, note=note)

    def update(
        self, done: float, *, rows: int | None = None, total: float | None = None, note: str | None = None
    ) -> None:
        """`done` units are done in all."""
        self.done = done
        self.rows = self.rows if rows is None else rows
        self.total = self.total if total is None else total
        self._note = self._note if note is None else note
        words = f"{self._rows()} {self._note}".strip() if self.rows else self._note
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=self.total, note=words)
        elif not self._reporter.quiet and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            self._reporter.say(f"  {self.name}: {self._state()} {words}".rstrip())

    def summary(self, sentence: str) -> None:
        """What stays of the stage once it has ended well."""
        self._summary = sentence

    def _state(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        return state(self.done, self.total, self.unit, (self.done - self._before[0]) / seconds, seconds)

    def _rows(self) -> str:
        rate = (self.rows - self._before[1]) / max(time.monotonic() - self._began, 1e-9)
        return f"{self.rows:,} {self.row_unit}, {quantity(round(rate))}/s"


def show(*shown: RenderableType, stream: TextIO) -> None:
    """Prints tables and trees: in colours and as wide as it is on a terminal, else plain and wide enough for
    paths."""
    console = _Console(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(*shown, sep="\n")


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> Table:
    """A table for a terminal; the columns numbered in `right` hold numbers."""
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        made.add_column(name, justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the program


class _DoneColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        rate = task.speed or (task.completed / elapsed if elapsed else 0.0)
        return Text(state(task.completed, task.total, task.fields["unit"], rate, elapsed))


def state(done: float, total: float | None, unit: str, rate: float, elapsed: float) -> str:
    """How much of how much, at which rate, and the time that is left. A unit of more than a letter is named
    once: a terminal has 80 columns."""
    short = unit if len(unit) == 1 else ""
    words = quantity(done, short if total else unit) if done or total or unit else ""
    if total:
        words += f" of {quantity(total, unit)} ({min(done / total, 1.0):.0%})"
    if rate > 0:
        words += f", {quantity(rate, short)}/s"
        if total and done < total:
            words += f", {duration((total - done) / rate)} left"
    elif elapsed >= 1.0:
        words += f", {duration(elapsed)} so far"
    return words.removeprefix(", ")


def thinned(points: list[list[float]], most: int) -> list[list[float]]:
    """A growing list of which at most `most` points are kept: then it loses every second, never its last."""
    return points if len(points) <= most else points[(len(points) + 1) % 2 :: 2]


def shell_command(*words: str) -> str:
    """A command of ours as a person can paste it into a shell: the program by its name where that is on the
    path, else where it lies."""
    lies = Path(sys.executable).with_name("wordloom")
    here = shutil.which("wordloom") or not lies.exists()
    return shlex.join(["wordloom" if here else nearby(str(lies)), *words])


def nearby(location: str) -> str:
    """A path as it is named from here, where it lies below the working directory."""
    here = f"{Path.cwd().as_posix()}/"
    return location.removeprefix(here)


def quantity(value: float, unit: str = "") -> str:
    """A count with its unit in a few characters: ``12.3 MB``, ``1.2M words``, ``37 pages``."""
    space = "" if unit == "B" else " "
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            size = {"k": 1e3}.get(letter, limit)
            number = f"{value / size:.1f}"
            return f"{number} {letter}{unit}" if unit == "B" else f"{number}{letter}{space}{unit}".rstrip()
    number = f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2g}"
    return f"{number} {unit}".rstrip()


def counted(number: int, noun: str) -> str:
    """``1 shard``, ``2,004 shards``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in a few characters: ``3.1 s``, ``2 min 5 s``, ``4 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
