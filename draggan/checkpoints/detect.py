"""What kind of file something is, by its first bytes and its content, never by its name; and its description."""

from __future__ import annotations

import json
import mmap
import os
import zipfile
from pathlib import Path
from typing import Any

from draggan.checkpoints.description import CheckpointDescription
from draggan.checkpoints.formats import numpy_files, nvidia, state_dict, tensorflow, torch_archive, unsupported
from draggan.checkpoints.pickle.allowed import IN_PICKLES
from draggan.checkpoints.pickle.budget import Budget, damaged, refuse, refuse_object
from draggan.checkpoints.pickle.machine import PickleMachine
from draggan.checkpoints.pickle.stand_ins import ForeignObject, Module
from draggan.checkpoints.pickle.tensors import NumpyArray, Tensor
from draggan.errors import CheckpointError

__all__ = ["READER_VERSION", "converted_name", "describe_bytes", "expect_pickle", "open_bytes"]

# Part of every cached name: raise it by one with every change after which a file reads otherwise than before (another
# format, a tensor, an argument or an error more or less), or people who opened the file before keep the old reading.
READER_VERSION = 3
MAX_FILE = 4 << 30


def converted_name(digest: str) -> str:
    """The name of a file's converted copy, of the file's SHA-256."""
    return f"{digest}-{READER_VERSION}.safetensors"


_OTHER_KINDS = (
    (b"\x93NUMPY", "a numpy array; open it as a latent code, not as a model"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file, which is not supported; use the model's PyTorch version"),
    (b"\x89PNG", "a picture, not a model"),
    (b"\xff\xd8\xff", "a picture, not a model"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself (git lfs pull)"),
)


def expect_pickle(path: Path, start: bytes) -> None:
    """Tell files that are no pickles and no archives by their first bytes, with advice."""
    if not start:
        raise CheckpointError(f"{path} is empty; get it again from its source")
    for magic, what in _OTHER_KINDS:
        if start.startswith(magic):
            raise CheckpointError(f"{path} is {what}")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{path} is a web page, not a model; the download gave an error or asked for a log-in")
    # Anything else goes to the machine, which says what is wrong. 0x80 begins pickles of protocol 2 and newer.
    if start[:1] not in (b"\x80", b"P", b"c", b"(", b"}", b"]", b")"):
        is_text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start[:8])
        seems = " (it begins with text)" if is_text else ""
        raise CheckpointError(
            f"{path} is not a model file that we know{seems}; known are NVIDIA's .pkl, "
            "TensorFlow StyleGAN2 .pkl, weights in .pt, .npz and .safetensors"
        )


def open_bytes(path: str | os.PathLike[str]) -> memoryview:
    """A file's content without reading it: mapped read-only into memory, for as long as the view is used."""
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        if size > MAX_FILE:
            raise CheckpointError(f"{path} has {size / 1e9:.1f} GB; up to {MAX_FILE / 1e9:.1f} GB can be read")
        if size == 0:
            raise CheckpointError(f"{path} is empty; get it again from its source")
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))


def describe_bytes(data: memoryview) -> CheckpointDescription:
    """The description of a pickle or archive, read in this process. The tensors are views into ``data`` where possible.

    Raises:
        UnsafeCheckpoint, CheckpointError: as `read_checkpoint`.
    """
    # Twice: float16 and bfloat16 become float32.
    budget = Budget(numbers=2 * len(data) + (16 << 20))
    try:
        if torch_archive.is_zip(data):
            entries = torch_archive.open_zip(data)
            if numpy_files.is_npz(entries):
                return _describe_arrays(data, entries, budget)
        if torch_archive.is_zip(data) or torch_archive.is_legacy(data):
            return _describe_archive(torch_archive.load(data, budget), budget)
        machine = PickleMachine(data, allowed=IN_PICKLES, foreign=True, budget=budget)
        value = machine.load()
        if machine.position != len(data):
            raise damaged(f"{len(data) - machine.position} bytes are left over at its end")
        return _describe_pickle(value, budget)
    except MemoryError:
        raise CheckpointError("the file needs more memory than is allowed; it is damaged or made to") from None
    except RecursionError:
        raise refuse("values that are nested too deeply") from None


def _describe_pickle(value: Any, budget: Budget) -> CheckpointDescription:
    if isinstance(value, dict):
        if _is_state_dict(value):
            return state_dict.describe(value, budget)
        return nvidia.describe(value, budget)
    if type(value) is tuple and len(value) == 3:
        return tensorflow.describe(value, budget)
    if isinstance(value, Module):
        return nvidia.describe({"G_ema": value}, budget)
    if isinstance(value, ForeignObject):
        raise _foreign(value)
    raise CheckpointError(f"this pickle holds a {type(value).__name__}, not the networks G, D and G_ema")


def _describe_archive(value: Any, budget: Budget) -> CheckpointDescription:
    # PTI saves the tuned generator alone.
    if isinstance(value, Module):
        return nvidia.describe({"G_ema": value}, budget, "pti")
    if isinstance(value, ForeignObject):
        raise _foreign(value)
    if not isinstance(value, dict):
        raise CheckpointError(f"this archive holds a {type(value).__name__}; if it is a latent code, open it as one")
    if any(isinstance(value.get(role), Module) for role in nvidia.ROLES):
        return nvidia.describe(value, budget, "pti")
    return state_dict.describe(value, budget)


def _describe_arrays(data: memoryview, entries: dict[str, zipfile.ZipInfo], budget: Budget) -> CheckpointDescription:
    """The networks in an archive of NumPy's; ``meta`` is what our own conversions say of them."""
    arrays = {}
    own: Any = {}
    for name, entry in entries.items():
        content = numpy_files.read_npz(data, entry, budget)
        if name == "meta.npy":
            own = _parsed(numpy_files.read_text(content))
        else:
            arrays[name.removesuffix(".npy")] = numpy_files.read_npy(content)
    return state_dict.describe(arrays, budget, own=own)


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CheckpointError("the archive's 'meta' is not a JSON object")
    return value


def _is_state_dict(value: dict[Any, Any]) -> bool:
    """Whether a pickled dictionary holds tensors by name, or such dictionaries, and not whole networks."""
    tables = [value, *(item for item in value.values() if isinstance(item, dict))]
    return any(isinstance(item, (Tensor, NumpyArray)) for table in tables for item in table.values())


def _foreign(value: ForeignObject) -> CheckpointError:
    """The error for an object of a class that we do not have, alone in its file."""
    family = unsupported.family_of_class(value.class_name)
    return (
        CheckpointError(f"this file holds {family}, which is not supported")
        if family
        else refuse_object(value.class_name)
    )
