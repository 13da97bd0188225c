"""Two artefacts side by side: what differs, how far, and whether it is better."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import wordloom
from cluster.artefact import Artefact
from cluster.errors import UsageError
from tests.kept_artefacts import KEPT
from trainers.comparison import compare, difference


def other(folder: Path, change: dict[str, Any], **history: float) -> Artefact:
    """The kept sentiment model with another identity, and what is changed in its manifest and history."""
    made = shutil.copytree(KEPT / "1" / "sentiment", folder / "other")
    manifest = json.loads((made / "manifest.json").read_text())
    for part, values in change.items():
        manifest[part] |= values
    manifest["identity"] = "f" * 64
    (made / "manifest.json").write_text(json.dumps(manifest))
    entries = json.loads((made / "history.json").read_text())
    (made / "history.json").write_text(json.dumps([each | history for each in entries]))
    return Artefact.open(made)


@pytest.mark.parametrize(
    ("name", "first", "second", "words", "better"),
    [
        ("accuracy", 0.8, 0.9, "+0.1 (+12.5%)", True),
        ("held_out_loss", 2.0, 2.5, "+0.5 (+25.0%)", False),
        ("held_out_bits_per_character", 2, 1, "-1 (-50.0%)", True),
        ("words", 100, 150, "+50 (+50.0%)", None),
        ("accuracy", 0.5, 0.5, "0", None),
        ("letter_error", 0.0, 0.1, "+0.1", False),
        ("accuracy", None, 0.5, "differs", None),
        ("measured_on", "test", "test", "", None),
    ],
)
def test_a_difference_has_its_sign_its_share_and_its_side(
    name: str, first: Any, second: Any, words: str, better: bool | None
) -> None:
    found = difference(name, first, second)
    assert (str(found), found.better) == (words, better)


def test_figures_and_the_settings_that_differ_stand_side_by_side(tmp_path: Path) -> None:
    change = {"settings": {"units": 9, "new": True}, "counts": {"accuracy": 0.75}}
    found = compare(Artefact.open(KEPT / "1" / "sentiment"), other(tmp_path, change))
    assert found.settings == [("units", 4, 9), ("new", None, True)]
    (row,) = [row for row in found.figures if row[0] == "accuracy"]
    assert row == ("accuracy", 0.5, 0.75, "+0.25 (+50.0%)") and row[3].better
    assert found.inputs == []


def test_two_kinds_are_not_compared() -> None:
    with pytest.raises(UsageError, match="name two of one kind"):
        compare(Artefact.open(KEPT / "1" / "sentiment"), Artefact.open(KEPT / "1" / "vectors"))


@pytest.mark.parametrize("kind", ["vectors", "corpus", "labelling"])
def test_an_artefact_compared_with_itself_differs_in_nothing(kind: str) -> None:
    found = compare(*(Artefact.open(KEPT / "1" / kind) for _ in range(2)))
    assert all(one == two and row in ("", "0") for _, one, two, row in found.figures)
    assert not found.settings and not found.inputs
    assert ("curves" in found.report().pictures) == (kind != "corpus")


def test_the_page_has_both_curves_in_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = {"settings": {"units": 9}}
    second = other(tmp_path, change, held_out_loss=0.5)
    command = ["compare", str(KEPT / "1" / "sentiment"), second.location, "--output", f"{tmp_path}/page.html"]
    assert wordloom.main(command) == 0
    said = capsys.readouterr().out
    assert "Settings that differ" in said and "units" in said and said.endswith(f"{tmp_path}/page.html\n")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "held out loss" in page and page.count("ffffffffffff") >= 4 and "Settings that differ" in page
    assert wordloom.main([*command[:3], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"units": {"first": 4, "second": 9}}
