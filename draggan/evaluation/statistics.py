"""The arithmetic of the evaluation, as pure functions of arrays: intervals, distributions, their distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from draggan.drag.latent_statistics import principal_axes

__all__ = [
    "Interval",
    "Whitening",
    "bootstrap",
    "chi_square_alike",
    "chi_square_fit",
    "disparate_impact",
    "frechet",
    "moments",
    "paired_difference",
    "share",
    "total_variation",
    "variation_by_chance",
]


@dataclass(frozen=True)
class Interval:
    """A mean (or a quantile) and where it may be.

    Attributes:
        mean: of the values; nan if there are none.
        low, high: ends of the confidence interval; nan for fewer than two values, which say nothing of their spread.
        count: how many values.
    """

    mean: float
    low: float
    high: float
    count: int


def bootstrap(
    values: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    quantile: float | None = None,
) -> Interval:
    """The mean and its percentile bootstrap interval; the same for the same values.

    Cases are drawn anew with replacement ``resamples`` times; the interval holds the middle ``confidence`` of the
    means.

    Args:
        quantile: of this quantile (0.5 for the median) in place of the mean.
    """
    x = np.asarray(values, dtype=np.float64)

    def statistic(some: np.ndarray) -> np.ndarray:
        return np.asarray(some.mean(-1) if quantile is None else np.quantile(some, quantile, axis=-1))

    if len(x) < 2:
        return Interval(float(x[0]) if len(x) else math.nan, math.nan, math.nan, len(x))
    random = np.random.default_rng(seed)
    drawn = statistic(x[random.integers(0, len(x), (resamples, len(x)))])
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(x)), float(low), float(high), len(x))


def share(values: Sequence[float], *, z: float = 1.96) -> Interval:
    """The share of ones among zeros and ones, with Wilson's interval: honest near 0 and 1, where a bootstrap is not.

    Args:
        z: 1.96 for 95 %.
    """
    n = len(values)
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    p = sum(values) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(middle - half, 0.0), min(middle + half, 1.0), n)


def paired_difference(first: Sequence[float], second: Sequence[float], **options: float) -> Interval:
    """`bootstrap` of ``second - first`` for the same cases measured twice: much tighter than two intervals."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert a.shape == b.shape
    return bootstrap((b - a).tolist(), **options)  # type: ignore[arg-type]  # mypy cannot see keywords in a dict


def moments(
    samples: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d d"]]:
    """Mean and unbiased covariance, float64; one sample has covariance zero."""
    x = np.asarray(samples, dtype=np.float64)
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / max(len(x) - 1, 1)


def frechet(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    """Frechet distance between the normal distributions fitted to two sets of features.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)``: symmetric, 0 for equal sets. Like the well known FID,
    which takes the features of an ImageNet network, it is too large for few samples: compare only equal numbers.
    """
    (m1, c1), (m2, c2) = moments(first), moments(second)
    root = _root(c1)
    cross = np.linalg.eigvalsh(root @ c2 @ root)
    covariance = np.trace(c1) + np.trace(c2) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(((m1 - m2) ** 2).sum() + max(covariance, 0.0))


def _root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


@dataclass(frozen=True, eq=False)
class Whitening:
    """Coordinates in which a distribution is standard normal.

    Attributes:
        mean: ``[d]``.
        matrix: ``[d, d]``; ``(x - mean) @ matrix`` has covariance one.
    """

    mean: Float[np.ndarray, "d"]
    matrix: Float[np.ndarray, "d d"]

    @staticmethod
    def of(samples: Float[np.ndarray, "n d"], *, floor: float = 1e-3) -> Whitening:
        """Fitted to samples.

        Args:
            floor: variances below this part of the largest count as this much. The latents of a mapping network lie
                close to a surface of fewer dimensions; without the floor, a step off it that nobody can see would
                outweigh everything else.
        """
        x = np.asarray(samples, dtype=np.float64)
        mean, values, vectors = (part.numpy() for part in principal_axes(torch.from_numpy(x)))
        # The unbiased estimate.
        values = values * (len(x) / max(len(x) - 1, 1))
        values = np.maximum(values, max(floor * float(values[-1]), 1e-30))
        return Whitening(mean, vectors / np.sqrt(values))

    def __call__(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
        return (np.asarray(x, dtype=np.float64) - self.mean) @ self.matrix

    def distance(self, x: Float[np.ndarray, "*n d"]) -> float:
        """How far from the mean: the root mean square of all whitened coordinates, about 1 for an ordinary sample."""
        return float(np.sqrt(np.mean(self(x) ** 2)))

    def between(self, a: Float[np.ndarray, "*n d"], b: Float[np.ndarray, "*n d"]) -> float:
        """Likewise from ``a`` to ``b``; about the root of 2 for two unrelated samples."""
        moved = (np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)) @ self.matrix
        return float(np.sqrt(np.mean(moved**2)))


def total_variation(first: Float[np.ndarray, "group"], second: Float[np.ndarray, "group"]) -> float:
    """Distance of two distributions over the same groups, 0 to 1: half the sum of the differences of their shares."""
    return float(np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64)).sum() / 2)


def variation_by_chance(
    shares: Float[np.ndarray, "group"], count: int, others: int | None = None, *, quantile: float = 0.95, seed: int = 0
) -> float:
    """How large the total variation is by chance alone: a quantile of it between samples of one distribution.

    Args:
        shares: of the distribution.
        count: cases of one sample.
        others: of the other; None: the other one is the distribution itself.
    """
    random, shares = np.random.default_rng(seed), np.asarray(shares, np.float64)
    first = random.multinomial(count, shares, 2000) / count
    second = shares if others is None else random.multinomial(others, shares, 2000) / others
    return float(np.quantile(np.abs(first - second).sum(1) / 2, quantile))


def chi_square_fit(counts: Int[np.ndarray, "group"], shares: Float[np.ndarray, "group"]) -> tuple[float, int, float]:
    """Pearson's test of counts against shares that are stated: statistic, degrees of freedom, p.

    Groups that are not expected and not there say nothing; one that is there all the same makes p 0.
    """
    expected = np.asarray(shares, np.float64) * counts.sum()
    there = (expected > 0) | (np.asarray(counts) > 0)
    with np.errstate(divide="ignore"):
        statistic = float(((counts[there] - expected[there]) ** 2 / expected[there]).sum())
    freedom = int(there.sum()) - 1
    return statistic, freedom, _chi_square_tail(statistic, freedom)


def chi_square_alike(first: Int[np.ndarray, "group"], second: Int[np.ndarray, "group"]) -> tuple[float, int, float]:
    """Pearson's test that two samples have one distribution over the same groups: statistic, degrees of freedom, p.

    p is nan where a sample, or all but one of the groups, is empty.
    """
    table = np.array([first, second], np.float64)
    table = table[:, table.sum(0) > 0]
    freedom = table.shape[1] - 1
    if freedom < 1 or not table.sum(1).all():
        return 0.0, max(freedom, 0), math.nan
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, freedom, _chi_square_tail(statistic, freedom)


def _chi_square_tail(statistic: float, freedom: int) -> float:
    """How often a chi-square variable is at least that large."""
    if freedom < 1 or math.isnan(statistic):
        return math.nan
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return 0.0 if math.isinf(statistic) else float(torch.special.gammaincc(half[0], half[1]))


def disparate_impact(hits: Int[np.ndarray, "group"], counts: Int[np.ndarray, "group"]) -> float:
    """The lowest group's share of hits over the highest's (Bellamy et al., "AI Fairness 360", 2018, for two groups).

    Below 0.8 it counts as adverse impact in US law on employment (29 CFR 1607.4 D). nan: there is no hit, or no case.
    """
    rates = hits[counts > 0] / counts[counts > 0]
    return float(rates.min() / rates.max()) if len(rates) and rates.max() > 0 else math.nan
