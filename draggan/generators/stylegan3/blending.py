"""The layers of a StyleGAN3 as stages at which two pictures may be blended (`draggan.generators.blending`).

Beside `generator` in the stack, above `windows`, which computes parts of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from draggan.generators.blending import Maps, Stage
from draggan.generators.stylegan3.networks import SynthesisInput, SynthesisLayer, SynthesisNetwork
from draggan.generators.stylegan3.windows import WindowPlan, plan_windows, window_features
from draggan.geometry import Grid, SlicedCrop, Windows

__all__ = ["LayerStage", "layer_stages"]

# Cutoff of the first layer that is blended, cycles per picture width: as fine as a map of 16 samples can be.
FIRST_BLENDED = 8.0


class LayerStage(Stage):
    """One layer, the first together with the network's input.

    Args:
        name: of the feature level.
        layer: it; its weights are frozen.
        below: the input, for the first.
        row: the latent row it takes.
        grid: how its map lies over the picture, margin included.
        scale: of the picture, for the last.
        blends: see `Stage`.
    """

    def __init__(
        self,
        name: str,
        layer: SynthesisLayer,
        below: SynthesisInput | None,
        row: int,
        grid: Grid,
        *,
        scale: float,
        blends: bool,
    ) -> None:
        self.name, self.grid, self.blends = name, grid, blends
        self._layer, self._below, self._row, self._scale = layer, below, row, scale

    def whole(self, below: Maps | None, rows: Sequence[Tensor]) -> Maps:
        """See `Stage.whole`."""
        if below is None:
            assert self._below is not None
            x = self._below(rows[0])
        else:
            x = below.features
        return self._drawn(self._layer(x, rows[self._row]))

    def inputs(self, windows: Windows, samples: int) -> Windows:
        """See `Stage.inputs`; windows near each other have one in common."""
        return self._plan(windows, samples).layers[0].inputs

    def part(self, below: Maps, rows: Sequence[Tensor], windows: Windows, *, draw: bool) -> Maps:
        """See `Stage.part`."""
        w = rows[self._row]
        x = below.features
        plan = self._plan(windows, max(len(row) for row in rows))
        (layer,) = plan.layers
        size = self._layer.receptive_field.before
        given = SlicedCrop(layer.inputs, (size, size), source=layer.inputs, member=tuple(range(len(layer.inputs))))
        plan = replace(plan, layers=(replace(layer, input_crop=given),))
        return self._drawn(window_features([self._layer], plan, x, [self._layer.modulation(w)]))

    def _plan(self, windows: Windows, samples: int) -> WindowPlan:
        return plan_windows((self._layer.receptive_field,), windows, samples, samples)

    def _drawn(self, x: Tensor) -> Maps:
        return Maps(x, x.float() * self._scale if self._layer.is_torgb else None)


def layer_stages(synthesis: SynthesisNetwork, image_size: tuple[int, int]) -> tuple[LayerStage, ...]:
    """All layers in order."""
    stages = []
    for row, (name, layer) in enumerate(synthesis.layers(), 1):
        design = layer.after
        scale = design.rate / image_size[0]
        grid = Grid(size=(design.size, design.size), scale=(scale, scale), margin=(design.size - design.rate) / 2)
        stages.append(
            LayerStage(
                name,
                layer,
                synthesis.input if row == 1 else None,
                row,
                grid,
                scale=synthesis.output_scale,
                blends=layer.is_torgb or design.cutoff >= FIRST_BLENDED,
            )
        )
    return tuple(stages)
