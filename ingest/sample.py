"""The dump that every machine has: the documentation of the installed Python packages as a wiki's export.

One page a module, in a genuine MediaWiki export with what real dumps hold: several namespaces, redirects,
markup, empty pages, a page whose text was deleted, titles in other scripts. Nothing downstream knows that it
is a sample. The same packages and settings give the same bytes.
"""

from __future__ import annotations

import gc
import hashlib
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cluster.artefact import Artefact, Draft, Input
from cluster.errors import UsageError
from cluster.folder import Folder
from cluster.progress import Reporter, Stage, quantity
from ingest import docstrings
from ingest.docstrings import Described, ModuleDocumentation, Source
from ingest.export import ExportPage, Site, write_export
from ingest.wikitext import Wikitext, code

OUTPUT_VERSION = 1
KIND = "sample"
FILE = "pydocwiki-pages-articles.xml.bz2"
SITE = Site(
    name="Pydocwiki",
    database="pydocwiki",
    base="http://127.0.0.1/wiki/Main_Page",
    generator="MediaWiki 1.44.0",
    began=datetime(2026, 1, 1, tzinfo=UTC),
    contributors=("Docstring", "Žofie", "山田花子", "MarkupBot", "R&D"),
)
ABBREVIATIONS = {"numpy": "np", "tensorflow": "tf", "pyarrow": "pa", "pandas": "pd", "python": "stdlib"}
PAGE_CHARACTERS = 60_000  # longer modules go on on a second page, as long articles do
EMPTY_PAGES = 40
LETTERS = (
    (0x0391, 0x03C9),
    (0x0410, 0x044F),
    (0x05D0, 0x05EA),
    (0x3042, 0x3052),
)  # first and last of 4 scripts
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class SampleSettings:
    """Which packages' documentation becomes the dump, and how much of it.

    `packages` are import names that are distribution names as well; ``python`` is the standard library.
    `size` is in bytes of wikitext; fewer are written where the packages hold fewer.
    """

    packages: tuple[str, ...] = ("python", "numpy", "pyarrow", "keras", "pandas", "ray", "tensorflow")
    size: int = 12_000_000

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"Setting 'sample.size' is {self.size}; give at least 1 byte.")
        if not self.packages:
            raise UsageError("Setting 'sample.packages' is empty; name at least one installed package.")


@dataclass
class _Book:
    """The pages so far, and what keeps two of them from saying the same."""

    pages: list[ExportPage] = field(default_factory=list)
    titles: set[str] = field(default_factory=set)
    said: set[bytes] = field(default_factory=set)
    bytes: int = 0
    modules: Counter[str] = field(default_factory=Counter)

    def add(self, page: ExportPage) -> None:
        if page.full_title not in self.titles:
            self.titles.add(page.full_title)
            self.pages.append(page)
            self.bytes += len(page.text.encode()) if page.text else 0

    def is_new(self, docstring: str) -> bool:
        """Whether nobody said this before: generated modules and overrides repeat each other's words."""
        key = hashlib.blake2b(" ".join(docstring.split()).encode(), digest_size=12).digest()
        if key in self.said:
            return False
        self.said.add(key)
        return True


def inputs(settings: SampleSettings) -> dict[str, Input]:
    """What the sample is made from: the packages, and Python, by name and version.

    Raises UsageError for a package that is not installed.
    """
    # Another Python may parse other files and knows other letters.
    return {
        package: Input(
            "package", f"{package} {docstrings.version_of(package)}", str(docstrings.folder_of(package))
        )
        for package in (*settings.packages, docstrings.STANDARD_LIBRARY)
    }


def make_sample(output: str | Folder, settings: SampleSettings, reporter: Reporter) -> Artefact:
    """The dump as an artefact of kind ``sample`` in the folder `output`, with the one file `FILE`.

    Its counts: ``pages`` (all, redirects among them), ``redirects``, ``articles`` (what an ingest keeps),
    ``namespaces`` (pages by number), ``xml_bytes``, ``modules`` (by package). Raises UsageError for a package
    that is not installed.
    """
    packages = list(dict.fromkeys(settings.packages))
    made_from = inputs(settings)
    draft = Draft(output, kind=KIND, output_version=OUTPUT_VERSION, inputs=made_from, settings=settings)
    if draft.published is not None:
        return draft.published
    began = time.process_time()
    with reporter.stage("sample", total=settings.size, unit="B") as stage:
        with _no_cycles():
            book = _written(packages, settings.size, stage)
        stage.update(book.bytes, total=book.bytes, note="compressing")
        with draft.folder.writer(FILE) as sink:
            xml_bytes = write_export(SITE, book.pages, sink)
        redirects = sum(page.redirect is not None for page in book.pages)
        stage.summary(
            f"{len(book.pages):,} pages ({redirects:,} redirects) from {book.modules.total():,} modules, "
            f"{quantity(xml_bytes, 'B')} of XML, {quantity(sink.record.bytes, 'B')} packed, "
            f"{time.process_time() - began:.1f} s of CPU"
        )
    articles = sum(p.namespace == 0 and p.redirect is None and bool(p.text) for p in book.pages)
    return draft.publish(
        {
            "pages": len(book.pages),
            "redirects": redirects,
            "articles": articles,
            "namespaces": {
                str(key): n for key, n in sorted(Counter(p.namespace for p in book.pages).items())
            },
            "xml_bytes": xml_bytes,
            "modules": dict(sorted(book.modules.items())),
        },
        {FILE: sink.record},
    )


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Without the cycle collector, which would walk the many objects of each syntax tree again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _written(packages: list[str], size: int, stage: Stage) -> _Book:
    """All pages in the order of the dump: modules in an even draw until `size` bytes are full."""
    found = {package: docstrings.sources(package) for package in packages}
    every = [source for sources in found.values() for source in sources]
    wikitext = Wikitext(frozenset(source.title for source in every))
    drawn = sorted(every, key=lambda source: hashlib.sha256(source.title.encode()).digest())
    book = _Book()
    _add_front(book, packages)
    empty: list[str] = []
    documented: list[ModuleDocumentation] = []
    for source in drawn:
        if book.bytes >= size:
            break
        text = docstrings.read_source(source)
        if not text.strip() and len(empty) < EMPTY_PAGES:
            empty.append(source.title)
        if not docstrings.worth_parsing(text):
            continue
        if (module := docstrings.documentation(source, text)) is None:
            continue
        if _add_module(book, module, wikitext):
            documented.append(module)
            book.modules[source.package] += 1
            stage.update(min(book.bytes, size), rows=len(documented), note=source.title)
    for title in empty:
        book.add(ExportPage(title, "", comment="an empty file"))
    _add_around(book, documented, wikitext)
    for package in packages:
        _add_package(book, package, found[package])
    _add_letters(book)
    # Pages of a real dump stand by id, in the order in which people wrote them; by title is as good.
    book.pages.sort(key=lambda page: (page.full_title.casefold(), page.full_title))
    return book


def _add_module(book: _Book, module: ModuleDocumentation, wikitext: Wikitext) -> bool:
    """The module's page or pages; False where it has nothing new to say."""
    title = module.source.title
    lead = wikitext.convert(module.docstring, 2) if book.is_new(module.docstring) else []
    parts: list[str] = []
    example = True
    for entry in module.described:
        if not book.is_new(entry.docstring):
            continue
        said = wikitext.convert(entry.docstring, 3 + entry.name.count("."), example=example)
        if sum(map(len, said)) < 40:
            continue
        example = example and not any("<syntaxhighlight" in block for block in said)
        parts.append("\n\n".join([_heading(entry), *said]))
    if not parts and sum(map(len, lead)) < 200:
        return False
    package = module.source.package
    head = [_infobox(module), f"'''{title}''' is a [[module]] of [[{_home(package)}]]."]
    text, number = [*head, *lead], 1
    length = sum(map(len, text))
    for part in parts:
        if length + len(part) > PAGE_CHARACTERS and len(text) > len(head):
            _add_part(book, title, number, text, package)
            number += 1
            text, length = [f"''This page continues [[{_part(title, number - 1)}]].''"], 0
        text.append(part)
        length += len(part)
    _add_part(book, title, number, text, package)
    return True


def _add_part(book: _Book, title: str, number: int, text: list[str], package: str) -> None:
    blocks = list(text)
    if any("<ref>" in block for block in blocks):
        blocks.append("== References ==\n<references />")
    blocks.append(f"[[Category:{package} modules]]")
    book.add(ExportPage(_part(title, number), "\n\n".join(blocks), comment=f"from {package}", parent=True))


def _part(title: str, number: int) -> str:
    return title if number == 1 else f"{title}/{number}"


def _home(package: str) -> str:
    return "Python" if package == docstrings.STANDARD_LIBRARY else package


def _heading(entry: Described) -> str:
    marks = "=" * (2 + entry.name.count("."))
    return f"{marks} {entry.name.rpartition('.')[2].replace('__', '')} {marks}"


def _infobox(module: ModuleDocumentation) -> str:
    classes = sum(entry.kind == "class" for entry in module.described)
    return (
        "{{Infobox module\n"
        f"| name      = {module.source.title}\n"
        f"| package   = {module.source.package}\n"
        f"| lines     = {{{{formatnum:{module.lines}}}}}\n"
        f"| classes   = {classes}\n"
        f"| functions = {len(module.described) - classes}\n"
        "}}"
    )


def _add_around(book: _Book, documented: list[ModuleDocumentation], wikitext: Wikitext) -> None:
    """Redirects from classes to their modules, and the talk about modules."""
    homes: dict[str, set[str]] = {}
    for module in documented:
        for entry in module.described:
            if entry.kind == "class" and "." not in entry.name and len(entry.name) > 3:
                homes.setdefault(entry.name, set()).add(module.source.title)
    for name, titles in sorted(homes.items()):
        if len(titles) == 1:
            (home,) = titles
            text = f"#REDIRECT [[{home}#{name}]]\n\n{{{{R to section}}}}"
            book.add(ExportPage(name, text, redirect=home, minor=True, comment="a class"))
    for number, module in enumerate(sorted(documented, key=lambda module: module.source.title)):
        title = module.source.title
        if number % 12 == 0 and title in book.titles:
            talk = (
                f"{{{{Talk header}}}}\n== Coverage ==\nOf the public names in {code(title)}, "
                f"{len(module.described)} have a docstring and {module.silent} have none. Who mends it? "
                "[[User:Žofie|Žofie]] ([[User talk:Žofie|talk]]) 00:00, 1 January 2026 (UTC)\n"
                ":Not before the next release. [[User:Docstring|Docstring]] 08:00, 2 January 2026 (UTC)"
            )
            book.add(ExportPage(title, talk, namespace=1))


def _add_package(book: _Book, package: str, sources: list[Source]) -> None:
    """A package's category, its abbreviation and, where the package's own module is silent, its page."""
    home = _home(package)
    inside = sorted(source.title for source in sources if source.title in book.titles)
    links = "\n".join(f"* [[{title}]]" for title in inside[:200])
    book.add(
        ExportPage(
            home,
            f"'''{home}''' {docstrings.version_of(package)} has {len(sources)} modules, of which "
            f"{len(inside)} are described here.\n\n== Modules ==\n{links}\n\n[[Category:Packages]]",
        )
    )
    about = f"Modules of [[{home}]], version {docstrings.version_of(package)}.\n\n[[Category:Packages]]"
    book.add(ExportPage(f"{package} modules", about, namespace=14))
    if short := ABBREVIATIONS.get(package):
        book.add(ExportPage(short, f"#REDIRECT [[{home}]]", redirect=home, comment="as it is imported"))


def _add_letters(book: _Book) -> None:
    """A short page on each letter of a few scripts, and a redirect from its name."""
    for first, last in LETTERS:
        for number in range(first, last + 1):
            letter = chr(number)
            if not _LETTER.match(letter) or not (name := unicodedata.name(letter, "")):
                continue
            others = " ".join(f"[[{chr(other)}]]" for other in range(max(first, number - 3), number))
            text = (
                f"'''{letter}''' (U+{number:04X}, ''{name.lower()}'') is a letter of the "
                f"{name.split()[0].capitalize()} script."
            )
            if letter.lower() != letter:
                text += f" Its lower case is [[{letter.lower()}]]."
            if others:
                text += f" Before it come {others}."
            book.add(ExportPage(letter, f"{text}\n\n[[Category:Letters]]"))
            book.add(ExportPage(name.title(), f"#REDIRECT [[{letter}]]", redirect=letter, minor=True))


def _add_front(book: _Book, packages: list[str]) -> None:
    """The pages that every wiki has, some of them in other namespaces and content models."""
    links = "\n".join(f"# [[{_home(package)}]] {docstrings.version_of(package)}" for package in packages)
    for page in (
        ExportPage(
            "Main Page",
            "__NOTOC__\n'''Pydocwiki''' holds the documentation of the [[Python]] packages that are "
            f"installed on this machine.<!-- made from their docstrings -->\n\n{links}\n\n"
            "[[Category:Packages|*]]\n[[de:Hauptseite]]",
        ),
        ExportPage(
            "module",
            "A '''module''' is a file of [[Python]] code<ref>See the glossary of the language.</ref> that "
            "others may import.\n\n== References ==\n{{Reflist}}",
        ),
        ExportPage("To be written", ""),
        ExportPage("Sandbox", None, comment="the text was deleted"),
        ExportPage("About", "Each page is made from one source file.", namespace=4),
        ExportPage("Common.css", "body { font-family: serif; }\n", namespace=8, model="css"),
        ExportPage(
            "Infobox module",
            '<onlyinclude>{| class="infobox"\n! {{{name}}}\n|-\n| {{{package}}}\n|}</onlyinclude>',
            namespace=10,
        ),
        ExportPage("Version added", "<includeonly>''New in version {{{1}}}.''</includeonly>", namespace=10),
        ExportPage("Contents", "Begin with a package & follow its links.", namespace=12),
        ExportPage("Packages", "All packages.", namespace=14),
        ExportPage("Letters", "Letters of several scripts.", namespace=14),
        ExportPage("Coverage", "local p = {}\nreturn p\n", namespace=828, model="Scribunto"),
    ):
        book.add(page)
