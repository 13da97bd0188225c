"""The learner of sentiment: reads a corpus of reviews, trains the classifier, publishes model and report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.artefact import Input, settings_dict
from cluster.folder import FileRecord, Folder
from ingest.sequence_corpus import TRAIN, SequenceCorpus
from trainers import sentiment, sentiment_report
from trainers.sentiment import Words
from trainers.sentiment_model import SentimentModel
from trainers.sentiment_settings import SentimentSettings
from trainers.sequence_classifier import SequenceClassifier
from trainers.state import State
from trainers.vectors import WordVectors


def sentiment_learner(inputs: Mapping[str, Input], settings: SentimentSettings) -> SentimentLearner:
    """The learner for a corpus of labelled sequences of words, and for vectors where they are given."""
    corpus = SequenceCorpus.open(inputs["corpus"].location)
    vectors = WordVectors.open(inputs["vectors"].location) if "vectors" in inputs else None
    return SentimentLearner(corpus, sentiment.known_words(corpus, vectors, settings), settings)


class SentimentLearner(SequenceClassifier):
    """The learner (see `trainers.loop.Learner`); every worker holds the whole training split."""

    settings: SentimentSettings

    def __init__(self, corpus: SequenceCorpus, words: Words, settings: SentimentSettings) -> None:
        sequences = sentiment.training_sequences(corpus, words, settings)
        super().__init__(sequences, words.vectors, len(corpus.labels), settings)
        self.corpus = corpus
        self.words = words

    def publish(
        self, state: State, folder: Folder, history: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        """The model as `SentimentModel` reads it, its report, its card and the picture of its calibration."""
        settings = self.corpus.settings
        weights = {**self.frozen, **self.weights(state)}
        model = SentimentModel(
            self.reader,
            self.corpus.labels,
            self.words.words,
            {name: settings[name] for name in ("tokeniser", "lower_case", "normalise")},
            {name: value.numpy() for name, value in weights.items()},
            self.corpus.synthetic,
        )
        files = model.write(folder)
        counts = self.counts() | {
            name: value for name, value in self.evaluate(state).items() if math.isfinite(value)
        }
        held_out = self.sequences.held_out
        of = sentiment_report.examined(self.corpus, held_out)
        if not len(of.rows):
            return counts, files
        assert of.part.dictionary is not None
        frames, offsets = of.part.taken(of.rows)
        probabilities = model.predict_words(self.words.numbers(of.part.dictionary)[frames], offsets)
        reported = sentiment_report.report(self.corpus, of, probabilities, held_out, self.settings.mistakes)
        told = {
            "corpus": f"{self.corpus.artefact.identity[:12]}, made by the tokeniser {settings['tokeniser']}",
            **{name.replace("_", " "): f"{value:,}" for name, value in self.counts().items()},
        }
        files |= sentiment_report.write(folder, reported, settings_dict(self.settings), told)
        measured = {name: reported[name] for name in ("measured_on", "accuracy", "f1", "auc")}
        base = reported["baseline"]
        return counts | measured | {"baseline_accuracy": base["accuracy"] if base else None}, files

    def counts(self) -> dict[str, int]:
        """What it was trained on, and what of that the settings cut off."""
        lengths = np.diff(self.corpus.read(TRAIN).offsets)
        longest = self.settings.longest or int(lengths.max())
        return {
            "sequences": len(self.sequences),
            "held_out_reviews": int(self.sequences.held_out.sum()),
            "words": len(self.words.words),
            "cut_reviews": int((lengths > longest).sum()),
            "cut_off_words": int(np.maximum(lengths - longest, 0).sum()),
            "parameters": sum(int(np.prod(value.shape)) for value in self.weights(self.initial()).values()),
        }
