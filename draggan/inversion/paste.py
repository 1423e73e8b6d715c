"""Back into the photo: what was made of a crop replaces it there, and all else stays as it is to the last bit."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from draggan.errors import PhotoError
from draggan.inversion.crop import Crop
from draggan.photo import Photo

__all__ = ["FEATHER", "changed", "paste"]

FEATHER = 0.06
"""Over so much of the crop's width, from its edges inwards, the new picture fades in; not from edges at which the photo
ends, beside which there is nothing to fade into."""
# Differences of the values of bytes, blurred, below and above which a place counts as unchanged and as changed.
_UNCHANGED, _CHANGED = 5.0, 16.0
_STRIP = 256  # rows of the photo that are computed at a time: a photo of 64 megapixels takes no more memory so


def changed(
    before: UInt8[np.ndarray, "height width 3"], after: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "height width"]:
    """How far a place of the model's picture counts as changed, 0 to 1, smoothly.

    Args:
        before: the picture that stands for the photo.
        after: the same after the work on it.
    """
    difference = torch.from_numpy(np.abs(after.astype(np.float32) - before.astype(np.float32)).max(2))[None, None]
    width = difference.shape[-1]
    # Grown by a sixtieth of the width, then smoothed by as much: what moves takes its surroundings with it.
    reach = max(1, round(width / 60))
    grown = F.max_pool2d(_blurred(difference, reach / 2), 2 * reach + 1, 1, reach)
    return _blurred(_smooth((grown - _UNCHANGED) / (_CHANGED - _UNCHANGED)), reach)[0, 0].numpy()


def paste(
    photo: Photo,
    crop: Crop,
    picture: UInt8[np.ndarray, "height width 3"],
    *,
    before: UInt8[np.ndarray, "height width 3"] | None = None,
    mask: Bool[np.ndarray, "height width"] | None = None,
) -> UInt8[np.ndarray, "photo_height photo_width 3"]:
    """The photo with a picture in the place of a crop. The photo keeps its own resolution wherever nothing is pasted.

    Args:
        picture: what is pasted, as the model draws it.
        before: what the model drew of the photo itself: with it, only what has changed is pasted.
        mask: of the drags, True = may change: nothing outside it is pasted.

    Raises:
        PhotoError: the pictures differ in size.
    """
    size = picture.shape[:2]
    for other in (before, mask):
        if other is not None and other.shape[:2] != size:
            raise PhotoError(f"pictures of {list(size)} and {list(other.shape[:2])} pixels cannot be pasted together")
    share = _border(size, crop, photo)
    if before is not None:
        share = share * torch.from_numpy(changed(before, picture))
    if mask is not None:
        share = share * _inside(mask)
    # Four channels, so that both are sampled at the same places.
    layers = torch.cat([torch.tensor(picture).permute(2, 0, 1).float(), 255 * share[None]])[None]
    result = photo.pixels.copy()
    height, width = photo.size
    low = np.maximum(np.floor(crop.corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(crop.corners.max(0)).astype(int) + 1, (width, height))
    if (high <= low).any():
        return result
    for top in range(low[1], high[1], _STRIP):
        rows = slice(top, min(top + _STRIP, high[1]))
        columns = slice(low[0], high[0])
        part = result[rows, columns]
        sampled = _sampled(layers, crop, rows, columns)
        alpha = (sampled[3] / 255).clamp(0, 1)[..., None].numpy()
        new = sampled[:3].permute(1, 2, 0).numpy()
        mixed = (part + alpha * (new - part) + 0.5).clip(0, 255).astype(np.uint8)
        result[rows, columns] = np.where(alpha > 0, mixed, part)
    return result


def _sampled(
    layers: Float[Tensor, "1 channel height width"], crop: Crop, rows: slice, columns: slice
) -> Float[Tensor, "channel rows columns"]:
    """Layers of the crop's picture where these pixels of the photo are; 0 in all of them beyond it."""
    y, x = torch.meshgrid(
        torch.arange(rows.start, rows.stop, dtype=torch.float64),
        torch.arange(columns.start, columns.stop, dtype=torch.float64),
        indexing="ij",
    )
    x, y = x - crop.centre[0], y - crop.centre[1]
    u, v = ((x * axis[0] + y * axis[1]) / (axis[0] ** 2 + axis[1] ** 2) for axis in (crop.right, crop.down))
    at = torch.stack([u, v], -1)[None].float()
    # More of the model's pixels than of the photo's: smaller by averaging first, or what is fine would flicker.
    height, width = layers.shape[-2:]
    scale = min(2 * math.hypot(*crop.right) / width, 2 * math.hypot(*crop.down) / height)
    reduced = max(1, int(1 / scale)) if scale > 0 else 1
    if reduced > 1 and not (height % reduced or width % reduced):
        layers = F.avg_pool2d(layers, reduced)
    colours = F.grid_sample(layers[:, :3], at, mode="bicubic", padding_mode="border", align_corners=False)
    share = F.grid_sample(layers[:, 3:], at, mode="bilinear", padding_mode="border", align_corners=False)
    inside = (at.abs() <= 1).all(-1)[:, None]
    return torch.cat([colours, share * inside], 1)[0]


def _border(size: tuple[int, int], crop: Crop, photo: Photo) -> Float[Tensor, "height width"]:
    """0 at those edges of a picture beside which the photo goes on, 1 from `FEATHER` of its width on inwards."""
    fade = max(1.0, FEATHER * size[1])
    upper_left, upper_right, lower_right, lower_left = crop.corners

    def along(length: int, first: tuple[np.ndarray, np.ndarray], last: tuple[np.ndarray, np.ndarray]) -> Tensor:
        at = torch.arange(length, dtype=torch.float32)
        ways = [way for way, edge in ((at, first), (length - 1 - at, last)) if not _beyond(photo, *edge)]
        return _smooth(torch.stack([torch.full_like(at, fade), *ways]).amin(0) / fade)

    down = along(size[0], (upper_left, upper_right), (lower_left, lower_right))
    across = along(size[1], (upper_left, lower_left), (upper_right, lower_right))
    return down[:, None] * across[None]


def _beyond(photo: Photo, a: Float[np.ndarray, "2"], b: Float[np.ndarray, "2"]) -> bool:
    """Whether a line leaves none of the photo's pixels on its far side, as it runs along an edge or outside of it."""
    height, width = photo.size
    far = np.array([width - 1, height - 1])
    return bool(((a <= 0) & (b <= 0)).any() or ((a >= far) & (b >= far)).any())


def _inside(mask: Bool[np.ndarray, "height width"]) -> Float[Tensor, "height width"]:
    """0 outside a mask and at its edge, 1 a little inwards."""
    fade = max(1, round(FEATHER * mask.shape[1] / 3))
    outside = torch.from_numpy(~mask)[None, None].float()
    # Grown twice as far as is averaged: nothing is left at the mask's edge, also between pixels.
    grown = F.max_pool2d(outside, 4 * fade + 1, 1, 2 * fade)
    near = F.avg_pool2d(F.pad(grown, [fade] * 4, mode="replicate"), 2 * fade + 1, 1)
    return _smooth(1 - near)[0, 0] * (1 - outside[0, 0])


def _smooth(x: Tensor) -> Tensor:
    """From 0 to 1 without a kink."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _blurred(x: Float[Tensor, "1 1 height width"], sigma: float) -> Float[Tensor, "1 1 height width"]:
    reach = max(1, round(2.5 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    bell = torch.exp(-at.square() / (2 * sigma**2))
    bell = bell / bell.sum()
    x = F.pad(x, [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, bell[None, None, None]), bell[None, None, :, None])
