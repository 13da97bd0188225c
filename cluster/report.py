"""A report: one HTML page that says in figures and pictures what an artefact is and how it was made.

It is a *view*: made of the artefact's own files, so that ``wordloom report`` can make it again at any time,
and not among the files of the manifest. So its timings and pictures belong to no identity and no hash, and
what is promised of an artefact's bytes holds with it and without it.

The page is one file for light and dark and for paper. It names no address, and its policy forbids the browser
to load anything or to run a script, whatever the data hold; everything that is shown is escaped.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cluster import picture
from cluster.artefact import Artefact, Manifest, output_file
from cluster.errors import WordloomError
from cluster.folder import Folder, reason
from cluster.progress import duration, quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "report.html"
PICTURES = "pictures"  # the folder of those that are not among the artefact's own files
VIEWS = (FILE, PICTURES)
LISTED = 200  # files that are named

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --dim: #5c6167; --rule: #d8dbdf;
  --bar: #3b7ab8; --better: #14713a; --worse: #a83216; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e8; --paper: #17191c; --dim: #a3a9b0;
  --rule: #3a3e43; --bar: #5b9bd8; --better: #6fce93; --worse: #f0957d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 66rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.lead, figcaption, caption { color: var(--dim); text-align: left; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figure svg text { fill: currentColor; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; overflow-wrap: break-word; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.better { color: var(--better); } td.worse { color: var(--worse); }
td.bar { width: 40%; min-width: 8rem; } td.bar span { display: block; height: .9rem; margin-top: .3rem;
  background: var(--bar); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--rule);
  padding-left: .8rem; }
summary { cursor: pointer; }
"""
# The browser loads nothing and runs nothing, whatever stands in the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Report:
    """A page that grows from top to bottom: each method adds what it is named after.

    Every text and value is given as it is; the page escapes it. `pictures` are the figures by name.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.pictures: dict[str, Figure] = {}
        self._parts = [f"<h1>{_safe(title)}</h1>"]
        if lead:
            self._parts.append(f'<p class="lead">{_safe(lead)}</p>')

    def section(self, title: str) -> None:
        self._parts.append(f"<h2>{_safe(title)}</h2>")

    def text(self, words: str) -> None:
        self._parts.append(f"<p>{_safe(words)}</p>")

    def quote(self, caption: str, words: str) -> None:
        """Text whose line ends count, as a model wrote it."""
        self._parts.append(f"<p>{_safe(caption)}</p><pre>{_safe(words)}</pre>")

    def facts(self, values: Mapping[str, Any]) -> None:
        """A name and its value a row."""
        self._parts.append(_rows(values))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> None:
        """Numbers stand to the right; a `Difference` is coloured."""
        listed = [list(row) for row in rows]
        kinds = [any(_numeric(row[place]) for row in listed) for place in range(len(columns))]
        head = "".join(
            f'<th scope="col"{_class("number" if right else "")}>{_safe(name)}</th>' if name else "<td></td>"
            for name, right in zip(columns, kinds, strict=True)
        )
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in listed)
        named = caption or ", ".join(columns)
        said = f"<caption>{_safe(caption)}</caption>" if caption else ""
        self._parts.append(
            f'<div class="wide" tabindex="0" role="group" aria-label="{_safe(named)}">'
            f"<table>{said}<thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
        )

    def bars(self, rows: Iterable[tuple[str, float, str]]) -> None:
        """A bar a row: its name, its length against the longest, and the words at its end."""
        listed = list(rows)
        longest = max((value for _, value, _ in listed), default=0.0) or 1.0
        body = "".join(
            f'<tr><th scope="row">{_safe(name)}</th><td class="number">{_safe(words)}</td>'
            f'<td class="bar"><span style="width:{100 * max(value, 0.0) / longest:.2f}%"></span></td></tr>'
            for name, value, words in listed
        )
        self._parts.append(f'<div class="wide"><table>{body}</table></div>')

    def picture(self, name: str, drawn: Figure, words: str) -> None:
        """A figure; `words` stand below it, and for those who do not see it in its place."""
        self.pictures[name] = drawn
        caption = f"<figcaption>{_safe(words)}</figcaption>"
        self._parts.append(f"<figure>{picture.svg(drawn, name, words)}{caption}</figure>")

    def folded(self, title: str, values: Mapping[str, Any]) -> None:
        """Facts that few want to see: they open with a click."""
        self._parts.append(f"<details><summary>{_safe(title)}</summary>{_rows(values)}</details>")

    def html(self) -> str:
        """The whole page."""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_safe(POLICY)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_safe(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(self._parts)
            + "\n</main>\n</body>\n</html>\n"
        )

    def save(self, path: str) -> str:
        """Writes the page alone to a file, whole or not at all; its path. Raises WordloomError where that
        cannot be."""
        place = output_file(path)
        try:
            Folder(place.parent).write(place.name, self.html().encode())
        except OSError as error:
            raise WordloomError(f"Cannot write {path!r} ({reason(error)}); check --output.") from error
        return path

    def write(self, artefact: Artefact) -> str:
        """Puts the page, and a PNG of each picture that the artefact does not hold itself, beside the
        artefact's files, in place of earlier ones; its address."""
        artefact.folder.write(FILE, self.html().encode())
        for name, drawn in self.pictures.items():
            if f"{name}.png" not in artefact.manifest.files:
                artefact.folder.write(f"{PICTURES}/{name}.png", picture.png(drawn))
        return f"{artefact.location}/{FILE}"


class Difference(str):
    """How far one figure is from another, with its sign; `better` is None where neither is."""

    better: bool | None

    def __new__(cls, words: str, better: bool | None = None) -> Difference:
        made = super().__new__(cls, words)
        made.better = better
        return made


# What each kind of artefact adds to its report, between the head and the end that all have.
Kinds = Mapping[str, Callable[[Report, Artefact], None]]


def made(artefact: Artefact, kinds: Kinds) -> Report:
    """The report of an artefact. Raises WordloomError where one of its files is damaged."""
    page = _begun(artefact)
    if artefact.kind in kinds:
        try:
            kinds[artefact.kind](page, artefact)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WordloomError(
                f"No report of {artefact.location!r}: a file in it is damaged ({error!r}); "
                "delete the folder and run the command that made it again."
            ) from error
    _end(page, artefact)
    return page


def attempt(artefact: Artefact, kinds: Kinds) -> str | None:
    """Writes the report beside what was just published; a sentence where that failed, for what took hours to
    make is not lost to a picture."""
    try:
        made(artefact, kinds).write(artefact)
    except Exception as error:
        return f"! No report stands beside {artefact.location} ({error}); `wordloom report` tries again."
    return None


def _begun(artefact: Artefact) -> Report:
    """What every kind has at its head: what it is, since when, its figures."""
    manifest = artefact.manifest
    made = manifest.made
    took = f", made in {duration(float(made['seconds']))}" if "seconds" in made else ""
    lead = f"{manifest.identity[:16]} · {quantity(artefact.bytes, 'B')} · {made.get('at', '')}{took}"
    report = Report(title_of(manifest), lead)
    if manifest.counts.get("synthetic"):
        report.text(
            "What it is made of is synthetic: a program wrote it. Its figures say nothing of real data."
        )
    report.facts({name.replace("_", " "): value for name, value in figures(manifest).items()})
    return report


def _end(report: Report, artefact: Artefact) -> None:
    """What every kind has at its end: where the time went, what it was made from, settings, files."""
    manifest = artefact.manifest
    phases: Mapping[str, float] = manifest.made.get("phases", {})
    if phases:
        report.section("Where the time went")
        whole = sum(phases.values()) or 1.0
        report.bars(
            (name, seconds, f"{duration(seconds)} ({seconds / whole:.0%})")
            for name, seconds in phases.items()
        )
    report.section("Where it comes from")
    if manifest.inputs:
        report.table(
            ("made from", "kind", "identity", "where it lay"),
            [[name, each.kind, each.identity[:16], each.location] for name, each in manifest.inputs.items()],
        )
    else:
        report.text("Of its settings alone.")
    report.folded("Settings", manifest.settings)
    shown = itertools.islice(manifest.files.items(), LISTED)
    more = f", the first {LISTED} of {len(manifest.files):,}" if len(manifest.files) > LISTED else ""
    report.folded(f"Files{more}", {name: quantity(record.bytes, "B") for name, record in shown})
    told = {name: value for name, value in manifest.made.items() if name not in ("phases", "speed")}
    report.folded("How it was made", told)


def title_of(manifest: Manifest) -> str:
    return manifest.kind.replace("-", " ").capitalize()


def figures(manifest: Manifest) -> dict[str, Any]:
    """The counts that are single figures or words."""
    return {name: value for name, value in manifest.counts.items() if isinstance(value, int | float | str)}


def said(value: Any) -> str:
    """A value for a person: thousands apart, four digits of what is no count."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        whole = math.isfinite(value) and value == int(value) and abs(value) >= 1
        return f"{value:,.0f}" if whole else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value))
    return str(value)


def remove(folder: Folder) -> None:
    """Takes the views out of a folder."""
    for name in VIEWS:
        folder.delete(name)


def _safe(words: object) -> str:
    return html.escape(str(words))


def _rows(values: Mapping[str, Any]) -> str:
    rows = (f'<tr><th scope="row">{_safe(name)}</th>{_cell(value)}</tr>' for name, value in values.items())
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float | Difference) and not isinstance(value, bool)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _cell(value: Any) -> str:
    names = ["number"] if _numeric(value) else []
    if isinstance(value, Difference) and value.better is not None:
        names.append("better" if value.better else "worse")
    return f"<td{_class(' '.join(names))}>{_safe(said(value))}</td>"
