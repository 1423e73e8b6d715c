"""`StyleGAN2Generator`: the mapping and synthesis networks behind the interface of `draggan.generators.base`.

The top of this package: it owns the two networks and names the feature levels. How features are computed it leaves to
`stylegan2.features`, which chooses among CUDA graphs, the analytic pass and the plain layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from draggan.errors import ConfigError
from draggan.generators.base import Generator, Latent
from draggan.generators.limits import check_budget, check_mapping, mapping_parameters, one_of, resolution, whole
from draggan.generators.mapping import MappingNetwork
from draggan.generators.stylegan2.features import features
from draggan.generators.stylegan2.networks import Architecture, SynthesisLayer, SynthesisNetwork
from draggan.geometry import Grid, Windows
from torch_utils.ops.bias_act import ACTIVATIONS

__all__ = ["StyleGAN2Generator"]


class StyleGAN2Generator(Generator):
    """The StyleGAN2 generator; a new one has random weights, as at the start of training.

    Args:
        z_dim, c_dim, w_dim: sizes of noise, class label and latent.
        img_resolution: picture height, a power of two from 4 to 4096.
        square: False for pictures half as wide as high (StyleGAN-Human).
        mapping_kwargs: ``num_layers``, ``lr_multiplier``, ``embed_features``, ``layer_features``, ``activation``.
        channel_base, channel_max: a block of resolution r has ``min(channel_base // r, channel_max)`` channels.
        channels: of the blocks b4, b8, ..., for models whose widths follow no such rule.
        architecture: "skip" (the usual), "resnet" or "orig".
        conv_clamp: limit of the absolute value after every convolution.

    Raises:
        ConfigError: a size or name is not possible.
    """

    family = "stylegan2"
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
        square: bool = True,
        mapping_kwargs: dict | None = None,
        channel_base: int = 32768,
        channel_max: int = 512,
        channels: Sequence[int] | None = None,
        architecture: Architecture = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        use_noise: bool = True,
        activation: str = "lrelu",
    ) -> None:
        super().__init__()
        whole("z_dim", z_dim, 1, 8192)
        whole("c_dim", c_dim, 0, 100_000)
        whole("w_dim", w_dim, 1, 8192)
        whole("img_channels", img_channels, 1, 64)
        resolution(img_resolution, 4)
        one_of("architecture", architecture, ("skip", "resnet", "orig"))
        one_of("activation", activation, tuple(ACTIVATIONS))
        whole("channel_max", channel_max, 1, 8192)
        # Every block has at least one channel.
        whole("channel_base", channel_base, img_resolution, 2**24)
        if len(resample_filter) != 4:
            raise ConfigError(f"resample_filter has {len(resample_filter)} taps; give 4, as in (1, 3, 3, 1)")
        known = ("num_layers", "lr_multiplier", "activation", "embed_features", "layer_features", "w_avg_beta")
        mapping_kwargs = check_mapping(mapping_kwargs, known)
        widths = channels or [min(channel_base // 2**i, channel_max) for i in range(2, img_resolution.bit_length())]
        convolutions = sum(9 * b * (a + b) for a, b in itertools.pairwise([widths[0], *widths]))
        check_budget(convolutions + mapping_parameters(z_dim, c_dim, w_dim, mapping_kwargs, 8))
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.image_size = (img_resolution, img_resolution if square else img_resolution // 2)
        self.synthesis = SynthesisNetwork(
            w_dim,
            img_resolution,
            img_channels,
            square=square,
            channel_base=channel_base,
            channel_max=channel_max,
            channels=channels,
            architecture=architecture,
            resample_filter=resample_filter,
            conv_clamp=conv_clamp,
            use_noise=use_noise,
            activation=activation,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **mapping_kwargs)
        self.levels = tuple(f"b{r}" for r in self.synthesis.resolutions)

    def features(self, ws: Latent, level: str) -> Float[Tensor, "batch channel height width"]:
        """The output of block ``level`` ("b4", "b8", ...)."""
        return features(self.synthesis, ws, self._resolution(level))

    def local_features(
        self, ws: Latent, level: str, windows: Windows
    ) -> Float[Tensor, "n channel window_height window_width"]:
        """Windows of the output of block ``level`` at the cost of the windows only; see `stylegan2.windows`."""
        return features(self.synthesis, ws, self._resolution(level), windows)

    def _resolution(self, level: str) -> int:
        """The number in the level's name: the height of the block's map."""
        return int(self.check_level(level)[1:])

    def grid(self, level: str) -> Grid:
        """Cells of block ``level``; a StyleGAN2 map covers the picture without a margin."""
        height, width = self.image_size
        scale = self._resolution(level) / height
        return Grid(size=(round(height * scale), round(width * scale)), scale=(scale, scale))

    def rows_used(self, level: str) -> int:
        """One row for b4, two more per block."""
        return 2 * self.levels.index(self.check_level(level)) + 1

    @property
    def preview_heights(self) -> tuple[int, ...]:
        """All resolutions of a ``skip`` network, which draws each on the way to the next; else the picture's own."""
        if all(block.has_torgb for _, block, _ in self.synthesis.blocks()):
            return tuple(self.synthesis.resolutions)
        return super().preview_heights

    def preview(self, ws: Latent, height: int) -> Float[Tensor, "batch 3 _ _"]:
        """The picture after the block of that resolution: what the blocks beyond it would add is missing."""
        if height == self.image_size[0] or height not in self.preview_heights:
            return super().preview(ws, height)
        return self.synthesis(ws, height)

    def freeze(self) -> StyleGAN2Generator:
        """Turn gradients to all weights off, prepare what depends on weights alone, and return self."""
        super().freeze()
        for module in self.modules():
            if isinstance(module, SynthesisLayer):
                module.freeze()
        return self
