"""LPIPS, the perceptual distance of other projects, from weights that somebody has put on this disk.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), equation 1: the maps of a
network that was trained to name photos, each place scaled to length 1; squared differences, a learned weight for every
channel, the mean over places, the sum over layers. Written with plain layers: the networks are eight and sixteen
convolutions, too little to ask everybody for torchvision. Nothing is ever downloaded: its weights were trained on
ImageNet, whose terms are for whoever gets them to agree to.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from draggan.errors import CheckpointError

__all__ = ["Lpips", "read_lpips"]

_LEAST = 64  # pixels: a smaller picture is shown at this size, or nothing would be left of it in the last maps
# Means and spreads of ImageNet's red, green and blue, which go from 0 to 1.
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ADVICE = "give the state dict of lpips.LPIPS, or a network of torchvision and the linear layers beside it"


@dataclass(frozen=True)
class _Layout:
    """A network up to its last map: convolutions, each with its positive part, by their numbers in torchvision.

    Attributes:
        groups: convolutions up to each of the maps that are compared.
        pooled: groups that begin with a maximum over the map before.
        pool: of that: size of its window; its stride is 2.
        first: stride and padding of the first convolution; those of the others keep the size.
        kernel: of the first convolution, which tells the networks apart.
    """

    groups: tuple[tuple[int, ...], ...]
    pooled: frozenset[int]
    pool: int
    first: tuple[int, int]
    kernel: int


_LAYOUTS = {
    # Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014).
    "AlexNet": _Layout(((0,), (3,), (6,), (8,), (10,)), frozenset({1, 2}), 3, (4, 2), 11),
    # Simonyan and Zisserman, "Very deep convolutional networks" (2015), configuration D.
    "VGG-16": _Layout(
        ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), frozenset({1, 2, 3, 4}), 2, (1, 1), 3
    ),
}


class Lpips:
    """The distance, with the weights of one network.

    Args:
        tensors: weights and biases of its convolutions, ``features.N.weight`` and ``features.N.bias`` as in torchvision
            or ``net.sliceK.N.weight`` as in the package lpips, and ``linK.model.1.weight`` of that package. Others
            are not looked at.

    Attributes:
        name: of the network, "AlexNet" or "VGG-16".

    Raises:
        CheckpointError: tensors are missing, or have shapes or values that such a network cannot have.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        known = {_plain(name): tensor for name, tensor in tensors.items()}
        first = known.get("features.0.weight")
        kernel = first.shape[-1] if first is not None and first.ndim == 4 else 0
        name = next((name for name, layout in _LAYOUTS.items() if layout.kernel == kernel), None)
        if name is None:
            raise CheckpointError(f"LPIPS needs the convolutions of AlexNet or VGG-16, which are not there; {_ADVICE}")
        self.name, self._layout = name, _LAYOUTS[name]
        self._convolutions: dict[int, tuple[Tensor, Tensor]] = {}
        self._linear: list[Tensor] = []
        channels = 3
        for number, group in enumerate(self._layout.groups):
            for index in group:
                weight = _taken(known, f"features.{index}.weight")
                if weight.ndim != 4 or weight.shape[1] != channels or weight.shape[-1] % 2 == 0:
                    raise _misfit(f"features.{index}.weight", weight)
                channels = weight.shape[0]
                bias = _taken(known, f"features.{index}.bias")
                if bias.shape != (channels,):
                    raise _misfit(f"features.{index}.bias", bias)
                self._convolutions[index] = weight, bias
            linear = _taken(known, f"lin{number}.model.1.weight")
            if linear.shape != (1, channels, 1, 1) or float(linear.min()) < 0:
                raise _misfit(f"lin{number}.model.1.weight", linear)
            self._linear.append(linear.flatten())

    def to(self, device: torch.device) -> Lpips:
        """The same on another device."""
        moved = copy.copy(self)
        moved._convolutions = {
            k: (weight.to(device), bias.to(device)) for k, (weight, bias) in self._convolutions.items()
        }
        moved._linear = [weights.to(device) for weights in self._linear]
        return moved

    def __call__(
        self, a: Float[Tensor, "batch 3 height width"], b: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, ""]:
        """The mean of the distances of pairs of pictures in [-1, 1]; 0 for the same ones. Can be differentiated."""
        pairs = zip(self._maps(a), self._maps(b), self._linear, strict=True)
        differences = [
            torch.einsum("bchw,c->bhw", (_unit(x) - _unit(y)).square(), weights).mean() for x, y, weights in pairs
        ]
        return torch.stack(differences).sum()

    def _maps(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        mean, spread = (pictures.new_tensor(values)[:, None, None] for values in (_MEAN, _SPREAD))
        x = ((pictures.clamp(-1, 1) + 1) / 2 - mean) / spread
        if min(x.shape[-2:]) < _LEAST:
            x = F.interpolate(x, scale_factor=_LEAST / min(x.shape[-2:]), mode="bilinear")
        layout, maps = self._layout, []
        for number, group in enumerate(layout.groups):
            if number in layout.pooled:
                x = F.max_pool2d(x, layout.pool, 2)
            for index in group:
                weight, bias = self._convolutions[index]
                stride, padding = layout.first if index == 0 else (1, weight.shape[-1] // 2)
                x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            maps.append(x)
        return maps


def read_lpips(*paths: Path) -> Lpips:
    """LPIPS from files of PyTorch or safetensors, whose tensors are taken together. No code in them is run.

    Raises:
        CheckpointError: a file cannot be read as tensors, or what is in them does not fit.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            if path.suffix.lower() == ".safetensors":
                read = load_file(path)
            else:
                read = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}") from error
        # What is damaged fails in any way, and so does what wants to be run.
        except Exception as error:
            raise CheckpointError(f"{path} holds more than tensors, or is damaged; {_ADVICE}") from error
        if not isinstance(read, Mapping):
            raise CheckpointError(f"{path} holds no tensors with names; {_ADVICE}")
        tensors |= {str(name): value for name, value in read.items() if isinstance(value, Tensor)}
    return Lpips(tensors)


def _plain(name: str) -> str:
    """The name of a tensor in torchvision, of one in the package lpips, which groups the same layers."""
    parts = name.split(".")
    return ".".join(["features", *parts[2:]]) if parts[0] == "net" and len(parts) == 4 else name


def _taken(known: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in known:
        raise CheckpointError(f"LPIPS needs {name}, which is not there; {_ADVICE}")
    tensor = known[name].detach().float()
    if not tensor.numel() or not bool(tensor.isfinite().all()):
        raise CheckpointError(f"{name} of LPIPS has values that are not finite; get its file once more")
    return tensor


def _misfit(name: str, tensor: Tensor) -> CheckpointError:
    return CheckpointError(f"{name} of LPIPS does not fit ({list(tensor.shape)}); {_ADVICE}")


def _unit(x: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
    """Of length 1 at each place. Where there is nothing its gradient would be infinite."""
    return x / (x.square().sum(1, keepdim=True) + 1e-20).sqrt()
