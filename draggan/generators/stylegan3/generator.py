"""`StyleGAN3Generator`: the mapping and synthesis networks behind the interface of `draggan.generators.base`.

The top of this package: it owns the two networks, names the feature levels, and computes windows of features by
`stylegan3.windows` where the weights are frozen, else by the layers themselves. Feature maps reach a margin of 10 cells
beyond the picture on every side (`StyleGAN3Generator.grid`).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from draggan.errors import ConfigError
from draggan.generators.base import Generator, Latent, latent_rows
from draggan.generators.limits import check_budget, check_mapping, flag, mapping_parameters, number, resolution, whole
from draggan.generators.mapping import MappingNetwork
from draggan.generators.stylegan3.networks import SynthesisNetwork, design_layers
from draggan.generators.stylegan3.windows import plan_windows, window_features
from draggan.geometry import Grid, Windows

__all__ = ["StyleGAN3Generator"]


class StyleGAN3Generator(Generator):
    """The StyleGAN3 generator; a new one has random weights, as at the start of training.

    Args:
        z_dim, c_dim, w_dim: sizes of noise, class label and latent.
        img_resolution: picture size, a power of two from 8 on.
        mapping_kwargs: ``num_layers`` (default 2), ``lr_multiplier`` and ``activation``.
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

    Raises:
        ConfigError: an argument is out of range, or all together describe no possible or an absurdly large network.
    """

    family = "stylegan3"
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(
        self,
        *,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        mapping_kwargs: dict | None = None,
        channel_base: float = 32768,
        channel_max: int = 512,
        num_layers: int = 14,
        num_critical: int = 2,
        first_cutoff: float = 2.0,
        first_stopband: float = 2**2.1,
        last_stopband_rel: float = 2**0.3,
        margin_size: int = 10,
        output_scale: float = 0.25,
        conv_kernel: int = 3,
        filter_size: int = 6,
        lrelu_upsampling: int = 2,
        use_radial_filters: bool = False,
        conv_clamp: float | None = 256,
    ) -> None:
        super().__init__()
        whole("z_dim", z_dim, 1, 8192)
        whole("c_dim", c_dim, 0, 100_000)
        whole("w_dim", w_dim, 1, 8192)
        resolution(img_resolution)
        whole("img_channels", img_channels, 1, 64)
        mapping_kwargs = check_mapping(mapping_kwargs, ("num_layers", "lr_multiplier", "activation", "w_avg_beta"))
        number("channel_base", channel_base, 1, 2**24)
        whole("channel_max", channel_max, 1, 8192)
        whole("num_layers", num_layers, 1, 64)
        whole("num_critical", num_critical, 0, num_layers - 1)
        number("first_cutoff", first_cutoff, 0.25, 1024)
        number("first_stopband", first_stopband, 0.25, 1024)
        number("last_stopband_rel", last_stopband_rel, 1, 16)
        whole("margin_size", margin_size, 0, 128)
        number("output_scale", output_scale, -1e6, 1e6)
        whole("conv_kernel", conv_kernel, 1, 9)
        whole("filter_size", filter_size, 1, 32)
        whole("lrelu_upsampling", lrelu_upsampling, 1, 8)
        flag("use_radial_filters", use_radial_filters)
        if conv_clamp is not None:
            number("conv_clamp", conv_clamp, 1e-3, 1e9)
        if img_resolution < 4 * first_cutoff:
            raise ConfigError(
                f"first_cutoff = {first_cutoff:g} is too high for a {img_resolution} px picture; "
                f"give at most {img_resolution / 4:g}"
            )
        designs = design_layers(
            img_resolution,
            img_channels,
            channel_base=channel_base,
            channel_max=channel_max,
            num_layers=num_layers,
            num_critical=num_critical,
            first_cutoff=first_cutoff,
            first_stopband=first_stopband,
            last_stopband_rel=last_stopband_rel,
            margin_size=margin_size,
        )
        for i, (before, after) in enumerate(zip([designs[0], *designs], designs, strict=False)):
            if after.channels < 1 or (after.cutoff >= after.rate / 2 and not after.critical):
                raise ConfigError(
                    f"layer {i} would have {after.channels} channels and pass {after.cutoff:.1f} cycles at "
                    f"{after.rate} samples; check channel_base, first_cutoff and first_stopband"
                )
            if max(before.rate, after.rate) * lrelu_upsampling > 64 * min(before.rate, after.rate):
                raise ConfigError(f"layer {i} would jump from rate {before.rate} to {after.rate}; give more layers")
        sides = [designs[0], *designs]
        check_budget(
            mapping_parameters(z_dim, c_dim, w_dim, mapping_kwargs, 2)
            + designs[0].channels ** 2
            + sum(
                before.channels * (after.channels * conv_kernel**2 + w_dim)
                for before, after in zip(sides, designs, strict=False)
            )
        )
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.image_size = (img_resolution, img_resolution)
        self.synthesis = SynthesisNetwork(
            w_dim,
            designs,
            output_scale=output_scale,
            conv_kernel=conv_kernel,
            filter_size=filter_size,
            lrelu_upsampling=lrelu_upsampling,
            use_radial_filters=use_radial_filters,
            conv_clamp=conv_clamp,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **{"num_layers": 2, **mapping_kwargs})
        self.levels = self.synthesis.names[:-1]

    def features(self, ws: Latent, level: str) -> Float[Tensor, "batch channel height width"]:
        """The output of layer ``level`` ("L0_36_512", ...), margins included."""
        return self.synthesis.features(ws, self.check_level(level))

    def local_features(
        self, ws: Latent, level: str, windows: Windows
    ) -> Float[Tensor, "n channel window_height window_width"]:
        """Windows of the output of layer ``level`` at the cost of the windows only; see `stylegan3.windows`."""
        rows, synthesis = latent_rows(ws), self.synthesis
        layers = [layer for _, layer in synthesis.layers()][: self.levels.index(self.check_level(level)) + 1]
        if not all(layer.is_frozen for layer in layers):
            return super().local_features(ws, level, windows)
        x = synthesis.input(rows[0])
        samples = max(len(row) for row in rows[: len(layers) + 1])
        plan = plan_windows(tuple(layer.receptive_field for layer in layers), windows, samples, len(x))
        return window_features(layers, plan, x, [layer.modulation(rows[k]) for k, layer in enumerate(layers, 1)])

    def grid(self, level: str) -> Grid:
        """Cells of layer ``level``: its rate over the picture, and a margin around it (none in the last layers)."""
        design = getattr(self.synthesis, self.check_level(level)).after
        scale = design.rate / self.image_size[0]
        return Grid(size=(design.size, design.size), scale=(scale, scale), margin=(design.size - design.rate) / 2)

    def rows_used(self, level: str) -> int:
        """The input's row and one per layer."""
        return self.levels.index(self.check_level(level)) + 2

    def freeze(self) -> StyleGAN3Generator:
        """Turn gradients to all weights off, prepare what depends on weights alone, and return self."""
        super().freeze()
        for _, layer in self.synthesis.layers():
            layer.freeze()
        return self
