"""Serving: our server in both profiles against bare FastAPI, BentoML and LitServe; what its parts cost.

``python -m tests.benchmarks.serving [--json] [--part PART]`` prints one JSON object (all parts: some ten
minutes). Both sides of a ratio run in turn, round by round, under the same load (loopback, 32 connections);
medians count. A key that was not measured is null, and ``reasons`` says why.

- ``sentiment``: one text of 128 words a request, GRU of 300 with random weights. `batched_over_bare`,
  `over_bentoml` and `over_litserve` are our requests a second over theirs in the profile ``throughput``,
  `p99_over_p50` is of our latencies there; the same of the default profile under ``default_...``.
  `batched_over_bare_one_thread`: the model of the bare server has one thread, as ours has;
  `batched_over_bare_compiled`: so, and it makes our compiled call for each text.
  `forward_cpu_ratio`: CPU of the replica's call for 16 texts, from their characters to probabilities, over
  that of the compiled graph for the same 16.
- ``noop``: CPU milliseconds (all processes of the server, less what they take without requests) of a request
  to ``/livez``. ``replica_rss_mib`` of each kind, in the same server.
- ``stream``: the time to a text's first character, less that of a no-op, over that of a step of the model
  (one after the other; ``paused``: behind a pause, as a server meets it);
  how far the last of 32 texts is when the first one is done (1: all together); all their characters a second.
- ``overload``: four times the requests a second that it carries, sent whether or not they are answered;
  how late the clients themselves woke.
- ``neighbours``: 32 questions at once among 1M x 300 over gensim's time for them; the answers are compared.
- ``starts``: from a new process to a core that answers (what Ray adds is not in it), and a whole server.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import serving_models as made
from tests.benchmarks import serving_sides as sides
from tests.benchmarks.main_job import cpu_seconds, descendants
from tests.benchmarks.serving_stress import overload, stream
from tests.served import Request, Server, load, serving

CONNECTIONS = 32
ROUNDS = 3
SECONDS = 5.0
KINDS = {
    "vectors": made.publish_vectors,
    "language-model": made.publish_text,
    "sentiment": made.publish_sentiment,
}
Figures = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--json", action="store_true", help="the result alone, on one line")
    options.add_argument(
        "--part", choices=list(PARTS), action="append", help="only this one; may be repeated"
    )
    options.add_argument("--peers", default=".venv/peers", help="where BentoML and LitServe are installed")
    options.add_argument("--opened", nargs=2, metavar=("KIND", "MODEL"), help="(internal)")
    given = options.parse_args()
    if given.opened:
        opened(*given.opened)
        return
    result: Figures = {"reasons": {}}
    with tempfile.TemporaryDirectory() as place:
        for kind, publish in KINDS.items():
            publish(Path(place, kind))
        for part in given.part or PARTS:
            if not given.json:
                print(f"{part} ...", file=sys.stderr, flush=True)
            found = PARTS[part](Path(place), given)
            result["reasons"] |= found.pop("reasons", {})
            result |= found
    print(json.dumps(result) if given.json else json.dumps(result, indent=1), flush=True)


# under load


def sentiment(models: Path, given: argparse.Namespace) -> Figures:
    """Requests a second of every side, in turn."""
    model = str(models / "sentiment")
    reasons: dict[str, str] = {}
    with ExitStack() as stack:
        ports = {
            profile: stack.enter_context(serving(models / "sentiment", profile=profile)).port
            for profile in ("throughput", "default")
        }
        pythons: dict[str, Path | None] = dict.fromkeys(side for side in SIDES.values() if side not in HEALTH)
        try:
            pythons |= dict.fromkeys(HEALTH, sides.peers(Path(given.peers)))
        except RuntimeError as error:
            reasons |= {f"over_{side}": str(error) for side in HEALTH}

        def up(side: str) -> tuple[int, int]:
            return stack.enter_context(sides.running(side, model, pythons[side]))

        with ThreadPoolExecutor() as pool:  # each compiles for ten seconds
            starting = {side: pool.submit(up, side) for side in pythons}
        for side, started in starting.items():
            try:
                ports[side] = started.result()[0]
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                reasons[f"over_{side}"] = str(error)
        rates: dict[str, list[float]] = {side: [] for side in ports}
        spread: dict[str, list[float]] = {side: [] for side in ports}
        for measured in range(-1, ROUNDS):  # the first round warms
            for side, port in ports.items():
                answers = load(
                    port, requests(side), connections=CONNECTIONS, seconds=SECONDS if measured >= 0 else 2
                )
                assert {each.status for each in answers} == {200}, f"{side}: {answers[:3]}"
                if measured >= 0:
                    latencies = [each.seconds for each in answers]
                    rates[side].append(len(answers) / max(each.at + each.seconds for each in answers))
                    spread[side].append(float(np.percentile(latencies, 99) / np.percentile(latencies, 50)))
                    said = f"{side}: {rates[side][-1]:.0f} requests/s, p99 over p50 {spread[side][-1]:.2f}"
                    print(said, file=sys.stderr, flush=True)
    figures: Figures = {f"requests_per_s_{side}": statistics.median(each) for side, each in rates.items()}
    for name, side in SIDES.items():
        for prefix, profile in (("", "throughput"), ("default_", "default")):
            figures[prefix + name] = (
                statistics.median(a / b for a, b in zip(rates[profile], rates[side], strict=True))
                if side in rates
                else None
            )
    figures["p99_over_p50"] = statistics.median(spread["throughput"])
    figures["default_p99_over_p50"] = statistics.median(spread["default"])
    return figures | {"forward_cpu_ratio": forward_cpu_ratio(model), "reasons": reasons}


HEALTH = sides.HEALTH
SIDES = {
    "batched_over_bare": "bare",
    "batched_over_bare_one_thread": "bare_one_thread",
    "batched_over_bare_compiled": "compiled",
    "over_bentoml": "bentoml",
    "over_litserve": "litserve",
}


def requests(side: str) -> list[Request]:
    """The same texts as each side wants them."""
    texts = made.texts(64)
    if side in ("throughput", "default"):
        return [Request("/v1/sentiment", {"input": text}) for text in texts]
    if side == "bentoml":
        return [Request("/judge", {"texts": [text]}) for text in texts]
    return [Request("/judge", {"text": text}) for text in texts]


def noop(models: Path, given: argparse.Namespace) -> Figures:
    """What carrying a request costs, in either profile and by uvicorn alone; the memory of replicas."""
    figures: Figures = {}
    with ExitStack() as stack:
        servers = {
            "profile_noop_cpu_ms": stack.enter_context(serving(models, profile="throughput")),
            "serve_noop_cpu_ms": stack.enter_context(serving(models, profile="default")),
            "bare_noop_cpu_ms": Server(*stack.enter_context(sides.running("noop", ""))),
        }
        costs: dict[str, list[float]] = {name: [] for name in servers}
        for measured in range(-1, ROUNDS):
            for name, server in servers.items():
                cost = request_cpu_ms(server)
                if measured >= 0:
                    costs[name].append(cost)
        resident = {kind: server_rss(servers["profile_noop_cpu_ms"], kind) for kind in KINDS}
    figures |= {name: statistics.median(each) for name, each in costs.items()}
    return figures | {"replica_rss_mib": resident}


def request_cpu_ms(server: Server) -> float:
    """CPU of a no-op request, less what the server's processes take in the same time without one."""
    before = total_cpu(server.pid)
    time.sleep(2)
    idle = (total_cpu(server.pid) - before) / 2
    before, began = total_cpu(server.pid), time.perf_counter()
    answers = load(server.port, [Request("/livez")], connections=CONNECTIONS, seconds=4)
    spent = total_cpu(server.pid) - before - idle * (time.perf_counter() - began)
    assert {each.status for each in answers} == {200}
    return spent / len(answers) * 1e3


def total_cpu(pid: int) -> float:
    return sum(cpu_seconds(descendants(pid)).values())


def server_rss(server: Server, kind: str) -> dict[str, float]:
    """MiB of a kind's replica: all that is resident, and what is not of files (which others share)."""
    (pid,) = server.replicas(kind)
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        name: int(status.partition(f"{field}:")[2].split()[0]) / 1024
        for name, field in (("all", "VmRSS"), ("anonymous", "RssAnon"))
    }


# in one process


def forward_cpu_ratio(model: str) -> float:
    """CPU of the replica's call for 16 texts over that of the compiled graph alone."""
    import tensorflow as tf

    from serving.sentiment import LANES, Sentiment

    core = Sentiment.open(model)
    classifier: Any = core.model
    texts = made.texts(LANES[-1])
    words = np.stack(classifier.rows(texts), axis=1)
    assert words.shape == (made.WORDS, LANES[-1])
    arguments = tf.constant(words), tf.constant(np.full(LANES[-1], made.WORDS, np.int32))

    def graph() -> None:
        classifier._padded(*arguments)[0].numpy()

    return statistics.median(cpu_of(lambda: core.read(texts)) / cpu_of(graph) for _ in range(2 * ROUNDS + 1))


def cpu_of(call: Callable[[], Any], times: int = 16) -> float:
    """CPU seconds of a call, all threads counted."""
    call()
    before = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - before


def neighbours(models: Path, given: argparse.Namespace) -> Figures:
    try:
        import gensim  # noqa: F401
    except ImportError:
        reason = "gensim is not installed (pip install wordloom[bench])"
        return {"neighbours_over_gensim": None, "reasons": {"neighbours_over_gensim": reason}}
    return {"neighbours_over_gensim": neighbours_over_gensim()}


def neighbours_over_gensim(words: int = 1_000_000, size: int = 300) -> float:
    """Time for 32 questions at once over gensim's for the same, one after the other; answers compared."""
    from gensim.models import KeyedVectors

    from serving.nearest import QUESTIONS, Question, nearest
    from trainers.vectors import WordVectors

    table = np.random.default_rng(1).standard_normal((words, size), np.float32)
    names = [f"w{number}" for number in range(words)]
    ours = WordVectors(names, table)
    theirs = KeyedVectors(size)
    theirs.index_to_key, theirs.key_to_index = names, ours.key_to_index
    theirs.vectors = table
    theirs.fill_norms()
    ours.norms  # noqa: B018
    asked = [names[number * 997] for number in range(QUESTIONS)]
    questions = [Question((word,), (), 10) for word in asked]
    ratios = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = nearest(ours, questions)
        middle = time.perf_counter()
        reference = [theirs.most_similar(word, topn=10) for word in asked]
        ratios.append((middle - began) / (time.perf_counter() - middle))
    same = [[name for name, _ in each] for each in found] == [
        [name for name, _ in each] for each in reference
    ]
    assert same, "gensim finds other neighbours"
    return statistics.median(ratios)


def starts(models: Path, given: argparse.Namespace) -> Figures:
    """Seconds from a new process to an answer, for each kind's core and for a server of all."""
    found: dict[str, float] = {}
    for kind in KINDS:
        command = [sys.executable, "-m", "tests.benchmarks.serving", "--opened", kind, str(models / kind)]
        began = time.perf_counter()
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        )
        ended, tensorflow = done.stdout.split()
        assert kind != "vectors" or tensorflow == "False", "a replica of vectors imported TensorFlow"
        found[kind] = float(ended) - began
    began = time.perf_counter()
    with serving(models, profile="throughput"):
        found["server"] = time.perf_counter() - began
    return {"cold_start_s": found}


def opened(kind: str, model: str) -> None:
    """Opens a core and asks it once; prints when, and whether TensorFlow was imported."""
    from serving import application  # noqa: F401
    from serving.deployments import CORES

    core = CORES[kind](model)
    if kind == "vectors":
        core.neighbours(core.vectors.index_to_key[5])
    elif kind == "sentiment":
        core.read(["a film"])
    else:
        core.score("a film")
    print(time.perf_counter(), "tensorflow" in sys.modules)


PARTS: dict[str, Callable[[Path, argparse.Namespace], Figures]] = {
    "sentiment": sentiment,
    "noop": noop,
    "stream": lambda models, given: stream(models),
    "overload": lambda models, given: overload(models),
    "neighbours": neighbours,
    "starts": starts,
}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
