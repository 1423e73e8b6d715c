"""The layout of the widely used PyTorch port by rosinality, which lists layers by kind instead of by size.

Sizes, widths and numbers of layers follow from the names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from draggan.checkpoints.formats.renaming import NO_NOISE, Renamer, resample_filter
from draggan.errors import CheckpointError

__all__ = ["rename"]

# How often rosinality's filters are kept times 4, the gain of upsampling by 2.
_UPSAMPLING_GAIN = 4


def rename(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Tensors of a generator under our names, without the average latent, and what had to be made up.

    Raises:
        CheckpointError: they are not those of a StyleGAN2 generator in this layout.
    """
    state = Renamer(tensors)
    notes: list[str] = []
    low_pass = resample_filter([1, 3, 3, 1])

    def modulated(theirs: str, ours: str) -> None:
        state.take(f"{theirs}.conv.weight", f"{ours}.weight", 5, _without_first_axis)
        state.take(f"{theirs}.conv.modulation.weight", f"{ours}.affine.weight", 2)
        state.take(f"{theirs}.conv.modulation.bias", f"{ours}.affine.bias", 1)

    def convolution(theirs: str, ours: str, index: int, size: int) -> None:
        modulated(theirs, ours)
        state.take(f"{theirs}.activate.bias", f"{ours}.bias", 1)
        state.take(f"{theirs}.noise.weight", f"{ours}.noise_strength", 1, _without_first_axis)
        kernel(f"{theirs}.conv.blur.kernel", ours)
        if f"noises.noise_{index}" in state:
            state.take(
                f"noises.noise_{index}", f"{ours}.noise_const", 4, lambda a: _without_first_axis(_without_first_axis(a))
            )
        else:
            # Files of the port's first versions.
            height, width = state.tensors["synthesis.b4.const"].shape[1:]
            state.tensors[f"{ours}.noise_const"] = np.zeros((height * size // 4, width * size // 4), np.float32)
            notes[:] = [NO_NOISE]

    def kernel(theirs: str, ours: str) -> None:
        """Our filter, having checked that the file's is the same but for its gain."""
        if theirs in state:
            found = state.pop(theirs, 2)
            if found.shape != low_pass.shape or not np.allclose(found / _UPSAMPLING_GAIN, low_pass, atol=1e-6):
                raise CheckpointError(f"the filter '{theirs}' is not the usual one, which is not supported")
        state.tensors[f"{ours}.resample_filter"] = low_pass

    def to_rgb(theirs: str, ours: str) -> None:
        modulated(theirs, f"{ours}.torgb")
        state.take(f"{theirs}.bias", f"{ours}.torgb.bias", 4, lambda bias: bias.reshape(-1))
        kernel(f"{theirs}.upsample.kernel", ours)

    for k in state.numbers(r"style\.([0-9]{1,3})\."):
        state.take(f"style.{k}.weight", f"mapping.fc{k - 1}.weight", 2)
        state.take(f"style.{k}.bias", f"mapping.fc{k - 1}.bias", 1)
    state.take("input.input", "synthesis.b4.const", 4, _without_first_axis)
    count = len(state.numbers(r"convs\.([0-9]{1,3})\."))
    if count % 2 or count > 20:
        raise CheckpointError(f"the file has {count} layers 'convs'; two per size are expected")
    convolution("conv1", "synthesis.b4.conv1", 0, 4)
    to_rgb("to_rgb1", "synthesis.b4")
    for k in range(count // 2):
        size = 8 << k
        block = f"synthesis.b{size}"
        convolution(f"convs.{2 * k}", f"{block}.conv0", 2 * k + 1, size)
        convolution(f"convs.{2 * k + 1}", f"{block}.conv1", 2 * k + 2, size)
        to_rgb(f"to_rgbs.{k}", block)
    return state.finish(), notes


def _without_first_axis(array: np.ndarray) -> np.ndarray:
    if array.shape[0] != 1:
        raise CheckpointError(f"a tensor of shape {list(array.shape)} where the first size must be 1")
    return array.reshape(array.shape[1:])
