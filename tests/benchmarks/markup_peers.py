"""What other tools take to strip the same pages, and how far their text and ours agree.

    python -m tests.benchmarks.markup_peers DUMP... [--wikiextractor PYTHON] [--wikipedia2vec PYTHON]
        [--segment-wiki PYTHON]

prints what is below as one JSON object; `tests.benchmarks.ingest` calls the functions and adds our own side.

*The input* is one .bz2 export of the distinct pages of the dumps (`genuine_export`): their own bytes, each
page's id replaced by a running number, because ids of several wikis collide. A page whose title and id
came before is left out, and so is one that is cut.

*The speed of a tool* (`peer_seconds`) is CPU seconds, user and system, of its process and all below it, with
one worker process, less what the same command takes for an export of one short page:

- gensim's ``segment_wiki -w 1`` (it writes JSON lines, gzip);
- wikiextractor's ``--json --processes 1 --no-templates``. Without ``--no-templates`` it reads the dump twice,
  to expand templates that no such export holds; it is measured as it is faster;
- wikipedia2vec's ``build-dump-db --pool-size 1`` (it writes LMDB).

*Agreement* (`agreement`) is micro-averaged over pages: tokens in common as multisets, in a page, divided by
our tokens (precision) and by the other's (recall), by our `unicode` tokeniser on both sides. Against
mwparserfromhell: its tree without what our rule drops and its `strip_code` keeps (comments; tables; links to
files and categories; language links; the tags of `ingest.markup.DROPPED_TAGS`), then `strip_code`. It drops
all templates and we keep the values of some, which counts against us. Against wikiextractor: its text as it
is; it drops what stands in lists and under headings without a sentence, which counts against us too.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.dump import locate, plan
from ingest.markup import DROPPED_TAGS, Stripper
from ingest.pages import PageReader
from ingest.tokens import Tokeniser

PEERS = ("segment_wiki", "wikiextractor", "wikipedia2vec")
NEEDED = {
    "segment_wiki": "gensim.scripts.segment_wiki",
    "wikiextractor": "wikiextractor.WikiExtractor",
    "wikipedia2vec": "wikipedia2vec.cli",
}
MOST_SECONDS = 900  # segment_wiki waits for ever when its reader fails
_PAGE = re.compile(rb"[ \t]*<page>.*?</page>\n?", re.DOTALL)
_TITLE = re.compile(rb"<title>([^<]*)<")
_ID = re.compile(rb"<id>\d+</id>")
_HEAD = (
    b'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en">\n'
    b"  <siteinfo>\n    <sitename>Wikipedia</sitename>\n    <base>https://en.wikipedia.org/wiki/Main_Page</base>\n"
    b'    <namespaces>\n      <namespace key="0" case="first-letter" />\n'
    b'      <namespace key="6" case="first-letter">File</namespace>\n'
    b'      <namespace key="10" case="first-letter">Template</namespace>\n'
    b'      <namespace key="14" case="first-letter">Category</namespace>\n    </namespaces>\n  </siteinfo>\n'
)
_SHORT = b"""  <page>
    <title>A</title>
    <ns>0</ns>
    <id>1</id>
    <revision>
      <id>1</id>
      <text xml:space="preserve">%s</text>
    </revision>
  </page>
""" % (b"A short page. " * 40)

# Runs a command and prints the CPU seconds of everything below it, workers that nobody waited for included:
# whoever loses its parent becomes a child of this process (prctl's PR_SET_CHILD_SUBREAPER).
_METER = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=sys.stderr)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime)
"""


@dataclass(frozen=True)
class Export:
    """The pages of several dumps as one; page number n came from `dumps[origins[n - 1]]`."""

    path: Path
    xml_bytes: int
    dumps: list[Path]
    origins: list[int]

    @property
    def pages(self) -> int:
        return len(self.origins)


def genuine_export(dumps: Sequence[Path], target: Path) -> Export:
    """Writes the distinct pages of the dumps (.bz2, .gz, plain) to `target`, a single bzip2 stream."""
    known: set[tuple[bytes, bytes]] = set()
    origins: list[int] = []
    pages = [_HEAD]
    for number, dump in enumerate(dumps):
        for found in _PAGE.finditer(_bytes_of(dump)):
            title, own = _TITLE.search(found[0]), _ID.search(found[0])
            key = (title[0] if title else b"", own[0] if own else b"")
            if key not in known:
                known.add(key)
                origins.append(number)
                pages.append(_ID.sub(b"<id>%d</id>" % len(origins), found[0], count=1))
    pages.append(b"</mediawiki>\n")
    xml = b"".join(pages)
    target.write_bytes(bz2.compress(xml))
    return Export(target, len(xml), list(dumps), origins)


def _bytes_of(dump: Path) -> bytes:
    content = dump.read_bytes()
    if dump.suffix == ".bz2":
        return bz2.decompress(content)
    return gzip.decompress(content) if dump.suffix == ".gz" else content


def missing(name: str, python: str) -> str | None:
    """Why this peer cannot be run by this Python, None if it can."""
    try:
        done = subprocess.run([python, "-c", f"import {NEEDED[name]}"], capture_output=True, text=True)
    except OSError as error:
        return f"{python!r} cannot be started ({error.strerror})."
    if done.returncode == 0:
        return None
    return f"{python!r} cannot import it ({(done.stderr.strip().splitlines() or ['no reason'])[-1]})."


def _command(name: str, python: str, dump: Path, folder: Path) -> list[str]:
    if name == "segment_wiki":
        return [python, "-m", NEEDED[name], "-f", str(dump), "-o", str(folder / "out.json.gz"), "-w", "1"]
    if name == "wikiextractor":
        options = ["--json", "--processes", "1", "--no-templates", "-q"]
        return [python, "-m", NEEDED[name], *options, "-o", str(folder), str(dump)]
    start = "from wikipedia2vec.cli import cli; cli()"
    return [python, "-c", start, "build-dump-db", "--pool-size", "1", str(dump), str(folder / "out.db")]


def run_peer(name: str, python: str, dump: Path, folder: Path) -> float:
    """CPU seconds of the whole process tree of one run; what it writes goes below `folder`, made here."""
    folder.mkdir(parents=True)
    meter = [sys.executable, "-c", _METER, *_command(name, python, dump, folder)]
    done = subprocess.run(meter, capture_output=True, text=True, timeout=MOST_SECONDS, cwd=folder)
    code, seconds = done.stdout.split()
    if code != "0":
        raise RuntimeError(f"{name} ended with {code}: {done.stderr[-500:]}")
    return float(seconds)


def peer_seconds(name: str, python: str, export: Path, scratch: Path) -> dict[str, Any]:
    """``{"cpu_s": ..., "startup_cpu_s": ...}``, start-up not in the first; ``{"missing": why}`` if it fails.

    `scratch` must be new; wikiextractor's output stays in ``scratch/whole`` for `agreement`.
    """
    why = missing(name, python)
    if why is not None:
        return {"missing": why}
    scratch.mkdir(parents=True)
    short = scratch / "short.xml.bz2"
    short.write_bytes(bz2.compress(_HEAD + _SHORT + b"</mediawiki>\n"))
    try:
        startup = run_peer(name, python, short, scratch / "short")
        whole = run_peer(name, python, export, scratch / "whole")
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return {"missing": str(error)}
    return {"cpu_s": round(whole - startup, 3), "startup_cpu_s": round(startup, 3)}


def ratios(own_cpu: float, peers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``segment_wiki_ratio`` and so on: a peer's CPU seconds over ours on the same input, that is our bytes
    of XML a CPU second over its; None where it is missing, with ``..._missing`` saying why.
    """
    said: dict[str, Any] = {}
    for name, taken in peers.items():
        said[f"{name}_ratio"] = round(taken["cpu_s"] / own_cpu, 2) if "cpu_s" in taken else None
        if "missing" in taken:
            said[f"{name}_missing"] = taken["missing"]
    return said


def agreement(export: Export, wikiextractor: Path | None = None) -> dict[str, Any]:
    """Precision and recall of our text, in all and for each dump, against mwparserfromhell's and, where the
    folder with its JSON is given, wikiextractor's.
    """
    tokeniser = Tokeniser()
    prefixes = [_prefixes(dump) for dump in export.dumps]
    strippers = [Stripper(each) for each in prefixes]
    theirs = _wikiextracted(wikiextractor) if wikiextractor is not None else {}
    sums: dict[str, Counter[tuple[str, str]]] = {"": Counter(), "_wikiextractor": Counter()}
    try:
        from mwparserfromhell import parse
    except ImportError:
        parse = None
    for page in PageReader([_bytes_of(export.path)], (0, 14)):
        origin = export.origins[page.page_id - 1]
        stripper = strippers[origin]
        ours = Counter(tokeniser.split(stripper.strip(page.text).text))
        texts = {}
        if parse is not None:
            texts[""] = reference_text(parse(page.text), stripper)
        if page.page_id in theirs:
            texts["_wikiextractor"] = theirs[page.page_id]
        for against, text in texts.items():
            reference = Counter(tokeniser.split(text))
            for place in ("", export.dumps[origin].name):
                sums[against][place, "both"] += (ours & reference).total()
                sums[against][place, "ours"] += ours.total()
                sums[against][place, "theirs"] += reference.total()
    said: dict[str, Any] = {}
    for against, counts in sums.items():
        said |= {
            f"strip_precision{against}": _share(counts["", "both"], counts["", "ours"]),
            f"strip_recall{against}": _share(counts["", "both"], counts["", "theirs"]),
            f"strip_by_dump{against}": {
                dump.name: [
                    _share(counts[dump.name, "both"], counts[dump.name, "ours"]),
                    _share(counts[dump.name, "both"], counts[dump.name, "theirs"]),
                ]
                for dump in export.dumps
                if counts[dump.name, "theirs"]
            },
        }
    return said


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _prefixes(dump: Path) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        return dict(plan(locate(dump, Path(folder)), 1 << 40)[0].prefixes)


def _wikiextracted(folder: Path) -> dict[int, str]:
    lines = (line for file in sorted(folder.rglob("wiki_*")) for line in file.read_text().splitlines())
    pages = (json.loads(line) for line in lines if line.strip())
    return {int(page["id"]): page["text"] for page in pages}


def reference_text(code: Any, stripper: Stripper) -> str:
    """mwparserfromhell's plain text of a page, without what our rule drops; `code` is changed."""
    _clean(code, stripper)
    text: str = code.strip_code(normalize=True, collapse=True)
    return text


def _clean(code: Any, stripper: Stripper) -> None:
    for node in list(code.nodes):
        kind = type(node).__name__
        if kind == "Comment":
            code.remove(node)
        elif kind == "Tag":
            if str(node.tag).strip().lower() in DROPPED_TAGS | {"table"}:
                code.remove(node)
            elif node.contents is not None:
                _clean(node.contents, stripper)
        elif kind == "Wikilink":
            if ":" in str(node.title) and stripper.kind(str(node.title), node.text is not None):
                code.remove(node)
            elif node.text is not None:
                _clean(node.text, stripper)
        elif kind in ("Heading", "ExternalLink") and node.title is not None:
            _clean(node.title, stripper)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Stripping of wiki markup by other tools, and agreement with ours."
    )
    parser.add_argument("dumps", nargs="+", type=Path)
    for name in PEERS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, metavar="PYTHON", default=sys.executable, help="that has it installed")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wordloom-peers-") as scratch:
        folder = Path(scratch)
        export = genuine_export(given.dumps, folder / "export.xml.bz2")
        peers = {name: peer_seconds(name, getattr(given, name), export.path, folder / name) for name in PEERS}
        for taken in peers.values():
            if "cpu_s" in taken:
                taken["mb_per_cpu_s"] = round(export.xml_bytes / 1e6 / taken["cpu_s"], 2)
        extracted = folder / "wikiextractor" / "whole"
        said = {
            "pages": export.pages,
            "xml_mb": round(export.xml_bytes / 1e6, 2),
            **peers,
            **agreement(export, extracted if extracted.exists() else None),
        }
    print(json.dumps(said, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
