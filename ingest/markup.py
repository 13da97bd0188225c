"""Wiki markup to plain text, in time linear in the text, however hostile it is.

Kept: prose, the labels of links, the text of headings and lists, the content of ordinary tags, what
``<nowiki>`` protects, and the values of templates that stand for text in a sentence (measures, numbers,
words of other languages, quotations: `VALUES`). Dropped: other templates, tables, references, comments,
files with their captions, formulas and the like (`DROPPED_TAGS`), language links, links to categories;
the names of the categories are handed back.

How it is fast: two scans. The first goes over ``<`` only. The second splits the rest at brackets by one
regular expression, matches the brackets with a stack, and then jumps from an opening bracket that is to
go straight behind its partner. A bracket without a partner is ordinary text, so a forgotten ``}}`` costs
two characters and not the rest of the page. No regular expression here can backtrack over more than a
line or a run of equal characters, and nothing recurses.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


def _words(text: str) -> frozenset[str]:
    return frozenset(word.replace("_", " ") for word in text.split())


# Tags that go with their content (HTML and extension tags of Wikimedia's wikis).
DROPPED_TAGS = _words(
    "categorytree ce chem gallery graph hiero imagemap indicator inputbox languages mapframe maplink math "
    "ref references score section style script templatedata templatestyles timeline"
)
# Tags whose content is not markup.
LITERAL_TAGS = _words("nowiki pre source syntaxhighlight")
# Tags that end a line of text.
BREAKS = _words("blockquote br dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p table td th tr ul")

# Title prefixes of files and categories in lower case: English everywhere, others as their wikis have
# them. A dump names its own ones, which `Stripper` takes too.
FILES = _words(
    """file image media fichier datei bild archivo imagen ficheiro imagem immagine bestand plik файл
    изображение картинка 파일 그림 ファイル 画像 文件 档案 檔案 图像 圖像 图片 ملف صورة پرونده تصویر קובץ
    תמונה चित्र ไฟล์ ภาพ dosya resim tập_tin hình αρχείο εικόνα soubor fil tiedosto kuva fájl kép fișier
    imagine slika датотека зображення berkas gambar dosiero"""
)
CATEGORIES = _words(
    """category catégorie kategorie categoría categoria categorie kategoria категория категорія 분류
    カテゴリ 分类 分類 تصنيف رده קטגוריה श्रेणी หมวดหมู่ kategori κατηγορία thể_loại kategória luokka
    kategorija категорија kategorio"""
)

_TAG = re.compile(r"<(?:(!--)|(/?)([A-Za-z][A-Za-z0-9]*)([^<>]*)>)")
# Tables open and close at the beginning of a line only; ``|}}`` ends a template's empty argument; of
# ``]]]`` the first ends an external link.
_BRACKETS = re.compile(r"(\{\{|\}\}|\[\[|\]\](?!\](?!\]))|\n[ \t:*#;]*\{\||\n[ \t]*\|\}(?!\}))")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z-]{2,12})?|simple")
_EXTERNAL = re.compile(r"\[(?:(?:https?|ftp|irc|news|mailto):|//)[^\s\[\]]*(?:[ \t]+([^\[\]\n]*))?\]")
_HEADING = re.compile(r"\n={1,6}[ \t]*([^\n]*[^=\s])[ \t]*={1,6}[ \t]*(?=\n)")
_LIST = re.compile(r"\n[*#:;]+[ \t]*")
_RULE = re.compile(r"\n-{4,}")
_SWITCH = re.compile(r"__[A-Z]{3,24}__")
_VARIANT = re.compile(r"-\{([^{}\n]{0,200})\}-")
_EMPTY = re.compile(r"\([ \t,;:/–-]*\)")
_PROTECT = {ord(mark): f"&#{ord(mark)};" for mark in "[]{}|'<>=*#:;_-&"}

_MATES = {"}}": "{{", "]]": "[[", "|}": "{|"}
DEPTH = 8  # of templates whose value is kept; a value inside more of them is dropped


@dataclass(frozen=True)
class Stripped:
    """Plain text (paragraphs apart by an empty line) and the names of the page's categories."""

    text: str
    categories: list[str] = field(default_factory=list)


class Stripper:
    """Strips wiki markup. `prefixes` (title prefix -> namespace) are the dump's own; 6 means files and 14
    categories.
    """

    def __init__(self, prefixes: Mapping[str, int] | None = None) -> None:
        given = {name.strip().lower(): number for name, number in (prefixes or {}).items()}
        self._files = FILES | {name for name, number in given.items() if number in (6, -2)}
        self._categories = CATEGORIES | {name for name, number in given.items() if number == 14}

    def strip(self, text: str) -> Stripped:
        """The plain text of a page's wikitext."""
        if "<" in text:
            text = _without_tags(text)
        categories: list[str] = []
        text = self._without_brackets(f"\n{text}\n", categories)
        return Stripped(_tidy(text), categories)

    def _without_brackets(self, text: str, categories: list[str]) -> str:
        pieces = _BRACKETS.split(text)
        if len(pieces) == 1:
            return text
        partners = _partners(pieces)
        last = len(pieces)
        out: list[str] = [pieces[0]]
        frames: list[tuple[int, Callable[[list[str]], str], list[str]]] = []
        place = 1
        while place < last:
            mark = pieces[place]
            partner = partners[place]
            following = pieces[place + 1]
            place += 2
            if partner < 0:
                out += (mark, following)
            elif partner < place - 2:  # a closing bracket whose opening one was kept
                if frames and frames[-1][0] == place - 2:
                    _, value, outer = frames.pop()
                    outer.append(value("".join(out).split("|")))
                    out = outer
                out.append(following)
            elif mark == "[[":
                head, bar, label = following.partition("|")
                if ":" in head and (kind := self.kind(head, bool(bar))):
                    if kind == "category":
                        categories.append(head.partition(":")[2].strip())
                    place = partner + 2
                    out.append(pieces[partner + 1])
                elif partner == place:
                    out.append((label or _pipe_trick(head)) if bar else head.strip().removeprefix(":"))
                else:
                    out.append(label if bar else head)
            elif mark == "{{" and (value_of := _value_of(following)) and len(frames) < DEPTH:
                if partner == place:
                    out += (value_of(following.split("|")), pieces[place + 1])
                    place += 2
                else:
                    frames.append((partner, value_of, out))
                    out = [following]
            else:
                place = partner + 2
                if len(mark) > 2:
                    out.append("\n")  # the line on which the table stood
                out.append(pieces[partner + 1])
        for _, _, outer in reversed(frames):  # cannot be left open by `_partners`; loses no text if so
            out = [*outer, *out]
        return "".join(out)

    def kind(self, head: str, labelled: bool) -> str | None:
        """``file``, ``category``, ``language`` for a link that is no text, None for one that is."""
        prefix = head.partition(":")[0].strip().lower().replace("_", " ")
        if prefix in self._files:
            return "file"
        if prefix in self._categories:
            return "category"
        return "language" if not labelled and _LANGUAGE.fullmatch(prefix) else None


def _without_tags(text: str) -> str:
    """Text without comments and tags; dropped tags with their content; protected content as entities."""
    out: list[str] = []
    position = 0
    unclosed: set[str] = set()  # tags with no closing one further on: looked for only once
    while (found := _TAG.search(text, position)) is not None:
        out.append(text[position : found.start()])
        position = found.end()
        comment, closing, name, rest = found.groups()
        if comment:
            end = text.find("-->", position)
            position = len(text) if end < 0 else end + 3
            if out and out[-1].endswith("\n") and text.startswith("\n", position):
                position += 1  # a comment that has a line of its own takes the line with it
            continue
        name = name.lower()
        if name in BREAKS:
            out.append("\n")
        if closing or rest.endswith("/") or not (name in DROPPED_TAGS or name in LITERAL_TAGS):
            continue
        if name in unclosed:
            continue
        end_tag = _end_tag(name).search(text, position)
        if end_tag is None:
            unclosed.add(name)
            continue
        if name in LITERAL_TAGS:
            content = html.unescape(text[position : end_tag.start()])
            out.append(content.translate(_PROTECT))
        position = end_tag.end()
    out.append(text[position:])
    return "".join(out)


_end_tags: dict[str, re.Pattern[str]] = {}


def _end_tag(name: str) -> re.Pattern[str]:
    if name not in _end_tags:
        _end_tags[name] = re.compile(rf"</{name}[ \t\n]{{0,9}}>", re.IGNORECASE)
    return _end_tags[name]


def _partners(pieces: list[str]) -> list[int]:
    """For each bracket (the odd places of `pieces`) the place of its partner, -1 where it has none."""
    partners = [-1] * len(pieces)
    stack: list[tuple[str, int]] = []
    opened = {"{{": 0, "[[": 0, "{|": 0}
    for place in range(1, len(pieces), 2):
        mark = pieces[place][-2:]
        wanted = _MATES.get(mark)
        if wanted is None:
            stack.append((mark, place))
            opened[mark] += 1
        elif opened[wanted]:
            # What was opened in between and never closed is text.
            while True:
                kind, begin = stack.pop()
                opened[kind] -= 1
                if kind == wanted:
                    break
            partners[begin], partners[place] = place, begin
    return partners


def _pipe_trick(target: str) -> str:
    """``[[Help:Contents (x)|]]`` shows ``Contents``."""
    name = target.rpartition(":")[2]
    return name.partition(" (")[0].strip()


def _tidy(text: str) -> str:
    """The text without what remains of the markup; `text` has no brackets, and a newline at both ends."""
    if "[" in text:
        text = _EXTERNAL.sub(_label, text)
    # Two, three and five apostrophes are italics and bold; what is left of four is one. Plain replacements:
    # regular expressions without a fixed beginning took four times as long as all the rest together.
    if "''" in text:
        text = text.replace("'''''", "").replace("'''", "").replace("''", "")
    if "\n=" in text:
        text = _HEADING.sub(r"\n\n\1\n", text)
    text = _LIST.sub("\n", text)
    if "\n----" in text:
        text = _RULE.sub("\n", text)
    if "__" in text:
        text = _SWITCH.sub("", text)
    if "-{" in text:
        text = _VARIANT.sub(_first_variant, text)
    if "&" in text:
        text = html.unescape(text)
    if "(" in text:
        text = _EMPTY.sub("", text)
    text = text.replace("\t", " ").replace("\u00a0", " ")
    while "  " in text:
        text = text.replace("  ", " ")
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.strip()


def _label(found: re.Match[str]) -> str:
    return found[1] or ""


def _first_variant(found: re.Match[str]) -> str:
    """``-{zh-hans:a;zh-hant:b}-`` shows one of its variants; flags before a bar are none."""
    shown: str = found[1].rpartition("|")[2].partition(";")[0]
    variant, colon, rest = shown.partition(":")
    return rest if colon and variant.strip().startswith("zh") else shown


# Templates that stand for text. Each function gets the template's parts, the name first.


def _positional(parts: Iterable[str]) -> list[str]:
    """The unnamed arguments, trimmed; ``1=`` and so on count as unnamed."""
    arguments = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            arguments.append(part.strip())
        elif name.strip().isdecimal():
            arguments.append(value.strip())
    return arguments


def _argument(number: int) -> Callable[[list[str]], str]:
    def value(parts: list[str]) -> str:
        arguments = _positional(parts[1:])
        return arguments[number] if -len(arguments) <= number < len(arguments) else ""

    return value


def _measure(parts: list[str]) -> str:
    """``{{convert|5|to|10|km|mi}}`` -> ``5 to 10 km``."""
    arguments = _positional(parts[1:])
    if len(arguments) > 3 and arguments[1] in _RANGES:
        return " ".join(arguments[:4])
    return " ".join(arguments[:2])


def _number(parts: list[str]) -> str:
    """``{{formatnum:1234.5}}`` -> ``1234.5``."""
    return parts[0].partition(":")[2].strip()


def _fraction(parts: list[str]) -> str:
    arguments = _positional(parts[1:])
    whole = arguments[:-2]
    return " ".join([*whole, "/".join(arguments[-2:])])


def _as_of(parts: list[str]) -> str:
    return " ".join(["As of", *(each for each in _positional(parts[1:]) if each)])


def _joined(parts: list[str]) -> str:
    return " ".join(_positional(parts[1:]))


_RANGES = frozenset({"-", "–", "to", "and", "or", "by", "x", "×", "+/-", "±", "to about"})
_FIRST, _SECOND = _argument(0), _argument(1)
VALUES: dict[str, Callable[[list[str]], str]] = {
    **dict.fromkeys(("convert", "cvt", "val", "unité", "unité/2", "nb"), _measure),
    **dict.fromkeys(("lang", "langue"), _SECOND),
    **dict.fromkeys(
        _words(
            "nowrap nobr small big abbr nihongo quote blockquote cquote quotation unicode angbr as-written "
            "tooltip sic! smallcaps sc smaller larger formatnum"
        ),
        _FIRST,
    ),
    **dict.fromkeys(("transl", "transliteration"), _argument(-1)),
    **dict.fromkeys(("frac", "sfrac", "fraction"), _fraction),
    "lien": _FIRST,
    "as of": _as_of,
    "date": _joined,
}


def _value_of(content: str) -> Callable[[list[str]], str] | None:
    """What keeps the value of a template that begins with `content`, None for one that is dropped."""
    return _value_of_name(content[:64].partition("|")[0])


# A dump names few templates often: remembering them took 4 to 10 % off the stripping of a Wiktionary.
@functools.lru_cache(4096)
def _value_of_name(given: str) -> Callable[[list[str]], str] | None:
    name = given.strip().lower().replace("_", " ")
    if name.startswith("formatnum:"):
        return _number
    if name.startswith("lang-"):
        return _FIRST
    return VALUES.get(name)
