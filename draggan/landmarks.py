"""Networks that find a scene's landmarks in pictures, so that a drag can be judged by what the picture shows.

They are trained on renderings, where the landmarks are known exactly: ``python -m draggan.evaluation.train_landmarks``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from draggan.checkpoints.catalogue import builtin_dir
from draggan.errors import CheckpointError, ModelNotFound
from draggan.small_networks import Convolution, Residual, read_network, take_over, write_network

__all__ = ["LandmarkNetwork", "find_landmarks", "landmark_file", "load_landmarks", "save_landmarks"]

INPUT = 64
"""Height and width of the pictures that the network sees; others are scaled to it."""

_KIND = "landmarks"


class LandmarkNetwork(nn.Module):
    """Finds the same named points in every picture, also those that are hidden, from their surroundings.

    Maps shrink to 4 x 4 and grow back to 16 x 16. There every landmark has a map of where it may be and two of how far
    it is from the middle of the cell; its place is the mean over the first of cell plus distance. So the precision is
    not that of the cells, and a place outside the picture can be expressed.

    Args:
        names: the landmarks.
        widths: channels of the maps of 32, 16, 8 and 4 cells.
        neck: channels of the maps on the way back.
    """

    def __init__(self, names: Sequence[str], widths: Sequence[int] = (24, 48, 96, 160), neck: int = 64) -> None:
        super().__init__()
        self.names, self.widths, self.neck_width = tuple(names), tuple(widths), neck
        a, b, c, d = widths
        self.stem = Convolution(3, a, stride=2)
        self.down16 = nn.Sequential(Convolution(a, b, stride=2), Residual(b))
        self.down8 = nn.Sequential(Convolution(b, c, stride=2), Residual(c))
        self.down4 = nn.Sequential(Convolution(c, d, stride=2), Residual(d))
        self.back4 = Convolution(d, neck, kernel=1)
        self.side8, self.back8 = Convolution(c, neck, kernel=1), Convolution(neck, neck)
        self.side16, self.back16 = Convolution(b, neck, kernel=1), Convolution(neck, neck)
        self.head = nn.Conv2d(neck, 3 * len(self.names), 1)

    @property
    def feature_size(self) -> int:
        """How many numbers `features` gives."""
        return self.widths[-1]

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch landmark 2"]:
        """Places of the landmarks, x and y in pixels, integers at pixel centres.

        Args:
            images: in [-1, 1], of any size.
        """
        height, width = images.shape[-2:]
        places = self.places(_scaled(images, self.stem.conv.weight))
        return places * places.new_tensor([width, height]) - 0.5

    def places(self, images: Float[Tensor, "batch 3 64 64"]) -> Float[Tensor, "batch landmark 2"]:
        """Places as parts of width and height: (0, 0) is the picture's upper left corner, (1, 1) the lower right."""
        x16, x8, x4 = self._maps(images)
        y = F.interpolate(self.back4(x4), scale_factor=2)
        y = F.interpolate(self.back8(y + self.side8(x8)), scale_factor=2)
        maps = self.head(self.back16(y + self.side16(x16))).float()
        where, dx, dy = maps.flatten(2).chunk(3, dim=1)
        cells = maps.shape[-1]
        middle = (torch.arange(cells, device=maps.device, dtype=maps.dtype) + 0.5) / cells
        weight = where.softmax(-1)
        x = (weight * (middle.repeat(cells) + dx / cells)).sum(-1)
        y = (weight * (middle.repeat_interleave(cells) + dy / cells)).sum(-1)
        return torch.stack([x, y], -1)

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch d"]:
        """What the network sees in pictures in [-1, 1]: means over its smallest maps, for a Frechet distance."""
        return self._maps(_scaled(images, self.stem.conv.weight))[-1].mean((2, 3))

    @torch.no_grad()
    def distance(self, a: Float[Tensor, "1 3 height width"], b: Float[Tensor, "1 3 height width"]) -> float:
        """How different two pictures in [-1, 1] look to the network: 0 for the same.

        The form of LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018,
        equation 1), without its learned weights: the maps of every size, scaled to length 1 at each place; squared
        differences, in the mean over places, added up. Nothing in this project optimises it.
        """
        pairs = zip(*(self._maps(_scaled(x, self.stem.conv.weight)) for x in (a, b)), strict=True)
        units = [(F.normalize(x, dim=1), F.normalize(y, dim=1)) for x, y in pairs]
        return sum(float((x - y).square().sum(1).mean()) for x, y in units)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x16 = self.down16(self.stem(images))
        x8 = self.down8(x16)
        return x16, x8, self.down4(x8)


def _scaled(images: Float[Tensor, "batch 3 height width"], like: Tensor) -> Float[Tensor, "batch 3 64 64"]:
    x = images.to(like).clamp(-1, 1)
    if x.shape[-2:] == (INPUT, INPUT):
        return x
    if min(x.shape[-2:]) >= INPUT:
        return F.interpolate(x, (INPUT, INPUT), mode="area")
    return F.interpolate(x, (INPUT, INPUT), mode="bilinear")


def landmark_file(name: str) -> Path:
    """The file of a built-in model's landmark network, if it has one."""
    return builtin_dir() / f"{name}-landmarks.safetensors"


def find_landmarks(name: str) -> LandmarkNetwork:
    """The landmark network of the built-in model of that name.

    Raises:
        ModelNotFound: there is none.
        CheckpointError: its file is damaged.
    """
    ending = landmark_file("").name
    known = sorted(path.name.removesuffix(ending) for path in builtin_dir().glob(f"?*{ending}"))
    if name not in known:
        raise ModelNotFound(f"no landmark network for '{name}'; there is one for {', '.join(known) or 'no model'}")
    return load_landmarks(landmark_file(name))


def save_landmarks(network: LandmarkNetwork, path: str | os.PathLike[str], **facts: str) -> None:
    """Write a network, float16, with facts (licence, source, ...) as metadata."""
    kwargs = {"names": network.names, "widths": network.widths, "neck": network.neck_width}
    write_network(network, Path(path), {"kind": _KIND, "kwargs": json.dumps(kwargs), **facts})


def load_landmarks(path: str | os.PathLike[str]) -> LandmarkNetwork:
    """A network from a file of `save_landmarks`, on the CPU, frozen.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    tensors, metadata = read_network(Path(path), _KIND, "landmark network")
    try:
        kwargs = cast(dict[str, Any], json.loads(metadata["kwargs"]))
        network = LandmarkNetwork(**kwargs)
        take_over(network, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit a landmark network: {error}") from error
    return network.eval().requires_grad_(False)
