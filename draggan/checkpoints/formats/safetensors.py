"""Our own format: one safetensors file per checkpoint.

Tensors are named ``<role>/<state-dict name>`` (role ``G_ema``, ``G`` or ``D``), float16 or float32. All metadata values
are strings:

* ``networks``: JSON ``{role: {"family": ..., "kwargs": {...}}}``;
* ``family`` and ``kwargs`` (JSON): the same for a file that has ``G_ema`` alone. Either form can be read;
* ``source_format``: the format this was converted from, where it was;
* ``facts``: JSON of all metadata that are not strings;
* anything else (``name``, ``licence``, ``source``, ``training``, ...) as it is.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dnnlib.cache import replacing
from draggan.checkpoints.description import FAMILIES, CheckpointDescription, Family, NetworkDescription, Role
from draggan.checkpoints.formats import state_dict
from draggan.checkpoints.pickle.budget import Budget
from draggan.errors import CheckpointError

__all__ = ["is_safetensors", "read", "write"]

ROLES: tuple[Role, ...] = get_args(Role)
DTYPES = {"F32": np.float32, "F16": np.float16}
# The header of the largest published StyleGAN3 model takes 40 kB.
MAX_HEADER = 4 << 20
_RESERVED = {"networks", "family", "kwargs", "facts", "format"}


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a safetensors file does, whatever its name."""
    with open(path, "rb") as f:
        start = f.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < 1 << 32


def write(path: str | os.PathLike[str], description: CheckpointDescription) -> None:
    """Store a checkpoint. The file appears under its name only once it is complete.

    Raises:
        CheckpointError: a tensor is neither float16 nor float32, or the file cannot be written.
    """
    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    for role, network in description.networks.items():
        for name, tensor in network.tensors.items():
            if tensor.dtype not in (np.float16, np.float32):
                raise CheckpointError(f"{role}/{name} is {tensor.dtype}; only float16 and float32 can be stored")
            tensors[f"{role}/{name}"] = np.asarray(tensor, order="C")
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=_pack(description))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def read(path: str | os.PathLike[str], roles: Collection[Role] | None = None) -> CheckpointDescription:
    """Read a file written by `write`.

    Args:
        roles: read only these networks, those that the file has; None for all.

    Raises:
        CheckpointError: the file is missing, damaged, or a safetensors file of another kind.
    """
    path = Path(path)
    try:
        _check_header_length(path)
        with safe_open(str(path), framework="np") as file:
            metadata = dict(file.metadata() or {})
            if "networks" not in metadata and "family" not in metadata:
                return _foreign(path, file, roles)
            headers = _headers(path, metadata)
            tensors: dict[Role, dict[str, np.ndarray]] = {role: {} for role in headers}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                role, _, name = key.partition("/")
                if role not in headers or not name:
                    raise CheckpointError(f"{path}: tensor '{key}' belongs to none of the networks {list(headers)}")
                dtype = file.get_slice(key).get_dtype()
                if dtype not in DTYPES:
                    raise CheckpointError(f"{path}: tensor '{key}' is {dtype}; allowed are {', '.join(DTYPES)}")
                if roles is None or role in roles:
                    tensors[cast(Role, role)][name] = _writable(file.get_tensor(key))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    networks = {
        role: NetworkDescription(family=family, kwargs=kwargs, tensors=tensors[role])
        for role, (family, kwargs) in headers.items()
        if roles is None or role in roles
    }
    facts = _json_object(path, "facts", metadata.pop("facts", "{}"))
    plain = {key: value for key, value in metadata.items() if key not in _RESERVED}
    return CheckpointDescription(networks=networks, format="safetensors", metadata={**plain, **facts})


def _foreign(path: Path, file: Any, roles: Collection[Role] | None) -> CheckpointDescription:
    """The networks in another program's file, by the names of its tensors."""
    size = path.stat().st_size
    tensors = {}
    for key in file.keys():  # noqa: SIM118 - not a mapping
        dtype = file.get_slice(key).get_dtype()
        # NumPy has no bfloat16; what has whole numbers is no weight of a network that we know.
        if dtype in ("F64", *DTYPES):
            tensors[key] = file.get_tensor(key)
    try:
        found = state_dict.describe(tensors, Budget(numbers=2 * size + (16 << 20)))
    except CheckpointError as error:
        raise type(error)(
            f"{path} names no network family; it is a safetensors file of another kind: {error}"
        ) from None
    networks = {role: network for role, network in found.networks.items() if roles is None or role in roles}
    return CheckpointDescription(networks=networks, format=found.format, metadata=found.metadata)


def _pack(description: CheckpointDescription) -> dict[str, str]:
    """All metadata as strings."""
    headers = {role: {"family": n.family, "kwargs": n.kwargs} for role, n in description.networks.items()}
    packed = {"format": "draggan", "networks": json.dumps(headers, sort_keys=True)}
    if list(headers) == ["G_ema"]:
        generator = description.networks["G_ema"]
        packed |= {"family": generator.family, "kwargs": json.dumps(generator.kwargs, sort_keys=True)}
    if description.format != "safetensors":
        packed["source_format"] = description.format
    facts = {}
    for key, value in description.metadata.items():
        if key in _RESERVED:
            continue
        if isinstance(value, str):
            packed[key] = value
        else:
            facts[key] = value
    if facts:
        packed["facts"] = json.dumps(facts, sort_keys=True)
    return packed


def _headers(path: Path, metadata: dict[str, str]) -> dict[Role, tuple[Family, dict[str, Any]]]:
    """Family and kwargs by role, type-checked; what the kwargs hold is for `build` to check."""
    if "networks" in metadata:
        networks = _json_object(path, "networks", metadata["networks"])
    elif "family" in metadata and "kwargs" in metadata:
        kwargs = _json_object(path, "kwargs", metadata["kwargs"])
        networks = {"G_ema": {"family": metadata["family"], "kwargs": kwargs}}
    else:
        raise CheckpointError(f"{path} names no network family; it is a safetensors file of another kind")
    headers: dict[Role, tuple[Family, dict[str, Any]]] = {}
    for role, network in networks.items():
        if role not in ROLES:
            raise CheckpointError(f"{path}: unknown network '{role[:40]}'; there are {', '.join(ROLES)}")
        if not isinstance(network, dict) or not isinstance(network.get("kwargs"), dict):
            raise CheckpointError(f"{path}: the entry of {role} must hold 'family' and 'kwargs'")
        family = network.get("family")
        if not isinstance(family, str) or family not in FAMILIES:
            raise CheckpointError(f"{path}: unknown family {str(family)[:40]!r}; there are {', '.join(FAMILIES)}")
        headers[role] = (family, network["kwargs"])
    if not headers:
        raise CheckpointError(f"{path} holds no network")
    return headers


def _json_object(path: Path, key: str, text: str) -> dict[str, Any]:
    # RecursionError: json's parser follows nested brackets as deep as Python's stack.
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: metadata '{key}' is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: metadata '{key}' must be a JSON object")
    return value


def _check_header_length(path: Path) -> None:
    """Refuse an oversized or cut-off header before anything is allocated for it."""
    size = path.stat().st_size
    with open(path, "rb") as f:
        start = f.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise CheckpointError(f"{path} is damaged or no safetensors file: {size} bytes with a header of {length}")


def _writable(array: np.ndarray) -> np.ndarray:
    # torch.from_numpy warns about arrays it may not write to.
    return array if array.flags.writeable else array.copy()
