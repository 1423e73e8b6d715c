"""Exact features of small windows of a StyleGAN3 map, at the cost of the windows only.

Third in the stack, above `networks` and below `generator`. `plan_windows` decides which windows of every layer are
computed, by `ReceptiveField`; `window_features` computes them, for frozen weights, with the backward pass written out.

The filters are long, so a window grows by 12 to 14 cells from layer to layer. Walking down, the windows of several
handles soon overlap: before every layer they are joined where larger joint windows make fewer cells altogether, and in
the end one remains, which is cut down to the map. A window that is the whole map costs what the whole map costs, so
there is nothing to decide between the two, and the number of cells is the whole cost model: convolution and filters
are in proportion to it alike.

Outside the map everything is zero *behind the bias*: a cell that the filter would find beyond the result of the
convolution holds no bias. A window that is alone never computes such cells (it leaves them to the filter's padding);
those of a batch may, and have them set to zero.

The backward pass knows that nothing but latent rows takes a gradient, and follows the rectangle where the gradient is
not zero, as in `stylegan2.analytic`. Differentiable once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from draggan.generators.stylegan3.networks import SynthesisLayer
from draggan.generators.stylegan3.receptive_field import ReceptiveField
from draggan.geometry import Box, Rectangle, SlicedCrop, Windows, cells_inside, cheapest_grouping, nonzero_support
from torch_utils.ops.filtered_lrelu import filtered_lrelu, filtered_lrelu_gradient

__all__ = ["LayerWindows", "WindowPlan", "plan_windows", "window_features"]


@dataclass(frozen=True)
class LayerWindows:
    """What of one layer is computed: a batch of windows of one size.

    Attributes:
        field: of the layer.
        inputs: cells of its input; zero where they lie outside the map.
        input_crop: cuts those out of the windows of the layer below, or of the network's input.
        cells: of the convolution's result.
        outputs: of its output; those outside the map are meaningless.
        outside: some of ``cells`` lie beyond the convolution's result, and are to be zero.
    """

    field: ReceptiveField
    inputs: Windows
    input_crop: SlicedCrop
    cells: Windows
    outputs: Windows
    outside: bool

    @property
    def offsets(self) -> tuple[int, int]:
        """`ReceptiveField.offset` as seen from the first cell and the first output, vertical and horizontal."""
        f = self.field
        (oy, ox), (cy, cx) = self.outputs.origins[0], self.cells.origins[0]
        return f.offset + oy * f.down - cy * f.up, f.offset + ox * f.down - cx * f.up


@dataclass(frozen=True)
class WindowPlan:
    """How to compute windows of the last layer's output.

    Attributes:
        layers: in order.
        final_crop: cuts the windows out of those that are computed of the last layer.
    """

    layers: tuple[LayerWindows, ...]
    final_crop: SlicedCrop


# Handles move by fractions of a cell, so a drag often asks for the same windows again.
@lru_cache(maxsize=64)
def plan_windows(fields: tuple[ReceptiveField, ...], windows: Windows, samples: int, inputs: int) -> WindowPlan:
    """The cheapest way to these windows.

    Args:
        fields: of the layers, the last of which gives the windows.
        samples: latent codes: 1 for all windows, or one per window. Windows of different codes are not joined.
        inputs: how many maps the first layer is given, 1 or ``samples``.
    """
    parts: list[tuple[ReceptiveField, Windows, Windows, Windows]] = []
    crops: list[SlicedCrop] = []
    needed = windows
    for field in reversed(fields):
        outputs, member = _joined(field, needed, samples == 1)
        crops.insert(0, SlicedCrop(needed, (field.after, field.after), source=outputs, member=member))
        cells = _cells(field, outputs)
        needed = cells.grown(field.kernel - 1, 0)
        parts.insert(0, (field, needed, cells, outputs))
    lowest = fields[0].before
    own = tuple(range(len(needed))) if inputs > 1 else (0,) * len(needed)
    crops.insert(0, SlicedCrop(needed, (lowest, lowest), member=own))
    layers = [
        LayerWindows(field, into, cut, cells, out, outside=not cells.inside((field.convolved, field.convolved)))
        for (field, into, cells, out), cut in zip(parts, crops[:-1], strict=True)
    ]
    return WindowPlan(tuple(layers), crops[-1])


def _joined(field: ReceptiveField, needed: Windows, may_join: bool) -> tuple[Windows, tuple[int, ...]]:
    """Windows of a layer's output to compute, and for every needed one the one that holds what is on the map of it."""
    limit = field.after
    boxes = []
    for origin in needed.origins:
        low = [min(max(o, 0), limit - 1) for o in origin]
        high = [max(min(o + n, limit), at + 1) for o, n, at in zip(origin, needed.size, low, strict=True)]
        boxes.append((low[0], low[1], high[0], high[1]))
    if not may_join or len(boxes) == 1:
        return _placed(field, boxes), tuple(range(len(boxes)))

    def evaluate(groups: Sequence[Box], limit: tuple[int, int]) -> tuple[float, Windows]:
        outputs = _placed(field, groups)
        height, width = _cells(field, outputs).size
        return len(groups) * height * width, outputs

    size = (max(b[2] - b[0] for b in boxes), max(b[3] - b[1] for b in boxes))
    return cheapest_grouping(boxes, size, evaluate)


def _placed(field: ReceptiveField, boxes: Sequence[Box]) -> Windows:
    """Windows of one size over boxes on the map, all beginning alike for the filters."""
    size = [max(b[2 + axis] - b[axis] for b in boxes) for axis in (0, 1)]
    origins = [[min(b[axis], field.after - size[axis]) for b in boxes] for axis in (0, 1)]
    for axis in (0, 1):
        residues = {o % field.period for o in origins[axis]}
        if len(residues) > 1:
            origins[axis] = [o - o % field.period for o in origins[axis]]
            size[axis] += max(residues)
    return Windows(tuple(zip(*origins, strict=True)), (size[0], size[1]))


def _cells(field: ReceptiveField, outputs: Windows) -> Windows:
    """Cells of the convolution's result that windows of the output depend on; of a single window those there are."""
    firsts: list[list[int]] = [[], []]
    size = [0, 0]
    for axis in (0, 1):
        for origin in outputs.origins:
            first, last = field.cells(origin[axis], origin[axis] + outputs.size[axis] - 1)
            if len(outputs) == 1:
                first = min(max(first, 0), field.convolved - 1)
                last = max(min(last, field.convolved - 1), first)
            firsts[axis].append(first)
            size[axis] = max(size[axis], last + 1 - first)
    return Windows(tuple(zip(*firsts, strict=True)), (size[0], size[1]))


def window_features(
    layers: Sequence[SynthesisLayer],
    plan: WindowPlan,
    x: Tensor,
    modulations: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Windows of the last layer's output.

    Args:
        layers: with frozen weights.
        x: ``[1 or n, channel, height, width]``, the first layer's input.
        modulations: `SynthesisLayer.modulation` of every layer's row.

    Returns:
        ``[n, channel, height, width]`` for n windows; cells outside the map are zero.
    """
    return _WindowFeatures.apply(x, tuple(layers), plan, *[t for pair in modulations for t in pair])


class _WindowFeatures(torch.autograd.Function):
    """`window_features`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: tuple[SynthesisLayer, ...], plan: WindowPlan, *modulations: Tensor
    ) -> Tensor:
        needs_grad = [any(ctx.needs_input_grad[3 + 2 * k : 5 + 2 * k]) for k in range(len(layers))]
        # The first layer that a gradient passes through; -1: it goes on to the input.
        lowest = -1 if ctx.needs_input_grad[0] else (needs_grad.index(True) if any(needs_grad) else len(layers))
        saved: list[Tensor | None] = []
        inputs = x.shape
        for k, (layer, part) in enumerate(zip(layers, plan.layers, strict=True)):
            style, factor = modulations[2 * k : 2 * k + 2]
            s, d = (t.to(x.dtype)[:, :, None, None] for t in (style, factor))
            x = part.input_crop.of(x)
            assert layer.frozen_convolution is not None
            z = layer.frozen_convolution.run(x * s, layer.weight, 0, False).mul_(d)
            if part.outside:
                z.add_(layer.bias.to(z.dtype)[:, None, None]).mul_(_inside(part, z))
            outputs, cells = Rectangle.all_of(part.outputs.size), Rectangle.all_of(part.cells.size)
            padding = _padding(part, outputs, cells, part.offsets)
            y = filtered_lrelu(z, **_settings(layer, part), padding=padding)
            if k >= lowest:
                saved += [z, s, d, x if needs_grad[k] else None]
            x = y
        ctx.layers, ctx.plan, ctx.lowest, ctx.needs_grad, ctx.inputs = layers, plan, lowest, needs_grad, inputs
        ctx.sizes = [len(m) for m in modulations]
        ctx.save_for_backward(*saved)
        return plan.final_crop.of(x, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        layers, plan, saved = ctx.layers, ctx.plan, ctx.saved_tensors
        to_modulations: list[Tensor | None] = [None] * len(ctx.sizes)
        rectangle = nonzero_support(gradient)
        g = gradient if rectangle is None else rectangle.of(gradient)
        crop_above = plan.final_crop
        for k in range(len(layers) - 1, max(ctx.lowest, 0) - 1, -1):
            layer, part = layers[k], plan.layers[k]
            z, s, d, x = saved[4 * (k - max(ctx.lowest, 0)) :][:4]
            if rectangle is not None:
                g, rectangle = crop_above.adjoint(g, rectangle, len(part.outputs))
            if rectangle is None:
                if ctx.needs_grad[k]:
                    to_modulations[2 * k : 2 * k + 2] = (
                        t.new_zeros(n, t.shape[1]).to(layer.weight.dtype)
                        for t, n in zip((s, d), ctx.sizes[2 * k : 2 * k + 2], strict=True)
                    )
                continue
            reached = _reached(part, rectangle)
            z = reached.of(z)
            padding = _padding(part, rectangle, reached, _moved_offsets(part, rectangle, reached))
            g = filtered_lrelu_gradient(g, z, **_settings(layer, part), padding=padding)
            if part.outside:
                g.mul_(reached.of(_inside(part, g)))
            if ctx.needs_grad[k]:
                # z = d * convolution (+ bias), and d > 0.
                bare = z - layer.bias.to(z.dtype)[:, None, None] if part.outside else z
                to_d = _total(g * bare, ctx.sizes[2 * k + 1]) / d[:, :, 0, 0].to(layer.weight.dtype)
            g = layer.frozen_convolution.run(g * d, layer.weight, 0, True)
            more = part.field.kernel - 1
            rectangle = Rectangle(reached.top, reached.bottom + more, reached.left, reached.right + more)
            if ctx.needs_grad[k]:
                to_modulations[2 * k : 2 * k + 2] = _total(g * rectangle.of(x), ctx.sizes[2 * k]), to_d
            g = g * s
            crop_above = part.input_crop
        to_input = None
        if ctx.lowest < 0:
            to_input = gradient.new_zeros(ctx.inputs)
            if rectangle is not None:
                g, rectangle = crop_above.adjoint(g, rectangle, len(to_input))
            if rectangle is not None:
                rectangle.of(to_input).copy_(g)
        return to_input, None, None, *to_modulations


def _total(x: Tensor, samples: int) -> Tensor:
    """Sum over the cells, and over the windows if they have one latent code in common."""
    x = x.sum((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    return x.sum(0, keepdim=True) if samples == 1 else x


def _inside(part: LayerWindows, like: Tensor) -> Tensor:
    """1 for cells of the convolution's result, 0 for those beyond."""
    n = part.field.convolved
    return cells_inside(part.cells, (n, n), like.device).to(like.dtype)


def _settings(layer: SynthesisLayer, part: LayerWindows) -> dict[str, Any]:
    """What `filtered_lrelu` needs to know but the padding. Windows that reach beyond the map have their bias."""
    return {
        "up_filter": layer.up_filter,
        "down_filter": layer.down_filter,
        "bias": None if part.outside else layer.bias,
        "up": layer.up,
        "down": layer.down,
        "gain": layer.gain,
        "slope": layer.slope,
        "clamp": layer.conv_clamp,
    }


def _padding(
    part: LayerWindows, outputs: Rectangle, cells: Rectangle, offsets: tuple[int, int]
) -> tuple[int, int, int, int]:
    """``(left, right, top, bottom)`` for those outputs from those cells."""
    f = part.field
    rows = f.padding(offsets[0], outputs.bottom - outputs.top, cells.bottom - cells.top)
    columns = f.padding(offsets[1], outputs.right - outputs.left, cells.right - cells.left)
    return (*columns, *rows)


def _reached(part: LayerWindows, outputs: Rectangle) -> Rectangle:
    """The cells of the convolution's result that these outputs depend on."""

    def extent(first: int, last: int, offset: int, limit: int) -> tuple[int, int]:
        low, high = part.field.cells(first, last, offset)
        low = min(max(low, 0), limit - 1)
        return low, max(min(high, limit - 1), low) + 1

    (height, width), (y, x) = part.cells.size, part.offsets
    rows = extent(outputs.top, outputs.bottom - 1, y, height)
    return Rectangle(*rows, *extent(outputs.left, outputs.right - 1, x, width))


def _moved_offsets(part: LayerWindows, outputs: Rectangle, cells: Rectangle) -> tuple[int, int]:
    """The offsets as seen from the first of these cells and of these outputs."""
    f, (y, x) = part.field, part.offsets
    return y + outputs.top * f.down - cells.top * f.up, x + outputs.left * f.down - cells.left * f.up
