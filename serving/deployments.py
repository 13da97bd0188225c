"""Ray Serve hosts the application: one deployment a kind of model, each replica with its own kind alone.

Every deployment is the ingress of a Serve application of its own and does the model's work itself, for a hop
between deployments costs more than most answers (5 ms; a no-op through the proxy 15). Serve's proxy sends the
paths below a kind's prefix to its replicas; the first kind also takes ``/``: documentation, list of models,
health. So serving vectors and text takes two replicas, and the one of the vectors never imports TensorFlow.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import GetTimeoutError, RayActorError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, LoggingConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.artefact import Artefact
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.settings import resolve
from serving import application, models
from serving.application import PREFIXES
from serving.gate import log_to
from serving.keys import Keys
from serving.labels import Labels
from serving.models import LABELLING, LANGUAGE_MODEL, SENTIMENT, VECTORS, Model
from serving.notes import Held, Note
from serving.profile import DEFAULT
from serving.relay import Relay, answered
from serving.sentiment import Sentiment
from serving.settings import LOOPBACK, ServingSettings, free_port
from serving.text import Text
from serving.words import Words

CORES: dict[str, Callable[[str], Any]] = {
    VECTORS: Words.open,
    LANGUAGE_MODEL: Text.open,
    SENTIMENT: Sentiment.open,
    LABELLING: Labels.open,
}
STOP_SECONDS = 30.0
CORES_SECONDS = 120.0  # that new replicas wait for cores, and for a busy machine to start their processes
UNSCHEDULED = "to be scheduled"  # what Serve says of replicas that wait for cores, from 30 s on
POLL_SECONDS = 0.2
HEADROOM = 64  # requests beyond the gate's limit that a replica still takes, to refuse them at once
# Serve's own proxy goes before the models where cores are short: under four times what two cores carry 99 %
# of its refusals took 31 to 62 ms (proxy at 0, replica at 15; 42 to 94 at 0 and 4, 48 to 98 at 15 and 19).
NICER = 15
CHECK_SECONDS = 2.0  # that a replica of another kind may take to say that it is there
# Words and texts that people send stand in paths, so there is no access log; the metrics count requests.
LOGGING = LoggingConfig(enable_access_log=False)
ERROR = re.compile(r"^\S*(Error|Exception)\b.*: ")  # the last line of a traceback


@dataclass(frozen=True)
class Served:
    """What is being served, and where."""

    url: str
    models: Mapping[str, Model]
    settings: ServingSettings
    keys: Keys

    @property
    def page(self) -> str | None:
        """Where the page to play with is, None without one."""
        return f"{self.url}/" if self.settings.page else None

    @property
    def docs(self) -> str:
        return f"{self.url}/docs"


@serve.ingress()
class Replica:
    """A process that holds the model of one kind and answers its routes; the first kind also ``/``.

    What it holds it notes in the folder of `noted`; without one, whoever started it does
    (serving/following.py).
    """

    def __init__(
        self,
        kind: str,
        served: Mapping[str, Model],
        settings: ServingSettings,
        prefix: str,
        keys: Keys,
        noted: tuple[Folder, Held] | None = None,
    ) -> None:
        _stay_on_loopback()
        if _in_actor():
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # before TensorFlow takes all of a GPU that others use
            # A call is small: two threads read 16 texts in 8.6 ms in place of 11.2, for 15.9 of CPU; 16 lanes
            # of text they made no faster, for half as much again. Replicas use more cores.
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
            if settings.profile == DEFAULT:
                os.nice(NICER)  # Serve's proxy goes first where cores are short; before the model's threads
        if settings.access_log_share:
            log_to(sys.stderr)  # a file of the node's Ray logs
        self.kind = kind
        self.served = served
        self.settings = settings
        self.prefix = prefix
        self.core = opened(served[kind])
        if (beside := served[kind].beside) is not None:
            self.core.beside = opened(beside)
        cores = {kind: self.core}
        self.routes = application.build(
            cores, served, settings, readiness=self.readiness, asked=self.asked, keys=keys
        )
        self._note: Note | None = None
        if noted is not None:
            folder, held = noted
            self._note = Note(folder)
            with contextlib.suppress(WordloomError, OSError):  # a folder that may only be read is served, too
                self._note.write(held)

    def __del__(self) -> None:
        """Serve calls it when it ends a replica."""
        if (note := getattr(self, "_note", None)) is not None:  # None: it did not come up
            with contextlib.suppress(WordloomError, OSError):
                note.end()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        elsewhere = {prefix: kind for kind in self.served if kind != self.kind for prefix in PREFIXES[kind]}
        relay = Relay(self.routes, elsewhere, self._ask, self.settings.max_body_bytes)
        return WholePath(relay, self.prefix.rstrip("/"))

    async def relayed(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        """Answers a request that came to a replica of another kind."""
        async for message in answered(self.routes, scope, body):
            yield message

    async def _ask(self, kind: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        handle: Any = serve.get_app_handle(kind).options(stream=True)
        async for message in handle.relayed.remote(scope, body):
            yield message

    def answers(self) -> str:
        """The version of the model that this replica holds; other replicas ask for it."""
        return self.served[self.kind].version

    async def readiness(self) -> dict[str, bool]:
        """Which kinds have a replica that answers."""
        kinds = list(self.served)
        return dict(zip(kinds, await asyncio.gather(*map(self._answers, kinds)), strict=True))

    def asked_here(self) -> list[dict[str, Any]]:
        """What was asked of this replica; other replicas ask for it."""
        summary: list[dict[str, Any]] = self.routes.state.traffic.summary()
        return summary

    async def asked(self) -> list[dict[str, Any]]:
        """What was asked of one replica of each kind, without those that do not answer."""
        found = await asyncio.gather(*map(self._asked, self.served))
        return [route for routes in found for route in routes]

    async def _asked(self, kind: str) -> list[dict[str, Any]]:
        if kind == self.kind:
            return self.asked_here()
        try:
            reply = serve.get_app_handle(kind).asked_here.remote()
            return list(await asyncio.wait_for(reply, CHECK_SECONDS))
        except Exception:  # as in _answers
            return []

    async def _answers(self, kind: str) -> bool:
        if kind == self.kind:
            return True
        try:
            reply = serve.get_app_handle(kind).answers.remote()
            return bool(await asyncio.wait_for(reply, CHECK_SECONDS) == self.served[kind].version)
        except Exception:  # gone, starting, overloaded or slow: each means that it does not answer
            return False


class WholePath:
    """Takes back the prefix that Serve's proxy moves into `root_path`: our routes are written out in full."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "root_path" in scope:
            scope = {**scope, "root_path": scope["root_path"].removesuffix(self.prefix)}
        await self.app(scope, receive, send)


def opened(model: Model) -> Any:
    """The core of a model. Raises WordloomError where its files are not those of its manifest: one that was
    damaged since its promotion may still be read, as other numbers (.8 s a GB)."""
    core = CORES[model.kind](model.location)
    Artefact.open(model.location).verify()
    return core


def start(source: str | Mapping[str, Model], settings: ServingSettings = application.DEFAULTS) -> Served:
    """Serves the given models (by kind), or the newest of each kind below a folder, and returns when all of
    them answer.

    Ray must be up (cluster.session). Raises WordloomError where there is no model, the port is taken, or a
    model does not load.
    """
    given = models.find(source) if isinstance(source, str) else source
    found = {kind: model for kind, model in given.items() if kind in CORES}
    place = source if isinstance(source, str) else ", ".join(model.location for model in source.values())
    if not found:
        raise WordloomError(f"No model in {place!r} is of a kind that can be served yet: {', '.join(CORES)}.")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _refuse_another_serve()
    keys = Keys.find(settings.state_keys_file, settings.api_keys_file)
    port = free_port(settings.host, settings.port)
    options = HTTPOptions(host=settings.host, port=port, request_timeout_s=settings.timeout_seconds)
    try:
        serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options, logging_config=LOGGING)
        try:
            serve.run_many(targets(found, settings, keys))
        except (RuntimeError, RayServeException) as error:
            reasons = _reasons()
            stop()
            raise WordloomError(
                f"Serving {place!r} did not come up: {reasons or _last_line(error)}"
            ) from error
    except KeyboardInterrupt:  # a cluster that outlives this process would serve on
        stop()
        raise
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(shown, shown)
    return Served(f"http://{shown}:{port}", found, settings, keys)


def switch(served: Served, found: Mapping[str, Model]) -> Served:
    """Serves other versions at the same address, without a failed request: each new replica answers before
    an old one goes. Returns when all new ones answer; the old ones stay where one does not load or finds no
    cores, which raises WordloomError, and do so too where their own files cannot be read any more. The kind
    that holds ``/`` cannot go: Serve keeps a prefix with its application."""
    root = next(iter(served.models))
    if root not in found:
        raise WordloomError(
            f"The kind {root!r} holds the server's first address and cannot go while it runs; start it anew."
        )
    wanted = {kind: found[kind] for kind in dict.fromkeys((root, *found)) if kind in CORES}
    try:
        serve.run_many(targets(wanted, served.settings, served.keys), wait_for_applications_running=False)
        _wait(wanted, served.settings)
    except (RuntimeError, RayServeException) as error:
        reasons = _reasons()
        # Replicas that answer go only when others have come: what fails here is to start more of them. Not
        # waited for: to Serve this, too, is another version, whose replicas want cores of their own.
        with contextlib.suppress(RuntimeError, RayServeException):
            back = targets(served.models, served.settings, served.keys)
            serve.run_many(back, wait_for_applications_running=False)
        for kind in set(wanted) - set(served.models):  # else its prefix leads to replicas that are not there
            serve.delete(kind)
        raise WordloomError(
            f"The new version did not come up, the old one is served on: {reasons or _last_line(error)}"
        ) from error
    for kind in set(served.models) - set(wanted):
        serve.delete(kind)
    return dataclasses.replace(served, models=wanted)


def _wait(kinds: Collection[str], settings: ServingSettings) -> None:
    """Returns when the new replicas of these kinds answer. Raises RuntimeError where one does not load, or
    where one finds no cores: Serve itself would wait for them without end."""
    deadline = time.monotonic() + CORES_SECONDS
    while True:
        apps = [app for kind, app in serve.status().applications.items() if kind in kinds]
        if all(app.status == ApplicationStatus.RUNNING for app in apps):
            break
        for app in apps:
            if app.status == ApplicationStatus.DEPLOY_FAILED:
                raise RuntimeError(app.message)
        said = [each.message for app in apps for each in app.deployments.values()]
        if time.monotonic() > deadline and any(UNSCHEDULED in message for message in said):
            raise RuntimeError(
                f"no node of Ray has the {settings.replica_cpus:g} cores free that a new replica needs "
                "beside the old ones; end what else runs there, or start the server anew with a lower "
                "serving.replica_cpus."
            )
        time.sleep(POLL_SECONDS)
    client: Any = _get_global_client()
    client.wait_for_proxies_serving()


def stop() -> None:
    """Ends all that `start` began; Ray stays up. Does nothing where Serve does not run.

    Not by `serve.shutdown` alone: it waits inside the controller for the controller's end, which Ray reports
    as a failed task on standard output.
    """
    with contextlib.suppress(ValueError, RayActorError, GetTimeoutError):
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ray.get(controller.graceful_shutdown.remote(False), timeout=STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)  # ValueError once it is gone
            time.sleep(0.1)
    serve.shutdown()  # type: ignore[no-untyped-call, unused-ignore]


def targets(found: Mapping[str, Model], settings: ServingSettings, keys: Keys) -> list[serve.RunTarget]:
    """The Serve applications for some models: one a kind, the first of them also at ``/``."""
    made = []
    for place, kind in enumerate(found):
        prefix = PREFIXES[kind][0] if place else "/"
        bound = bind(kind, found, settings, prefix, keys)
        made.append(serve.RunTarget(bound, name=kind, route_prefix=prefix, logging_config=LOGGING))
    return made


def from_folder(arguments: Mapping[str, Any]) -> serve.Application:
    """The application of one kind, for Serve's configuration files (deploy/serve.yaml).

    Arguments: `models` (a folder), `kind`, `prefix` (the application's route_prefix), `settings` (those of
    section ``serving``), `release` (anything: Serve builds an application anew only where its arguments
    changed). Keys come from files or the environment, the same on every node. It holds what was promoted when
    it was built, and follows no later promotion.
    """
    given = dict(arguments)
    folder, kind = given.pop("models"), given.pop("kind")
    prefix, chosen = given.pop("prefix"), given.pop("settings", {})
    given.pop("release", None)
    if given:
        raise UsageError(
            f"Unknown arguments {sorted(given)}; there are models, kind, prefix, settings and release."
        )
    settings = resolve(ServingSettings, "serving", chosen)
    followed = models.last(models.chosen(Folder(folder)))
    found = {name: model for name, model in models.find(folder).items() if name in CORES}
    if kind not in found:
        raise WordloomError(f"There is no model of kind {kind!r} in {folder!r}; found {', '.join(found)}.")
    keys = Keys.find(settings.state_keys_file, settings.api_keys_file)
    noted = Folder(folder), models.holding({kind: found[kind]}, followed, follows=False)
    return bind(kind, found, settings, prefix, keys, noted)


def bind(
    kind: str,
    found: Mapping[str, Model],
    settings: ServingSettings,
    prefix: str,
    keys: Keys,
    noted: tuple[Folder, Held] | None = None,
) -> serve.Application:
    """The deployment of one kind, which the proxy reaches at `prefix`; its replicas note what they hold in
    the folder of `noted`."""
    deployment: Any = serve.deployment(  # typed as a decorator
        Replica,
        name=kind,
        num_replicas=settings.replicas,
        # What is too much is refused by the gate inside and by what stands before (serving/door.py,
        # serving/haproxy.py), which count it. Serve's own queue is the second line: our metrics miss its
        # refusals. A replica of the profile `throughput` has such a queue too, for one turn of its loop.
        max_ongoing_requests=settings.most + HEADROOM,
        max_queued_requests=settings.most + HEADROOM,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
        max_surge_percent=100,  # another version's replica comes before the old one goes
        ray_actor_options={"num_cpus": settings.replica_cpus},
        max_constructor_retry_count=2,  # a model that does not load will not load the twentieth time
        graceful_shutdown_timeout_s=5,
        logging_config=LOGGING,
    )
    bound: serve.Application = deployment.bind(kind, dict(found), settings, prefix, keys, noted)
    return bound


def _stay_on_loopback() -> None:
    """Keeps a replica's port for other replicas to itself where Ray keeps to loopback.

    Serve opens it on every address of the machine and unpickles what comes there (`_on_initialized` of its
    replica, Ray 2.60): whoever reaches it could run code. There is no setting for it.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    add: Callable[[Any, str], int] = replica.add_port_to_grpc_server
    if ray.util.get_node_ip_address() == LOOPBACK:
        replica.add_port_to_grpc_server = lambda server, address: add(
            server, address.replace("[::]", LOOPBACK)
        )


def _in_actor() -> bool:
    """Whether this process is Ray's, for one actor; in local mode it is the user's."""
    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def _refuse_another_serve() -> None:
    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return
    raise WordloomError(
        "Ray Serve already runs in this cluster, at an address of its own; end it (`serve shutdown`) or join "
        "another cluster."
    )


def _last_line(error: Exception) -> str:
    """What an error says at its end: Serve's hold whole tracebacks."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _reasons() -> str:
    """Why applications failed, as far as Serve tells: the errors that their replicas raised, each once."""
    found: dict[str, None] = {}
    for app in serve.status().applications.values():
        for message in [app.message, *(each.message for each in app.deployments.values())]:
            found |= dict.fromkeys(line for line in message.splitlines() if ERROR.search(line))
    return " ".join(found)
