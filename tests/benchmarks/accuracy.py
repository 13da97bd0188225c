"""The accuracy of the presets on real data: sentiment of film reviews, letters of handwritten words.

    WORDLOOM_DATA=DIR python -m tests.benchmarks.accuracy [--json] [--work DIR] [--only KEY...]

Takes hours on two cores. Every model is an artefact below `--work`, so a run that was stopped goes on at its
last checkpoint, and what is finished is only read. Each part is a module with ``measure(data, work,
wanted)``, which trains what is wanted and yields a key and its figures, the first of them the one that
counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
from pathlib import Path

# KEY -> the module that measures it.
PARTS = {
    "sentiment_nbsvm": "sentiment_accuracy",
    "sentiment_best": "sentiment_accuracy",
    "sentiment_reference": "sentiment_accuracy",
    "letters_uni": "letters_accuracy",
    "letters_bi": "letters_accuracy",
    "letters_best": "letters_accuracy",
    "letters_by_word": "letters_accuracy",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument(
        "--work", default=".wordloom/accuracy", help="where the models lie (.wordloom/accuracy)"
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these alone")
    options = parser.parse_args()
    if "WORDLOOM_DATA" not in os.environ:
        raise SystemExit("WORDLOOM_DATA is not set: it names the folder of real data.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    # One thread, so that CPU seconds mean the same everywhere.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(PARTS[key] for key in options.only):
        if importlib.util.find_spec(f"tests.benchmarks.{name}") is None:
            print(f"tests/benchmarks/{name}.py is not there: its keys are left out.")
            continue
        module = importlib.import_module(f"tests.benchmarks.{name}")
        wanted = {key for key in options.only if PARTS[key] == name}
        for key, figures in module.measure(Path(os.environ["WORDLOOM_DATA"]), Path(options.work), wanted):
            found[key] = figures
            print(key, ", ".join(f"{each} {value:.4g}" for each, value in figures.items()), flush=True)
    if options.json:
        figures = {key: next(iter(each.values())) for key, each in found.items()}
        conditions = {"threads": 1, "python": platform.python_version(), "all": found}
        print(json.dumps({"benchmark": "accuracy", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
