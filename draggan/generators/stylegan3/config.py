"""Sizes and options of a StyleGAN3 generator, each field with its range, and the layers that follow from them.

The bottom of this package; nothing here imports PyTorch. See `draggan.generators.schema` for how a config is checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from draggan.errors import ConfigError
from draggan.generators.schema import (
    MappingConfig,
    NetworkConfig,
    check_budget,
    flag,
    one_of,
    power_of_two,
    real_number,
    record,
    whole_number,
)

__all__ = ["LayerDesign", "StyleGAN3Config", "kaiser_attenuation"]

# In dB: what a Kaiser window can have before its values leave the range of floating-point numbers.
MAX_ATTENUATION = 6000.0
# Taps of one filter. Published networks have 24 at most; radial ones take memory and time with the square.
MAX_TAPS = 1024


@dataclass(frozen=True, kw_only=True)
class LayerDesign:
    """The signal that a layer gives out. Frequencies in cycles per picture width, rates in samples per picture width.

    Attributes:
        cutoff, half_width: middle and half the width of the filter's transition band (their f_c and f_h).
        rate: sampling rate (their s).
        size: samples of the square map, margins included.
        channels: of the map.
        critical: whether it is sampled critically: its transition band ends above half its rate.
    """

    cutoff: float
    half_width: float
    rate: int
    size: int
    channels: int
    critical: bool


def kaiser_attenuation(taps: int, width: float, rate: float) -> float:
    """How much a filter that long dampens, in dB, by Kaiser's formula (as in ``scipy.signal.kaiser_atten``).

    Args:
        width: of the transition band, from where it passes all to where it stops all.
        rate: samples per unit at which the filter runs; width is in cycles per the same unit.
    """
    return 2.285 * (taps - 1) * math.pi * width / (rate / 2) + 7.95


@dataclass(frozen=True, kw_only=True)
class StyleGAN3Config(NetworkConfig):
    """A StyleGAN3 generator.

    Attributes:
        z_dim, c_dim, w_dim: sizes of noise, class label and latent.
        img_resolution: picture size.
        img_channels: 1 grey, 3 red, green and blue, 4 with opacity.
        mapping_kwargs: of the mapping network.
        channel_base, channel_max: a layer with cutoff f has ``min(channel_base / 2 / f, channel_max)`` channels.
        num_layers: layers without ToRGB.
        num_critical: how many of the last layers are sampled critically.
        first_cutoff, first_stopband: of layer 0, in cycles per picture width.
        last_stopband_rel: stopband over cutoff of the last layers.
        margin_size: cells around the picture.
        output_scale: factor of the picture.
        conv_kernel: 3 in configuration T, 1 in R.
        filter_size: filter taps per sample of the lower rate.
        lrelu_upsampling: how much faster than its input and output the non-linearity is sampled.
        use_radial_filters: downsample with radially symmetric filters (configuration R).
        conv_clamp: limit of the absolute value after every non-linearity.
    """

    z_dim: int = whole_number(1, 8192)
    c_dim: int = whole_number(0, 100_000)
    w_dim: int = whole_number(1, 8192)
    img_resolution: int = power_of_two(8, 4096)
    img_channels: int = one_of((1, 3, 4), 3)
    mapping_kwargs: MappingConfig = record(MappingConfig, MappingConfig())
    channel_base: float = real_number(1, 2**24, 32768)
    channel_max: int = whole_number(1, 8192, 512)
    num_layers: int = whole_number(1, 64, 14)
    num_critical: int = whole_number(0, 63, 2)
    first_cutoff: float = real_number(0.5, 1024, 2.0)
    first_stopband: float = real_number(0.5, 1024, 2**2.1)
    last_stopband_rel: float = real_number(1, 16, 2**0.3)
    margin_size: int = whole_number(0, 128, 10)
    output_scale: float = real_number(-1e6, 1e6, 0.25)
    conv_kernel: int = whole_number(1, 9, 3)
    filter_size: int = whole_number(1, 32, 6)
    lrelu_upsampling: int = whole_number(1, 8, 2)
    use_radial_filters: bool = flag(False)
    conv_clamp: float | None = real_number(1e-3, 1e9, 256, optional=True)

    def layer_designs(self) -> list[LayerDesign]:
        """The layers 0 ... num_layers, the last of them ToRGB (their section 3.2).

        Cutoff and stopband frequencies grow geometrically up to the first critical layer.
        """
        last_cutoff = self.img_resolution / 2
        last_stopband = last_cutoff * self.last_stopband_rel
        layers = []
        for i in range(self.num_layers + 1):
            e = min(i / (self.num_layers - self.num_critical), 1)
            cutoff = self.first_cutoff * (last_cutoff / self.first_cutoff) ** e
            stopband = self.first_stopband * (last_stopband / self.first_stopband) ** e
            rate = 2 ** math.ceil(math.log2(min(2 * stopband, self.img_resolution)))
            is_torgb = i == self.num_layers
            width = min(self.channel_base / 2 / cutoff, self.channel_max)
            layers.append(
                LayerDesign(
                    cutoff=cutoff,
                    half_width=max(stopband, rate / 2) - cutoff,
                    rate=rate,
                    # The last two layers make no margin: nothing reads beyond the picture any more.
                    size=self.img_resolution if i >= self.num_layers - 1 else rate + 2 * self.margin_size,
                    channels=self.img_channels if is_torgb else round(width),
                    critical=i >= self.num_layers - self.num_critical,
                )
            )
        return layers

    def check_together(self) -> None:
        if self.num_critical >= self.num_layers:
            raise ConfigError(
                f"num_critical = {self.num_critical} leaves nothing of the {self.num_layers} layers; give at most "
                f"{self.num_layers - 1}"
            )
        if self.img_resolution < 4 * self.first_cutoff:
            raise ConfigError(
                f"first_cutoff = {self.first_cutoff:g} is too high for a {self.img_resolution} px picture; "
                f"give at most {self.img_resolution / 4:g}"
            )
        designs = self.layer_designs()
        pairs = list(zip([designs[0], *designs], designs, strict=False))
        for i, (before, after) in enumerate(pairs):
            if after.channels < 1 or (after.cutoff >= after.rate / 2 and not after.critical):
                raise ConfigError(
                    f"layer {i} would have {after.channels} channels and pass {after.cutoff:.1f} cycles at "
                    f"{after.rate} samples; check channel_base, first_cutoff and first_stopband"
                )
            jump = max(before.rate, after.rate) * self.lrelu_upsampling // min(before.rate, after.rate)
            if jump > 64:
                raise ConfigError(f"layer {i} would jump from rate {before.rate} to {after.rate}; give more layers")
            if jump * self.filter_size > MAX_TAPS:
                raise ConfigError(
                    f"layer {i} would have filters of {jump * self.filter_size} taps, of {MAX_TAPS} at most; check "
                    "filter_size, lrelu_upsampling and num_layers"
                )
            rate = max(before.rate, after.rate) * self.lrelu_upsampling
            for signal in (before, after):
                taps = self.filter_size * rate // signal.rate
                if kaiser_attenuation(taps, 2 * signal.half_width, rate) > MAX_ATTENUATION:
                    raise ConfigError(
                        f"layer {i} would have filters far sharper than numbers can hold; check first_stopband, "
                        "last_stopband_rel and filter_size"
                    )
        check_budget(
            self.mapping_kwargs.parameters(self.z_dim, self.c_dim, self.w_dim)
            + designs[0].channels ** 2
            + sum(before.channels * (after.channels * self.conv_kernel**2 + self.w_dim) for before, after in pairs)
        )
