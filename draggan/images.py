"""Pictures in their three shapes: a generator's tensor, an array of bytes, a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, UnidentifiedImageError
from torch import Tensor

from draggan.errors import MaskError

__all__ = ["draw_points", "read_mask", "to_uint8"]

HANDLE_COLOUR, TARGET_COLOUR = (229, 57, 53), (30, 136, 229)


def to_uint8(image: Float[Tensor, "*batch 3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """A generator's picture (or the first of a batch), nominal range [-1, 1], as bytes.

    ``x * 127.5 + 128``, clamped and cut off, as the published tools write pictures.
    """
    if image.ndim == 4:
        image = image[0]
    scaled = (image.detach() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return scaled.permute(1, 2, 0).cpu().numpy()


def read_mask(path: str | Path, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask from a picture file: white (brighter than half) = may change; with transparency, opaque = may change.

    Raises:
        MaskError: not a picture, or not of ``size`` (height, width).
    """
    try:
        with Image.open(path) as picture:
            opaque = np.asarray(picture.convert("RGBA").getchannel("A"))
            if picture.mode.startswith("I;16"):
                # Pillow would cut 16 bits off at 255 instead of scaling them.
                array = np.asarray(picture) >> 8
            else:
                array = opaque if opaque.min() < 255 else np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as e:
        raise MaskError(f"the mask {path} cannot be read as a picture ({e}); give a PNG of the model's size") from e
    if array.shape != size:
        raise MaskError(
            f"the mask {path} is {array.shape[1]} x {array.shape[0]} pixels; it must be {size[1]} x {size[0]} "
            "like the model's picture"
        )
    return array > 127


def draw_points(
    pixels: UInt8[np.ndarray, "height width 3"],
    handles: Float[np.ndarray, "n 2"],
    targets: Float[np.ndarray, "n 2"],
    *,
    enlarge: int = 1,
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """A copy of a picture with handles (red), targets (blue) and arrows between them, for people to look at."""
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels).resize((width * enlarge, height * enlarge), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius = max(2, max(picture.size) // 100)
    for handle, target in zip(handles, targets, strict=True):
        a, b = ([(float(v) + 0.5) * enlarge for v in point] for point in (handle, target))
        draw.line([*a, *b], fill=(255, 255, 255), width=max(1, radius // 2))
        for (x, y), colour in ((a, HANDLE_COLOUR), (b, TARGET_COLOUR)):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour, outline=(255, 255, 255))
    return np.asarray(picture)
