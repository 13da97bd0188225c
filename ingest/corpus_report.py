"""What the reports of ingest show (see `cluster.report`): of a corpus, a vocabulary, labelled sequences.

Everything is read from the artefact. The counts are exact; lengths are those of a few shards where there are
many. The speed is what the run that published the corpus noted (``made.speed`` of the manifest), which
differs from run to run as the report does; the shards do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster import picture, report
from cluster.artefact import Artefact
from cluster.progress import Reporter, quantity
from cluster.report import Kinds, Report
from ingest import corpus, sequence_corpus, vocabulary
from ingest.corpus import Corpus
from ingest.sequence_corpus import SequenceCorpus
from ingest.vocabulary import Vocabulary

RANKS = 400  # points of the curves over ranks, evenly apart on their logarithmic axis
TOP = 25  # commonest tokens that are named
SHARDS = 32  # shards whose lengths are looked at
SHARES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)  # of the text that a vocabulary may cover
LABELS = 40  # whose sizes are shown

Counts = npt.NDArray[np.int64]


# what each kind shows


def _corpus(page: Report, artefact: Artefact) -> None:
    counts, found = artefact.counts, Corpus(artefact)
    page.section("Pages by what became of them")
    fates = {"kept": found.pages, **counts["dropped"]}
    page.bars(
        (name, pages, f"{pages:,} ({pages / counts['pages_in_dump']:.1%})")
        for name, pages in fates.items()
        if pages
    )
    if sizes := counts.get("bytes"):
        whole = sum(sizes.values()) or 1
        page.section("Bytes by what became of them")
        page.bars(
            (name, sizes[name], f"{quantity(sizes[name], 'B')} ({sizes[name] / whole:.1%})")
            for name, pages in fates.items()
            if pages
        )
    if counts["losses"]:
        page.section("Losses")
        page.table(("what was cut or damaged",), [[sentence] for sentence in counts["losses"]])
    _tokens(page, found.token_counts())
    several = len(found.shards)
    chosen = range(0, several, -(-several // SHARDS))
    lengths = [np.diff(found.shard_tokens(shard, "all").offsets) for shard in chosen]
    where = "" if len(chosen) == several else f" of {len(chosen)} of the {several:,} shards"
    _lengths(page, np.concatenate([np.zeros(0, np.int64), *lengths]), f"tokens a page{where}")
    _speed(page, artefact.manifest.made.get("speed", []))


def _vocabulary(page: Report, artefact: Artefact) -> None:
    words = Vocabulary.open(artefact.folder)
    counts = np.asarray(words.counts[1:])
    _frequencies(page, counts, words.tokens[1:])
    _coverage(page, counts, int(artefact.counts["tokens"]))


def _sequences(page: Report, artefact: Artefact) -> None:
    found = SequenceCorpus(artefact)
    page.section("Sequences by split")
    page.bars((name, count, f"{count:,}") for name, count in found.counts["splits"].items())
    if any(found.counts["dropped"].values()):
        page.section("Rows that were dropped")
        page.bars((name, count, f"{count:,}") for name, count in found.counts["dropped"].items() if count)
    part = found.read()
    page.section("Labels")
    labelled = np.bincount(part.labels[part.labels >= 0], minlength=len(found.labels))
    for place in np.argsort(-labelled, kind="stable")[:1]:
        page.text(
            f"The commonest is {found.labels[place]!r}, {labelled[place] / max(labelled.sum(), 1):.1%}."
        )
    page.bars((name, int(n), f"{n:,}") for name, n in zip(found.labels[:LABELS], labelled, strict=False))
    _lengths(page, np.diff(part.offsets), "frames a sequence")
    if not found.counts["width"]:
        _tokens(page, found.token_counts())


KINDS: Kinds = {
    corpus.KIND: _corpus,
    vocabulary.KIND: _vocabulary,
    sequence_corpus.KIND: _sequences,
}


def beside(made: Artefact, reporter: Reporter, kinds: Kinds = KINDS) -> Artefact:
    """The artefact, its report written beside it unless one is there; where that fails it is only said."""
    if not made.folder.exists(report.FILE) and (failed := report.attempt(made, kinds)) is not None:
        reporter.say(failed)
    return made


# what several show


def _tokens(page: Report, batches: Iterable[pa.RecordBatch]) -> None:
    """Frequencies and coverage of all distinct tokens; only the counts stay in memory (8 bytes a token)."""
    counts: list[Counts] = []
    commonest: list[tuple[int, str]] = []
    for batch in batches:
        found = batch.column("count").to_numpy()
        counts.append(found)
        top = np.argsort(-found, kind="stable")[:TOP]
        names = batch.column("token").take(pa.array(top)).to_pylist()
        commonest = sorted([*commonest, *zip(found[top].tolist(), names, strict=True)], reverse=True)[:TOP]
    ordered = np.sort(np.concatenate([np.zeros(0, np.int64), *counts]))[::-1]
    if len(ordered):
        _frequencies(page, ordered, [name for _, name in commonest])
        _coverage(page, ordered, int(ordered.sum()))


def _frequencies(page: Report, counts: Counts, names: Sequence[str]) -> None:
    """Counts over ranks, both logarithmic: a straight line is Zipf's law."""
    page.section("Tokens by frequency")
    ranks = _ranks(len(counts))
    drawn = picture.figure(7, 4)
    axes = drawn.subplots()
    axes.loglog(ranks, counts[ranks - 1], color="tab:blue", marker=".", markersize=3, label="the tokens")
    axes.loglog(ranks, counts[0] / ranks, color="grey", linestyle=":", label="Zipf: count = largest / rank")
    axes.set(xlabel="rank", ylabel="count", ylim=(0.7, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    page.picture(
        "frequencies", drawn, f"How often each of {len(counts):,} tokens occurs, the commonest first."
    )
    page.table(
        ("rank", "token", "count"),
        [[place + 1, name, int(counts[place])] for place, name in enumerate(names[:TOP])],
        "The commonest tokens",
    )


def _coverage(page: Report, counts: Counts, total: int) -> None:
    """The share of the text that the commonest tokens cover, by how many they are."""
    page.section("Coverage of a vocabulary")
    covered = np.cumsum(counts) / total
    ranks = _ranks(len(counts))
    drawn = picture.figure(7, 3.4)
    axes = drawn.subplots()
    axes.semilogx(ranks, 100 * covered[ranks - 1], color="tab:blue")
    axes.set(xlabel="words of the vocabulary", ylabel="% of the text", ylim=(0, 101))
    axes.grid(alpha=0.3)
    page.picture("coverage", drawn, "How much of the text the commonest words cover.")
    needed = [(share, int(np.searchsorted(covered, share - 1e-12)) + 1) for share in SHARES]
    page.table(
        ("of the text", "words that cover it", "rarest occurs"),
        [[f"{share:.1%}", size, int(counts[size - 1])] for share, size in needed if size <= len(counts)],
    )


def _lengths(page: Report, lengths: npt.NDArray[Any], unit: str) -> None:
    page.section("Lengths")
    if not len(lengths):
        return
    quantiles = {
        "shortest": 0,
        "a tenth is below": 10,
        "median": 50,
        "nine tenths are below": 90,
        "longest": 100,
    }
    page.text(
        f"{unit}: mean {lengths.mean():,.1f}, "
        + ", ".join(f"{name} {np.percentile(lengths, at):,.0f}" for name, at in quantiles.items())
    )
    edges = np.unique(np.geomspace(1, max(int(lengths.max()), 2) + 1, 40).astype(int))
    counts, _ = np.histogram(np.maximum(lengths, 1), edges)
    drawn = picture.figure(7, 3)
    axes = drawn.subplots()
    axes.stairs(counts, edges, fill=True, color="tab:blue")
    axes.set(xscale="log", xlabel=unit, ylabel="how many")
    axes.grid(alpha=0.3)
    page.picture("lengths", drawn, "How many are how long.")


def _speed(page: Report, points: Sequence[Sequence[float]]) -> None:
    """`points`: seconds since the run began, bytes of the source and pages that were done then."""
    if len(points) < 2:
        return
    seconds, sizes, pages = np.asarray(points, float).T
    page.section("Speed over time")
    spans = np.maximum(np.diff(seconds), 1e-9)
    drawn = picture.figure(7, 3)
    axes = drawn.subplots()
    axes.stairs(np.diff(sizes) / spans / 1e6, seconds, color="tab:blue", fill=True, alpha=0.6)
    axes.set(xlabel="seconds", ylabel="MB/s of the source")
    axes.grid(alpha=0.3)
    page.picture(
        "speed", drawn, "Bytes of the source a second in the run that finished it, start of workers and all."
    )
    whole = max(seconds[-1] - seconds[0], 1e-9)
    page.text(
        f"{quantity(sizes[-1] - sizes[0], 'B')} and {pages[-1] - pages[0]:,.0f} pages in {whole:,.1f} s: "
        f"{quantity((sizes[-1] - sizes[0]) / whole, 'B')}/s, "
        f"{quantity(round((pages[-1] - pages[0]) / whole))} pages/s."
    )


def _ranks(count: int) -> npt.NDArray[np.int64]:
    """Ranks from 1 to `count`, evenly apart on a logarithmic axis, each once."""
    return np.unique(np.geomspace(1, count, RANKS).round().astype(np.int64))
