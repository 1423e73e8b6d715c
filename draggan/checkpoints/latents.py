"""Latent codes from files: ``.npy``, ``.npz`` and ``.pt`` as the official tools and PTI write them.

Told apart by content. Nothing is unpickled but ``.pt`` files, and those by the reader that cannot run anything.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from draggan.checkpoints.formats import numpy_files, torch_archive
from draggan.checkpoints.pickle.budget import Budget, refuse, show
from draggan.checkpoints.pickle.tensors import NumpyArray, Tensor, as_array
from draggan.errors import CheckpointError, LatentError

__all__ = ["fit_latent", "read_latent"]

# A latent of the largest model (18 x 512 float64) takes 74 kB.
MAX_FILE = 64 << 20
MAX_BYTES = 16 << 20
# Names under which tools keep the latent in files that hold more than one array.
_NAMES = ("w", "ws", "w_plus", "latent", "latents", "latent_code", "w_pivot")


def read_latent(path: str | os.PathLike[str]) -> Float[np.ndarray, "1 rows w_dim"]:
    """Read one latent code, float32.

    Files hold shapes ``[w_dim]``, ``[1, w_dim]``, ``[rows, w_dim]`` or ``[1, rows, w_dim]``; a code of W has one row.

    Raises:
        UnsafeCheckpoint: the file asks for something that only a program would ask for.
        CheckpointError: it is missing, damaged, or holds something else than one latent code.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise CheckpointError(f"{path} has {size} bytes, too many for a latent code; at most {MAX_FILE} are read")
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return _shaped(_read(data))
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from None
    except (MemoryError, RecursionError):
        raise CheckpointError(f"{path} is damaged or made to use up memory") from None


def fit_latent(
    latent: Float[np.ndarray, "1 rows w_dim"], num_ws: int, w_dim: int
) -> Float[np.ndarray, "1 num_ws w_dim"]:
    """A latent code for a model: a single row is repeated for every row of the model.

    Raises:
        LatentError: it belongs to a model of another size.
    """
    rows, width = latent.shape[1:]
    if width != w_dim or rows not in (1, num_ws):
        raise LatentError(
            f"a latent code of {rows} rows of {width} numbers does not fit this model, which takes {num_ws} rows (or "
            f"one) of {w_dim}; it was made with a model of another size"
        )
    return np.ascontiguousarray(np.broadcast_to(latent, (1, num_ws, w_dim)))


def _read(data: memoryview) -> np.ndarray:
    if numpy_files.is_npy(data):
        return numpy_files.read_npy(data)
    if torch_archive.is_zip(data):
        entries = torch_archive.open_zip(data)
        if numpy_files.is_npz(entries):
            return _read_npz(data, entries)
        return _read_torch(data)
    if torch_archive.is_legacy(data):
        return _read_torch(data)
    raise CheckpointError("no latent code; known are .npy, .npz and .pt files")


def _read_npz(data: memoryview, entries: dict[str, zipfile.ZipInfo]) -> np.ndarray:
    """The latent among the arrays of an archive, which may be compressed."""
    entry = _choose({name[: -len(".npy")]: entry for name, entry in entries.items()})
    if entry.file_size > MAX_BYTES:
        raise refuse(f"an array of {entry.file_size} bytes as a latent code")
    return numpy_files.read_npy(numpy_files.read_npz(data, entry, Budget(numbers=MAX_BYTES)))


def _read_torch(data: memoryview) -> np.ndarray:
    budget = Budget(numbers=2 * len(data) + (1 << 20))
    value = torch_archive.load(data, budget)
    if isinstance(value, dict):
        arrays = {key: item for key, item in value.items() if isinstance(item, (Tensor, NumpyArray))}
        value = _choose(arrays)
    elif type(value) in (list, tuple) and len(value) == 1:
        value = value[0]
    array = as_array(value, budget) if isinstance(value, (Tensor, NumpyArray)) else None
    if array is None:
        raise CheckpointError(f"the file holds a {type(value).__name__}, not a latent code")
    return array


def _choose(found: dict[Any, Any]) -> Any:
    """The only entry, or the one that is called as latents are."""
    if len(found) == 1:
        return next(iter(found.values()))
    for name in _NAMES:
        if name in found:
            return found[name]
    names = ", ".join(show(name) for name in list(found)[:8])
    raise CheckpointError(f"the file holds {len(found)} arrays ({names}), none of them named as a latent code ('w')")


def _shaped(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" or array.nbytes > MAX_BYTES:
        raise CheckpointError(f"an array of {array.dtype} and shape {list(array.shape)} is not a latent code")
    shape = array.shape
    if array.ndim == 1:
        array = array[None, None]
    elif array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] != 1 or 0 in array.shape:
        raise CheckpointError(
            f"an array of shape {list(shape)} is not one latent code; those have shape [w_dim], [rows, w_dim] or "
            "[1, rows, w_dim]"
        )
    with np.errstate(over="ignore"):
        array = np.array(array, np.float32, order="C")
    if not np.isfinite(array).all():
        raise CheckpointError("the latent code holds values that are not finite numbers")
    return array
