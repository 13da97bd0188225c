"""The routes as one plain ASGI application: Ray Serve hosts it, uvicorn can run it, a user can mount it.

::

    app = application.build({"vectors": Words.open(folder)}, models.find(folder))
    uvicorn.run(app)

``/docs`` documents the routes on a page that needs no internet, ``/openapi.json`` for machines. ``/livez``
says that the process answers, ``/readyz`` that every model does. A kind without a model has no routes and no
documentation, and its paths answer 404 with a sentence.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

import importlib.metadata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel, Field

from cluster import metrics
from serving import (
    label_routes,
    openai_routes,
    page,
    problems,
    reference,
    sentiment_routes,
    text_routes,
    word_routes,
)
from serving.frames import Frames
from serving.gate import Gate, prefixed
from serving.keys import Keys
from serving.models import KINDS, LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS, Model
from serving.problems import ErrorAnswer, RefusedError
from serving.settings import ServingSettings
from serving.states import States
from serving.traffic import Traffic

# The prefixes of each kind's routes. Serve sends what begins with the first one to that kind's replicas; what
# begins with the others comes to the replicas of ``/``, which hand it on (serving/relay.py).
PREFIXES: dict[str, tuple[str, ...]] = {
    VECTORS: (word_routes.PREFIX, openai_routes.EMBEDDINGS),
    LANGUAGE_MODEL: (text_routes.PREFIX, openai_routes.COMPLETIONS),
    SENTIMENT: (sentiment_routes.PREFIX,),
    LABELLING: (label_routes.PREFIX,),
}


def _word_routers(core: Any, settings: ServingSettings, model: Model, keys: Keys) -> Sequence[APIRouter]:
    return word_routes.word_routes(core, settings), openai_routes.embedding_routes(core, settings, model)


def _text_routers(core: Any, settings: ServingSettings, model: Model, keys: Keys) -> Sequence[APIRouter]:
    return (
        text_routes.text_routes(core, settings, States(keys, model.version)),
        openai_routes.completion_routes(core, settings, model),
    )


def _sentiment_routers(core: Any, settings: ServingSettings, model: Model, keys: Keys) -> Sequence[APIRouter]:
    return (sentiment_routes.sentiment_routes(core, settings),)


def _label_routers(core: Any, settings: ServingSettings, model: Model, keys: Keys) -> Sequence[APIRouter]:
    return (label_routes.label_routes(core, settings, model),)


# A kind that is served has its routers here, its core in deployments.CORES and its prefixes above.
_ROUTERS: dict[str, Callable[[Any, ServingSettings, Model, Keys], Sequence[APIRouter]]] = {
    VECTORS: _word_routers,
    LANGUAGE_MODEL: _text_routers,
    SENTIMENT: _sentiment_routers,
    LABELLING: _label_routers,
}

DEFAULTS = ServingSettings()
Readiness = Callable[[], Awaitable[Mapping[str, bool]]]
Asked = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]


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
    figures: dict[str, float] = Field(description="What its training counted and measured.")
    reads: Frames | None = Field(
        default=None, description="Of a labeller: numbers of a frame (0: tokens), rows of an image (0: none)."
    )
    both: bool | None = Field(default=None, description="Of a labeller: whether it reads both ways.")


class Entries(BaseModel):
    object: str = "list"
    data: list[Entry]
    absent: dict[str, str] = Field(description="Kinds without a model, and what makes one.")


class RouteTraffic(BaseModel):
    route: str
    requests: int
    errors: int
    median_ms: float = Field(description="Of the last 500 requests.")
    p95_ms: float


def build(
    cores: Mapping[str, Any],
    models: Mapping[str, Model],
    settings: ServingSettings = DEFAULTS,
    *,
    readiness: Readiness | None = None,
    asked: Asked | None = None,
    keys: Keys | None = None,
) -> FastAPI:
    """The application over the cores of this process.

    `models` are all that are served, here or in other processes behind the same address; `cores` (kind ->
    `Words`, `Text`, `Sentiment` or `Labels`) those that this process answers for itself. `readiness` tells
    which kinds answer; without it those in `cores` do. `asked` tells what was asked, by route; without it
    what was asked of this process, which the application keeps as ``app.state.traffic``. `keys` sign states
    and let clients in; without them states are signed with a key of this process, and everybody may ask.
    """
    served = {kind: models[kind] for kind in _ROUTERS if kind in models}
    keys = keys or Keys.find(settings.state_keys_file, settings.api_keys_file)
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
        for router in _ROUTERS[kind](cores.get(kind), settings, model, keys):
            app.include_router(router)
        if kind in cores:
            metrics.set("serve_model", 1, {"model": kind, "version": model.version})
    for kind in KINDS:
        if kind not in served:
            for prefix in PREFIXES[kind]:
                app.include_router(_absent(kind, prefix))
    traffic = app.state.traffic = Traffic()
    app.include_router(_service(served, settings))
    app.include_router(_state(cores, served, readiness, asked or _summary(traffic)))
    app.add_middleware(
        Gate,
        models=prefixed(served, PREFIXES),
        max_body_bytes=settings.max_body_bytes,
        keys=keys,
        most=settings.most,
        traffic=traffic,
        keyless=page.paths() if settings.page else frozenset(),
        log_share=settings.access_log_share,
    )
    return app


def _service(served: Mapping[str, Model], settings: ServingSettings) -> APIRouter:
    """What there is: the models, the documentation, the page."""
    router = APIRouter(tags=["service"])
    example = next((model.name for model in served.values()), "vectors")

    @router.get("/v1/models", summary="The models that are served")
    def models() -> Entries:
        """Each with its version and the lineage of its data."""
        absent = {kind: command for kind, command in KINDS.items() if kind not in served}
        return Entries(data=[_entry(model) for model in _all(served)], absent=absent)

    @router.get(
        "/v1/models/{name}",
        summary="One of them",
        responses={404: {"model": ErrorAnswer, "description": "No such model."}},
    )
    def model(name: Annotated[str, Path(examples=[example], max_length=200)]) -> Entry:
        """By its id or its kind."""
        for each in _all(served):
            if name in (each.name, each.kind):
                return _entry(each)
        raise RefusedError(404, "model_not_found", f"The model {name!r} is not served; see /v1/models.")

    @router.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(
            reference.page(request.app.openapi()), headers={"Content-Security-Policy": reference.POLICY}
        )

    if settings.page:
        router.include_router(page.page_routes())
        return router

    @router.get("/", include_in_schema=False)
    def home(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    return router


def _summary(traffic: Traffic) -> Asked:
    async def summary() -> Sequence[Mapping[str, Any]]:
        return traffic.summary()

    return summary


def _state(
    cores: Mapping[str, Any], served: Mapping[str, Model], readiness: Readiness | None, asked: Asked
) -> APIRouter:
    """Whether the process lives and whether the models answer, apart; what was asked."""
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

    @router.get("/v1/traffic", summary="What was asked, and how long it took")
    async def traffic() -> list[RouteTraffic]:
        """By route, since the processes began that hold the models: one process a kind."""
        return [RouteTraffic(**each) for each in await asked()]

    return router


def _absent(kind: str, prefix: str) -> APIRouter:
    """The paths of a kind that has no model: they say so."""
    router = APIRouter(prefix=prefix, include_in_schema=False)

    @router.api_route("", methods=["GET", "POST"])
    @router.api_route("/{rest:path}", methods=["GET", "POST"])
    def absent(rest: str = "") -> None:
        raise RefusedError(
            404, "no_model", f"No model of kind {kind!r} is served here; `{KINDS[kind]}` makes one."
        )

    return router


def _all(served: Mapping[str, Model]) -> list[Model]:
    """Each kind's model, and behind it the one that is asked beside it."""
    return [each for model in served.values() for each in (model, model.beside) if each is not None]


def _entry(model: Model) -> Entry:
    return Entry(created=model.created, **model.described())


def _version() -> str:
    try:
        return importlib.metadata.version("wordloom")
    except importlib.metadata.PackageNotFoundError:  # run from a working directory that a job uploaded
        return "0"
