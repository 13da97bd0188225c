"""The servers that the benchmark of serving compares with: the same model of sentiment, served otherwise.

    python -m tests.benchmarks.serving_sides SIDE MODEL PORT

- ``noop``: FastAPI and uvicorn, an answer of nothing.
- ``bare``: a route that calls the model's `predict` for each request by itself; ``compiled``: the same with
  the call that our server makes, for one text.
- ``bentoml``, ``litserve``: those servers' own batching (16 texts) around that call.

The model has one thread, as in our replicas, but for `DEFAULT_THREADS`: ``bare`` is that server as it comes
(``bare_one_thread`` answers 2.3 to 2.7 times as many), and BentoML answers more so.

Each takes ``{"text": ...}`` at ``/judge``; BentoML, which batches along lists, ``{"texts": [...]}``.

The two peers live in a virtual environment of their own (`peers`): BentoML pins libraries that Ray wants
newer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from tests.benchmarks.serving_models import WORDS
from tests.ports import free_port

PEERS = ("bentoml==1.4.40", "litserve==0.2.19")
MOST = 16  # texts of a call, as in serving/sentiment.py
DEFAULT_THREADS = ("bare", "bentoml")  # whose model has as many threads as TensorFlow chooses
HEALTH = {"bentoml": "/readyz", "litserve": "/health"}  # /docs of the others
MODEL = "WORDLOOM_BENCHMARK_MODEL"  # where BentoML's service finds its model
ROOT = Path(__file__).resolve().parent.parent.parent


def peers(folder: Path) -> Path:
    """The Python of a virtual environment with both peers, which sees what is installed here behind its own
    packages. Raises RuntimeError where they cannot be installed."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        commands = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(PEERS)} cannot be installed: {done.stderr.strip()[-300:]}")
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "behind.pth").write_text(f"{ROOT}\n{sysconfig.get_paths()['purelib']}\n")
        (folder / "ready").touch()
    return python


@contextmanager
def running(side: str, model: str, python: Path | None = None) -> Iterator[tuple[int, int]]:
    """The port and the process of a server, once it answers."""
    port = free_port()
    arguments = [
        str(python or sys.executable),
        "-m",
        "tests.benchmarks.serving_sides",
        side,
        model,
        str(port),
    ]
    # A file, not a pipe, and a session of its own: BentoML's and LitServe's workers hold on to both.
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=os.environ | ({} if side in DEFAULT_THREADS else {"TF_NUM_INTRAOP_THREADS": "1"}),
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}{HEALTH.get(side, '/docs')}", process, said)
            yield port, process.pid
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait(url: str, process: subprocess.Popen[bytes], said: TextIO) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.2)
    said.seek(0)
    raise RuntimeError(f"The server did not come up: {said.read()[-500:]}")


def main() -> None:
    side, model, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if side == "bentoml":
        os.environ[MODEL] = model
        service = "tests.benchmarks.serving_bentoml:Judge"
        command = [
            sys.executable,
            "-m",
            "bentoml",
            "serve",
            service,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        os.execv(sys.executable, command)
    elif side == "litserve":
        from tests.benchmarks.serving_litserve import serve

        serve(model, port)
    else:
        import uvicorn

        uvicorn.run(_bare(side, model), host="127.0.0.1", port=port, log_level="warning")


def _bare(side: str, model: str) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    if side == "noop":

        @app.get("/livez")
        async def noop() -> dict[str, str]:
            return {"status": "ok"}

        return app
    from serving.sentiment import Sentiment

    core: Any = Sentiment.open(model)
    core.model.predict(["warm"])

    @app.post("/judge")
    def judge(body: dict[str, str]) -> list[float]:
        if side == "compiled":
            (rows,) = core.model.rows([body["text"]])
            probabilities, _ = core.model.read_padded([rows], WORDS, 1)
        else:
            probabilities = core.model.predict([body["text"]])
        return list(probabilities[0].tolist())

    return app


def answers(core: Any, texts: list[str]) -> list[list[float]]:
    """One call of the compiled model for at most `MOST` texts."""
    return [reading.probabilities.tolist() for reading in core.read(texts)]


if __name__ == "__main__":
    main()
