"""Files over HTTP into a folder, each as `ingest.transfer` fetches it; the parts of a dump two at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.connections import LIMIT, Connections
from cluster.errors import UsageError
from cluster.folder import Folder
from cluster.progress import Reporter, Stage, counted, quantity
from ingest.files import Checksums
from ingest.transfer import (
    Download,
    Heard,
    Transfer,
    fetched_from,
    name_of,
    note_of,
    place_of,
    read_note,
)
from ingest.web import Pause


@dataclass(frozen=True)
class Part:
    """A file to fetch, and what it must be where that is known."""

    url: str
    bytes: int | None = None
    sha1: str | None = None


def download(
    url: str,
    folder: str | Path,
    reporter: Reporter | None = None,
    *,
    size: int | None = None,
    sha1: str | None = None,
    sha256: str | None = None,
    connections: int = LIMIT,
    pause: Pause = time.sleep,
) -> Download:
    """Fetches `url` into `folder` under the name at its end, unless that very version is there already.

    `size`, `sha1` and `sha256` are what the file must be, where they are known; a file that differs is
    deleted. `pause` waits between attempts. Raises WordloomError with the value and the mend.
    """
    reporter = reporter or Reporter(quiet=True)
    transfer = Transfer(url, Path(folder), reporter, Connections(connections), pause)
    with reporter.stage("download", total=size, unit="B") as stage:
        done = transfer.run(stage, size, sha1, sha256)
        there = "" if done.fresh else " is there already"
        stage.summary(f"{done.path.name}{there}, {quantity(done.bytes, 'B')}")
    return done


def download_all(
    parts: Sequence[Part],
    folder: str | Path,
    reporter: Reporter | None = None,
    *,
    connections: int = LIMIT,
) -> list[Download]:
    """Fetches the parts of one dump as `download` does each, `connections` at a time, in their order.

    The first that fails ends the others; what has come so far is kept. Raises WordloomError.
    """
    reporter = reporter or Reporter(quiet=True)
    if len(parts) == 1:
        (one,) = parts
        return [download(one.url, folder, reporter, size=one.bytes, sha1=one.sha1, connections=connections)]
    limit, over = Connections(connections), threading.Event()
    sizes = [part.bytes for part in parts]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with reporter.stage("download", total=total, unit="B") as stage:
        shared = _Shared(stage, over)

        def fetch(number: int, part: Part) -> Download:
            try:
                transfer = Transfer(part.url, Path(folder), reporter, limit, shared.pause)
                done = transfer.run(shared.part(number), part.bytes, part.sha1, None)
                shared.update(number, done.bytes)
                return done
            except BaseException:
                over.set()
                raise

        with ThreadPoolExecutor(connections, "download") as pool:
            waiting = [pool.submit(fetch, *each) for each in enumerate(parts)]
            try:
                done = [each.result() for each in waiting]
            except _OverError:  # the first was ended by another: that one's error is the reason
                done = []
            finally:
                over.set()
                pool.shutdown(cancel_futures=True)
            for each in waiting:
                error = None if each.cancelled() else each.exception()
                if error is not None and not isinstance(error, _OverError):
                    raise error
        stage.summary(f"{counted(len(done), 'file')}, {quantity(sum(each.bytes for each in done), 'B')}")
    return done


def stored(
    parts: Sequence[Part],
    downloads: str | Path | Folder,
    reporter: Reporter | None,
    memory: Checksums,
    connections: int,
) -> list[str]:
    """`download_all` into the folder `downloads`: where the files lie now; `memory` knows their sums."""
    folder = downloads if isinstance(downloads, Folder) else Folder(downloads)
    if not folder.is_local:
        raise UsageError(
            f"Cannot download into {folder.location!r}: downloads go into a local folder; name one, or "
            "leave nothing to store with --no-download."
        )
    done = download_all(parts, folder.location, reporter, connections=connections)
    for each in done:
        memory.remember(str(each.path), each.sha256)
    return [str(each.path) for each in done]


def kept(parts: Sequence[Part], downloads: str | Path | Folder) -> list[Part]:
    """The parts, each where `stored` has left it whole in an earlier run, else where it was. Asks nobody."""
    folder = downloads if isinstance(downloads, Folder) else Folder(downloads)
    if not folder.is_local:
        return list(parts)
    return [_kept(part, Path(folder.location)) or part for part in parts]


def _kept(part: Part, folder: Path) -> Part | None:
    name = name_of(part.url)
    path, note = folder / name, read_note(note_of(folder, name))
    whole = path.is_file() and path.stat().st_size == note.get("bytes")
    wanted = part.sha1 in (None, note.get("sha1")) and part.bytes in (None, note.get("bytes"))
    wanted = wanted and (part.sha1 is not None or fetched_from(place_of(part.url), note))
    return Part(str(path), part.bytes, part.sha1) if whole and wanted else None


class _OverError(Exception):
    """Another part failed, or the user stopped the run."""


class _Shared:
    """One stage for several transfers, and the end of all when one has failed."""

    def __init__(self, stage: Stage, over: threading.Event) -> None:
        self._stage, self._over = stage, over
        self._lock = threading.Lock()
        self._done: dict[int, float] = {}

    def part(self, number: int) -> Heard:
        shared = self

        class One:
            def update(self, done: float, *, total: float | None = None, note: str | None = None) -> None:
                shared.update(number, done, note)

        return One()

    def update(self, number: int, done: float, note: str | None = None) -> None:
        if self._over.is_set():
            raise _OverError
        with self._lock:
            self._done[number] = done
            self._stage.update(sum(self._done.values()), note=note)

    def pause(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise _OverError
