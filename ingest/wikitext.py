"""Docstrings as wiki markup: reStructuredText, numpy's and Google's sections and Markdown in, wikitext out.

Prose is what counts: lines are joined to paragraphs, lists and definitions stay, references become
``<ref>``, and code is left out but for a short example where the caller asks for one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection

_UNDERLINE = re.compile(r"([-=~^\"*#+])\1{2,}\s*$")
_BULLET = re.compile(r"(\s*)([-*+•]|\(?\d{1,2}[.)]|#\.)\s+(?=\S)")
_DIRECTIVE = re.compile(r"\.\.\s+([\w:-]+?)::\s*(.*)")
_FIELD = re.compile(r":(\w+)(?:\s+([^:]*))?:\s*(.*)")
_NOTE = re.compile(r"\.\. \[(#?\w+)\]\s*(.*)")
_TABLE = re.compile(r"=+(\s+=+)+\s*$")
_GRID = re.compile(r"[+|].*[+|]\s*$")
_MARKED = re.compile(r"`+[^`]+`+|\[#?\w+\]_|\(?https?://\S+")
_MARKDOWN = re.compile(r"#{1,6} (\w[^#]*)$")
_GOOGLE = re.compile(r"([A-Z][a-z]+(?: [a-z]+)?):\s*$")
_DEFINED = re.compile(
    r"(`{0,2}\*{0,2}[A-Za-z_][\w.]*`{0,2}(?:,\s*\*{0,2}\w+)*)(?:\s*\(([^)]*)\))?:\s+(?=\S)(.*)"
)
_NUMPY = re.compile(r"(\*{0,2}\w[\w.]*(?:,\s*\*{0,2}\w+)*)\s*(?::\s*(.*))?$")
_PROMPT = re.compile(r"(>>>|\.\.\. |In \[\d+\]:|\$ )")
_CODE_LIKE = re.compile(r"[=(){}\[\]<>_;|\\]|->|--")
_SIGNATURE = re.compile(r"[\w.]+\(.*\)(\s*->.*)?")
_OPENERS = re.compile(r"[*#:;=\s]")
_INLINE = re.compile(
    r"(?P<code>``(?P<code_text>.+?)``)"
    r"|:(?:[\w-]+:)?(?P<role>[\w-]+):`(?P<role_text>[^`]+)`"
    r"|`(?P<label>[^`<]+?)\s*<(?P<target>https?://[^>`\s]+)>`__?"
    r"|`(?P<name>[^`]+)`_?_?"
    r"|\*\*(?P<bold>[^\s*](?:[^*]*[^\s*])?)\*\*"
    r"|(?<![\w*])\*(?P<italic>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])"
    r"|(?<!\w)_(?P<underlined>[A-Za-z][^_\s]*(?: [^_\s]+){0,5})_(?!\w)"
    r"|\[(?P<cited>#?\w+)\]_"
    r"|\[(?P<label2>[^\]\[]+)\]\((?P<target2>https?://[^)\s]+)\)"
    r"|(?P<url>https?://[^\s<>\"'`{}|\[\]]+[\w/])"
    r"|(?P<raw>\[\[|\]\]|\{\{|\}\}|''+|[<&])"
    r"|(?P<escaped>\\[*`_|\\ ])"
)
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
_ADMONITIONS = re.compile("note|warning|important|tip|hint|caution|attention|danger|error|seealso|admonition")
_VERSIONS = {"versionadded": "Version added", "versionchanged": "Version changed", "deprecated": "Deprecated"}
_TABLED = re.compile("raises|except|exceptions")
_RETURNS = re.compile("returns?|yields|receives")  # of which Google's form holds prose, numpy's a definition
_DEFINITIONS = re.compile(
    f"{_TABLED.pattern}|args|arguments|attributes|parameters|keywords?|methods|warns|"
    f"{_RETURNS.pattern}|fields|members"
)
_SECTIONS = re.compile(
    f"{_DEFINITIONS.pattern}|examples?|notes?|usage|references?|warnings?|todo|see|input shape|output shape"
)
_FIELDS = {
    "returns": "Returns",
    "return": "Returns",
    "yields": "Yields",
    "rtype": "",
    "type": "",
    "raises": "Raises",
    "raise": "Raises",
}
EXAMPLE_LINES = 8


class Wikitext:
    """Turns docstrings into blocks of wikitext. `titles` are the pages that links may lead to."""

    def __init__(self, titles: Collection[str]) -> None:
        self._titles = titles

    def convert(self, docstring: str, level: int, *, example: bool = False) -> list[str]:
        """The blocks (paragraphs, lists, headings of `level` and deeper), to be joined by empty lines.

        With `example`, the first code block of at most EXAMPLE_LINES lines is kept; all other code goes.
        """
        document = _Document(self._link, level, example)
        document.read(inspect.cleandoc(docstring).expandtabs().split("\n"))
        return document.blocks

    def _link(self, name: str, label: str) -> str:
        """A link to the page that describes the dotted `name`, or its code where no page does."""
        page = name
        while page:
            if page in self._titles:
                section = name[len(page) + 1 :]
                target = f"{page}#{section}" if section else page
                return f"[[{target}]]" if target == label else f"[[{target}|{label}]]"
            page = page.rpartition(".")[0]
        return code(label)


class _Document:
    """One docstring on its way into wikitext."""

    def __init__(self, link: Callable[[str, str], str], level: int, example: bool) -> None:
        self.blocks: list[str] = []
        self._link = link
        self._level = level
        self._wants_example = example
        self._headings: list[str] = []  # seen, still without content
        self._notes: dict[str, str] = {}

    def read(self, lines: list[str]) -> None:
        self._read(self._without_notes(lines), definitions=False)
        if self._notes:
            self._emit("\n".join(f"* {self._inline(text)}" for text in self._notes.values() if text))

    def _without_notes(self, lines: list[str]) -> list[str]:
        kept: list[str] = []
        at = 0
        while at < len(lines):
            if match := _NOTE.match(lines[at].lstrip()):
                body, at = _below(lines, at + 1, _indent(lines[at]))
                self._notes[match[1]] = _joined([match[2], *body])
            else:
                kept.append(lines[at])
                at += 1
        return kept

    def _emit(self, block: str) -> None:
        if not block.strip():
            return
        self.blocks += self._headings
        self._headings = []
        if block.startswith("* ") and self.blocks and self.blocks[-1].startswith("* "):
            self.blocks[-1] += f"\n{block}"
        else:
            self.blocks.append(block)

    def _heading(self, title: str) -> None:
        marks = "=" * min(self._level, 6)
        self._headings = [f"{marks} {self._inline(title)} {marks}"]

    def _paragraph(self, lines: list[str]) -> None:
        if not lines:
            return
        text = _joined(lines)
        lines.clear()
        if text and not _looks_like_code(text):
            text = self._inline(text)
            # A sign at the line's start would make it a list, a heading or preformatted.
            self._emit(f"<nowiki/>{text}" if _OPENERS.match(text) else text)

    def _example(self, lines: list[str]) -> None:
        kept = [line.rstrip() for line in lines]
        while kept and not kept[-1]:
            kept.pop()
        while kept and not kept[0]:
            kept.pop(0)
        if self._wants_example and 0 < len(kept) <= EXAMPLE_LINES and "</" not in "".join(kept):
            self._wants_example = False
            listing = "\n".join(kept)
            self._emit(f'<syntaxhighlight lang="python">\n{listing}\n</syntaxhighlight>')

    def _read(self, lines: list[str], *, definitions: bool) -> None:
        paragraph: list[str] = []
        at = 0
        while at < len(lines):
            line = lines[at]
            text = line.strip()
            if not text:
                self._paragraph(paragraph)
                at += 1
                continue
            first = text[0]
            indent = _indent(line)
            if at + 1 < len(lines) and not indent and _UNDERLINE.match(lines[at + 1]) and text[:3] != ">>>":
                self._paragraph(paragraph)
                self._heading(text)
                section = text.split()[-1]  # "Other Parameters"
                definitions = _is(_DEFINITIONS, section)
                at += 2
                if _is(_TABLED, section) and (after := self._tabled(lines, at)):
                    at = after
            elif first in ">.I$" and _PROMPT.match(text):
                self._paragraph(paragraph)
                end = at
                while end < len(lines) and lines[end].strip():
                    end += 1
                self._example(_dedented(lines[at:end]))
                at = end
            elif text.startswith(("```", "~~~")):
                self._paragraph(paragraph)
                end = at + 1
                while end < len(lines) and not lines[end].lstrip().startswith(text[:3]):
                    end += 1
                self._example(_dedented(lines[at + 1 : end]))
                at = end + 1
            elif first == "#" and not paragraph and (title := _MARKDOWN.match(text)):
                self._heading(title[1])
                at += 1
            elif first == "." and text.startswith(".. "):
                self._paragraph(paragraph)
                body, at = _below(lines, at + 1, indent)
                self._directive(text, body)
            elif first == ":" and (field := _FIELD.match(text)):
                self._paragraph(paragraph)
                body, at = _below(lines, at + 1, indent)
                self._field(field, body)
            elif not paragraph and _BULLET.match(line):
                at = self._list(lines, at)
            elif first == "=" and _TABLE.match(text):
                self._paragraph(paragraph)
                at = self._table(lines, at)
            elif first in "+|" and _GRID.match(text):
                self._paragraph(paragraph)
                at += 1
            elif not paragraph and (google := _GOOGLE.match(text)) and _is(_SECTIONS, google[1]):
                body, at = _below(lines, at + 1, indent)
                section = google[1]
                self._heading(google[1])
                if not _is(_TABLED, section) or not self._tabled(body, 0):
                    self._read(body, definitions=_is(_DEFINITIONS, section) and not _is(_RETURNS, section))
            elif definitions and not paragraph and not indent and (after := self._definition(lines, at)):
                at = after
            elif indent and not paragraph:
                body, at = _below(lines, at, indent - 1)
                if _looks_like_code(" ".join(body)):
                    self._example(body)
                else:
                    self._read(body, definitions=definitions)
            elif text.endswith("::"):
                paragraph.append(text[:-1] if len(text) > 2 else "")
                self._paragraph(paragraph)
                body, at = _below(lines, at + 1, indent)
                self._example(body)
            else:
                paragraph.append(text)
                at += 1
        self._paragraph(paragraph)

    def _definition(self, lines: list[str], at: int) -> int | None:
        """One parameter with its text as an item of a list; the line after it, None if it is none."""
        if (found := _defined(lines, at)) is None:
            return None
        name, kind, body, after = found
        term = code(name)
        if kind and len(kind) <= 60:
            term += f" (''{self._inline(kind)}'')"
        said = [self._inline(part) for part in _paragraphs(body) if not _looks_like_code(part)]
        marked = [part.startswith("•") for part in said]
        item = " ".join(part for part, mark in zip(said, marked, strict=True) if not mark)
        below = "".join(f"\n** {part[1:].strip()}" for part, mark in zip(said, marked, strict=True) if mark)
        self._emit((f"* {term}: {item}" if item else f"* {term}") + below)
        return after

    def _tabled(self, lines: list[str], at: int) -> int | None:
        """The definitions from line `at` on as a table; the line after them, None where there are none."""
        rows: list[str] = []
        while at < len(lines) and lines[at].strip() and (found := _defined(lines, at)) is not None:
            name, _, body, at = found
            said = " ".join(self._cell(part) for part in _paragraphs(body) if part[0] != "•")
            rows.append(f"|-\n| {code(name)} || {said}")
        if not rows:
            return None
        self._emit("\n".join(['{| class="wikitable"', "! Exception !! When", *rows, "|}"]))
        return at

    def _directive(self, text: str, body: list[str]) -> None:
        match = _DIRECTIVE.match(text)
        if not match:
            return  # a comment or a target
        name, argument = match[1], match[2]
        if _ADMONITIONS.fullmatch(name):
            label = {"seealso": "See also", "admonition": argument or "Note"}.get(name, name.capitalize())
            lead = [argument] if argument and name != "admonition" else []
            parts = [part for part in _paragraphs([*lead, *body]) if not _looks_like_code(part)]
            if parts:
                self._emit(f"'''{label}:''' " + " ".join(self._inline(part) for part in parts))
        elif name in _VERSIONS:
            version, _, rest = argument.partition(" ")
            said = self._inline(_joined([rest, *body]))
            self._emit(f"{{{{{_VERSIONS[name]}|{_plain(version)}}}}} {said}".rstrip())
        elif name == "math":
            formula = _joined([argument, *(line for line in body if not line.startswith(":"))])
            if formula and "</" not in formula:
                self._emit(f": <math>{formula}</math>")
        elif name in ("code-block", "code", "testcode", "sourcecode", "doctest"):
            self._example([line for line in body if not line.startswith(":")])

    def _field(self, field: re.Match[str], body: list[str]) -> None:
        kind, subject, rest = field[1], (field[2] or "").strip(), field[3]
        label = _FIELDS.get(kind)
        if label == "":
            return
        said = self._inline(_joined([rest, *body]))
        name = subject.split()[-1] if subject else ""
        if label:
            self._emit(f"'''{label}''' {code(name)}: {said}" if name else f"'''{label}''' {said}")
        elif name and said:
            self._emit(f"* {code(name)}: {said}")

    def _list(self, lines: list[str], at: int) -> int:
        """A list with its nested lists from line `at` on; returns the line after it."""
        items: list[str] = []
        depths: list[int] = []
        while at < len(lines) and (match := _BULLET.match(lines[at])):
            indent = len(match[1])
            while depths and depths[-1] >= indent:
                depths.pop()
            depths.append(indent)
            mark = "#" if match[2][-1] in ".)" else "*"
            words = [lines[at][match.end() :]]
            at += 1
            while at < len(lines) and lines[at].strip():
                if _BULLET.match(lines[at]) or _indent(lines[at]) < indent:
                    break
                words.append(lines[at])
                at += 1
            ahead = at
            while ahead < len(lines) and not lines[ahead].strip():
                ahead += 1
            if ahead < len(lines) and _BULLET.match(lines[ahead]):
                at = ahead
            text = _joined(words)
            if text and not _looks_like_code(text):
                items.append(f"{mark * min(len(depths), 3)} {self._inline(text)}")
        self._emit("\n".join(items))
        return at

    def _table(self, lines: list[str], at: int) -> int:
        """A simple table, from its upper border on; returns the line after its last border."""
        rows: list[list[str]] = []
        borders = 0
        while at < len(lines) and (lines[at].strip() or borders < 2):
            text = lines[at].strip()
            if _TABLE.match(text):
                borders += 1
            elif text:
                rows.append(re.split(r"\s{2,}", text))
            at += 1
        if borders < 2 or not rows:
            return at
        written = ['{| class="wikitable"', "! " + " !! ".join(map(self._cell, rows[0]))]
        for row in rows[1:]:
            written += ["|-", "| " + " || ".join(map(self._cell, row))]
        self._emit("\n".join([*written, "|}"]))
        return at

    def _cell(self, text: str) -> str:
        return self._inline(text).replace("|", "&#124;") if "[[" not in text else code(text)

    def _inline(self, text: str) -> str:
        return _INLINE.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        kind = match.lastgroup
        if kind in ("raw", "escaped"):
            found = match[0]
            return found[1:] if kind == "escaped" else _ENTITIES.get(found) or f"<nowiki>{found}</nowiki>"
        if match["code"]:
            return code(match["code_text"])
        if match["role"]:
            return self._role(match["role"], match["role_text"])
        if match["target"]:
            return f"[{match['target']} {_plain(match['label'])}]"
        if match["name"]:
            name = match["name"]
            return self._link(name, name) if name.replace(".", "").isidentifier() else code(name)
        if match["bold"]:
            return f"'''{_plain(match['bold'])}'''"
        if italic := match["italic"] or match["underlined"]:
            return f"''{_plain(italic)}''"
        if match["cited"]:
            note = self._notes.pop(match["cited"], "")
            return f"<ref>{_plain(note)}</ref>" if note else ""
        if match["target2"]:
            return f"[{match['target2']} {_plain(match['label2'].strip('`'))}]"
        return match[0]

    def _role(self, role: str, text: str) -> str:
        if role == "math":
            return f"<math>{text}</math>" if "</" not in text else code(text)
        if role in ("pep", "rfc"):
            return f"[[{role.upper()} {_plain(text)}]]"
        label, _, target = text.partition("<")
        if target:
            return self._link(target.rstrip(">").strip(" ~!."), _plain(label.strip()))
        name = text.lstrip("~!.").rstrip("()")
        if not name.replace(".", "").isidentifier():
            return code(text)
        return self._link(name, name.rpartition(".")[2] if text.startswith("~") else name)


def code(text: str) -> str:
    """Inline code, with whatever wiki markup it holds switched off."""
    if any(sign in text for sign in ("[[", "]]", "{{", "}}", "''", "~~~")):
        return f"<code><nowiki>{_entities(text)}</nowiki></code>"
    return f"<code>{_entities(text)}</code>"


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _plain(text: str) -> str:
    """Text that must not be read as markup, inside markup of ours."""
    for sign in ("[[", "]]", "{{", "}}", "''"):
        text = text.replace(sign, " ")
    return _entities(text.replace("`", ""))


def _is(names: re.Pattern[str], title: str) -> bool:
    """Whether a section's title, or its first word, is one of the names."""
    lower = title.lower()
    return bool(names.fullmatch(lower) or names.fullmatch(lower.split()[0]))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def _defined(lines: list[str], at: int) -> tuple[str, str | None, list[str], int] | None:
    """A definition in numpy's or Google's way at line `at`: name, type, text, the line after it."""
    line = lines[at]
    body, after = _below(lines, at + 1, _indent(line))
    if match := _DEFINED.match(line):
        return match[1].strip("`"), match[2], [match[3], *body], after
    if (match := _NUMPY.match(line)) and (body or match[2]):
        return match[1], match[2], body, after
    return None


def _paragraphs(lines: list[str]) -> list[str]:
    """The paragraphs of some lines, each joined, without code; items of lists begin with a ``•``."""
    found: list[str] = []
    words: list[str] = []
    prompted = False
    for line in [*lines, ""]:
        text = line.strip()
        prompted = bool(text) and (prompted or bool(_PROMPT.match(text)))
        bullet = None if prompted else _BULLET.match(text)
        if (not text or prompted or bullet) and words:
            found.append(_joined(words))
            words = []
        if bullet:
            words = ["•", text[bullet.end() :]]
        elif text and not prompted:
            words.append(text)
    return found


def _below(lines: list[str], at: int, indent: int) -> tuple[list[str], int]:
    """The lines from `at` on that are empty or deeper than `indent`, dedented; the line after them."""
    end = at
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > indent):
        end += 1
    return _dedented(lines[at:end]), end


def _dedented(lines: list[str]) -> list[str]:
    least = min((_indent(line) for line in lines if line.strip()), default=0)
    return [line[least:] for line in lines]


def _looks_like_code(text: str) -> bool:
    """Whether a paragraph is more likely code, output or a drawing than a sentence.

    One sign of code in 16 characters parts the two: prose about code has one in 40 to 60.
    """
    text = _MARKED.sub("", text)
    return len(_CODE_LIKE.findall(text)) * 16 > len(text) + 24 or bool(_SIGNATURE.fullmatch(text))
