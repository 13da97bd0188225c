"""The character language model: its speed against Keras and PyTorch, its bits against counting and xz.

    python -m tests.benchmarks.language_model [--json] [--threads 1] [--rounds 3]
    python -m tests.benchmarks.language_model --model DIR [--text FILE] [--json] [--no-speed]

Speed: the reference preset, every side a process of its own bound to as many cores as it has threads, each
waiting while another works. A figure is our best round's characters a second over theirs; with one thread by
CPU time, which other programs hardly change, else by the wall clock. The reference's GRU resets before the
product, PyTorch's only after it: against PyTorch we train that one.

Bits: `--text` is plain text whose documents stand between blank lines, or JSON lines of abstracts; without it
the documents that the model's corpus holds out. The n-gram (order 6, interpolated Kneser-Ney) and `xz -9`
have what the model was trained on before them; where that corpus is gone, they are null.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.language_sides import SIDES, VARIANTS
from tests.benchmarks.ngram import NGrams

# Of each task so much is one turn of a side: batches of training, characters of each text.
AMOUNTS = {"train": 50, "generate_1": 4096, "generate_32": 1024}
PREDICTED = 20  # characters by Keras' `predict`
RATIOS = {
    "train_over_keras": ("train", "wordloom", "keras"),
    "train_over_pytorch": ("train", "wordloom_after", "pytorch"),
    "generate_1_over_pytorch": ("generate_1", "wordloom", "pytorch"),
    "generate_32_over_pytorch": ("generate_32", "wordloom", "pytorch"),
    "generate_1_over_predict": ("generate_1", "wordloom", "keras"),
}
BITS = ("bits", "bits_windows_50", "bits_ngram", "bits_xz")


class Side:
    """A process that does one side's tasks on request."""

    def __init__(self, name: str, variant: str, threads: int) -> None:
        cores = sorted(os.sched_getaffinity(0))[-threads:]
        count = str(threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment = dict.fromkeys(names, count) | {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.clock = "cpu" if threads == 1 else "wall"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--side", name, variant, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self._name = name

    def rate(self, task: str, amount: int) -> float:
        """Characters a second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([task, amount]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process of {self._name} ended at {task}")
        taken = json.loads(answer)
        return float(taken["characters"] / taken[self.clock])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def work(name: str, variant: str, threads: int) -> None:
    """The side's process: answers every line of standard input."""
    if name == "pytorch":
        import torch

        torch.set_flush_denormal(True)  # else it looks four times slower than it is
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    tasks = SIDES[name](variant)
    for line in sys.stdin:
        task, amount = json.loads(line)
        began, cpu = time.perf_counter(), time.process_time()
        characters = tasks[task](amount)
        taken = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        print(json.dumps({"characters": characters, **taken}), flush=True)


def speed(threads: int, rounds: int) -> dict[str, float | None]:
    """Characters a second of every side and task, and the ratios; None where PyTorch is not installed."""
    there = [name for name in SIDES if name != "pytorch" or importlib.util.find_spec("torch")]
    sides = {(name, way): Side(name, way, threads) for name in there for way in VARIANTS[name]}
    best: dict[tuple[str, str], float] = {}
    tasks = {(task, name) for task, *names in RATIOS.values() for name in names if name in there}
    try:
        for task in AMOUNTS:
            for turn in range(rounds + 1):
                for (name, way), side in sides.items():
                    if (task, name) not in tasks or (task != "train" and way not in ("", "graph")):
                        continue
                    amount = PREDICTED if (task, name) == ("generate_1", "keras") else AMOUNTS[task]
                    found = side.rate(task, amount)
                    if turn:  # the first one compiles
                        best[task, name] = max(best.get((task, name), 0.0), found)
            shown = ", ".join(f"{name} {rate:,.0f}" for (of, name), rate in best.items() if of == task)
            print(f"{task:<12}characters/s: {shown}", flush=True)
    finally:
        for side in sides.values():
            side.close()
    figures: dict[str, float | None] = {f"{task}_{name}": round(rate) for (task, name), rate in best.items()}
    for key, (task, ours, other) in RATIOS.items():
        known = (task, other) in best
        figures[key] = round(best[task, ours] / best[task, other], 3) if known else None
        print(f"{key:<26}{figures[key]}")
    return figures


def quality(location: str, text: str | None) -> dict[str, float | None]:
    """Bits a character of the documents, by the model, by counting and by xz."""
    from cluster.artefact import Artefact
    from cluster.errors import WordloomError
    from ingest.corpus import Corpus
    from trainers.generation import CharacterModel

    artefact = Artefact.open(location)
    model = CharacterModel.open(artefact)
    training = None
    try:
        corpus = Corpus.open(artefact.manifest.inputs["corpus"].location)
        training = list(_texts(corpus, "training"))
    except (WordloomError, KeyError) as error:
        print(f"The corpus of the model is not there ({error}); no n-gram, no xz.")
    if text is not None:
        documents = _documents(text)
    elif training is not None:
        documents = list(_texts(corpus, "held_out"))
    else:
        raise SystemExit("There is no corpus and no --text: nothing to measure.")
    count = sum(map(len, documents))
    logarithms = sum(score.log_probability for score in model.scores(documents))
    figures: dict[str, float | None] = dict.fromkeys(BITS)
    figures["bits"] = round(-logarithms / count / math.log(2), 4)
    alphabet = model.alphabet
    figures["bits_windows_50"] = round(model.bits_in_windows(map(alphabet.encode, documents)), 4)
    if training is not None:
        counted = NGrams(map(alphabet.encode, training), alphabet.size)
        figures["bits_ngram"] = round(counted.bits(map(alphabet.encode, documents)), 4)
        before, behind = ("\n\n".join(each).encode() for each in (training, documents))
        more = _packed(before + b"\n\n" + behind) - _packed(before)
        figures["bits_xz"] = round(8 * more / count, 4)
    print(f"{len(documents):,} documents, {count:,} characters:")
    for name in BITS:
        print(f"{name:<26}{figures[name]}")
    return figures


def _texts(corpus: Any, part: Any) -> Iterator[str]:
    for shard in range(len(corpus.shards)):
        yield from corpus.shard_texts(shard, part).texts


def _documents(name: str) -> list[str]:
    if re.search(r"\.jsonl?(\.\w+)?$", name):
        from ingest.papers import read_file

        return [each.text for each in read_file(name).abstracts]
    pieces = re.split(r"\n\s*\n", Path(name).read_text(encoding="utf-8"))
    return [each.strip() for each in pieces if each.strip()]


def _packed(data: bytes) -> int:
    return len(lzma.compress(data, preset=9))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", metavar="DIR", help="a trained language model, to measure its bits")
    parser.add_argument("--text", metavar="FILE", help="... on this text")
    parser.add_argument("--no-speed", action="store_true", help="only the bits")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side[0], options.side[1], int(options.side[2]))
        return
    figures: dict[str, float | None] = dict.fromkeys([*RATIOS, *BITS])
    if options.model:
        figures |= quality(options.model, options.text)
    if not options.no_speed:
        figures |= speed(options.threads, options.rounds)
    if options.json:
        conditions = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
        print(json.dumps({"benchmark": "language_model", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
