"""What every reader returns: a checkpoint as plain values, from which our own modules are built.

A description holds names, numbers and arrays, nothing that runs. Readers (one module per format) produce it, `build`
turns it into a generator or discriminator with strict checks, and the safetensors writer stores it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

__all__ = ["FAMILIES", "CheckpointDescription", "Family", "NetworkDescription", "Role"]

Family = Literal["stylegan2", "stylegan3"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Role = Literal["G", "D", "G_ema"]


@dataclass(frozen=True, kw_only=True)
class NetworkDescription:
    """One network of a checkpoint.

    Attributes:
        family: read from the content (kwargs and tensor names), never from a file name.
        kwargs: constructor arguments of our class (`StyleGAN2Generator`, `StyleGAN3Generator`, `Discriminator`),
            JSON-able.
        tensors: state dict by published names, each a C-contiguous array (float32 or float16).
    """

    family: Family
    kwargs: dict[str, Any]
    tensors: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class CheckpointDescription:
    """All networks of one file.

    Attributes:
        networks: by role; at least one of "G_ema" and "G" in a file that can be dragged.
        format: "nvidia-pickle", "tensorflow-pickle", "rosinality", "pti", "state-dict" or "safetensors".
        metadata: JSON-able facts about the file (licence, source, training, digests of embedded source, ...). ``notes``
            are sentences about what the file lacks and what was done about it; ``skipped`` says by role why a network
            was left out.
    """

    networks: dict[Role, NetworkDescription]
    format: str
    metadata: dict[str, Any] = field(default_factory=dict)
