"""HAProxy as Ray starts it: what Ray's configuration answers where it knows nothing, and what ours does."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from serving import haproxy
from serving.gate import OPEN, Gate
from serving.keys import Keys
from serving.refusals import Refusals
from serving.traffic import Traffic
from tests.ports import free_port


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
    mended = haproxy.mended(without, "/there/503.http", 160)
    assert "return status 404" not in mended
    (line,) = [each for each in mended.splitlines() if "hdr Retry-After 1" in each]
    assert "return status 503 content-type application/json" in line
    server = ServerConfig(name="a", host="127.0.0.1", port=1)
    ray_s.set_backend_configs({"a": BackendConfig(name="a", path_prefix="/", servers=[server], app_name="a")})
    assert "return status 404" in haproxy.mended(written(ray_s), "/there/503.http", 160)


def test_what_cannot_be_reached_is_503_in_our_form(ray_s: HAProxyApi) -> None:
    mended = haproxy.mended(written(ray_s), "/there/503.http", 160)
    files = [line.split() for line in mended.splitlines() if line.strip().startswith("errorfile")]
    assert files == [["errorfile", status, "/there/503.http"] for status in ("502", "503", "504")]
    head, _, body = haproxy.UNREACHED.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ") and "Retry-After: 1" in head
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body)["error"]["code"] == "not_ready"


def test_another_configuration_is_left_as_it_is() -> None:
    assert haproxy.mended("global\n  maxconn 3\n", "/there/503.http", 160) == "global\n  maxconn 3\n"


def test_what_ray_starts_becomes_haproxy_with_the_mended_configuration(
    ray_s: HAProxyApi, tmp_path: Path
) -> None:
    written(ray_s)
    program = haproxy.install(tmp_path, 160)
    assert program is not None
    assert program.stat().st_mode & 0o077 == 0
    command = [str(program), "-c", "-f", ray_s.config_file_path]  # -c: checks the configuration and ends
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "hdr Retry-After 1" in Path(ray_s.config_file_path).read_text()
    assert (tmp_path / "503.http").read_bytes() == haproxy.UNREACHED.encode()
    assert os.access(program, os.X_OK)


class Slow(BaseHTTPRequestHandler):
    """A replica whose answers wait until they may go, but for HAProxy's own question and a refusal."""

    protocol_version = "HTTP/1.1"
    go = threading.Event()
    inside = threading.Semaphore(0)

    def do_GET(self) -> None:
        if self.path.startswith("/v1"):
            self.inside.release()
            self.go.wait(60)
        self.send_response(503 if self.path == "/refused" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def replica() -> Iterator[int]:
    """The port of a replica that is slow."""
    Slow.go.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        Slow.go.set()
        server.shutdown()


def test_haproxy_itself_refuses_what_is_too_much_and_no_probe_and_its_refusals_are_counted(
    replica: int, tmp_path: Path
) -> None:
    port = free_port()
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        is_head=True,
        socket_path=str(tmp_path / "socket"),
        metrics_port=free_port(),
        stats_port=free_port(),
        metrics_enabled=False,
    )
    ray_s = HAProxyApi(config, config_file_path=str(tmp_path / "haproxy.cfg"))
    server = ServerConfig(name="a", host="127.0.0.1", port=replica)
    ray_s.set_backend_configs({"a": BackendConfig(name="a", path_prefix="/", servers=[server], app_name="a")})
    written(ray_s)
    program = haproxy.install(tmp_path, 2)
    command = [str(program), "-db", "-f", ray_s.config_file_path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            asked = [threading.Thread(target=answer, args=(port, "/v1/a")) for _ in range(2)]
            until(lambda: answer(port, "/livez").status == 200)
            refusals = Refusals(tmp_path / "socket")
            refusals.more(refusals.said())  # what was asked before the replica was seen to be there
            for each in asked:
                each.start()
                assert Slow.inside.acquire(timeout=30)
            refused, probe = answer(port, "/v1/b"), answer(port, "/livez")
            Slow.go.set()
            for each in asked:
                each.join(30)
            again, the_replica_s = answer(port, "/v1/b"), answer(port, "/refused")
            counted, later = refusals.more(refusals.said()), refusals.more(refusals.said())
        finally:
            process.terminate()
    gate = Gate(app=none, models={}, max_body_bytes=1, keys=Keys.find(), most=0, traffic=Traffic())
    gate._inside = 1  # this request, where none may come in
    said = gate._refusal(Headers({}), "/v1/b")
    assert said is not None and json.loads(refused.body) == json.loads(said.body)
    assert (refused.status, refused.retry_after) == (said.status, said.headers["Retry-After"])
    assert haproxy.PROBES == OPEN
    assert (probe.status, again.status, the_replica_s.status) == (200, 200, 503)
    assert (counted, later) == ({"too_busy": 1}, {})


async def none(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that is never asked."""


@dataclass
class Answer:
    status: int
    retry_after: str | None
    body: bytes


def answer(port: int, path: str) -> Answer:
    """What is answered; status 0 where nobody is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        found = connection.getresponse()
        return Answer(found.status, found.getheader("Retry-After"), found.read())
    except OSError:
        return Answer(0, None, b"")
    finally:
        connection.close()


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline, "it did not come up"
        time.sleep(0.05)
