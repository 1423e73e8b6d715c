"""Arrays in NumPy's own files, ``.npy`` and ``.npz``, read without NumPy's reader, which can be made to unpickle."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from draggan.checkpoints.formats import torch_archive
from draggan.checkpoints.pickle.budget import Budget, damaged, refuse, show
from draggan.errors import CheckpointError

__all__ = ["is_npy", "is_npz", "read_npy", "read_npz", "read_text"]

MAX_TEXT = 1 << 20


def is_npy(data: memoryview) -> bool:
    """Whether a file begins as NumPy's files of one array do."""
    return bytes(data[:6]) == b"\x93NUMPY"


def is_npz(entries: Mapping[str, zipfile.ZipInfo]) -> bool:
    """Whether a zip archive holds NumPy arrays and nothing else."""
    return bool(entries) and all(name.endswith(".npy") for name in entries)


def read_npy(data: memoryview) -> np.ndarray:
    """The array of a file, of floating-point numbers, as a view; its size is compared with the file first.

    Raises:
        UnsafeCheckpoint: it holds something else, which might have to be unpickled.
        CheckpointError: the file is damaged.
    """
    shape, fortran, dtype, raw = _parse(data)
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise refuse(f"an array of {str(dtype)[:60]}; latent codes and weights are floating-point numbers")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def read_text(data: memoryview) -> str:
    """The one text of a file, at most a megabyte.

    Raises:
        CheckpointError: the file holds something else.
    """
    shape, _, dtype, raw = _parse(data)
    if dtype.kind != "U" or shape != () or len(raw) > MAX_TEXT:
        raise CheckpointError("an array where a text is expected")
    try:
        return str(np.frombuffer(raw, dtype)[0])
    except ValueError:
        raise damaged("a text that is none") from None


def _parse(data: memoryview) -> tuple[tuple[int, ...], bool, np.dtype, memoryview]:
    """Shape, order, type and bytes of the array in a file."""
    stream = io.BytesIO(data[: 1 << 16])
    try:
        with warnings.catch_warnings():
            # Headers of Python 2 are read after a warning.
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
            else:
                raise damaged(f"numpy format version {version}")
    # What numpy's header parser raises for text that is no header.
    except (ValueError, SyntaxError, TypeError, LookupError, EOFError, AttributeError, tokenize.TokenError) as error:
        raise damaged(f"no numpy header ({str(error)[:200]})") from None
    raw = data[stream.tell() :]
    if dtype.hasobject:
        raise refuse(f"an array of {str(dtype)[:60]}")
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(raw):
        raise damaged(f"an array of shape {list(shape)[:8]} over {len(raw)} bytes")
    return shape, fortran, dtype, raw


def read_npz(data: memoryview, entry: zipfile.ZipInfo, budget: Budget) -> memoryview:
    """The content of one entry of an archive: a view, or a copy if it is compressed.

    Raises:
        UnsafeCheckpoint: it is much larger than the archive.
        CheckpointError: it is damaged, or compressed in an unusual way.
    """
    name = show(entry.filename)
    if entry.compress_type == zipfile.ZIP_STORED:
        return torch_archive.stored_entry(data, entry)
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise CheckpointError(f"archive entry {name} is compressed in an unusual way")
    budget.take_numbers(entry.file_size)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(entry) as stream:
            content = stream.read(entry.file_size + 1)
    # The archive's errors, those of decompression, and encryption (RuntimeError).
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, OSError, EOFError, RuntimeError) as error:
        raise damaged(f"archive entry {name} cannot be read ({str(error)[:200]})") from None
    if len(content) != entry.file_size:
        raise damaged(f"archive entry {name} has another length than it says")
    return memoryview(content)
