"""The page to play with at ``/``: the files of ``serving/web``, and the headers that keep it to itself.

The page asks the routes that everybody may ask, from the browser. It loads nothing from another address and
stores nothing. Its files hold no answers, so they are handed out without a key; the page asks for one where
the routes want it.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).parent / "web"
INDEX = "index.html"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ASK_AGAIN = "no-cache"  # kept, and asked about each time: 304 where it is the same
FOR_GOOD = "public, max-age=31536000, immutable"  # an address with the content's sum never changes


@dataclass(frozen=True)
class File:
    """A file of the page as it is sent; `tag` is the beginning of the sha256 of its content."""

    content: bytes
    media_type: str
    tag: str


def files(folder: Path = FOLDER) -> dict[str, File]:
    """All files by name. The addresses ``web/NAME`` in the first one carry the tag of what they name."""
    found = {
        path.name: _file(path.read_bytes(), path.suffix)
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES
    }
    index = found[INDEX].content.decode("utf-8")
    for name, each in found.items():
        index = index.replace(f'"web/{name}"', f'"web/{name}?{each.tag}"')
    return found | {INDEX: _file(index.encode("utf-8"), ".html")}


def paths() -> frozenset[str]:
    """The paths of the page: what needs no key."""
    return frozenset({"/", *(f"/web/{name}" for name in files() if name != INDEX)})


def page_routes() -> APIRouter:
    """``/`` and the files that it names."""
    router = APIRouter(include_in_schema=False)
    held = files()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def home(request: Request) -> Response:
        return _answer(request, held[INDEX], ASK_AGAIN)

    for name in held.keys() - {INDEX}:
        router.add_api_route(f"/web/{name}", _sender(held[name]), methods=["GET", "HEAD"])
    return router


def _sender(file: File) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return _answer(request, file, FOR_GOOD if request.url.query == file.tag else ASK_AGAIN)

    return send


def _answer(request: Request, file: File, caching: str) -> Response:
    headers = {**HEADERS, "Cache-Control": caching, "ETag": f'"{file.tag}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _file(content: bytes, suffix: str) -> File:
    return File(content, TYPES[suffix], hashlib.sha256(content).hexdigest()[:16])
