"""The StyleGAN2 synthesis network as published (Karras et al., CVPR 2020); no fast paths, and it knows of none.

The bottom of the stack ``networks <- windows <- analytic <- static_shapes <- cuda_graphs <- features <- generator``,
of which each module imports from those to its left only. Parameter and buffer names are the published ones, so that
weights move both ways. Differences to the published implementation are differences in cost only:

* the modulated convolution scales the input channels by the style, convolves with the *constant* weight and scales
  the output channels by the demodulation factor. That equals modulating the weight (their Eq. 1-3), needs no weight per
  sample, and gives no gradient to weights;
* the latent may come as separate rows, so that gradients stop at the rows that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from draggan.generators.base import Latent, latent_rows
from draggan.generators.mapping import FullyConnected
from draggan.generators.stylegan2.config import StyleGAN2Config
from torch_utils.ops.bias_act import bias_act, modulated_act
from torch_utils.ops.prepacked_convolution import PrepackedConvolution
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

__all__ = [
    "NoiseMode",
    "SynthesisBlock",
    "SynthesisLayer",
    "SynthesisNetwork",
    "ToRGB",
    "modulation_for_type",
]

NoiseMode = Literal["const", "random", "none"]


def modulation_for_type(style: Tensor, demodulation: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Style and demodulation factor for features of that type, ``[batch, channel, 1, 1]``."""
    if dtype == torch.float16:
        # Its range ends at 65504. What a style is divided by, demodulation makes up for.
        largest = style.abs().amax(1, keepdim=True).clamp(min=1e-8)
        style, demodulation = style / largest, demodulation * largest
    return style.to(dtype)[:, :, None, None], demodulation.to(dtype)[:, :, None, None]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; doubles the size when ``up`` is 2.

    Args:
        size: height and width of the output.
        gain: multiplies the output and the clamp (the two paths of a residual block use sqrt(1/2)).
    """

    noise_const: Tensor
    resample_filter: Tensor
    # What depends on weights alone, once those are frozen; not part of the state dict.
    frozen_energy: Tensor | None
    frozen_noise: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        *,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.up, self.size, self.use_noise = up, size, use_noise
        self.activation, self.conv_clamp, self.gain = activation, conv_clamp, gain
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(size))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("frozen_energy", None, persistent=False)
        self.frozen_convolution: PrepackedConvolution | None = None
        self.register_buffer("frozen_noise", None, persistent=False)

    def freeze(self) -> None:
        """Prepare what depends on weights alone; to be repeated whenever those were changed."""
        self.frozen_energy = None
        self.frozen_energy = self.energy().detach()
        self.frozen_convolution = PrepackedConvolution(self.up)
        self.frozen_noise = (self.noise_const * self.noise_strength).detach() if self.use_noise else None

    def energy(self) -> Float[Tensor, "out_channels in_channels"]:
        """Sum of squares of the weight over the kernel."""
        if self.frozen_energy is not None and not self.weight.requires_grad:
            return self.frozen_energy
        return self.weight.square().sum((2, 3))

    def modulation(self, w: Float[Tensor, "batch w_dim"]) -> tuple[Tensor, Tensor]:
        """Style of the input channels ``[batch, in]`` and demodulation factor of the output channels ``[batch, out]``.

        Demodulation (their Eq. 3): the standard deviation of the output for unit normal input is
        ``sqrt(sum_i style_i^2 * sum_k weight_oik^2)``. Always float32.
        """
        with torch.autocast(w.device.type, enabled=False):
            style = self.affine(w.float())
            return style, torch.rsqrt(style.square() @ self.energy().T + 1e-8)

    def convolve(self, x: Tensor, padding: int) -> Tensor:
        """The bare convolution; one that doubles the size is transposed, to 2 r + 1, and takes no padding."""
        if self.frozen_convolution is not None and not self.weight.requires_grad:
            return self.frozen_convolution(x, self.weight, padding)
        weight = self.weight.to(x.dtype)
        if self.up == 2:
            return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return F.conv2d(x, weight, padding=padding)

    def noise(self, mode: NoiseMode, like: Tensor) -> Tensor | None:
        """The noise to add, broadcastable to ``[batch, 1, height, width]``, or None."""
        if not self.use_noise or mode == "none":
            return None
        if mode == "random":
            noise = torch.randn(like.shape[0], 1, *self.size, device=like.device)
            return (noise * self.noise_strength).to(like.dtype)
        if self.frozen_noise is not None and not self.noise_strength.requires_grad:
            return self.frozen_noise.to(like.dtype)
        return (self.noise_const * self.noise_strength).to(like.dtype)

    def forward(self, x: Tensor, w: Float[Tensor, "batch w_dim"], noise_mode: NoiseMode = "const") -> Tensor:
        style, demodulation = modulation_for_type(*self.modulation(w), x.dtype)
        x = self.convolve(x * style, padding=0 if self.up == 2 else 1)
        if self.up == 2:
            # The low-pass filter brings 2 r + 1 to 2 r; 4 makes up for the zeros between the samples.
            x = upfirdn2d(x, self.resample_filter, padding=(1, 1, 1, 1), gain=4)
        return self.activate(x, demodulation, self.noise(noise_mode, x))

    def activate(self, x: Tensor, demodulation: Tensor, noise: Tensor | None) -> Tensor:
        """What follows the convolution: demodulation, noise, bias, activation. The memory of x may be used for it."""
        return modulated_act(
            x,
            demodulation,
            noise,
            self.bias,
            activation=self.activation,
            gain=self.gain,
            clamp=self.conv_clamp,
            overwrite=True,
        )


class ToRGB(nn.Module):
    """1x1 modulated convolution to colour, without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, *, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Float[Tensor, "batch w_dim"]) -> Tensor:
        style = self.affine(w) * self.style_gain
        x = F.conv2d(x * style.to(x.dtype)[:, :, None, None], self.weight.to(x.dtype))
        return bias_act(x, self.bias, clamp=self.conv_clamp)


class SkipConv(nn.Module):
    """The residual path of a ``resnet`` block: 1x1 convolution without bias, up by 2, gain sqrt(1/2)."""

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, resample_filter: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.gain = math.sqrt(0.5) / math.sqrt(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        # The 1x1 kernel and the filter commute; at half the size the convolution costs a quarter.
        x = F.conv2d(x, (self.weight * self.gain).to(x.dtype))
        return upfirdn2d(x, self.resample_filter, up=2, padding=(2, 1, 2, 1), gain=4)


class SynthesisBlock(nn.Module):
    """All layers of one resolution."""

    resample_filter: Tensor

    def __init__(
        self,
        config: StyleGAN2Config,
        in_channels: int,
        out_channels: int,
        size: tuple[int, int],
        *,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.architecture, self.in_channels = config.architecture, in_channels
        self.register_buffer("resample_filter", setup_filter(config.resample_filter))

        def conv(channels: int, *, up: int = 1, gain: float = 1.0) -> SynthesisLayer:
            return SynthesisLayer(
                channels,
                out_channels,
                config.w_dim,
                size,
                up=up,
                use_noise=config.use_noise,
                activation=config.activation,
                resample_filter=config.resample_filter,
                conv_clamp=config.conv_clamp,
                gain=gain,
            )

        residual = config.architecture == "resnet" and in_channels > 0
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, *size))
        else:
            self.conv0 = conv(in_channels, up=2)
        self.conv1 = conv(out_channels, gain=math.sqrt(0.5) if residual else 1.0)
        self.has_torgb = is_last or config.architecture == "skip"
        if self.has_torgb:
            self.torgb = ToRGB(out_channels, config.img_channels, config.w_dim, conv_clamp=config.conv_clamp)
        if residual:
            self.skip = SkipConv(in_channels, out_channels, resample_filter=config.resample_filter)
        self.num_conv = 1 if in_channels == 0 else 2

    def features(self, x: Tensor | None, rows: Sequence[Tensor], noise_mode: NoiseMode = "const") -> Tensor:
        """Feature map of this block from the previous one's (None for the first) and ``num_conv`` latent rows."""
        if self.in_channels == 0:
            x = self.const.expand(rows[0].shape[0], -1, -1, -1)
            if torch.is_autocast_enabled(x.device.type):
                x = x.to(torch.get_autocast_dtype(x.device.type))
            return self.conv1(x, rows[0], noise_mode)
        assert x is not None
        y = self.conv1(self.conv0(x, rows[0], noise_mode), rows[1], noise_mode)
        return self.skip(x) + y if self.architecture == "resnet" else y

    def image(self, x: Tensor, image: Tensor | None, w: Float[Tensor, "batch w_dim"]) -> Tensor | None:
        """The picture up to this resolution, float32: the previous one upsampled plus this block's contribution."""
        if image is not None:
            image = upfirdn2d(image, self.resample_filter, up=2, padding=(2, 1, 2, 1), gain=4)
        if not self.has_torgb:
            return image
        y = self.torgb(x, w).float()
        return y if image is None else image + y


class SynthesisNetwork(nn.Module):
    """Latent rows to picture, block by block (``b4``, ``b8``, ...)."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.resolutions = list(config.block_widths)
        in_channels = 0
        for r, channels in config.block_widths.items():
            size, is_last = config.block_size(r), r == config.img_resolution
            setattr(self, f"b{r}", SynthesisBlock(config, in_channels, channels, size, is_last=is_last))
            in_channels = channels
        self.num_ws = 2 * len(self.resolutions)

    def blocks(self) -> Iterator[tuple[int, SynthesisBlock, int]]:
        """Resolution, block, and the first latent row it takes."""
        row = 0
        for r in self.resolutions:
            block = getattr(self, f"b{r}")
            yield r, block, row
            row += block.num_conv

    def features(self, ws: Latent, resolution: int, noise_mode: NoiseMode = "const") -> Tensor:
        """The feature map of one block; neither pictures nor anything beyond it is computed."""
        rows, x = latent_rows(ws), None
        for r, block, row in self.blocks():
            x = block.features(x, rows[row:], noise_mode)
            if r == resolution:
                break
        assert x is not None
        return x

    def forward(self, ws: Latent, resolution: int | None = None, noise_mode: NoiseMode = "const") -> Tensor:
        """The picture, or with ``resolution`` the smaller one that the ``skip`` architecture has on the way."""
        rows, x, image = latent_rows(ws), None, None
        for r, block, row in self.blocks():
            x = block.features(x, rows[row:], noise_mode)
            image = block.image(x, image, rows[row + block.num_conv])
            if r == resolution:
                break
        assert image is not None
        return image
