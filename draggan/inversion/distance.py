"""How far a picture is from a photo: pixels and a Laplacian pyramid, every scale alike. Nothing trained is needed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["laplacian_pyramid", "missing_detail", "psnr", "pyramid_distance", "scaled"]

_SMALLEST = 8  # pixels of the pyramid's coarsest picture, at least
_WHITE = 1 - 0.5 / 127.5


def laplacian_pyramid(x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
    """What every scale has that the next coarser one lacks, fine to coarse, and the coarsest picture (Burt and
    Adelson, 1983; with means of 2 x 2 pixels in place of their filter)."""
    bands = []
    while min(x.shape[-2:]) >= 2 * _SMALLEST and not (x.shape[-2] % 2 or x.shape[-1] % 2):
        low = F.avg_pool2d(x, 2)
        bands.append(x - F.interpolate(low, scale_factor=2.0, mode="bilinear"))
        x = low
    return [*bands, x]


def pyramid_distance(
    a: Float[Tensor, "batch channel height width"], b: Float[Tensor, "batch channel height width"]
) -> Tensor:
    """Mean absolute difference of the pixels, and of every band of the pyramid, added up; 0 for the same picture.

    What is brighter or darker than a byte can say is as good as the brightest or darkest: a network draws beyond the
    range, a photo ends there.

    Args:
        a: drawn, nominal range [-1, 1].
        b: the photo, in [-1, 1].
    """
    beyond = ((b >= _WHITE) & (a > b)) | ((b <= -_WHITE) & (a < b))
    difference = torch.where(beyond, 0.0, a - b)
    total = difference.abs().mean()
    for band in laplacian_pyramid(difference):
        total = total + band.abs().mean()
    return total


@torch.no_grad()
def missing_detail(a: Float[Tensor, "1 channel height width"], b: Float[Tensor, "1 channel height width"]) -> float:
    """How much of what is to be seen in a photo is missing or wrong, as a share of it: 0 for the same picture, about 1
    for a grey one. Of the pyramid's bands without its coarsest picture, every band alike.

    Args:
        a: drawn.
        b: the photo.
    """
    pairs = zip(laplacian_pyramid((a - b).clamp(-2, 2))[:-1], laplacian_pyramid(b)[:-1], strict=True)
    shares = [float(wrong.abs().mean() / there.abs().mean().clamp(min=1e-3)) for wrong, there in pairs]
    return sum(shares) / max(1, len(shares))


def psnr(a: Float[Tensor, "1 channel height width"], b: Float[Tensor, "1 channel height width"]) -> float:
    """Peak signal-to-noise ratio of values in [-1, 1], dB; 100 at most."""
    error = float((a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean())
    return 100.0 if error <= 4e-10 else 10 * math.log10(4 / error)


def scaled(
    picture: Float[Tensor, "batch channel height width"], size: torch.Size | tuple[int, int]
) -> Float[Tensor, "batch channel _ _"]:
    """The picture at another size, without aliasing."""
    size = (int(size[0]), int(size[1]))
    if tuple(picture.shape[-2:]) == size:
        return picture
    if size[0] < picture.shape[-2]:
        return F.interpolate(picture, size, mode="area")
    return F.interpolate(picture, size, mode="bilinear")
