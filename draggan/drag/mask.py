"""The region that a mask fixes, whole or as random windows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from draggan.geometry import Windows, crop

__all__ = ["FixedRegion", "Tiles"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiles:
    """Random windows of the fixed region. ``scale * mask_loss(windows, kept, fixed)`` estimates the whole loss.

    Attributes:
        windows: where they are.
        kept, fixed: the parts of `FixedRegion.kept` and `FixedRegion.fixed` in them.
        scale: makes the estimate unbiased.
    """

    windows: Windows
    kept: Float[Tensor, "n channel height width"]
    fixed: Float[Tensor, "n 1 height width"]
    scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedRegion:
    """What a drag must not change.

    Attributes:
        fixed: 1 - M per cell of the feature map, in [0, 1].
        kept: F_0, the features to keep.
    """

    fixed: Float[Tensor, "1 1 height width"]
    kept: Float[Tensor, "1 channel height width"]

    def tiles(self, size: tuple[int, int], count: int, random: np.random.Generator) -> Tiles:
        """Draw ``count`` windows that contain fixed cells (or all there are, if fewer).

        The map is cut into tiles of ``size`` at a random offset, so every cell lies in exactly one tile; of the n tiles
        with fixed cells m are drawn without replacement. The loss over the whole map is the sum over those tiles, so
        n / m times the sum over the drawn ones has it as its expectation.
        """
        height, width = self.fixed.shape[-2:]
        shift_y, shift_x = random.integers(size[0]), random.integers(size[1])
        origins = [
            (int(y), int(x))
            for y in range(-shift_y, height, size[0])
            for x in range(-shift_x, width, size[1])
            if self.fixed[0, 0, max(y, 0) : y + size[0], max(x, 0) : x + size[1]].any()
        ]
        chosen = random.choice(len(origins), min(count, len(origins)), replace=False)
        windows = Windows(tuple(origins[i] for i in chosen), size)
        # mask_loss takes the mean over the tiles; the whole loss is a mean over the map.
        area = len(windows) * size[0] * size[1]
        return Tiles(
            windows=windows,
            kept=crop(self.kept, windows),
            fixed=crop(self.fixed, windows),
            scale=len(origins) / len(windows) * area / (height * width),
        )
