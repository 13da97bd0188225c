"""Serving: what batching gains, what the forward pass costs around the graph, neighbours, start and memory.

``python -m tests.benchmarks.serving [--json]`` prints one JSON object. Both sides of a ratio run in turn, in
one process or as two servers under the same load (loopback, 32 connections); the median of rounds counts. The
text model has random weights (GRU-300): speed does not depend on them. There is no sentiment model yet: the
same recurrent core reads texts of 128 characters for ``/v1/text/score``. A key that was not measured is null,
and ``reasons`` says why.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CONNECTIONS = 32
CHARACTERS = 128
ROUNDS = 3
SECONDS = 4.0
CLOCK = os.sysconf("SC_CLK_TCK")
UNMEASURED = {
    "over_bentoml": "no run against BentoML yet; there is no sentiment model to set up the same",
    "over_litserve": "no run against LitServe yet; there is no sentiment model to set up the same",
    "serve_noop_cpu_ms": "not measured yet: needs a Ray of its own beside the load",
    "profile_noop_cpu_ms": "there is no throughput profile yet",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true", help="the result alone, on one line")
    options.add_argument("--side", choices=("batched", "bare", "noop", "vectors", "text"), help="(internal)")
    options.add_argument("--model", help="(internal)")
    given = options.parse_args()
    if given.side in ("vectors", "text"):
        opened(given.side, given.model)
    elif given.side:
        serve(given.side, given.model)
    else:
        result = measured()
        print(json.dumps(result) if given.json else json.dumps(result, indent=1), flush=True)


def measured() -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as place:
        model, vectors = f"{place}/model", f"{place}/vectors"
        publish_text(Path(model))
        publish_vectors(Path(vectors), 100_000, 100)
        figures = under_load(model)
        figures |= {"forward_cpu_ratio": forward_cpu_ratio(model)}
        starts = {side: cold_start(side, where) for side, where in (("vectors", vectors), ("text", model))}
    figures["cold_start_s"] = {side: found["seconds"] for side, found in starts.items()}
    figures["replica_rss_mib"] = {side: found["rss_mib"] for side, found in starts.items()}
    reasons = dict(UNMEASURED)
    try:
        import gensim  # noqa: F401
    except ImportError:
        reasons["neighbours_over_gensim"] = "gensim is not installed (pip install wordloom[bench])"
        figures["neighbours_over_gensim"] = None
    else:
        figures["neighbours_over_gensim"] = neighbours_over_gensim()
    return figures | dict.fromkeys(UNMEASURED) | {"reasons": reasons}


# under load


def under_load(model: str) -> dict[str, Any]:
    """Requests a second of our application over those of the bare one, and the spread of our latencies."""
    body = json.dumps({"text": ("the river is long and wide " * 9)[:CHARACTERS]})
    rates: dict[str, list[float]] = {"batched": [], "bare": []}
    spread, noop = [], []
    with (
        server("batched", model) as batched,
        server("bare", model) as bare,
        server("noop", model) as nothing,
    ):
        sides = {"batched": batched, "bare": bare}
        for side in sides.values():
            load(side[0], body, 1.0)  # threads and connections warm
        for _ in range(ROUNDS):
            for name, (port, _) in sides.items():
                latencies = load(port, body, SECONDS)
                rates[name].append(len(latencies) / SECONDS)
                if name == "batched":
                    spread.append(float(np.percentile(latencies, 99) / np.percentile(latencies, 50)))
            port, pid = nothing
            before = cpu_seconds(pid)
            count = len(load(port, "{}", SECONDS / 2))
            noop.append((cpu_seconds(pid) - before) / count * 1e3)
    ratios = [a / b for a, b in zip(rates["batched"], rates["bare"], strict=True)]
    return {
        "batched_over_bare": statistics.median(ratios),
        "batched_requests_per_s": statistics.median(rates["batched"]),
        "bare_requests_per_s": statistics.median(rates["bare"]),
        "p99_over_p50": statistics.median(spread),
        "bare_noop_cpu_ms": statistics.median(noop),
    }


def load(port: int, body: str, seconds: float) -> list[float]:
    """Latencies (s) of the requests that CONNECTIONS clients got answered with 200, each asking in turn."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (began := time.perf_counter()) < until:
            connection.request("POST", "/v1/text/score", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            latencies.append(time.perf_counter() - began)
        connection.close()

    askers = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    return latencies


@contextmanager
def server(side: str, model: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and its process."""
    command = [sys.executable, "-m", "tests.benchmarks.serving", "--side", side, "--model", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the server of {side} did not come up"
            yield int(line), process.pid
        finally:
            process.terminate()


def serve(side: str, model: str) -> None:
    """One of the servers; prints its port once it listens."""
    import socket

    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    if side == "noop":

        @app.post("/v1/text/score")
        async def noop() -> dict[str, str]:
            return {}
    else:
        from cluster.artefact import Artefact
        from serving import application
        from serving.models import LANGUAGE_MODEL, Model
        from serving.text import Text

        core = Text.open(model)
        if side == "batched":
            served = {LANGUAGE_MODEL: Model.of(Artefact.open(model))}
            app = application.build({LANGUAGE_MODEL: core}, served)
        else:

            @app.post("/v1/text/score")
            def score(body: dict[str, str]) -> dict[str, float]:
                return {"bits_per_character": core.model.scores([body["text"]])[0].bits_per_character}

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1], flush=True)
        listening.listen(128)
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])


# in one process


def forward_cpu_ratio(model: str) -> float:
    """CPU of `Text`'s call for 32 texts over that of the compiled graph alone."""
    import tensorflow as tf

    from serving.text import Text

    core = Text.open(model)
    characters: Any = core.model
    texts = [("the river is long and wide " * 9)[row : row + CHARACTERS] for row in range(CONNECTIONS)]
    ids = np.stack([characters._with_start(text) for text in texts], axis=1)
    padded = np.zeros((257, CONNECTIONS), np.int32)
    padded[: len(ids)] = ids
    network = characters.network
    state = np.zeros((network.carry_slots, CONNECTIONS, network.units), np.float32)
    arguments = (tf.constant(padded), tf.constant(state), tf.constant(len(ids) - 1, tf.int32))

    def graph() -> None:
        characters._read(characters._parameters, *arguments)[0].numpy()

    return statistics.median(
        cpu_of(lambda: core._scored(texts)) / cpu_of(graph) for _ in range(2 * ROUNDS + 1)
    )


def cpu_of(call: Callable[[], Any], times: int = 8) -> float:
    """CPU seconds of a call, all threads counted."""
    call()
    before = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - before


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


# start and memory


def cold_start(side: str, model: str) -> dict[str, float]:
    """Seconds from a new process to a core that answers, and its memory; what Ray adds is not in it."""
    command = [sys.executable, "-m", "tests.benchmarks.serving", "--side", side, "--model", model]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    ended, rss, tensorflow = done.stdout.split()
    assert side == "text" or tensorflow == "False", "a replica of vectors imported TensorFlow"
    return {"seconds": float(ended) - began, "rss_mib": float(rss)}


def opened(side: str, model: str) -> None:
    """Opens a core, asks it once; prints when, its memory (MiB), and whether TensorFlow was imported."""
    from serving import application  # noqa: F401
    from serving.text import Sampling, Text
    from serving.words import Words

    if side == "text":
        Text.open(model).generate(Sampling(length=1))
    else:
        words = Words.open(model)
        words.neighbours(words.vectors.index_to_key[5])
    status = Path("/proc/self/status").read_text()
    rss = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    print(time.perf_counter(), rss, "tensorflow" in sys.modules)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


# models


def publish_text(location: Path) -> None:
    """A character model with one GRU of 300 units and random weights."""
    from cluster.artefact import Draft
    from trainers.characters import reference_alphabet
    from trainers.generation import KIND, CharacterModel
    from trainers.recurrent import Recurrent

    alphabet = reference_alphabet()
    network = Recurrent(cell="gru", inputs=alphabet.size + 1, units=300)
    random = np.random.default_rng(1)
    shapes = CharacterModel.shapes(alphabet, network)
    parameters = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    draft = Draft(location, kind=KIND, output_version=1, inputs={}, settings={})
    draft.publish({}, CharacterModel(alphabet, network, parameters).write(draft.folder))


def publish_vectors(location: Path, words: int, size: int) -> None:
    from cluster.artefact import Draft
    from trainers.vectors import KIND, write_vectors

    table = np.random.default_rng(1).standard_normal((words, size), np.float32)
    draft = Draft(location, kind=KIND, output_version=1, inputs={}, settings={})
    names = [f"w{number}" for number in range(words)]
    draft.publish({}, write_vectors(draft.folder, table, names, np.arange(words, 0, -1)))


if __name__ == "__main__":
    main()
