"""The output of ingest is guarded: what it makes of a fixed dump is written down here.

If a test here fails and the change of the output is meant, raise OUTPUT_VERSION in the module that it names
(so that nobody goes on with artefacts of the old kind) and write down the new number and hash.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cluster.progress import Reporter
from ingest import review_grammar, sequence_corpus, vocabulary, wikipedia
from ingest.corpus import Corpus
from ingest.review_grammar import GrammarSettings
from ingest.sequence_corpus import SequenceCorpus
from ingest.settings import IngestSettings, VocabularySettings
from ingest.vocabulary import Vocabulary, cut_vocabulary
from tests.dumps import page
from tests.test_wikipedia import by_hand, plain_dump

PAGES = [
    page(
        7,
        "Cat",
        "The '''cat''' (''Felis catus'') weighs {{convert|4|kg}}.<ref>x</ref>\n\n== Names ==\n* [[dog|Dogs]]",
    ),
    page(8, "Kot", "#REDIRECT [[Cat]]", redirect="Cat"),
    page(9, "Été", "L’été à 3.14 – Öl, ÇA.\n{|\n| a\n|}\n[[Category:Seasons]][[File:a.jpg|thumb|b]]"),
    page(10, "日本", "日本語のテキストは1,000字。人々 ภาษาไทย می‌خواهم 한국어"),
    page(11, "Talk:Cat", "no", namespace=1),
    page(12, "Box", "{{Infobox}}"),
    page(48, "Held out", "don't [http://x.org see] &ndash; __TOC__ [[Help:A (b)|]] {{lang|fr|eau}}"),
]

CORPUS = {
    ("unicode", "strip"): (3, "4e5475d487a478b6"),
    ("reference", "keep"): (3, "a6f049c6710b46f4"),
}
VOCABULARY = (1, "938b057a2288d63c")
SEQUENCES = (1, "464440e31e4d51c1")


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).hexdigest()[:16]


def made(tmp_path: Path, tokeniser: str = "unicode", markup: str = "strip") -> Corpus:
    settings = IngestSettings(tokeniser=tokeniser, markup=markup)
    by_hand(plain_dump(tmp_path, PAGES), tmp_path / "corpus", settings)
    return Corpus.open(tmp_path / "corpus")


@pytest.mark.parametrize(("tokeniser", "markup"), list(CORPUS))
def test_a_corpus_is_what_it_was_at_this_output_version(tmp_path: Path, tokeniser: str, markup: str) -> None:
    corpus = made(tmp_path, tokeniser, markup)
    content = [
        [[shard.name, corpus.folder.read_table(shard.name).to_pylist()] for shard in corpus.shards],
        [batch.to_pylist() for batch in corpus.token_counts()],
        corpus.redirects().to_pylist(),
        {name: value for name, value in corpus.counts.items() if name != "shards"},
        [shard.to_json() for shard in corpus.shards],
    ]
    found = (wikipedia.OUTPUT_VERSION, digest(content))
    assert found == CORPUS[tokeniser, markup], (
        "ingest makes something else of a dump: raise OUTPUT_VERSION in ingest/wikipedia.py if that is meant"
    )


def test_a_vocabulary_is_what_it_was_at_this_output_version(tmp_path: Path) -> None:
    cut_vocabulary(made(tmp_path), tmp_path / "words", VocabularySettings(size=12))
    words = Vocabulary.open(tmp_path / "words")
    found = (vocabulary.OUTPUT_VERSION, digest([words.tokens, words.counts.tolist()]))
    assert found == VOCABULARY, (
        "the cut has changed: raise OUTPUT_VERSION in ingest/vocabulary.py if that is meant"
    )


def test_labelled_sequences_are_what_they_were_at_this_output_version(tmp_path: Path) -> None:
    """The grammar's reviews and the format in which they lie."""
    made = review_grammar.make_reviews(
        str(tmp_path), GrammarSettings(training=20, test=4), Reporter(quiet=True)
    )
    content = [
        [made.folder.read_table(shard["name"]).to_pylist() for shard in made.counts["shards"]],
        [batch.to_pylist() for batch in SequenceCorpus(made).token_counts()],
        made.counts,
    ]
    found = (sequence_corpus.OUTPUT_VERSION, digest(content))
    assert found == SEQUENCES, "raise OUTPUT_VERSION in ingest/sequence_corpus.py if the change is meant"
