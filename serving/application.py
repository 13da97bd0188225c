"""The routes as one plain ASGI application: Ray Serve hosts it, uvicorn can run it, a user can mount it.

::

    app = application.build({"vectors": Words.open(folder)}, models.find(folder))
    uvicorn.run(app)

``/docs`` documents the routes on a page that needs no internet, ``/openapi.json`` for machines. ``/livez``
says that the process answers, ``/readyz`` that every model does. A kind without a model has no routes and no
documentation, and its paths answer 404 with a sentence.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel

from cluster import metrics
from serving import problems, reference, text_routes, word_routes
from serving.gate import Gate
from serving.models import KINDS, LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS, Model
from serving.problems import RefusedError
from serving.settings import ServingSettings

# The prefix of each kind's routes; Serve sends what begins with it to that kind's replicas.
PREFIXES = {
    VECTORS: word_routes.PREFIX,
    LANGUAGE_MODEL: text_routes.PREFIX,
    SENTIMENT: "/v1/sentiment",
    LABELLING: "/v1/labels",
}
_ROUTES: dict[str, Callable[[Any, ServingSettings], APIRouter]] = {
    VECTORS: word_routes.word_routes,
    LANGUAGE_MODEL: text_routes.text_routes,
}

DEFAULTS = ServingSettings()
Readiness = Callable[[], Awaitable[Mapping[str, bool]]]


class Entry(BaseModel):
    """A model, as the `openai` client lists it (`id`, `object`, `created`, `owned_by`), and its lineage."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "wordloom"
    kind: str
    version: str
    made: str
    lineage: list[dict[str, str]]


class Entries(BaseModel):
    object: str = "list"
    data: list[Entry]


def build(
    cores: Mapping[str, Any],
    models: Mapping[str, Model],
    settings: ServingSettings = DEFAULTS,
    *,
    readiness: Readiness | None = None,
) -> FastAPI:
    """The application over the cores of this process.

    `models` are all that are served, here or in other processes behind the same address; `cores` (kind ->
    `Words` or `Text`) those that this process answers for itself. `readiness` tells which kinds answer;
    without it those in `cores` do.
    """
    served = {kind: models[kind] for kind in _ROUTES if kind in models}
    app = FastAPI(
        title="Wordloom",
        version=_version(),
        description="Trained models over HTTP. Answers name their model, its version and what it was made "
        "from in the headers X-Wordloom-Model, X-Wordloom-Version and X-Wordloom-Lineage.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        swagger_ui_oauth2_redirect_url=None,
    )
    problems.install(app)
    for kind, model in served.items():
        app.include_router(_ROUTES[kind](cores.get(kind), settings))
        if kind in cores:
            metrics.set("serve_model", 1, {"model": kind, "version": model.version})
    for kind in KINDS:
        if kind not in served:
            app.include_router(_absent(kind))
    app.include_router(_service(served))
    app.include_router(_state(cores, served, readiness))
    named = {PREFIXES[kind]: model for kind, model in served.items()}
    app.add_middleware(Gate, models=named, max_body_bytes=settings.max_body_bytes)
    return app


def _service(served: Mapping[str, Model]) -> APIRouter:
    """What there is: the models and the documentation."""
    router = APIRouter(tags=["service"])

    @router.get("/v1/models", summary="The models that are served")
    def models() -> Entries:
        """Each with its version and the lineage of its data."""
        return Entries(data=[_entry(model) for model in served.values()])

    @router.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(
            reference.page(request.app.openapi()), headers={"Content-Security-Policy": reference.POLICY}
        )

    @router.get("/", include_in_schema=False)
    def home(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    return router


def _state(cores: Mapping[str, Any], served: Mapping[str, Model], readiness: Readiness | None) -> APIRouter:
    """Whether the process lives and whether the models answer, apart."""
    router = APIRouter(tags=["service"])

    @router.get("/livez", summary="Does the process answer?")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/readyz",
        summary="Do all models answer?",
        response_model=dict[str, bool],
        responses={503: {"description": "Some do not yet; the body is the same.", "model": dict[str, bool]}},
    )
    async def readyz(request: Request) -> Any:
        """Each kind of model and whether it answers."""
        known = await readiness() if readiness else {kind: kind in cores for kind in served}
        ready = all(known.values())
        if not ready:
            request.state.error = "not_ready"
        return JSONResponse(dict(known), 200 if ready else 503, {} if ready else {"Retry-After": "1"})

    return router


def _absent(kind: str) -> APIRouter:
    """The paths of a kind that has no model: they say so."""
    router = APIRouter(prefix=PREFIXES[kind], include_in_schema=False)

    @router.api_route("/{rest:path}", methods=["GET", "POST"])
    def absent(rest: str) -> None:
        raise RefusedError(
            404, "no_model", f"No model of kind {kind!r} is served here; `{KINDS[kind]}` makes one."
        )

    return router


def _entry(model: Model) -> Entry:
    return Entry(created=model.created, **model.described())


def _version() -> str:
    try:
        return importlib.metadata.version("wordloom")
    except importlib.metadata.PackageNotFoundError:  # run from a working directory that a job uploaded
        return "0"
