"""Latents in coordinates in which a step is as likely in every direction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.latent_statistics import LatentStatistics

__all__ = ["Coordinates"]


class Coordinates:
    """Latents in coordinates in which those of the model are spread alike in every direction: w whitened by their
    covariance.

    Args:
        known: how the model's latents are distributed.
        rows: of a latent code.
        device: where latents are.
    """

    def __init__(self, known: LatentStatistics, rows: int, device: torch.device) -> None:
        self._rows = rows
        of = (known.mean, known.directions, known.spread)
        self._mean, self._directions, self._spread = (part.float().to(device) for part in of)

    def mean(self) -> Float[Tensor, "1 1 w_dim"]:
        """Of the model's mean latent, one row."""
        return torch.zeros(1, 1, len(self._mean), device=self._mean.device)

    def of(self, ws: Float[Tensor, "1 num_ws w_dim"]) -> Float[Tensor, "1 rows w_dim"]:
        """Of a latent; one row where all are alike."""
        at = ((ws - self._mean) @ self._directions) / self._spread
        return at[:, :1] if bool((ws == ws[:, :1]).all()) else at

    def in_rows(self, at: Float[Tensor, "1 rows w_dim"]) -> Float[Tensor, "1 num_ws w_dim"]:
        """The same with every row on its own."""
        return at.expand(1, self._rows, -1).clone()

    def ws(self, at: Float[Tensor, "1 rows w_dim"]) -> Float[Tensor, "1 num_ws w_dim"]:
        """The latent."""
        return (self._mean + (at * self._spread) @ self._directions.T).expand(1, self._rows, -1)

    def towards(
        self, ws: Float[Tensor, "1 num_ws w_dim"], random: torch.Generator, share: float
    ) -> Float[Tensor, "1 num_ws w_dim"]:
        """Another latent: from ``ws`` that share of the way to a random one."""
        at = torch.randn(1, 1, len(self._mean), generator=random).to(self._mean.device)
        return ws + share * (self.ws(at) - ws)
