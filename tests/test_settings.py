"""Settings: later layers win, and a mistake is a sentence that names the mend."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import settings
from cluster.errors import UsageError

SECTIONS = ["embeddings", "ingest"]


@dataclass(frozen=True)
class Embeddings:
    vector_size: int = 100
    rate: float = 0.05
    name: str = "x"
    xla: bool = True
    namespaces: tuple[int, ...] = (0,)
    limit: int | None = None


def test_the_last_layer_wins() -> None:
    made = settings.resolve(Embeddings, "embeddings", {"vector_size": 5, "rate": 1}, {"vector_size": 7})
    assert made == Embeddings(vector_size=7, rate=1.0)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'embeddings\.vectorsize'.*'embeddings\.vector_size'"):
        settings.resolve(Embeddings, "embeddings", {"vectorsize": 5})


@pytest.mark.parametrize(
    ("key", "value"), [("vector_size", "big"), ("vector_size", 1.5), ("xla", 1), ("rate", True), ("name", 3)]
)
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"'embeddings.{key}' has value"):
        settings.resolve(Embeddings, "embeddings", {key: value})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "1" + 400 * "0"])
def test_a_number_that_is_not_finite_is_refused(value: str) -> None:
    given = settings.read_assignments([f"embeddings.rate={value}"], SECTIONS)
    with pytest.raises(UsageError, match=r"'embeddings\.rate' has value .*; it takes a finite number\."):
        settings.resolve(Embeddings, "embeddings", given["embeddings"])


def test_a_whole_number_has_64_bits_at_most() -> None:
    made = settings.resolve(Embeddings, "embeddings", {"vector_size": 2**63 - 1, "limit": None})
    assert made.vector_size == 2**63 - 1 and made.limit is None
    for key, value in (("vector_size", 2**63), ("limit", -(2**64)), ("namespaces", [0, 2**63])):
        with pytest.raises(UsageError, match=f"'embeddings.{key}' has value"):
            settings.resolve(Embeddings, "embeddings", {key: value})


@pytest.mark.parametrize("value", ["0,14", "[0, true]", "{}"])
def test_what_is_no_list_is_told_that_it_takes_one(value: str) -> None:
    given = settings.read_assignments([f"embeddings.namespaces={value}"], SECTIONS)
    with pytest.raises(UsageError, match=r"takes a list in brackets, of which each is a whole number"):
        settings.resolve(Embeddings, "embeddings", given["embeddings"])


def test_assignments_are_toml_or_bare_words() -> None:
    read = settings.read_assignments(
        ["embeddings.vector_size=5", "embeddings.name=plain", "ingest.namespaces=[0, 14]"], SECTIONS
    )
    assert read == {"embeddings": {"vector_size": 5, "name": "plain"}, "ingest": {"namespaces": [0, 14]}}
    assert settings.resolve(Embeddings, "embeddings", {"namespaces": [0, 14], "limit": 3}).namespaces == (
        0,
        14,
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [(".05", 0.05), ("-.5e-3", -0.0005), (".5/pairs.txt", ".5/pairs.txt"), ("./5", "./5"), ("..5", "..5")],
)
def test_a_number_may_begin_with_its_point(text: str, value: object) -> None:
    read = settings.read_assignments([f"embeddings.rate={text}"], SECTIONS)
    assert read == {"embeddings": {"rate": value}}


@pytest.mark.parametrize("wrong", ["embeddings", "=3", "embeddings.=3", "vector_size=3"])
def test_an_assignment_without_its_form_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"form section\.key=value"):
        settings.read_assignments([wrong], SECTIONS)


def test_a_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(UsageError, match="Cannot read"):
        settings.read_file(path, SECTIONS)
    path.write_text("[embedding]\nx = 1\n")
    with pytest.raises(UsageError, match="nearest known one is 'embeddings'"):
        settings.read_file(path, SECTIONS)
    path.write_bytes("[ingest]\nlanguage = 'é'\n".encode("latin-1"))
    with pytest.raises(UsageError, match="are no UTF-8"):
        settings.read_file(path, SECTIONS)
    path.write_text("= 1")
    with pytest.raises(UsageError, match="no TOML"):
        settings.read_file(path, SECTIONS)
    path.write_text("[ingest]\nmarkup = 'keep'\n")
    assert settings.read_file(path, SECTIONS) == {"ingest": {"markup": "keep"}}
    path.write_bytes(codecs.BOM_UTF8 + b"[ingest]\r\nmarkup = 'keep'\r\n")  # as Windows writes it
    assert settings.read_file(path, SECTIONS) == {"ingest": {"markup": "keep"}}
