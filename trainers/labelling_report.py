"""What a labeller gets right and wrong on its test part, and the card of the model. Pure numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainers import classification

WORST = 20  # mistakes that are shown
BINS = 10  # of the calibration


def report(
    found: Sequence[npt.NDArray[np.float32]], truth: Sequence[npt.NDArray[np.int32]], labels: Sequence[str]
) -> dict[str, Any]:
    """The figures of a test, from the probabilities [frames, labels] and the true labels [frames] of every
    sequence (at least one).

    ``letter_error``: of all letters, how many are wrong; ``word_letter_error``: the mean over words of each
    word's share of wrong letters; ``word_error``: of all words, how many have a wrong letter.
    ``calibration``: by confidence, how many letters there are and how many are right. ``confusions``: the
    commonest mistakes; ``worst``: the words with the least likely truth.
    """
    wrong = [each.argmax(-1) != real for each, real in zip(found, truth, strict=True)]
    flat, right = np.concatenate(found), ~np.concatenate(wrong)
    real = np.concatenate(truth)
    confidence = flat.max(-1)
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sizes = np.bincount(at, minlength=BINS)
    rights = np.bincount(at, weights=right, minlength=BINS)
    likely = [
        float(np.log(np.maximum(each[np.arange(len(real)), real], 1e-30)).sum())
        for each, real in zip(found, truth, strict=True)
    ]
    worst = [each for each in np.argsort(likely, kind="stable")[:WORST] if wrong[each].any()]
    pairs = np.stack([real, flat.argmax(-1)], axis=1)[~right]
    kinds, counts = np.unique(pairs, axis=0, return_counts=True) if len(pairs) else (pairs, np.zeros(0, int))
    common = np.argsort(-counts, kind="stable")[:WORST]
    return {
        "baseline": {
            "name": "always the commonest letter of the test",
            "letter_error": float(1 - np.bincount(real).max() / len(real)),
        },
        "by_length": classification.by_length(
            np.array([len(each) for each in truth]), 1 - np.array([each.mean() for each in wrong])
        ),
        "letters": len(real),
        "words": len(found),
        "letter_error": float(1 - right.mean()),
        "word_letter_error": float(np.mean([each.mean() for each in wrong])),
        "word_error": float(np.mean([each.any() for each in wrong])),
        "loss": float(-sum(likely) / len(real)),
        "calibration_error": float(
            sum(abs(rights[each] - confidence[at == each].sum()) for each in range(BINS) if sizes[each])
            / len(real)
        ),
        "calibration": [
            {
                "from": each / BINS,
                "letters": int(sizes[each]),
                "right": float(rights[each] / sizes[each]),
                "confidence": float(confidence[at == each].mean()),
            }
            for each in range(BINS)
            if sizes[each]
        ],
        "labels": list(labels),
        "confusion": classification.confusion(real, flat.argmax(-1), len(labels)).tolist(),
        "confusions": [
            {"is": labels[kinds[each][0]], "read": labels[kinds[each][1]], "times": int(counts[each])}
            for each in common
        ],
        "worst": [
            {
                "is": " ".join(labels[each] for each in truth[number]),
                "read": " ".join(labels[each] for each in found[number].argmax(-1)),
                "log_probability": round(likely[number], 3),
            }
            for number in worst
        ],
    }


def card(
    about: Mapping[str, Any], settings: Any, figures: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> str:
    """The model's card: data, settings, figures, limits, as Markdown."""
    synthetic = about["synthetic"]
    by_word = settings.split == "by-word"
    limits = [
        "It was tested on words that it was not trained on."
        if by_word
        else "Words that are tested on were trained on, too, in other hands: on new words it errs more (see "
        "the split by-word).",
        "The figures are those of one split and one seed.",
    ]
    if synthetic:
        limits.insert(
            0, "Trained on SYNTHETIC data, made by a program: its figures say nothing of real data."
        )
    lines = [
        f"# A labeller of sequences{' (synthetic data)' if synthetic else ''}",
        "",
        "## Data",
        *(f"- {name}: {value}" for name, value in about.items()),
        "",
        f"## Figures on the test part (split {settings.split})",
        f"- letters wrong, of all letters: {figures['letter_error']:.2%}",
        f"- letters wrong, mean over words: {figures['word_letter_error']:.2%}",
        f"- words with a wrong letter: {figures['word_error']:.2%}",
        f"- calibration error: {figures['calibration_error']:.2%}",
        f"- epochs: {len(history)}",
        "",
        "## Settings",
        *(f"- {name}: {value}" for name, value in dataclasses.asdict(settings).items()),
        "",
        "## Limits",
        *(f"- {each}" for each in limits),
        "",
    ]
    return "\n".join(lines)
