"""Sizes and options of a StyleGAN2 generator and of its discriminator, each field with its range.

The bottom of this package; nothing here imports PyTorch. See `draggan.generators.schema` for how a config is checked.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from draggan.errors import ConfigError
from draggan.generators.schema import (
    ACTIVATION_NAMES,
    NetworkConfig,
    check_budget,
    flag,
    four_taps,
    one_of,
    power_of_two,
    real_number,
    record,
    size,
    whole_number,
    widths,
)
from draggan.generators.schema import MappingConfig as PlainMappingConfig

__all__ = ["Architecture", "DiscriminatorConfig", "MappingConfig", "StyleGAN2Config"]

Architecture = Literal["skip", "resnet", "orig"]
MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class MappingConfig(PlainMappingConfig):
    """Options of the mapping network (see the base class), of eight layers.

    Attributes:
        embed_features, layer_features: widths of the label's embedding and of the hidden layers; None: ``w_dim``.
    """

    num_layers: int = whole_number(1, 64, 8)
    embed_features: int | None = whole_number(1, 8192, None, optional=True)
    layer_features: int | None = whole_number(1, 8192, None, optional=True)

    def hidden(self, w_dim: int) -> int:
        return self.layer_features or w_dim

    def embedded(self, w_dim: int) -> int:
        return self.embed_features or w_dim


def _first_size(init_res: tuple[int, int] | None, square: bool) -> tuple[int, int]:
    """Height and width of the smallest map."""
    return init_res or (4, 4 if square else 2)


def _block_size(first: tuple[int, int], resolution: int) -> tuple[int, int]:
    """Height and width of the map of block ``b{resolution}``, where b4's is ``first``."""
    return first[0] * resolution // 4, first[1] * resolution // 4


def _check_side(image_size: tuple[int, int]) -> None:
    if max(image_size) > MAX_SIDE:
        height, width = image_size
        raise ConfigError(
            f"these arguments describe a picture of {width} x {height} px; up to {MAX_SIDE} px a side are allowed"
        )


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config(NetworkConfig):
    """A StyleGAN2 generator.

    Attributes:
        z_dim, c_dim, w_dim: sizes of noise, class label and latent.
        img_resolution: what the last block is called by: the height of a picture that begins with 4 rows.
        img_channels: 1 grey, 3 red, green and blue, 4 with opacity.
        square: False for pictures half as wide as high (StyleGAN-Human).
        init_res: height and width of the constant that the picture begins with, for pictures of any other ratio; None:
            (4, 4), or (4, 2) if not ``square``. Every block doubles it.
        mapping_kwargs: of the mapping network.
        channel_base, channel_max: a block of resolution r has ``min(channel_base // r, channel_max)`` channels.
        channels: of the blocks b4, b8, ..., for models whose widths follow no such rule; None: they do.
        architecture: "skip" (the usual), "resnet" or "orig".
        resample_filter: of the layers that double the size.
        conv_clamp: limit of the absolute value after every convolution.
        use_noise: whether the layers add noise.
        activation: of the layers.
    """

    z_dim: int = whole_number(1, 8192)
    c_dim: int = whole_number(0, 100_000)
    w_dim: int = whole_number(1, 8192)
    img_resolution: int = power_of_two(4, 4096)
    img_channels: int = one_of((1, 3, 4), 3)
    square: bool = flag(True)
    init_res: tuple[int, int] | None = size(1, 64)
    mapping_kwargs: MappingConfig = record(MappingConfig, MappingConfig())
    channel_base: int = whole_number(1, 2**24, 32768)
    channel_max: int = whole_number(1, 8192, 512)
    channels: tuple[int, ...] | None = widths(1, 8192, 11)
    architecture: Architecture = one_of(("skip", "resnet", "orig"), "skip")
    resample_filter: tuple[float, ...] = four_taps((1, 3, 3, 1))
    conv_clamp: float | None = real_number(1e-3, 1e9, None, optional=True)
    use_noise: bool = flag(True)
    activation: str = one_of(ACTIVATION_NAMES, "lrelu")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.block_size(self.img_resolution)

    def block_size(self, resolution: int) -> tuple[int, int]:
        """Height and width of the map of block ``b{resolution}``."""
        return _block_size(_first_size(self.init_res, self.square), resolution)

    @property
    def block_widths(self) -> dict[int, int]:
        """Channels by resolution of the block, 4, 8, ..."""
        resolutions = [2**i for i in range(2, self.img_resolution.bit_length())]
        rule = [min(self.channel_base // r, self.channel_max) for r in resolutions]
        return dict(zip(resolutions, self.channels or rule, strict=True))

    def check_together(self) -> None:
        _check_side(self.image_size)
        if self.channels is not None and len(self.channels) != self.img_resolution.bit_length() - 2:
            blocks = self.img_resolution.bit_length() - 2
            raise ConfigError(f"{len(self.channels)} channels for {blocks} blocks; give one per block")
        if self.channels is None and self.channel_base < self.img_resolution:
            raise ConfigError(
                f"channel_base = {self.channel_base} leaves the last block no channels; give {self.img_resolution} or "
                "more"
            )
        sizes = list(self.block_widths.values())
        convolutions = sum(9 * b * (a + b) for a, b in itertools.pairwise([sizes[0], *sizes]))
        check_budget(convolutions + self.mapping_kwargs.parameters(self.z_dim, self.c_dim, self.w_dim))


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(NetworkConfig):
    """The StyleGAN2 discriminator.

    Attributes:
        c_dim: size of the class label, 0 for none.
        img_resolution, img_channels, square, init_res: as for the generator.
        architecture: "resnet" (the usual), "skip" or "orig".
        channel_base, channel_max: block r works with ``min(channel_base // r, channel_max)`` channels.
        conv_clamp: limit of the absolute value after every convolution.
        cmap_dim: size of the mapped label; None: the channels of the last block if there are classes, else 0.
        mapping_kwargs: of the label's mapping.
        mbstd_group_size, mbstd_num_channels: of the `minibatch_deviation`; group size None for the whole batch, 0
            channels for none of it.
        resample_filter: of the layers that halve the size.
        activation: of the layers.
    """

    c_dim: int = whole_number(0, 100_000)
    img_resolution: int = power_of_two(8, 4096)
    img_channels: int = one_of((1, 3, 4), 3)
    square: bool = flag(True)
    init_res: tuple[int, int] | None = size(1, 64)
    architecture: Architecture = one_of(("resnet", "skip", "orig"), "resnet")
    channel_base: int = whole_number(1, 2**24, 32768)
    channel_max: int = whole_number(1, 8192, 512)
    conv_clamp: float | None = real_number(1e-3, 1e9, None, optional=True)
    cmap_dim: int | None = whole_number(0, 8192, None, optional=True)
    mapping_kwargs: MappingConfig = record(MappingConfig, MappingConfig())
    mbstd_group_size: int | None = whole_number(1, 1024, 4, optional=True)
    mbstd_num_channels: int = whole_number(0, 64, 1)
    resample_filter: tuple[float, ...] = four_taps((1, 3, 3, 1))
    activation: str = one_of(ACTIVATION_NAMES, "lrelu")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return _block_size(self.last_size, self.img_resolution)

    @property
    def last_size(self) -> tuple[int, int]:
        """Height and width of the last map."""
        return _first_size(self.init_res, self.square)

    @property
    def block_widths(self) -> dict[int, int]:
        """Channels that each block takes, by its resolution, the picture's first; last those of the 4 x 4 map."""
        resolutions = [2**i for i in range(self.img_resolution.bit_length() - 1, 1, -1)]
        return {r: min(self.channel_base // r, self.channel_max) for r in resolutions}

    @property
    def mapped_label_size(self) -> int:
        """`cmap_dim`, or what None stands for."""
        return (self.block_widths[4] if self.c_dim else 0) if self.cmap_dim is None else self.cmap_dim

    def check_together(self) -> None:
        _check_side(self.image_size)
        if self.channel_base < self.img_resolution:
            raise ConfigError(
                f"channel_base = {self.channel_base} leaves the first block no channels; give {self.img_resolution} or "
                "more"
            )
        sizes = self.block_widths
        if self.mbstd_num_channels and sizes[4] % self.mbstd_num_channels:
            raise ConfigError(
                f"mbstd_num_channels = {self.mbstd_num_channels} does not divide the {sizes[4]} channels of the last "
                "block"
            )
        if self.c_dim and not self.mapped_label_size:
            raise ConfigError(f"cmap_dim = 0 leaves no use for the {self.c_dim} classes; give None or the map's size")
        check_budget(
            sum(9 * sizes[r] * (sizes[r] + sizes[r // 2]) for r in sizes if r > 4)
            + sizes[4] ** 2 * (9 + math.prod(self.last_size))
            + (self.mapping_kwargs.parameters(0, self.c_dim, self.mapped_label_size) if self.c_dim else 0)
        )
