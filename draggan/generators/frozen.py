"""Features of a frozen StyleGAN2 and their gradient to the latent, with the backward pass written out.

Automatic differentiation would do the same from the layers' own code (and does, for networks that are not frozen, and
as this module's test). Written out it costs a fraction beside the convolutions, because it knows more:

* nothing but latent rows takes a gradient, and only the rows that ask;
* the gradient is zero outside a few cells of each window. A rectangle that holds them is found once, at the end, and
  every layer below works on the rectangle that this one depends on;
* weights do not change, and windows seldom do from one step of a drag to the next. What follows from them alone (the
  noise in the windows, which of their cells lie on the map, where they are cut) is a `Layout`, made once for both
  passes and for as many steps as the windows stay. Where a pass is to be the same for all windows, what follows from
  their positions is data instead (`draggan.generators.steady`).

Per layer, with the style s and the demodulation factor d of the row w (Karras et al. 2020, Eq. 1-3):

    z = filter(convolve(s * x)),   y = clamp(lrelu(gain * (d * z + noise + bias)))

The gain of the activation is inside, which is the same for a leaky ReLU; d, noise and bias are kept multiplied by it.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from draggan.generators.stylegan2 import SynthesisLayer, as_type
from draggan.geometry import Windows, brought
from torch_utils.ops.bias_act import ACTIVATIONS, scaled_gradient, scaled_lrelu, scaled_lrelu_gradient
from torch_utils.ops.upfirdn2d import upfirdn2d
from torch_utils.pytorch_internals import below_autograd, version

__all__ = [
    "Cut",
    "Layer",
    "Layout",
    "Modulation",
    "Place",
    "Rectangle",
    "Span",
    "backward",
    "cells_as_rows",
    "features",
    "forward",
    "made_ready",
    "modulated",
    "modulations",
    "possible",
    "remembered",
    "support",
]

_SLOPE = 0.2
_GAIN = ACTIVATIONS["lrelu"].gain

# Of a layer and a latent row: style, demodulation factor, and both as features of that type are multiplied by them.
Modulation: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


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


def possible(layers: Sequence[SynthesisLayer]) -> bool:
    """Whether all these layers are frozen, and of the kind written out here."""
    return all(
        layer.frozen_convolution is not None
        and layer.activation == "lrelu"
        and layer.gain == 1
        and not layer.weight.requires_grad
        for layer in layers
    )


def features(layout: Layout, rows: Sequence[Tensor]) -> Tensor:
    """The output of the last layer, or the windows of it.

    Args:
        rows: latent rows, ``[1 or n, w_dim]`` for n windows.

    Returns:
        ``[n, channel, height, width]``; differentiable once.
    """
    return _Pass.apply(layout, *[rows[k] for k in layout.rows])


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


class Layout:
    """Layers, and what of them is computed: everything about a pass that does not depend on the latent.

    Args:
        constant: ``[channel, height, width]``, the input of the first layer.
        spans: layers from the first on, whole maps first.
        wanted: windows of the last layer's output to be cut out, where that is a whole map; None: nothing is cut.
        dtype: in which type to compute.
    """

    def __init__(self, constant: Tensor, spans: Sequence[Span], wanted: Windows | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.constant = constant.detach()[None].to(dtype).contiguous(memory_format=torch.channels_last)
        self.rows = tuple(span.row for span in spans)
        self.layers, self.last = self.placed(spans, wanted)

    def placed(self, spans: Sequence[Span], wanted: Windows | None) -> tuple[tuple[Layer, ...], Cut | None]:
        """The layers with their windows, and how to cut out what is wanted of the last one's whole map."""
        last = None if wanted is None else _Cut(wanted, spans[-1].layer.size, spans[-1].layer.weight.device)
        return tuple(Layer(span, _place(span, self.dtype)) for span in spans), last

    def support(self, gradient: Tensor) -> Rectangle | None:
        """Outside which cells a gradient is zero in every window; None: everywhere."""
        return support(gradient)

    def current(self) -> bool:
        """Whether the layers are still those that it was made of, with the weights they had then."""
        return all(a.module.frozen_energy is a.ready.energy and not a.ready.weight.requires_grad for a in self.layers)


class _Ready:
    """A frozen layer's weights, taken out of the module; factors that never change are multiplied in."""

    def __init__(self, layer: SynthesisLayer) -> None:
        assert layer.frozen_convolution is not None
        assert layer.frozen_energy is not None
        self.convolution, self.weight = layer.frozen_convolution, layer.weight
        self.up, self.clamp = layer.up == 2, layer.conv_clamp
        # style = bias + gain * weight w, and d = gain (energy s^2 + 1e-8)^(-1/2), the gain being the activation's.
        affine, self.energy = layer.affine, layer.frozen_energy
        self.style_weight, self.style_gain = affine.weight.detach(), affine.weight_gain
        self.style_bias = (affine.bias * affine.bias_gain).detach()
        self.epsilon = self.energy.new_full((1,), 1e-8 / _GAIN**2)
        self.bias = (layer.bias * _GAIN).detach()
        self.noise: Tensor | None = None if layer.frozen_noise is None else layer.frozen_noise * _GAIN
        self.filter, self.flipped = layer.resample_filter, layer.resample_filter.flip(0, 1)
        # By the layers that come after this one in them.
        self.stacks: dict[tuple[_Ready, ...], Styles] = {}


class Styles:
    """Styles and demodulation factors of layers whose matrices are of one size, by one product each.

    Reading the matrices is what takes time, on a GPU giving it the operations; both are less for all together.

    Args:
        layers: one or more, whose style gain is the same.
    """

    def __init__(self, layers: Sequence[_Ready]) -> None:
        self._weight, self._bias, self._energy = (
            _stacked([getattr(r, name) for r in layers]) for name in ("style_weight", "style_bias", "energy")
        )
        self._gain, self._epsilon = layers[0].style_gain, layers[0].epsilon

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`SynthesisLayer.modulation`, the demodulation factor times the activation's gain.

        Args:
            rows: ``[layer, batch, w_dim]``.

        Returns:
            ``[layer, batch, in]`` and ``[layer, batch, out]``.
        """
        style = torch.baddbmm(self._bias[:, None], rows, self._weight.transpose(1, 2), alpha=self._gain)
        energy = torch.baddbmm(self._epsilon, style.square(), self._energy.transpose(1, 2), alpha=_GAIN**-2)
        return style, energy.rsqrt_()

    def to_rows(self, style: Tensor, demodulation: Tensor, to_s: Tensor, to_d: Tensor) -> Tensor:
        """From gradients to style and demodulation factor to one to the rows, of `of`'s shapes."""
        # d = (energy s^2 / gain^2)^(-1/2), so the gradient to its argument is -d^3 / 2.
        to_energy = torch.bmm(demodulation.pow(3).mul_(to_d), self._energy)
        to_s = torch.addcmul(to_s, style, to_energy, value=-(_GAIN**-2))
        return torch.baddbmm(self._epsilon, to_s, self._weight, beta=0, alpha=self._gain)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def _styles(layers: Sequence[_Ready]) -> Styles:
    """Made once for as long as the first of them exists: recorded graphs read them where they are."""
    first, others = layers[0], tuple(layers[1:])
    found = first.stacks.get(others)
    if found is None:
        first.stacks[others] = found = Styles(layers)
    return found


def _alike(layers: Sequence[Layer]) -> list[list[int]]:
    """Which of these layers have matrices of one size, the first ones first."""
    groups: dict[Any, list[int]] = {}
    for k, layer in enumerate(layers):
        r = layer.ready
        groups.setdefault((r.style_weight.shape, r.energy.shape, r.style_gain), []).append(k)
    return list(groups.values())


# As long as the layer exists, and its weights are these.
_ready: WeakKeyDictionary[SynthesisLayer, _Ready] = WeakKeyDictionary()


def made_ready(layer: SynthesisLayer) -> _Ready:
    found = _ready.get(layer)
    if found is None or found.energy is not layer.frozen_energy:
        _ready[layer] = found = _Ready(layer)
    return found


class Cut(abc.ABC):
    """How to cut windows out of whole maps.

    Attributes:
        view: the windows are a part of the map, and no copy.
    """

    view: bool

    @abc.abstractmethod
    def of(self, x: Tensor) -> Tensor:
        """``[1 or n, channel, *size]`` to ``[n, channel, height, width]``; cells outside the map are zero."""

    @abc.abstractmethod
    def back(self, g: Tensor, part: Rectangle, batch: int) -> tuple[Tensor, Rectangle | None]:
        """From a rectangle of the windows to the whole map, and the rectangle of it that they reach."""


@dataclass(frozen=True, eq=False)
class Place:
    """What follows for a layer from where its windows are.

    Attributes:
        cut: how to cut its input out of whole maps; None: it comes as windows already, or is a whole map.
        noise: in its windows, ``[n, 1, height, width]``, or all of it.
        inside: 1 for cells on the map, 0 for others, ``[n, 1, height, width]``; None: all are on the map.
        picked: which cells of the filtered maps of a batch, numbered as in `cells_as_rows`, are the wanted windows;
            None where they begin at the same cell of each.
    """

    cut: Cut | None = None
    noise: Tensor | None = None
    inside: Tensor | None = None
    picked: Tensor | None = None


def _place(span: Span, dtype: torch.dtype) -> Place:
    layer = span.layer
    device, size, noise = layer.weight.device, layer.size, made_ready(layer).noise
    cut = _Cut(span.given, span.input_size, device) if span.cut else None
    if span.whole:
        return Place(cut, noise)
    if noise is not None:
        cells, _ = _cells(span.wanted, size)
        noise = noise.flatten()[_on(cells, device)][:, None]
    inside = picked = None
    # Only where windows reach over the border.
    if not span.wanted.inside(size):
        inside = _on(_cells(span.wanted, size)[1][:, None], device).to(dtype)
    if layer.up == 2 and len(set(span.starts)) > 1:
        filtered = 2 * span.given.size[0] - 2, 2 * span.given.size[1] - 2
        picked = _on(_places(span.starts, filtered, span.wanted.size), device)
    return Place(cut, noise, inside, picked)


class Layer:
    """One span, made ready."""

    def __init__(self, span: Span, place: Place) -> None:
        layer = self.module = span.layer
        self.ready, self.whole = made_ready(layer), span.whole
        self.padding = int(span.whole and layer.up == 1)
        self.given_size, self.wanted_size = span.given.size, span.wanted.size
        self.cut, self.noise, self.inside, self.picked = place.cut, place.noise, place.inside, place.picked
        self.starts = span.starts
        self.low, self.high = ((f(y for y, _ in self.starts), f(x for _, x in self.starts)) for f in (min, max))

    def filtered(self, z: Tensor) -> Tensor:
        """The low-pass filter after the transposed convolution, and the wanted windows of its result."""
        if self.picked is not None:
            z = upfirdn2d(z, self.ready.filter, gain=4)
            rows = cells_as_rows(z).index_select(0, self.picked)
            return rows.view(len(self.starts), *self.wanted_size, -1).permute(0, 3, 1, 2)
        (top, left), (height, width) = self.low, self.wanted_size
        below, behind = height + 3 - z.shape[2] + top, width + 3 - z.shape[3] + left
        return upfirdn2d(z, self.ready.filter, padding=(-left, behind, -top, below), gain=4)

    def activated(self, z: Tensor, d: Tensor, *, overwrite: bool) -> Tensor:
        """Demodulate, add noise and bias, activate, and set cells outside the map to zero."""
        r = self.ready
        y = scaled_lrelu(z, d, self.noise, r.bias, slope=_SLOPE, clamp=r.clamp, overwrite=overwrite)
        return y if self.inside is None else y.mul_(self.inside)

    def unactivated(
        self, g: Tensor, y: Tensor, z: Tensor | None, d: Tensor, r: Rectangle
    ) -> tuple[Tensor, Tensor | None]:
        """From a gradient to the result to the one to z, and to d if z is given."""
        if self.inside is not None:
            g = g * r.of(self.inside)
        ready, noise = self.ready, self.noise
        if z is not None:
            z = r.of(z)
            if noise is not None:
                noise = r.of(noise if noise.ndim == 4 else noise[None, None])
        return scaled_lrelu_gradient(g, r.of(y), z, d, noise, ready.bias, slope=_SLOPE, clamp=ready.clamp)

    def unconvolved(self, g: Tensor, r: Rectangle) -> tuple[Tensor, Rectangle]:
        """From a gradient to the result of convolution and filter to the one to the convolution's input."""
        run, weight, (height, width) = self.ready.convolution.run, self.ready.weight, self.given_size
        if self.ready.up:
            return self.unfiltered(g, r)
        if not self.whole:
            return run(g, weight, 0, True), Rectangle(r.top, r.bottom + 2, r.left, r.right + 2)
        grown = Rectangle(max(r.top - 1, 0), min(r.bottom + 1, height), max(r.left - 1, 0), min(r.right + 1, width))
        if (r.top, r.bottom, r.left, r.right) == (0, height, 0, width):
            return run(g, weight, 1, True), grown
        # Its cell 0 is cell top - 1 of the map.
        top, left = grown.top - (r.top - 1), grown.left - (r.left - 1)
        rows, columns = grown.bottom - grown.top, grown.right - grown.left
        return Rectangle(top, top + rows, left, left + columns).of(run(g, weight, 0, True)), grown

    def unfiltered(self, g: Tensor, r: Rectangle) -> tuple[Tensor, Rectangle]:
        """`unconvolved` of a layer that doubles the size."""
        low, high, (height, width) = self.low, self.high, self.given_size
        if low != high:
            # Windows begin at even and odd cells; brought to one beginning.
            n, channels, rows, columns = g.shape
            tall, wide = rows + high[0] - low[0], columns + high[1] - low[1]
            places = _places([(y - low[0], x - low[1]) for y, x in self.starts], (tall, wide), (rows, columns))
            spread = g.new_zeros(n * tall * wide, channels)
            spread.index_copy_(0, _on(places, g.device), cells_as_rows(g))
            g = spread.view(n, tall, wide, channels).permute(0, 3, 1, 2)

        # The filter spreads cell j to the cells j .. j + 3 of the transposed convolution, and that took its cell k from
        # the input cells (k - 2) / 2 .. k / 2. Input cell i needs the cells 2 i .. 2 i + 2.
        def extent(first: int, last: int, limit: int) -> tuple[int, int, int, int]:
            """Input cells from, to; zeros before and behind so that the filter gives the cells that those need."""
            low, high = max((first - 1) // 2, 0), min((last + 3) // 2, limit - 1)
            return low, high, first + 3 - 2 * low, 2 * high + 2 - last

        top, bottom, above, below = extent(r.top + low[0], r.bottom - 1 + high[0], height)
        left, right, before, behind = extent(r.left + low[1], r.right - 1 + high[1], width)
        g = upfirdn2d(g, self.ready.flipped, padding=(before, behind, above, below), gain=4)
        return self.ready.convolution.run(g, self.ready.weight, 0, False), Rectangle(top, bottom + 1, left, right + 1)


class _Cut(Cut):
    """Windows of a whole map, or of one map each; cells outside the map are zero."""

    def __init__(self, windows: Windows, size: tuple[int, int], device: torch.device) -> None:
        self.windows, self.size, self.all_inside = windows, size, windows.inside(size)
        self.view = len(windows) == 1 and self.all_inside
        # One window is a part of its map. Several are gathered, cell by cell.
        self.cells: np.ndarray | None = None
        if len(windows) > 1:
            self.cells, self.on_map = _cells(windows, size)
            self.each = _on(self.cells.ravel(), device)
            self.mask = _on(self.on_map.reshape(-1, 1), device)

    def of(self, x: Tensor) -> Tensor:
        height, width = self.windows.size
        if self.cells is None:
            (y, left), (rows, columns) = self.windows.origins[0], self.size
            top, bottom = max(y, 0), max(min(y + height, rows), 0)
            first, last = max(left, 0), max(min(left + width, columns), 0)
            part = x[:, :, top:bottom, first:last]
            if self.all_inside:
                return part
            if top >= bottom or first >= last:
                return x.new_zeros(x.shape[0], x.shape[1], height, width)
            return F.pad(part, (first - left, left + width - last, top - y, y + height - bottom))
        each = self.each
        if len(x) > 1:
            first_cells = torch.arange(len(x), device=x.device) * (self.size[0] * self.size[1])
            each = each + first_cells.repeat_interleave(height * width)
        out = cells_as_rows(x).index_select(0, each)
        if not self.all_inside:
            out.mul_(self.mask)
        return out.view(len(self.windows), height, width, -1).permute(0, 3, 1, 2)

    def back(self, g: Tensor, part: Rectangle, batch: int) -> tuple[Tensor, Rectangle | None]:
        height, width = self.size
        corners = [
            (
                min(max(y + part.top, 0), height),
                min(max(y + part.bottom, 0), height),
                min(max(x + part.left, 0), width),
                min(max(x + part.right, 0), width),
            )
            for y, x in self.windows.origins
        ]
        top, left = min(c[0] for c in corners), min(c[2] for c in corners)
        bottom, right = max(c[1] for c in corners), max(c[3] for c in corners)
        if top >= bottom or left >= right:
            return g, None
        reached = Rectangle(top, bottom, left, right)
        if self.cells is None:
            y, x = self.windows.origins[0]
            y, x = top - y - part.top, left - x - part.left
            return Rectangle(y, y + bottom - top, x, x + right - left).of(g), reached
        cells, on_map = (a[:, part.top : part.bottom, part.left : part.right] for a in (self.cells, self.on_map))
        rows, columns = bottom - top, right - left
        places = (cells // width - top) * columns + cells % width - left
        if batch > 1:
            places = places + rows * columns * np.arange(batch)[:, None, None]
        places = places[on_map]
        values = cells_as_rows(g)
        if not on_map.all():
            values = values.index_select(0, _on(on_map.ravel().nonzero()[0], g.device))
        whole = g.new_zeros(batch * rows * columns, g.shape[1])
        whole.index_add_(0, _on(places, g.device), values)
        return whole.view(batch, rows, columns, -1).permute(0, 3, 1, 2), reached


def _on(a: np.ndarray, device: torch.device) -> Tensor:
    """Brought to the device without waiting for what it is doing, where that is safe."""
    return brought(torch.from_numpy(a), device)


def _ranges(starts: Sequence[int], length: int) -> np.ndarray:
    """``[n, length]``, each row counting from its start."""
    return np.asarray(starts)[:, None] + np.arange(length)


def _cells(windows: Windows, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """For every cell of the windows the number of the map's cell, row by row, and whether it is on the map.

    Cells outside have the number of some cell on it.
    """
    y, x = (_ranges([o[axis] for o in windows.origins], windows.size[axis]) for axis in (0, 1))
    on_map = ((y >= 0) & (y < size[0]))[:, :, None] & ((x >= 0) & (x < size[1]))[:, None, :]
    y, x = y.clip(0, size[0] - 1), x.clip(0, size[1] - 1)
    return y[:, :, None] * size[1] + x[:, None, :], on_map


def _places(starts: Sequence[tuple[int, int]], size: tuple[int, int], part: tuple[int, int]) -> np.ndarray:
    """Where a part of each map of a batch lies that begins at a start of its own, as numbers of `cells_as_rows`."""
    y, x = (_ranges([s[axis] for s in starts], part[axis]) for axis in (0, 1))
    first = size[0] * size[1] * np.arange(len(starts))[:, None, None]
    return (first + y[:, :, None] * size[1] + x[:, None, :]).ravel()


def cells_as_rows(x: Tensor) -> Tensor:
    """A map as one row of channels per cell, ``[n * height * width, channel]``."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class _Pass(torch.autograd.Function):
    """`features`; one row per layer."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, *rows: Tensor) -> Tensor:
        asked, batch = ctx.needs_input_grad[1:], len(rows[0])
        with torch.autocast(rows[0].device.type, enabled=False), below_autograd():
            y, saved = forward(layout, modulations(layout, rows, asked), asked, batch)
        ctx.layout, ctx.asked, ctx.batch = layout, asked, batch
        ctx.save_for_backward(*saved)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False), below_autograd():
            return None, *backward(ctx.layout, ctx.saved_tensors, ctx.asked, ctx.batch, gradient)


def forward(
    layout: Layout, modulations: Sequence[Modulation], asked: Sequence[bool], batch: int
) -> tuple[Tensor, list[Tensor | None]]:
    """The features, and what `backward` needs besides.

    Both are called without autocast and below autograd.

    Args:
        asked: which layers' rows ask for a gradient.
        batch: how many latents there are, 1 or one per window.
    """
    lowest = _lowest(asked)
    saved: list[Tensor | None] = []
    x = layout.constant.expand(batch, -1, -1, -1)
    for k, (layer, (style, demodulation, s, d)) in enumerate(zip(layout.layers, modulations, strict=True)):
        if layer.cut is not None:
            x = layer.cut.of(x)
        ready = layer.ready
        z = ready.convolution.run(x * s, ready.weight, layer.padding, ready.up)
        if ready.up:
            z = layer.filtered(z)
        y = layer.activated(z, d, overwrite=not asked[k])
        if k >= lowest:
            saved += [y, s, d]
            saved += [x, z, style, demodulation] if asked[k] else [None] * 4
        x = y
    if layout.last is not None:
        x = layout.last.of(x)
        if layout.last.view:
            # Not a view of something larger, which would be kept with it.
            x = x.contiguous(memory_format=torch.channels_last)
    return x, saved


def _lowest(asked: Sequence[bool]) -> int:
    """The first layer whose row asks for a gradient; beyond the last if none does."""
    return list(asked).index(True) if any(asked) else len(asked)


def backward(
    layout: Layout, saved: Sequence[Any], asked: Sequence[bool], batch: int, gradient: Tensor
) -> list[Tensor | None]:
    """From a gradient to the features to one to every row that asks; the arguments are those of `forward`."""
    layers, lowest = layout.layers, _lowest(asked)
    to_rows: list[Tensor | None] = [None] * len(layers)
    # Of layers whose row asks: style and demodulation factor, and the gradients to them.
    found: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    rectangle = layout.support(gradient)
    g = gradient if rectangle is None else rectangle.of(gradient)
    if layout.last is not None and rectangle is not None:
        g, rectangle = layout.last.back(g, rectangle, batch)
    for k in range(len(layers) - 1, lowest - 1, -1):
        layer = layers[k]
        y, s, d, x, z, style, demodulation = saved[7 * (k - lowest) :][:7]
        if rectangle is None:
            if asked[k]:
                to_rows[k] = style.new_zeros(batch, layer.ready.style_weight.shape[1])
            continue
        g, to_d = layer.unactivated(g, y, z, d, rectangle)
        g, rectangle = layer.unconvolved(g, rectangle)
        if to_d is None:
            g = g.mul_(s)
        else:
            g, to_s = scaled_gradient(g, rectangle.of(x), s.flatten(1))
            if g.dtype == torch.float16:
                # See `as_type`: the factor that style and demodulation exchange.
                largest = style.abs().amax(1, keepdim=True).clamp(min=1e-8)
                to_s, to_d = to_s / largest, to_d * largest
            if len(style) == 1 < len(to_s):
                # Per window, where the row is one for all.
                to_s, to_d = to_s.sum(0, keepdim=True), to_d.sum(0, keepdim=True)
            found[k] = style, demodulation, to_s, to_d
            if k == lowest:
                break
        if layer.cut is not None:
            g, rectangle = layer.cut.back(g, rectangle, batch)
    which = sorted(found)
    for group in _alike([layers[k] for k in which]):
        own = [which[i] for i in group]
        of_style, of_demodulation, to_style, to_demodulation = (
            _stacked(tensors) for tensors in zip(*(found[k] for k in own), strict=True)
        )
        styles = _styles([layers[k].ready for k in own])
        rows = styles.to_rows(of_style, of_demodulation, to_style, to_demodulation)
        for k, row in zip(own, rows.unbind(), strict=True):
            to_rows[k] = row
    return to_rows


def modulations(layout: Layout, rows: Sequence[Tensor], asked: Sequence[bool]) -> list[Modulation]:
    """Of every layer and its row; those of rows that ask for no gradient are remembered."""
    layers, dtype = layout.layers, layout.dtype
    moving = [k for k, asks in enumerate(asked) if asks]
    made = modulated([layers[k] for k in moving], [rows[k] for k in moving], dtype)
    new = dict(zip(moving, made, strict=True))
    return [new[k] if k in new else remembered(layers[k], rows[k], dtype) for k in range(len(layers))]


def modulated(layers: Sequence[Layer], rows: Sequence[Tensor], dtype: torch.dtype) -> list[Modulation]:
    """Style and demodulation factor, and what features of that type are multiplied by, of each layer and its row.

    That is the style as ``[batch, channel, 1, 1]`` of that type, and the factor as it is but in float16.
    """
    found: dict[int, Modulation] = {}
    for group in _alike(layers):
        styles = _styles([layers[k].ready for k in group])
        every = styles.of(_stacked([rows[k].float() for k in group]))
        for k, style, demodulation in zip(group, *(t.unbind() for t in every), strict=True):
            if dtype == torch.float16:
                s, d = as_type(style, demodulation, dtype)
                found[k] = style, demodulation, s, d.flatten(1)
            else:
                found[k] = style, demodulation, style.to(dtype).view(*style.shape, 1, 1), demodulation
    return [found[k] for k in range(len(layers))]


# Style and demodulation factor of rows that take no gradient, as long as the row itself exists: in a drag, most rows
# are the same tensors in every step.
_modulations: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def remembered(layer: Layer, w: Tensor, dtype: torch.dtype) -> Modulation:
    """`modulated` of this row, computed once."""
    now = version(w)
    known = _modulations.setdefault(w, {})
    found = known.get(layer.module)
    # Written to, or frozen anew with other weights, or another type: not the same any more.
    if found is None or found[0] != now or found[1] is not layer.ready.energy or found[2] != dtype:
        with torch.inference_mode(False), torch.no_grad():
            known[layer.module] = found = (now, layer.ready.energy, dtype, *modulated([layer], [w], dtype))
    return found[3]


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
