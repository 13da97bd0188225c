"""The recurrent core against Keras' and PyTorch's layers: one training step of each, interleaved.

    python -m tests.benchmarks.recurrent [--json] [--threads 1 2] [--kinds characters letters_10 ...]
    python -m tests.benchmarks.recurrent --device gpu [--json]

Every side is a process of its own, bound to as many cores as it may have threads, and waits while another
works. Each side runs in its fastest variant, found first (XLA or not, unrolled or not, padded or packed).
With one thread the CPU time of a step counts, which other programs on the machine hardly change; with two the
wall time, so keep the machine quiet. A figure is the other side's best round over our best round: above 1,
ours is faster. PyTorch is left out where it is not installed (`pip install torch`). On a GPU all sides have
it in turn, multiply by TensorFloat-32, and are measured by the wall; `loops` are ours, compiled by XLA, where
ours else calls the GPU's library.
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

    def __init__(self, name: str, threads: int, device: str) -> None:
        self.name = name
        cores = sorted(os.sched_getaffinity(0))[-threads:]
        environment = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # the other sides wait with what they have of it
        }
        if device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
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
        try:
            if (kind, variant) not in made:
                made[kind, variant] = SIDES[name](SHAPES[kind], variant)
            step = made[kind, variant]
            began, cpu = time.perf_counter(), time.process_time()
            losses = [step() for _ in range(steps)]
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        except Exception as error:  # such as XLA's, which does not compile what Keras calls on a GPU
            print(json.dumps({"error": f"{type(error).__name__}: {error}"[:100]}), flush=True)
        else:
            print(json.dumps({"wall": wall / steps, "cpu": cpu / steps, "losses": losses}), flush=True)


def fastest(
    side: Side, kind: str, clock: str, firsts: dict[str, float], tolerance: float
) -> tuple[str, float]:
    """The fastest variant of a side and its seconds a step; the loss of its first step is checked."""
    found: list[tuple[float, str]] = []
    for variant in variants(side.name, SHAPES[kind]):
        first = side.ask(kind, variant, 1)
        if "error" in first:
            print(f"{side.name} ({variant}) cannot do {kind}: {first['error']}", flush=True)
            continue
        (loss,) = first["losses"]
        if not math.isclose(loss, firsts.setdefault(kind, loss), rel_tol=tolerance):
            raise SystemExit(f"{side.name} ({variant}) begins {kind} at a loss of {loss}, not {firsts[kind]}")
        seconds = max(side.ask(kind, variant, 2)["wall"], 1e-4)
        found.append((side.ask(kind, variant, max(2, round(ROUND_SECONDS / 2 / seconds)))[clock], variant))
    seconds, variant = min(found)
    return variant, seconds


def compare(
    kinds: list[str], threads: int, names: list[str], rounds: int, firsts: dict[str, float], device: str
) -> dict[str, float]:
    """All kinds at a number of threads, or on the GPU: seconds a step of each side, and the ratios."""
    clock = "cpu" if threads == 1 and device == "cpu" else "wall"
    tolerance, at = (1e-4, str(threads)) if device == "cpu" else (1e-3, "gpu")
    sides = [Side(name, threads, device) for name in names]
    figures: dict[str, float] = {}
    try:
        for kind in kinds:
            best = {}
            chosen = {side.name: fastest(side, kind, clock, firsts, tolerance) for side in sides}
            for _ in range(rounds):
                for side in sides:
                    variant, seconds = chosen[side.name]
                    steps = max(2, round(ROUND_SECONDS / seconds))
                    taken = side.ask(kind, variant, steps)[clock]
                    best[side.name] = min(best.get(side.name, taken), taken)
            for name, taken in best.items():
                figures[f"{kind}_{name}_{at}_ms"] = round(1000 * taken, 3)
                if name != "wordloom":
                    figures[f"{kind}_over_{name}_{at}"] = round(taken / best["wordloom"], 3)
            row = ", ".join(f"{n} {1000 * best[n]:.2f} ms ({chosen[n][0]})" for n in names)
            ratios = ", ".join(f"{best[n] / best['wordloom']:.2f} x {n}" for n in names if n != "wordloom")
            print(f"{kind:<12}{threads} threads: {row}; {ratios}", flush=True)
    finally:
        for side in sides:
            side.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, the last line")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", help="1 and 2; with a GPU all cores")
    parser.add_argument("--kinds", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side, *options.threads)
        return
    names = [name for name in options.sides if name != "pytorch" or importlib.util.find_spec("torch")]
    if options.device == "cpu" and "loops" in names:
        names.remove("loops")  # they are what is measured there
    if "pytorch" in options.sides and "pytorch" not in names:
        print("PyTorch is not installed: its ratios are left out.")
    figures: dict[str, float] = {}
    firsts: dict[str, float] = {}
    counts = options.threads or ([1, 2] if options.device == "cpu" else [os.cpu_count() or 1])
    for threads in counts:
        figures |= compare(options.kinds, threads, names, options.rounds, firsts, options.device)
    if options.json:
        conditions = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
        print(json.dumps({"benchmark": "recurrent", "figures": figures, "conditions": conditions}))


if __name__ == "__main__":
    main()
