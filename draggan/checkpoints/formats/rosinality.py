"""StyleGAN2 networks in the layout of the widely used PyTorch port by rosinality (``.pt`` with ``g_ema``).

The state dict lists layers by kind (``convs.{k}``, ``to_rgbs.{k}``) instead of by size. Sizes, widths and numbers of
layers follow from the shapes; whatever else is in the file (optimisers, arguments, the discriminator) is left alone.
The average latent lies beside the network as ``latent_avg``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from draggan.checkpoints.description import CheckpointDescription, NetworkDescription, Role
from draggan.checkpoints.formats.renaming import Renamer, resample_filter
from draggan.checkpoints.kwargs import stylegan2_kwargs
from draggan.checkpoints.pickle.budget import Budget
from draggan.checkpoints.pickle.tensors import float_tensor
from draggan.errors import CheckpointError

__all__ = ["describe", "is_state_dict"]

MAX_TENSORS = 5000
# How often rosinality's filters are kept times 4, the gain of upsampling by 2.
_UPSAMPLING_GAIN = 4


def is_state_dict(value: Any) -> bool:
    """Whether a dictionary names its tensors as this port does."""
    return isinstance(value, dict) and "input.input" in value and "conv1.conv.weight" in value


def describe(value: Mapping[Any, Any], budget: Budget) -> CheckpointDescription:
    """The generators of a file: ``g_ema`` and ``g``, or one bare state dict."""
    found: dict[Role, Any] = {}
    if is_state_dict(value):
        found["G_ema"] = value
    for role, name in (("G_ema", "g_ema"), ("G", "g")):
        if is_state_dict(value.get(name)):
            found[role] = value[name]  # type: ignore[index]  # the two names are roles
    if not found:
        raise CheckpointError("this file holds no generator: neither 'g_ema' nor 'g'")
    metadata: dict[str, Any] = {}
    networks: dict[Role, NetworkDescription] = {}
    average = value.get("latent_avg")
    for role, state in found.items():
        tensors, notes = _rename(state, average, budget)
        networks[role] = NetworkDescription(family="stylegan2", kwargs=stylegan2_kwargs({}, tensors), tensors=tensors)
        if notes:
            metadata["notes"] = notes
    return CheckpointDescription(networks=networks, format="rosinality", metadata=metadata)


def _rename(state_dict: Mapping[Any, Any], average: Any, budget: Budget) -> tuple[dict[str, np.ndarray], list[str]]:
    """Tensors under our names, and what had to be made up."""
    if len(state_dict) > MAX_TENSORS or not all(isinstance(name, str) for name in state_dict):
        raise CheckpointError("the generator's state dict has unusual names or too many")
    state = Renamer({name: float_tensor(name, value, budget) for name, value in state_dict.items()})
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
            # Files of the port's first versions draw noise anew each time and keep none.
            state.tensors[f"{ours}.noise_const"] = np.zeros((size, size), np.float32)
            notes.append(f"no constant noise for {ours}")

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
    if average is None:
        state.tensors["mapping.w_avg"] = np.zeros(state.tensors["mapping.fc0.weight"].shape[0], np.float32)
        notes.append("no latent_avg: truncation goes towards zero")
    else:
        state.tensors["mapping.w_avg"] = float_tensor("latent_avg", average, budget).reshape(-1)
    return state.finish(), notes


def _without_first_axis(array: np.ndarray) -> np.ndarray:
    if array.shape[0] != 1:
        raise CheckpointError(f"a tensor of shape {list(array.shape)} where the first size must be 1")
    return array.reshape(array.shape[1:])
