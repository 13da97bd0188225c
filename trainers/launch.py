"""Training under Ray Train: one group of workers that does a list of jobs, one after another.

The driver imports no TensorFlow: a job names its learner's factory as ``"module:function"``. Every worker
builds the learner and runs `trainers.loop.produce`; worker 0 publishes the artefact and tells a *board* (a
small actor) how it goes, which the driver shows. A worker that dies or stalls restarts the group, which goes
on from the last checkpoint; what a person can mend ends it with one sentence.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import socket
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import memory, metrics
from cluster.artefact import Artefact, Draft, Input
from cluster.errors import UsageError, WordloomError
from cluster.folder import filesystem_of
from cluster.progress import Reporter, Stage, quantity
from trainers.board import Board, Listener, Seen
from trainers.group import CollectiveGroup, Group, LocalGroup, PeerError, PeerFailedError, agree
from trainers.loop import Learner, LoopSettings, Progress, StoppedError, produce

MAX_RESTARTS = 3
POLL_SECONDS = 0.3
STOP_SECONDS = 15.0  # what a training that was asked to stop may take for its checkpoint
LOOPBACK = "127.0.0.1"
# How Ray Train behaves; what the user's environment says wins.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # 2 s by default: as long is lost at the end, too
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "30",  # 600 s by default: a stopped process is noticed so late
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",  # cluster.metrics has ours
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

Factory = Callable[[Mapping[str, Input], Any], Learner]


@dataclass(frozen=True)
class TrainingJob:
    """One artefact to train.

    `name` is shown and labels the metrics, `unit` is the stream's (``"tokens"``). `factory` is
    ``"module:function"``; it is called on every worker as ``function(inputs, settings)`` with the draft's
    inputs (name -> kind, identity, location) and the stage's settings, and returns the learner. `loop` says
    how long to train.
    """

    name: str
    unit: str
    factory: str
    draft: Draft
    settings: Any
    loop: LoopSettings

    def reused(self, reporter: Reporter) -> Artefact | None:
        """The artefact where an earlier run published it, which is said; None where there is work to do."""
        there = self.draft.published
        if there is not None:
            reporter.say(f"= {self.name}: reused, {quantity(there.bytes, 'B')} at {there.location}")
        return there


def train_all(jobs: Sequence[TrainingJob], workers: int, device: str, reporter: Reporter) -> list[Artefact]:
    """Trains what is not published yet and returns the artefacts of all jobs, in their order.

    `workers` processes share the nodes' cores; `device` is ``"cpu"`` or ``"gpu"`` (one process a GPU). Needs
    a Ray session. Raises WordloomError for what a worker found wrong, and after `MAX_RESTARTS` restarts. On
    KeyboardInterrupt a checkpoint is made first, if the training has begun.
    """
    pending = [job for job in jobs if job.draft.published is None]
    for job in jobs:
        if job.draft.published is not None:
            job.draft.making.delete()  # a kill just after the publishing leaves it
    if pending:
        with memory.watched(reporter.say):
            _train(pending, workers, device, reporter)
    return [job.draft.published or Artefact.open(job.draft.location, job.draft.kind) for job in jobs]


def _train(jobs: Sequence[TrainingJob], workers: int, device: str, reporter: Reporter) -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Ray Train logs each step of its own and a traceback for every restart; the board tells what matters.
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    scaling, threads = _scaling(workers, device)
    # The board lives where the driver does: one on a node that is lost would take the training with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    run = run_name(jobs)
    board: Any = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote(run)
    storage = jobs[-1].draft.making.child("ray")
    filesystem, inside = filesystem_of(storage.location)
    trainer = DataParallelTrainer(
        _work,
        train_loop_config={"jobs": list(jobs), "device": device, "threads": threads, "board": board},
        backend_config=ClusterConfig(),
        scaling_config=scaling,
        run_config=RunConfig(
            name=run,
            storage_path=inside,
            storage_filesystem=None if storage.is_local else filesystem,
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
        ),
    )
    fitting = _Fitting(trainer)
    fitting.start()
    with ExitStack() as stack:
        shown = stack.enter_context(_Shown(jobs, workers, reporter))
        try:
            while not fitting.done.wait(POLL_SECONDS):
                shown.update(ray.get(board.read.remote()))
        except KeyboardInterrupt:
            ray.get(board.ask_to_stop.remote())
            fitting.done.wait(STOP_SECONDS)
            raise
        seen = ray.get(board.read.remote())
        shown.update(seen)
        _raise_for(seen, fitting.error)
    ray.kill(board)
    jobs[-1].draft.making.delete()  # Ray Train's own notes


def run_name(jobs: Sequence[TrainingJob]) -> str:
    """The name of the Train run in Ray's dashboard and metrics, and of its folder:
    ``train-embeddings-language-model``."""
    return "-".join(["train", *(job.name.replace(" ", "-") for job in jobs)])


def _raise_for(seen: Seen, error: BaseException | None) -> None:
    if seen.failure is not None:
        kind, text = seen.failure
        if kind == "defect":
            raise RuntimeError(f"{text.strip().splitlines()[-1]}\n{text}")  # what it was, then where
        raise {"usage": UsageError, "mendable": WordloomError}[kind](text)
    if error is not None:
        if (sentence := memory.ran_out(error)) is not None:
            raise WordloomError(sentence) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise WordloomError(
            f"Training gave up after {MAX_RESTARTS} restarts ({reason}); "
            "run the same command again to go on from the last checkpoint."
        ) from error


def _scaling(workers: int, device: str) -> tuple[ScalingConfig, int]:
    """What Ray Train is asked for, and the threads that each worker may use."""
    if workers < 1:
        raise UsageError(f"--workers is {workers}; give at least 1.")
    if device not in ("cpu", "gpu"):
        raise UsageError(f"--device is {device!r}; choose cpu or gpu.")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call, unused-ignore]
    gpus = [node.get("GPU", 0) // 1 for node in nodes] if device == "gpu" else None
    if gpus is not None and sum(gpus) < workers:
        raise UsageError(
            f"{workers} workers with --device gpu need {workers} GPUs, the cluster has {int(sum(gpus))}; "
            "use fewer workers or --device cpu."
        )
    cores = cores_each([node.get("CPU", 0) for node in nodes], workers, gpus)
    scaling = ScalingConfig(
        num_workers=workers, use_gpu=device == "gpu", resources_per_worker={"CPU": cores} | _gpu(device)
    )
    return scaling, max(1, int(cores))


def _gpu(device: str) -> dict[str, float]:
    return {"GPU": 1} if device == "gpu" else {}


def cores_each(nodes: Sequence[float], workers: int, gpus: Sequence[float] | None = None) -> float:
    """The most cores that each of `workers` processes can have on nodes of so many cores (and of so many
    `gpus`, of which each takes one); below 1 where there are more workers than cores.

    1 where nodes with cores are still to come, as to a cluster that grows by what is asked of it.
    """
    most = [math.inf] * len(nodes) if gpus is None else gpus

    def enough(places: Sequence[float]) -> bool:
        return sum(map(min, places, most)) >= workers

    if not enough([math.inf if node > 0 else 0 for node in nodes]):
        return 1
    for cores in range(int(max(nodes)), 0, -1):
        if enough([node // cores for node in nodes]):
            return cores
    divisor = 2
    while not enough([node * divisor // 1 for node in nodes]):
        divisor += 1
    return 1 / divisor


# on the workers


def _work(config: dict[str, Any]) -> None:
    """What every worker does."""
    board = config["board"]
    if ray.get(board.read.remote()).failure is not None:
        return  # a restart that only a worker's time-out made, for which the failed worker was the cause
    try:
        group = _group(config["device"], config["threads"])
        for number, job in enumerate(config["jobs"]):
            if agree(group, job.draft.published is not None):
                continue
            if group.rank == 0:
                board.begin.remote(number)
            learner = load_factory(job.factory)(job.draft.inputs, job.settings)
            produce(learner, job.draft, group, job.loop, Listener(job.name, board))
            metrics.forget({"stage": job.name})  # a training that ended early is not one that stands still
            if group.rank == 0:
                ray.get(board.finish.remote(number))
    except (StoppedError, PeerFailedError):
        return
    except PeerError:
        raise  # Ray Train starts the workers again
    # Whatever else is raised, a restart would not mend: the worker ends well, and the driver raises it. The
    # others end likewise, or at the latest when their next collective times out.
    except UsageError as error:
        ray.get(board.fail.remote("usage", str(error)))
    except WordloomError as error:
        ray.get(board.fail.remote("mendable", str(error)))
    except Exception as error:
        short = memory.ran_out(error)
        ray.get(board.fail.remote(*(("mendable", short) if short else ("defect", traceback.format_exc()))))


def load_factory(name: str) -> Factory:
    """The function that ``"module:function"`` names."""
    module, _, function = name.partition(":")
    factory: Factory = getattr(importlib.import_module(module), function)
    return factory


def _group(device: str, threads: int) -> Group:
    """Sets TensorFlow up in this process and joins the other workers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    return CollectiveGroup() if get_context().get_world_size() > 1 else LocalGroup()


class ClusterConfig(BackendConfig):  # type: ignore[misc, unused-ignore]
    """Connects the workers by ``TF_CONFIG``. Ray's own TensorflowConfig would import TensorFlow into the
    driver and the controller, and ask for Keras 2."""

    @property
    def backend_cls(self) -> type[Backend]:
        return ClusterBackend


class ClusterBackend(Backend):  # type: ignore[misc, unused-ignore]
    """Sets ``TF_CONFIG`` on every worker before training begins."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        if len(worker_group) == 1:
            return
        found = worker_group.execute(_address)
        one_node = len({node for node, _ in found}) == 1
        addresses = [f"{LOOPBACK if one_node else node}:{port}" for node, port in found]
        waiting = [
            worker_group.execute_single_async(rank, _set_cluster, addresses, rank)
            for rank in range(len(addresses))
        ]
        ray.get(waiting)


def _address() -> tuple[str, int]:
    with socket.socket() as held:
        held.bind(("", 0))
        node: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call, unused-ignore]
        return node, held.getsockname()[1]


def _set_cluster(addresses: list[str], rank: int) -> None:
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})


# in the driver


class _Fitting(threading.Thread):
    """`trainer.fit` in a thread: in the main thread it would take over Ctrl-C. Wait for `done`: a thread's
    `join` that Ctrl-C interrupts takes the thread for ended (seen in Python 3.11)."""

    def __init__(self, trainer: DataParallelTrainer) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._trainer = trainer
        self.done = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # the driver's main thread looks at it
            self.error = error
        finally:
            self.done.set()


class _Shown:
    """What the driver shows of the board: one stage a job."""

    def __init__(self, jobs: Sequence[TrainingJob], workers: int, reporter: Reporter) -> None:
        self._jobs = jobs
        self._reporter = reporter
        self._number = 0
        self._told = 0
        self._stage = self._begin(f"starting {workers} workers")

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._number < len(self._jobs):
            self._stage.__exit__(kind, error, trace)

    def update(self, seen: Seen) -> None:
        for sentence in seen.sentences[self._told :]:
            self._reporter.say(sentence)
        self._told = len(seen.sentences)
        while self._number in seen.finished:
            self._show(seen.progress.get(self._number))
            self._stage.__exit__(None, None, None)
            self._number += 1
            if self._number < len(self._jobs):
                self._stage = self._begin("getting ready")
        self._show(seen.progress.get(self._number))

    def _begin(self, note: str) -> Stage:
        job = self._jobs[self._number]
        stage = self._reporter.stage(job.name, unit=job.unit).__enter__()
        stage.update(0, note=note)
        return stage

    def _show(self, now: Progress | None) -> None:
        if now is None:
            return
        words = [] if now.loss is None else [f"loss {now.loss:.3f}"]
        if now.held_out_loss is not None:
            words.append(f"held out {now.held_out_loss:.3f}")
        note = ", ".join(words)
        self._stage.update(now.units, total=now.total_units, note=f"epoch {now.epoch}, {note}")
        self._stage.summary(", ".join([quantity(now.units, now.unit), *words]))
