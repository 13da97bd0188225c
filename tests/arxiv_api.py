"""A server of a test's own that answers like arXiv's API, with the faults that it is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HEAD = (
    '<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns="http://www.w3.org/2005/Atom">'
    "<opensearch:totalResults>{total}</opensearch:totalResults>"
)
ENTRY = (
    "<entry><id>http://arxiv.org/abs/{id}v1</id><title>T {id}</title><summary>{text}</summary>"
    '<published>{date}T00:00:00Z</published><category term="cs.NE"/></entry>'
)
ERROR = (
    "<entry><id>https://arxiv.org/api/errors#bad</id><title>Error</title><summary>bad query</summary></entry>"
)


def paper(number: int) -> dict[str, str]:
    day = f"{2010 + number // 336:04d}-{number // 28 % 12 + 1:02d}-{number % 28 + 1:02d}"
    return {"id": f"{1001 + number // 9000}.{number % 9000:04d}", "text": f"text {number}", "date": day}


class Api:
    """A server that pages through `papers` as arXiv does: by `start`, whatever else it is asked."""

    def __init__(self, papers: list[dict[str, str]]) -> None:
        self.papers = papers
        self.asked: list[dict[str, str]] = []
        self.faults: list[
            Any
        ] = []  # (status, body, headers), or how many entries it gives, for the next calls
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                outer.asked.append(asked)
                fault = outer.faults.pop(0) if outer.faults else None
                status, body, headers = fault if isinstance(fault, tuple) else (200, None, {})
                content = outer.page(asked, fault).encode() if body is None else body
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/api/query"

    def page(self, asked: dict[str, str], entries: int | None = None) -> str:
        papers = self.papers
        if "submittedDate:[" in asked["search_query"]:
            since = asked["search_query"].partition("submittedDate:[")[2][:8]
            papers = [each for each in papers if each["date"].replace("-", "") >= since]
        start, count = int(asked["start"]), int(asked["max_results"]) if entries is None else entries
        shown = "".join(ENTRY.format(**each) for each in papers[start : start + count])
        return HEAD.format(total=len(papers)) + shown + "</feed>"


@contextmanager
def api(papers: int | list[dict[str, str]]) -> Iterator[Api]:
    made = Api([paper(number) for number in range(papers)] if isinstance(papers, int) else papers)
    try:
        yield made
    finally:
        made.http.shutdown()
        made.http.server_close()
