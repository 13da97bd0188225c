"""The labelling presets on the handwritten words (see `accuracy`), one worker, in this process.

`letters_uni` and `letters_bi`: `reference` in one direction and in both, random66, the mean of three seeds.
`letters_best`: `best` on random66. `letters_by_word`: `best` on the five folds by word, their mean and the
worst. All figures are at the end of training, in percent of all letters, and as a mean over words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cluster.artefact import Artefact
from cluster.progress import Reporter
from ingest import source_file
from ingest.letters import ingest_letters
from ingest.settings import SequencesSettings
from tests.benchmarks.sentiment_accuracy import trained
from trainers import jobs
from trainers.labelling_settings import PRESETS, LabellingSettings
from trainers.word_splits import WORD_FOLDS

FILE = "letters/letter.data.gz"
SEEDS = range(3)
# KEY -> the preset, and what is changed of it for each training.
TRAININGS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "letters_uni": ("reference", [{"seed": seed} for seed in SEEDS]),
    "letters_bi": ("reference", [{"seed": seed, "both": True} for seed in SEEDS]),
    "letters_best": ("best", [{}]),
    "letters_by_word": ("best-by-word", [{"split": "by-word", "fold": fold} for fold in range(WORD_FOLDS)]),
}


def measure(data: Path, work: Path, wanted: set[str]) -> Iterator[tuple[str, dict[str, float]]]:
    corpus = _corpus(data, work)
    for key, (preset, changes) in TRAININGS.items():
        if key not in wanted:
            continue
        made = []
        for number, changed in enumerate(changes):
            settings = LabellingSettings(**{**PRESETS[preset], **changed})
            place = str(work / f"{key.replace('_', '-')}-{number}")
            made.append(trained(jobs.labelling(corpus, place, settings), work))
        yield key, _figures([artefact.counts for artefact, _ in made], [cpu for _, cpu in made])


def _figures(counts: list[Mapping[str, Any]], cpu: list[float]) -> dict[str, float]:
    errors = [100 * each["letter_error"] for each in counts]
    return {
        "letter_error_percent": float(np.mean(errors)),
        "worst_percent": max(errors),
        "mean_over_words_percent": 100 * float(np.mean([each["word_letter_error"] for each in counts])),
        "word_error_percent": 100 * float(np.mean([each["word_error"] for each in counts])),
        "most_cpu_min": max(cpu) / 60,
    }


def _corpus(data: Path, work: Path) -> Artefact:
    found = source_file.locate(data / FILE, work / "downloads", None, work / "checksums.json")
    return ingest_letters(found, str(work / "letters"), SequencesSettings(), Reporter(quiet=True))
