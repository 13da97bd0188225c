"""A main job small enough for a test: little text, tiny models, every stage real."""

from __future__ import annotations

from pathlib import Path

from cluster.progress import Reporter
from ingest import sample

SECTIONS = {
    "sample": {"packages": ["numpy"], "size": 300_000},
    "vocabulary": {"size": 2_000},
    "embeddings": {"vector_size": 16, "epochs": 1, "block_tokens": 4096, "exchange_tokens": 16_384},
    "language_model": {"units": 16, "epochs": 1, "epoch_batches": 8, "held_out_characters": 2_000},
    "review_grammar": {"training": 64, "test": 16},
    "word_images": {"words": 60},
    "sentiment": {"units": 4, "vector_size": 4, "epochs": 1},
    "labelling": {"layers": 1, "units": 4, "channels": 2, "features": 4, "epochs": 1},
    "serving": {"port": 0},
}


def assignments(*sections: str) -> list[str]:
    """Some of these for the command line, where --set is known to every command."""
    return [
        word
        for section in sections
        for key, value in SECTIONS[section].items()
        for word in ("--set", f"{section}.{key}={value}".replace("'", '"'))
    ]


ASSIGNMENTS = assignments(*(section for section in SECTIONS if section != "serving"))


def dump(folder: Path) -> Path:
    """A small dump, made from the documentation of numpy."""
    settings = sample.SampleSettings(packages=("numpy",), size=300_000)
    made = sample.make_sample(folder.as_posix(), settings, Reporter(quiet=True))
    return Path(made.location) / sample.FILE
