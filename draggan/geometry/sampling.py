"""Bilinear samples of feature maps, or of windows of them, at image points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from draggan.geometry.coordinates import Grid
from draggan.geometry.windows import Windows
from torch_utils.transfer import to_device

__all__ = ["FeatureSampler", "WindowSampler", "sample"]


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
    return FeatureSampler.of(features, grid, windows)(points, member)


@dataclass(frozen=True, eq=False)
class FeatureSampler:
    """`sample` of the same features again and again: what does not depend on the points is computed once.

    It is data alone, so that what samples features can be recorded wherever they are (`torch_utils.recorder`).

    Attributes:
        cells: the features; windows stacked in a column make one map, so that one call samples them all.
        constants: from points to coordinates in that map: scale, shift, least and greatest cell, factor, and for each
            window where it begins.
    """

    cells: Float[Tensor, "1 channel tall width"]
    constants: Float[Tensor, "_ 2"]

    @classmethod
    def of(
        cls, features: Float[Tensor, "k channel height width"], grid: Grid, windows: Windows | None = None
    ) -> FeatureSampler:
        """Of a whole map or windows of it; arguments as for `sample`."""
        k, channels, height, width = features.shape
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
        dtype = torch.promote_types(features.dtype, torch.float32)
        return cls(
            features.transpose(0, 1).reshape(1, channels, tall, width),
            to_device(torch.tensor(constants, dtype=dtype), features.device),
        )

    def of_cells(self, cells: Float[Tensor, "1 channel tall width"]) -> FeatureSampler:
        """The same places of other features."""
        return FeatureSampler(cells, self.constants)

    def __call__(
        self, points: Float[Tensor, "*n 2"], member: Int[Tensor, "*n"] | None = None
    ) -> Float[Tensor, "*n channel"]:
        """Features at image points; ``member`` as for `sample`."""
        constants = self.constants.to(points.dtype)
        scale, shift, low, high, factor, origin = constants[:6].unbind()
        if len(constants) > 6 and member is not None:
            origin = constants[5:][member]
        at = torch.addcmul(origin, torch.addcmul(shift, points, scale).clamp(low, high), factor)
        out = F.grid_sample(
            self.cells,
            at.reshape(1, 1, -1, 2).to(self.cells.dtype),
            mode="bilinear",
            padding_mode="zeros",  # the cells are clamped already, and not every device has "border"
            align_corners=False,
        )
        return out.reshape(-1, *points.shape[:-1]).movedim(0, -1)


@dataclass(frozen=True, eq=False)
class WindowSampler:
    """Samples of windows around places, one window or a part of one for each.

    Attributes:
        sampler: of all windows.
        member: which window each place is in.
    """

    sampler: FeatureSampler
    member: Int[Tensor, "n"]

    @property
    def cells(self) -> Float[Tensor, "1 channel tall width"]:
        """See `FeatureSampler`."""
        return self.sampler.cells

    def of_cells(self, cells: Float[Tensor, "1 channel tall width"]) -> WindowSampler:
        """The same places of other features."""
        return WindowSampler(self.sampler.of_cells(cells), self.member)

    def __call__(self, points: Float[Tensor, "n *p 2"]) -> Float[Tensor, "n *p channel"]:
        """Features at points around each of the places."""
        member = self.member.reshape(-1, *(1,) * (points.ndim - 2)).expand(points.shape[:-1])
        return self.sampler(points, member)
