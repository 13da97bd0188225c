"""The sentiment presets on the film reviews (see `accuracy`), each on word vectors of our own, trained on the
reviews' own text without the test split. One worker, in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.artefact import Artefact
from cluster.progress import Reporter
from ingest import reviews, source_file
from ingest.sequence_pages import SequencePages
from ingest.settings import SequencesSettings, VocabularySettings
from ingest.vocabulary import cut_vocabulary
from trainers import jobs
from trainers.embeddings import PRESETS as EMBEDDINGS
from trainers.embeddings import EmbeddingsSettings
from trainers.group import LocalGroup
from trainers.launch import TrainingJob, load_factory
from trainers.loop import Progress, produce
from trainers.sentiment_settings import PRESETS, SentimentSettings

ARCHIVE = "reviews/aclImdb_v1.tar.gz"
# Which words a preset reads, and the size of their vectors.
GROUNDS = {"reference": ("reference", 200), "best": ("unicode", 100)}


class Said:
    """Says how a training goes, and keeps its CPU seconds over all restarts in a small file."""

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        self.before = json.loads(file.read_text()) if file.exists() else 0.0
        self.began = time.process_time()
        self.said = time.monotonic()

    @property
    def cpu(self) -> float:
        return float(self.before + time.process_time() - self.began)

    def progress(self, now: Progress) -> bool:
        self.file.write_text(json.dumps(self.cpu))
        if time.monotonic() - self.said > 60:
            self.said = time.monotonic()
            loss = "-" if now.loss is None else f"{now.loss:.3f}"
            print(
                f"  {self.name}: {now.position} of {now.total} blocks, loss {loss}, {self.cpu:.0f} s of CPU"
            )
        return False

    def say(self, sentence: str) -> None:
        print(f"  {sentence}", flush=True)


def measure(data: Path, work: Path, wanted: set[str]) -> Iterator[tuple[str, dict[str, float]]]:
    for preset in ("best", "reference"):
        keys = {f"sentiment_{preset}", *(["sentiment_nbsvm"] if preset == "best" else [])}
        if not keys & wanted:
            continue
        tokeniser, size = GROUNDS[preset]
        corpus = _corpus(data, work, tokeniser)
        vectors, learned = trained(_embeddings(corpus, work, tokeniser, size), work)
        settings = SentimentSettings(**PRESETS[preset])
        made, cpu = trained(
            jobs.sentiment(corpus, vectors, str(work / f"sentiment-{preset}"), settings), work
        )
        counts = made.counts
        if f"sentiment_{preset}" in wanted:
            figures = {name: counts[name] for name in ("accuracy", "f1", "auc", "held_out_error")}
            ece = made.folder.read_json("report.json")["calibration"]["ece"]
            minutes = {"supervised_cpu_min": cpu / 60, "vectors_cpu_min": learned / 60}
            yield f"sentiment_{preset}", {**figures, "calibration_error": ece, **minutes}
        if "sentiment_nbsvm" in keys & wanted:
            yield "sentiment_nbsvm", {"accuracy": counts["baseline_accuracy"]}


def _corpus(data: Path, work: Path, tokeniser: str) -> Artefact:
    found = source_file.locate(data / ARCHIVE, work / "downloads", None, work / "checksums.json")
    settings = SequencesSettings(tokeniser=tokeniser)
    return reviews.ingest_reviews(found, str(work / f"reviews-{tokeniser}"), settings, Reporter())


def _embeddings(corpus: Artefact, work: Path, tokeniser: str, size: int) -> TrainingJob:
    words = cut_vocabulary(SequencePages(corpus), str(work / f"vocabulary-{tokeniser}"), VocabularySettings())
    given: dict[str, Any] = {**EMBEDDINGS["fast"], "vector_size": size}
    return jobs.embeddings(corpus, words, str(work / f"vectors-{tokeniser}"), EmbeddingsSettings(**given))


def trained(job: TrainingJob, work: Path) -> tuple[Artefact, float]:
    """The artefact, and the CPU seconds that its training took, the report included."""
    name = Path(job.draft.location).name
    said = Said(name, work / f"{name}.cpu.json")
    if job.draft.published is None:
        learner = load_factory(job.factory)(job.draft.inputs, job.settings)
        produce(learner, job.draft, LocalGroup(), job.loop, said)
        said.file.write_text(json.dumps(said.cpu))
    return job.draft.published or Artefact.open(job.draft.location), json.loads(said.file.read_text())
