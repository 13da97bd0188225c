"""Functions compiled by numba, once a machine: the inner loops that no library runs fast enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import config, njit, types
from numpy.lib.stride_tricks import as_strided

# False where numba is told not to compile (NUMBA_DISABLE_JIT): its functions then run as Python, and slowly.
COMPILES = not config.DISABLE_JIT  # type: ignore[attr-defined]

U8, U16, U32 = types.uint8[::1], types.uint16[::1], types.uint32[::1]
I32, I64, U64 = types.int32[::1], types.int64[::1], types.uint64[::1]
TABLE = types.int32[:, ::1]  # rows of int32
U8_ROWS = types.uint8[:, ::1]
READ_U8 = types.Array(types.uint8, 1, "C", readonly=True)
EIGHTS = types.Array(types.uint64, 1, "A", aligned=False)  # what `eights` gives
READ_EIGHTS = types.Array(types.uint64, 1, "A", readonly=True, aligned=False)
INTEGER, WORD, NOTHING = types.int64, types.uint64, types.void
TWO_INTEGERS = types.UniTuple(INTEGER, 2)  # type: ignore[no-untyped-call]
TWO_WORDS = types.UniTuple(WORD, 2)  # type: ignore[no-untyped-call]


def eights(data: bytes | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """At each byte, that and the seven behind it as one number, the first the lowest: a view of the data, 7
    numbers shorter."""
    return as_strided(np.frombuffer(data, "<u8", 1), (len(data) - 7,), (1,))


def compiled(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles a function for exactly these types when its module is imported; it runs without Python's lock.

    What was compiled is kept beside the module, or in the user's cache folder where that cannot be written
    to (``NUMBA_CACHE_DIR`` names another place); where no folder can, each process compiles for itself.
    Compiled code checks no index: each function says what bounds its own.
    """

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            made: Callable[..., Any] = njit(result(*arguments), nogil=True, cache=True)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            made = njit(result(*arguments), nogil=True)(function)
        return made

    return compile_
