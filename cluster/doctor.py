"""Looks at this machine and says what would keep the main job from running, and what to do about it.

Pure: nothing here starts Ray or loads TensorFlow, and nothing is changed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cluster.memory import of_container, of_machine

DASHBOARD_PORT = 8265
SERVE_PORT = 8000
MAIN_LIBRARIES = ("ray", "tensorflow", "keras", "numpy", "pyarrow", "lxml", "requests", "protobuf", "grpcio")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
LEAST_MEMORY, GOOD_MEMORY = 3 << 30, 6 << 30  # bytes; the main job's processes need 4 to 5 GiB together
LEAST_DISK, GOOD_DISK = 1 << 30, 5 << 30
GOOD_SHARED = 1 << 30  # Ray puts its object store on disk where /dev/shm is smaller
LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)([^\n]*)", re.MULTILINE)
# The one kind of condition under which the lock pins a main library twice.
_FOR_PYTHON = re.compile(r"python_(?:full_)?version\s*(<|>=)\s*['\"]([\d.]+)['\"]")

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `sentence` says what was found and, unless all is well, what to do."""

    name: str
    state: State
    sentence: str


def examine(
    home: str | os.PathLike[str], ports: Sequence[int] = (DASHBOARD_PORT, SERVE_PORT), lock: Path = LOCK
) -> list[Finding]:
    """All findings, in the order in which a person would mend them.

    `home` is the folder that the main job writes to, local or remote; `ports` are those of dashboard and
    serving; `lock` is the list of pinned versions, left out where there is none.
    """
    findings = [python(), *installed(lock), memory(), processors(), shared_memory(), token()]
    if not os.fspath(home):
        findings.append(Finding("home", "failed", "The name of the folder is empty; name one in --home."))
    elif "://" not in os.fspath(home):
        folder = Path(home).expanduser().absolute()
        findings += [disk(folder), writable(folder)]
    else:
        findings.append(reachable(os.fspath(home)))
    return [*findings, *(port_free(port) for port in ports), gpu()]


def python(version: tuple[int, int] | None = None) -> Finding:
    """Whether TensorFlow has a wheel for this Python."""
    major, minor = version or sys.version_info[:2]
    words = f"{major}.{minor}" if version else platform.python_version()
    if OLDEST_PYTHON <= (major, minor) <= NEWEST_PYTHON:
        return Finding("python", "ok", f"Python {words}.")
    return Finding(
        "python",
        "failed",
        f"Python {words} has no TensorFlow 2.21; install Python 3.11, 3.12 or 3.13, then `make install`.",
    )


def installed(lock: Path, names: Iterable[str] = MAIN_LIBRARIES) -> list[Finding]:
    """The main libraries against the versions that `lock` pins; nothing where there is no such file."""
    try:
        pins = _PIN.findall(lock.read_text(encoding="utf-8"))
    except OSError:
        return []
    pinned = {name.lower(): version for name, version, marker in pins if _applies(marker)}
    wrong, missing, right = [], [], 0
    for name in names:
        if (wanted := pinned.get(name)) is None:
            continue
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{name} {wanted}")
            continue
        if found == wanted:
            right += 1
        else:
            wrong.append(f"{name} {found} instead of {wanted}")
    if missing:
        return [Finding("libraries", "failed", f"Not installed: {', '.join(missing)}; run `make install`.")]
    if wrong:
        return [
            Finding(
                "libraries",
                "warning",
                f"Other versions than {lock.name} pins: {', '.join(wrong)}; run `make install` for those.",
            )
        ]
    return [Finding("libraries", "ok", f"{right} main libraries as {lock.name} pins them.")]


def memory(available: int | None = None, limit: int | None = None) -> Finding:
    """Memory that is free now, within the container's limit; both in bytes, measured unless given."""
    if available is None:
        available, limit = _memory()
    if available is None:
        return Finding("memory", "warning", "Cannot tell the free memory here; the main job needs 6 GiB.")
    free = min(available, limit) if limit else available
    words = f"{_gib(free)} of memory free"
    if limit and limit <= available:
        words += " within this container's limit"
    if free < LEAST_MEMORY:
        return Finding(
            "memory", "failed", f"Only {words}; end other programs or raise the limit to {_gib(GOOD_MEMORY)}."
        )
    if free < GOOD_MEMORY:
        return Finding(
            "memory",
            "warning",
            f"{words}, {_gib(GOOD_MEMORY)} are comfortable; use `--workers 1` if it dies.",
        )
    return Finding("memory", "ok", f"{words}.")


def processors(cores: int | None = None, load: float | None = None) -> Finding:
    """The cores that this process may use and how busy the machine has been for the last minute."""
    cores = cores if cores is not None else _cores()
    if load is None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    words = f"{cores} {'core' if cores == 1 else 'cores'}, load {load:.1f}"
    # Ray waits a fixed 30 seconds for its node to come up; on a machine that is twice overbooked it gives up.
    if load > 2 * max(cores, os.cpu_count() or 1):
        return Finding(
            "cores", "warning", f"{words}: the machine is busy and Ray may not start in time; wait a little."
        )
    if cores < 2:
        return Finding("cores", "warning", f"{words}: two workers share it; `--workers 1` is as fast.")
    return Finding("cores", "ok", f"{words}.")


def shared_memory(size: int | None = None, device: Path = Path("/dev/shm")) -> Finding:
    """Room for Ray's object store; `size` in bytes is that of `device` unless given."""
    if size is None:
        if not device.is_dir():
            return Finding("shared memory", "ok", f"No {device} here; Ray keeps its objects in a file.")
        size = shutil.disk_usage(device).free
    if size < GOOD_SHARED:
        return Finding(
            "shared memory",
            "warning",
            f"{_gib(size)} free in {device}, so Ray's objects may go to disk, slowly; "
            "give the container more (docker run --shm-size=2g).",
        )
    return Finding("shared memory", "ok", f"{_gib(size)} free in {device}.")


def token() -> Finding:
    """Whether Ray can keep its token, ``~/.ray/auth_token``, without which none of our own starts."""
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or os.environ.get("RAY_AUTH_TOKEN"):
        return Finding("ray token", "ok", "The environment says how Ray authenticates.")
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(path) if path else Path("~/.ray/auth_token").expanduser()
    place = _existing(file)
    needed = os.R_OK if place == file else os.W_OK | os.X_OK
    if place.is_dir() == (place == file) or not os.access(place, needed):
        mend = "RAY_AUTH_TOKEN_PATH" if path else "HOME"
        return Finding(
            "ray token", "failed", f"May not use {place} for Ray's token; set {mend} to another place."
        )
    return Finding("ray token", "ok", f"Ray keeps its token in {file}.")


def disk(home: Path, free: int | None = None) -> Finding:
    """Free space where `home` is or will be; `free` in bytes, measured unless given."""
    if free is None:
        try:
            free = shutil.disk_usage(_existing(home)).free
        except OSError as error:
            return Finding(
                "disk", "failed", f"Cannot tell the space at {home}: {error.strerror}; check --home."
            )
    if free < LEAST_DISK:
        return Finding(
            "disk",
            "failed",
            f"Only {_gib(free)} free at {home}; free {_gib(LEAST_DISK)} or choose another --home.",
        )
    if free < GOOD_DISK:
        return Finding(
            "disk", "warning", f"{_gib(free)} free at {home}: enough for the sample, not for a large dump."
        )
    return Finding("disk", "ok", f"{_gib(free)} free at {home}.")


def writable(home: Path) -> Finding:
    """Whether `home` may be written, and what is in it."""
    place = _existing(home)
    if not place.is_dir():
        return Finding("home", "failed", f"{place} is a file, not a folder; choose another --home.")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "home", "failed", f"May not read and write {place}; choose another --home or change its rights."
        )
    if place != home:
        return Finding("home", "ok", f"{home} does not exist yet and can be made.")
    finished, begun, other = set[str](), set[str](), False
    closed: list[OSError] = []
    for folder, below, names in os.walk(home, onerror=closed.append):
        if "lost+found" in below:  # the file system's own (cluster.folder.LOST, but that needs pyarrow)
            below.remove("lost+found")
        other = other or bool(below or names)
        if "manifest.json" in names:
            finished.add(folder)
        if "draft.json" in names and os.path.basename(folder) == "making":  # noqa: PTH119 (of many thousands)
            begun.add(os.path.dirname(folder))  # noqa: PTH120
    begun -= finished
    if closed:
        more = f" and {len(closed) - 1} more folders" if len(closed) > 1 else ""
        return Finding("home", "warning", f"May not read {closed[0].filename}{more}; change the rights.")
    if other and not finished and not begun:
        return Finding(
            "home",
            "warning",
            f"{home} holds files but nothing of ours; choose another --home to keep them apart.",
        )
    words = f"{len(finished)} finished artefacts" if len(finished) != 1 else "1 finished artefact"
    if begun:
        words += f", {len(begun)} unfinished (the same command goes on)"
    return Finding("home", "ok", f"{home} can be written and holds {words}.")


def reachable(home: str) -> Finding:
    """Whether a `home` that is not on a disk can be listed, and its bucket exists. Only writing would tell
    whether it may be written, and nothing is changed here."""
    try:
        from cluster.errors import WordloomError
        from cluster.folder import Folder, filesystem_of, inside
    except ImportError as error:
        return Finding("home", "failed", f"Cannot look at {home} without {error.name}; run `make install`.")
    try:
        found = Folder(home).folders()
    except WordloomError as error:
        return Finding("home", "failed", str(error))
    if not found and home.startswith(("s3://", "gs://")):  # a missing bucket lists as an empty one does
        bucket = Folder(inside(home, filesystem_of(home)[1].partition("/")[0]))
        with suppress(WordloomError):  # who may list a folder of it may not always ask for the bucket
            if not bucket.exists():
                return Finding(
                    "home", "failed", f"There is no bucket {bucket}; make it, or choose another --home."
                )
    return Finding("home", "ok", f"{home} can be listed; whether it may be written was not tried.")


def port_free(port: int, host: str = "127.0.0.1") -> Finding:
    """Whether a server could listen on the port."""
    name = {DASHBOARD_PORT: "dashboard port", SERVE_PORT: "serve port"}.get(port, f"port {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            return Finding(name, "failed", f"May not listen on {host}:{port}; choose a port above 1023.")
        except OSError:
            return Finding(
                name,
                "warning",
                f"{host}:{port} is taken by another program (see `ss -ltnp`); end it or choose another port.",
            )
    return Finding(name, "ok", f"{host}:{port} is free.")


def gpu() -> Finding:
    """NVIDIA's GPUs that the driver shows; none is as well."""
    listed = _nvidia_smi()
    if listed:
        return Finding("gpu", "ok", f"{len(listed)} GPU: {'; '.join(listed)}; use it with `--device gpu`.")
    if listed is None and any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return Finding(
            "gpu",
            "warning",
            "A GPU is there but nvidia-smi is not; install the driver's tools, or stay with `--device cpu`.",
        )
    return Finding("gpu", "ok", "No GPU that NVIDIA's driver shows; everything runs on the CPU.")


def _applies(marker: str) -> bool:
    """Whether a pin's condition lets it hold for this Python."""
    for sign, text in _FOR_PYTHON.findall(marker):
        bound = tuple(int(part) for part in text.split("."))
        if (sys.version_info[:3] < bound) != (sign == "<"):
            return False
    return True


def _nvidia_smi() -> list[str] | None:
    """The GPUs' names and memory; None where there is no nvidia-smi or it does not answer."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _memory() -> tuple[int | None, int | None]:
    """Bytes of memory that are available and that the container still allows; None where unknown."""
    if (whole := of_machine()) is not None:
        available = whole[1] - whole[0]
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return None, None
    own = of_container()
    return available, None if own is None else max(own[1] - own[0], 0)


def _cores() -> int:
    """The cores that this process may use: its affinity, within the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(int(quota) // int(period), 1))
    except (OSError, ValueError):
        pass
    return cores


def _existing(folder: Path) -> Path:
    """The folder itself or the nearest one above it that exists."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            return place
    return Path(folder.anchor)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size < 10 << 30 else f"{size / 2**30:.0f} GiB"
