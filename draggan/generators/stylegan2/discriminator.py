"""The StyleGAN2 discriminator (Karras et al., CVPR 2020): picture (and label) to a logit of being real.

Parameter and buffer names are the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from draggan.errors import ConfigError
from draggan.generators.limits import (
    check_budget,
    check_mapping,
    flag,
    mapping_parameters,
    number,
    one_of,
    resolution,
    whole,
)
from draggan.generators.mapping import FullyConnected, MappingNetwork
from draggan.generators.stylegan2.networks import Architecture
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

__all__ = ["Discriminator", "minibatch_deviation"]


def minibatch_deviation(
    x: Float[Tensor, "batch channel height width"], group_size: int | None, num_channels: int
) -> Float[Tensor, "batch num_channels height width"]:
    """How much the samples of a group differ, as constant feature maps (Karras et al., ICLR 2018, section 3).

    The standard deviation over the samples of a group, averaged over the cells and over the channels of each of
    ``num_channels`` parts.

    Args:
        group_size: samples per group; None or more than there are: all. Sample i belongs to group
            ``i mod (batch / group_size)``.

    Raises:
        ConfigError: the batch cannot be divided into such groups.
    """
    batch, channels, height, width = x.shape
    size = batch if group_size is None else min(group_size, batch)
    if batch % size:
        raise ConfigError(f"a batch of {batch} cannot be divided into groups of {size}; give a multiple of {size}")
    y = x.reshape(size, batch // size, num_channels, channels // num_channels, height, width)
    y = (y.var(0, correction=0) + 1e-8).sqrt().mean((2, 3, 4))
    return y.repeat(size, 1)[:, :, None, None].expand(-1, -1, height, width)


class ConvLayer(nn.Module):
    """Convolution, bias, activation; ``down`` 2 filters with four taps and halves the size.

    Args:
        gain: multiplies the output and the clamp.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        resample_filter: Sequence[float],
        bias: bool = True,
        activation: str = "linear",
        down: int = 1,
        conv_clamp: float | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel, self.down, self.activation, self.conv_clamp, self.gain = kernel, down, activation, conv_clamp, gain
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        if self.down == 1:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        elif self.kernel == 1:
            # The 1x1 kernel and the filter commute; at half the size the convolution costs a quarter.
            x = F.conv2d(upfirdn2d(x, self.resample_filter, down=2, padding=(1, 1, 1, 1)), weight)
        else:
            x = F.conv2d(upfirdn2d(x, self.resample_filter, padding=(2, 2, 2, 2)), weight, stride=2)
        return bias_act(x, self.bias, activation=self.activation, gain=self.gain, clamp=self.conv_clamp)


class DiscriminatorBlock(nn.Module):
    """Two convolutions that halve the size; in the first block, and in ``skip``, colours come in first."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_channels: int,
        *,
        is_first: bool,
        architecture: Architecture,
        resample_filter: Sequence[float],
        activation: str,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("resample_filter", setup_filter(resample_filter))

        def conv(inputs: int, outputs: int, *, kernel: int = 3, down: int = 1, gain: float = 1.0) -> ConvLayer:
            return ConvLayer(
                inputs,
                outputs,
                kernel=kernel,
                resample_filter=resample_filter,
                activation=activation,
                down=down,
                conv_clamp=conv_clamp,
                gain=gain,
            )

        residual = architecture == "resnet"
        half = math.sqrt(0.5) if residual else 1.0
        self.fromrgb = conv(img_channels, in_channels, kernel=1) if is_first or architecture == "skip" else None
        self.conv0 = conv(in_channels, in_channels)
        self.conv1 = conv(in_channels, out_channels, down=2, gain=half)
        self.skip = None
        if residual:
            self.skip = ConvLayer(
                in_channels, out_channels, kernel=1, resample_filter=resample_filter, bias=False, down=2, gain=half
            )

    def forward(self, x: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and picture at half the size (the picture only in ``skip``, else as it was)."""
        if self.fromrgb is not None:
            colours = self.fromrgb(image)
            x = colours if x is None else x + colours
            if self.architecture == "skip":
                image = upfirdn2d(image, self.resample_filter, down=2, padding=(1, 1, 1, 1))
        assert x is not None
        y = self.conv1(self.conv0(x))
        return (y if self.skip is None else self.skip(x) + y), image


class DiscriminatorEpilogue(nn.Module):
    """The last 4x4 map (4x2 in rectangular models) to one number, or to ``cmap_dim`` of them."""

    def __init__(
        self,
        channels: int,
        img_channels: int,
        out_features: int,
        *,
        size: tuple[int, int],
        architecture: Architecture,
        mbstd_group_size: int | None,
        mbstd_num_channels: int,
        resample_filter: Sequence[float],
        activation: str,
        conv_clamp: float | None,
    ) -> None:
        super().__init__()
        self.mbstd_group_size, self.mbstd_num_channels = mbstd_group_size, mbstd_num_channels
        self.fromrgb = (
            ConvLayer(img_channels, channels, kernel=1, resample_filter=resample_filter, activation=activation)
            if architecture == "skip"
            else None
        )
        self.conv = ConvLayer(
            channels + mbstd_num_channels,
            channels,
            kernel=3,
            resample_filter=resample_filter,
            activation=activation,
            conv_clamp=conv_clamp,
        )
        self.fc = FullyConnected(channels * math.prod(size), channels, activation=activation)
        self.out = FullyConnected(channels, out_features)

    def forward(self, x: Tensor, image: Tensor) -> Float[Tensor, "batch out_features"]:
        x = x.to(self.conv.weight.dtype)
        if self.fromrgb is not None:
            x = x + self.fromrgb(image)
        if self.mbstd_num_channels > 0:
            x = torch.cat([x, minibatch_deviation(x, self.mbstd_group_size, self.mbstd_num_channels)], 1)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """The StyleGAN2 discriminator; a new one has random weights.

    Args:
        c_dim: size of the class label, 0 for none.
        img_resolution: picture height, a power of two from 8 on.
        square: False for pictures half as wide as high.
        architecture: "resnet" (the usual), "skip" or "orig".
        channel_base, channel_max: block r works with ``min(channel_base // r, channel_max)`` channels.
        conv_clamp: limit of the absolute value after every convolution.
        cmap_dim: size of the mapped label; None: the channels of the last block if there are classes, else 0.
        mapping_kwargs: of the label's mapping: ``num_layers`` (8), ``embed_features``, ``layer_features``,
            ``activation``, ``lr_multiplier``.
        mbstd_group_size, mbstd_num_channels: of the `minibatch_deviation`; group size None for the whole batch, 0
            channels for none of it.

    Raises:
        ConfigError: an argument is out of range, or all together describe an absurdly large network.
    """

    def __init__(
        self,
        *,
        c_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        square: bool = True,
        architecture: Architecture = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        mapping_kwargs: dict | None = None,
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        activation: str = "lrelu",
    ) -> None:
        super().__init__()
        whole("c_dim", c_dim, 0, 100_000)
        resolution(img_resolution)
        whole("img_channels", img_channels, 1, 64)
        flag("square", square)
        one_of("architecture", architecture, ("resnet", "skip", "orig"))
        one_of("activation", activation, tuple(ACTIVATIONS))
        whole("channel_base", channel_base, img_resolution, 2**24)
        whole("channel_max", channel_max, 1, 8192)
        if conv_clamp is not None:
            number("conv_clamp", conv_clamp, 1e-3, 1e9)
        if cmap_dim is not None:
            whole("cmap_dim", cmap_dim, 0, 8192)
        if mbstd_group_size is not None:
            whole("mbstd_group_size", mbstd_group_size, 1, 1024)
        whole("mbstd_num_channels", mbstd_num_channels, 0, 64)
        if len(resample_filter) != 4:
            raise ConfigError(f"resample_filter has {len(resample_filter)} taps; give four, such as 1, 3, 3, 1")
        known = ("num_layers", "embed_features", "layer_features", "activation", "lr_multiplier", "w_avg_beta")
        mapping_kwargs = check_mapping(mapping_kwargs, known)

        self.resolutions = [2**i for i in range(int(math.log2(img_resolution)), 2, -1)]
        widths = {r: min(channel_base // r, channel_max) for r in [*self.resolutions, 4]}
        if mbstd_num_channels and widths[4] % mbstd_num_channels:
            raise ConfigError(
                f"mbstd_num_channels = {mbstd_num_channels} does not divide the {widths[4]} channels of the last block"
            )
        self.c_dim, self.image_size = c_dim, (img_resolution, img_resolution if square else img_resolution // 2)
        self.cmap_dim = (widths[4] if c_dim else 0) if cmap_dim is None else cmap_dim
        if c_dim and not self.cmap_dim:
            raise ConfigError(f"cmap_dim = 0 leaves no use for the {c_dim} classes; give None or the size of their map")
        last_size = (4, 4 if square else 2)
        check_budget(
            sum(9 * widths[r] * (widths[r] + widths[r // 2]) for r in self.resolutions)
            + widths[4] ** 2 * (9 + math.prod(last_size))
            + (mapping_parameters(0, c_dim, self.cmap_dim, mapping_kwargs, 8) if c_dim else 0)
        )

        for r in self.resolutions:
            block = DiscriminatorBlock(
                widths[r],
                widths[r // 2],
                img_channels,
                is_first=r == img_resolution,
                architecture=architecture,
                resample_filter=resample_filter,
                activation=activation,
                conv_clamp=conv_clamp,
            )
            setattr(self, f"b{r}", block)
        if c_dim > 0:
            self.mapping = MappingNetwork(0, c_dim, self.cmap_dim, None, **mapping_kwargs)
        self.b4 = DiscriminatorEpilogue(
            widths[4],
            img_channels,
            self.cmap_dim or 1,
            size=last_size,
            architecture=architecture,
            mbstd_group_size=mbstd_group_size,
            mbstd_num_channels=mbstd_num_channels,
            resample_filter=resample_filter,
            activation=activation,
            conv_clamp=conv_clamp,
        )

    def forward(
        self, image: Float[Tensor, "batch img_channels height width"], c: Float[Tensor, "batch c_dim"] | None = None
    ) -> Float[Tensor, "batch 1"]:
        """Logits, higher for what looks real. Samples of a batch see each other through `minibatch_deviation`.

        Args:
            image: nominal range [-1, 1].
            c: one-hot class labels; None means no class (all zeros). Without effect in a model without classes.

        Raises:
            ConfigError: the picture has another size, or the batch cannot be divided into groups.
        """
        if tuple(image.shape[-2:]) != self.image_size:
            raise ConfigError(
                f"a picture of {image.shape[-2]}x{image.shape[-1]} px does not fit this discriminator; "
                f"it takes {self.image_size[0]}x{self.image_size[1]}"
            )
        x = None
        for r in self.resolutions:
            x, image = getattr(self, f"b{r}")(x, image)
        assert x is not None
        x = self.b4(x, image)
        if self.c_dim == 0:
            return x
        label = image.new_zeros(image.shape[0], self.c_dim) if c is None else c
        # The published projection: how well the features agree with those the label asks for.
        return (x * self.mapping(None, label)).sum(1, keepdim=True) / math.sqrt(self.cmap_dim)
