"""Leaky ReLU at a higher sampling rate: the non-linearity of StyleGAN3 (Karras et al., NeurIPS 2021, section 3.2).

Bias, upsample, leaky ReLU, clamp, downsample. The maps in between are several times larger than what goes in and comes
out, so they are never kept: a few channels at a time go through all steps while they fit into the processor's cache,
and the gradient computes them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import status
from torch_utils.ops.memory_order import empty_map
from torch_utils.pytorch_internals import below_autograd

__all__ = ["filtered_lrelu", "filtered_lrelu_gradient"]

Size = tuple[int, int]

# What a chunk of channels may take at the higher rate. On processors about the second-level cache; elsewhere large maps
# are welcome, and this only bounds the memory.
_CHUNK_BYTES_CPU = 2 << 20
_CHUNK_BYTES = 1 << 30
# Processors convolve channel by channel in vectors of up to 16.
_CHUNK_MULTIPLE = 16


def filtered_lrelu(
    x: Tensor,
    *,
    up_filter: Tensor | None = None,
    down_filter: Tensor | None = None,
    bias: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
) -> Tensor:
    """Bias, upsample, leaky ReLU, clamp, downsample.

    In this order: add the bias; insert ``up - 1`` zeros after every sample, pad with zeros (negative: crop), convolve
    with the upsampling filter times ``up ** 2``; leaky ReLU; times the gain; clamp; convolve with the downsampling
    filter, keep every ``down``-th sample.

    Args:
        x: ``[batch, channel, height, width]``.
        up_filter, down_filter: ``[n]``, applied along both axes, or ``[fh, fw]``; None for a single tap of 1.
            Constants: they get no gradient.
        bias: ``[channel]`` or None.
        padding: samples added ``(left, right, top, bottom)`` after the zero insertion.
        slope: of the leaky ReLU for negative values, above 0; 1 makes it linear.
        clamp: limit of the absolute value after the gain; None for none.

    Returns:
        ``[batch, channel, out_height, out_width]`` with ``size = height * up + top + bottom - uh + 1`` samples at the
        higher rate and ``out_height = (size - dh) // down + 1``, where uh and dh are the heights of the filters.

    Raises:
        ValueError: nothing of the map is left.
    """
    if status.available(x) and gain > 0 and _has_compiled(up_filter, down_filter):
        fu, fd = _taps(x, up_filter), _taps(x, down_filter)
        _sizes(x, fu, fd, up, down, padding)
        arguments = (fu, fd, bias, up, down, padding, gain, slope, clamp)
        if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
            return _Compiled.apply(x, *arguments)
        with below_autograd():
            return torch.ops.draggan.filtered_lrelu(x, *arguments)
    op = _Op.for_map(x, up_filter, down_filter, up, down, padding, gain, slope, clamp)
    return _InChunks.apply(x, bias, op)


def filtered_lrelu_gradient(
    gradient: Tensor,
    x: Tensor,
    *,
    up_filter: Tensor | None = None,
    down_filter: Tensor | None = None,
    bias: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
) -> Tensor:
    """The gradient to x, from the gradient to the result of `filtered_lrelu`; not differentiable itself.

    For backward passes that are written out, and take a part of the map at a time.
    """
    with torch.no_grad():
        if status.available(x) and gain > 0 and all(f is None or f.ndim == 1 for f in (up_filter, down_filter)):
            fu, fd = _taps(x, up_filter), _taps(x, down_filter)
            _sizes(x, fu, fd, up, down, padding)
            return torch.ops.draggan.filtered_lrelu_backward(
                gradient, x, fu, fd, bias, up, down, padding, gain, slope, clamp
            )
        op = _Op.for_map(x, up_filter, down_filter, up, down, padding, gain, slope, clamp)
        return _gradient(op, x, bias, gradient)


def _has_compiled(up_filter: Tensor | None, down_filter: Tensor | None) -> bool:
    """Whether the compiled version has these filters: separable upsampling, separable or square downsampling."""
    if up_filter is not None and up_filter.ndim == 2:
        return False
    return down_filter is None or down_filter.ndim == 1 or down_filter.shape[0] == down_filter.shape[1]


def _taps(x: Tensor, f: Tensor | None) -> Tensor:
    """The taps of a filter, a constant; None is a single tap of 1."""
    return x.new_ones(1) if f is None else f.detach()


def _sizes(
    x: Tensor, fu: Tensor, fd: Tensor, up: int, down: int, padding: tuple[int, int, int, int]
) -> tuple[Size, Size]:
    """Sizes of the map at the higher rate and of the result; `ValueError` where one has no samples."""
    left, right, top, bottom = padding
    high = (
        x.shape[2] * up + top + bottom - fu.shape[0] + 1,
        x.shape[3] * up + left + right - fu.shape[-1] + 1,
    )
    out = ((high[0] - fd.shape[0]) // down + 1, (high[1] - fd.shape[-1]) // down + 1)
    if min(*high, *out) < 1:
        raise ValueError(f"a map of {x.shape[2]}x{x.shape[3]} is too small for these filters and padding")
    return high, out


def _spread(x: Tensor, f: Tensor, step: int, offset: Size, size: Size) -> Tensor:
    """``out[j] = sum_i x[i] f[j + offset - i * step]`` along both axes for ``0 <= j < size``: filtered upsampling."""
    if f.ndim == 2:
        return _spread_2d(x, f, (step, step), offset, size)
    x = _spread_2d(x, f[None, :], (1, step), (0, offset[1]), (x.shape[2], size[1]))
    return _spread_2d(x, f[:, None], (step, 1), (offset[0], 0), size)


def _spread_2d(x: Tensor, kernel: Tensor, step: Size, offset: Size, size: Size) -> Tensor:
    padding, output_padding, rest = [], [], []
    for axis in (0, 1):
        n, u, wanted = kernel.shape[axis], step[axis], size[axis]
        # Only inputs that reach the window, first ceil((offset - n + 1) / u).
        first = max(0, -((n - 1 - offset[axis]) // u))
        last = min(x.shape[2 + axis] - 1, (offset[axis] + wanted - 1) // u)
        x = x.narrow(2 + axis, first, last + 1 - first)
        # Without any padding the transposed convolution gives this much before and after the window.
        before = offset[axis] - first * u
        after = (last - first) * u + n - before - wanted
        if before >= 0 and 0 <= before - after < u:
            crop, extra, remaining = before, before - after, (0, 0)
        else:
            crop, extra = max(0, min(before, after)), 0
            remaining = (crop - before, crop - after)
        padding.append(crop)
        output_padding.append(extra)
        rest.append(remaining)
    channels = x.shape[1]
    weight = kernel.expand(channels, 1, -1, -1)
    x = F.conv_transpose2d(x, weight, stride=step, padding=padding, output_padding=output_padding, groups=channels)
    return _pad(x, rest[0], rest[1])


def _gather(x: Tensor, f: Tensor, step: int, offset: Size, size: Size) -> Tensor:
    """``out[i] = sum_j x[j] f[j + offset - i * step]`` for ``0 <= i < size``: the transpose of `_spread`."""
    if f.ndim == 2:
        return _gather_2d(x, f, (step, step), offset, size)
    x = _gather_2d(x, f[:, None], (step, 1), (offset[0], 0), (size[0], x.shape[3]))
    return _gather_2d(x, f[None, :], (1, step), (0, offset[1]), size)


def _gather_2d(x: Tensor, kernel: Tensor, step: Size, offset: Size, size: Size) -> Tensor:
    padding, rest = [], []
    for axis in (0, 1):
        before = offset[axis]
        after = (size[axis] - 1) * step[axis] + kernel.shape[axis] - before - x.shape[2 + axis]
        both = max(0, min(before, after))
        padding.append(both)
        rest.append((before - both, after - both))
    x = _pad(x, rest[0], rest[1])
    channels = x.shape[1]
    weight = kernel.expand(channels, 1, -1, -1)
    return F.conv2d(x, weight, stride=step, padding=padding, groups=channels)


def _channels_last(x: Tensor) -> Tensor:
    """With the channels next to each other in memory: convolutions per channel are up to 7 times as fast so."""
    return x.contiguous(memory_format=torch.channels_last)


def _pad(x: Tensor, rows: Size, columns: Size) -> Tensor:
    """Add zeros before and after (negative: crop)."""
    return F.pad(x, (*columns, *rows)) if any(rows) or any(columns) else x


@dataclass(frozen=True)
class _Op:
    """The settings of one call, ready for use, and its steps on as many channels as are given."""

    up_filter: Tensor
    # Flipped, so that downsampling is a correlation.
    down_filter: Tensor
    up: int
    down: int
    offset: Size
    slope: float
    # Of what `activated` sees, which has the gain already.
    clamp: float | None
    low: Size
    high: Size
    out: Size

    @classmethod
    def for_map(
        cls,
        x: Tensor,
        up_filter: Tensor | None,
        down_filter: Tensor | None,
        up: int,
        down: int,
        padding: tuple[int, int, int, int],
        gain: float,
        slope: float,
        clamp: float | None,
    ) -> _Op:
        precise = torch.promote_types(x.dtype, torch.float32)
        fu, fd = (_taps(x, f).to(precise) for f in (up_filter, down_filter))
        high, out = _sizes(x, fu, fd, up, down, padding)
        # A leaky ReLU commutes with a positive factor, so the gain goes into the filter with the up ** 2 that makes up
        # for the zeros. Half of it in each of the two passes of a separable filter.
        factor = up * up * gain
        return cls(
            up_filter=(fu * (math.sqrt(factor) if fu.ndim == 1 else factor)).to(x.dtype),
            down_filter=fd.flip(tuple(range(fd.ndim))).to(x.dtype),
            up=up,
            down=down,
            offset=(fu.shape[0] - 1 - padding[2], fu.shape[-1] - 1 - padding[0]),
            slope=slope,
            clamp=clamp,
            low=(x.shape[2], x.shape[3]),
            high=high,
            out=out,
        )

    def upsampled(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``[batch, channel, *high]``, what the leaky ReLU sees, times the gain."""
        if bias is not None:
            x = x + bias.to(x.dtype)[:, None, None]
        return _spread(x, self.up_filter, self.up, self.offset, self.high)

    def activated_(self, x: Tensor) -> Tensor:
        """Leaky ReLU and clamp, in place."""
        if self.slope != 1:
            x = F.leaky_relu_(x, self.slope)
        return x if self.clamp is None else x.clamp_(-self.clamp, self.clamp)

    def slopes(self, x: Tensor) -> Tensor:
        """Derivative of leaky ReLU and clamp at what the leaky ReLU sees."""
        d = (x > 0).to(x.dtype).mul_(1 - self.slope).add_(self.slope)
        return d if self.clamp is None else d.masked_fill_((x * d).abs_() > self.clamp, 0)

    def downsampled(self, x: Tensor) -> Tensor:
        """``[batch, channel, *out]``."""
        return _gather(x, self.down_filter, self.down, (0, 0), self.out)

    def value(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The result."""
        return self.downsampled(self.activated_(self.upsampled(x, bias)))

    def gradient(self, x: Tensor, bias: Tensor | None, cotangent: Tensor) -> Tensor:
        """The gradient of ``sum(value * cotangent)`` with respect to x.

        Differentiable in the cotangent; its derivative in x is zero, since the non-linearity is piecewise linear.
        """
        with torch.no_grad():
            slopes = self.slopes(self.upsampled(x, bias))
        high = _spread(cotangent, self.down_filter, self.down, (0, 0), self.high).mul_(slopes)
        return _gather(high, self.up_filter, self.up, self.offset, self.low)

    def chunks(self, x: Tensor) -> Iterator[slice]:
        """Ranges of channels to treat at a time."""
        channels = x.shape[1]
        per_channel = x.shape[0] * math.prod(self.high) * x.element_size()
        fit = (_CHUNK_BYTES_CPU if x.device.type == "cpu" else _CHUNK_BYTES) // per_channel
        size = max(fit // _CHUNK_MULTIPLE, 1) * _CHUNK_MULTIPLE
        for start in range(0, channels, size):
            yield slice(start, min(start + size, channels))


class _InChunks(torch.autograd.Function):
    """`_Op` a few channels at a time, remembering its input only. Differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, op: _Op) -> Tensor:
        ctx.save_for_backward(x, bias)
        ctx.op = op
        y = x.new_empty(x.shape[0], x.shape[1], *op.out)
        with torch.autocast(x.device.type, enabled=False):
            for c in op.chunks(x):
                y[:, c] = op.value(_channels_last(x[:, c]), None if bias is None else bias[c])
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (x, bias), (cotangent,) = ctx.saved_tensors, cotangents
        gx = _gradient(ctx.op, x, bias, cotangent)
        gb = gx.sum((0, 2, 3)).to(bias.dtype) if ctx.needs_input_grad[1] else None
        return gx, gb, None


def _gradient(op: _Op, x: Tensor, bias: Tensor | None, cotangent: Tensor) -> Tensor:
    """`_Op.gradient` a few channels at a time."""
    with torch.autocast(x.device.type, enabled=False):
        gx = torch.empty_like(x)
        for c in op.chunks(x):
            given, wanted = _channels_last(x[:, c]), _channels_last(cotangent[:, c])
            gx[:, c] = op.gradient(given, None if bias is None else bias[c], wanted)
    return gx


# ----------------------------------------------------------------------------------------------- the compiled version


def register(library: torch.library.Library) -> None:
    """Tell PyTorch the compiled operator's shapes and gradient."""
    torch.library.register_fake("draggan::filtered_lrelu", _fake, lib=library)
    torch.library.register_fake("draggan::filtered_lrelu_backward", _fake_backward, lib=library)
    library.impl("filtered_lrelu", _Compiled.apply, "Autograd")


def _fake(
    x: Tensor, fu: Tensor, fd: Tensor, bias: Tensor | None, up: int, down: int, padding: Sequence[int], *_: Any
) -> Tensor:
    left, right, top, bottom = padding
    height = x.shape[2] * up + top + bottom - fu.shape[0] + 1
    width = x.shape[3] * up + left + right - fu.shape[0] + 1
    n = fd.shape[0]
    return empty_map(x, (x.shape[0], x.shape[1], (height - n) // down + 1, (width - n) // down + 1))


def _fake_backward(grad: Tensor, x: Tensor, *_: Any) -> Tensor:
    return empty_map(x, x.shape)


class _Compiled(torch.autograd.Function):
    """The compiled operator with its gradient; see `bias_act` for why it is called directly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fu: Tensor, fd: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        ctx.save_for_backward(x, fu, fd, bias)
        ctx.settings = settings
        with below_autograd():
            return torch.ops.draggan.filtered_lrelu(x, fu, fd, bias, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (x, fu, fd, bias) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled() or fd.ndim == 2:
            # To be differentiated again, or with a radial filter: as the plain version does it.
            gx = _gradient(_Op.for_map(x, fu, fd, *ctx.settings), x, bias, gradient)
        else:
            gx = torch.ops.draggan.filtered_lrelu_backward(gradient, x, fu, fd, bias, *ctx.settings)
        gb = gx.sum((0, 2, 3)).to(bias.dtype) if ctx.needs_input_grad[3] else None
        return gx, None, None, gb, None, None, None, None, None, None
