"""Progress: what a person reads in a log is true and short."""

from __future__ import annotations

import io
import shlex
import shutil
import sys

import pytest
from rich.console import Console

from cluster.progress import Reporter, counted, duration, quantity, shell_command, state


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (12_345_678, "B", "12.3 MB"),
        (999, "B", "999 B"),
        (1_234_567, "words", "1.2M words"),
        (37, "pages", "37 pages"),
        (0.5, "", "0.5"),
        (12_345, "", "12.3k"),
    ],
)
def test_a_quantity_is_short(value: float, unit: str, words: str) -> None:
    assert quantity(value, unit) == words


def test_a_duration_is_short() -> None:
    assert [duration(3.14), duration(125), duration(15_000)] == ["3.1 s", "2 min 5 s", "4 h 10 min"]


def test_one_is_no_plural() -> None:
    assert [counted(number, "shard") for number in (0, 1, 2_004)] == ["0 shards", "1 shard", "2,004 shards"]


def test_a_state_says_how_much_is_left() -> None:
    assert state(50, 200, "pages", 10, 5) == "50 of 200 pages (25%), 10/s, 15.0 s left"
    assert state(0, None, "", 0, 13.7) == "13.7 s so far"


def test_a_stage_that_ends_well_leaves_one_line_and_one_that_fails_none() -> None:
    log = io.StringIO()
    with Reporter(stream=log).stage("ingest", total=10, unit="B") as stage:
        stage.advance(10, rows=3)
        stage.summary("3 pages")
    assert log.getvalue().startswith("✓ ingest: 3 pages in ")
    log = io.StringIO()
    with pytest.raises(ZeroDivisionError), Reporter(stream=log).stage("ingest"):
        raise ZeroDivisionError
    assert log.getvalue() == ""


def test_a_bar_stays_on_one_line_of_a_narrow_terminal() -> None:
    shown = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    bar = Reporter(stream=io.StringIO()).progress()
    note = "epoch 3, loss 2.345, held out 2.456"
    bar.add_task("language model", total=12e6, completed=4e6, unit="characters", note=note)
    (line,) = [line for line in shown.render_lines(bar, pad=False) if line]
    said = "".join(segment.text for segment in line)
    assert "4.0M of 12.0M characters (33%)" in said and len(said) <= 80


def test_quiet_says_nothing() -> None:
    log = io.StringIO()
    reporter = Reporter(quiet=True, stream=log)
    with reporter.stage("ingest") as stage:
        stage.advance(1)
    reporter.say("x")
    assert log.getvalue() == ""


def test_a_command_that_is_named_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", __file__)  # beside it lies no program
    assert shell_command("status", "--home", "s3://b/my höme") == "wordloom status --home 's3://b/my höme'"
    words = ["serve", "--models", "it's"]
    assert shlex.split(shell_command(*words)) == ["wordloom", *words]
