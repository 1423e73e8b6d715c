"""Every conversion between image pixels, feature cells and ``grid_sample`` coordinates.

Conventions, used everywhere in the package:

* a point is ``(x, y)`` in image pixels, float; integers are pixel *centres*, so the picture spans
  ``[-0.5, width - 0.5]`` and the valid points are ``[0, width - 1]``;
* a size is ``(height, width)``;
* a feature *cell* has its centre at an integer too. A map with ``scale`` cells per pixel and ``margin`` cells
  around the picture holds pixel x at cell ``(x + 0.5) * scale - 0.5 + margin``. This is the half-pixel convention
  of ``F.interpolate(..., align_corners=False)``: sampling the native map here gives exactly what indexing the map
  resized to the picture's size would, at the cost of the points only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Grid", "disc_offsets", "fixed_cells", "inside", "square_offsets"]


@cache
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers on a device, to be read only: bringing them there anew would wait for what the device is doing.

    They stay for good: what was recorded reads them where they are. There are a few for every size of pictures.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a feature map lies over the picture.

    Attributes:
        size: cells ``(height, width)`` of the whole map, margin included.
        scale: cells per image pixel ``(vertical, horizontal)``.
        margin: cells around the picture on every side (StyleGAN3: 10; StyleGAN2: 0).
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    margin: float = 0.0

    def to_cells(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Image pixels ``(x, y)`` to cell coordinates ``(x, y)``."""
        return (points + 0.5) * self.scale_xy(points) - 0.5 + self.margin

    def to_pixels(self, cells: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Cell coordinates ``(x, y)`` to image pixels ``(x, y)``; the inverse of `to_cells`."""
        return (cells - self.margin + 0.5) / self.scale_xy(cells) - 0.5

    def scale_xy(self, like: Tensor) -> Float[Tensor, "2"]:
        """Cells per pixel ``(horizontal, vertical)``, on the device and of the type of another tensor."""
        return _constant((self.scale[1], self.scale[0]), like.dtype, like.device)


def moved_inside(points: Float[Tensor, "*n 2"], size: tuple[int, int]) -> Float[Tensor, "*n 2"]:
    """The points, those that lie off the picture at its nearest pixel; ``(x, y)``, image pixels."""
    low, limit = (_constant(v, points.dtype, points.device) for v in ((0, 0), (size[1] - 1, size[0] - 1)))
    return points.clamp(low, limit)


def inside(points: Float[Tensor, "*n 2"], size: tuple[int, int]) -> Bool[Tensor, "*n"]:
    """Which points lie on the picture, ``0 <= x <= width - 1`` and ``0 <= y <= height - 1``."""
    return (moved_inside(points, size) == points).all(-1)


def disc_offsets(radius: int) -> Float[Tensor, "n 2"]:
    """Integer offsets ``(x, y)`` with ``|offset| < radius``: the patch Omega_1(p, r1) of motion supervision.

    Nearest first, so the first offset is (0, 0).
    """
    square = square_offsets(radius)
    return square[square.norm(dim=-1) < radius]


def square_offsets(radius: int) -> Float[Tensor, "n 2"]:
    """Integer offsets ``(x, y)`` with ``|x|, |y| <= radius``: the window Omega_2(p, r2) of point tracking.

    Nearest first, so that of equally good positions (flat background) a search takes the nearest.
    """
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([x, y], -1).reshape(-1, 2)
    return offsets[offsets.norm(dim=-1).argsort(stable=True)]


def fixed_cells(mask: Bool[Tensor, "height width"], grid: Grid) -> Float[Tensor, "cells_y cells_x"]:
    """How much of every cell's part of the picture is fixed, in [0, 1].

    Args:
        mask: image pixels, True = may change.

    A cell that covers several pixels takes their average, so a one-pixel region still counts; cells of the margin lie
    outside the picture and are not fixed.
    """
    margin = round(grid.margin)
    size = (grid.size[0] - 2 * margin, grid.size[1] - 2 * margin)
    fixed = (~mask).float()[None, None]
    fixed = F.adaptive_avg_pool2d(fixed, size) if size[0] <= mask.shape[0] else F.interpolate(fixed, size)
    return F.pad(fixed, [margin] * 4)[0, 0]
