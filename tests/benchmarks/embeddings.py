"""Skip-gram side by side with gensim and, where it is installed, fastText: speed, memory and quality on the
same tokens. With --pword2vec PROGRAM that program takes part in `speed`.

    WORDLOOM_DATA=DIR python -m tests.benchmarks.embeddings [--json] [--quality] [--part PART] [--home DIR]

Without further arguments the parts `speed`, `nce` and `vocabulary`: over the first 3 million tokens (the NCE
baseline over some thousands), each system in a process of its own, in turn, the best of `ROUNDS` runs;
compilation is left out and reported. With --part only the parts that are named; `gpu` is ours on a GPU
beside one thread. With --quality the part `quality`: 12 million tokens, each system's rate tuned on one
seed, then all SEEDS. The figures of every part, and of every run of `quality`, stay in HOME: the same command
goes on where it was, and a later report reads what it does not run. Words are tokens of the text as
ingested, for all systems.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.ports import free_port
from trainers.embeddings import PRESETS

ROUNDS = 2
SPEED_TOKENS, QUALITY_TOKENS, NCE_TOKENS = 3_000_000, 12_000_000, 10_000
NCE_WORDS = 10_000  # the vocabulary of the reference model
HELD_OUT_TOKENS = 300_000
SHAPES = {"200_10": (200, 10), "100_5": (100, 5)}
RATES, EPOCHS = (0.025, 0.05, 0.1), 3
SEEDS = range(1, 9)  # from one to the next similarities spread by .007: three say little about a hundredth
PARTS = ("speed", "nce", "vocabulary", "quality", "gpu")
ASKED_FOR = ("quality", "gpu")  # only where they are named
PEERS = ("gensim", *(each for each in ("fasttext",) if importlib.util.find_spec(each)))
FIGURES = ("loss", "auc", "wordsim", "simlex", "analogy")


def tokens_of(dump: str, home: Path) -> str:
    """Ingests the dump and keeps what is measured: ids, pages, held-out pages, words."""
    kept = home / "text.npz"
    if kept.exists():
        return str(kept)
    from ingest.corpus import Corpus
    from ingest.vocabulary import Vocabulary
    from trainers.stream import TokenStream

    corpus = home / "corpus"
    made = [
        sys.executable,
        "-m",
        "wordloom",
        "ingest",
        "wikipedia",
        "--source",
        dump,
        "--output",
        str(corpus),
    ]
    subprocess.run(made, check=True, stdout=sys.stderr)
    vocabulary = Vocabulary.open(str(corpus / "vocabulary"))
    stream = TokenStream(Corpus.open(str(corpus)), vocabulary, 32768, 0, 1)
    ids, lengths, held, found = [], [], [], 0
    for shard in range(len(stream.units)):
        values, offsets = stream.decode(shard, "training")
        ids.append(values)
        lengths.append(np.diff(offsets))
        found += len(values)
        if found >= QUALITY_TOKENS:
            break
    for page in stream.held_out():
        held.append(page)
        if sum(map(len, held)) >= HELD_OUT_TOKENS:
            break
    whole = np.concatenate(lengths)
    part = home / "part.npz"
    np.savez(
        part,
        ids=np.concatenate(ids),
        page=np.repeat(np.arange(len(whole), dtype=np.int32), whole),
        held=np.concatenate(held),
        held_lengths=np.array([len(page) for page in held]),
        words=np.array(vocabulary.tokens),
    )
    part.rename(kept)
    return str(kept)


def run(task: dict[str, Any], workers: int = 1) -> dict[str, Any]:
    """The figures of a task done by one process, or by `workers` that exchange; seconds of the slowest,
    CPU seconds and bytes of all."""
    threads = str(task.get("threads", 1))
    environment = os.environ | {
        **({} if task.get("device") == "gpu" else {"CUDA_VISIBLE_DEVICES": "-1"}),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
    }
    environment.pop("TF_CONFIG", None)
    ports = [free_port() for _ in range(workers)]
    started = []
    for rank in range(workers):
        own = dict(environment)
        if workers > 1:
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            own["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
        command = [sys.executable, "-m", "tests.benchmarks.skipgram_run", json.dumps(task)]
        started.append(
            subprocess.Popen(command, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    ended = [(process, *process.communicate()) for process in started]
    for process, _, errors in ended:
        if process.returncode:
            raise SystemExit(f"{task['system']} failed: {errors[-2000:]}")
    figures = [json.loads(output.splitlines()[-1]) for _, output, _ in ended]
    merged = dict(figures[0])
    for name, how in (("seconds", max), ("cpu_seconds", sum), ("peak_bytes", sum)):
        if name in merged:
            merged[name] = how(each[name] for each in figures)
    return merged


def speed(text: str, rounds: int, program: str | None) -> tuple[dict[str, float], dict[str, Any]]:
    figures: dict[str, float] = {}
    runs: dict[str, Any] = {}
    peak = run({"system": "gemm"})["peak"]
    peers = (*PEERS, *(["pword2vec"] if program else []))
    for name, (size, window) in SHAPES.items():
        settings = {"vector_size": size, "window": window, "subsample": 0.0, "epochs": 1}
        settings |= {"learning_rate": 0.05, "seed": 1}
        task = {"text": text, "tokens": SPEED_TOKENS, "settings": settings, "program": program}
        for cores in (1, 2):
            for _ in range(rounds):
                for system in ("ours", *peers):
                    workers = cores if system == "ours" else 1
                    done = run({**task, "system": system, "threads": cores if workers == 1 else 1}, workers)
                    runs.setdefault(f"{system}_{name}_{cores}", []).append(done)
            best = {
                each: max(SPEED_TOKENS / done["seconds"] for done in runs[f"{each}_{name}_{cores}"])
                for each in ("ours", *peers)
            }
            for peer in peers:
                key = "speedup" if peer == "gensim" else f"over_{peer}"
                figures[f"{key}_{name}_{cores}"] = best["ours"] / best[peer]
            for each, value in best.items():
                figures[f"{each}_words_s_{name}_{cores}"] = value
                show(f"{each} {name}, {cores} core(s)", value, runs[f"{each}_{name}_{cores}"])
    figures["workers_2_over_1"] = figures["ours_words_s_100_5_2"] / figures["ours_words_s_100_5_1"]
    figures["compile_s"] = runs["ours_100_5_1"][-1]["compile_seconds"]
    from trainers.embeddings import EmbeddingsSettings

    own = EmbeddingsSettings()
    columns = own.tile + 2 * own.window + own.shared_negatives
    figures["gemm_peak_share"] = figures["ours_words_s_100_5_1"] * columns * own.vector_size * 6 / peak
    figures["gemm_peak_gflops"] = peak / 1e9
    return figures, runs


def on_gpu(text: str, rounds: int) -> dict[str, float]:
    """Words a second of one process that has a GPU, and of one with a thread; held-out figures of both."""
    figures: dict[str, float] = {}
    for name, (size, window) in SHAPES.items():
        settings = {"vector_size": size, "window": window, "subsample": 0.0, "epochs": 1}
        settings |= {"learning_rate": 0.05, "seed": 1}
        task = {"system": "ours", "text": text, "tokens": SPEED_TOKENS, "settings": settings}
        for device in ("gpu", "cpu"):
            task |= {"device": device, "held_out": True}
            runs = [run(task) for _ in range(rounds if device == "gpu" else 1)]
            words = SPEED_TOKENS / min(each["seconds"] for each in runs)
            show(f"{device} {name}", words, runs)
            figures |= {f"{device}_words_s_{name}": words} | {
                f"{device}_{each}_{name}": runs[0][each] for each in ("loss", "auc", "compile_seconds")
            }
        figures[f"gpu_over_cpu_{name}"] = figures[f"gpu_words_s_{name}"] / figures[f"cpu_words_s_{name}"]
    return figures


def show(name: str, words: float, runs: list[dict[str, Any]]) -> None:
    cpu, memory = min(each["cpu_seconds"] for each in runs), max(each["peak_bytes"] for each in runs)
    print(f"{name:<28}{words:>12,.0f} words/s{cpu:>8.1f} s of CPU{memory / 2**20:>8,.0f} MiB", flush=True)


def reference(text: str, rounds: int) -> dict[str, float]:
    """The NCE preset against its straightforward Keras form, by words a second of CPU; the losses are means
    a pair over the same tokens, from the first step on."""
    task = {"text": text, "words": NCE_WORDS, "settings": dict(PRESETS["reference"])}
    keras = [run({**task, "system": "keras_nce", "tokens": NCE_TOKENS}) for _ in range(rounds)]
    own = [run({**task, "system": "our_nce", "tokens": 20 * NCE_TOKENS}) for _ in range(rounds)]
    theirs = NCE_TOKENS / min(each["cpu_seconds"] for each in keras)
    ours = 20 * NCE_TOKENS / min(each["cpu_seconds"] for each in own)
    return {
        "nce_speedup": ours / theirs,
        "nce_words_s": ours,
        "keras_nce_words_s": theirs,
        "nce_loss": run({**task, "system": "our_nce", "tokens": NCE_TOKENS})["train_loss"],
        "keras_nce_loss": keras[0]["train_loss"],
    }


def vocabulary() -> dict[str, float]:
    settings = {"vector_size": 300, "window": 5, "subsample": 0.0}
    task = {"system": "large", "tokens": 1_200_000, "settings": settings}
    small, million = run({**task, "words": 30_000}), run({**task, "words": 1_000_000})
    return {
        "peak_rss_ratio_1m_300": million["peak_bytes"] / (2 * 1_000_000 * 300 * 4),
        "step_ratio_1m_30k": million["seconds"] / small["seconds"],
    }


def quality(text: str, sets: str, home: Path) -> dict[str, float]:
    """Tunes each system's rate on seed 1, then compares all SEEDS; what was run before is read."""

    def trained(
        system: str, rate: float, seed: int, epochs: int = EPOCHS, workers: int = 1
    ) -> dict[str, Any]:
        kept = home / f"{system}{workers if workers > 1 else ''}-{rate}-{seed}-{epochs}.json"
        if not kept.exists():
            settings = {"vector_size": 100, "window": 5, "subsample": 1e-3, "epochs": epochs}
            settings |= {"learning_rate": rate, "seed": seed}
            task = {"system": system, "text": text, "tokens": QUALITY_TOKENS, "settings": settings}
            done = run({**task, "similarity": sets, "threads": 1}, workers)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(done))
            part.rename(kept)
        found: dict[str, Any] = json.loads(kept.read_text())
        shown = ", ".join(f"{each} {found[each]:.4f}" for each in FIGURES)
        print(
            f"{system}, {workers} worker(s), rate {rate}, seed {seed}, epochs {epochs}: {shown}, "
            f"{found['cpu_seconds']:.0f} s of CPU",
            flush=True,
        )
        return found

    def rank(found: dict[str, Any]) -> float:
        # Similarity and analogies in one sum, the loss with them: no single figure chooses the rate.
        return float(found["wordsim"] + found["simlex"] + found["analogy"] + found["auc"] - found["loss"])

    best = {each: max(RATES, key=lambda rate: rank(trained(each, rate, 1))) for each in ("ours", *PEERS)}
    runs = {each: [trained(each, best[each], seed) for seed in SEEDS] for each in best}
    figures: dict[str, float] = {f"{each}_rate": rate for each, rate in best.items()}
    mean = {
        each: {name: statistics.mean(one[name] for one in runs[each]) for name in FIGURES} for each in best
    }
    for name in FIGURES:
        for peer in PEERS:
            key = f"{name}_delta" if peer == "gensim" else f"{name}_delta_{peer}"
            figures[key] = mean["ours"][name] - mean[peer][name]
        for each in best:
            figures[f"{each}_{name}"] = mean[each][name]
            figures[f"{each}_{name}_spread"] = statistics.stdev(one[name] for one in runs[each])
    for workers in (2, 4):
        more = [trained("ours", best["ours"], seed, workers=workers) for seed in SEEDS]
        for name in FIGURES:
            several = statistics.mean(one[name] for one in more)
            figures[f"workers_{workers}_{name}_delta"] = several - mean["ours"][name]
    # By CPU seconds: these runs take long, and often share the machine.
    theirs = statistics.mean(one["cpu_seconds"] for one in runs["gensim"])
    reached = ("auc", "wordsim", "simlex")
    for epochs in range(1, 2 * EPOCHS + 1):
        found = [trained("ours", best["ours"], seed, epochs) for seed in SEEDS]
        if all(statistics.mean(one[name] for one in found) >= mean["gensim"][name] for name in reached):
            figures["time_to_quality_ratio"] = statistics.mean(one["cpu_seconds"] for one in found) / theirs
            break
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument("--quality", action="store_true", help="quality over 12 million tokens as well")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs a system, of which the best counts")
    parser.add_argument("--pword2vec", metavar="PROGRAM", help="Intel's pWord2Vec, built")
    parser.add_argument("--home", default="build/benchmarks/embeddings", help="what is kept between reports")
    parser.add_argument("--source", help="the dump (DATA/dumps/enwiki-2015-sample.xml.bz2)")
    options = parser.parse_args()
    data = Path(os.environ.get("WORDLOOM_DATA", ""))
    home = Path(options.home).absolute()
    home.mkdir(parents=True, exist_ok=True)
    text = tokens_of(options.source or str(data / "dumps" / "enwiki-2015-sample.xml.bz2"), home)
    made: dict[str, Callable[[], dict[str, float]]] = {
        "speed": lambda: speed(text, options.rounds, options.pword2vec)[0],
        "nce": lambda: reference(text, options.rounds),
        "vocabulary": vocabulary,
        "quality": lambda: quality(text, str(data / "similarity"), home),
        "gpu": lambda: on_gpu(text, options.rounds),
    }
    wanted = options.part or [part for part in PARTS if part not in ASKED_FOR]
    if options.quality:
        wanted.append("quality")
    figures: dict[str, float] = {}
    for part in PARTS:
        kept = home / f"{part}.json"
        if part in wanted:
            kept.write_text(json.dumps(made[part]()))
        if kept.exists():
            figures |= json.loads(kept.read_text())
    for name, value in figures.items():
        print(f"{name:<28}{value:>14,.4g}")
    if options.json:
        conditions = {"cores": os.cpu_count(), "python": platform.python_version()}
        print(json.dumps({"benchmark": "embeddings", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
