"""The region that a mask fixes, whole or as random windows of it, and what its change is measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.precision import compute_features, compute_picture_features
from draggan.generators.base import Generator, Latent
from draggan.generators.blending import Picture
from draggan.geometry import Grid, Windows, crop

__all__ = ["FixedRegion", "MaskView", "Tiles"]


@dataclass(frozen=True, kw_only=True)
class MaskView:
    """What a change outside the mask is measured on.

    Attributes:
        level: a feature level.
        picture: measure the picture that the network has drawn by then, not the features.
    """

    level: str
    picture: bool

    def grid(self, generator: Generator) -> Grid:
        """How it lies over the picture."""
        grid = generator.grid(self.level)
        return Grid(size=grid.size, scale=grid.scale) if self.picture else grid

    def compute(self, generator: Generator, ws: Latent, dtype: torch.dtype) -> Float[Tensor, "n channel height width"]:
        """Computed in that type, returned as float32."""
        if not self.picture:
            return compute_features(generator, ws, self.level, dtype)
        with torch.autocast(generator.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return generator.preview(ws, generator.grid(self.level).size[0]).float()

    def compute_picture(
        self, generator: Generator, picture: Picture, dtype: torch.dtype
    ) -> Float[Tensor, "1 channel height width"]:
        """Likewise of a picture that may be a blended one."""
        if picture.mask is None or picture.base is None:
            return self.compute(generator, picture.ws, dtype)
        if not self.picture:
            return compute_picture_features(generator, picture, self.level, dtype)
        blend = generator.blend(picture.mask, picture.base)
        with torch.autocast(generator.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return blend.preview(picture.ws, generator.grid(self.level).size[0]).float()


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
