"""Which windows of every layer a window of StyleGAN2 features depends on, and the features of them, layer by layer.

Second in the stack, above `networks`. `plan_layers` decides what is computed of each layer, for this module and for the
fast passes above it; `window_features` computes it with the layers themselves and automatic differentiation.

A drag looks at a few cells around each handle. StyleGAN2 has no normalisation over space (demodulation acts on
channels, noise is a constant map), so a window of a layer's output depends on a slightly larger window of its input:

* a 3x3 convolution needs one cell more on every side;
* a layer that doubles the size (transposed 3x3 convolution, then the 4-tap filter) needs, for the outputs
  ``o0 .. o0 + h - 1``, the inputs ``ceil((o0 - 3) / 2) .. floor((o0 + h + 1) / 2)``.

Walking down from the level that is asked for, windows stay about ten cells wide while the maps shrink, until windows
would cost more than the whole map; from there down whole maps are computed. Cells of a window that lie outside the map
are set to zero after every layer, as the zero padding of the whole map would have them. The result equals cropping the
whole map, in value and gradient, up to the rounding of a different order of summation.

Windows are a batch: the latent may be one code for all, or one code per window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from draggan.generators.stylegan2.networks import (
    SynthesisBlock,
    SynthesisLayer,
    SynthesisNetwork,
    modulation_for_type,
)
from draggan.geometry import Windows, cells_inside, crop
from torch_utils.ops.prepacked_convolution import convolution_cost, winograd_pays
from torch_utils.ops.upfirdn2d import upfirdn2d

__all__ = [
    "LayerPlan",
    "block_windows",
    "input_windows",
    "plan_layers",
    "upsampled_windows",
    "window_features",
]


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """One convolution layer on the way to the level that is asked for, and what of it is computed.

    Attributes:
        block, layer: modules; ``layer.size`` is the whole output map ``(height, width)``.
        row: which latent row it takes.
        windows: what the layers above need of its output.
        inputs: what that needs of its input.
        whole: the whole map is computed, of the whole input map.
        crops: it is the first with windows: they are cut out of the whole map below.
    """

    block: SynthesisBlock
    layer: SynthesisLayer
    row: int
    windows: Windows
    inputs: Windows
    whole: bool
    crops: bool

    @property
    def input_map(self) -> tuple[int, int]:
        """Height and width of the whole input map."""
        height, width = self.layer.size
        return height // self.layer.up, width // self.layer.up

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input that the layer is given: its whole map, or windows."""
        return self.input_map if self.whole else self.inputs.size

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output that is computed: its whole map, or windows."""
        return self.layer.size if self.whole else self.windows.size

    @property
    def filtered_starts(self) -> tuple[tuple[int, int], ...]:
        """Where a layer doubles the size: the cell of the filtered map that each output window begins with.

        Cell k of a window's transposed convolution is cell ``2 * input + k`` of the whole one, and the filter over its
        cells k .. k + 3 gives output cell ``2 * input + k + 1``.
        """
        if self.whole:
            return ((-1, -1),)
        return tuple(
            (oy - 1 - 2 * iy, ox - 1 - 2 * ix)
            for (oy, ox), (iy, ix) in zip(self.windows.origins, self.inputs.origins, strict=True)
        )


def input_windows(layer: SynthesisLayer, windows: Windows, *, anywhere: bool = False) -> Windows:
    """The windows of a layer's input that the given windows of its output depend on.

    Args:
        anywhere: of the size that suffices wherever the windows are. Where a layer doubles the size, that is a cell
            more than windows that begin at an even cell and are even cells long need.
    """
    if layer.up == 1:
        return windows.grown(1, 1)

    def extent(axis: int) -> int:
        """The longest any of the windows needs; windows of one batch have one size."""
        h = windows.size[axis]
        if anywhere:
            return h // 2 + 3
        return max((o[axis] + h + 1) // 2 - _ceil_half(o[axis] - 3) + 1 for o in windows.origins)

    origins = tuple((_ceil_half(y - 3), _ceil_half(x - 3)) for y, x in windows.origins)
    return Windows(origins, (extent(0), extent(1)))


def _ceil_half(n: int) -> int:
    return -(-n // 2)


def plan_layers(
    synthesis: SynthesisNetwork,
    resolution: int,
    windows: Windows | None,
    *,
    anywhere: bool = False,
    winograd: bool = False,
) -> list[LayerPlan]:
    """Every layer up to ``b{resolution}`` with what is computed of it: whole maps first, windows from some layer on.

    Args:
        windows: what is needed of the last layer; None for its whole map.
        anywhere: all sizes, and from where on there are windows, follow from size and number of the windows, not from
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
    needed: list[tuple[Windows, Windows]] = []
    above = Windows(((0, 0),), (1, 1)) if windows is None else windows
    for _, layer, _ in reversed(layers):
        below = input_windows(layer, above, anywhere=anywhere)
        needed.insert(0, (above, below))
        above = below
    split = len(layers) if windows is None else _cheapest_split(layers, [out for out, _ in needed], winograd)
    return [
        LayerPlan(block, layer, row, out, into, whole=k < split, crops=k == split)
        for k, ((block, layer, row), (out, into)) in enumerate(zip(layers, needed, strict=True))
    ]


def _cheapest_split(
    layers: Sequence[tuple[SynthesisBlock, SynthesisLayer, int]], windows: Sequence[Windows], winograd: bool
) -> int:
    """How many of the layers are whole maps, at the least cost altogether."""

    def cost(layer: SynthesisLayer, size: tuple[int, int], count: int) -> float:
        shape = layer.weight.shape
        if layer.up == 2:
            return convolution_cost(shape, count, (-(-size[0] // 2), -(-size[1] // 2)), winograd=False)
        return convolution_cost(shape, count, size, winograd=winograd and winograd_pays(shape, count, size))

    entire = [cost(layer, layer.size, 1) for _, layer, _ in layers]
    local = [cost(layer, w.size, len(w)) for (_, layer, _), w in zip(layers, windows, strict=True)]

    def may_split(k: int) -> bool:
        """Windows may begin anywhere but between the two layers of a residual block."""
        return k == len(layers) or layers[k][1].up == 2 or layers[k][0].architecture != "resnet"

    # The first layer starts from the constant and is always whole.
    splits = [k for k in range(1, len(layers) + 1) if may_split(k)]
    return min(splits, key=lambda k: sum(entire[:k]) + sum(local[k:]))


def window_features(synthesis: SynthesisNetwork, rows: Sequence[Tensor], resolution: int, windows: Windows) -> Tensor:
    """``crop(synthesis.features(rows, resolution), windows)`` through the layers themselves, with their gradients.

    Args:
        rows: latent rows, each ``[1, w_dim]`` (one latent for all windows) or ``[n, w_dim]`` for n windows.

    Returns:
        ``[n, channel, height, width]``; cells outside the map are zero.
    """
    plans = plan_layers(synthesis, resolution, windows)
    split = sum(plan.whole for plan in plans)
    x = _whole_maps(plans[:split], rows)
    if split == len(plans):
        return crop(x, windows)
    x = crop(x, plans[split].inputs)
    shortcut: Tensor | None = None
    for plan in plans[split:]:
        residual = plan.block.architecture == "resnet"
        if plan.layer.up == 2:
            if residual:
                shortcut = _skip_window(plan.block, x, plan.inputs, plan.windows.grown(-1, -1))
            x = _up_window(plan, x, rows[plan.row])
        else:
            x = _finish(plan.layer, *_convolve(plan.layer, x, rows[plan.row]), plan.windows)
            if residual and shortcut is not None:
                x = _zero_outside(x + shortcut, plan.layer.size, plan.windows)
    return x


def block_windows(block: SynthesisBlock, rows: Sequence[Tensor], x: Tensor, windows: Windows) -> Tensor:
    """Windows of a block's output, of windows of its input: those that its two layers' `input_windows` name.

    Args:
        block: not the first, which starts from a constant.
        rows: latent rows of its layers.
    """
    between = input_windows(block.conv1, windows)
    inputs = input_windows(block.conv0, between)
    first = LayerPlan(block, block.conv0, 0, between, inputs, whole=False, crops=True)
    y = _up_window(first, x, rows[0])
    y = _finish(block.conv1, *_convolve(block.conv1, y, rows[1]), windows)
    if block.architecture != "resnet":
        return y
    return _zero_outside(_skip_window(block, x, inputs, windows) + y, block.conv1.size, windows)


def upsampled_windows(image: Tensor, resample_filter: Tensor, inputs: Windows, windows: Windows) -> Tensor:
    """Windows of a map of twice the size, of windows of the map."""
    # Zero insertion puts input i at 2 i; output o is the filter over o - 2 .. o + 1.
    y = upfirdn2d(image, resample_filter, up=2, gain=4)
    starts = tuple(
        (oy - 2 - 2 * iy, ox - 2 - 2 * ix) for (oy, ox), (iy, ix) in zip(windows.origins, inputs.origins, strict=True)
    )
    return crop(y, Windows(starts, windows.size))


def _whole_maps(plans: Sequence[LayerPlan], rows: Sequence[Tensor]) -> Tensor:
    """The whole map after the last of these layers."""
    x: Tensor | None = None
    block_input: Tensor | None = None
    for plan in plans:
        block, layer, w = plan.block, plan.layer, rows[plan.row]
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
    style, demodulation = modulation_for_type(*layer.modulation(w), x.dtype)
    return layer.convolve(x * style, padding=0), demodulation


def _up_window(plan: LayerPlan, x: Tensor, w: Tensor) -> Tensor:
    """Windows through a layer that doubles the size."""
    y, demodulation = _convolve(plan.layer, x, w)
    y = upfirdn2d(y, plan.layer.resample_filter, gain=4)
    return _finish(plan.layer, crop(y, Windows(plan.filtered_starts, plan.windows.size)), demodulation, plan.windows)


def _finish(layer: SynthesisLayer, y: Tensor, demodulation: Tensor, windows: Windows) -> Tensor:
    """Demodulate, add noise and bias, activate, and set cells outside the map to zero."""
    noise = layer.noise("const", y)
    y = layer.activate(y, demodulation, None if noise is None else crop(noise[None, None], windows))
    return _zero_outside(y, layer.size, windows)


def _skip_window(block: SynthesisBlock, x: Tensor, inputs: Windows, windows: Windows) -> Tensor:
    """Windows through the residual path; its inputs are among those of the main path."""
    skip = block.skip
    y = F.conv2d(x, (skip.weight * skip.gain).to(x.dtype))
    return upsampled_windows(y, skip.resample_filter, inputs, windows)


def _zero_outside(x: Tensor, size: tuple[int, int], windows: Windows) -> Tensor:
    """What zero padding would have outside the map."""
    if windows.inside(size):
        return x
    return x * cells_inside(windows, size, x.device).to(x.dtype)
