"""Sessions: the one place that starts or joins Ray.

- Inside a submitted job, or with an address given (``auto``, ``127.0.0.1:6379``), the session joins the
  cluster that is there and leaves it running.
- Otherwise it starts a Ray of its own on this machine, bound to loopback, with token authentication
  (Ray's default for clusters that it starts), and stops it at the end.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.artefact import libraries
from cluster.errors import WordloomError
from cluster.probe import check_nodes

LOOPBACK = "127.0.0.1"
# What a Ray of our own is started with. Each is a default: the environment of the user wins.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # without, the dashboard knows of no training
    "RAY_DEDUP_LOGS": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # our own bars say more
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
# ... and only a Ray of our own: without "clusters", as Ray has it on a laptop's system, every server binds to
# loopback; an address of 127.0.0.1 given to ray.init is replaced by the host's own.
OWN_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Why Ray could not write its token (~/.ray) or its session's files (/tmp/ray, RAY_TMPDIR).
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)
# What a submitted job was made with, as JSON: name -> version (cluster/submission.py).
LIBRARIES = "WORDLOOM_LIBRARIES"


@dataclass(frozen=True)
class Session:
    """A cluster to work on: its dashboard's address (None without one), whether it is ours, its cores."""

    address: str
    dashboard: str | None
    owned: bool
    cpus: int
    metrics: tuple[str, ...]


@contextmanager
def session(
    address: str | None = None,
    *,
    cpus: int | None = None,
    dashboard: bool = True,
    home: str | os.PathLike[str] | None = None,
) -> Iterator[Session]:
    """Starts or joins Ray for the length of the block.

    `address` None joins the cluster of the job that this process runs in (RAY_ADDRESS) and else starts
    one; ``"local"``, also in RAY_ADDRESS, always starts one. Where other nodes will work too, each must reach
    `home`, the folder that they write to. Raises WordloomError where Ray cannot be started or reached, and
    where this node has other libraries than the job was submitted with.
    """
    _compare_libraries()
    address = _resolved(address)
    joining = joins(address)
    for name, value in {**ENVIRONMENT, **({} if joining else OWN_ENVIRONMENT)}.items():
        os.environ.setdefault(name, value)
    # Ray warns that the authentication we want is on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():  # a caller's own session, e.g. a notebook or the tests' shared cluster
        check_nodes(home)
        yield _describe(ray, owned=False)
        return
    arguments: dict[str, Any] = {
        "logging_level": logging.WARNING,
        "log_to_driver": False,
        "namespace": "wordloom",
    }
    try:
        if joining:
            ray.init(address=address, **arguments)
        else:
            ray.init(
                address=address,
                num_cpus=cpus or max(2, os.cpu_count() or 2),  # 2 workers train even on one core
                include_dashboard=dashboard,
                dashboard_host=LOOPBACK,
                object_store_memory=_object_store_bytes(),
                **arguments,
            )
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename:
            variable = "HOME" if ".ray" in Path(error.filename).parts else "RAY_TMPDIR"
            raise WordloomError(
                f"Ray cannot start: it cannot write {str(error.filename)!r} ({error.strerror}); set "
                f"{variable} to a folder that you may write to."
            ) from error
        # On a busy machine Ray gives up after 30 s, with a plain Exception.
        known = isinstance(error, ConnectionError | RuntimeError | ValueError | TimeoutError)
        if not known and "timed out" not in str(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        mend = (
            "check --address and RAY_ADDRESS"
            if joining
            else "see `wordloom doctor`, end other Ray processes and try again"
        )
        raise WordloomError(
            f"Ray at {address if joining else 'this machine'!r} did not come up ({reason}); {mend}."
        ) from error
    if threading.current_thread() is threading.main_thread():
        # What `ray job stop`, systemd and Kubernetes send ends us as Ctrl-C does, after a last checkpoint and
        # with Serve shut down; ray.init has just put an exit in its place.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_nodes(home)
        yield _describe(ray, owned=not joining)
    finally:
        ray.shutdown()


def joins(address: str | None) -> bool:
    """Whether a session with this address joins a Ray that is there, and starts none."""
    return _resolved(address) != "local"


def _resolved(address: str | None) -> str:
    """The address that is meant: RAY_ADDRESS where none or ``"auto"`` is given, as Ray has it, and without
    either ``"local"``. An empty one is none: Ray would join any cluster, or start one that is not ours."""
    there = os.environ.get("RAY_ADDRESS")
    return there if there and address in (None, "", "auto") else address or "local"


def cores(workers: int) -> int:
    """The cores that a Ray of our own is started with: all of this machine, and enough for `workers`."""
    return max(workers, os.cpu_count() or 1)


def _compare_libraries() -> None:
    wanted: dict[str, str] = json.loads(os.environ.get(LIBRARIES, "{}"))
    there = libraries()
    for name, version in wanted.items():
        if there.get(name) != version:
            raise WordloomError(
                f"This node has {name} {there.get(name, 'not at all')}, the job was submitted with "
                f"{version}; use an image made from the same lock, or `wordloom submit --install`."
            )


def _describe(ray: Any, *, owned: bool) -> Session:
    context = ray.get_runtime_context()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    from ray._private.worker import get_dashboard_url

    url = get_dashboard_url()  # type: ignore[no-untyped-call, unused-ignore]
    return Session(
        address=context.gcs_address,
        dashboard=f"http://{url}" if url else None,
        owned=owned,
        cpus=int(ray.cluster_resources().get("CPU", 1)),
        metrics=tuple(
            f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in nodes
        ),
    )


def _object_store_bytes() -> int:
    """A tenth of the memory, at most 2 GB and what /dev/shm holds; shards do not pass through it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = min(memory // 10, 2_000_000_000)
    shared = Path("/dev/shm")
    if shared.exists():
        status = os.statvfs(shared)
        wanted = min(wanted, int(status.f_bavail * status.f_frsize * 0.8))
    return max(wanted, 100_000_000)
