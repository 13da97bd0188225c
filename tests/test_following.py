"""Following: a running server takes up what is promoted, nothing else, and says what it holds."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import ActorDiedError

from cluster.artefact import Artefact
from cluster.errors import WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from serving import deployments, following, models, notes
from serving.deployments import Served
from serving.following import Following
from serving.keys import Keys
from serving.models import LABELLING, LANGUAGE_MODEL, VECTORS, Model
from serving.settings import ServingSettings
from tests.test_models import publish


class Server:
    """A server over fake deployments that takes what is `broken` up never."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = Folder(home)
        self.said = io.StringIO()
        self.broken: set[str] = set()
        self.switches = 0
        self.now = 0.0
        monkeypatch.setattr(deployments, "switch", self.switch)
        monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.following = Following(
            Served("http://x", models.find(self.home), ServingSettings(), Keys.find()),
            self.home,
            models.last(models.chosen(self.home)),
            Reporter(stream=self.said),
        )

    def switch(self, served: Served, found: Mapping[str, Model]) -> Served:
        self.switches += 1
        if self.broken & {model.version for model in found.values()}:
            raise WordloomError("The new version did not come up.")
        return dataclasses.replace(served, models=dict(found))

    def look(self, **promoted: list[Artefact]) -> None:
        """Looks once after these were promoted, the last of each kind last."""
        if promoted:
            history = {
                kind.replace("_", "-"): [each.identity for each in of] for kind, of in promoted.items()
            }
            models.record(self.home, history)
        self.following.look()

    def held(self, kind: str) -> str:
        version: str = self.following.served.models[kind].version
        return version

    def noted(self) -> set[str]:
        """What others take to be served."""
        return models.served(self.home, models.artefacts(self.home))


def of(home: Path, kind: str, number: int, **settings: Any) -> Artefact:
    """The artefact of a kind that was made on the day `number`."""
    made = f"2026-01-0{number}T00:00:00+00:00"
    return publish(home / kind / str(number), kind, made, seed=number, **settings)


def test_a_promotion_switches_its_kind_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, text = of(tmp_path, VECTORS, 1), of(tmp_path, LANGUAGE_MODEL, 1)
    server = Server(tmp_path, monkeypatch)
    new, newer_text = of(tmp_path, VECTORS, 2), of(tmp_path, LANGUAGE_MODEL, 2)
    server.look()
    assert (server.switches, server.noted()) == (0, {old.identity, text.identity})
    server.look(vectors=[old, new])
    assert (server.held(VECTORS), server.held(LANGUAGE_MODEL)) == (new.identity, text.identity)
    assert newer_text.identity not in server.noted()
    server.look(vectors=[old])
    assert server.held(VECTORS) == old.identity
    assert server.noted() == {old.identity, text.identity}


def test_the_labeller_beside_stays_when_another_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, old = of(tmp_path, LABELLING, 1, both=False), of(tmp_path, LABELLING, 2, both=True)
    server = Server(tmp_path, monkeypatch)
    new = of(tmp_path, LABELLING, 3, both=True)
    of(tmp_path, LABELLING, 4, both=False)  # never promoted
    vectors = of(tmp_path, VECTORS, 5)
    assert server.noted() == {old.identity, beside.identity}
    server.look(labelling=[old, new])
    assert server.noted() == {new.identity, beside.identity}
    server.look(labelling=[old, new], vectors=[vectors])
    assert server.noted() == {new.identity, beside.identity, vectors.identity}


def test_a_new_kind_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = of(tmp_path, LANGUAGE_MODEL, 1)
    server = Server(tmp_path, monkeypatch)
    vectors = of(tmp_path, VECTORS, 2)
    assert server.noted() == {text.identity}
    server.look(vectors=[vectors])
    assert server.noted() == {text.identity, vectors.identity}


def test_a_controller_of_serve_that_dies_within_a_promotion_ends_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = of(tmp_path, VECTORS, 1)
    server = Server(tmp_path, monkeypatch)
    new = of(tmp_path, VECTORS, 2)
    with monkeypatch.context() as patched:
        patched.setattr(deployments, "switch", Mock(side_effect=ActorDiedError()))
        server.look(vectors=[old, new])
    assert server.held(VECTORS) == old.identity and "died" in server.said.getvalue()
    server.now += following.RETRY_SECONDS
    server.look()
    assert server.held(VECTORS) == new.identity


def test_a_version_that_does_not_come_up_holds_no_other_up_and_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, text = of(tmp_path, VECTORS, 1), of(tmp_path, LANGUAGE_MODEL, 1)
    server = Server(tmp_path, monkeypatch)
    new, newer_text = of(tmp_path, VECTORS, 2), of(tmp_path, LANGUAGE_MODEL, 2)
    server.broken = {new.identity}
    server.look(vectors=[old, new])
    assert server.noted() == {old.identity, text.identity}  # what is held, not what was promoted
    server.look(vectors=[old, new], language_model=[text, newer_text])
    assert (server.held(VECTORS), server.held(LANGUAGE_MODEL)) == (old.identity, newer_text.identity)
    server.broken = set()
    server.look()
    assert (server.switches, server.held(VECTORS)) == (2, old.identity)
    server.now += following.RETRY_SECONDS
    server.look()
    assert server.held(VECTORS) == new.identity


def test_a_record_that_cannot_be_read_is_said_once_and_what_is_served_is_served_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = of(tmp_path, VECTORS, 1)
    server = Server(tmp_path, monkeypatch)
    (tmp_path / "served.json").mkdir()
    server.look()
    server.look()
    assert server.said.getvalue().count("served.json cannot be read") == 1
    assert server.held(VECTORS) == old.identity


def test_a_folder_that_may_only_be_read_is_served_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Folder, name: str, value: Any) -> None:
        raise WordloomError(f"May not write {name!r}.")

    old = of(tmp_path, VECTORS, 1)
    monkeypatch.setattr(Folder, "write_json", refused)
    server = Server(tmp_path, monkeypatch)
    assert "cannot be noted" in server.said.getvalue()
    assert server.noted() == {old.identity}  # the newest, for nobody knows better


def test_a_server_that_ends_takes_its_note_away_and_no_other_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = of(tmp_path, VECTORS, 1)
    server, other = Server(tmp_path, monkeypatch), Server(tmp_path, monkeypatch)
    new = of(tmp_path, VECTORS, 2)
    assert server.noted() == {old.identity}
    server.following.end()
    assert server.noted() == {old.identity}
    other.following.end()
    assert server.noted() == {new.identity}


def test_what_each_of_several_servers_holds_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, text = of(tmp_path, VECTORS, 1), of(tmp_path, LANGUAGE_MODEL, 1)
    first = Server(tmp_path, monkeypatch)
    new, newest = of(tmp_path, VECTORS, 2), of(tmp_path, VECTORS, 3)
    models.record(first.home, {VECTORS: [new.identity]})
    second = Server(tmp_path, monkeypatch)
    models.record(first.home, {})
    held = {old.identity, new.identity, text.identity}
    assert second.noted() == models.held(first.home) == held
    models.record(first.home, {VECTORS: [old.identity, newest.identity]})
    second.broken = {newest.identity}
    second.following.look()
    assert models.held(first.home) == held  # what neither gave up yet stays
    monkeypatch.setattr(deployments, "switch", first.switch)
    first.following.look()
    assert second.noted() == {new.identity, newest.identity, text.identity}
    present = models.serving(first.home, models.artefacts(first.home))
    assert present[VECTORS].version == newest.identity  # what was promoted, not what is held beside it


def test_a_folder_that_is_itself_the_model_gets_no_file_of_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "model", VECTORS, "2026-01-01T00:00:00+00:00")
    server = Server(tmp_path / "model", monkeypatch)
    assert not (tmp_path / "model" / notes.FOLDER).exists()
    server.following.end()


def test_the_wait_ends_by_ctrl_c_and_leaves_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def wait(self, seconds: float) -> None:
            assert notes.noted(Folder(tmp_path))
            raise KeyboardInterrupt

    of(tmp_path, VECTORS, 1)
    monkeypatch.setattr(following, "threading", SimpleNamespace(Event=Event))
    served = Served("http://x", models.find(str(tmp_path)), ServingSettings(), Keys.find())
    following.follow(served, Folder(tmp_path), {}, 1.0, Reporter(quiet=True), "Serving until Ctrl-C.")
    assert not notes.noted(Folder(tmp_path))
