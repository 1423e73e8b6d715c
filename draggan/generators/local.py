"""Exact features of small windows of a StyleGAN2 map, at the cost of the windows only.

A drag looks at a few cells around each handle. StyleGAN2 has no normalisation over space (demodulation acts on
channels, noise is a constant map), so a window of a layer's output depends on a slightly larger window of its input:

* a 3x3 convolution needs one cell more on every side;
* a layer that doubles the size (transposed 3x3 convolution, then the 4-tap filter) needs, for the outputs
  ``o0 .. o0 + h - 1``, the inputs ``ceil((o0 - 3) / 2) .. floor((o0 + h + 1) / 2)``.

Walking down from the wanted level, windows stay about ten cells wide while the maps shrink, until windows would cost
more than the whole map; from there down whole maps are computed. Cells of a window that lie outside the map are set
to zero after every layer, as the zero padding of the whole map would have them. The result equals cropping the whole
map, in value and gradient, up to the rounding of a different order of summation.

Windows are a batch: the latent may be one code for all, or one code per window.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from draggan.generators import captured, frozen
from draggan.generators.base import Latent, latent_rows
from draggan.generators.frozen import Layout, Span
from draggan.generators.steady import SteadyLayout
from draggan.generators.stylegan2 import SynthesisBlock, SynthesisLayer, SynthesisNetwork, as_type
from draggan.geometry import Windows, cells_inside, crop
from torch_utils.ops.prepacked_convolution import (
    compiled_convolution_available,
    convolution_cost,
    winograd_pays,
)
from torch_utils.ops.upfirdn2d import upfirdn2d

__all__ = ["Stage", "local_features", "plan", "whole_features"]


@dataclass(frozen=True)
class Stage:
    """One convolution layer on the way to the wanted level, in order.

    Attributes:
        block, layer: modules; ``layer.size`` is the output map ``(height, width)``.
        row: which latent row it takes.
        windows: what is needed of its output.
        whole: compute the whole map here.
    """

    block: SynthesisBlock
    layer: SynthesisLayer
    row: int
    windows: Windows
    whole: bool = False


def input_windows(layer: SynthesisLayer, windows: Windows, *, steady: bool = False) -> Windows:
    """The windows of a layer's input that the given windows of its output depend on.

    Args:
        steady: of the size that suffices wherever the windows are. Where a layer doubles the size, that is a cell more
            than windows that begin at an even cell and are even cells long need.
    """
    if layer.up == 1:
        return windows.grown(1, 1)

    def extent(axis: int) -> int:
        """The longest any of the windows needs; windows of one batch have one size."""
        h = windows.size[axis]
        if steady:
            return h // 2 + 3
        return max((o[axis] + h + 1) // 2 - _ceil_half(o[axis] - 3) + 1 for o in windows.origins)

    origins = tuple((_ceil_half(y - 3), _ceil_half(x - 3)) for y, x in windows.origins)
    return Windows(origins, (extent(0), extent(1)))


def _ceil_half(n: int) -> int:
    return -(-n // 2)


def plan(
    synthesis: SynthesisNetwork,
    resolution: int,
    windows: Windows,
    *,
    whole: bool = False,
    steady: bool = False,
    winograd: bool = False,
) -> list[Stage]:
    """Every layer up to ``b{resolution}`` with what is needed of it, whole maps first, windows from some layer on.

    Args:
        windows: what is wanted of the last layer.
        whole: compute whole maps only.
        steady: all sizes, and from where on there are windows, follow from size and number of the windows, not from
            where they are.
        winograd: convolutions of stride 1 take fewer multiplications where that pays.

    The cost of a layer is counted in multiply-adds, plus a share for reading its weights, which makes the lowest layers
    (4 to 16 cells) whole maps, where windows would save nothing; the split that costs least is taken. A residual block
    is computed one way or the other as a whole.
    """
    layers: list[tuple[SynthesisBlock, SynthesisLayer, int]] = []
    for r, block, row in synthesis.blocks():
        if block.in_channels:
            layers.append((block, block.conv0, row))
        layers.append((block, block.conv1, row + block.num_conv - 1))
        if r == resolution:
            break
    if whole:
        return [Stage(block, layer, row, windows, whole=True) for block, layer, row in layers]
    stages: list[Stage] = []
    for block, layer, row in reversed(layers):
        stages.insert(0, Stage(block, layer, row, windows))
        windows = input_windows(layer, windows, steady=steady)

    def cost(layer: SynthesisLayer, size: tuple[int, int], count: int) -> float:
        shape = layer.weight.shape
        if layer.up == 2:
            return convolution_cost(shape, count, (-(-size[0] // 2), -(-size[1] // 2)), winograd=False)
        return convolution_cost(shape, count, size, winograd=winograd and winograd_pays(shape, count, size))

    entire = [cost(s.layer, s.layer.size, 1) for s in stages]
    local = [cost(s.layer, s.windows.size, len(s.windows)) for s in stages]
    # The first stage starts from the constant and is always whole.
    splits = [k for k in range(1, len(stages) + 1) if k == len(stages) or _may_split(stages[k])]
    split = min(splits, key=lambda k: sum(entire[:k]) + sum(local[k:]))
    return [Stage(s.block, s.layer, s.row, s.windows, whole=k < split) for k, s in enumerate(stages)]


def _may_split(stage: Stage) -> bool:
    """Whether windows may begin with this stage: anywhere but between the two layers of a residual block."""
    return stage.layer.up == 2 or stage.block.architecture != "resnet"


def local_features(synthesis: SynthesisNetwork, ws: Latent, resolution: int, windows: Windows) -> Tensor:
    """``crop(synthesis.features(ws, resolution), windows)``, cells outside the map zero.

    Args:
        ws: a batch of one (the same latent for all windows) or of one latent per window.

    Returns:
        ``[n, channel, height, width]`` for n windows.
    """
    rows = latent_rows(ws)
    y = _frozen_features(synthesis, rows, resolution, windows)
    if y is not None:
        return y
    stages = plan(synthesis, resolution, windows)
    spans = _spans(stages)
    split = sum(stage.whole for stage in stages)
    x = _whole_maps(stages[:split], rows)
    if split == len(stages):
        return crop(x, windows)
    x = crop(x, spans[split].given)
    shortcut: Tensor | None = None
    for stage, span in zip(stages[split:], spans[split:], strict=True):
        resnet = stage.block.architecture == "resnet"
        if stage.layer.up == 2:
            if resnet:
                shortcut = _skip_window(stage.block, x, span.given, stage.windows.grown(-1, -1))
            x = _up_window(stage.layer, x, rows[stage.row], span)
        else:
            x = _finish(stage.layer, *_convolve(stage.layer, x, rows[stage.row]), stage.windows)
            if resnet and shortcut is not None:
                x = _zero_outside(x + shortcut, stage.layer.size, stage.windows)
    return x


def whole_features(synthesis: SynthesisNetwork, ws: Latent, resolution: int) -> Tensor:
    """``synthesis.features(ws, resolution)``, faster for frozen weights; differentiable once in that case."""
    y = _frozen_features(synthesis, latent_rows(ws), resolution, None)
    return synthesis.features(ws, resolution) if y is None else y


def _frozen_features(
    synthesis: SynthesisNetwork, rows: Sequence[Tensor], resolution: int, windows: Windows | None
) -> Tensor | None:
    """Windows (None: the whole map) of a frozen network, by a graph where there is one; None if it is not frozen."""
    if captured.possible(rows):
        constant = synthesis.get_parameter("b4.const")
        dtype = _feature_type(constant)
        # Wherever they are, that is.
        some = None if windows is None else Windows(((0, 0),) * len(windows), windows.size)

        def make(batch: int) -> SteadyLayout | None:
            stages = _stages(synthesis, resolution, some, steady=True)
            if not frozen.possible([stage.layer for stage in stages]):
                return None
            spans = _spans(stages, steady=True)
            return SteadyLayout(constant, spans, some if stages[-1].whole else None, dtype, batch)

        kind = resolution, some, dtype
        y = captured.features(synthesis, kind, rows, windows, make, lambda: _layout(synthesis, resolution, windows))
        if y is not None:
            return y
    layout = _layout(synthesis, resolution, windows)
    return None if layout is None else frozen.features(layout, rows)


# Layouts of each network that were asked for last: a drag asks for the same one until a handle has moved by a cell, and
# many may drag on one network. Each holds the noise of a few windows.
_KEPT = 64
_layouts: WeakKeyDictionary[SynthesisNetwork, OrderedDict[tuple[Any, ...], Layout]] = WeakKeyDictionary()
_lock = threading.Lock()


def _layout(synthesis: SynthesisNetwork, resolution: int, windows: Windows | None) -> Layout | None:
    """How to compute windows (None: the whole map) of a frozen network; None for one that is not."""
    constant = synthesis.get_parameter("b4.const")
    dtype = _feature_type(constant)
    key = (resolution, windows, dtype)
    with _lock:
        known = _layouts.setdefault(synthesis, OrderedDict())
        found = known.get(key)
        if found is not None:
            known.move_to_end(key)
    if found is not None and found.current():
        return found
    stages = _stages(synthesis, resolution, windows, winograd=compiled_convolution_available(constant, dtype))
    if not frozen.possible([stage.layer for stage in stages]):
        return None
    # Later passes may want gradients even if this one is for inference.
    with torch.inference_mode(False), torch.no_grad():
        found = Layout(constant, _spans(stages), windows if stages[-1].whole else None, dtype)
    with _lock:
        if not all(layout.current() for layout in known.values()):
            known.clear()  # they hold the weights that the layers had
        known[key] = found
        if len(known) > _KEPT:
            known.popitem(last=False)
    return found


def _stages(
    synthesis: SynthesisNetwork,
    resolution: int,
    windows: Windows | None,
    *,
    steady: bool = False,
    winograd: bool = False,
) -> list[Stage]:
    """`plan` of windows, or of whole maps, where it is for a window that does not matter."""
    some = windows or Windows(((0, 0),), (1, 1))
    return plan(synthesis, resolution, some, whole=windows is None, steady=steady, winograd=winograd)


def _feature_type(like: Tensor) -> torch.dtype:
    """What autocast asks for, else float32."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def _spans(stages: Sequence[Stage], *, steady: bool = False) -> list[Span]:
    """The same layers with the windows of their inputs."""
    spans: list[Span] = []
    for k, stage in enumerate(stages):
        layer = stage.layer
        if stage.whole:
            given, wanted = (Windows(((0, 0),), (h, w)) for h, w in (_input_size(layer), layer.size))
        else:
            given, wanted = input_windows(layer, stage.windows, steady=steady), stage.windows
        cut = not stage.whole and k > 0 and stages[k - 1].whole
        spans.append(Span(layer, stage.row, given, wanted, stage.whole, cut))
    return spans


def _input_size(layer: SynthesisLayer) -> tuple[int, int]:
    return layer.size[0] // layer.up, layer.size[1] // layer.up


def _whole_maps(stages: Sequence[Stage], rows: Sequence[Tensor]) -> Tensor:
    """The whole map after the last of these stages."""
    x: Tensor | None = None
    block_input: Tensor | None = None
    for stage in stages:
        block, layer, w = stage.block, stage.layer, rows[stage.row]
        if layer.up == 2:
            block_input = x
            x = layer(x, w)
        elif block.in_channels == 0:
            x = block.features(None, [w])
        else:
            assert x is not None
            x = layer(x, w)
            if block.architecture == "resnet":
                assert block_input is not None
                x = block.skip(block_input) + x
    assert x is not None
    return x


def _convolve(layer: SynthesisLayer, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The bare convolution of windows, and the demodulation factor still to be applied."""
    style, demodulation = as_type(*layer.modulation(w), x.dtype)
    return layer.convolve(x * style, padding=0), demodulation


def _up_window(layer: SynthesisLayer, x: Tensor, w: Tensor, span: Span) -> Tensor:
    """Windows through a layer that doubles the size."""
    y, demodulation = _convolve(layer, x, w)
    y = upfirdn2d(y, layer.resample_filter, gain=4)
    return _finish(layer, crop(y, Windows(span.starts, span.wanted.size)), demodulation, span.wanted)


def _finish(layer: SynthesisLayer, y: Tensor, demodulation: Tensor, windows: Windows) -> Tensor:
    """Demodulate, add noise and bias, activate, and set cells outside the map to zero."""
    noise = layer.noise("const", y)
    y = layer.activate(y, demodulation, None if noise is None else crop(noise[None, None], windows))
    return _zero_outside(y, layer.size, windows)


def _skip_window(block: SynthesisBlock, x: Tensor, given: Windows, wanted: Windows) -> Tensor:
    """Windows through the residual path; its inputs are among those of the main path."""
    skip = block.skip
    y = F.conv2d(x, (skip.weight * skip.gain).to(x.dtype))
    # Zero insertion puts input i at 2 i; output o is the filter over o - 2 .. o + 1.
    y = upfirdn2d(y, skip.resample_filter, up=2, gain=4)
    starts = tuple(
        (wy - 2 - 2 * gy, wx - 2 - 2 * gx) for (wy, wx), (gy, gx) in zip(wanted.origins, given.origins, strict=True)
    )
    return crop(y, Windows(starts, wanted.size))


def _zero_outside(x: Tensor, size: tuple[int, int], windows: Windows) -> Tensor:
    """What zero padding would have outside the map."""
    if windows.inside(size):
        return x
    return x * cells_inside(windows, size, x.device).to(x.dtype)
