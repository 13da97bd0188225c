"""Settings: one frozen dataclass a stage, filled from TOML and from the command line.

A settings file has one table a stage::

    [embeddings]
    vector_size = 200

and ``--set embeddings.vector_size=200`` says the same. Later layers win: defaults, preset, file,
``--set``. A key that no stage knows is an error that names the nearest one that is known.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cluster.errors import UsageError

T = TypeVar("T")
Layer = Mapping[str, Any]
Sections = dict[str, dict[str, Any]]
POINT = re.compile(r"^([+-]?)\.(?=\d)")  # where a number begins with its point


def resolve(cls: type[T], section: str, *layers: Layer) -> T:
    """The settings of one stage: the dataclass `cls` filled from `layers`, the last one winning.

    Raises UsageError for an unknown key, a value of the wrong type or beyond its numbers, or one that the
    dataclass refuses.
    """
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    known = [each.name for each in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for layer in layers:
        for key, value in layer.items():
            if key not in known:
                raise UsageError(f"Unknown setting '{section}.{key}'; {_nearest(key, known, section)}")
            values[key] = _converted(f"{section}.{key}", value, hints[key])
    return cls(**values)


def read_file(path: str | Path, known: Iterable[str]) -> Sections:
    """The sections of a TOML file; `known` are the sections there are."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark before the text
    except OSError as error:
        raise UsageError(
            f"Cannot read settings {str(path)!r}: {error.strerror}; check --settings."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"Settings {str(path)!r} are no UTF-8 ({error}); save them as UTF-8.") from error
    try:
        loaded = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Settings {str(path)!r} are no TOML: {error}.") from error
    check_sections(loaded, known)
    for section, values in loaded.items():
        if not isinstance(values, dict):
            raise UsageError(
                f"Setting {section!r} in {str(path)!r} stands outside a section; write it under [{section}]."
            )
    return loaded


def read_assignments(assignments: Iterable[str], known: Iterable[str]) -> Sections:
    """The sections that ``--set section.key=value`` arguments spell; values are TOML, bare words strings; a
    number may begin with its point."""
    sections: Sections = {}
    for assignment in assignments:
        left, equals, right = assignment.partition("=")
        section, dot, key = left.strip().partition(".")
        if not (equals and dot and key):
            raise UsageError(f"--set {assignment!r} has not the form section.key=value.")
        sections.setdefault(section, {})[key] = _read(right.strip())
    check_sections(sections, known)
    return sections


def check_sections(sections: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for section in sections:
        if section not in known:
            raise UsageError(f"Unknown section '{section}'; {_nearest(section, known)}")


def merge(*layers: Mapping[str, Mapping[str, Any]]) -> Sections:
    """One set of sections out of several, the last one winning key by key."""
    merged: Sections = {}
    for layer in layers:
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return merged


def refuse_below(settings: object, least: Mapping[str, float], section: str = "") -> None:
    """Raises UsageError for the first setting that is below its bound; `least` has the least of each."""
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            place = f"{section}.{name}" if section else name
            raise UsageError(f"Setting {place!r} is {getattr(settings, name)!r}; give at least {bound}.")


def _read(text: str) -> Any:
    """A value of ``--set``. TOML wants a digit before the point, people write .05."""
    for written in (text, POINT.sub(r"\g<1>0.", text)):
        try:
            return tomllib.loads(f"value = {written}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text


def _nearest(key: str, known: list[str], section: str = "") -> str:
    prefix = f"{section}." if section else ""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"the nearest known one is '{prefix}{close[0]}'."
    return "known ones are " + ", ".join(f"'{prefix}{name}'" for name in sorted(known)) + "."


def _converted(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type that the field declares; only conversions that lose nothing. Numbers are finite and
    whole ones have 64 bits at most: no setting means infinity."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        choices = typing.get_args(hint)
        if value is None and type(None) in choices:
            return None
        return _converted(name, value, next(choice for choice in choices if choice is not type(None)))
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        given = value if isinstance(value, list | tuple) else [value]
        try:
            return tuple(_converted(name, each, inner) for each in given)
        except UsageError as error:
            takes = f"a list in brackets, of which each is {_article(inner)}"
            raise UsageError(f"Setting '{name}' has value {value!r}; it takes {takes}.") from error
    if isinstance(value, bool) == (hint is bool):
        if hint is float and isinstance(value, int | float) and abs(value) <= sys.float_info.max:
            return float(value)
        if hint is int and isinstance(value, int) and abs(value) < 1 << 63:
            return value
        if hint not in (int, float) and isinstance(value, hint):
            return value
    raise UsageError(f"Setting '{name}' has value {value!r}; it takes {_article(hint)}.")


def _article(hint: type) -> str:
    known = {int: "a whole number (64 bits)", float: "a finite number", str: "a text", bool: "true or false"}
    return known.get(hint, str(hint))
