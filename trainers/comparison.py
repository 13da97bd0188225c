"""Two artefacts of one kind side by side: figures and how far they differ, settings, inputs and making where
they differ, the learning curves in one picture. Made from their files alone, as reports are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import picture
from cluster.artefact import Artefact
from cluster.errors import UsageError
from cluster.progress import duration, quantity
from cluster.report import Difference, Report, figures, said, title_of
from trainers.curves import HELD_OUT, PANEL, History, figures_of
from trainers.model_report import history_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Words in a figure's name by which it is known whether less or more is better; of all others neither is.
LESS = ("loss", "error", "bits", "perplexity")
MORE = ("accuracy", "auc", "f1", "similarity", "correlation", "analog")
COLOURS = ("tab:blue", "tab:orange")


@dataclass(frozen=True)
class Comparison:
    """What differs between two artefacts: rows of name, first, second and, for figures, the difference.

    `inputs` and `settings` have only the rows that differ.
    """

    first: Artefact
    second: Artefact
    figures: list[tuple[str, Any, Any, Difference]]
    settings: list[tuple[str, Any, Any]]
    inputs: list[tuple[str, str, str]]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "kind": self.first.kind,
            "first": self.first.identity,
            "second": self.second.identity,
            "figures": {name: {"first": one, "second": two} for name, one, two, _ in self.figures},
            "settings": {name: {"first": one, "second": two} for name, one, two in self.settings},
            "inputs": {name: {"first": one, "second": two} for name, one, two in self.inputs},
        }

    def tables(self) -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
        """What a person reads: title, columns and rows of each table that has rows."""
        one, two = (artefact.identity[:12] for artefact in (self.first, self.second))
        made = [
            ("made", *(str(each.manifest.made.get("at", "-")) for each in self._both)),
            ("seconds", *(duration(each.manifest.made.get("seconds", 0.0)) for each in self._both)),
            ("size", *(quantity(each.bytes, "B") for each in self._both)),
            ("output version", *(each.manifest.output_version for each in self._both)),
        ]
        tables: list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]] = [
            ("Figures", ("", one, two, "difference"), [*self.figures]),
            ("Settings that differ", ("", one, two), [*self.settings]),
            ("Made from others", ("", one, two), [*self.inputs]),
            ("Making", ("", one, two), made),
        ]
        return [table for table in tables if table[2]]

    @property
    def _both(self) -> tuple[Artefact, Artefact]:
        return self.first, self.second

    def report(self) -> Report:
        """The comparison as a page."""
        page = Report(
            f"{title_of(self.first.manifest)}: {self.first.identity[:12]} and {self.second.identity[:12]}",
            f"{self.first.location} and {self.second.location}",
        )
        for title, columns, rows in self.tables():
            page.section(title)
            page.table(columns, rows)
        histories = [(each.identity[:12], history_of(each)[1]) for each in self._both]
        if (drawn := _drawn(histories)) is not None:
            page.section("Learning curves")
            page.picture("curves", drawn, "Figures after each epoch: those of what was held out, if any was.")
        return page


def compare(first: Artefact, second: Artefact) -> Comparison:
    """What differs between two artefacts. Raises UsageError where they are of two kinds."""
    if first.kind != second.kind:
        raise UsageError(
            f"{first.location!r} is of kind {first.kind!r} and {second.location!r} of kind {second.kind!r}; "
            "name two of one kind."
        )
    one, two = figures(first.manifest), figures(second.manifest)
    held = [
        (name.replace("_", " "), one.get(name), two.get(name), difference(name, one.get(name), two.get(name)))
        for name in dict.fromkeys([*one, *two])
    ]
    inputs = [
        {name: given.identity[:16] for name, given in each.manifest.inputs.items()}
        for each in (first, second)
    ]
    return Comparison(
        first,
        second,
        held,
        _differing(first.manifest.settings, second.manifest.settings),
        _differing(*inputs),
    )


def difference(name: str, first: Any, second: Any) -> Difference:
    """How far the second figure is from the first, and whether it is better, as far as its name tells."""
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in (first, second)]
    if not all(numbers):
        return Difference("" if first == second else "differs")
    change = second - first
    share = f" ({change / abs(first):+.1%})" if first else ""
    less = any(word in name for word in LESS)
    known = less or any(word in name for word in MORE)
    better = (change < 0) == less if known else None
    if not change:
        return Difference("0")
    return Difference(f"{'+' if change > 0 else ''}{said(change)}{share}", better)


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The names under which two mappings do not hold the same; None stands for what is not there."""
    return [
        (name, first.get(name), second.get(name))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def _points(history: History) -> dict[str, list[tuple[float, float]]]:
    """Epoch and value of each figure."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for entry, known in zip(history, figures_of(history), strict=True):
        for name, value in known.items():
            points[name].append((entry["epoch"], value))
    return points


def _drawn(histories: Sequence[tuple[str, History]]) -> Figure | None:
    """A panel for every figure that both histories have; None without one."""
    of_each = [_points(history) for _, history in histories]
    names = [name for name in of_each[0] if name in of_each[1]]
    # What was held out says more than what was trained on.
    names = [name for name in names if name.startswith(HELD_OUT) or f"{HELD_OUT}{name}" not in names]
    if not names:
        return None
    made = picture.figure(PANEL[0] * len(names), PANEL[1])
    for axes, name in zip(made.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for (label, _), points, colour in zip(histories, of_each, COLOURS, strict=True):
            axes.plot(*zip(*points[name], strict=True), marker=".", color=colour, label=label)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return made
