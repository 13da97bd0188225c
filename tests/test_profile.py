"""The throughput profile: the same answers by HAProxy, and no more open than SECURITY.md names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import UsageError
from serving import client, profile
from serving.settings import ServingSettings
from tests import served
from tests.cores import publish_language_model, publish_vectors


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of the test's own."""
    own: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", own)
    return own


def test_a_ray_of_our_own_is_prepared_and_the_users_settings_stay(environment: dict[str, str]) -> None:
    environment["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "9"
    profile.prepare("throughput", None, 160)
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] == "9"
    folder = Path(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert folder.stat().st_mode & 0o077 == 0
    program = Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert program.parent == folder and os.access(program, os.X_OK)
    shutil.rmtree(folder)


def test_the_folder_of_haproxy_goes_with_the_process_that_made_it() -> None:
    program = (
        "import os; from serving import profile; profile.prepare('throughput', None, 160); "
        "print(os.environ['RAY_SERVE_HAPROXY_CONFIG_FILE_LOC']); raise KeyboardInterrupt"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in ended.stderr
    folder = Path(ended.stdout.strip()).parent
    assert folder.name.startswith("wordloom-") and not folder.exists()


def test_the_default_profile_joins_any_cluster(environment: dict[str, str]) -> None:
    profile.prepare("default", "somewhere:6379", 160)
    assert not [name for name in environment if name.startswith("RAY_")]
    profile.prepare("default", None, 160, trains=True)
    assert {name for name in environment if name.startswith("RAY_")} == {*profile.OWN, profile.DOOR}
    profile.prepare("default", None, 160)
    assert environment["RAY_worker_niceness"] == "0"
    assert environment[profile.DOOR_MOST] == "160"


@pytest.mark.parametrize(("address", "job"), [("somewhere:6379", {}), (None, {"RAY_ADDRESS": "auto"})])
def test_a_cluster_that_does_not_know_the_profile_is_refused(
    address: str | None, job: dict[str, str], environment: dict[str, str]
) -> None:
    environment.update(job)
    with pytest.raises(UsageError, match="RAY_SERVE_ENABLE_HA_PROXY='1'"):
        profile.prepare("throughput", address, 160)
    environment.update(profile.PROFILES["throughput"])
    profile.prepare("throughput", address, 160)


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(UsageError, match=r"'fast'; choose default or throughput"):
        ServingSettings(profile="fast")


@pytest.mark.operate
def test_the_throughput_profile_answers_every_example_and_opens_two_ports(tmp_path: Path) -> None:
    publish_vectors(tmp_path / "vectors" / "a")
    publish_language_model(tmp_path / "language-model" / "b")
    with served.serving(tmp_path, profile="throughput") as server:
        assert {answer.status for answer in client.ask(server.url)} == {200}
        processes = server.processes()
        environment = Path(f"/proc/{server.replicas('vectors')[0]}/environ").read_text()
        stream = served.load(
            server.port,
            [served.Request("/v1/text/generate", {"length": 40, "seed": 1, "stream": True})],
            connections=1,
            count=1,
        )
        opened = {
            port: processes[pid]
            for port, address, pid in listening()
            if pid in processes and address not in LOOPBACK
        }
    (file,) = re.findall(r"RAY_SERVE_HAPROXY_CONFIG_FILE_LOC=([^\0]+)", environment)
    assert not Path(file).parent.exists()
    assert any("haproxy" in name for name in processes.values())
    assert [each.status for each in stream] == [200]
    named = re.findall(r"RAY_SERVE_HAPROXY_(?:STATS|METRICS)_PORT=(\d+)", environment)
    assert opened.keys() == {int(port) for port in named}, opened
    said = Path("SECURITY.md").read_text(encoding="utf-8")
    assert "8404" in said and "9101" in said  # where nothing else is set


LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def listening() -> list[tuple[int, str, int]]:
    """Port, address (as the kernel writes it) and process of each listening socket that can be seen."""
    owners: dict[str, list[int]] = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            owners.setdefault(target[8:-1], []).append(int(link.parts[2]))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, _, port = fields[1].partition(":")
                found += [(int(port, 16), address, pid) for pid in owners.get(fields[9], [])]
    return found
