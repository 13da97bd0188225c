"""The documentation of installed Python packages, read from their source files without importing them.

Only docstrings that stand in ``.py`` files are found; those of compiled modules are not.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import platform
import re
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UsageError

STANDARD_LIBRARY = "python"
# Tests, demonstrations, copies of other packages; below them legacy Keras, which says what Keras says.
SKIPPED_FOLDERS = re.compile(
    "__pycache__|_vendor|demo|ensurepip|examples|idlelib|include|lib2to3|(site|dist)-packages|"
    "tests?|testing|thirdparty_files|turtledemo"
)
SKIPPED_PREFIXES = ("tensorflow.python.keras.", "tensorflow._api.")
# Parsing takes 5 MB of source a second. Files with less documentation than this share hold a quarter of all
# docstrings and two thirds of all source: they are not worth their seconds.
LEAST_SHARE = 0.27
LEAST_BYTES = 600


@dataclass(frozen=True, slots=True)
class Source:
    """A module's source file. `title` is its dotted name."""

    package: str
    title: str
    path: Path


@dataclass(frozen=True, slots=True)
class Described:
    """A public class or function with a docstring, in the order of the source.

    `name` is dotted within the module (``Dataset.map``); `kind` is ``class`` or ``function``.
    """

    name: str
    kind: str
    docstring: str


@dataclass(frozen=True, slots=True)
class ModuleDocumentation:
    """All docstrings of a module, uncleaned, with what its page says in figures."""

    source: Source
    docstring: str
    described: tuple[Described, ...]
    lines: int
    silent: int  # public classes and functions without a docstring


def version_of(package: str) -> str:
    """The version of an installed distribution, or of Python itself for ``python``, without importing it."""
    if package == STANDARD_LIBRARY:
        return platform.python_version()
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"Setting 'sample.packages' names {package!r}, which is not installed; "
            "install it or leave it out."
        ) from error


def folder_of(package: str) -> Path:
    """Where the sources of an import package (or the standard library) lie."""
    if package == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(package)  # of a top-level name: finds, imports nothing
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"Setting 'sample.packages' names {package!r}, which is no package with source files; "
            "leave it out."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def sources(package: str) -> list[Source]:
    """The source files of a package, sorted by title; tests, copies of others and demonstrations left out."""
    root = folder_of(package)
    prefix = () if package == STANDARD_LIBRARY else (package,)
    found = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name.isidentifier() and not SKIPPED_FOLDERS.fullmatch(name)]
        inside = (*prefix, *Path(folder).relative_to(root).parts)
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if dot + suffix != ".py" or not stem.isidentifier():
                continue
            if stem.startswith("test_") or stem.endswith(("_test", "_pb2", "_pb2_grpc")):
                continue
            title = ".".join(inside if stem == "__init__" else (*inside, stem))
            if title and not title.startswith(SKIPPED_PREFIXES):
                found.append(Source(package, title, Path(folder, name)))
    return sorted(found, key=lambda source: (source.title, source.path.as_posix()))


def read_source(source: Source) -> bytes:
    """The file's bytes; none where it cannot be read (a broken link, no permission)."""
    try:
        return source.path.read_bytes()
    except OSError:
        return b""


def worth_parsing(code: bytes) -> bool:
    """Whether enough of the file stands between triple quotes."""
    quoted = sum(map(len, code.split(b'"""')[1::2]))
    return quoted >= LEAST_BYTES and quoted >= LEAST_SHARE * len(code)


def documentation(source: Source, code: bytes) -> ModuleDocumentation | None:
    """The docstrings in a file, None where Python cannot parse it (another syntax, another encoding)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    described: list[Described] = []
    silent = _collect(tree.body, "", described)
    return ModuleDocumentation(source, _docstring(tree), tuple(described), code.count(b"\n") + 1, silent)


def _collect(body: list[ast.stmt], prefix: str, into: list[Described]) -> int:
    """Appends what the statements define and describe; returns how many public definitions say nothing."""
    silent = 0
    for node in body:
        if isinstance(node, ast.ClassDef):
            kind = "class"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kind = "function"
        elif isinstance(node, ast.If | ast.Try):  # definitions that depend on the platform
            silent += _collect(node.body, prefix, into)
            continue
        else:
            continue
        if node.name.startswith("_") and node.name not in ("__init__", "__call__"):
            continue
        if text := _docstring(node):
            into.append(Described(prefix + node.name, kind, text))
        else:
            silent += 1
        if isinstance(node, ast.ClassDef):
            silent += _collect(node.body, f"{prefix}{node.name}.", into)
    return silent


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if node.body and isinstance(first := node.body[0], ast.Expr) and isinstance(first.value, ast.Constant):
        value = first.value.value
        if isinstance(value, str):
            # A string may hold halves of surrogate pairs, which no UTF-8 file can.
            return value.encode("utf-8", "ignore").decode()
    return ""
