"""How servers are asked: with the proxy of the environment, but for those of this machine."""

from __future__ import annotations

import pytest

from cluster.connections import Connections
from cluster.errors import WordloomError
from ingest import web
from tests.ports import free_port
from tests.server import CONTENT, serving


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment at which nobody answers."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")


@pytest.mark.usefixtures("proxy")
def test_a_server_of_this_machine_is_asked_without_the_proxy() -> None:
    with serving() as site:
        assert web.page(f"{site.url}/some", Connections(2)) == CONTENT


@pytest.mark.usefixtures("proxy")
def test_a_proxy_that_does_not_answer_is_named() -> None:
    waits: list[float] = []
    with pytest.raises(WordloomError, match=r"the proxy that the environment names .* cannot be reached"):
        web.page("http://dumps.example/enwiki/", Connections(2), waits.append)
    assert waits
