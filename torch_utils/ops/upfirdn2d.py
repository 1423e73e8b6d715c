"""Upsample by zero insertion, pad, filter, downsample: the resampling step of all StyleGAN networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import status
from torch_utils.ops.memory_order import empty_map
from torch_utils.pytorch_internals import below_autograd

__all__ = ["setup_filter", "upfirdn2d"]

# Measured: rows of fewer numbers cost more to begin than to filter. With channels last a row holds all channels.
_SHORT_ROW = 32


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
    if status.available(x) and not f.requires_grad and _pays(x, up):
        if torch.is_grad_enabled() and x.requires_grad:
            return _Compiled.apply(x, f, up, down, padding, gain)
        with below_autograd():
            return torch.ops.draggan.upfirdn2d(x, f, up, down, padding, gain)
    batch, channels, height, width = x.shape
    if up > 1:
        x = x.reshape(batch, channels, height, 1, width, 1)
        x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(batch, channels, height * up, width * up)
    if any(padding):
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


# ----------------------------------------------------------------------------------------------- the compiled version


def _pays(x: Tensor, up: int) -> bool:
    """Whether the compiled version is faster: on processors it works along rows, and does not do well at short ones."""
    return x.device.type != "cpu" or up > 1 or x.shape[3] >= _SHORT_ROW or x.stride(1) == 1


def register(library: torch.library.Library) -> None:
    """Tell PyTorch the compiled operator's shapes and gradient."""
    torch.library.register_fake("draggan::upfirdn2d", _fake, lib=library)
    library.impl("upfirdn2d", _Compiled.apply, "Autograd")


def _fake(x: Tensor, f: Tensor, up: int, down: int, padding: Sequence[int], gain: float) -> Tensor:
    left, right, top, bottom = padding
    height = (x.shape[2] * up + top + bottom - f.shape[0]) // down + 1
    width = (x.shape[3] * up + left + right - f.shape[-1]) // down + 1
    return empty_map(x, (x.shape[0], x.shape[1], height, width))


class _Compiled(torch.autograd.Function):
    """The compiled operator with its gradient; see `bias_act` for why it is called directly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor, up: int, down: int, padding: Sequence[int], gain: float) -> Tensor:
        with below_autograd():
            output = torch.ops.draggan.upfirdn2d(x, f, up, down, padding, gain)
        ctx.settings = up, down, padding, gain
        ctx.sizes = x.shape[2:], output.shape[2:]
        ctx.save_for_backward(f)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The transpose is the operator again: filter flipped, rates exchanged, padded to the size that came in."""
        (gradient,), (f,) = gradients, ctx.saved_tensors
        up, down, (left, _, top, _), gain = ctx.settings
        (height, width), (out_height, out_width) = ctx.sizes
        fh, fw = f.shape[0], f.shape[-1]
        left, top = fw - 1 - left, fh - 1 - top
        right = (width - 1) * up + fw - left - out_width * down
        bottom = (height - 1) * up + fh - top - out_height * down
        flipped = f.flip(tuple(range(f.ndim)))
        gx = _Compiled.apply(gradient, flipped, down, up, (left, right, top, bottom), gain)
        return gx, None, None, None, None, None
