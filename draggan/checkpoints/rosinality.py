"""StyleGAN2 networks in the layout of the widely used PyTorch port by rosinality (``.pt`` with ``g_ema``).

The state dict lists layers by kind (``convs.{k}``, ``to_rgbs.{k}``) instead of by size. Sizes, widths and numbers of
layers follow from the shapes; whatever else is in the file (optimisers, arguments, the discriminator) is left alone.
The average latent lies beside the network as ``latent_avg``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from draggan.checkpoints.description import CheckpointDescription, NetworkDescription, Role
from draggan.checkpoints.kwargs import stylegan2_kwargs
from draggan.checkpoints.nvidia_pickle import float_tensor
from draggan.checkpoints.tensorflow_pickle import resample_filter
from draggan.checkpoints.unpickler import Budget, show
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


class _State:
    """A state dict from which tensors are taken one by one."""

    def __init__(self, state: Mapping[Any, Any], budget: Budget) -> None:
        if len(state) > MAX_TENSORS or not all(isinstance(name, str) for name in state):
            raise CheckpointError("the generator's state dict has unusual names or too many")
        self.state, self.budget = state, budget
        self.left = set(state)

    def take(self, name: str, rank: int) -> np.ndarray:
        if name not in self.left:
            raise CheckpointError(f"the file has no tensor '{name}'; it is incomplete or another kind of network")
        self.left.remove(name)
        array = float_tensor(name, self.state[name], self.budget)
        if array.ndim != rank or 0 in array.shape:
            raise CheckpointError(f"tensor '{name}' has shape {list(array.shape)}; {rank} sizes from 1 on are expected")
        return array

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that occur in names of this pattern, which must be 0 (or 1), 1, 2, ... without gaps."""
        found = sorted({int(m.group(1)) for name in self.state if (m := re.match(pattern, name))})
        if found and found != list(range(found[0], found[0] + len(found))):
            raise CheckpointError(f"the layers {found[:40]} of the file are not numbered one after the other")
        return found


def _rename(state_dict: Mapping[Any, Any], average: Any, budget: Budget) -> tuple[dict[str, np.ndarray], list[str]]:
    """Tensors under our names, and what had to be made up."""
    state = _State(state_dict, budget)
    tensors: dict[str, np.ndarray] = {}
    notes: list[str] = []
    low_pass = resample_filter([1, 3, 3, 1])

    def one(array: np.ndarray) -> np.ndarray:
        """Without the leading axis of size 1."""
        if array.shape[0] != 1:
            raise CheckpointError(f"a tensor of shape {list(array.shape)} where the first size must be 1")
        return array.reshape(array.shape[1:])

    def modulated(theirs: str, ours: str) -> None:
        tensors[f"{ours}.weight"] = one(state.take(f"{theirs}.conv.weight", 5))
        tensors[f"{ours}.affine.weight"] = state.take(f"{theirs}.conv.modulation.weight", 2)
        tensors[f"{ours}.affine.bias"] = state.take(f"{theirs}.conv.modulation.bias", 1)

    def convolution(theirs: str, ours: str, index: int, size: int) -> None:
        modulated(theirs, ours)
        tensors[f"{ours}.bias"] = state.take(f"{theirs}.activate.bias", 1)
        tensors[f"{ours}.noise_strength"] = one(state.take(f"{theirs}.noise.weight", 1))
        tensors[f"{ours}.resample_filter"] = kernel(f"{theirs}.conv.blur.kernel")
        if f"noises.noise_{index}" in state.left:
            tensors[f"{ours}.noise_const"] = one(one(state.take(f"noises.noise_{index}", 4)))
        else:
            # Files of the port's first versions draw noise anew each time and keep none.
            tensors[f"{ours}.noise_const"] = np.zeros((size, size), np.float32)
            notes.append(f"no constant noise for {ours}")

    def kernel(name: str) -> np.ndarray:
        """Our filter, having checked that the file's is the same but for its gain."""
        if name in state.left:
            theirs = state.take(name, 2)
            if theirs.shape != low_pass.shape or not np.allclose(theirs / _UPSAMPLING_GAIN, low_pass, atol=1e-6):
                raise CheckpointError(f"the filter '{name}' is not the usual one, which is not supported")
        return low_pass

    def to_rgb(theirs: str, ours: str) -> None:
        modulated(theirs, f"{ours}.torgb")
        tensors[f"{ours}.torgb.bias"] = state.take(f"{theirs}.bias", 4).reshape(-1)
        tensors[f"{ours}.resample_filter"] = kernel(f"{theirs}.upsample.kernel")

    for k in state.numbers(r"style\.([0-9]{1,3})\."):
        tensors[f"mapping.fc{k - 1}.weight"] = state.take(f"style.{k}.weight", 2)
        tensors[f"mapping.fc{k - 1}.bias"] = state.take(f"style.{k}.bias", 1)
    tensors["synthesis.b4.const"] = one(state.take("input.input", 4))
    convolution("conv1", "synthesis.b4.conv1", 0, 4)
    to_rgb("to_rgb1", "synthesis.b4")
    count = len(state.numbers(r"convs\.([0-9]{1,3})\."))
    if count % 2 or count > 20:
        raise CheckpointError(f"the file has {count} layers 'convs'; two per size are expected")
    for k in range(count // 2):
        size = 8 << k
        block = f"synthesis.b{size}"
        convolution(f"convs.{2 * k}", f"{block}.conv0", 2 * k + 1, size)
        convolution(f"convs.{2 * k + 1}", f"{block}.conv1", 2 * k + 2, size)
        to_rgb(f"to_rgbs.{k}", block)
    if average is None:
        tensors["mapping.w_avg"] = np.zeros(tensors["mapping.fc0.weight"].shape[0], np.float32)
        notes.append("no latent_avg: truncation goes towards zero")
    else:
        tensors["mapping.w_avg"] = float_tensor("latent_avg", average, budget).reshape(-1)
    if state.left:
        names = ", ".join(sorted(state.left)[:6])
        raise CheckpointError(f"{len(state.left)} tensors have no place in a StyleGAN2 network: {show(names)}")
    return tensors, notes
