"""Abstracts to a corpus, the oldest first, the newest of them held out.

The same papers give the same corpus, wherever they came from.
"""

from __future__ import annotations

from pathlib import Path

from cluster.artefact import Artefact, Draft, settings_dict
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest.corpus import KIND
from ingest.papers import Papers
from ingest.settings import AbstractsSettings, IngestSettings
from ingest.shard_maker import ShardMaker
from ingest.wikipedia import publish

# Raise by one whenever the same papers and settings give other shards (tests/test_abstracts.py guards it).
OUTPUT_VERSION = 1


def ingest(
    papers: Papers,
    output: str | Path | Folder,
    settings: IngestSettings,
    own: AbstractsSettings,
    reporter: Reporter,
) -> Artefact:
    """The corpus of papers in the folder `output`. No Ray: all papers of arXiv are some seconds' work."""
    draft = Draft(
        output,
        kind=KIND,
        output_version=OUTPUT_VERSION,
        inputs={"abstracts": papers.as_input()},
        settings={**settings_dict(settings), **settings_dict(own)},
    )
    if draft.published is not None:
        reporter.say(f"= ingest: reused, {draft.published.counts['pages']:,} pages at {draft.location}")
        return draft.published
    maker = ShardMaker(draft.folder, draft.making, settings)
    records = []
    with reporter.stage("ingest", total=papers.bytes, unit="B", rows="pages") as stage:
        for split in papers.plan(settings.split_size(papers.bytes), own.held_out_share):
            records.append(maker.make(split))
            stage.advance(split.bytes, rows=len(split.papers))
        return publish(draft, papers, records, stage, reporter)
