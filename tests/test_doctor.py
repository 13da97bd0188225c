"""What `wordloom doctor` finds, and that each finding that is not well says what to do."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import doctor
from cluster.doctor import Finding, examine

GIB = 1 << 30


def test_the_examination_covers_everything_and_each_finding_is_a_sentence(tmp_path: Path) -> None:
    findings = examine(tmp_path / "home")
    names = [finding.name for finding in findings]
    wanted = ["python", "memory", "cores", "disk", "home", "gpu"]
    assert set(wanted) <= set(names) and len(names) == len(set(names))
    assert {"shared memory", "ray token", "dashboard port", "serve port"} <= set(names)
    for finding in findings:
        assert finding.state in ("ok", "warning", "failed")
        assert finding.sentence.endswith((".", ")")) and "\n" not in finding.sentence


def test_a_home_without_a_name_is_no_working_directory() -> None:
    (found,) = [finding for finding in examine("", ports=()) if finding.name == "home"]
    assert found.state == "failed" and "is empty" in found.sentence


def test_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    examine(home)
    assert list(tmp_path.iterdir()) == []


def test_neither_ray_nor_tensorflow_is_loaded() -> None:
    code = (
        "import sys; from cluster.doctor import examine; examine('.wordloom'); "
        "sys.exit(any(name in sys.modules for name in ('ray', 'tensorflow', 'keras')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parent.parent)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_python_with_a_wheel_is_well(version: tuple[int, int]) -> None:
    assert doctor.python(version).state == "ok"


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (4, 0)])
def test_a_python_without_a_wheel_fails_and_the_right_ones_are_named(version: tuple[int, int]) -> None:
    finding = doctor.python(version)
    assert finding.state == "failed"
    assert f"{version[0]}.{version[1]}" in finding.sentence and "3.12" in finding.sentence


@pytest.mark.parametrize(("free", "state"), [(GIB, "failed"), (4 * GIB, "warning"), (16 * GIB, "ok")])
def test_memory_is_judged_by_what_is_free(free: int, state: str) -> None:
    assert doctor.memory(free).state == state


def test_a_containers_limit_counts_where_it_is_the_smaller() -> None:
    finding = doctor.memory(64 * GIB, 2 * GIB)
    assert finding.state == "failed" and "container" in finding.sentence
    assert doctor.memory(16 * GIB, 64 * GIB).sentence == "16 GiB of memory free."


def test_a_busy_machine_and_a_single_core_are_said() -> None:
    assert doctor.processors(1, 0.0).state == "warning"
    assert doctor.processors(4, 500.0).state == "warning"
    assert "busy" in doctor.processors(4, 500.0).sentence


@pytest.mark.parametrize(("free", "state"), [(GIB // 2, "failed"), (2 * GIB, "warning"), (50 * GIB, "ok")])
def test_disk_is_judged_by_what_is_free(tmp_path: Path, free: int, state: str) -> None:
    assert doctor.disk(tmp_path, free).state == state


def test_little_shared_memory_is_a_warning_with_the_option_that_mends_it(tmp_path: Path) -> None:
    assert "--shm-size" in doctor.shared_memory(64 << 20).sentence
    assert doctor.shared_memory(4 * GIB).state == "ok"
    assert doctor.shared_memory(device=tmp_path / "none").state == "ok"


def test_a_taken_port_is_found_and_a_free_one_stays_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = doctor.port_free(port)
        assert finding.state == "warning" and str(port) in finding.sentence
    assert doctor.port_free(port) == Finding(f"port {port}", "ok", f"127.0.0.1:{port} is free.")


def test_home_tells_what_it_holds(tmp_path: Path) -> None:
    for name in ("corpus", "vectors"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "model" / "making").mkdir(parents=True)
    (tmp_path / "model" / "making" / "draft.json").write_text("{}")
    finding = doctor.writable(tmp_path)
    assert finding.state == "ok"
    assert "2 finished artefacts, 1 unfinished" in finding.sentence


def test_a_part_of_home_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lost+found").mkdir()
    assert "holds 0 finished artefacts" in doctor.writable(tmp_path).sentence
    (tmp_path / "corpus").mkdir()
    scandir = os.scandir

    def refuses(folder: str) -> object:
        if Path(folder).name in ("corpus", "lost+found"):  # root may read anywhere
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuses)
    finding = doctor.writable(tmp_path)
    assert (finding.state, finding.sentence) == (
        "warning",
        f"May not read {tmp_path}/corpus; change the rights.",
    )


def test_a_home_with_foreign_files_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    assert doctor.writable(tmp_path).state == "warning"


def test_a_home_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert doctor.writable(tmp_path / "file" / "home").state == "failed"
    assert doctor.writable(tmp_path / "file").state == "failed"


def test_a_token_that_ray_cannot_keep_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".ray" / "auth_token"
    assert doctor.token() == Finding("ray token", "ok", f"Ray keeps its token in {file}.")
    file.parent.mkdir()
    file.write_text("secret")
    assert doctor.token().state == "ok"
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)  # root may read and write anywhere
        assert doctor.token().state == "failed" and "set HOME" in doctor.token().sentence
    monkeypatch.setenv("HOME", str(file))
    assert doctor.token().state == "failed" and f"May not use {file}" in doctor.token().sentence
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert doctor.token().state == "ok"


def test_a_home_that_may_not_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    assert doctor.writable(tmp_path / "home").state == "failed"


def test_a_remote_home_is_not_looked_for_on_this_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "reachable", lambda home: Finding("home", "ok", home))
    findings = {finding.name: finding for finding in examine("s3://bucket/home", ports=())}
    assert "disk" not in findings and findings["home"].sentence == "s3://bucket/home"


@pytest.mark.parametrize(
    ("home", "says"), [("nowhere://a/b", "no file system that pyarrow knows"), ("s3://", "names no bucket")]
)
def test_a_remote_home_that_cannot_be_looked_at_fails(home: str, says: str) -> None:
    finding = doctor.reachable(home)
    assert finding.name == "home" and finding.state == "failed" and says in finding.sentence


def test_a_remote_home_is_not_looked_at_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "cluster.folder", raising=False)
    finding = doctor.reachable("s3://bucket/home")
    assert (finding.state, finding.sentence) == (
        "failed",
        "Cannot look at s3://bucket/home without pyarrow; run `make install`.",
    )


def test_the_pins_of_this_python_are_compared_and_differences_named(tmp_path: Path) -> None:
    found = doctor.importlib.metadata.version("numpy")
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"numpy=={found} ; python_full_version < '{sys.version_info[0]}.{sys.version_info[1] + 1}' \\\n"
        "    --hash=sha256:00\n"
        f"numpy==99 ; python_full_version >= '{sys.version_info[0]}.{sys.version_info[1] + 1}'\n"
    )
    assert doctor.installed(lock)[0].state == "ok"
    lock.write_text("numpy==99\n    # via ray\nlxml==1.0\n")
    (finding,) = doctor.installed(lock)
    assert finding.state == "warning" and f"numpy {found} instead of 99" in finding.sentence
    lock.write_text("no-such-library==1\n")
    (finding,) = doctor.installed(lock, names=["no-such-library"])
    assert finding.state == "failed" and "make install" in finding.sentence
    assert doctor.installed(tmp_path / "none.lock") == []


def test_gpus_are_listed_as_the_driver_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_nvidia_smi", lambda: ["NVIDIA H100, 81559 MiB"])
    assert "H100" in doctor.gpu().sentence and "--device gpu" in doctor.gpu().sentence
    monkeypatch.setattr(doctor, "_nvidia_smi", list)
    assert doctor.gpu().state == "ok"
