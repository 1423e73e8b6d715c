"""Bilinear samples of feature maps, or of windows of them, at image points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from draggan.geometry.coordinates import Grid
from draggan.geometry.windows import Windows
from torch_utils.transfer import to_device

__all__ = ["FeatureSampler", "sample"]


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
    return FeatureSampler(features, grid, windows)(points, member)


class FeatureSampler:
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
            self._as_points = constants = to_device(self._constants.to(points.dtype), points.device)
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
