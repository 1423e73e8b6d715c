"""Generators whose answers are known: the tests' stand-ins for a trained model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draggan.generators.base import Generator, Latent, latent_rows
from draggan.geometry import Grid


class BumpGenerator(Generator):
    """Bumps whose centres are linear functions of the latent: content that a drag can move exactly.

    Bump k has its centre at ``start[k] + gain * (w[2k], w[2k + 1])`` image pixels, averaged over the first
    ``moving_rows`` rows. Its features are the bump's height and its two first moments, which tell every
    position around the centre apart, as a trained network's features do.

    Args:
        start: centres at latent 0, image pixels.
        limit: no bump moves farther than this from there, image pixels, whatever the latent says.
        decoys: centres of bumps that look like the first one and never move.
        curtain: whatever lies at this x or beyond is hidden, image pixels.
    """

    family = "bump"

    def __init__(
        self,
        start: list[tuple[float, float]],
        *,
        size: tuple[int, int] = (64, 64),
        limit: float | None = None,
        decoys: Sequence[tuple[float, float]] = (),
        curtain: float | None = None,
    ) -> None:
        super().__init__()
        self.limit, self.decoys, self.curtain = limit, decoys, curtain
        self.image_size = size
        self.num_ws, self.w_dim, self.z_dim, self.c_dim = 8, max(2 * len(start), 4), max(2 * len(start), 4), 0
        self.moving_rows = 6
        self.levels = ("map",)
        self.scale = 0.5
        self.gain = 100.0
        self.radius = 6.0
        self.register_buffer("start", torch.tensor(start))

    def mapping(self, z: Tensor, c=None, truncation_psi: float = 1.0, truncation_cutoff=None) -> Tensor:
        return (z * truncation_psi)[:, None].repeat(1, self.num_ws, 1)

    def centres(self, ws: Latent) -> Tensor:
        w = torch.stack(list(latent_rows(ws))[: self.moving_rows]).mean(0)
        moved = self.gain * w[:, : 2 * len(self.start)].reshape(len(w), -1, 2)
        if self.limit is not None:
            moved = self.limit * torch.tanh(moved / self.limit)
        return self.start + moved

    def _render(self, ws: Latent, grid: Grid) -> Tensor:
        height, width = grid.size
        y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
        pixels = grid.to_pixels(torch.stack([x, y], -1))
        delta = (pixels - self.centres(ws)[:, :, None, None]) / self.radius
        height_of = torch.exp(-delta.square().sum(-1) / 2)
        channels = [height_of, height_of * delta[..., 0], height_of * delta[..., 1]]
        for decoy in self.decoys:
            away = (pixels - torch.tensor(decoy)) / self.radius
            like = torch.exp(-away.square().sum(-1) / 2)
            alike = (like, like * away[..., 0], like * away[..., 1])
            channels = [
                torch.cat([channel[:, :1] + more, channel[:, 1:]], 1)
                for channel, more in zip(channels, alike, strict=True)
            ]
        out = torch.cat(channels, 1)
        return out if self.curtain is None else out * (pixels[..., 0] < self.curtain)

    def synthesis(self, ws: Latent) -> Tensor:
        grid = Grid(size=self.image_size, scale=(1.0, 1.0))
        return self._render(ws, grid)[:, : len(self.start)].amax(1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1

    def features(self, ws: Latent, level: str) -> Tensor:
        return self._render(ws, self.grid(level))

    def grid(self, level: str) -> Grid:
        scale = self.scale * (2 if level == "fine" else 1)
        size = (round(self.image_size[0] * scale), round(self.image_size[1] * scale))
        return Grid(size=size, scale=(scale, scale))

    def rows_used(self, level: str) -> int:
        return self.moving_rows
