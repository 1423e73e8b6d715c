"""`StyleGAN2Generator`: the mapping and synthesis networks behind the interface of `draggan.generators.base`.

The top of this package: it owns the two networks and names the feature levels. How features are computed it leaves to
`stylegan2.features`, which chooses among CUDA graphs, the analytic pass and the plain layers.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from draggan.generators.base import Generator, Latent
from draggan.generators.blending import Stage
from draggan.generators.mapping import MappingNetwork
from draggan.generators.stylegan2.blending import block_stages
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.stylegan2.features import features
from draggan.generators.stylegan2.networks import SynthesisLayer, SynthesisNetwork
from draggan.generators.stylegan2.recorded_pictures import RecordedSynthesis
from draggan.geometry import Grid, Windows

__all__ = ["StyleGAN2Generator"]

_FIRST_TUNED = 32


class StyleGAN2Generator(Generator):
    """The StyleGAN2 generator; a new one has random weights, as at the start of training."""

    family = "stylegan2"
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config, self.image_size = config, config.image_size
        self.z_dim, self.c_dim, self.w_dim = config.z_dim, config.c_dim, config.w_dim
        self.synthesis = RecordedSynthesis(config)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(self.z_dim, self.c_dim, self.w_dim, self.num_ws, config.mapping_kwargs)
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
        """The number in the level's name."""
        return int(self.check_level(level)[1:])

    def grid(self, level: str) -> Grid:
        """Cells of block ``level``; a StyleGAN2 map covers the picture without a margin."""
        resolution = self._resolution(level)
        scale = resolution / self.config.img_resolution
        return Grid(size=self.config.block_size(resolution), scale=(scale, scale))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Its blocks."""
        return block_stages(self.synthesis, self.image_size)

    def rows_used(self, level: str) -> int:
        """One row for b4, two more per block."""
        return 2 * self.levels.index(self.check_level(level)) + 1

    @property
    def preview_heights(self) -> tuple[int, ...]:
        """All resolutions of a ``skip`` network, which draws each on the way to the next; else the picture's own."""
        if all(block.has_torgb for _, block, _ in self.synthesis.blocks()):
            return tuple(self.config.block_size(r)[0] for r in self.synthesis.resolutions)
        return super().preview_heights

    def preview(self, ws: Latent, height: int) -> Float[Tensor, "batch channels _ _"]:
        """The picture after the block of that height: what the blocks beyond it would add is missing."""
        if height == self.image_size[0] or height not in self.preview_heights:
            return super().preview(ws, height)
        return self.synthesis(ws, self.synthesis.resolutions[self.preview_heights.index(height)])

    @property
    def tunable_weights(self) -> tuple[str, ...]:
        """Those of blocks from 32 px on.

        What lies below lays out the picture, which the latent is there for. Without it a photo is drawn as well, in
        two thirds of the time a step, with a fifth of the weights (benchmarks/inversion.md).
        """
        first = min(_FIRST_TUNED, self.synthesis.resolutions[-1])
        return tuple(name for name in super().tunable_weights if int(name.split(".")[0][1:]) >= first)

    def freeze(self) -> StyleGAN2Generator:
        """Turn gradients to all weights off, prepare what depends on weights alone, and return self."""
        super().freeze()
        for module in self.modules():
            if isinstance(module, SynthesisLayer):
                module.freeze()
        return self
