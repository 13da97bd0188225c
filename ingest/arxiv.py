"""Abstracts from arXiv's Atom API, page by page, politely, and each paper once.

The API (https://info.arxiv.org/help/api/user-manual.html): `start` and `max_results` page through the hits,
``opensearch:totalResults`` says how many there are, errors are entries whose id holds ``api/errors``. It asks
for three seconds between calls and for no more than 30,000 hits of one query, so a long harvest goes on with
a new query from the last date it has seen.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from lxml import etree

from cluster.connections import Connections
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.progress import Stage
from ingest import web

API = "https://export.arxiv.org/api/query"
CATEGORIES = ("stat.ML", "cs.LG", "cs.NE", "math.OC")
KEYWORDS = ("neural", "network", "deep")
PAGE = 100  # entries a call
INTERVAL = 3.0  # seconds between two calls, as the API's manual asks
WINDOW = 10_000  # entries of one query, well below the API's 30,000, where its answers get slow
SHORT_ATTEMPTS = 3  # at a page with fewer entries than promised: the API often has them a moment later
_ATOM, _SEARCH = "{http://www.w3.org/2005/Atom}", "{http://a9.com/-/spec/opensearch/1.1/}"
_TERM = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class Abstract:
    """One paper. `id` is normalised (`normalised_id`), `created` the day of its first version, ISO 8601;
    `text` has single spaces only.
    """

    id: str
    title: str
    text: str
    categories: tuple[str, ...]
    created: str


@dataclass(frozen=True)
class Query:
    """Papers in any of the `categories` whose metadata has any of the `keywords`, the oldest first."""

    categories: tuple[str, ...] = CATEGORIES
    keywords: tuple[str, ...] = KEYWORDS

    def __post_init__(self) -> None:
        if not self.categories and not self.keywords:
            raise UsageError("The query is empty; give --categories, --keywords or both.")
        for name, terms in (("--categories", self.categories), ("--keywords", self.keywords)):
            for term in terms:
                if not _TERM.fullmatch(term):
                    raise UsageError(f"{term!r} in {name} is no single word; give words such as 'neural'.")

    def names(self, paper: Abstract) -> bool:
        """Whether a paper from elsewhere is one of them: in any of the categories, and with a word of title
        or text that begins with any of the keywords."""
        words = re.findall(r"\w+", f"{paper.title} {paper.text}".lower())
        return (not self.categories or not set(self.categories).isdisjoint(paper.categories)) and (
            not self.keywords
            or any(word.startswith(tuple(term.lower() for term in self.keywords)) for word in words)
        )

    def parameters(self, start: int, since: str | None) -> dict[str, str | int]:
        """What a call asks; `since` is the time (YYYYMMDDhhmm, UTC) from which on papers are wanted."""
        parts = [
            "(" + " OR ".join(f"{name}:{term}" for term in terms) + ")"
            for name, terms in (("cat", self.categories), ("all", self.keywords))
            if terms
        ]
        if since:
            parts.append(f"submittedDate:[{since} TO 209912312359]")
        return {
            "search_query": " AND ".join(parts),
            "start": start,
            "max_results": PAGE,
            "sortBy": "submittedDate",
            "sortOrder": "ascending",
        }


@dataclass(frozen=True)
class Reply:
    """One page of hits: `total` of the query, the page's `entries`, and the time (YYYYMMDDhhmm, UTC) at which
    the last of them was submitted.
    """

    total: int
    entries: tuple[Abstract, ...]
    last: str | None


@dataclass
class Harvest:
    """What a query gave: distinct papers, the oldest first, and what was left out, by reason."""

    abstracts: list[Abstract]
    dropped: Counter[str] = field(default_factory=Counter)
    missing: int = 0  # entries that the API promised and never gave

    @property
    def seen(self) -> int:
        return len(self.abstracts) + self.dropped.total()


def harvest(
    query: Query,
    cache: str | Path,
    amount: int | None = None,
    *,
    stage: Stage | None = None,
    api: str = API,
    pause: web.Pause = time.sleep,
) -> Harvest:
    """The first `amount` distinct papers of a query (None: all of them).

    Every page lies in the local folder `cache` as it came, so that a harvest that was killed goes on. A page
    that was full is never asked for again; a short one, where papers may have come since, is. `pause` waits.
    Raises WordloomError where the API refuses the query, has no hit, or cannot be reached.
    """
    if amount is not None and amount < 1:
        raise UsageError(f"The amount is {amount}; give at least 1, or leave it out for all there are.")
    pages = _Pages(query, Folder(cache), api, pause)
    found: list[Abstract] = []
    papers: set[str] = set()
    for reply in pages:
        found += reply.entries
        papers.update(entry.id for entry in reply.entries)
        if stage is not None:
            stage.update(len(papers), total=min(amount or pages.total, pages.total))
        if amount is not None and len(papers) >= amount and len(distinct(found).abstracts) >= amount:
            break
    if not found:
        raise WordloomError(
            f"arXiv has no paper for {query.parameters(0, None)['search_query']!r}; "
            "check --categories and --keywords."
        )
    result = distinct(found)
    result.missing = pages.missing
    if amount is not None:
        del result.abstracts[amount:]
    return result


def distinct(abstracts: Iterable[Abstract]) -> Harvest:
    """Each paper once, by its id and by its text, in the order of date and id; and the count of the rest."""
    result = Harvest([])
    ids: set[str] = set()
    texts: set[bytes] = set()
    for each in sorted(abstracts, key=lambda one: (one.created, one.id)):
        digest = hashlib.sha256(each.text.encode("utf-8", "surrogatepass")).digest()
        if not each.text:
            result.dropped["without text"] += 1
        elif each.id in ids:
            result.dropped["the same paper"] += 1
        elif digest in texts:
            result.dropped["the same text"] += 1
        else:
            result.abstracts.append(each)
        ids.add(each.id)
        texts.add(digest)
    return result


def normalised_id(identifier: str) -> str:
    """An arXiv identifier without address, version and accidents of spreadsheets.

    ``http://arxiv.org/abs/0704.0047v2``, ``arXiv:0704.0047`` and ``704.0047`` (a number that lost its zero)
    are ``0704.0047``; ``math.OC/0101001v1`` is ``math/0101001``. Numbers have four digits behind the point
    until 2014 and five since (https://info.arxiv.org/help/arxiv_identifier.html).
    """
    name = re.sub(r"^(https?://[^/]*arxiv\.org/abs/|arxiv:)", "", identifier.strip(), flags=re.IGNORECASE)
    name = re.sub(r"v\d+$", "", name)
    new = re.fullmatch(r"(\d{3,4})\.(\d{1,5})", name)
    if new:
        month = new[1].zfill(4)
        return f"{month}.{new[2].ljust(5 if month >= '1501' else 4, '0')}"
    old = re.fullmatch(r"([a-z-]+)(\.[A-Za-z-]+)?/(\d{6,7})", name)
    return f"{old[1]}/{old[3].zfill(7)}" if old else name


def parse(content: bytes) -> Reply:
    """A reply of the API. Raises ValueError where it is no Atom feed, WordloomError where it is an error."""
    # Hostile until proved otherwise: no entities, no network, lxml's own bounds on depth and size.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        feed = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"its reply is no XML ({error})") from error
    if feed.tag != f"{_ATOM}feed":
        raise ValueError(f"its reply is no Atom feed but {str(feed.tag)[:60]!r}")
    total = (feed.findtext(f"{_SEARCH}totalResults") or "").strip()
    if not total.isdecimal():
        raise ValueError("its reply does not say how many hits there are")
    entries, last = [], None
    for entry in feed.iterfind(f"{_ATOM}entry"):
        identifier = _text(entry, "id")
        if "api/errors" in identifier:
            raise WordloomError(
                f"arXiv refuses the query: {_text(entry, 'summary')}; check --categories and --keywords."
            )
        published = _text(entry, "published") or _text(entry, "updated")
        terms = [str(each.get("term", "")) for each in entry.iterfind(f"{_ATOM}category")]
        entries.append(
            Abstract(
                normalised_id(identifier),
                _text(entry, "title"),
                _text(entry, "summary"),
                tuple(term for term in terms if term),
                published[:10],
            )
        )
        last = _minute(published) or last
    return Reply(int(total), tuple(entries), last)


class _Pages:
    """The replies to a query, one after the other; `total` and `missing` are known as they come."""

    def __init__(self, query: Query, cache: Folder, api: str, pause: web.Pause) -> None:
        self.total = 0
        self.missing = 0
        self._query, self._api, self._pause = query, api, pause
        digest = hashlib.sha256(f"{api} {query.parameters(0, None)}".encode()).hexdigest()
        self._cache = cache.child(digest[:16])
        self._names = set(self._cache.names())
        self._asked = self._last_call()

    def __iter__(self) -> Iterator[Reply]:
        since: str | None = None
        before = 0  # entries of the earlier windows
        while True:
            start = 0
            newest = since
            while True:
                reply = self._page(start, since)
                self.total = before + reply.total
                wanted = min(PAGE, max(reply.total - start, 0))
                self.missing += max(wanted - len(reply.entries), 0)
                newest = max(filter(None, (newest, reply.last)), default=None)
                yield reply
                start += PAGE
                if start >= reply.total:
                    return
                if start >= WINDOW and newest != since:
                    break
            before += start
            since = newest

    def _page(self, start: int, since: str | None) -> Reply:
        """One page, from the cache if it is full there."""
        name = f"{since or 'begin'}-{start:05d}.xml"
        if name in self._names:
            try:
                kept = parse(self._cache.read(name))
            except ValueError:
                kept = None  # only a call is lost by forgetting it
            if kept is not None and len(kept.entries) == PAGE:
                return kept
        best: tuple[Reply, bytes] | None = None
        for _ in range(SHORT_ATTEMPTS):
            found = self._ask(start, since)
            if best is None or len(found[0].entries) >= len(best[0].entries):
                best = found
            if len(best[0].entries) >= min(PAGE, best[0].total - start):
                break
        assert best is not None
        with self._cache.writer(name) as stream:
            stream.write(best[1])
        return best[0]

    def _ask(self, start: int, since: str | None) -> tuple[Reply, bytes]:
        url = f"{self._api}?{urlencode(self._query.parameters(start, since))}"
        answer: list[tuple[Reply, bytes]] = []

        def attempt() -> None:
            # No more than the interval: clocks are set back, and copies of files may be newer than now.
            self._pause(min(max(0.0, INTERVAL - (time.time() - self._asked)), INTERVAL))
            try:
                # One at a time: the manual asks for a single connection.
                with Connections(1).to(url, self._pause), web.session() as asking:
                    reply = asking.get(url, timeout=web.TIMEOUT)
            finally:
                self._asked = time.time()
            web.busy(reply)
            try:
                answer.append((parse(reply.content), reply.content))
            except ValueError as error:
                if reply.status_code != 200:
                    said = f"the server answers {reply.status_code} {reply.reason}"
                    raise WordloomError(cannot(said, False)) from error
                raise web.AgainError(str(error)) from error

        def cannot(reason: str, later: bool) -> str:
            mend = "run the command again, it goes on here" if later else "check --categories and --keywords"
            return f"Cannot read entries {start:,} and on from {self._api!r}: {reason}; {mend}."

        web.insist(attempt, lambda: 0, cannot, self._pause)
        return answer[-1]

    def _last_call(self) -> float:
        """When an earlier run last asked, seconds since 1970, so that a restart is no way round the pause."""
        if not self._cache.is_local:
            return 0.0
        files = [Path(self._cache.location) / name for name in self._names]
        return max((file.stat().st_mtime for file in files), default=0.0)


def _text(entry: etree._Element, name: str) -> str:
    return " ".join((entry.findtext(f"{_ATOM}{name}") or "").split())


def _minute(published: str) -> str | None:
    try:
        moment = datetime.fromisoformat(published)
    except ValueError:
        return None
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M")
