"""`StyleGAN3Generator`: the mapping and synthesis networks behind the interface of `draggan.generators.base`.

The top of this package: it owns the two networks, names the feature levels, and computes windows of features by
`stylegan3.windows` where the weights are frozen, else by the layers themselves. Feature maps reach a margin of 10 cells
beyond the picture on every side (`StyleGAN3Generator.grid`).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from draggan.generators.base import Generator, Latent, latent_rows
from draggan.generators.blending import Stage
from draggan.generators.mapping import MappingNetwork
from draggan.generators.stylegan3.blending import layer_stages
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.generators.stylegan3.networks import SynthesisNetwork
from draggan.generators.stylegan3.windows import plan_windows, window_features
from draggan.geometry import Grid, Windows

__all__ = ["StyleGAN3Generator"]


class StyleGAN3Generator(Generator):
    """The StyleGAN3 generator; a new one has random weights, as at the start of training."""

    family = "stylegan3"
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.config, self.image_size = config, (config.img_resolution, config.img_resolution)
        self.z_dim, self.c_dim, self.w_dim = config.z_dim, config.c_dim, config.w_dim
        self.synthesis = SynthesisNetwork(config)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(self.z_dim, self.c_dim, self.w_dim, self.num_ws, config.mapping_kwargs)
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

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Its layers."""
        return layer_stages(self.synthesis, self.image_size)

    def rows_used(self, level: str) -> int:
        """The input's row and one per layer."""
        return self.levels.index(self.check_level(level)) + 2

    def freeze(self) -> StyleGAN3Generator:
        """Turn gradients to all weights off, prepare what depends on weights alone, and return self."""
        super().freeze()
        for _, layer in self.synthesis.layers():
            layer.freeze()
        return self
