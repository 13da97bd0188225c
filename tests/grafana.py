"""A stand-in for Grafana, which is not installed: what Ray's dashboard asks of one, and the board as a table.

It says that it is healthy, and at the address of the board it shows each panel's title and what Prometheus
answers to the panel's queries at that moment. How Grafana itself would draw them it cannot show.
"""

from __future__ import annotations

import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def stand_in(board: dict[str, Any], prometheus: str) -> Iterator[str]:
    """The address at which it answers for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            if path == "/api/health":
                self._send(200, "application/json", json.dumps({"database": "ok"}))
            elif path.startswith(f"/d/{board['uid']}/"):
                self._send(200, "text/html", _page(board, prometheus))
            else:
                self._send(404, "text/plain", "no such board")

        def _send(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _page(board: dict[str, Any], prometheus: str) -> str:
    rows = []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            query = urllib.parse.urlencode({"query": target["expr"]})
            with urllib.request.urlopen(f"{prometheus}/query?{query}", timeout=10) as reply:
                found = json.load(reply)["data"]["result"]
            values = "; ".join(f"{' '.join(each['metric'].values())} {each['value'][1]}" for each in found)
            rows.append(f"<tr><th>{escape(panel['title'])}<td>{escape(values)}")
    again = '<meta http-equiv="refresh" content="5">'
    return f"{again}<h1>{escape(board['title'])}</h1><table>{''.join(rows)}</table>"
