"""Hosts of their own on one machine: each a network namespace with its address, name, shared memory and Ray.

A switch in a namespace of its own connects them, so the machine's own network is left as it is. Needs root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.session import ENVIRONMENT

RAY = Path(sys.executable).parent / "ray"
PORT = 6379  # every host has all ports to itself
SHARED_MEMORY = "256m"
STORE_BYTES = 80_000_000


def missing() -> str | None:
    """What keeps this machine from having such hosts, None where nothing does."""
    if os.geteuid():
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip`: `apt-get install iproute2` brings it"
    name = f"wl{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not allowed here ({made.stderr.strip()})"
    link = subprocess.run(
        ["ip", "-n", name, "link", "add", "switch", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return f"bridges are not allowed here ({link.stderr.strip()})" if link.returncode else None


class Hosts:
    """Hosts 1, 2, ... with the addresses 10.231.77.1, ...; host 1 is the head. All see the same disk."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._mark = f"wl{os.getpid()}"
        self._processes: list[subprocess.Popen[str]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **ENVIRONMENT,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            # A node that says nothing for 3 s is lost; Ray's own default is some 30 s.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "OMP_NUM_THREADS": "1",
        }

    address = f"10.231.77.1:{PORT}"

    def connect(self) -> None:
        """The switch."""
        _ip("netns", "add", self._name(0))
        _ip("-n", self._name(0), "link", "add", "switch", "type", "bridge")
        _ip("-n", self._name(0), "link", "set", "switch", "up")

    def start(self, *numbers: int) -> None:
        """Hosts with one core for Ray each; returns when all of them have joined."""
        for number in numbers:
            name, port = self._name(number), f"port{number}"
            _ip("netns", "add", name)
            _ip(
                "link",
                "add",
                port,
                "netns",
                self._name(0),
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                name,
            )
            _ip("-n", self._name(0), "link", "set", port, "master", "switch", "up")
            _ip("-n", name, "address", "add", f"10.231.77.{number}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            role = ["--head", f"--port={PORT}", "--include-dashboard=false"]
            role = role if number == 1 else [f"--address={self.address}"]
            options = [
                f"--node-ip-address=10.231.77.{number}",
                "--num-cpus=1",
                f"--object-store-memory={STORE_BYTES}",
            ]
            self.run(number, [str(RAY), "start", "--block", *role, *options], f"host-{number}.log")
            if number == 1:
                self._wait_for([1])
        self._wait_for(numbers)

    def run(self, number: int, command: list[str], log: str) -> subprocess.Popen[str]:
        """A command on a host; what it says goes to a file of that name."""
        own = self._place / f"ray-{number}"
        own.mkdir(exist_ok=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        inside = (
            f"mount --bind {own} /tmp/ray && mount -t tmpfs -o size={SHARED_MEMORY} tmpfs /dev/shm && "
            f'hostname host{number} && exec "$@"'
        )
        enter = ["ip", "netns", "exec", self._name(number), "unshare", "--uts", "sh", "-c", inside, "sh"]
        with (self._place / log).open("w") as said:
            process = subprocess.Popen(
                [*enter, *command],
                env=self.environment,
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def kill(self, number: int) -> None:
        """SIGKILL to all that runs on a host, as its power cut would."""
        for _ in range(50):
            if not (found := _ip("netns", "pids", self._name(number)).split()):
                return
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.1)

    def cut(self, number: int) -> None:
        """Takes a host off the network. What runs on it goes on running."""
        _ip("-n", self._name(0), "link", "set", f"port{number}", "down")

    def end(self) -> None:
        names = subprocess.run(
            ["ip", "netns", "list"], capture_output=True, text=True, check=True
        ).stdout.split()
        own = [name for name in names if name.startswith(f"{self._mark}-")]
        for name in own:
            self.kill(int(name.rpartition("-")[2]))
        for process in self._processes:
            process.wait()
        for name in own:
            _ip("netns", "delete", name)

    def _name(self, number: int) -> str:
        return f"{self._mark}-{number}"

    def _wait_for(self, numbers: tuple[int, ...] | list[int]) -> None:
        """Until Ray's own logs say that these hosts are up."""
        deadline = time.monotonic() + 90
        for number in numbers:
            log = self._place / f"host-{number}.log"
            while "Ray runtime started" not in log.read_text():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"host {number} did not come up: {log.read_text()}")
                time.sleep(0.2)


@contextmanager
def hosts(place: Path) -> Iterator[Hosts]:
    """The switch, and all hosts that are started within the block; nothing of them is left behind it."""
    made = Hosts(place)
    try:
        made.connect()
        yield made
    finally:
        made.end()


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
