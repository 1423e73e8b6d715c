"""Upsample by zero insertion, pad, filter, downsample: the resampling step of all StyleGAN networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["setup_filter", "upfirdn2d"]


def setup_filter(taps: Sequence[float]) -> Tensor:
    """The separable filter ``outer(taps, taps)`` with sum 1, float32 ``[n, n]``."""
    f = torch.tensor(taps, dtype=torch.float32)
    f = torch.outer(f, f)
    return f / f.sum()


def upfirdn2d(
    x: Tensor,
    f: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Resample a batch of images.

    In this order: insert ``up - 1`` zeros after every sample, pad with zeros (negative: crop), convolve with the
    filter times ``gain``, keep every ``down``-th sample.

    Args:
        x: ``[batch, channel, height, width]``.
        f: ``[fh, fw]``, or ``[n]`` for a filter applied along both axes.
        padding: samples added ``(left, right, top, bottom)`` after the zero insertion.

    Returns:
        ``[batch, channel, (height * up + top + bottom - fh) // down + 1, ...]``.
    """
    batch, channels, height, width = x.shape
    if up > 1:
        x = x.reshape(batch, channels, height, 1, width, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(batch, channels, height * up, width * up)
    x = F.pad(x, padding)
    # conv2d correlates; a convolution flips the filter.
    taps = f.flip(tuple(range(f.ndim))).to(x)
    if f.ndim == 1:
        rows = (taps * gain).reshape(1, 1, 1, -1).expand(channels, 1, 1, -1)
        cols = taps.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1)
        x = F.conv2d(x, rows, stride=(1, down), groups=channels)
        return F.conv2d(x, cols, stride=(down, 1), groups=channels)
    kernel = (taps * gain)[None, None].expand(channels, 1, -1, -1)
    return F.conv2d(x, kernel, stride=down, groups=channels)
