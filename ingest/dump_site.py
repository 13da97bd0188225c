"""Names of dumps: what ``enwiki`` or ``enwiki:20261101`` stands for on a dump site.

The site says it itself: ``<site>/<wiki>/<date>/dumpstatus.json`` holds for each job of a dump whether it is
done, and of each of its files the address, size and checksums. No file name is known here.

Of the jobs that hold the articles the first that a dump has is taken: ``articlesdump`` (the fewest bytes:
multistream archives are a tenth larger, and their index saves a reader nothing that finds blocks by
itself, see `ingest.dump.plan`), then its multistream form, then all current pages, of which ingest keeps
the articles. A job that is still to come is never replaced by a later one of these: a name would mean
another dump tomorrow.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import date as calendar
from typing import Any
from urllib.parse import urlsplit

from cluster.connections import LIMIT, Connections
from cluster.errors import UsageError, WordloomError
from ingest import web
from ingest.download import Part
from ingest.files import INDEX, natural
from ingest.web import Pause

SITE = "https://dumps.wikimedia.org"
JOBS = ("articlesdump", "articlesmultistreamdump", "metacurrentdump")
LATEST = "latest"
SHOWN = 5  # dates that a sentence names

_PROJECTS = "wiki|wiktionary|wikibooks|wikinews|wikiquote|wikisource|wikiversity|wikivoyage|wikimedia"
_NAME = re.compile(
    rf"(?P<wiki>[a-z][a-z0-9_]*({_PROJECTS}))(:(?P<date>.*))?|(?P<other>[a-z][a-z0-9_]*):(?P<when>{LATEST}|\d+)"
)
_GONE = ("failed", "skipped", "aborted")


@dataclass(frozen=True)
class Release:
    """A finished dump of a wiki: its files in the order of their pages, each with size and sha1."""

    wiki: str
    date: str
    job: str
    parts: tuple[Part, ...]


def named(source: str) -> tuple[str, str] | None:
    """The wiki and the date (YYYYMMDD or ``latest``) that a source names; None for a path or a URL.

    Raises UsageError for a date that can be none.
    """
    match = _NAME.fullmatch(source)
    if match is None:
        return None
    wiki = match["wiki"] or match["other"]
    date = match["date"] if match["wiki"] else match["when"]
    if date is None:
        return wiki, LATEST
    if date != LATEST:
        try:
            if not re.fullmatch(r"\d{8}", date):
                raise ValueError
            calendar.fromisoformat(date)
        except ValueError:
            raise UsageError(
                f"Source {source!r} names the date {date!r}; give one such as {wiki}:20261101, or "
                f"{wiki}:{LATEST}."
            ) from None
    return wiki, date


def resolve(
    wiki: str, date: str, site: str = SITE, connections: int = LIMIT, pause: Pause = time.sleep
) -> Release:
    """The dump of `wiki` of that `date`, or the newest finished one for ``latest``.

    Raises WordloomError with what there is, where there is no such dump or it is not finished.
    """
    if not web.is_web(site):
        raise UsageError(f"The dump site is {site!r}; give an http(s) address such as {SITE} as --site.")
    asked = _Site(site.rstrip("/"), wiki, Connections(connections), pause)
    if date != LATEST:
        return asked.release(date)
    for each in asked.dates():
        if (found := asked.finished(each)) is not None:
            return found
    raise WordloomError(
        f"{asked.address!r} has no finished dump of the articles of {wiki}{_list(asked.dates())}; "
        "name another wiki or another mirror with --site."
    )


class _Site:
    """What a dump site says of one wiki."""

    def __init__(self, site: str, wiki: str, connections: Connections, pause: Pause) -> None:
        self.site = site
        self.wiki = wiki
        self.address = f"{site}/{wiki}/"
        self._connections = connections
        self._pause = pause
        self._dates: list[str] | None = None

    def dates(self) -> list[str]:
        """The dates in the listing of the wiki's folder, the newest first."""
        if self._dates is None:
            listing = web.page(self.address, self._connections, self._pause)
            if listing is None:
                raise WordloomError(
                    f"{self.address!r} does not exist: the dump site has no wiki named {self.wiki!r}; "
                    "check --source and --site."
                )
            links = re.findall(rb"""href=["']?[^"'> ]*?(\d{8})/?["'> ]""", listing, re.IGNORECASE)
            self._dates = sorted({link.decode() for link in links}, reverse=True)
        return self._dates

    def release(self, date: str) -> Release:
        jobs = self.jobs(date)
        if jobs is None:
            there = [each for each in self.dates() if each != date]
            raise WordloomError(
                f"The dump site has no dump of {self.wiki} of {date}{_list(there)}; check --source, or give "
                f"{self.wiki}:{LATEST}."
            )
        job = _job(jobs)
        if job is None or (release := self._release(date, job, jobs[job])) is None:
            state = f"{job!r} is {_status(jobs[job])!r}" if job else f"it has none of {', '.join(JOBS)}"
            if job and _status(jobs[job]) == "done":
                state = f"the checksums of {job!r} are not there yet"
            there = [each for each in self.dates() if each != date]
            raise WordloomError(
                f"The dump of {self.wiki} of {date} is not finished: {state}{_list(there)}; give an earlier "
                f"date, or {self.wiki}:{LATEST} for the newest that is."
            )
        return release

    def finished(self, date: str) -> Release | None:
        """The dump of a date if it is finished."""
        jobs = self.jobs(date)
        job = _job(jobs) if jobs is not None else None
        return self._release(date, job, jobs[job]) if jobs is not None and job is not None else None

    def jobs(self, date: str) -> dict[str, Any] | None:
        """The jobs of a dump by name; None where there is no such dump."""
        url = f"{self.address}{date}/dumpstatus.json"
        content = web.page(url, self._connections, self._pause)
        if content is None:
            return None
        try:
            jobs = json.loads(content)["jobs"]
            if not isinstance(jobs, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise WordloomError(
                f"{url!r} is no status file of a dump, it begins with {content[:40]!r}; check --site."
            ) from None
        return jobs

    def _release(self, date: str, job: str, said: Any) -> Release | None:
        """The parts of a job; None while it is not done or a size or checksum is still to come."""
        if _status(said) != "done":
            return None
        files = said.get("files")
        parts = []
        for name in sorted(files if isinstance(files, dict) else {}, key=natural):
            if INDEX.search(name):
                continue  # of a multistream archive: no part of the dump
            told = files[name] if isinstance(files[name], dict) else {}
            url, size, sha1 = told.get("url"), told.get("size"), told.get("sha1")
            if not (isinstance(url, str) and isinstance(size, int) and isinstance(sha1, str)):
                return None
            if not re.fullmatch(r"[0-9a-f]{40}", sha1) or size < 1:
                return None
            # The path alone: a mirror hands on the status file of the site that it mirrors.
            parts.append(Part(f"{self.site}/{urlsplit(url).path.lstrip('/')}", size, sha1))
        return Release(self.wiki, date, job, tuple(parts)) if parts else None


def _job(jobs: dict[str, Any]) -> str | None:
    """The job to take: the first of JOBS that is done or still to come."""
    return next((job for job in JOBS if job in jobs and _status(jobs[job]) not in _GONE), None)


def _status(said: Any) -> str:
    return str(said.get("status", "unknown")) if isinstance(said, dict) else "unknown"


def _list(dates: list[str]) -> str:
    """``; there are 20261101, 20261020``: the newest dates, behind a sentence."""
    if not dates:
        return "; there is no other"
    rest = f" and {len(dates) - SHOWN} more" if len(dates) > SHOWN else ""
    return f"; there {'are' if len(dates) > 1 else 'is'} {', '.join(dates[:SHOWN])}{rest}"
