"""Folders that may not be read, for root neither, whom no rights keep out."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from cluster import folder


class _Closed:
    """The local file system, but what lies in `place` may not be looked at."""

    def __init__(self, place: Path) -> None:
        self._place = str(place)
        self._open = pafs.LocalFileSystem()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open, name)

    def get_file_info(self, what: str | pafs.FileSelector) -> Any:
        if isinstance(what, str):
            self._refuse(what, "Failed stat()ing path", inside=what != self._place)
        else:
            self._refuse(what.base_dir, "Cannot list directory")
        return self._open.get_file_info(what)

    def open_input_file(self, path: str) -> Any:
        self._refuse(path, "Failed to open local file")
        return self._open.open_input_file(path)

    def _refuse(self, path: str, words: str, *, inside: bool = True) -> None:
        if inside and f"{path}/".startswith(f"{self._place}/"):
            raise PermissionError(errno.EACCES, f"{words} '{path}'. Detail: [errno 13] Permission denied")


def close(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "filesystem_of", lambda location: (_Closed(place), location))
