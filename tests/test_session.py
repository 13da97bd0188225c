"""Sessions: why Ray did not come up is one sentence, and what we do not know is not hidden."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import ray

from cluster import session as module
from cluster.errors import WordloomError
from cluster.session import session


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a session sets defaults
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out during startup. This could be."),
        ConnectionError("Nobody there."),
    ],
)
def test_a_ray_that_does_not_come_up_is_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(WordloomError, match=r"did not come up .*try again"), session("local"):
        raise AssertionError("there is no session")


@pytest.mark.parametrize(
    ("address", "variable", "where"),
    [
        (None, None, "local"),
        (None, "", "local"),
        (None, "local", "local"),
        ("", "", "local"),
        ("auto", "local", "local"),
        ("local", "head:6379", "local"),
        ("auto", "", "auto"),
        ("auto", "head:6379", "head:6379"),
        ("", "head:6379", "head:6379"),
        (None, "head:6379", "head:6379"),
        ("other:6379", "head:6379", "other:6379"),
    ],
)
def test_a_ray_that_we_start_is_bound_to_loopback_whatever_names_it(
    address: str | None, variable: str | None, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", *module.OWN_ENVIRONMENT):
        os.environ.pop(name, None)
    if variable is not None:
        os.environ["RAY_ADDRESS"] = variable
    asked: list[dict[str, Any]] = []

    def init(**given: Any) -> None:
        asked.append({**given, "bound": module.OWN_ENVIRONMENT.items() <= os.environ.items()})
        raise ConnectionError("Nobody there.")

    monkeypatch.setattr(ray, "init", init)
    named = "this machine" if where == "local" else where
    with pytest.raises(WordloomError, match=f"Ray at '{named}' did not come up"), session(address):
        raise AssertionError("there is no session")
    assert asked[0]["address"] == where and asked[0]["bound"] == (where == "local")
    assert module.joins(address) == (where != "local")


@pytest.mark.parametrize(
    ("file", "mend"), [("/root/.ray/auth_token", "set HOME to"), ("/tmp/ray/x", "set RAY_TMPDIR to")]
)
def test_what_ray_may_not_write_is_named_with_the_variable_that_moves_it(
    file: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", file)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(WordloomError, match=f"'{file}' .Permission denied.; {mend}"), session("local"):
        raise AssertionError("there is no session")


def test_a_defect_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise KeyError("something of ours")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyError), session("local"):
        raise AssertionError("there is no session")


def test_what_stops_jobs_and_services_ends_us_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    for where, name in ((ray, "init"), (ray, "shutdown"), (module, "check_nodes"), (module, "_describe")):
        monkeypatch.setattr(where, name, nothing)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt), session("local"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
