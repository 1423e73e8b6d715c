"""How long a step in latent space is: by its numbers, or by how unusual it is among the latents of the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.latent_statistics import LatentStatistics, few_rows_times, rounded

__all__ = ["LatentMetric", "metric_root", "row_coupling"]


@dataclass(frozen=True, eq=False)
class LatentMetric:
    """Steps ``dw = K S v`` of the free rows: the shortest v is the most likely way for a picture to differ.

    ``S`` acts on the numbers of a row (`metric_root`), ``K`` on rows (`row_coupling`); both are symmetric, so that the
    Jacobian in v is the same product of the one in w.

    Attributes:
        root: S; None: the identity.
        coupling: K; None: the identity.
    """

    root: Float[Tensor, "w_dim w_dim"] | None
    coupling: Float[Tensor, "shift_rows shift_rows"] | None

    def __call__(self, v: Float[Tensor, "k shift_rows w_dim"]) -> Float[Tensor, "k shift_rows w_dim"]:
        """``K S v``, of every v; of rows of a Jacobian in w, what they are in v."""
        v = self.coupled(v)
        if self.root is None:
            return v
        return few_rows_times(v, self.root)

    def coupled(self, v: Float[Tensor, "k shift_rows _"]) -> Float[Tensor, "k shift_rows _"]:
        """``K v``."""
        if self.coupling is None:
            return v
        # As a sum, not as a product of matrices: of that the last bits depend on the number of threads.
        return (self.coupling[:, :, None] * v[:, None]).sum(2)


@lru_cache(maxsize=8)
def metric_root(known: LatentStatistics, naturalness: float) -> Float[Tensor, "w_dim w_dim"]:
    """``S = cov(W)^(naturalness / 2)``, symmetric, float32, scaled to a mean eigenvalue of ``S^2`` of 1.

    The smallest step is smallest in v, with ``dw = S v``: for 0 smallest in its numbers, for 1 in units of the model's
    own spread, so that it is a likely way for a picture of this model to differ from another.
    """
    return rounded(known.power(naturalness / 2) / known.mean_power(naturalness) ** 0.5)


def row_coupling(rows: int, used: int, independence: float) -> Float[Tensor, "rows rows"] | None:
    """The symmetric root of a correlation of ``1 - independence`` between any two rows in use; None for the identity.

    The rows of a picture of the model are all alike. With independence 0 they stay so, as in W; the less there is of
    it, the longer is a step by which they part.

    Args:
        used: only so many of the first rows are coupled.
    """
    if used == 1 or independence == 1:
        return None
    # Eigenvalues: of the vector of ones, and of all vectors orthogonal to it.
    alike, apart = (1 + (used - 1) * (1 - independence)) ** 0.5, independence**0.5
    mean = torch.full((used, used), 1 / used)
    return torch.block_diag(alike * mean + apart * (torch.eye(used) - mean), torch.eye(rows - used))
