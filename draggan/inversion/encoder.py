"""Networks that guess the latent of a picture at once, so that an inversion of a built-in model begins near its end.

They are trained on renderings and generated pictures, whose latents are known exactly, without end:
``python -m draggan.inversion.train_encoder``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from draggan.checkpoints.catalogue import builtin_dir
from draggan.errors import CheckpointError
from draggan.generators.base import Generator
from draggan.pixels import from_uint8
from draggan.small_networks import Convolution, Residual, read_network, take_over, write_network

__all__ = ["Encoder", "encoder_file", "find_encoder", "guess_latent", "load_encoder", "save_encoder"]

INPUT = 128
"""Height and width of the pictures that the network sees; others are scaled to it."""

_KIND = "encoder"


class Encoder(nn.Module):
    """Guesses the latent w that draws a picture: the mean of those that could, as far as it can tell.

    Maps shrink to 4 x 4; what they hold becomes numbers in spreads of the model's latents around their mean.

    Args:
        w_dim: of the model.
        widths: channels of the maps of 64, 32, 16, 8 and 4 cells.
        neck: numbers between the smallest maps and the latent.
    """

    def __init__(self, w_dim: int, widths: Sequence[int] = (16, 32, 56, 80, 96), neck: int = 128) -> None:
        super().__init__()
        self.w_dim, self.widths, self.neck = w_dim, tuple(widths), neck
        a, b, c, d, e = widths
        self.stem = Convolution(3, a, stride=2)
        self.down = nn.Sequential(
            *(Convolution(a, b, stride=2), Residual(b), Convolution(b, c, stride=2), Residual(c)),
            *(Convolution(c, d, stride=2), Residual(d), Convolution(d, e, stride=2)),
        )
        self.squeeze = nn.Linear(16 * e, neck)
        self.head = nn.Linear(neck, w_dim)
        self.register_buffer("mean", torch.zeros(w_dim))
        self.register_buffer("spread", torch.ones(w_dim))
        self.mean: Tensor
        self.spread: Tensor

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch w_dim"]:
        """Latents of pictures in [-1, 1], of any size and of the model's shape."""
        return self.mean + self.spread * self.standardised(_scaled(images.to(self.mean).clamp(-1, 1)))

    def standardised(self, images: Float[Tensor, "batch 3 128 128"]) -> Float[Tensor, "batch w_dim"]:
        """The same in spreads from the mean."""
        maps = self.down(self.stem(images))
        return self.head(F.relu(self.squeeze(maps.flatten(1))))


def _scaled(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 128 128"]:
    if min(images.shape[-2:]) >= INPUT:
        return F.interpolate(images, (INPUT, INPUT), mode="area")
    return F.interpolate(images, (INPUT, INPUT), mode="bilinear")


def encoder_file(name: str) -> Path:
    """The file of a built-in model's encoder, if it has one."""
    return builtin_dir() / f"{name}-encoder.safetensors"


def find_encoder(name: str, model_sha256: str) -> Encoder | None:
    """The encoder of the built-in model of that name and content; None where there is none.

    Somebody's own model may have the name of a built-in one, and latents of its own.

    Raises:
        CheckpointError: its file is damaged.
    """
    ending = encoder_file("").name
    known = {path.name.removesuffix(ending) for path in builtin_dir().glob(f"?*{ending}")}
    if name not in known:
        return None
    network, of = _read(encoder_file(name))
    return network if of == model_sha256 else None


@torch.no_grad()
def guess_latent(
    name: str, model_sha256: str, generator: Generator, photo: UInt8[np.ndarray, "height width 3"]
) -> Float[Tensor, "1 num_ws w_dim"] | None:
    """A latent that draws about what a photo shows; None for models without an encoder.

    Raises:
        CheckpointError: the encoder's file is damaged.
    """
    network = find_encoder(name, model_sha256)
    if network is None:
        return None
    picture = from_uint8(photo)
    return network(picture)[:, None].expand(1, generator.num_ws, -1).contiguous().to(generator.device)


def save_encoder(network: Encoder, path: str | os.PathLike[str], *, model_sha256: str, **facts: str) -> None:
    """Write a network, float16, with the model's digest and facts (licence, source, ...) as metadata."""
    write_network(network, Path(path), {"kind": _KIND, "model_sha256": model_sha256, **facts})


def load_encoder(path: str | os.PathLike[str]) -> Encoder:
    """A network from a file of `save_encoder`, on the CPU, frozen.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[Encoder, str]:
    """The network, and the digest of the model that it is for."""
    tensors, metadata = read_network(path, _KIND, "encoder")
    try:
        widths = [tensors[f"{name}.conv.weight"].shape[0] for name in ("stem", "down.0", "down.2", "down.4", "down.6")]
        network = Encoder(len(tensors["mean"]), widths, len(tensors["squeeze.bias"]))
        take_over(network, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit an encoder: {error}") from error
    return network.eval().requires_grad_(False), metadata.get("model_sha256", "")
