"""HAProxy as Ray starts it: what Ray's configuration answers where it knows nothing, and what ours does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from serving import haproxy


@pytest.fixture
def ray_s(tmp_path: Path) -> HAProxyApi:
    """Ray's own writer of configurations, without a route."""
    config = HAProxyConfig(http_options=HTTPOptions(), is_head=True, socket_path=str(tmp_path / "socket"))
    return HAProxyApi(config, config_file_path=str(tmp_path / "haproxy.cfg"))


def written(api: HAProxyApi) -> str:
    api._generate_config_file_internal()
    return Path(api.config_file_path).read_text()


def test_without_a_route_every_path_is_503_and_with_one_unknown_paths_are_404(ray_s: HAProxyApi) -> None:
    without = written(ray_s)
    assert "return status 404" in without
    mended = haproxy.mended(without, "/there/503.http")
    assert "return status 404" not in mended
    (line,) = [each for each in mended.splitlines() if "hdr Retry-After 1" in each]
    assert "return status 503 content-type application/json" in line
    server = ServerConfig(name="a", host="127.0.0.1", port=1)
    ray_s.set_backend_configs({"a": BackendConfig(name="a", path_prefix="/", servers=[server], app_name="a")})
    assert "return status 404" in haproxy.mended(written(ray_s), "/there/503.http")


def test_what_cannot_be_reached_is_503_in_our_form(ray_s: HAProxyApi) -> None:
    mended = haproxy.mended(written(ray_s), "/there/503.http")
    files = [line.split() for line in mended.splitlines() if line.strip().startswith("errorfile")]
    assert files == [["errorfile", status, "/there/503.http"] for status in ("502", "503", "504")]
    head, _, body = haproxy.UNREACHED.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ") and "Retry-After: 1" in head
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body)["error"]["code"] == "not_ready"


def test_another_configuration_is_left_as_it_is() -> None:
    assert haproxy.mended("global\n  maxconn 3\n", "/there/503.http") == "global\n  maxconn 3\n"


def test_what_ray_starts_becomes_haproxy_with_the_mended_configuration(
    ray_s: HAProxyApi, tmp_path: Path
) -> None:
    written(ray_s)
    program = haproxy.install(tmp_path)
    assert program is not None
    assert program.stat().st_mode & 0o077 == 0
    command = [str(program), "-c", "-f", ray_s.config_file_path]  # -c: checks the configuration and ends
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "hdr Retry-After 1" in Path(ray_s.config_file_path).read_text()
    assert (tmp_path / "503.http").read_bytes() == haproxy.UNREACHED.encode()
    assert os.access(program, os.X_OK)
