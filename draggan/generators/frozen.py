"""Features of a frozen StyleGAN2 and their gradient to the latent, with the backward pass written out.

Automatic differentiation would do the same from the layers' own code (and does, for networks that are not frozen, and
as this module's test). Written out it costs a fraction beside the convolutions, because it knows more:

* nothing but latent rows takes a gradient, and only the rows that ask;
* the gradient is zero outside a few cells of each window. A rectangle that holds them is found once, at the end, and
  every layer below works on the rectangle that this one depends on.

Per layer, with the style s and the demodulation factor d of the row w (Karras et al. 2020, Eq. 1-3):

    z = d * filter(convolve(s * x)) + noise + bias,   y = clamp(gain * lrelu(z))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from draggan.generators.stylegan2 import SynthesisLayer, as_type
from draggan.geometry import Windows, cells_inside, crop
from torch_utils.ops.bias_act import ACTIVATIONS
from torch_utils.ops.frozen_conv import FrozenConvolution
from torch_utils.ops.upfirdn2d import upfirdn2d

__all__ = ["Rectangle", "Span", "features", "possible", "support"]

_SLOPE = 0.2


@dataclass(frozen=True, eq=False)
class Span:
    """One layer and what of it is computed.

    Attributes:
        row: which latent row it takes.
        given: windows of its input; for a whole map the one window that is all of it.
        wanted: windows of its output, likewise.
        whole: whole map in, whole map out.
        cut: the input must be cut out of the whole map that the layer before gave.
    """

    layer: SynthesisLayer
    row: int
    given: Windows
    wanted: Windows
    whole: bool
    cut: bool = False

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the whole input map."""
        height, width = self.layer.size
        return height // self.layer.up, width // self.layer.up

    @property
    def starts(self) -> tuple[tuple[int, int], ...]:
        """Which cell of the filtered transposed convolution is the first of each output window.

        Cell k of the convolution is cell ``2 * given + k`` of the whole one, and the filter over its cells k .. k + 3
        gives output cell ``2 * given + k + 1``.
        """
        if self.whole:
            return ((-1, -1),)
        return tuple(
            (wy - 1 - 2 * gy, wx - 1 - 2 * gx)
            for (wy, wx), (gy, gx) in zip(self.wanted.origins, self.given.origins, strict=True)
        )


def possible(spans: Sequence[Span]) -> bool:
    """Whether all these layers are frozen, and of the kind written out here."""
    return all(
        s.layer.frozen_convolution is not None and s.layer.activation == "lrelu" and s.layer.gain == 1 for s in spans
    )


def features(constant: Tensor, spans: Sequence[Span], rows: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The output of the last layer.

    Args:
        constant: ``[channel, height, width]``, the input of the first layer.
        spans: layers from the first on, whole maps first.
        rows: latent rows, ``[1 or n, w_dim]`` for n windows.
        dtype: in which type to compute.

    Returns:
        ``[n, channel, height, width]``; differentiable once.
    """
    return _Pass.apply(constant, tuple(spans), dtype, *[rows[s.row] for s in spans])


@dataclass(frozen=True)
class Rectangle:
    """Rows ``top .. bottom - 1`` and columns ``left .. right - 1``, the same of all windows of a batch."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, x: Tensor) -> Tensor:
        """That part of a map."""
        if tuple(x.shape[2:]) == (self.bottom - self.top, self.right - self.left):
            return x
        return x[:, :, self.top : self.bottom, self.left : self.right]


class _Pass(torch.autograd.Function):
    """`features`; one row per span."""

    @staticmethod
    def forward(ctx: Any, constant: Tensor, spans: tuple[Span, ...], dtype: torch.dtype, *rows: Tensor) -> Tensor:
        asked = ctx.needs_input_grad[3:]
        lowest = asked.index(True) if any(asked) else len(spans)
        saved: list[Tensor | None] = []
        x = constant.to(dtype).expand(len(rows[0]), -1, -1, -1)
        for k, (span, w) in enumerate(zip(spans, rows, strict=True)):
            layer = span.layer
            if span.cut:
                x = crop(x, span.given)
            style, demodulation = layer.modulation(w) if asked[k] else _remembered(layer, w)
            s, d = as_type(style, demodulation, dtype)
            z = _convolution(layer).run(x * s, layer.weight, int(span.whole and layer.up == 1), layer.up == 2)
            if layer.up == 2:
                z = _filtered(z, span)
            noise = layer.noise("const", z)
            if noise is not None and not span.whole:
                noise = crop(noise[None, None], span.wanted)
            y = layer.activate(z, d, noise, overwrite=not asked[k])
            if not span.wanted.inside(layer.size):
                y = y * cells_inside(span.wanted, layer.size, y.device).to(dtype)
            if k >= lowest:
                saved += [y, s, d]
                saved += [x, z, style, demodulation] if asked[k] else [None] * 4
            x = y
        ctx.spans, ctx.lowest, ctx.asked, ctx.batch = spans, lowest, asked, len(rows[0])
        ctx.save_for_backward(*saved)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        to_rows: list[Tensor | None] = [None] * len(ctx.spans)
        rectangle = support(gradient)
        g = gradient if rectangle is None else rectangle.of(gradient)
        for k in range(len(ctx.spans) - 1, ctx.lowest - 1, -1):
            span = ctx.spans[k]
            y, s, d, x, z, style, demodulation = saved[7 * (k - ctx.lowest) :][:7]
            if rectangle is None:
                if ctx.asked[k]:
                    to_rows[k] = style.new_zeros(ctx.batch, span.layer.affine.weight.shape[1])
                continue
            g = _through_activation(span, g, y, rectangle)
            to_d = (g * rectangle.of(z)).sum((2, 3), dtype=torch.float32) if ctx.asked[k] else None
            g, rectangle = _through_convolution(span, g * d, rectangle)
            if to_d is not None:
                to_s = (g * rectangle.of(x)).sum((2, 3), dtype=torch.float32)
                if g.dtype == torch.float16:
                    # See `as_type`: the factor that style and demodulation exchange.
                    largest = style.abs().amax(1, keepdim=True).clamp(min=1e-8)
                    to_s, to_d = to_s / largest, to_d * largest
                to_rows[k] = _to_row(span.layer, style, demodulation, to_s, to_d)
            g = g * s
            if span.cut:
                g, rectangle = _into_whole(span, g, rectangle, ctx.batch)
        return None, None, None, *to_rows


# Style and demodulation factor of rows that take no gradient, as long as the row itself exists: in a drag, most rows
# are the same tensors in every step.
_modulations: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _remembered(layer: SynthesisLayer, w: Tensor) -> tuple[Tensor, Tensor]:
    """`SynthesisLayer.modulation` of this row, computed once."""
    state = None if w.is_inference() else w._version, layer.frozen_energy
    known = _modulations.setdefault(w, {})
    found = known.get(layer)
    # Written to, or frozen anew with other weights: not the same any more.
    if found is None or found[0] != state[0] or found[1] is not state[1]:
        known[layer] = found = (*state, layer.modulation(w))
    return found[2]


def _convolution(layer: SynthesisLayer) -> FrozenConvolution:
    assert layer.frozen_convolution is not None
    return layer.frozen_convolution


def _filtered(z: Tensor, span: Span) -> Tensor:
    """The low-pass filter after the transposed convolution, and the wanted windows of its result."""
    layer = span.layer
    if span.whole:
        return upfirdn2d(z, layer.resample_filter, padding=(1, 1, 1, 1), gain=4)
    z = upfirdn2d(z, layer.resample_filter, gain=4)
    if tuple(z.shape[2:]) == span.wanted.size and not any(map(any, span.starts)):
        return z
    return crop(z, Windows(span.starts, span.wanted.size))


def support(gradient: Tensor) -> Rectangle | None:
    """Where a gradient is not zero, in any window; None if nowhere."""
    height, width = gradient.shape[2:]
    if gradient.device.type != "cpu":
        return Rectangle(0, height, 0, width)  # looking would wait for the device
    used = gradient.detach().abs().amax((0, 1)).float().numpy() != 0
    rows, columns = used.any(1).nonzero()[0], used.any(0).nonzero()[0]
    if not len(rows):
        return None
    return Rectangle(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def _through_activation(span: Span, g: Tensor, y: Tensor, rectangle: Rectangle) -> Tensor:
    """From a layer's result to what its activation was given."""
    layer, y = span.layer, rectangle.of(y)
    g = torch.ops.aten.leaky_relu_backward(g, y, _SLOPE, True)
    if layer.conv_clamp is not None:
        g = g * (y.abs() < layer.conv_clamp)
    if not span.wanted.inside(layer.size):
        g = g * rectangle.of(cells_inside(span.wanted, layer.size, g.device))
    return g.mul_(ACTIVATIONS["lrelu"].gain)


def _through_convolution(span: Span, g: Tensor, rectangle: Rectangle) -> tuple[Tensor, Rectangle]:
    """From the result of convolution and filter to the convolution's input."""
    layer, (height, width) = span.layer, span.given.size
    r, convolution = rectangle, _convolution(layer)
    if layer.up == 1:
        if not span.whole:
            return convolution.run(g, layer.weight, 0, True), Rectangle(r.top, r.bottom + 2, r.left, r.right + 2)
        grown = Rectangle(max(r.top - 1, 0), min(r.bottom + 1, height), max(r.left - 1, 0), min(r.right + 1, width))
        if (r.top, r.bottom, r.left, r.right) == (0, height, 0, width):
            return convolution.run(g, layer.weight, 1, True), grown
        g = convolution.run(g, layer.weight, 0, True)
        # Its cell 0 is cell top - 1 of the map.
        top, left = grown.top - (r.top - 1), grown.left - (r.left - 1)
        rows, columns = grown.bottom - grown.top, grown.right - grown.left
        return g[:, :, top : top + rows, left : left + columns], grown
    low, high = (tuple(f(s[axis] for s in span.starts) for axis in (0, 1)) for f in (min, max))
    if low != high:
        # Windows begin at even and odd cells; brought to one beginning.
        spread = g.new_zeros(
            g.shape[0], g.shape[2] + high[0] - low[0], g.shape[3] + high[1] - low[1], g.shape[1]
        ).permute(0, 3, 1, 2)
        for i, (y, x) in enumerate(span.starts):
            spread[i, :, y - low[0] :, x - low[1] :][:, : g.shape[2], : g.shape[3]] = g[i]
        g = spread
    # The filter spreads cell j to the cells j .. j + 3 of the transposed convolution, and that took its cell k from the
    # input cells (k - 2) / 2 .. k / 2. Input cell i needs the cells 2 i .. 2 i + 2.
    def extent(first: int, last: int, limit: int) -> tuple[int, int, int, int]:
        """Input cells from, to; zeros before and behind so that the filter gives the cells that those need."""
        low, high = max((first - 1) // 2, 0), min((last + 3) // 2, limit - 1)
        return low, high, first + 3 - 2 * low, 2 * high + 2 - last

    top, bottom, above, below = extent(r.top + low[0], r.bottom - 1 + high[0], height)
    left, right, before, behind = extent(r.left + low[1], r.right - 1 + high[1], width)
    g = upfirdn2d(g, layer.resample_filter.flip(0, 1), padding=(before, behind, above, below), gain=4)
    return convolution.run(g, layer.weight, 0, False), Rectangle(top, bottom + 1, left, right + 1)


def _to_row(layer: SynthesisLayer, style: Tensor, demodulation: Tensor, to_s: Tensor, to_d: Tensor) -> Tensor:
    """From style and demodulation to the latent row; both are per window where the row may be one for all."""
    if len(style) == 1:
        to_s, to_d = to_s.sum(0, keepdim=True), to_d.sum(0, keepdim=True)
    # d = (energy s^2)^(-1/2), so the gradient to its argument is -d^3 / 2.
    to_s = to_s + 2 * style * ((-0.5 * to_d * demodulation**3) @ layer.energy())
    return (to_s @ layer.affine.weight) * layer.affine.weight_gain


def _into_whole(span: Span, g: Tensor, rectangle: Rectangle, batch: int) -> tuple[Tensor, Rectangle | None]:
    """From windows to the whole map that they were cut from, and the rectangle of it that they reach."""
    height, width = span.input_size
    corners = [
        (
            min(max(y + rectangle.top, 0), height),
            min(max(y + rectangle.bottom, 0), height),
            min(max(x + rectangle.left, 0), width),
            min(max(x + rectangle.right, 0), width),
        )
        for y, x in span.given.origins
    ]
    top, left = min(c[0] for c in corners), min(c[2] for c in corners)
    bottom, right = max(c[1] for c in corners), max(c[3] for c in corners)
    if top >= bottom or left >= right:
        return g, None
    whole = g.new_zeros(batch, bottom - top, right - left, g.shape[1]).permute(0, 3, 1, 2)
    for i, ((y0, y1, x0, x1), (y, x)) in enumerate(zip(corners, span.given.origins, strict=True)):
        y, x = y + rectangle.top, x + rectangle.left
        whole[i if batch > 1 else 0, :, y0 - top : y1 - top, x0 - left : x1 - left] += (
            g[i, :, y0 - y : y1 - y, x0 - x : x1 - x]
        )
    return whole, Rectangle(top, bottom, left, right)
