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
from draggan.generators.mapping import FullyConnected, MappingNetwork
from draggan.generators.stylegan2.config import DiscriminatorConfig
from torch_utils.ops.bias_act import bias_act
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

    def __init__(self, config: DiscriminatorConfig, in_channels: int, out_channels: int, *, is_first: bool) -> None:
        super().__init__()
        self.architecture = config.architecture
        self.register_buffer("resample_filter", setup_filter(config.resample_filter))

        def conv(inputs: int, outputs: int, *, kernel: int = 3, down: int = 1, gain: float = 1.0) -> ConvLayer:
            return ConvLayer(
                inputs,
                outputs,
                kernel=kernel,
                resample_filter=config.resample_filter,
                activation=config.activation,
                down=down,
                conv_clamp=config.conv_clamp,
                gain=gain,
            )

        residual = config.architecture == "resnet"
        half = math.sqrt(0.5) if residual else 1.0
        takes_colours = is_first or config.architecture == "skip"
        self.fromrgb = conv(config.img_channels, in_channels, kernel=1) if takes_colours else None
        self.conv0 = conv(in_channels, in_channels)
        self.conv1 = conv(in_channels, out_channels, down=2, gain=half)
        self.skip = None
        if residual:
            self.skip = ConvLayer(
                in_channels,
                out_channels,
                kernel=1,
                resample_filter=config.resample_filter,
                bias=False,
                down=2,
                gain=half,
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

    def __init__(self, config: DiscriminatorConfig, channels: int, out_features: int) -> None:
        super().__init__()
        self.mbstd_group_size, self.mbstd_num_channels = config.mbstd_group_size, config.mbstd_num_channels
        taps, activation = config.resample_filter, config.activation
        self.fromrgb = (
            ConvLayer(config.img_channels, channels, kernel=1, resample_filter=taps, activation=activation)
            if config.architecture == "skip"
            else None
        )
        self.conv = ConvLayer(
            channels + config.mbstd_num_channels,
            channels,
            kernel=3,
            resample_filter=taps,
            activation=activation,
            conv_clamp=config.conv_clamp,
        )
        self.fc = FullyConnected(channels * math.prod(config.last_size), channels, activation=activation)
        self.out = FullyConnected(channels, out_features)

    def forward(self, x: Tensor, image: Tensor) -> Float[Tensor, "batch out_features"]:
        x = x.to(self.conv.weight.dtype)
        if self.fromrgb is not None:
            x = x + self.fromrgb(image)
        if self.mbstd_num_channels > 0:
            x = torch.cat([x, minibatch_deviation(x, self.mbstd_group_size, self.mbstd_num_channels)], 1)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """The StyleGAN2 discriminator; a new one has random weights."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config, self.image_size = config, config.image_size
        self.c_dim, self.cmap_dim = config.c_dim, config.mapped_label_size
        widths = config.block_widths
        self.resolutions = [r for r in widths if r > 4]
        for r in self.resolutions:
            block = DiscriminatorBlock(config, widths[r], widths[r // 2], is_first=r == config.img_resolution)
            setattr(self, f"b{r}", block)
        if self.c_dim > 0:
            self.mapping = MappingNetwork(0, self.c_dim, self.cmap_dim, None, config.mapping_kwargs)
        self.b4 = DiscriminatorEpilogue(config, widths[4], self.cmap_dim or 1)

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
