"""How long a step in latent space is: by its numbers, or by how unusual it is among the latents of the model."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.errors import DragGANError
from draggan.generators.base import Generator

__all__ = ["Statistics", "root", "statistics"]

log = logging.getLogger(__name__)

# Latents that mean and covariance are taken from. The covariance of 512 numbers has 131,000 entries; ten thousand
# samples give its larger eigenvalues, which are what a step follows, to a few percent, in under a second.
SAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of a model's latents w, without truncation; float32, where the model is.

    Attributes:
        mean: their mean.
        variances, directions: eigenvalues of their covariance, ascending, and its eigenvectors, one a column.
    """

    mean: Float[Tensor, "w_dim"]
    variances: Float[Tensor, "w_dim"]
    directions: Float[Tensor, "w_dim w_dim"]


_known: WeakKeyDictionary[Generator, Statistics | None] = WeakKeyDictionary()
_lock = threading.Lock()


def statistics(generator: Generator) -> Statistics | None:
    """Those of this model, computed once; None if its mapping network gives none worth the name."""
    with _lock:
        if generator not in _known:
            _known[generator] = _estimate(generator)
        return _known[generator]


@torch.no_grad()
def _estimate(generator: Generator) -> Statistics | None:
    random = torch.Generator().manual_seed(0)
    total = torch.zeros(generator.w_dim, dtype=torch.float64)
    products = torch.zeros(generator.w_dim, generator.w_dim, dtype=torch.float64)
    try:
        for _ in range(10):
            z = torch.randn(SAMPLES // 10, generator.z_dim, generator=random).to(generator.device)
            labels = None
            if generator.c_dim > 0:
                # Of a model with classes, the latents of all of them.
                which = torch.randint(generator.c_dim, (len(z),), generator=random)
                labels = torch.nn.functional.one_hot(which, generator.c_dim).to(z)
            w = generator.mapping(z, labels)[:, 0].cpu().double()
            total += w.sum(0)
            products += w.T @ w
    except (DragGANError, NotImplementedError) as e:
        log.info("no statistics of the latents: %s", e)
        return None
    mean = total / SAMPLES
    covariance = products / SAMPLES - mean[:, None] * mean
    if not torch.isfinite(covariance).all() or covariance.diagonal().mean() <= 0:
        return None
    variances, directions = torch.linalg.eigh(covariance)
    parts = (mean, variances.clamp(min=0), directions)
    return Statistics(*(part.float().to(generator.device) for part in parts))


def root(known: Statistics, naturalness: float) -> Float[Tensor, "w_dim w_dim"]:
    """``S = cov(W)^(naturalness / 2)``, symmetric, scaled to a mean eigenvalue of ``S^2`` of 1.

    The smallest step is smallest in v, with ``dw = S v``: for 0 smallest in its numbers, for 1 in units of the model's
    own spread, so that it is a likely way for a picture of this model to differ from another.
    """
    powers = known.variances**naturalness
    powers = (powers / powers.mean()).sqrt()
    return (known.directions * powers) @ known.directions.T
