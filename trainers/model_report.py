"""What the report of a trained model shows (see `cluster.report`), from the files of its artefact alone: no
training code, no TensorFlow.

Each kind shows what it has: learning curves and the time by all; the map of words and neighbours by vectors;
samples by language models; figures against the baseline, confusion, calibration, the error by length and the
worst mistakes by those that judge sequences. What an older artefact lacks is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster import picture
from cluster.artefact import Artefact
from cluster.progress import duration
from cluster.report import Kinds, Report
from ingest import corpus_report
from trainers import (
    classification,
    curves,
    labelling_settings,
    language_settings,
    sentiment_settings,
    vectors,
)
from trainers.vectors import WordVectors
from trainers.word_map import SHOWN, commonest, drawn

HISTORY, CURVE, FIGURES = "history.json", "curve.json", "report.json"
ASKED = 12  # words whose neighbours are shown: every so many among the commonest
AMONG = 5000  # ... words
NEIGHBOURS = 6
SAMPLES = 8  # epochs whose sample is shown: the first, the last and some between
LABEL = 24  # characters of a label in a picture
CONFUSED = 30  # labels whose confusion can still be read as a picture
MISTAKES = 20
LEFT_OUT = ("epoch", "position", "sample")  # of the history, in its table


def history_of(artefact: Artefact) -> tuple[list[list[float]], list[dict[str, Any]]]:
    """The curve and the history of a trained artefact; empty where it has none, as what was imported."""
    if HISTORY not in artefact.manifest.files:
        return [], []
    curve = artefact.folder.read_json(CURVE) if CURVE in artefact.manifest.files else []
    return curve, artefact.folder.read_json(HISTORY)


# what each kind shows


def _vectors(page: Report, artefact: Artefact) -> None:
    _learning(page, artefact)
    words = commonest(WordVectors.open(artefact), AMONG)
    page.section("The map of words")
    map_words = "The commonest words in the plane in which their vectors differ most."
    page.picture("words", drawn(words.index_to_key[:SHOWN], words.vectors[:SHOWN]), map_words)
    if len(words) > NEIGHBOURS:
        page.section("Neighbours")
        asked = words.index_to_key[:: max(1, min(len(words), 600) // ASKED)][:ASKED]
        page.table(
            ("word", f"nearest of the {len(words):,} commonest"),
            [
                [
                    word,
                    ", ".join(f"{each} {close:.2f}" for each, close in words.most_similar(word, NEIGHBOURS)),
                ]
                for word in asked
            ],
        )


def _language_model(page: Report, artefact: Artefact) -> None:
    counts = artefact.counts
    bits = {
        "every character alike likely": float(np.log2(counts["alphabet"] + 1)),
        "each as often as it occurs in that very text": counts.get("held_out_bits_by_frequency"),
        "this model": counts.get("held_out_bits_per_character"),
    }
    if bits["this model"] is not None:
        page.section("Bits a character of held-out text, against guesses that read nothing")
        page.bars((name, value, f"{value:.3f}") for name, value in bits.items() if value is not None)
    _learning(page, artefact)
    told = [entry for entry in history_of(artefact)[1] if entry.get("sample")]
    if told:
        page.section("What it wrote")
        places = {round(n * (len(told) - 1) / (SAMPLES - 1)) for n in range(SAMPLES)}
        for place in sorted(places):
            page.quote(f"After epoch {told[place]['epoch']}:", told[place]["sample"])


def _sentiment(page: Report, artefact: Artefact) -> None:
    if FIGURES not in artefact.manifest.files:
        page.text("Nothing was held out to examine it on.")
        return _learning(page, artefact)
    found = artefact.folder.read_json(FIGURES)
    base = found["baseline"]
    page.section(f"On {found['sequences']:,} {found['measured_on']}, against the baseline")
    rows = [["this model", found["accuracy"], found["f1"], found["auc"], found["log_loss"]]]
    if base:
        rows.append([f"{base['name']}, cost {base['cost']}", base["accuracy"], None, base["auc"], None])
    page.table(("judged by", "accuracy", "F1", "area under ROC", "log loss, nats"), rows)
    _learning(page, artefact)
    _confusion(page, found["confusion"], found["labels"])
    page.section("Calibration")
    page.picture(
        "calibration",
        classification.drawn_calibration(found["calibration"], "Calibration"),
        "How often it is right where it is so sure; on the dotted line it is as good as its word.",
    )
    _by_length(page, found.get("by_length"), "words", "reviews")
    _mistakes(
        page,
        ("given", "read as", "probability", "text"),
        [
            [each["label"], each["predicted"], each["probability"], each["text"]]
            for each in found["mistakes"][:MISTAKES]
        ],
    )
    return None


def _labelling(page: Report, artefact: Artefact) -> None:
    found = artefact.folder.read_json(FIGURES)
    page.section(
        f"On {found['words']:,} sequences of {found['letters']:,} frames that were left for the test"
    )
    rows: list[list[Any]] = [
        ["this model", found["letter_error"], found["word_letter_error"], found["word_error"]]
    ]
    if base := found.get("baseline"):
        rows.append([base["name"], base["letter_error"], None, None])
    page.table(
        ("read by", "frames wrong", "frames wrong, mean over sequences", "sequences with a wrong frame"), rows
    )
    _learning(page, artefact)
    if "confusion" in found:
        _confusion(page, found["confusion"], found["labels"])
    page.table(
        ("is", "read as", "times"),
        [[each["is"], each["read"], each["times"]] for each in found["confusions"]],
        "The commonest confusions",
    )
    bins = [
        {"confidence": each["confidence"], "accuracy": each["right"], "count": each["letters"]}
        for each in found["calibration"]
        if "confidence" in each
    ]
    if bins:
        page.section("Calibration")
        measured = {"ece": found["calibration_error"], "bins": bins}
        page.picture(
            "calibration",
            classification.drawn_calibration(measured, "Calibration", "frames"),
            "How often it is right where it is so sure; on the dotted line it is as good as its word.",
        )
    _by_length(page, found.get("by_length"), "frames", "sequences")
    _mistakes(
        page,
        ("is", "read as", "log-probability of the truth"),
        [[each["is"], each["read"], each["log_probability"]] for each in found["worst"][:MISTAKES]],
    )


KINDS: Kinds = {
    **corpus_report.KINDS,
    vectors.KIND: _vectors,
    language_settings.KIND: _language_model,
    sentiment_settings.KIND: _sentiment,
    labelling_settings.KIND: _labelling,
}


# what several show


def _learning(page: Report, artefact: Artefact) -> None:
    curve, history = history_of(artefact)
    if not history:
        return
    page.section("Learning curves")
    name = artefact.kind.replace("-", " ")
    said = "What was trained on beside what was held out, over the blocks of text that were read."
    page.picture("curves", curves.drawn(curve, history, name), said)
    columns = [key for key in history[0] if key not in LEFT_OUT]
    page.table(
        ("epoch", *(key.replace("_", " ") for key in columns)),
        [[entry["epoch"], *(_cell(key, entry.get(key)) for key in columns)] for entry in history],
    )


def _cell(key: str, value: Any) -> Any:
    """A figure of an epoch; a time stays on its line."""
    return duration(value).replace(" ", "\N{NO-BREAK SPACE}") if key == "seconds" else value


def _confusion(page: Report, counts: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    page.section("Confusion")
    if len(labels) > CONFUSED:
        page.text(f"There are {len(labels):,} labels, too many for a picture.")
        return
    table = np.asarray(counts, float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.28 * len(labels)
    made = picture.figure(size, size)
    axes = made.subplots()
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="#808080", linewidth=0.2)
    names = [each[:LABEL].replace("$", r"\$") for each in labels]
    axes.set_xticks(np.arange(len(labels)) + 0.5, names)
    axes.set_yticks(np.arange(len(labels)) + 0.5, names)
    axes.invert_yaxis()
    axes.set(xlabel="read as", ylabel="is", aspect="equal")
    if len(labels) <= 6:
        for (row, column), share in np.ndenumerate(shares):
            # A colour of its own: the field behind stays light or dark whatever the page is.
            ink = "#fefefe" if share > 0.6 else "#010101"
            axes.text(
                column + 0.5, row + 0.5, f"{table[row, column]:,.0f}", ha="center", va="center", color=ink
            )
    page.picture(
        "confusion", made, "Each row is a label as it is given, darker where it is read so more often."
    )


def _mistakes(page: Report, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    page.section("The worst mistakes")
    if rows:
        page.table(columns, rows)
    else:
        page.text("There are none: everything was read as it was given.")


def _by_length(page: Report, groups: Sequence[Mapping[str, Any]] | None, unit: str, what: str) -> None:
    if not groups:
        return
    page.section("Error by length")
    page.bars(
        (
            f"{each['from']:,} {unit}"
            if each["from"] == each["to"]
            else f"{each['from']:,} to {each['to']:,} {unit}",
            each["error"],
            f"{each['error']:.2%} of {each['count']:,} {what}",
        )
        for each in groups
    )
