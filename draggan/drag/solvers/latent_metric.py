"""How long a step in latent space is: by its numbers, or by how unusual it is among the latents of the model."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from draggan.drag.latent_statistics import LatentStatistics

__all__ = ["metric_root"]


def metric_root(known: LatentStatistics, naturalness: float) -> Float[Tensor, "w_dim w_dim"]:
    """``S = cov(W)^(naturalness / 2)``, symmetric, scaled to a mean eigenvalue of ``S^2`` of 1.

    The smallest step is smallest in v, with ``dw = S v``: for 0 smallest in its numbers, for 1 in units of the model's
    own spread, so that it is a likely way for a picture of this model to differ from another.
    """
    powers = known.variances**naturalness
    powers = (powers / powers.mean()).sqrt()
    return (known.directions * powers) @ known.directions.T
