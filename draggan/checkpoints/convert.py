"""Writing a model file in another form. Whatever is written here can be read back, arguments included."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dnnlib.cache import replacing
from dnnlib.digests import sha256_of
from draggan.checkpoints import build
from draggan.checkpoints.description import CheckpointDescription, NetworkDescription
from draggan.checkpoints.formats import safetensors
from draggan.checkpoints.formats.state_dict import OWN_KEY
from draggan.checkpoints.read import read_checkpoint
from draggan.checkpoints.store import locate
from draggan.errors import CheckpointError

__all__ = ["convert"]


def convert(source: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Write a model file in another form, told by the ending of ``destination``.

    * ``.safetensors``: all networks, with family, arguments, and name and SHA-256 of the source file;
    * ``.npz``: all networks as arrays ``<role>/<name>``, and ``meta`` (JSON: family and arguments by role);
    * ``.pt``, ``.pth``: the plain state dict of the generator (of the discriminator in a file without generator), as
      ``torch.load(..., weights_only=True)`` reads it.

    Args:
        source: a registry name, a path or an https URL.

    Raises:
        CheckpointError: the source cannot be read, the ending is another one, or the file cannot be written.
        ModelNotFound, DownloadError: as for `load_generator`.
    """
    destination = Path(destination)
    suffix = destination.suffix.lower()
    if suffix not in (".safetensors", ".npz", ".pt", ".pth"):
        raise CheckpointError(f"{destination} cannot be written; its name must end in .safetensors, .npz or .pt")
    path = locate(source)
    if destination.exists() and destination.samefile(path):
        raise CheckpointError(f"{destination} is the source itself; choose another name")
    description = read_checkpoint(path)
    if suffix == ".safetensors":
        origin = {"original_file": path.name, "original_sha256": sha256_of(path)}
        safetensors.write(destination, replace(description, metadata={**origin, **description.metadata}))
        return destination
    try:
        with replacing(destination) as temporary, open(temporary, "wb") as file:
            if suffix == ".npz":
                np.savez(file, **_arrays(description))  # type: ignore[arg-type]  # numpy's stubs take keywords for flags
            else:
                torch.save(_state_dict(description), file)
    except OSError as error:
        raise CheckpointError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination


def _said(network: NetworkDescription) -> dict[str, Any]:
    """What the tensors do not say of a network."""
    return {"family": network.family, "kwargs": network.kwargs}


def _state_dict(description: CheckpointDescription) -> OrderedDict[str, torch.Tensor]:
    """The state dict of the generator, or of the discriminator where there is none.

    Arguments go where PyTorch keeps its version numbers: other programs pass them by, our reader finds them.
    """
    role = build.choose_generator(description) if set(description.networks) != {"D"} else "D"
    network = description.networks[role]
    state = OrderedDict((name, torch.from_numpy(np.array(array))) for name, array in network.tensors.items())
    state._metadata = OrderedDict({"": {"version": 1}, OWN_KEY: {role: _said(network)}})  # type: ignore[attr-defined]
    return state


def _arrays(description: CheckpointDescription) -> dict[str, np.ndarray]:
    """All networks of a checkpoint as one flat set of arrays."""
    meta: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for role, network in description.networks.items():
        meta[role] = _said(network)
        arrays |= {f"{role}/{name}": array for name, array in network.tensors.items()}
    return {**arrays, "meta": np.array(json.dumps(meta, sort_keys=True))}
