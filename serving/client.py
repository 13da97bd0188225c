"""A client that asks every route for which the server's own document has an example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import requests

from cluster.errors import WordloomError
from serving.reference import parameters, request_body

WIDTH = 160  # characters of an answer's line
UNASKED = ("/livez", "/readyz")


@dataclass(frozen=True)
class Answer:
    """One request (`asked`: `GET /v1/words/river/neighbours?n=10`), its status and the decoded body."""

    asked: str
    path: str
    status: int
    body: Any

    @property
    def line(self) -> str:
        """The answer in one line for people."""
        text = _shown(self.body)
        return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def ask(url: str, *, key: str | None = None, timeout: float = 60.0) -> list[Answer]:
    """Sends one request to each route of the server at `url`, as its document gives the example, and shows
    the key where the server wants one.

    Raises WordloomError where the server is not reached or answers a documented example with an error.
    """
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment must not see what is asked of loopback
        if key is not None:
            session.headers["Authorization"] = f"Bearer {key}"
        document = _send(session, "GET", f"{url}/openapi.json", timeout).json()
        answers = []
        for method, path, target, body in examples(document):
            answer = _send(session, method, f"{url}{target}", timeout, body)
            asked = f"{method} {unquote(target)}" + (f" {_shown(body)}" if body else "")
            answers.append(Answer(asked, path, answer.status_code, answer.json()))
    return answers


def examples(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any] | None]]:
    """Method, documented path, path and query to ask, JSON body: the example of each route."""
    for path, methods in document["paths"].items():
        if path in UNASKED:
            continue
        for method, operation in methods.items():
            target, query = path, []
            for place, name, example, _ in parameters(operation):
                if example is None:
                    continue
                value = quote(str(example), safe="")
                if place == "path":
                    target = target.replace(f"{{{name}}}", value)
                else:
                    query.append(f"{name}={value}")
            yield (
                method.upper(),
                path,
                "?".join([target, *filter(None, ["&".join(query)])]),
                request_body(document, operation),
            )


def _send(
    session: requests.Session, method: str, url: str, timeout: float, body: Any = None
) -> requests.Response:
    try:
        answer = session.request(method, url, json=body, timeout=timeout)
    except requests.RequestException as error:
        raise WordloomError(
            f"The server does not answer {method} {url} ({type(error).__name__}); is it up?"
        ) from error
    if not answer.ok:
        raise WordloomError(
            f"The server answered {method} {url} with {answer.status_code}: {answer.text[:300]}"
        )
    return answer


def _shown(body: Any) -> str:
    """A JSON value in few characters: what a person looks for first, numbers short."""
    if isinstance(body, float):
        return f"{body:.3g}"
    if isinstance(body, list):
        return "[" + ", ".join(map(_shown, body[:8])) + (f", … {len(body)} in all]" if len(body) > 8 else "]")
    if isinstance(body, dict):
        if set(body) == {"word", "similarity"}:
            return f"{body['word']} {body['similarity']:.2f}"
        return ", ".join(f"{key} {_shown(value)}" for key, value in body.items() if value not in (None, {}))
    return repr(body) if isinstance(body, str) else str(body)
