"""Windows of a feature map: which are needed, how they are cut out, and the adjoint; for every generator family.

A drag looks at a few cells around each handle, so most of a feature map need not be computed. `cover` groups what is
looked at into windows, `crop` cuts them out of a map. The fast passes of the generators need the same without automatic
differentiation: a `WindowCrop` cuts, and brings a gradient back to the map. There are two, by who knows where the
windows are: the host (`SlicedCrop`, one copy per window or none at all), or the device alone (`IndexedCrop`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from draggan.geometry.coordinates import Grid
from torch_utils.nonzero import nonzero_extent
from torch_utils.transfer import to_device, to_host

__all__ = [
    "Box",
    "IndexedCrop",
    "Rectangle",
    "SlicedCrop",
    "WindowCrop",
    "Windows",
    "cells_as_rows",
    "cells_inside",
    "cheapest_grouping",
    "cover",
    "crop",
    "nonzero_support",
]

# First row, first column, last row + 1, last column + 1.
Box: TypeAlias = tuple[int, int, int, int]


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


@dataclass(frozen=True)
class Rectangle:
    """Rows ``top .. bottom - 1`` and columns ``left .. right - 1``, the same of all maps of a batch."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def all_of(cls, size: tuple[int, int]) -> Rectangle:
        """The whole of maps of this size."""
        return cls(0, size[0], 0, size[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def of(self, x: Tensor) -> Tensor:
        """That part of a batch of maps, a view."""
        if tuple(x.shape[2:]) == self.size:
            return x
        return x[:, :, self.top : self.bottom, self.left : self.right]

    def moved(self, y: int, x: int) -> Rectangle:
        """The same so many cells farther down and to the right."""
        return Rectangle(self.top + y, self.bottom + y, self.left + x, self.right + x)


def nonzero_support(gradient: Float[Tensor, "n channel height width"]) -> Rectangle | None:
    """The rectangle outside which a gradient is zero in every window; None if it is zero everywhere.

    On other devices than the host all of it: looking would wait for the device.
    """
    if gradient.device.type != "cpu":
        return Rectangle.all_of((gradient.shape[2], gradient.shape[3]))
    extent = nonzero_extent(gradient)
    return None if extent is None else Rectangle(*extent)


# ------------------------------------------------------------------------------------------------------------- cutting


class WindowCrop(abc.ABC):
    """Windows cut out of maps, and the adjoint; for passes that compute their gradients themselves."""

    @abc.abstractmethod
    def of(self, x: Tensor, *, copy: bool = False) -> Tensor:
        """``[maps, channel, *map]`` to ``[n, channel, height, width]`` for n windows; cells outside the map are zero.

        Args:
            copy: not a view of a part of ``x``, all of which would be kept as long as the result is.
        """

    @abc.abstractmethod
    def adjoint(self, gradient: Tensor, part: Rectangle, maps: int) -> tuple[Tensor, Rectangle | None]:
        """From a gradient to the windows to one to the maps.

        Args:
            gradient: to a part of every window, outside which it is zero.
            part: which part.
            maps: how many maps there are.

        Returns:
            The gradient to a part of every map, and which part: outside it is zero. None: it is zero everywhere.
        """


class SlicedCrop(WindowCrop):
    """Windows at positions that the host knows: a view of the maps where it can be, else one copy per window.

    Args:
        windows: what to cut out.
        size: height and width of the whole map.
        source: where on the whole map the given maps lie, which are windows themselves; None: each is the whole map.
        member: for every window the number of the map that it is cut from. None: the only map there is; where there are
            as many as windows, its own.
        channels_last: results are in that order of memory whatever the order of the maps; else in that of the maps.
    """

    def __init__(
        self,
        windows: Windows,
        size: tuple[int, int],
        *,
        source: Windows | None = None,
        member: Sequence[int] | None = None,
        channels_last: bool = True,
    ) -> None:
        self._windows, self._size, self.member, self._channels_last = windows, size, member, channels_last
        self._origins = None if source is None else source.origins
        self._source_size = size if source is None else source.size
        # Of whole windows, by the number of maps.
        self._overlaps_of_all: dict[int, list[tuple[int, Rectangle, Rectangle] | None]] = {}

    def of(self, x: Tensor, *, copy: bool = False) -> Tensor:
        """See `WindowCrop.of`."""
        n, (height, width), maps = len(self._windows), self._windows.size, len(x)
        overlaps = self._overlaps_of_all.get(maps)
        if overlaps is None:
            self._overlaps_of_all[maps] = overlaps = self._overlaps(Rectangle.all_of((height, width)), maps)
        alike = _alike(overlaps, maps)
        if alike is not None and alike[1].size == (height, width):
            view = alike[0].of(x)
            return view.clone() if copy and view is not x else view
        filled = all(e is not None and e[2].size == (height, width) for e in overlaps)
        out = self._map_like(x, n, (height, width), zero=not filled)
        for i, e in enumerate(overlaps):
            if e is not None:
                k, there, here = e
                out[i, :, here.top : here.bottom, here.left : here.right] = x[
                    k, :, there.top : there.bottom, there.left : there.right
                ]
        return out

    def adjoint(self, gradient: Tensor, part: Rectangle, maps: int) -> tuple[Tensor, Rectangle | None]:
        """See `WindowCrop.adjoint`."""
        overlaps = self._overlaps(part, maps)
        reached = [e[1] for e in overlaps if e is not None]
        if not reached:
            return gradient, None
        alike = _alike(overlaps, maps)
        if alike is not None:
            return alike[1].of(gradient), alike[0]
        top, left = min(r.top for r in reached), min(r.left for r in reached)
        bottom, right = max(r.bottom for r in reached), max(r.right for r in reached)
        out = self._map_like(gradient, maps, (bottom - top, right - left), zero=True)
        for i, e in enumerate(overlaps):
            if e is not None:
                k, there, here = e
                out[k, :, there.top - top : there.bottom - top, there.left - left : there.right - left] += gradient[
                    i, :, here.top : here.bottom, here.left : here.right
                ]
        return out, Rectangle(top, bottom, left, right)

    def _overlaps(self, part: Rectangle, maps: int) -> list[tuple[int, Rectangle, Rectangle] | None]:
        """For the part of every window that lies on a map: which map, where on it, where in the part; None: nowhere."""
        windows, (rows, columns), (height, width) = self._windows, self._size, self._source_size
        member = self.member
        if member is None:
            member = range(maps) if maps > 1 else (0,) * len(windows)
        found: list[tuple[int, Rectangle, Rectangle] | None] = []
        for (y, x), k in zip(windows.origins, member, strict=True):
            first, left = (0, 0) if self._origins is None else self._origins[k]
            y, x = y + part.top, x + part.left
            a, b = max(y, first, 0), min(y + part.bottom - part.top, first + height, rows)
            c, d = max(x, left, 0), min(x + part.right - part.left, left + width, columns)
            if a < b and c < d:
                there = Rectangle(a - first, b - first, c - left, d - left)
                found.append((k, there, Rectangle(a - y, b - y, c - x, d - x)))
            else:
                found.append(None)
        return found

    def _map_like(self, like: Tensor, count: int, size: tuple[int, int], *, zero: bool) -> Tensor:
        make = like.new_zeros if zero else like.new_empty
        channels = like.shape[1]
        if self._channels_last or (channels > 1 and like.is_contiguous(memory_format=torch.channels_last)):
            return make(count, *size, channels).permute(0, 3, 1, 2)
        return make(count, channels, *size)


def _alike(
    overlaps: Sequence[tuple[int, Rectangle, Rectangle] | None], maps: int
) -> tuple[Rectangle, Rectangle] | None:
    """The part of every map and of every window that overlap, if it is the same of all, each window on its own map."""
    first = overlaps[0] if overlaps else None
    if first is None or len(overlaps) != maps:
        return None
    same = all(e is not None and e[0] == k and e[1:] == first[1:] for k, e in enumerate(overlaps))
    return first[1:] if same else None


class IndexedCrop(WindowCrop):
    """Windows at positions that are data on the device, where the host cannot know them.

    Args:
        index: number of the cell that each cell of the windows takes, one window after the other, row by row; maps are
            numbered likewise (`cells_as_rows`).
        mask: ``[cells, 1]``, 1 for cells on the map and 0 for others; None: all are on the map.
        windows: height and width of the windows.
        size: height and width of the map.
    """

    def __init__(self, index: Tensor, mask: Tensor | None, windows: tuple[int, int], size: tuple[int, int]) -> None:
        self._index, self._mask, self._windows, self._size = index, mask, windows, size

    def of(self, x: Tensor, *, copy: bool = False) -> Tensor:
        """See `WindowCrop.of`."""
        out = cells_as_rows(x).index_select(0, self._index)
        if self._mask is not None:
            out.mul_(self._mask)
        return out.view(-1, *self._windows, x.shape[1]).permute(0, 3, 1, 2)

    def adjoint(self, gradient: Tensor, part: Rectangle, maps: int) -> tuple[Tensor, Rectangle]:
        """See `WindowCrop.adjoint`; takes a gradient to whole windows and gives one to whole maps."""
        height, width = self._size
        values = cells_as_rows(gradient)
        whole = gradient.new_zeros(maps * height * width, gradient.shape[1])
        whole.index_add_(0, self._index, values if self._mask is None else values * self._mask)
        return whole.view(maps, height, width, -1).permute(0, 3, 1, 2), Rectangle.all_of(self._size)


def cells_as_rows(x: Tensor) -> Tensor:
    """A map as one row of channels per cell, ``[n * height * width, channel]``."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def crop(
    features: Float[Tensor, "one_or_n channel height width"], windows: Windows
) -> Float[Tensor, "n channel window_height window_width"]:
    """Windows of a map (or of one map each); cells outside the map are zero."""
    return _Crop.apply(features, windows)


class _Crop(torch.autograd.Function):
    """`crop`; its gradient is `_Uncrop`, and so on."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, windows: Windows) -> Tensor:
        ctx.windows, ctx.size = windows, (features.shape[0], features.shape[2], features.shape[3])
        out = SlicedCrop(windows, ctx.size[1:], channels_last=False).of(features, copy=True)
        return out.clone() if out is features else out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Uncrop.apply(gradient, ctx.windows, ctx.size), None


class _Uncrop(torch.autograd.Function):
    """The adjoint of `_Crop`: windows added into zeros."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, windows: Windows, size: tuple[int, int, int]) -> Tensor:
        ctx.windows, (maps, height, width) = windows, size
        cut = SlicedCrop(windows, (height, width), channels_last=False)
        part, reached = cut.adjoint(gradient, Rectangle.all_of(windows.size), maps)
        out = gradient.new_zeros(maps, gradient.shape[1], height, width)
        if gradient.is_contiguous(memory_format=torch.channels_last):
            out = out.contiguous(memory_format=torch.channels_last)
        if reached is not None:
            reached.of(out).copy_(part)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Crop.apply(gradient, ctx.windows), None, None


def cells_inside(windows: Windows, size: tuple[int, int], device: torch.device) -> Bool[Tensor, "n 1 height width"]:
    """Which cells of the windows lie on a map of this size."""
    origins = to_device(torch.tensor(windows.origins), device)
    y = origins[:, :1] + torch.arange(windows.size[0], device=device)
    x = origins[:, 1:] + torch.arange(windows.size[1], device=device)
    valid_y, valid_x = (y >= 0) & (y < size[0]), (x >= 0) & (x < size[1])
    return (valid_y[:, :, None] & valid_x[:, None, :])[:, None]


# ------------------------------------------------------------------------------------------------------------ grouping

# By how many cells windows may grow so that several become one.
_GROWTH = (0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)


def cheapest_grouping(
    boxes: Sequence[Box],
    size: tuple[int, int],
    evaluate: Callable[[Sequence[Box], tuple[int, int]], tuple[float, Windows]],
    *,
    most: int = _GROWTH[-1],
) -> tuple[Windows, tuple[int, ...]]:
    """Windows over boxes, such that boxes near each other share one where that costs less.

    Args:
        boxes: what has to be covered.
        size: height and width of the largest box.
        evaluate: what groups of boxes cost, and the windows over them; it is told the size that no group exceeds.
        most: by how many cells windows may grow at most.

    Returns:
        The windows, and for every box the number of its window.
    """
    best: tuple[float, Windows, tuple[int, ...]] | None = None
    for growth in _GROWTH:
        if growth > most:
            break
        limit = size[0] + growth, size[1] + growth
        groups, member = _group(boxes, limit)
        cost, windows = evaluate(groups, limit)
        if best is None or cost < best[0]:
            best = cost, windows, member
        if len(groups) == 1:
            break
    assert best is not None
    return best[1], best[2]


def _group(boxes: Sequence[Box], limit: tuple[int, int]) -> tuple[list[Box], tuple[int, ...]]:
    """Boxes around boxes, none larger than ``limit`` unless one of the given ones is, and which of them holds each.

    Greedy: a box joins the first group that it fits in.
    """
    groups: list[Box] = []
    member = []
    for box in boxes:
        for k, group in enumerate(groups):
            both = (min(group[0], box[0]), min(group[1], box[1]), max(group[2], box[2]), max(group[3], box[3]))
            if both[2] - both[0] <= limit[0] and both[3] - both[1] <= limit[1]:
                groups[k] = both
                member.append(k)
                break
        else:
            member.append(len(groups))
            groups.append(box)
    return groups, tuple(member)


def cover(
    points: Float[Tensor, "n 2"],
    reach: float,
    grid: Grid,
    halo: int = 8,
    device: torch.device | None = None,
) -> tuple[Windows, Int[Tensor, "n"]]:
    """Windows of one size that hold every point with everything up to ``reach`` pixels around it.

    Points near each other share a window where one larger window costs less than several small ones; the cost of a
    window is its area with a ``halo`` of cells around it, which the layers below the level of the map need.
    Windows lie on the map: one near the border is moved inside.

    Args:
        device: for the indices; None: that of the points.

    Returns:
        The windows, and for every point the index of its window.
    """
    # The one thing about a step that has to be known before its work can be given to a device.
    (known,) = to_host(points)
    cells = grid.to_cells(known)
    away = reach * grid.scale_xy(cells)
    low = torch.floor(cells - away).flip(-1).int().tolist()
    rows, columns = grid.size
    # One cell for the fraction that floor cut off, one for the second tap of the bilinear sample.
    height, width = (
        min(math.ceil(2 * v) + 2, limit) for v, limit in zip(away.flip(-1).tolist(), grid.size, strict=True)
    )
    origins = [(min(max(y, 0), rows - height), min(max(x, 0), columns - width)) for y, x in low]

    def evaluate(groups: Sequence[Box], limit: tuple[int, int]) -> tuple[float, Windows]:
        tall, wide = min(limit[0], rows), min(limit[1], columns)
        windows = Windows(tuple((min(g[0], rows - tall), min(g[1], columns - wide)) for g in groups), (tall, wide))
        return len(groups) * (tall + halo) * (wide + halo), windows

    boxes = [(y, x, y + height, x + width) for y, x in origins]
    windows, member = cheapest_grouping(boxes, (height, width), evaluate, most=96)
    return windows, to_device(torch.tensor(member), device or points.device)
