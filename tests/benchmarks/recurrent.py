"""The recurrent core against Keras' and PyTorch's CPU layers: one training step of each, interleaved.

    python -m tests.benchmarks.recurrent [--json] [--threads 1 2] [--kinds characters letters_10 ...]

Every side is a process of its own, bound to as many cores as it may have threads, and waits while another
works. Each side runs in its fastest variant, found first (XLA or not, unrolled or not, padded or packed).
With one thread the CPU time of a step counts, which other programs on the machine hardly change; with two the
wall time, so keep the machine quiet. A figure is the other side's best round over our best round: above 1,
ours is faster. PyTorch is left out where it is not installed (`pip install torch`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.recurrent_sides import SHAPES, SIDES, variants

ROUND_SECONDS = 0.6  # of one side's turn
ROUNDS = 7


class Side:
    """A process that trains one side's shapes on request."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        cores = sorted(os.sched_getaffinity(0))[-threads:]
        environment = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.recurrent", "--side", name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, kind: str, variant: str, steps: int) -> dict[str, Any]:
        """`steps` training steps: seconds and CPU seconds of each, and the losses."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([kind, variant, steps]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process of {self.name} ended at {kind} ({variant})")
        return dict(json.loads(answer))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work(name: str, threads: int) -> None:
    """The side's process: answers every line of standard input with the figures of so many steps."""
    if name == "pytorch":
        import torch

        # Else PyTorch looks four times slower than it is; before its threads start, which inherit it.
        torch.set_flush_denormal(True)
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    made: dict[tuple[str, str], Callable[[], float]] = {}
    for line in sys.stdin:
        kind, variant, steps = json.loads(line)
        if (kind, variant) not in made:
            made[kind, variant] = SIDES[name](SHAPES[kind], variant)
        step = made[kind, variant]
        began, cpu = time.perf_counter(), time.process_time()
        losses = [step() for _ in range(steps)]
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(json.dumps({"wall": wall / steps, "cpu": cpu / steps, "losses": losses}), flush=True)


def fastest(side: Side, kind: str, clock: str, firsts: dict[str, float]) -> tuple[str, float]:
    """The fastest variant of a side and its seconds a step; the loss of its first step is checked."""
    found: list[tuple[float, str]] = []
    for variant in variants(side.name, SHAPES[kind]):
        (loss,) = side.ask(kind, variant, 1)["losses"]
        if not math.isclose(loss, firsts.setdefault(kind, loss), rel_tol=1e-4):
            raise SystemExit(f"{side.name} ({variant}) begins {kind} at a loss of {loss}, not {firsts[kind]}")
        seconds = max(side.ask(kind, variant, 2)["wall"], 1e-4)
        found.append((side.ask(kind, variant, max(2, round(ROUND_SECONDS / 2 / seconds)))[clock], variant))
    seconds, variant = min(found)
    return variant, seconds


def compare(
    kinds: list[str], threads: int, names: list[str], rounds: int, firsts: dict[str, float]
) -> dict[str, float]:
    """All kinds at a number of threads: seconds a step of each side, and the ratios."""
    clock = "cpu" if threads == 1 else "wall"
    sides = [Side(name, threads) for name in names]
    figures: dict[str, float] = {}
    try:
        for kind in kinds:
            best = {}
            chosen = {side.name: fastest(side, kind, clock, firsts) for side in sides}
            for _ in range(rounds):
                for side in sides:
                    variant, seconds = chosen[side.name]
                    steps = max(2, round(ROUND_SECONDS / seconds))
                    taken = side.ask(kind, variant, steps)[clock]
                    best[side.name] = min(best.get(side.name, taken), taken)
            for name, taken in best.items():
                figures[f"{kind}_{name}_{threads}_ms"] = round(1000 * taken, 2)
                if name != "wordloom":
                    figures[f"{kind}_over_{name}_{threads}"] = round(taken / best["wordloom"], 3)
            row = ", ".join(f"{n} {1000 * best[n]:.1f} ms ({chosen[n][0]})" for n in names)
            ratios = ", ".join(f"{best[n] / best['wordloom']:.2f} x {n}" for n in names if n != "wordloom")
            print(f"{kind:<12}{threads} threads: {row}; {ratios}", flush=True)
    finally:
        for side in sides:
            side.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side, *options.threads)
        return
    names = [name for name in options.sides if name != "pytorch" or importlib.util.find_spec("torch")]
    if "pytorch" in options.sides and "pytorch" not in names:
        print("PyTorch is not installed: its ratios are left out.")
    figures: dict[str, float] = {}
    firsts: dict[str, float] = {}
    for threads in options.threads:
        figures |= compare(options.kinds, threads, names, options.rounds, firsts)
    if options.json:
        conditions = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
        print(json.dumps({"benchmark": "recurrent", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
