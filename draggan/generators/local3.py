"""Exact features of small windows of a StyleGAN3 map, at the cost of the windows only.

As in StyleGAN2 (`draggan.generators.local`) a window of a layer's output depends on a larger window of its input. Along
one axis, with the layer's factors u and d, filters of n_u and n_d taps, and k x k kernel:

* output o is made of the samples ``o d .. o d + n_d - 1`` at the higher rate;
* sample j is made of the cells ``ceil((j + a - n_u + 1) / u) .. floor((j + a) / u)`` of the convolution's result, where
  ``a = n_u - 1 - padding``;
* cell c of that result, which reaches ``k - 1`` cells beyond the input, is made of the input cells ``c - k + 1 .. c``.

The filters are long, so a window grows by 12 to 14 cells from layer to layer. Walking down, the windows of several
handles soon overlap: before every layer they are joined where larger joint windows make fewer cells altogether, and in
the end one remains, which is cut down to the map. A window that is the whole map costs what the whole map costs, so
there is nothing to decide between the two, and the number of cells is the whole cost model: convolution and filters
are in proportion to it alike.

Outside the map everything is zero *behind the bias*: a cell that the filter would find beyond the result of the
convolution holds no bias. A window that is alone never computes such cells (it leaves them to the filter's padding);
those of a batch may, and have them set to zero.

The backward pass is written out, as in `draggan.generators.frozen`: it knows that nothing but latent rows takes a
gradient, and follows the rectangle where the gradient is not zero. For a frozen network only; differentiable once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from draggan.generators.frozen import Rectangle, support
from draggan.geometry import Windows, cells_inside
from torch_utils.ops.filtered_lrelu import filtered_lrelu, filtered_lrelu_gradient
from torch_utils.pytorch_internals import is_view

if TYPE_CHECKING:
    from draggan.generators.stylegan3 import SynthesisLayer

__all__ = ["Geometry", "Plan", "Span", "features", "plan"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """What of a layer decides which cells depend on which; the same along both axes.

    Attributes:
        before, after: cells of the square maps that it takes and gives.
        kernel: of the convolution.
        up, down: factors of its filters.
        up_taps, down_taps: lengths of its filters.
        offset: a in the formulas above.
    """

    before: int
    after: int
    kernel: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    offset: int

    @property
    def convolved(self) -> int:
        """Cells of the convolution's result."""
        return self.before + self.kernel - 1

    @property
    def period(self) -> int:
        """Windows that begin a multiple of this many cells apart see the filters alike."""
        return self.up // math.gcd(self.up, self.down)

    def cells(self, first: int, last: int, offset: int | None = None) -> Pair:
        """First and last cell of the convolution's result that the outputs ``first .. last`` depend on."""
        a = self.offset if offset is None else offset
        low = -((self.up_taps - 1 - a - first * self.down) // self.up)
        return low, (last * self.down + self.down_taps - 1 + a) // self.up

    def padding(self, offset: int, outputs: int, cells: int) -> Pair:
        """Padding before and behind so that ``cells`` cells give ``outputs`` outputs at this offset."""
        low = self.up_taps - 1 - offset
        return low, (outputs - 1) * self.down + self.down_taps + self.up_taps - 1 - cells * self.up - low


@dataclass(frozen=True)
class Span:
    """One layer and what of it is computed: a batch of windows of one size.

    Attributes:
        member: for every window the window of the layer below (or the sample of the input) that it is cut from.
        given: cells of its input; zero where they lie outside the map.
        cells: of the convolution's result.
        wanted: of its output; those outside the map are meaningless.
        outside: some of ``cells`` lie beyond the convolution's result, and are to be zero.
    """

    geometry: Geometry
    member: tuple[int, ...]
    given: Windows
    cells: Windows
    wanted: Windows
    outside: bool

    @property
    def offsets(self) -> Pair:
        """`Geometry.offset` as seen from the first cell and the first output, vertical and horizontal."""
        g = self.geometry
        (oy, ox), (cy, cx) = self.wanted.origins[0], self.cells.origins[0]
        return g.offset + oy * g.down - cy * g.up, g.offset + ox * g.down - cx * g.up


@dataclass(frozen=True)
class Plan:
    """How to compute windows of the last layer's output.

    Attributes:
        spans: one per layer.
        windows: what is wanted.
        member: for each of them the window of the last layer that holds it.
    """

    spans: tuple[Span, ...]
    windows: Windows
    member: tuple[int, ...]


# Handles move by fractions of a cell, so a drag often asks for the same windows again.
@lru_cache(maxsize=64)
def plan(layers: tuple[Geometry, ...], windows: Windows, samples: int, inputs: int) -> Plan:
    """The cheapest way to these windows.

    Args:
        layers: those up to the wanted one.
        samples: latent codes: 1 for all windows, or one per window. Windows of different codes are not joined.
        inputs: how many maps the first layer is given, 1 or ``samples``.
    """
    spans: list[Span] = []
    needed, member = windows, tuple(range(len(windows)))
    top: tuple[int, ...] | None = None
    for g in reversed(layers):
        wanted, joined = _joined(g, needed, samples == 1)
        if spans:
            spans[0] = _with_member(spans[0], joined)
        else:
            top = joined
        cells = _cells(g, wanted)
        given = cells.grown(g.kernel - 1, 0)
        outside = not cells.inside((g.convolved, g.convolved))
        spans.insert(0, Span(g, (), given, cells, wanted, outside))
        needed = given
    member = tuple(range(len(needed))) if inputs > 1 else (0,) * len(needed)
    spans[0] = _with_member(spans[0], member)
    assert top is not None
    return Plan(tuple(spans), windows, top)


def _with_member(span: Span, member: tuple[int, ...]) -> Span:
    return Span(span.geometry, member, span.given, span.cells, span.wanted, span.outside)


# By how many cells windows may grow to be joined.
_GROWTH = (0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)


def _joined(g: Geometry, needed: Windows, may_join: bool) -> tuple[Windows, tuple[int, ...]]:
    """Windows of a layer's output to compute, and for every needed one the one that holds what is on the map of it."""
    limit = g.after
    boxes = []  # first cells and last cells + 1
    for origin in needed.origins:
        low = [min(max(o, 0), limit - 1) for o in origin]
        high = [max(min(o + n, limit), at + 1) for o, n, at in zip(origin, needed.size, low, strict=True)]
        boxes.append((low[0], low[1], high[0], high[1]))
    size = (max(b[2] - b[0] for b in boxes), max(b[3] - b[1] for b in boxes))
    if not may_join or len(boxes) == 1:
        return _placed(g, boxes), tuple(range(len(boxes)))
    best: tuple[int, Windows, tuple[int, ...]] | None = None
    for grow in _GROWTH:
        groups, member = _grouped(boxes, (size[0] + grow, size[1] + grow))
        wanted = _placed(g, groups)
        height, width = _cells(g, wanted).size
        cost = len(groups) * height * width
        if best is None or cost < best[0]:
            best = cost, wanted, member
        if len(groups) == 1:
            break
    assert best is not None
    return best[1], best[2]


Box = tuple[int, int, int, int]


def _grouped(boxes: Sequence[Box], limit: Pair) -> tuple[list[Box], tuple[int, ...]]:
    """Boxes around boxes, none larger than ``limit`` unless one of the given ones is, and which of them holds each."""
    groups: list[Box] = []
    member = []
    for box in boxes:
        for k, group in enumerate(groups):
            both = (min(group[0], box[0]), min(group[1], box[1]), max(group[2], box[2]), max(group[3], box[3]))
            if both[2] - both[0] <= limit[0] and both[3] - both[1] <= limit[1]:
                groups[k] = both
                member.append(k)
                break
        else:
            member.append(len(groups))
            groups.append(box)
    return groups, tuple(member)


def _placed(g: Geometry, boxes: Sequence[Box]) -> Windows:
    """Windows of one size over boxes on the map, all beginning alike for the filters."""
    size = [max(b[2 + axis] - b[axis] for b in boxes) for axis in (0, 1)]
    origins = [[min(b[axis], g.after - size[axis]) for b in boxes] for axis in (0, 1)]
    for axis in (0, 1):
        residues = {o % g.period for o in origins[axis]}
        if len(residues) > 1:
            origins[axis] = [o - o % g.period for o in origins[axis]]
            size[axis] += max(residues)
    return Windows(tuple(zip(*origins, strict=True)), (size[0], size[1]))


def _cells(g: Geometry, wanted: Windows) -> Windows:
    """Cells of the convolution's result that windows of the output depend on; of a single window those there are."""
    firsts: list[list[int]] = [[], []]
    size = [0, 0]
    for axis in (0, 1):
        for origin in wanted.origins:
            first, last = g.cells(origin[axis], origin[axis] + wanted.size[axis] - 1)
            if len(wanted) == 1:
                first = min(max(first, 0), g.convolved - 1)
                last = max(min(last, g.convolved - 1), first)
            firsts[axis].append(first)
            size[axis] = max(size[axis], last + 1 - first)
    return Windows(tuple(zip(*firsts, strict=True)), (size[0], size[1]))


def features(
    layers: Sequence[SynthesisLayer],
    steps: Plan,
    x: Tensor,
    modulations: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Windows of the last layer's output.

    Args:
        layers: frozen.
        x: ``[1 or n, channel, height, width]``, the first layer's input.
        modulations: `SynthesisLayer.modulation` of every layer's row.

    Returns:
        ``[n, channel, height, width]`` for n windows; cells outside the map are zero.
    """
    return _Pass.apply(x, tuple(layers), steps, *[t for pair in modulations for t in pair])


class _Pass(torch.autograd.Function):
    """`features`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: tuple[SynthesisLayer, ...], steps: Plan, *modulations: Tensor) -> Tensor:
        asked = [any(ctx.needs_input_grad[3 + 2 * k : 5 + 2 * k]) for k in range(len(layers))]
        # The first layer that a gradient passes through; -1: it goes on to the input.
        lowest = -1 if ctx.needs_input_grad[0] else (asked.index(True) if any(asked) else len(layers))
        saved: list[Tensor | None] = []
        inputs = x.shape
        have = _whole(x)
        for k, (layer, span) in enumerate(zip(layers, steps.spans, strict=True)):
            style, factor = modulations[2 * k : 2 * k + 2]
            s, d = (t.to(x.dtype)[:, :, None, None] for t in (style, factor))
            x = _gathered(x, have, span.member, span.given, span.geometry.before)
            assert layer.frozen_convolution is not None
            z = layer.frozen_convolution.run(x * s, layer.weight, 0, False).mul_(d)
            if span.outside:
                z.add_(layer.bias.to(z.dtype)[:, None, None]).mul_(_inside(span, z))
            padding = _padding(span, _all(span.wanted), _all(span.cells), span.offsets)
            y = filtered_lrelu(z, **_settings(layer, span), padding=padding)
            if k >= lowest:
                saved += [z, s, d, x if asked[k] else None]
            x, have = y, span.wanted
        ctx.layers, ctx.steps, ctx.lowest, ctx.asked, ctx.inputs = layers, steps, lowest, asked, inputs
        ctx.sizes = [len(m) for m in modulations]
        ctx.save_for_backward(*saved)
        x = _gathered(x, have, steps.member, steps.windows, layers[-1].geometry.after)
        # Not a view of something larger that would be kept with it.
        return x.contiguous(memory_format=torch.channels_last) if is_view(x) else x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        layers, steps, saved = ctx.layers, ctx.steps, ctx.saved_tensors
        to_modulations: list[Tensor | None] = [None] * len(ctx.sizes)
        rectangle = support(gradient)
        g = gradient if rectangle is None else rectangle.of(gradient)
        above, member = steps.windows, steps.member
        for k in range(len(layers) - 1, max(ctx.lowest, 0) - 1, -1):
            layer, span = layers[k], steps.spans[k]
            z, s, d, x = saved[4 * (k - max(ctx.lowest, 0)) :][:4]
            if rectangle is not None:
                g, rectangle = _spread(g, rectangle, above, member, span.wanted, layer.geometry.after)
            if rectangle is None:
                if ctx.asked[k]:
                    to_modulations[2 * k : 2 * k + 2] = (
                        t.new_zeros(n, t.shape[1]).to(layer.weight.dtype)
                        for t, n in zip((s, d), ctx.sizes[2 * k : 2 * k + 2], strict=True)
                    )
                continue
            reached = _reached(span, rectangle)
            z = reached.of(z)
            padding = _padding(span, rectangle, reached, _moved(span, rectangle, reached))
            g = filtered_lrelu_gradient(g, z, **_settings(layer, span), padding=padding)
            if span.outside:
                g.mul_(reached.of(_inside(span, g)))
            if ctx.asked[k]:
                # z = d * convolution (+ bias), and d > 0.
                bare = z - layer.bias.to(z.dtype)[:, None, None] if span.outside else z
                to_d = _total(g * bare, ctx.sizes[2 * k + 1]) / d[:, :, 0, 0].to(layer.weight.dtype)
            g = layer.frozen_convolution.run(g * d, layer.weight, 0, True)
            more = layer.geometry.kernel - 1
            rectangle = Rectangle(reached.top, reached.bottom + more, reached.left, reached.right + more)
            if ctx.asked[k]:
                to_modulations[2 * k : 2 * k + 2] = _total(g * rectangle.of(x), ctx.sizes[2 * k]), to_d
            g = g * s
            above, member = span.given, span.member
        to_input = None
        if ctx.lowest < 0:
            to_input = gradient.new_zeros(ctx.inputs)
            have = _whole(to_input)
            if rectangle is not None:
                g, rectangle = _spread(g, rectangle, above, member, have, layers[0].geometry.before)
            if rectangle is not None:
                rectangle.of(to_input).copy_(g)
        return to_input, None, None, *to_modulations


def _whole(x: Tensor) -> Windows:
    """Whole maps as windows."""
    return Windows(((0, 0),) * len(x), (x.shape[2], x.shape[3]))


def _all(windows: Windows) -> Rectangle:
    return Rectangle(0, windows.size[0], 0, windows.size[1])


def _total(x: Tensor, samples: int) -> Tensor:
    """Sum over the cells, and over the windows if they have one latent code in common."""
    x = x.sum((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    return x.sum(0, keepdim=True) if samples == 1 else x


def _inside(span: Span, like: Tensor) -> Tensor:
    """1 for cells of the convolution's result, 0 for those beyond."""
    n = span.geometry.convolved
    return cells_inside(span.cells, (n, n), like.device).to(like.dtype)


def _settings(layer: SynthesisLayer, span: Span) -> dict[str, Any]:
    """What `filtered_lrelu` needs to know but the padding. Windows that reach beyond the map have their bias."""
    return {
        "up_filter": layer.up_filter,
        "down_filter": layer.down_filter,
        "bias": None if span.outside else layer.bias,
        "up": layer.up,
        "down": layer.down,
        "gain": layer.gain,
        "slope": layer.slope,
        "clamp": layer.conv_clamp,
    }


def _padding(span: Span, outputs: Rectangle, cells: Rectangle, offsets: Pair) -> tuple[int, int, int, int]:
    """``(left, right, top, bottom)`` for those outputs from those cells."""
    g = span.geometry
    rows = g.padding(offsets[0], outputs.bottom - outputs.top, cells.bottom - cells.top)
    columns = g.padding(offsets[1], outputs.right - outputs.left, cells.right - cells.left)
    return (*columns, *rows)


def _reached(span: Span, outputs: Rectangle) -> Rectangle:
    """The cells of the convolution's result that these outputs depend on."""

    def extent(first: int, last: int, offset: int, limit: int) -> Pair:
        low, high = span.geometry.cells(first, last, offset)
        low = min(max(low, 0), limit - 1)
        return low, max(min(high, limit - 1), low) + 1

    (height, width), (y, x) = span.cells.size, span.offsets
    rows = extent(outputs.top, outputs.bottom - 1, y, height)
    return Rectangle(*rows, *extent(outputs.left, outputs.right - 1, x, width))


def _moved(span: Span, outputs: Rectangle, cells: Rectangle) -> Pair:
    """The offsets as seen from the first of these cells and of these outputs."""
    g, (y, x) = span.geometry, span.offsets
    return y + outputs.top * g.down - cells.top * g.up, x + outputs.left * g.down - cells.left * g.up


def _common(
    windows: Windows, part: Rectangle, member: Sequence[int], have: Windows, size: int
) -> list[tuple[Rectangle, Rectangle] | None]:
    """What part of every window lies on the map, in the window that it is cut from, and in that part; None: nothing."""
    found: list[tuple[Rectangle, Rectangle] | None] = []
    for origin, k in zip(windows.origins, member, strict=True):
        sides = []
        for axis, (first, last) in enumerate(((part.top, part.bottom), (part.left, part.right))):
            start, begin = origin[axis] + first, have.origins[k][axis]
            low = max(start, begin, 0)
            high = min(origin[axis] + last, begin + have.size[axis], size)
            sides.append((low - begin, high - begin, low - start, high - start))
        (a, b, c, d), (e, f, g, h) = sides
        found.append((Rectangle(a, b, e, f), Rectangle(c, d, g, h)) if a < b and e < f else None)
    return found


def _gathered(x: Tensor, have: Windows, member: Sequence[int], windows: Windows, size: int) -> Tensor:
    """Windows cut from windows of a map of that size; zero outside the map. A view of x where it can be."""
    every = _common(windows, _all(windows), member, have, size)
    first = every[0]
    alike = first is not None and tuple(member) == tuple(range(len(x))) and all(e == first for e in every)
    if alike and first is not None and first[1] == _all(windows):
        return first[0].of(x)
    out = _zeros(x, len(windows), *windows.size)
    for i, (k, e) in enumerate(zip(member, every, strict=True)):
        if e is not None:
            e[1].of(out[i : i + 1]).copy_(e[0].of(x[k : k + 1]))
    return out


def _spread(
    g: Tensor, rectangle: Rectangle, windows: Windows, member: Sequence[int], have: Windows, size: int
) -> tuple[Tensor, Rectangle | None]:
    """The adjoint of `_gathered` for a gradient that is zero outside a rectangle, and the rectangle that it reaches."""
    every = _common(windows, rectangle, member, have, size)
    reached = [e[0] for e in every if e is not None]
    if not reached:
        return g, None
    top, left = min(r.top for r in reached), min(r.left for r in reached)
    bottom, right = max(r.bottom for r in reached), max(r.right for r in reached)
    first = every[0]
    if first is not None and tuple(member) == tuple(range(len(have))) and all(e == first for e in every):
        return first[1].of(g), first[0]
    out = _zeros(g, len(have), bottom - top, right - left)
    for i, (k, e) in enumerate(zip(member, every, strict=True)):
        if e is not None:
            there = Rectangle(e[0].top - top, e[0].bottom - top, e[0].left - left, e[0].right - left)
            there.of(out[k : k + 1]).add_(e[1].of(g[i : i + 1]))
    return out, Rectangle(top, bottom, left, right)


def _zeros(like: Tensor, count: int, height: int, width: int) -> Tensor:
    """Channels next to each other, as the convolutions want them."""
    return like.new_zeros(count, height, width, like.shape[1]).permute(0, 3, 1, 2)
