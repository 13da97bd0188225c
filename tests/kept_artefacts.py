"""Small artefacts of every kind, in tests/data/artefacts, by which later versions prove that they read them.

``python -m tests.kept_artefacts FOLDER`` makes a set of them with the code as it is: run it when a format has
been raised, and keep what it makes beside the older sets, which stay. All of it comes from text that this
module and the grammar of synthetic reviews make up. In the set ``1`` corpus, vocabulary, vectors and language
model were made by the code of 2026-11-24 (with one worker), the others by that of the day after. The set
``2`` is the same corpus with its long lists in tables, as a corpus of more than 10,000 shards has them.
"""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests import letters
from tests.dumps import export, page

KEPT = Path(__file__).resolve().parent / "data" / "artefacts"
KINDS = ("corpus", "vocabulary", "vectors", "language-model", "sequences", "sentiment", "labelling")
# Pictures, cards and event files are for people: nothing reads them.
READ = (".json", ".parquet", ".npy", ".npz")

PEOPLE = ("Anna", "Omar", "Mei", "Ravi")
PLACES = ("harbour", "market", "forest", "station")
THINGS = ("boat", "lamp", "letter", "kettle", "map")
SETTINGS = {
    "embeddings": {"vector_size": 8, "epochs": 2},
    "language_model": {"units": 8, "epochs": 1, "epoch_batches": 40, "held_out_characters": 2_000},
    "review_grammar": {"training": 60, "test": 20},
    "sentiment": {"units": 4, "vector_size": 4, "epochs": 1},
    "labelling": {"layers": 1, "units": 4, "channels": 2, "features": 4, "epochs": 1},
}


def dump() -> bytes:
    """120 pages of such sentences as "Mei found a lamp in the forest.", and a redirect."""
    chosen = Random(3)

    def sentence() -> str:
        return f"{chosen.choice(PEOPLE)} found a {chosen.choice(THINGS)} in the {chosen.choice(PLACES)}."

    pages = [
        page(number, f"Story {number}", f"Story {number}. " + " ".join(sentence() for _ in range(12)))
        for number in range(1, 121)
    ]
    pages.append(page(300, "Tale", "#REDIRECT [[Story 1]]", redirect="Story 1"))
    return bz2.compress(export(pages))


def wordloom(*words: str) -> None:
    assigned = [
        word
        for section, values in SETTINGS.items()
        for key, value in values.items()
        for word in ("--set", f"{section}.{key}={value}")
    ]
    subprocess.run([sys.executable, "-m", "wordloom", *words, *assigned], check=True)


def keep(made: Path, kept: Path, home: Path) -> None:
    """Copies what a reader needs of an artefact; where it was made is nobody's business."""
    kept.mkdir(parents=True)
    manifest = json.loads((made / "manifest.json").read_text().replace(str(home), "/home/wordloom"))
    manifest["files"] = {name: file for name, file in manifest["files"].items() if name.endswith(READ)}
    for name in manifest["files"]:
        (kept / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(made / name, kept / name)
    (kept / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        (home / "dump.xml.bz2").write_bytes(dump())
        wordloom("run", "--source", f"{home}/dump.xml.bz2", "--home", f"{home}", "--port", "0")
        (home / "letter.data.gz").write_bytes(gzip.compress(b"".join(letters.lines(copies=4)), mtime=0))
        wordloom("ingest", "letters", "--source", f"{home}/letter.data.gz", "--output", f"{home}/letters")
        wordloom("train", "labelling", "--corpus", f"{home}/letters", "--output", f"{home}/labelling/letters")
        for kind in KINDS:
            (made,) = (home / kind).iterdir()
            keep(made, output / kind, home)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
