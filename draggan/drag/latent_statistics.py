"""How the latents of a model are distributed: what a likely step is, and how unusual a latent."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.errors import DragGANError
from draggan.generators.base import Generator

__all__ = [
    "FLOOR",
    "LatentStatistics",
    "departure",
    "latent_statistics",
    "principal_axes",
    "rounded",
    "sample_latents",
    "sample_noise",
    "share_within",
]

log = logging.getLogger(__name__)

# Latents that mean and covariance are taken from. The covariance of 512 numbers has 131,000 entries; ten thousand
# samples give its larger eigenvalues, which are what a step follows, to a few percent, in under a second.
SAMPLES = 10_000
# Variances below this share of the largest count as this much in distances.
FLOOR = 1e-3
# So many at a time.
CHUNK = 1000
# Of a product of matrices whose last bits are to be the same with any number of threads.
LEAST_ROWS = 12


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Of a model's latents w, without truncation; float64, on the host.

    Their last bits depend on the number of threads. Drags compute with powers of the covariance (`power`), in which
    single directions no longer show, and `rounded`: these are the same with any number of threads.

    Attributes:
        mean: their mean.
        variances, directions: eigenvalues of their covariance, ascending, and its eigenvectors, one a column.
    """

    mean: Float[Tensor, "w_dim"]
    variances: Float[Tensor, "w_dim"]
    directions: Float[Tensor, "w_dim w_dim"]

    def power(self, exponent: float, floor: float = 0.0) -> Float[Tensor, "w_dim w_dim"]:
        """``cov^exponent``, symmetric, float64.

        Args:
            floor: variances below this share of the largest count as this much.
        """
        return (self.directions * self._floored(floor) ** exponent) @ self.directions.T

    def mean_power(self, exponent: float) -> float:
        """The mean eigenvalue of ``cov^exponent``."""
        return float((self.variances**exponent).mean())

    @property
    def size(self) -> float:
        """The root mean square distance of latents from their mean."""
        return float(self.variances.sum()) ** 0.5

    @cached_property
    def spread(self) -> Float[Tensor, "w_dim"]:
        """Standard deviations along the directions, see `FLOOR`."""
        return self._floored(FLOOR).sqrt()

    @cached_property
    def root(self) -> Float[Tensor, "w_dim w_dim"]:
        """``cov^(1/2)``, symmetric, float32: what a standard deviation along every direction is."""
        return rounded(self.power(0.5))

    @cached_property
    def whitening(self) -> Float[Tensor, "w_dim w_dim"]:
        """``cov^(-1/2)``, symmetric, float32: in units of it, any two latents of the model are as far apart.

        See `FLOOR`.
        """
        return rounded(self.power(-0.5, FLOOR))

    def _floored(self, floor: float) -> Float[Tensor, "w_dim"]:
        return self.variances.clamp(min=floor * float(self.variances[-1]))


def rounded(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """As float32, to so many binary places as that has for the largest entry.

    Of entries that are nearly 0 float32 alone would keep more: what the number of threads has left in them.
    """
    scale = 2.0 ** (24 - math.frexp(float(matrix.abs().max()))[1])
    return ((matrix * scale).round() / scale).float()


def enough_rows(rows: Float[Tensor, "*k n d"]) -> Float[Tensor, "*k m d"]:
    """The rows, repeated where they are few: a product of few has last bits that depend on the number of threads."""
    times = -(-LEAST_ROWS // (rows.numel() // rows.shape[-1]))
    return rows if times == 1 else rows.repeat(*[1] * (rows.ndim - 2), times, 1)


def few_rows_times(rows: Float[Tensor, "*k n d"], matrix: Float[Tensor, "d e"]) -> Float[Tensor, "*k n e"]:
    """``rows @ matrix``, the same with any number of threads."""
    return (enough_rows(rows) @ matrix)[..., : rows.shape[-2], :]


def departure(whitening: Float[Tensor, "w_dim w_dim"], change: Float[Tensor, "rows w_dim"]) -> Float[Tensor, ""]:
    """How far a latent has gone, in distances between two random pictures of the model: 1 is as good as another one.

    The root mean square of whitened coordinates over all rows, over the root of 2, which is what two random latents
    differ by. Variances below `FLOOR` of the largest count as that much: latents lie close to a surface of fewer
    dimensions, and a step off it that can hardly be seen would outweigh everything else.

    Args:
        whitening: `LatentStatistics.whitening`, as float32 where the latent is.
        change: of the latent.
    """
    return few_rows_times(change, whitening).square().mean().sqrt() / 2**0.5


def share_within(
    whitening: Float[Tensor, "w_dim w_dim"],
    change: Float[Tensor, "rows w_dim"],
    step: Float[Tensor, "some w_dim"],
    limit: float,
) -> Float[Tensor, ""]:
    """The largest share of a step, at most 1, after which a latent has gone no farther than a limit; see `departure`.

    0 where any of it would lead farther beyond.

    Args:
        whitening, change: see `departure`.
        step: what is to be added to the change; one row counts for all.
        limit: in the units of `departure`.
    """
    here, there = few_rows_times(change, whitening), few_rows_times(step, whitening)
    # |here + t there|^2 = 2 limit^2
    square, half = there.square().mean(), (here * there).mean()
    room = 2 * limit**2 - here.square().mean()
    share = ((half.square() + square * room).clamp(min=0).sqrt() - half) / square
    return torch.where(square > 0, share.clamp(0, 1), 1.0)


_known: WeakKeyDictionary[Generator, LatentStatistics | None] = WeakKeyDictionary()
_lock = threading.Lock()


def latent_statistics(generator: Generator) -> LatentStatistics | None:
    """Those of this model, computed once; None if its mapping network gives none, or all latents alike."""
    with _lock:
        if generator not in _known:
            _known[generator] = _estimate(generator)
        return _known[generator]


@torch.no_grad()
def sample_latents(
    generator: Generator, label: Float[Tensor, "1 c_dim"] | None = None
) -> Float[Tensor, "samples w_dim"]:
    """Latents w of random z, without truncation, float64 on the host; the same ones every time.

    Args:
        label: of a model with classes; None: all of its classes, at random.
    """
    rows = []
    for z, labels in _noise(generator, SAMPLES, label):
        rows.append(generator.mapping(z, labels)[:, 0].cpu().double())
    return torch.cat(rows)


def sample_noise(
    generator: Generator, count: int
) -> tuple[Float[Tensor, "count z_dim"], Float[Tensor, "count c_dim"] | None]:
    """Random noise, and classes where the model has any, where the generator is; the same every time."""
    parts = list(_noise(generator, count, None))
    labels = [some for _, some in parts if some is not None]
    return torch.cat([z for z, _ in parts]), torch.cat(labels) if labels else None


def _noise(
    generator: Generator, count: int, label: Float[Tensor, "1 c_dim"] | None
) -> Iterator[tuple[Float[Tensor, "n z_dim"], Float[Tensor, "n c_dim"] | None]]:
    """So much of it, some at a time."""
    random = torch.Generator().manual_seed(0)
    for n in torch.arange(count).split(CHUNK):
        z = torch.randn(len(n), generator.z_dim, generator=random).to(generator.device)
        labels = None if label is None else label.expand(len(n), -1)
        if label is None and generator.c_dim > 0:
            which = torch.randint(generator.c_dim, (len(n),), generator=random)
            labels = torch.nn.functional.one_hot(which, generator.c_dim).to(z)
        yield z, labels


def principal_axes(
    samples: Float[Tensor, "n d"],
) -> tuple[Float[Tensor, "d"], Float[Tensor, "d"], Float[Tensor, "d d"]]:
    """Mean of samples, eigenvalues of their covariance (of exactly these, divided by n), ascending, and eigenvectors.

    Eigenvectors are columns. All are nan if a sample is not finite.
    """
    n, d = samples.shape
    total, products = torch.zeros(d, dtype=samples.dtype), torch.zeros(d, d, dtype=samples.dtype)
    for some in samples.split(CHUNK):
        total += some.sum(0)
        products += some.T @ some
    mean = total / n
    covariance = products / n - mean[:, None] * mean
    if not torch.isfinite(covariance).all():
        return mean * torch.nan, mean * torch.nan, covariance * torch.nan
    variances, directions = torch.linalg.eigh(covariance)
    return mean, variances.clamp(min=0), directions


def _estimate(generator: Generator) -> LatentStatistics | None:
    try:
        samples = sample_latents(generator)
    except (DragGANError, NotImplementedError) as e:
        log.info("no statistics of the latents: %s", e)
        return None
    mean, variances, directions = principal_axes(samples)
    # Latents that are all the same differ by rounding.
    if not variances.sum() > 1e-12 * mean.square().sum():
        return None
    return LatentStatistics(mean, variances, directions)
