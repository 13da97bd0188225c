"""What training gives for a fixed input under an output version. Floating point differs a little between
processors, so the figures are compared within a tolerance that no change of the method would stay within."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.progress import Reporter
from ingest import review_grammar
from ingest.review_grammar import GrammarSettings
from ingest.sequence_corpus import SequenceCorpus
from tests import letters, test_language_model
from tests.topics import WORDS, TopicStream
from trainers import jobs, sentiment
from trainers.embeddings import EmbeddingsSettings
from trainers.group import LocalGroup
from trainers.labelled_sequences import labelled
from trainers.labelling_settings import PRESETS, LabellingSettings
from trainers.sentiment_learner import SentimentLearner
from trainers.sentiment_settings import SentimentSettings
from trainers.sequence_labeller import SequenceLabeller
from trainers.skipgram import SkipGram

RAISE = "if the output was changed on purpose, raise {} in trainers/jobs.py and mend the figures here"


def test_embeddings_are_what_they_were_at_this_output_version() -> None:
    settings = EmbeddingsSettings(
        vector_size=8,
        window=2,
        subsample=0.0,
        tokens_per_step=64,
        tile=8,
        negatives_per_tile=20,
        learning_rate=0.1,
        xla=False,
    )
    stream = TopicStream()
    made = SkipGram(stream, WORDS, stream.counts, settings)
    state, _ = made.run(made.initial(), [stream.block(index) for index in range(12)], 36)
    figures = made.evaluate(made.exchange(state, LocalGroup(), 1.0))
    golden = {"held_out_loss": 2.26360, "held_out_auc": 0.85141}
    assert jobs.EMBEDDINGS_VERSION == 8
    assert figures == pytest.approx(golden, rel=2e-3), RAISE.format("EMBEDDINGS_VERSION")


def test_the_language_model_is_what_it_was_at_this_output_version() -> None:
    made = test_language_model.learner()
    blocks = [made.stream.block(index) for index in range(12)]
    state, _ = made.run(made.initial(), blocks, 24)
    figures = made.evaluate(made.exchange(state, LocalGroup(), 1.0))
    assert jobs.LANGUAGE_MODEL_VERSION == 7
    golden = pytest.approx(1.64603, rel=2e-3)
    assert figures["held_out_loss"] == golden, RAISE.format("LANGUAGE_MODEL_VERSION")


def test_sentiment_is_what_it_was_at_this_output_version(tmp_path: Path) -> None:
    settings = SentimentSettings(
        units=4, vector_size=4, features=2, pairs=50, learning_rate=0.01, average=0.9
    )
    reviews = review_grammar.make_reviews(
        str(tmp_path), GrammarSettings(training=160, test=2), Reporter(quiet=True)
    )
    corpus = SequenceCorpus(reviews)
    made = SentimentLearner(corpus, sentiment.known_words(corpus, None, settings), settings)
    state, _ = made.run(made.initial(), [made.stream.block(0)], 1)
    weights = made.weights(state)
    sizes = {name: float(np.abs(weights[name]).mean()) for name in ("features/pairs", "output/kernel")}
    assert jobs.SENTIMENT_VERSION == 4
    golden = pytest.approx({"features/pairs": 0.0069667, "output/kernel": 0.303661}, rel=5e-3)
    assert sizes == golden, RAISE.format("SENTIMENT_VERSION")


def test_the_labeller_is_what_it_was_at_this_output_version(tmp_path: Path) -> None:
    small = {
        "layers": 1,
        "units": 8,
        "channels": 2,
        "features": 8,
        "context_dropout": 0.5,
        "batch": 10,
        "pool": 1,
        "block_batches": 4,
    }
    settings = LabellingSettings(**{**PRESETS["best-by-word"], **small, "average": 0.5})
    made = SequenceLabeller(labelled(letters.corpus(tmp_path), settings), settings)
    state, _ = made.run(made.initial(), [made.stream.block(0)], 1)
    weights = made.weights(state)
    sizes = {name: float(np.abs(weights[name]).mean()) for name in ("front/dense/bias", "output/bias")}
    assert jobs.LABELLING_VERSION == 8
    golden = pytest.approx({"front/dense/bias": 0.0055412, "output/bias": 0.0065555}, rel=2e-2)
    assert sizes == golden, RAISE.format("LABELLING_VERSION")
