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

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Atlas",
    "Grid",
    "Windows",
    "brought",
    "cells_inside",
    "cover",
    "crop",
    "disc_offsets",
    "fixed_cells",
    "inside",
    "sample",
    "square_offsets",
    "write",
]


@lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers on a device, to be read only: bringing them there anew would wait for what the device is doing."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def brought(t: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for what the device is doing.

    Not on Apple's: there the copy is still being read when the tensor may be gone (PyTorch issue 189690).
    """
    return _page_locked(t, device).to(device, non_blocking=device.type != "mps")


def write(buffer: Tensor, t: Tensor) -> None:
    """Copy a tensor of the host into one on a device, without waiting for what the device is doing."""
    buffer.copy_(_page_locked(t, buffer.device), non_blocking=buffer.device.type != "mps")


def _page_locked(t: Tensor, device: torch.device) -> Tensor:
    """In memory that a CUDA device reads itself: from other memory, a copy may wait until the device is idle.

    PyTorch keeps such memory, and gives it to nobody else before the device has read it.
    """
    return t.pin_memory() if device.type == "cuda" and t.device.type == "cpu" else t


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
        return (points + 0.5) * self._scale_xy(points) - 0.5 + self.margin

    def to_pixels(self, cells: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Cell coordinates ``(x, y)`` to image pixels ``(x, y)``; the inverse of `to_cells`."""
        return (cells - self.margin + 0.5) / self._scale_xy(cells) - 0.5

    def _scale_xy(self, like: Tensor) -> Tensor:
        return _constant((self.scale[1], self.scale[0]), like.dtype, like.device)


@dataclass(frozen=True)
class Windows:
    """Rectangles of one size on a feature map, which may stick out of it.

    Attributes:
        origins: first cell ``(y, x)`` of every window; may be negative.
        size: cells ``(height, width)``.
    """

    origins: tuple[tuple[int, int], ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.origins)

    def grown(self, before: int, after: int) -> Windows:
        """Windows with that many more cells on the top and left, and on the bottom and right."""
        return Windows(
            tuple((y - before, x - before) for y, x in self.origins),
            (self.size[0] + before + after, self.size[1] + before + after),
        )

    def inside(self, size: tuple[int, int]) -> bool:
        """Whether every window lies on a map of this size completely."""
        return all(
            min(y, x) >= 0 and y + self.size[0] <= size[0] and x + self.size[1] <= size[1] for y, x in self.origins
        )


def sample(
    features: Float[Tensor, "k channel height width"],
    grid: Grid,
    points: Float[Tensor, "*n 2"],
    windows: Windows | None = None,
    member: Int[Tensor, "*n"] | None = None,
) -> Float[Tensor, "*n channel"]:
    """Bilinear samples of a feature map, or of windows of it, at image points.

    Beyond the outermost cell centres of the map the border value continues, as it does in ``F.interpolate``: the last
    pixel of a picture lies up to half a cell outside them. Differentiable in the features and in the points.

    Args:
        features: the whole map (``k`` = 1), or ``k`` windows of it.
        windows: where the windows lie; None for the whole map.
        member: which window each point is in; None: all in the first. A point must lie in its window; what comes back
            for one that does not is finite and meaningless.
    """
    return Atlas(features, grid, windows)(points, member)


class Atlas:
    """`sample` of the same features again and again: what does not depend on the points is computed once.

    Args:
        features, grid, windows: as for `sample`.
    """

    def __init__(
        self, features: Float[Tensor, "k channel height width"], grid: Grid, windows: Windows | None = None
    ) -> None:
        k, channels, height, width = features.shape
        # The windows stacked in a column make one map, so one call samples them all.
        self._map = features.transpose(0, 1).reshape(1, channels, k * height, width)
        (rows, columns), (vertical, horizontal) = grid.size, grid.scale
        tall = k * height
        # A point p lies at cell p * scale + shift, and no farther out than the outermost cells; and grid_sample has
        # cell i of a map of n cells at (2 i + 1) / n - 1, with align_corners=False.
        constants = [
            (horizontal, vertical),
            (0.5 * horizontal - 0.5 + grid.margin, 0.5 * vertical - 0.5 + grid.margin),
            (0.0, 0.0),
            (columns - 1, rows - 1),
            (2 / width, 2 / tall),
        ]
        origins = ((0, 0),) if windows is None else windows.origins
        constants += [
            ((1 - 2 * x) / width - 1, (1 - 2 * (y - i * height)) / tall - 1) for i, (y, x) in enumerate(origins)
        ]
        self._constants = torch.tensor(constants, dtype=torch.float64)
        self._as_points: Tensor | None = None

    def __call__(
        self, points: Float[Tensor, "*n 2"], member: Int[Tensor, "*n"] | None = None
    ) -> Float[Tensor, "*n channel"]:
        constants = self._as_points
        if constants is None or constants.dtype != points.dtype or constants.device != points.device:
            self._as_points = constants = brought(self._constants.to(points.dtype), points.device)
        scale, shift, low, high, factor, origin = constants[:6].unbind()
        if len(constants) > 6 and member is not None:
            origin = constants[5:][member]
        at = torch.addcmul(origin, torch.addcmul(shift, points, scale).clamp(low, high), factor)
        out = F.grid_sample(
            self._map,
            at.reshape(1, 1, -1, 2).to(self._map.dtype),
            mode="bilinear",
            padding_mode="zeros",  # the cells are clamped already, and not every device has "border"
            align_corners=False,
        )
        return out.reshape(-1, *points.shape[:-1]).movedim(0, -1)


def inside(points: Float[Tensor, "*n 2"], size: tuple[int, int]) -> Bool[Tensor, "*n"]:
    """Which points lie on the picture, ``0 <= x <= width - 1`` and ``0 <= y <= height - 1``."""
    low, limit = (_constant(v, points.dtype, points.device) for v in ((0, 0), (size[1] - 1, size[0] - 1)))
    # On the picture is what clamping leaves where it is.
    return (points.clamp(low, limit) == points).all(-1)


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


def crop(
    features: Float[Tensor, "one_or_n channel height width"], windows: Windows
) -> Float[Tensor, "n channel window_height window_width"]:
    """Windows of a map (or of one map each); cells outside the map are zero."""
    return _Crop.apply(features, windows)


class _Crop(torch.autograd.Function):
    """One copy there and one back, where slices, padding and stacking would each make a copy of their own."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, windows: Windows) -> Tensor:
        ctx.windows, ctx.size = windows, (features.shape[0], features.shape[2], features.shape[3])
        out = _empty(features, len(windows), *windows.size, zero=not windows.inside(ctx.size[1:]))
        for i, (there, here) in enumerate(_overlaps(windows, ctx.size[1:])):
            out[i, :, here[0], here[1]] = features[i if len(features) > 1 else 0, :, there[0], there[1]]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Uncrop.apply(gradient, ctx.windows, ctx.size), None


class _Uncrop(torch.autograd.Function):
    """The adjoint of `_Crop`: windows added into zeros."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, windows: Windows, size: tuple[int, int, int]) -> Tensor:
        ctx.windows = windows
        out = _empty(gradient, *size, zero=True)
        for i, (there, here) in enumerate(_overlaps(windows, size[1:])):
            out[i if size[0] > 1 else 0, :, there[0], there[1]] += gradient[i, :, here[0], here[1]]
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Crop.apply(gradient, ctx.windows), None, None


def _overlaps(windows: Windows, size: tuple[int, int]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """For every window the rows and columns that it shares with a map of this size: on the map, and in the window."""
    for origin in windows.origins:
        there, here = [], []
        for first, extent, limit in zip(origin, windows.size, size, strict=True):
            low, high = max(first, 0), max(min(first + extent, limit), max(first, 0))
            there.append(slice(low, high))
            here.append(slice(low - first, high - first))
        yield (there[0], there[1]), (here[0], here[1])


def _empty(like: Tensor, count: int, height: int, width: int, *, zero: bool) -> Tensor:
    """A batch of maps with the channels of another, laid out in memory as that one is."""
    make = like.new_zeros if zero else like.new_empty
    if like.shape[1] > 1 and like.is_contiguous(memory_format=torch.channels_last):
        return make(count, height, width, like.shape[1]).permute(0, 3, 1, 2)
    return make(count, like.shape[1], height, width)


def cells_inside(windows: Windows, size: tuple[int, int], device: torch.device) -> Bool[Tensor, "n 1 height width"]:
    """Which cells of the windows lie on a map of this size."""
    origins = torch.tensor(windows.origins, device=device)
    y = origins[:, :1] + torch.arange(windows.size[0], device=device)
    x = origins[:, 1:] + torch.arange(windows.size[1], device=device)
    valid_y, valid_x = (y >= 0) & (y < size[0]), (x >= 0) & (x < size[1])
    return (valid_y[:, :, None] & valid_x[:, None, :])[:, None]


def cover(points: Float[Tensor, "n 2"], reach: float, grid: Grid, halo: int = 8) -> tuple[Windows, Int[Tensor, "n"]]:
    """Windows of one size that hold every point with everything up to ``reach`` pixels around it.

    Points near each other share a window where one larger window costs less than several small ones; the cost of a
    window is its area with a ``halo`` of cells around it, which the layers below the wanted level need.
    Windows lie on the map: one near the border is moved inside.

    Returns:
        The windows, and for every point the index of its window.
    """
    # The one thing about a step that has to be known before its work can be given to a device.
    cells = grid.to_cells(points.detach().cpu())
    away = reach * _constant((grid.scale[1], grid.scale[0]), cells.dtype, cells.device)
    low = torch.floor(cells - away).flip(-1).int().tolist()
    # One cell for the fraction that floor cut off, one for the second tap of the bilinear sample.
    size = tuple(min(math.ceil(2 * v) + 2, limit) for v, limit in zip(away.flip(-1).tolist(), grid.size, strict=True))
    boxes = [(min(max(y, 0), grid.size[0] - size[0]), min(max(x, 0), grid.size[1] - size[1])) for y, x in low]
    best: tuple[float, Windows, list[int]] | None = None
    for grow in (0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96):
        wide = (min(size[0] + grow, grid.size[0]), min(size[1] + grow, grid.size[1]))
        groups: list[list[int]] = []  # y0, x0, y1, x1 of the first cells of the boxes in it
        member = []
        for y, x in boxes:
            for g, (y0, x0, y1, x1) in enumerate(groups):
                merged = [min(y0, y), min(x0, x), max(y1, y), max(x1, x)]
                if merged[2] - merged[0] + size[0] <= wide[0] and merged[3] - merged[1] + size[1] <= wide[1]:
                    groups[g] = merged
                    member.append(g)
                    break
            else:
                member.append(len(groups))
                groups.append([y, x, y, x])
        cost = len(groups) * (wide[0] + halo) * (wide[1] + halo)
        if best is None or cost < best[0]:
            origins = tuple((min(g[0], grid.size[0] - wide[0]), min(g[1], grid.size[1] - wide[1])) for g in groups)
            best = cost, Windows(origins, wide), member
        if len(groups) == 1:
            break
    assert best is not None
    return best[1], brought(torch.tensor(best[2]), points.device)
