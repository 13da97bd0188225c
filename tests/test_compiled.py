"""What ingest.compiled promises: compiled code is kept where it can be, and runs where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from ingest import compiled


def test_what_no_folder_can_keep_is_compiled_all_the_same() -> None:
    """A function without a file of its own is one for which numba finds no place."""
    names: dict[str, object] = {}
    exec(
        "def total(values):\n    found = 0\n    for each in values:\n        found += each\n    return found",
        names,
    )
    total = compiled.compiled(compiled.INTEGER, compiled.I64)(names["total"])  # type: ignore[arg-type]
    assert total(np.arange(5)) == 10
    assert total.signatures  # type: ignore[attr-defined]


def test_what_was_compiled_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    module = tmp_path / "doubled.py"
    module.write_text(
        "from ingest.compiled import INTEGER, compiled\n"
        "@compiled(INTEGER, INTEGER)\ndef doubled(value):\n    return 2 * value\n"
        "print(doubled(21), sum(doubled.stats.cache_hits.values()))\n"
    )
    kept = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(Path.cwd())}
    said = [
        subprocess.run([sys.executable, module], env=kept, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == ["42 0\n", "42 1\n"]


def test_without_compiling_blocks_are_read_by_libbz2() -> None:
    script = (
        "import bz2, io\nfrom ingest import bzip2\n"
        "data = bz2.compress(b'text ' * 50_000, 1)\n"
        "found = b''.join(each.data for each in bzip2.blocks(io.BytesIO(data), len(data)))\n"
        "assert bzip2.decoder() is None and found == b'text ' * 50_000\n"
    )
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=True)
