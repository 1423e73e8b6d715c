"""A generator's pictures as bytes, and bytes as a generator would draw them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = ["from_uint8", "to_uint8"]


def to_uint8(image: Float[Tensor, "*batch image_channels height width"]) -> UInt8[np.ndarray, "height width channels"]:
    """A generator's picture (or the first of a batch), nominal range [-1, 1], as bytes.

    ``x * 127.5 + 128``, clamped and cut off, as the published tools write pictures. Grey becomes three equal channels;
    of four, the last says how opaque a pixel is.
    """
    if image.ndim == 4:
        image = image[0]
    scaled = (image.detach() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    if len(scaled) == 1:
        scaled = scaled.expand(3, -1, -1)
    return scaled.permute(1, 2, 0).cpu().numpy()


def from_uint8(pixels: UInt8[np.ndarray, "height width channels"]) -> Float[Tensor, "1 channels height width"]:
    """A picture as generators draw them, in [-1, 1]; the other way than `to_uint8`."""
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
