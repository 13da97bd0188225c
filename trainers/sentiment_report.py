"""What a trained model of reviews is worth, on reviews that it never saw: the report, the card, the pictures.

The test split is read here, once, after the training has ended; where a corpus has none, the held-out part of
the training split takes its place, and the report says so. NB-SVM, trained on the same reviews as the model
and those held out from it, stands beside it; the prediction takes nothing from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from cluster import picture
from cluster.folder import FileRecord, Folder
from ingest.sequence_corpus import TEST, TRAIN, Part, SequenceCorpus
from trainers import classification
from trainers.nb_svm import NBSVM

REPORT, CARD, PICTURE = "report.json", "card.md", "calibration.png"
EXCERPT = 300  # characters of a mistaken review that are shown

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Examined:
    """The sequences that a model is measured on: `rows` of `part`, called `name`."""

    name: str
    part: Part
    rows: npt.NDArray[np.int64]
    texts: list[str] | None


def examined(corpus: SequenceCorpus, held_out: npt.NDArray[np.bool_]) -> Examined:
    """The test split, or the held-out rows of the training split where there is none."""
    split = TEST if corpus.counts["splits"].get(TEST) else TRAIN
    part = corpus.read(split)
    texts = corpus.texts(split) if corpus.settings.get("text", False) else None
    rows = np.arange(len(part)) if split == TEST else np.flatnonzero(held_out)
    return Examined("test" if split == TEST else "held-out training", part, rows, texts)


def report(
    corpus: SequenceCorpus,
    of: Examined,
    probabilities: Floats,
    held_out: npt.NDArray[np.bool_],
    mistakes: int,
) -> dict[str, Any]:
    """All figures, the worst mistakes, and the baseline's accuracy; `probabilities` [rows, labels]."""
    labels = of.part.labels[of.rows]
    return {
        "measured_on": f"{of.name} sequences",
        "sequences": len(of.rows),
        "labels": corpus.labels,
        "synthetic": corpus.synthetic,
        **classification.figures(labels, probabilities),
        "by_length": classification.by_length(
            np.diff(of.part.offsets)[of.rows], probabilities.argmax(axis=1) == labels
        ),
        "baseline": _baseline(corpus, of, held_out),
        "mistakes": _mistakes(corpus, of, probabilities, mistakes),
    }


def write(
    folder: Folder, reported: Mapping[str, Any], settings: Mapping[str, Any], told: Mapping[str, Any]
) -> dict[str, FileRecord]:
    """Writes report, card and picture; `told` are further facts for the card, name -> value."""
    drawn = picture.png(classification.drawn_calibration(reported["calibration"], _title(reported)))
    return {
        REPORT: folder.write_json(REPORT, reported),
        CARD: folder.write(CARD, card(reported, settings, told).encode()),
        PICTURE: folder.write(PICTURE, drawn),
    }


def card(reported: Mapping[str, Any], settings: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """The card of a model: data, settings, figures, limits; Markdown."""
    base = reported["baseline"]
    area = reported["auc"]
    rows = [
        ("accuracy", f"{reported['accuracy']:.4f}"),
        ("F1, mean of the labels", f"{reported['f1']:.4f}"),
        ("area under the ROC curve", "-" if area is None else f"{area:.4f}"),
        ("log loss (nats)", f"{reported['log_loss']:.4f}"),
        ("expected calibration error", f"{reported['calibration']['ece']:.4f}"),
        ("accuracy of NB-SVM", "-" if base is None else f"{base['accuracy']:.4f} (cost {base['cost']})"),
    ]
    lines = [
        f"# {_title(reported)}",
        "",
        "A recurrent network reads the words of a text; a softmax over the labels "
        f"{', '.join(reported['labels'])} reads the network.",
        "",
        "## Data",
        "",
        *(f"- {name}: {value}" for name, value in told.items()),
        *(["- The texts are synthetic: a grammar made them, no person wrote them."] * reported["synthetic"]),
        "",
        f"## Figures, on {reported['sequences']:,} {reported['measured_on']}",
        "",
        "| figure | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        f"`{REPORT}` has the confusion, the calibration bins and the worst mistakes; `{PICTURE}` draws the "
        "calibration, `curves.png` the training.",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(dict(settings), indent=1),
        "```",
        "",
        "## Limits",
        "",
        "The model knows texts like those it was trained on, in their language; words outside of its "
        "vocabulary all look alike to it. Irony, mixed judgements and plot summaries are where it errs most: "
        "see the mistakes. A probability is what it says only as far as the calibration goes.",
    ]
    return "\n".join(lines) + "\n"


def _title(reported: Mapping[str, Any]) -> str:
    return "Sentiment (synthetic texts)" if reported["synthetic"] else "Sentiment"


def _baseline(corpus: SequenceCorpus, of: Examined, held_out: npt.NDArray[np.bool_]) -> dict[str, Any] | None:
    """NB-SVM on the same sequences; None for more than two labels, which it does not know."""
    training = corpus.read(TRAIN)
    if len(corpus.labels) != 2 or training.dictionary is None or of.part.dictionary is None:
        return None
    rows = np.arange(len(training)) if of.name == "test" else np.flatnonzero(~held_out)
    frames, offsets = training.taken(rows)
    labels = training.labels[rows]
    if len(np.unique(labels)) < 2:
        return None
    made = NBSVM.fit(frames, offsets, labels, len(training.dictionary))
    places = pc.fill_null(pc.index_in(of.part.dictionary, value_set=training.dictionary), -1).to_numpy()
    frames, offsets = of.part.taken(of.rows)
    scores = made.scores(places[frames], offsets)
    right = (scores > 0) == (of.part.labels[of.rows] == 1)
    area = classification.auc(of.part.labels[of.rows] == 1, scores)
    return {
        "name": "NB-SVM, words and pairs",
        "accuracy": float(right.mean()),
        "auc": area,
        "cost": made.cost,
    }


def _mistakes(
    corpus: SequenceCorpus, of: Examined, probabilities: Floats, count: int
) -> list[dict[str, Any]]:
    """The wrong predictions that the model was surest of, the worst first."""
    labels = of.part.labels[of.rows]
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:count]
    found = []
    for place in order:
        row = int(of.rows[place])
        text = of.texts[row] if of.texts is not None else " ".join(_words(of.part, row))
        found.append(
            {
                "id": of.part.ids[row],
                "label": corpus.labels[labels[place]],
                "predicted": corpus.labels[predicted[place]],
                "probability": float(probabilities[place, predicted[place]]),
                "text": text if len(text) <= EXCERPT else f"{text[:EXCERPT]}...",
            }
        )
    return found


def _words(part: Part, row: int) -> list[str]:
    assert part.dictionary is not None
    frames = part.frames[part.offsets[row] : part.offsets[row + 1]]
    return [str(part.dictionary[int(each)]) for each in frames[:EXCERPT]]
