"""The two files of a published network: ``model.json`` says what it is, ``parameters.npz`` holds its arrays.

No pickle and no code: whatever reads JSON and numpy reads them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import WordloomError
from cluster.folder import FileRecord, Folder

MODEL, PARAMETERS = "model.json", "parameters.npz"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelFiles:
    """What was read: `described`, the content of ``model.json``, and the arrays by name."""

    described: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    def parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
        """The arrays of these names, in their order. Raises ValueError where one is missing, has another
        shape or is not float32."""
        for name, shape in shapes.items():
            if name not in self.arrays:
                raise ValueError(f"{name} is missing")
            found = self.arrays[name]
            if found.shape != shape or found.dtype != np.float32:
                raise ValueError(f"{name} is {found.dtype} {found.shape}, not float32 {shape}")
        return {name: self.arrays[name] for name in shapes}


@contextmanager
def reading(folder: Folder, newest: int) -> Iterator[ModelFiles]:
    """The files of the model in `folder`, whose format is at most `newest`.

    Whatever goes wrong, in the files or in the block that makes a model of them, is one WordloomError.
    """
    try:
        described = folder.read_json(MODEL)
        if described["format"] > newest:
            raise WordloomError(
                f"The model in {folder.location!r} has format {described['format']}, this version reads up "
                f"to {newest}; use a newer wordloom."
            )
        with np.load(io.BytesIO(folder.read(PARAMETERS)), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        yield ModelFiles(described, arrays)
    except WordloomError:
        raise
    except Exception as error:  # zip, JSON, array and type errors: all mean that the files are not ours
        raise WordloomError(
            f"The model in {folder.location!r} cannot be read ({error!r}); train it again."
        ) from error


def write_parameters(folder: Folder, parameters: Mapping[str, Any]) -> FileRecord:
    """Writes ``parameters.npz`` of tensors; the same ones give the same bytes."""
    packed = io.BytesIO()
    np.savez(packed, **{name: value.numpy() for name, value in parameters.items()})
    return folder.write(PARAMETERS, packed.getvalue())
