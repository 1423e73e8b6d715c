"""The blocks of a StyleGAN2 as stages at which two pictures may be blended (`draggan.generators.blending`).

Beside `analytic` in the stack: above `windows`, whose windows of layers it puts together to windows of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from draggan.generators.blending import Maps, Stage
from draggan.generators.stylegan2.networks import SynthesisBlock, SynthesisNetwork
from draggan.generators.stylegan2.windows import block_windows, input_windows, upsampled_windows
from draggan.geometry import Grid, Windows

__all__ = ["BlockStage", "block_stages"]

# Cells along the longer side of the first map that is blended (benchmarks/mask.md): below it lies what a picture is of
# as a whole, its pose and its light, which inside and outside then have in common.
FIRST_BLENDED = 16


class BlockStage(Stage):
    """One block.

    Args:
        name: of the feature level.
        block: its layers.
        row: the first latent row it takes.
        grid: how its map lies over the picture.
        blends: see `Stage`.
    """

    def __init__(self, name: str, block: SynthesisBlock, row: int, grid: Grid, *, blends: bool) -> None:
        self.name, self.grid, self.blends = name, grid, blends
        self._block, self._row = block, row

    def whole(self, below: Maps | None, rows: Sequence[Tensor]) -> Maps:
        """See `Stage.whole`."""
        block, row = self._block, self._row
        x = block.features(None if below is None else below.features, rows[row:])
        return Maps(x, block.image(x, None if below is None else below.image, rows[row + block.num_conv]))

    def inputs(self, windows: Windows, samples: int) -> Windows:
        """See `Stage.inputs`; every window has its own."""
        block = self._block
        if block.in_channels == 0:
            return windows
        return input_windows(block.conv0, input_windows(block.conv1, windows))

    def part(self, below: Maps, rows: Sequence[Tensor], windows: Windows, *, draw: bool) -> Maps:
        """See `Stage.part`."""
        block, row = self._block, self._row
        x = block_windows(block, rows[row:], below.features, windows)
        if not draw:
            return Maps(x, None)
        image = below.image
        if image is not None:
            image = upsampled_windows(image, block.resample_filter, self.inputs(windows, 1), windows)
        if block.has_torgb:
            y = block.torgb(x, rows[row + block.num_conv]).float()
            image = y if image is None else image + y
        return Maps(x, image)


def block_stages(synthesis: SynthesisNetwork, image_size: tuple[int, int]) -> tuple[BlockStage, ...]:
    """All blocks in order. A network whose maps are all smaller is blended from its last block on."""
    stages = []
    for r, block, row in synthesis.blocks():
        height, width = block.conv1.size
        grid = Grid(size=(height, width), scale=(height / image_size[0], width / image_size[1]))
        last = r == synthesis.resolutions[-1]
        stages.append(BlockStage(f"b{r}", block, row, grid, blends=last or max(height, width) >= FIRST_BLENDED))
    return tuple(stages)
