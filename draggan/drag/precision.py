"""In which type a drag computes features. Latent, optimiser, losses and tracking distances are always float32."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import Precision
from draggan.generators.base import Generator, Latent
from draggan.generators.blending import Blend, Picture
from draggan.geometry import Windows

__all__ = ["compute_blended_features", "compute_features", "compute_picture_features", "feature_dtype"]

_DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def feature_dtype(precision: Precision) -> torch.dtype:
    """The type that a setting means.

    "auto" is float32: the same numbers on every machine. In bfloat16 drags arrive as often, nine in ten within half a
    pixel of where they end in float32; whether they get there sooner depends on the processor
    (benchmarks/precision.md). On GPUs neither was measured.
    """
    return _DTYPES[precision]


def compute_features(
    generator: Generator, ws: Latent, level: str, dtype: torch.dtype, windows: Windows | None = None
) -> Float[Tensor, "n channel height width"]:
    """The whole map or windows of it, computed in that type, returned as float32."""
    with torch.autocast(generator.device.type, dtype=dtype, enabled=dtype != torch.float32):
        if windows is None:
            return generator.features(ws, level).float()
        return generator.local_features(ws, level, windows).float()


def compute_blended_features(
    generator: Generator, blend: Blend, ws: Latent, level: str, dtype: torch.dtype, windows: Windows | None = None
) -> Float[Tensor, "n channel height width"]:
    """Likewise of the picture that a mask makes of that latent and of a first picture."""
    with torch.autocast(generator.device.type, dtype=dtype, enabled=dtype != torch.float32):
        return blend.features(ws, level, windows).float()


def compute_picture_features(
    generator: Generator, picture: Picture, level: str, dtype: torch.dtype
) -> Float[Tensor, "1 channel height width"]:
    """Likewise of a picture that may be a blended one, without gradients."""
    with torch.autocast(generator.device.type, dtype=dtype, enabled=dtype != torch.float32):
        return generator.picture_features(picture, level).float()
