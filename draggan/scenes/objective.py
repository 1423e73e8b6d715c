"""What a training minimises: how far a generated picture is from the rendering of the same scene.

Also the one way to draw for it (`synthesise`), and the figure that it is judged by (`psnr`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from draggan.generators.stylegan2 import StyleGAN2Generator

__all__ = ["laplacian_pyramid", "loss", "outlines", "pixel_weights", "psnr", "synthesise"]


def synthesise(
    generator: StyleGAN2Generator, ws: Float[Tensor, "batch num_ws w_dim"], resolution: int, dtype: torch.dtype
) -> Float[Tensor, "batch 3 resolution resolution"]:
    """The skip picture of that resolution, with feature maps in ``dtype``.

    Styles and demodulation stay float32 (autocast would round them too). Channels last: on CPUs the bfloat16
    convolutions then need no reordering, 1.1 to 1.7 times as fast.
    """
    rows = ws.unbind(1)
    x = image = None
    for r, block, row in generator.synthesis.blocks():
        if x is None:
            x = block.const.to(dtype).expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = block.conv1(x, rows[0])
        else:
            x = block.features(x, rows[row:])
        image = block.image(x, image, rows[row + block.num_conv])
        if r == resolution:
            break
    assert image is not None
    return image


def laplacian_pyramid(x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
    """Band-pass pictures, fine to coarse, and the 4 px rest."""
    bands = []
    while x.shape[-1] > 4:
        low = F.avg_pool2d(x, 2)
        bands.append(x - F.interpolate(low, scale_factor=2, mode="bilinear"))
        x = low
    return [*bands, x]


def loss(
    image: Float[Tensor, "batch 3 size size"],
    target: Float[Tensor, "batch 3 size size"],
    weight: Float[Tensor, "batch 1 size size"],
    energy: float | Float[Tensor, ""] = 0.0,
    slopes: float = 0.0,
) -> Float[Tensor, ""]:
    """Weighted L1 of the picture plus that of every pyramid band; ``weight`` has mean one per batch.

    Args:
        energy: weight of a term that compares how much detail there is around every pixel, not where exactly. L1
            alone blurs where a place is in doubt; this term draws an edge. A tensor counts even where it is 0.
        slopes: weight of the L1 between differences of neighbouring pixels: an edge that is too soft costs twice.
    """
    error = image - target
    total = (error.abs() * weight).mean()
    if isinstance(energy, Tensor) or energy:
        for made, right in zip(_detail(image), _detail(target), strict=True):
            total = total + energy * ((made - right).abs() * weight).mean()
    if slopes:
        across = ((error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]).mean()
        down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
        total = total + slopes * (across + down)
    # The pyramid is linear: the bands of the error are the error of the bands, at half the cost.
    for band in laplacian_pyramid(error):
        total = total + (band.abs() * weight).mean()
        if weight.shape[-1] > 4:
            weight = F.avg_pool2d(weight, 2)
    return total


def outlines(segments: UInt8[Tensor, "batch size size"]) -> UInt8[Tensor, "batch size size"]:
    """1 where another part is near, on both sides of every outline: within 1 / 128 of the width; else 0."""
    reach = max(1, segments.shape[-1] // 128)
    x = segments[:, None].float()
    kernel = 2 * reach + 1
    highest = F.max_pool2d(x, kernel, 1, reach)
    lowest = -F.max_pool2d(-x, kernel, 1, reach)
    return (highest > lowest)[:, 0].byte()


def pixel_weights(
    importance: UInt8[Tensor, "batch size size"],
    outline: UInt8[Tensor, "batch size size"] | None,
    *,
    exponent: float | Float[Tensor, ""],
    extra: float,
) -> Float[Tensor, "batch 1 size size"]:
    """How much every pixel counts in `loss`; mean 1.

    Args:
        importance: of the renderer, times 16.
        outline: of `outlines`; None for none.
        exponent: of the importance; below 1 flattens it.
        extra: how much more a pixel near an outline counts, 0 for no more than others.
    """
    weight = importance.float()[:, None] ** exponent
    if outline is not None:
        weight = weight * (1 + extra * outline.float()[:, None])
    return weight / weight.mean()


def _detail(x: Float[Tensor, "batch 3 size size"]) -> list[Tensor]:
    """Mean absolute value, over 7 x 7, of what averages over 3 x 3 and 7 x 7 leave out of the brightness; size stays.

    Not the pyramid's bands: those change when a picture moves by one pixel.
    """

    def average(y: Tensor, size: int) -> Tensor:
        return F.avg_pool2d(y, size, stride=1, padding=size // 2, count_include_pad=False)

    grey = x.mean(1, keepdim=True)  # a third of the time
    return [average((grey - average(grey, size)).abs(), 7) for size in (3, 7)]


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, of pictures in [-1, 1]; the mean over pictures."""
    error = (a.clamp(-1, 1) - b).square().mean((1, 2, 3)).clamp_min(1e-10)
    return float((10 * torch.log10(4 / error)).mean())
