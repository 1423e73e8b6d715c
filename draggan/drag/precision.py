"""In which type a drag computes features. Latent, optimiser, losses and tracking distances are always float32."""

from __future__ import annotations

import torch

from draggan.config import Precision

__all__ = ["feature_dtype"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def feature_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that a setting means on a device.

    "auto" takes a lower precision only where drags were measured to end at the same place, and sooner.
    """
    if precision == "auto":
        return torch.float32
    return _DTYPES[precision]
