"""Small trained models of every kind that the page shows, made without Ray in some seconds: real ones, on
synthetic reviews and on letters drawn with a few strokes."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cluster.artefact import Artefact
from cluster.progress import Reporter
from ingest import review_grammar
from ingest.letters import ingest_letters
from ingest.review_grammar import GrammarSettings
from ingest.sequence_corpus import SequenceCorpus
from ingest.sequence_pages import SequencePages
from ingest.settings import SequencesSettings, VocabularySettings
from ingest.source_file import locate
from ingest.vocabulary import cut_vocabulary
from tests import letters
from tests.test_language_model import Pages
from tests.test_sequence_learner import Silent
from trainers import jobs
from trainers.characters import Alphabet
from trainers.embeddings import EmbeddingsSettings
from trainers.group import LocalGroup
from trainers.labelling_settings import LabellingSettings
from trainers.language_model import CharacterLanguageModel
from trainers.language_settings import LanguageModelSettings
from trainers.launch import TrainingJob
from trainers.loop import Learner, produce
from trainers.sentiment_learner import sentiment_learner
from trainers.sentiment_settings import PRESETS, SentimentSettings

QUIET = Reporter(quiet=True)
REVIEWS = GrammarSettings(training=1200, test=60)
# Strokes of letters, each a list of points (x to the right, y down) in a cell of 100 x 150.
STROKES: dict[str, list[list[tuple[int, int]]]] = {
    "l": [[(50, 10), (50, 140)]],
    "o": [[(50, 40), (20, 60), (15, 90), (30, 120), (60, 125), (85, 95), (75, 55), (50, 40)]],
    "n": [[(20, 40), (20, 130)], [(20, 70), (50, 42), (78, 62), (80, 130)]],
    "t": [[(50, 10), (48, 120), (70, 135)], [(20, 45), (80, 45)]],
    "e": [[(20, 85), (80, 78), (70, 48), (40, 45), (18, 85), (30, 120), (75, 122)]],
    "v": [[(15, 45), (50, 130), (85, 42)]],
}
WORDS = ("not", "love", "one", "ten", "noel", "to", "on", "let", "vote", "net", "lot", "toe", "oven", "novel")


def bits(strokes: list[list[tuple[float, float]]], pen: float = 0.72) -> list[int]:
    """Strokes as 16 x 8 bits, fitted into the frame as the page does it (serving/web/page.js, `bitsOf`)."""
    points = np.array([point for stroke in strokes for point in stroke], float)
    low, high = points.min(0), points.max(0)
    spread = np.where(high > low, high - low, 1.0)
    scale = min(7 / spread[0], 15 / spread[1], 0.25)
    rows, columns = np.mgrid[:16, :8]
    centres = np.stack([columns, rows], -1).reshape(-1, 2).astype(float)
    lit = np.zeros(128, bool)
    for stroke in strokes:
        path = (np.array(stroke, float) - (low + high) / 2) * scale + (3.5, 7.5)
        for start, end in itertools.pairwise(path):
            along = end - start
            share = np.clip((centres - start) @ along / max(float(along @ along), 1e-9), 0, 1)
            lit |= np.linalg.norm(centres - start - share[:, None] * along, axis=1) < pen
    return lit.astype(int).tolist()


def handwriting(copies: int = 20) -> Iterator[bytes]:
    """Handwritten words in the form of the letters' set: each stroke a little elsewhere each time."""
    random = np.random.default_rng(5)
    number = 0
    for _ in range(copies):
        for word in WORDS:
            for place, letter in enumerate(word, 1):
                number += 1
                shaken = [
                    [(x + random.normal(0, 3.5), y + random.normal(0, 3.5)) for x, y in stroke]
                    for stroke in STROKES[letter]
                ]
                following = -1 if place == len(word) else number + 1
                pixels = "".join(map(str, bits(shaken)))
                yield letters.line(number, letter, following, place, 0, pixels)


def trained(job: TrainingJob, learner: Learner) -> Artefact:
    produce(learner, job.draft, LocalGroup(), job.loop, Silent())
    return Artefact.open(job.draft.folder)


def make(home: Path) -> dict[str, Artefact]:
    """The models by kind, below a home."""
    letters_corpus = handwritten(home)
    reviews = review_grammar.make_reviews(str(home / "reviews" / "a"), REVIEWS, QUIET)
    return {
        "vectors": vectors(home, reviews),
        "language-model": language_model(home, reviews),
        "sentiment": sentiment(home, reviews),
        "labelling-forward": labelling(home, letters_corpus, "forward", both=False),
        "labelling": labelling(home, letters_corpus, "both", both=True),  # the newest is asked first
    }


def vectors(home: Path, reviews: Artefact) -> Artefact:
    cut = cut_vocabulary(SequencePages(reviews), str(home / "vocabulary" / "a"), VocabularySettings(), QUIET)
    settings = EmbeddingsSettings(vector_size=24, window=3, epochs=6, block_tokens=4096, xla=False)
    job = jobs.embeddings(reviews, cut, str(home / "vectors" / "a"), settings)
    return trained(job, jobs.skip_gram(job.draft.inputs, settings))


def language_model(home: Path, reviews: Artefact) -> Artefact:
    texts = SequenceCorpus(reviews).texts("train")
    alphabet = Alphabet("".join(sorted(set("".join(texts)))))
    settings = LanguageModelSettings(
        units=64, batch=32, learning_rate=0.01, epochs=1, epoch_batches=60, held_out_characters=2_000
    )
    job = jobs.language_model(reviews, str(home / "language-model" / "a"), settings)
    stream = Pages([f"{text}\n" for text in texts[50:]], texts[:50], alphabet, settings)
    return trained(job, CharacterLanguageModel(stream, alphabet, settings))


def sentiment(home: Path, reviews: Artefact) -> Artefact:
    settings = SentimentSettings(**PRESETS["fast"])
    job = jobs.sentiment(reviews, None, str(home / "sentiment" / "a"), settings)
    return trained(job, sentiment_learner(job.draft.inputs, settings))


def handwritten(home: Path) -> Artefact:
    source = home / "letter.data.gz"
    source.write_bytes(gzip.compress(b"".join(handwriting()), mtime=0))
    file = locate(str(source), str(home / "downloads"), QUIET)
    return ingest_letters(file, str(home / "letters" / "a"), SequencesSettings(), QUIET)


def labelling(home: Path, corpus: Artefact, name: str, *, both: bool) -> Artefact:
    settings = LabellingSettings(layers=1, units=24, batch=10, epochs=4, learning_rate=0.01, both=both)
    job = jobs.labelling(corpus, str(home / "labelling" / name), settings)
    return trained(job, jobs.sequence_labeller(job.draft.inputs, settings))
