"""Features of a StyleGAN2 with frozen weights and their gradient to the latent, with the backward pass written out.

Third in the stack, above `windows`. A `Layout` is everything about a pass that does not depend on the latent,
`layout_for` finds or makes one, `analytic_features` runs it. Automatic differentiation would do the same from the
layers' own code (and does, for networks that are not frozen, and as this module's test). Written out it costs a
fraction beside the convolutions, because it knows more:

* nothing but latent rows takes a gradient, and only the rows that need one;
* the gradient is zero outside a few cells of each window. A rectangle that holds them is found once, at the end, and
  every layer below works on the rectangle that this one depends on;
* weights do not change, and windows seldom do from one step of a drag to the next. What follows from them alone (the
  noise in the windows, which of their cells lie on the map, where they are cut) is made once for both passes and for as
  many steps as the windows stay.

Per layer, with the style s and the demodulation factor d of the row w (Karras et al. 2020, Eq. 1-3):

    z = filter(convolve(s * x)),   y = clamp(lrelu(gain * (d * z + noise + bias)))

The gain of the activation is inside, which is the same for a leaky ReLU; d, noise and bias are kept multiplied by it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from draggan.generators.stylegan2.networks import SynthesisLayer, SynthesisNetwork, modulation_for_type
from draggan.generators.stylegan2.windows import LayerPlan, plan_layers
from draggan.geometry import Rectangle, SlicedCrop, WindowCrop, Windows, cells_inside, crop, nonzero_support
from torch_utils.ops.bias_act import ACTIVATIONS, scaled_gradient, scaled_lrelu, scaled_lrelu_gradient
from torch_utils.ops.prepacked_convolution import compiled_convolution_available
from torch_utils.ops.upfirdn2d import upfirdn2d
from torch_utils.pytorch_internals import below_autograd, version

__all__ = [
    "Layer",
    "LayerWeights",
    "Layout",
    "Modulation",
    "Placement",
    "analytic_features",
    "backward",
    "cached_modulation",
    "compute_modulations",
    "feature_type",
    "forward",
    "is_supported",
    "layout_for",
    "weights_of",
]

_SLOPE = 0.2
_GAIN = ACTIVATIONS["lrelu"].gain

# Of a layer and a latent row: style, demodulation factor, and both as features of that type are multiplied by them.
Modulation: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def is_supported(layers: Sequence[SynthesisLayer]) -> bool:
    """Whether all these layers are frozen, and of the kind written out here."""
    return all(
        layer.frozen_convolution is not None
        and layer.activation == "lrelu"
        and layer.gain == 1
        and not layer.weight.requires_grad
        for layer in layers
    )


def analytic_features(layout: Layout, rows: Sequence[Tensor]) -> Tensor:
    """The output of the last layer, or the windows of it.

    Args:
        rows: latent rows, ``[1 or n, w_dim]`` for n windows.

    Returns:
        ``[n, channel, height, width]``; differentiable once.
    """
    return _AnalyticFeatures.apply(layout, *[rows[k] for k in layout.rows])


def feature_type(synthesis: SynthesisNetwork) -> torch.dtype:
    """In which type features are computed: what autocast asks for, else that of the weights."""
    constant = synthesis.get_parameter("b4.const")
    kind = constant.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else constant.dtype


class Layout:
    """Layers, and what of them is computed: everything about a pass that does not depend on the latent.

    Args:
        constant: ``[channel, height, width]``, the input of the first layer.
        plans: layers from the first on, whole maps first.
        windows: of the last layer's output, to be cut out where that is a whole map; None: nothing is cut out of it.
        dtype: in which type to compute.

    Attributes:
        layers: in order.
        rows: which latent row each takes.
        final_crop: cuts the windows out of the last layer's whole map; None where that gives them already.
    """

    def __init__(
        self, constant: Tensor, plans: Sequence[LayerPlan], windows: Windows | None, dtype: torch.dtype
    ) -> None:
        self.dtype = dtype
        self.constant = constant.detach()[None].to(dtype).contiguous(memory_format=torch.channels_last)
        self.rows = tuple(plan.row for plan in plans)
        self.layers, self.final_crop = self.place(plans, windows)

    def place(self, plans: Sequence[LayerPlan], windows: Windows | None) -> tuple[tuple[Layer, ...], WindowCrop | None]:
        """The layers with their windows, and how to cut windows out of the last one's whole map."""
        final = None if windows is None else SlicedCrop(windows, plans[-1].layer.size)
        return tuple(Layer(plan, _placement(plan, self.dtype)) for plan in plans), final

    def gradient_support(self, gradient: Tensor) -> Rectangle | None:
        """Outside which cells a gradient is zero in every window; None: everywhere."""
        return nonzero_support(gradient)

    def is_current(self) -> bool:
        """Whether the layers are still those that it was made of, with the weights they had then."""
        return all(
            a.module.frozen_energy is a.weights.energy and not a.weights.kernel.requires_grad for a in self.layers
        )


# The layouts of each network that were asked for last: a drag takes the same one until a handle moves by a cell, and
# many may drag on one network. Each holds the noise of a few windows.
MAX_LAYOUTS = 64
_layouts: WeakKeyDictionary[SynthesisNetwork, OrderedDict[tuple[Any, ...], Layout]] = WeakKeyDictionary()
_lock = threading.Lock()


def layout_for(synthesis: SynthesisNetwork, resolution: int, windows: Windows | None) -> Layout | None:
    """How to compute windows (None: the whole map) of a network with frozen weights; None for one without."""
    dtype = feature_type(synthesis)
    key = (resolution, windows, dtype)
    with _lock:
        known = _layouts.setdefault(synthesis, OrderedDict())
        found = known.get(key)
        if found is not None:
            known.move_to_end(key)
    if found is not None and found.is_current():
        return found
    constant = synthesis.get_parameter("b4.const")
    plans = plan_layers(synthesis, resolution, windows, winograd=compiled_convolution_available(constant, dtype))
    if not is_supported([plan.layer for plan in plans]):
        return None
    # Later passes may want gradients even if this one is for inference.
    with torch.inference_mode(False), torch.no_grad():
        found = Layout(constant, plans, windows if plans[-1].whole else None, dtype)
    with _lock:
        if not all(layout.is_current() for layout in known.values()):
            known.clear()  # they hold the weights that the layers had
        known[key] = found
        if len(known) > MAX_LAYOUTS:
            known.popitem(last=False)
    return found


class LayerWeights:
    """A frozen layer's weights, taken out of the module; factors that never change are multiplied in."""

    def __init__(self, layer: SynthesisLayer) -> None:
        assert layer.frozen_convolution is not None
        assert layer.frozen_energy is not None
        self.convolution, self.kernel = layer.frozen_convolution, layer.weight
        self.up, self.clamp = layer.up == 2, layer.conv_clamp
        # style = bias + gain * weight w, and d = gain (energy s^2 + 1e-8)^(-1/2), the gain being the activation's.
        affine, self.energy = layer.affine, layer.frozen_energy
        self.style_weight, self.style_gain = affine.weight.detach(), affine.weight_gain
        self.style_bias = (affine.bias * affine.bias_gain).detach()
        self.epsilon = self.energy.new_full((1,), 1e-8 / _GAIN**2)
        self.bias = (layer.bias * _GAIN).detach()
        self.noise: Tensor | None = None if layer.frozen_noise is None else layer.frozen_noise * _GAIN
        self.filter, self.flipped_filter = layer.resample_filter, layer.resample_filter.flip(0, 1)
        # Those of which this layer is the first, by the others.
        self.stacks: dict[tuple[LayerWeights, ...], StackedModulation] = {}


class StackedModulation:
    """Styles and demodulation factors of layers whose matrices are of one size, by one product each.

    Reading the matrices is what takes time, on a GPU giving it the operations; both are less for all together.

    Args:
        layers: one or more, whose style gain is the same.
    """

    def __init__(self, layers: Sequence[LayerWeights]) -> None:
        self._weight, self._bias, self._energy = (
            _stack([getattr(r, name) for r in layers]) for name in ("style_weight", "style_bias", "energy")
        )
        self._gain, self._epsilon = layers[0].style_gain, layers[0].epsilon

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`SynthesisLayer.modulation`, the demodulation factor times the activation's gain.

        Args:
            rows: ``[layer, batch, w_dim]``.

        Returns:
            ``[layer, batch, in]`` and ``[layer, batch, out]``.
        """
        style = torch.baddbmm(self._bias[:, None], rows, self._weight.transpose(1, 2), alpha=self._gain)
        energy = torch.baddbmm(self._epsilon, style.square(), self._energy.transpose(1, 2), alpha=_GAIN**-2)
        return style, energy.rsqrt_()

    def backward(self, style: Tensor, demodulation: Tensor, to_s: Tensor, to_d: Tensor) -> Tensor:
        """From gradients to style and demodulation factor to one to the rows, of `forward`'s shapes."""
        # d = (energy s^2 / gain^2)^(-1/2), so the gradient to its argument is -d^3 / 2.
        to_energy = torch.bmm(demodulation.pow(3).mul_(to_d), self._energy)
        to_s = torch.addcmul(to_s, style, to_energy, value=-(_GAIN**-2))
        return torch.baddbmm(self._epsilon, to_s, self._weight, beta=0, alpha=self._gain)


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def _stacked_modulation(layers: Sequence[LayerWeights]) -> StackedModulation:
    """Made once for as long as the first of them exists: recorded graphs read them where they are."""
    first, others = layers[0], tuple(layers[1:])
    found = first.stacks.get(others)
    if found is None:
        first.stacks[others] = found = StackedModulation(layers)
    return found


def _same_shapes(layers: Sequence[Layer]) -> list[list[int]]:
    """Which of these layers have matrices of one size, the first ones first."""
    groups: dict[Any, list[int]] = {}
    for k, layer in enumerate(layers):
        r = layer.weights
        groups.setdefault((r.style_weight.shape, r.energy.shape, r.style_gain), []).append(k)
    return list(groups.values())


# As long as the layer exists, and its weights are these.
_weights: WeakKeyDictionary[SynthesisLayer, LayerWeights] = WeakKeyDictionary()


def weights_of(layer: SynthesisLayer) -> LayerWeights:
    """`LayerWeights` of a layer as it is frozen now, made once."""
    found = _weights.get(layer)
    if found is None or found.energy is not layer.frozen_energy:
        _weights[layer] = found = LayerWeights(layer)
    return found


@dataclass(frozen=True, eq=False)
class Placement:
    """What follows for a layer from where its windows are.

    Attributes:
        input_crop: cuts its input out of whole maps; None: it comes as windows already, or is a whole map.
        noise: in its windows, ``[n, 1, height, width]``, or all of it.
        inside: 1 for cells on the map, 0 for others, ``[n, 1, height, width]``; None: all are on the map.
        filtered_crop: where a layer doubles the size, cuts its output windows out of the filtered maps of theirs; None:
            they begin at the same cell of each, and the filter computes no more than them.
    """

    input_crop: WindowCrop | None = None
    noise: Tensor | None = None
    inside: Tensor | None = None
    filtered_crop: WindowCrop | None = None


def filtered_size(plan: LayerPlan) -> tuple[int, int]:
    """Height and width of what the filter can compute of a window where the layer doubles the size."""
    return 2 * plan.inputs.size[0] - 2, 2 * plan.inputs.size[1] - 2


def _placement(plan: LayerPlan, dtype: torch.dtype) -> Placement:
    size, windows, noise = plan.layer.size, plan.windows, weights_of(plan.layer).noise
    input_crop = SlicedCrop(plan.inputs, plan.input_map) if plan.crops else None
    if plan.whole:
        return Placement(input_crop, noise)
    if noise is not None:
        noise = crop(noise[None, None], windows)
    inside = filtered_crop = None
    # Only where windows reach over the border.
    if not windows.inside(size):
        inside = cells_inside(windows, size, plan.layer.weight.device).to(dtype)
    if plan.layer.up == 2 and len(set(plan.filtered_starts)) > 1:
        filtered_crop = SlicedCrop(Windows(plan.filtered_starts, windows.size), filtered_size(plan))
    return Placement(input_crop, noise, inside, filtered_crop)


class Layer:
    """One layer of a pass: its weights, and what of it is computed."""

    def __init__(self, plan: LayerPlan, placement: Placement) -> None:
        layer = self.module = plan.layer
        self.weights, self.whole = weights_of(layer), plan.whole
        self.padding = int(plan.whole and layer.up == 1)
        self.input_size, self.output_size = plan.input_size, plan.output_size
        self.input_crop, self.noise, self.inside = placement.input_crop, placement.noise, placement.inside
        self.filtered_crop, self._filtered_start = placement.filtered_crop, plan.filtered_starts[0]
        self.window_count = len(plan.filtered_starts)

    def filtered(self, z: Tensor) -> Tensor:
        """The low-pass filter after the transposed convolution, and the windows of its result."""
        if self.filtered_crop is not None:
            return self.filtered_crop.of(upfirdn2d(z, self.weights.filter, gain=4))
        (top, left), (height, width) = self._filtered_start, self.output_size
        below, behind = height + 3 - z.shape[2] + top, width + 3 - z.shape[3] + left
        return upfirdn2d(z, self.weights.filter, padding=(-left, behind, -top, below), gain=4)

    def activated(self, z: Tensor, d: Tensor, *, overwrite: bool) -> Tensor:
        """Demodulate, add noise and bias, activate, and set cells outside the map to zero."""
        weights = self.weights
        y = scaled_lrelu(z, d, self.noise, weights.bias, slope=_SLOPE, clamp=weights.clamp, overwrite=overwrite)
        return y if self.inside is None else y.mul_(self.inside)

    def activation_gradient(
        self, g: Tensor, y: Tensor, z: Tensor | None, d: Tensor, r: Rectangle
    ) -> tuple[Tensor, Tensor | None]:
        """From a gradient to the result to the one to z, and to d if z is given."""
        if self.inside is not None:
            g = g * r.of(self.inside)
        weights, noise = self.weights, self.noise
        if z is not None:
            z = r.of(z)
            if noise is not None:
                noise = r.of(noise if noise.ndim == 4 else noise[None, None])
        return scaled_lrelu_gradient(g, r.of(y), z, d, noise, weights.bias, slope=_SLOPE, clamp=weights.clamp)

    def convolution_gradient(self, g: Tensor, r: Rectangle) -> tuple[Tensor, Rectangle]:
        """From a gradient to the result of convolution and filter to the one to the convolution's input."""
        if self.weights.up:
            return self._upsampling_gradient(g, r)
        run, kernel, (height, width) = self.weights.convolution.run, self.weights.kernel, self.input_size
        if not self.whole:
            return run(g, kernel, 0, True), Rectangle(r.top, r.bottom + 2, r.left, r.right + 2)
        grown = Rectangle(max(r.top - 1, 0), min(r.bottom + 1, height), max(r.left - 1, 0), min(r.right + 1, width))
        if r == Rectangle.all_of((height, width)):
            return run(g, kernel, 1, True), grown
        # Its cell 0 is cell top - 1 of the map.
        return grown.moved(1 - r.top, 1 - r.left).of(run(g, kernel, 0, True)), grown

    def _upsampling_gradient(self, g: Tensor, r: Rectangle) -> tuple[Tensor, Rectangle]:
        """`convolution_gradient` of a layer that doubles the size."""
        if self.filtered_crop is None:
            r = r.moved(*self._filtered_start)
        else:
            g, reached = self.filtered_crop.adjoint(g, r, len(g))
            assert reached is not None
            r = reached

        # The filter spreads cell j to the cells j .. j + 3 of the transposed convolution, and that took its cell k from
        # the input cells (k - 2) / 2 .. k / 2. Input cell i needs the cells 2 i .. 2 i + 2.
        def extent(first: int, last: int, limit: int) -> tuple[int, int, int, int]:
            """Input cells from, to; zeros before and behind so that the filter gives the cells that those need."""
            low, high = max((first - 1) // 2, 0), min((last + 3) // 2, limit - 1)
            return low, high, first + 3 - 2 * low, 2 * high + 2 - last

        height, width = self.input_size
        top, bottom, above, below = extent(r.top, r.bottom - 1, height)
        left, right, before, behind = extent(r.left, r.right - 1, width)
        g = upfirdn2d(g, self.weights.flipped_filter, padding=(before, behind, above, below), gain=4)
        g = self.weights.convolution.run(g, self.weights.kernel, 0, False)
        return g, Rectangle(top, bottom + 1, left, right + 1)


class _AnalyticFeatures(torch.autograd.Function):
    """`analytic_features`; one row per layer."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, *rows: Tensor) -> Tensor:
        needs_grad, batch = ctx.needs_input_grad[1:], len(rows[0])
        with torch.autocast(rows[0].device.type, enabled=False), below_autograd():
            y, saved = forward(layout, _modulations(layout, rows, needs_grad), needs_grad, batch)
        ctx.layout, ctx.needs_grad, ctx.batch = layout, needs_grad, batch
        ctx.save_for_backward(*saved)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradient.device.type, enabled=False), below_autograd():
            return None, *backward(ctx.layout, ctx.saved_tensors, ctx.needs_grad, ctx.batch, gradient)


def forward(
    layout: Layout, modulations: Sequence[Modulation], needs_grad: Sequence[bool], batch: int
) -> tuple[Tensor, list[Tensor | None]]:
    """The features, and what `backward` needs besides.

    Both are called without autocast and below autograd.

    Args:
        needs_grad: which layers' rows need a gradient.
        batch: how many latents there are, 1 or one per window.
    """
    lowest = _lowest(needs_grad)
    saved: list[Tensor | None] = []
    x = layout.constant.expand(batch, -1, -1, -1)
    for k, (layer, (style, demodulation, s, d)) in enumerate(zip(layout.layers, modulations, strict=True)):
        if layer.input_crop is not None:
            x = layer.input_crop.of(x)
        weights = layer.weights
        z = weights.convolution.run(x * s, weights.kernel, layer.padding, weights.up)
        if weights.up:
            z = layer.filtered(z)
        y = layer.activated(z, d, overwrite=not needs_grad[k])
        if k >= lowest:
            saved += [y, s, d]
            saved += [x, z, style, demodulation] if needs_grad[k] else [None] * 4
        x = y
    if layout.final_crop is not None:
        x = layout.final_crop.of(x, copy=True)
    return x, saved


def _lowest(needs_grad: Sequence[bool]) -> int:
    """The first layer whose row needs a gradient; beyond the last if none does."""
    return list(needs_grad).index(True) if any(needs_grad) else len(needs_grad)


def backward(
    layout: Layout, saved: Sequence[Any], needs_grad: Sequence[bool], batch: int, gradient: Tensor
) -> list[Tensor | None]:
    """From a gradient to the features to one to every row that needs one; the arguments are those of `forward`."""
    layers, lowest = layout.layers, _lowest(needs_grad)
    to_rows: list[Tensor | None] = [None] * len(layers)
    # Of layers whose row needs one: style and demodulation factor, and the gradients to them.
    found: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    rectangle = layout.gradient_support(gradient)
    g = gradient if rectangle is None else rectangle.of(gradient)
    if layout.final_crop is not None and rectangle is not None:
        g, rectangle = layout.final_crop.adjoint(g, rectangle, batch)
    for k in range(len(layers) - 1, lowest - 1, -1):
        layer = layers[k]
        y, s, d, x, z, style, demodulation = saved[7 * (k - lowest) :][:7]
        if rectangle is None:
            if needs_grad[k]:
                to_rows[k] = style.new_zeros(batch, layer.weights.style_weight.shape[1])
            continue
        g, to_d = layer.activation_gradient(g, y, z, d, rectangle)
        g, rectangle = layer.convolution_gradient(g, rectangle)
        if to_d is None:
            g = g.mul_(s)
        else:
            g, to_s = scaled_gradient(g, rectangle.of(x), s.flatten(1))
            if g.dtype == torch.float16:
                # See `modulation_for_type`: the factor that style and demodulation exchange.
                largest = style.abs().amax(1, keepdim=True).clamp(min=1e-8)
                to_s, to_d = to_s / largest, to_d * largest
            if len(style) == 1 < len(to_s):
                # Per window, where the row is one for all.
                to_s, to_d = to_s.sum(0, keepdim=True), to_d.sum(0, keepdim=True)
            found[k] = style, demodulation, to_s, to_d
            if k == lowest:
                break
        if layer.input_crop is not None:
            g, rectangle = layer.input_crop.adjoint(g, rectangle, batch)
    which = sorted(found)
    for group in _same_shapes([layers[k] for k in which]):
        own = [which[i] for i in group]
        of_style, of_demodulation, to_style, to_demodulation = (
            _stack(tensors) for tensors in zip(*(found[k] for k in own), strict=True)
        )
        stacked = _stacked_modulation([layers[k].weights for k in own])
        rows = stacked.backward(of_style, of_demodulation, to_style, to_demodulation)
        for k, row in zip(own, rows.unbind(), strict=True):
            to_rows[k] = row
    return to_rows


def _modulations(layout: Layout, rows: Sequence[Tensor], needs_grad: Sequence[bool]) -> list[Modulation]:
    """Of every layer and its row; those of rows that need no gradient are cached."""
    layers, dtype = layout.layers, layout.dtype
    moving = [k for k, needs in enumerate(needs_grad) if needs]
    made = compute_modulations([layers[k] for k in moving], [rows[k] for k in moving], dtype)
    new = dict(zip(moving, made, strict=True))
    return [new[k] if k in new else cached_modulation(layers[k], rows[k], dtype) for k in range(len(layers))]


def compute_modulations(layers: Sequence[Layer], rows: Sequence[Tensor], dtype: torch.dtype) -> list[Modulation]:
    """For each layer and its row: style, demodulation factor, and the scale that keeps features of that type in range.

    That is the style as ``[batch, channel, 1, 1]`` of that type, and the factor as it is but in float16.
    """
    found: dict[int, Modulation] = {}
    for group in _same_shapes(layers):
        stacked = _stacked_modulation([layers[k].weights for k in group])
        every = stacked.forward(_stack([rows[k].float() for k in group]))
        for k, style, demodulation in zip(group, *(t.unbind() for t in every), strict=True):
            if dtype == torch.float16:
                s, d = modulation_for_type(style, demodulation, dtype)
                found[k] = style, demodulation, s, d.flatten(1)
            else:
                found[k] = style, demodulation, style.to(dtype).view(*style.shape, 1, 1), demodulation
    return [found[k] for k in range(len(layers))]


# Style and demodulation factor of rows that take no gradient, as long as the row itself exists: in a drag, most rows
# are the same tensors in every step.
_cached: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def cached_modulation(layer: Layer, w: Tensor, dtype: torch.dtype) -> Modulation:
    """`compute_modulations` of this row, computed once."""
    now = version(w)
    known = _cached.setdefault(w, {})
    found = known.get(layer.module)
    # Written to, or frozen anew with other weights, or another type: not the same any more.
    if found is None or found[0] != now or found[1] is not layer.weights.energy or found[2] != dtype:
        with torch.inference_mode(False), torch.no_grad():
            known[layer.module] = found = (
                now,
                layer.weights.energy,
                dtype,
                *compute_modulations([layer], [w], dtype),
            )
    return found[3]
