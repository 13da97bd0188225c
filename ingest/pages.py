"""Pages out of the XML of a MediaWiki export, schemas 0.3 to 0.11, hostile ones included.

Most pages have the form that MediaWiki gives them and are read without a parser (`ingest.page_form`). Of the
others only what stands from one ``<page>`` to its ``</page>`` reaches an XML parser, under a root of ours. So
an export's document type, entities and namespace URI never do; what stands in a page is held to libxml2's
limits of depth and size (10 MB a text), entities stay unresolved and nothing is fetched. Whole pages are
parsed a batch at a time and the batch's tree is dropped with it: memory is flat over any number of pages, and
a page that is not well-formed is dropped alone. (MediaWiki writes ``<`` in text as ``&lt;`` and neither
comments nor CDATA, so ``<page>`` in the bytes is always a page.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from lxml import etree

from ingest.bzip2 import Loss
from ingest.page import Page
from ingest.page_form import FormReader

KEPT = "kept"
DROPPED = ("redirect", "namespace", "empty", "deleted", "model", "cut")
BATCH = 1 << 18  # bytes of XML parsed at once, before the form is looked for again
PORTION = 1 << 18  # bytes looked at together at least
LARGE_PAGE = 8 << 20  # from here on a page's older revisions are let go while it is still being read
LARGEST_PAGE = 64 << 20  # a page of one revision is never larger; what is, is hostile
MOST_TAGS = 1 << 20  # of one page, some 0.2 GB as a tree; 64 MiB of empty elements would take 2 GB

PAGE = re.compile(rb"<page[\s>]")
_OPEN, _CLOSE = b"<page", b"</page>"
_ROOT, _ROOT_END = b"<pages>", b"</pages>"
_REVISION = re.compile(rb"<revision[\s>]")
_TIMESTAMP = re.compile(rb"<timestamp>([^<]*)<")
_TITLE = re.compile(rb"<title>([^<]*)<")

# Exports before 0.4 do not mark redirects; these are MediaWiki's words for them.
_REDIRECT_WORDS = (
    "REDIRECT WEITERLEITUNG REDIRECCIÓN REDIRECTION RINVIA REDIRECIONAMENTO DOORVERWIJZING OMDIRIGERING "
    "OMDIRIGER OHJAUS UUDELLEENOHJAUS PATRZ PRZEKIERUJ PŘESMĚRUJ ÁTIRÁNYÍTÁS YÖNLENDİRME ĐỔI ALIH "
    "ПЕРЕНАПРАВЛЕНИЕ ПЕРЕНАПРАВЛЕННЯ ПРЕНАСОЧВАНЕ ВИЖ ПРЕУСМЕРИ ΑΝΑΚΑΤΕΥΘΥΝΣΗ 重定向 転送 リダイレクト "
    "넘겨주기 تحويل تغییرمسیر הפניה เปลี่ยนทาง अनुप्रेषित"
)
_REDIRECT = re.compile(rf"\s*#(?:{'|'.join(_REDIRECT_WORDS.split())})\s*:?\s*\[\[([^\]|#]+)", re.IGNORECASE)


class PageReader:
    """The pages of one split that are kept: iterate over it once.

    `chunks` are XML bytes cut anywhere, in which a `Loss` says that bytes are missing there; whatever
    stands before the first ``<page>`` or between pages is passed over. Kept are the pages of
    `namespaces` (empty: of all) that are no redirects and have wikitext. `prefixes` (title prefix ->
    namespace) serves exports that have no ``<ns>``.

    Afterwards, and while it runs, ``seen == kept + sum(dropped.values())``; `dropped` has a count for each
    reason of DROPPED. `sizes` has the bytes of their XML, from each ``<page`` to its ``</page>``, by the same
    reasons and of those ``kept``; of a page that is cut what was held of it. So their sum is the XML of all
    pages, however it is cut into chunks and splits. `redirects` holds (title, target) of the redirects in
    `namespaces`; `cut` is a sentence if pages were dropped as cut: begun and not ended, not well-formed, or
    beyond all size.
    """

    def __init__(
        self,
        chunks: Iterable[bytes | Loss],
        namespaces: tuple[int, ...] = (0,),
        prefixes: Mapping[str, int] | None = None,
    ) -> None:
        self.seen = 0
        self.kept = 0
        self.dropped = dict.fromkeys(DROPPED, 0)
        self.sizes = dict.fromkeys((KEPT, *DROPPED), 0)
        self.redirects: list[tuple[str, str]] = []
        self.cut: str | None = None
        self._let_go = 0  # bytes of the page that is being read, see _bounded
        self._chunks = chunks
        self._namespaces = frozenset(namespaces)
        self._prefixes = {prefix.casefold(): number for prefix, number in (prefixes or {}).items()}
        self._form = FormReader()
        self._parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
        )

    def __iter__(self) -> Iterator[Page]:
        rest = b""  # what follows the last whole page
        searched = 0  # no </page> ends before this place in it
        for chunk in self._portions():
            if isinstance(chunk, Loss):
                self._abandon(rest, "bytes of the file are missing there")
                rest, searched = b"", 0
                continue
            rest += chunk
            end = rest.rfind(_CLOSE, searched)
            if end < 0:
                rest = self._bounded(rest)
                searched = max(len(rest) - len(_CLOSE), 0)
                continue
            end += len(_CLOSE)
            yield from self._pages(rest, end)
            rest, searched = rest[end:], 0
        self._abandon(rest, "the XML ends there")

    def _portions(self) -> Iterator[bytes | Loss]:
        """The chunks, small ones put together: each is added to the page before, which may be large."""
        pieces: list[bytes] = []
        size = 0
        for chunk in self._chunks:
            if isinstance(chunk, Loss):
                yield b"".join(pieces)
                yield chunk
                pieces, size = [], 0
                continue
            pieces.append(chunk)
            size += len(chunk)
            if size >= PORTION:
                yield b"".join(pieces)
                pieces, size = [], 0
        yield b"".join(pieces)

    def _pages(self, xml: bytes, stop: int) -> Iterator[Page]:
        """The kept pages of xml[:stop], which ends with a ``</page>``."""
        view = memoryview(xml)
        begin = 0
        while begin < stop:
            found = self._form.read(xml, begin)
            if found is not None:
                page, begin = found
                self.seen += 1
                yield from self._if_kept(page)
                continue
            end = xml.rfind(_CLOSE, begin, min(begin + BATCH, stop))
            end = (end if end >= 0 else xml.index(_CLOSE, begin)) + len(_CLOSE)
            batch, begin = b"".join((_ROOT, view[begin:end], _ROOT_END)), end
            if len(batch) > 2 * MOST_TAGS:  # one page, too large to be a batch with others
                yield from self._one_by_one(batch)
                continue
            try:
                root = etree.fromstring(batch, self._parser)
            except etree.XMLSyntaxError:
                yield from self._one_by_one(batch)
            else:
                ruler = _Ruler(batch, len(_ROOT))
                for element in root:
                    yield from self._judged(element, ruler)

    def _one_by_one(self, batch: bytes) -> Iterator[Page]:
        """The pages of a batch that is no well-formed XML as a whole: those that are, are kept."""
        begins = [match.start() for match in PAGE.finditer(batch)]
        for begin, stop in pairwise([*begins, len(batch)]):
            end = batch.find(_CLOSE, begin, stop)
            if end < 0:
                self._abandon(batch[begin:stop], "another page begins there")
                continue
            piece = batch[begin : end + len(_CLOSE)]
            if len(piece) > 2 * MOST_TAGS and piece.count(b"<") > MOST_TAGS:
                self._abandon(piece, f"it has more than {MOST_TAGS:,} tags")
                continue
            try:
                element = etree.fromstring(piece, self._parser)
            except etree.XMLSyntaxError as error:
                self._abandon(piece, f"it is not well-formed XML ({_line(error.msg)})")
            else:
                yield from self._judged(element, _Ruler(piece))

    def _judged(self, element: etree._Element, ruler: _Ruler) -> Iterator[Page]:
        """The page, if it is kept; counted in any case. `ruler` measures it."""
        if element.tag != "page":
            if str(element.tag).endswith("}page"):
                self.seen += 1
                size = ruler.measured() + self._taken()
                title = element.findtext("{*}title") or ""
                self._drop_cut(title, "it has an XML namespace of its own", size)
            return
        self.seen += 1
        try:
            # Most pages of a whole dump are talk, files and the like: their revisions are not looked at.
            namespace = element.findtext("ns")
            if namespace is not None and self._elsewhere(int(namespace)):
                self._drop("namespace", ruler.measured() + self._taken())
                return
            page = self._page(element)
        except ValueError as error:
            size = ruler.measured() + self._taken()
            self._drop_cut(element.findtext("title") or "", f"its ids cannot be read ({error})", size)
            return
        page.size = ruler.measured(len(page.utf8)) + self._taken()
        yield from self._if_kept(page)

    def _if_kept(self, page: Page) -> Iterator[Page]:
        """The page, if it is kept; counted as kept or dropped."""
        reason = self._reason(page)
        if reason is None:
            self.kept += 1
            self.sizes[KEPT] += page.size
            yield page
            return
        self._drop(reason, page.size)
        if reason == "redirect":
            self.redirects.append((page.title, page.redirect or ""))

    def _reason(self, page: Page) -> str | None:
        if self._elsewhere(page.namespace):
            return "namespace"
        if page.redirect is not None:
            return "redirect"
        if page.deleted:
            return "deleted"
        if page.model != "wikitext":
            return "model"
        return "empty" if page.blank else None

    def _page(self, element: etree._Element) -> Page:
        """Raises ValueError for a page without a readable id."""
        title, number, namespace, redirect = "", "", None, None
        latest: etree._Element | None = None
        for child in element:
            tag = child.tag
            if tag == "revision":
                if latest is None or _time(child) >= _time(latest):
                    latest = child
            elif tag == "title":
                title = child.text or ""
            elif tag == "id":
                number = child.text or ""
            elif tag == "ns":
                namespace = child.text
            elif tag == "redirect":
                redirect = child.get("title") or ""
        revision, text, model, deleted = "0", "", "wikitext", False
        for child in latest if latest is not None else ():
            tag = child.tag
            if tag == "text":
                text = child.text or ""
                deleted = child.get("deleted") is not None
            elif tag == "id":
                revision = child.text or ""
            elif tag == "model":
                model = child.text or "wikitext"
        # 0.4 marks redirects without naming the target, 0.3 does not mark them.
        if redirect == "" or (redirect is None and namespace is None):
            match = _REDIRECT.match(text)
            redirect = match[1].strip() if match else redirect
        return Page(
            page_id=_id(number),
            revision_id=_id(revision),
            namespace=int(namespace) if namespace is not None else self._namespace_of(title),
            title=title,
            utf8=text.encode(),
            redirect=redirect,
            model=model,
            deleted=deleted,
        )

    def _elsewhere(self, namespace: int) -> bool:
        return bool(self._namespaces) and namespace not in self._namespaces

    def _namespace_of(self, title: str) -> int:
        prefix, colon, _ = title.partition(":")
        return self._prefixes.get(prefix.casefold(), 0) if colon else 0

    def _bounded(self, rest: bytes) -> bytes:
        """What is kept of a page that has not ended: of a long history only the latest revision so far."""
        if len(rest) < LARGE_PAGE:
            return rest
        before = len(rest)
        begins = [match.start() for match in _REVISION.finditer(rest)]
        if len(begins) > 2:
            whole = [rest[a:b] for a, b in pairwise(begins)]
            latest = max(enumerate(whole), key=lambda each: (_when(each[1]), each[0]))[1]
            rest = rest[: begins[0]] + latest + rest[begins[-1] :]
            self._let_go += before - len(rest)
        if len(rest) < LARGEST_PAGE:
            return rest
        self._abandon(rest, f"it is larger than {LARGEST_PAGE >> 20} MiB")
        return b""

    def _abandon(self, piece: bytes, why: str) -> None:
        """Counts a page that begins in `piece` and cannot be kept."""
        begun = PAGE.search(piece)
        if begun is not None:
            self.seen += 1
            title = _TITLE.search(piece, begun.start())
            size = len(piece) - begun.start() + self._taken()
            self._drop_cut(title[1].decode("utf-8", "replace") if title else "", why, size)

    def _taken(self) -> int:
        """The bytes that were let go of the page that is counted now: they are counted once."""
        taken, self._let_go = self._let_go, 0
        return taken

    def _drop(self, reason: str, size: int) -> None:
        self.dropped[reason] += 1
        self.sizes[reason] += size

    def _drop_cut(self, title: str, why: str, size: int) -> None:
        self._drop("cut", size)
        if self.cut is None:
            name = f"The page {title!r}" if title else "A page"
            self.cut = f"{name} is dropped behind {self.seen - 1:,} others of its split: {why}."


class _Ruler:
    """Measures the pages in some XML, one after the other from the place `at` on, in bytes.

    The text of most is known by then and need not be searched for their end: that took a sixth of all that
    reading pages takes. (A page that hides a ``</page>`` in a comment may end there: a hostile file can move
    bytes from one page to another.)
    """

    def __init__(self, xml: bytes, at: int = 0) -> None:
        self._xml = xml
        self._at = at

    def measured(self, least: int = 0) -> int:
        """The size of the next page, of which `least` bytes are known to be there."""
        begin = self._xml.find(_OPEN, self._at)
        end = self._xml.find(_CLOSE, begin + least) if begin >= 0 else -1
        if end < 0:
            return 0
        self._at = end + len(_CLOSE)
        return self._at - begin


def _id(text: str) -> int:
    """Raises ValueError for what a column of int64 cannot hold."""
    number = int(text)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{text[:30]} is none")
    return number


def _time(revision: etree._Element) -> str:
    return revision.findtext("timestamp") or ""


def _line(message: str | None) -> str:
    """A message of libxml2, which may have line ends in it, in one line."""
    return " ".join((message or "").split())


def _when(revision: bytes) -> bytes:
    match = _TIMESTAMP.search(revision)
    return match[1] if match else b""
