"""The learner of sentiment: reads a corpus of reviews, trains the classifier, publishes model and report."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.artefact import Input, settings_dict
from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder
from ingest.sequence_corpus import TRAIN, Part, SequenceCorpus
from trainers import sentiment, sentiment_report
from trainers.sentiment import Words
from trainers.sentiment_model import SentimentModel
from trainers.sentiment_settings import SentimentSettings
from trainers.sequence_classifier import SequenceClassifier
from trainers.state import State
from trainers.vectors import WordVectors


def sentiment_learner(inputs: Mapping[str, Input], settings: SentimentSettings) -> SentimentLearner:
    """The learner for a corpus of labelled sequences of words, and for vectors and a teacher where they are
    given."""
    corpus = SequenceCorpus.open(inputs["corpus"].location)
    vectors = WordVectors.open(inputs["vectors"].location) if "vectors" in inputs else None
    teacher = SentimentModel.open(inputs["teacher"].location) if "teacher" in inputs else None
    words = sentiment.known_words(corpus, vectors, settings)
    made = SentimentLearner(corpus, words, settings, teacher)
    made.sources = {name: given.identity for name, given in inputs.items()}
    return made


class SentimentLearner(SequenceClassifier):
    """The learner (see `trainers.loop.Learner`); every worker holds the whole training split."""

    def __init__(
        self,
        corpus: SequenceCorpus,
        words: Words,
        settings: SentimentSettings,
        teacher: SentimentModel | None = None,
    ) -> None:
        judge = None
        if teacher is not None:
            if teacher.labels != corpus.labels:
                raise WordloomError(
                    f"The teacher knows the labels {', '.join(teacher.labels)}, the corpus has "
                    f"{', '.join(corpus.labels)}; give another --teacher."
                )
            judge = functools.partial(_judged, teacher, settings)
        sequences = sentiment.training_sequences(corpus, words, settings, judge)
        super().__init__(sequences, words.vectors, len(corpus.labels), settings)
        self.corpus = corpus
        self.words = words
        self.sources = {"corpus": corpus.artefact.identity}  # for the card: name -> identity

    def publish(
        self, state: State, folder: Folder, history: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, FileRecord]]:
        """The model as `SentimentModel` reads it, its report, its card and the picture of its calibration."""
        model = self.model(state)
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
            **{name: identity[:12] for name, identity in self.sources.items()},
            "tokeniser": model.tokeniser["tokeniser"],
            **{name.replace("_", " "): f"{value:,}" for name, value in self.counts().items()},
        }
        files |= sentiment_report.write(folder, reported, settings_dict(self.settings), told)
        measured = {name: reported[name] for name in ("measured_on", "accuracy", "f1", "auc")}
        base = reported["baseline"]
        return counts | measured | {"baseline_accuracy": base["accuracy"] if base else None}, files

    def model(self, state: State) -> SentimentModel:
        """What serving opens."""
        settings = self.corpus.settings
        weights = {**self.frozen, **self.weights(state)}
        return SentimentModel(
            self.reader,
            self.corpus.labels,
            self.words.words,
            {name: settings[name] for name in ("tokeniser", "lower_case", "normalise")},
            {name: value.numpy() for name, value in weights.items()},
            self.corpus.synthetic,
        )

    def counts(self) -> dict[str, int]:
        """What it was trained on, and what of that the settings cut off."""
        lengths = np.diff(self.corpus.read(TRAIN).offsets)
        longest = self.settings.longest or int(lengths.max())
        return {
            "sequences": len(self.sequences),
            "judged_by_teacher": len(self.sequences) - len(lengths),
            "held_out_reviews": int(self.sequences.held_out.sum()),
            "words": len(self.words.words),
            "cut_reviews": int((lengths > longest).sum()),
            "cut_off_words": int(np.maximum(lengths - longest, 0).sum()),
            "parameters": sum(int(np.prod(value.shape)) for value in self.weights(self.initial()).values()),
        }


def _judged(teacher: SentimentModel, settings: SentimentSettings, part: Part) -> np.ndarray:
    """The teacher's probabilities for the part of each review that training reads."""
    assert part.dictionary is not None
    frames, offsets = sentiment.cut(part, settings.longest, settings.keep)
    return teacher.predict_words(teacher.numbers(part.dictionary)[frames], offsets)
