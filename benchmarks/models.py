"""Networks of published size with random weights, and handles on them: the cost of a step needs no training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from draggan.generators.base import Generator
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config

__all__ = ["LAYOUTS", "face_mask", "network", "points", "start"]

# Picture size to (channel_base, channel_max). Published 256 px models have half the channels in their fine blocks;
# "256-cat" is the layout of the built-in model.
LAYOUTS: dict[str, tuple[int, int, int]] = {
    "32-tiny": (32, 512, 16),
    "64-tiny": (64, 1024, 16),
    "128-cat": (128, 4096, 256),
    "256-cat": (256, 4096, 256),
    "128": (128, 32768, 512),
    "256": (256, 16384, 512),
    "512": (512, 32768, 512),
    "1024": (1024, 32768, 512),
}


def network(layout: str, seed: int = 0, device: str = "cpu") -> StyleGAN2Generator:
    """A frozen generator; noise and biases are not zero, so that nothing is skipped."""
    size, base, limit = LAYOUTS[layout]
    torch.manual_seed(seed)
    dim = min(512, limit)
    generator = StyleGAN2Generator(
        StyleGAN2Config(z_dim=dim, c_dim=0, w_dim=dim, img_resolution=size, channel_base=base, channel_max=limit)
    )
    with torch.no_grad():
        for name, parameter in generator.synthesis.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.1)
            elif name.endswith("bias") and "affine" not in name:
                parameter.normal_()
    return generator.to(device).freeze()


def start(generator: Generator, seed: int = 0) -> Tensor:
    """A latent code ``[1, num_ws, w_dim]`` with equal rows."""
    w = torch.randn(1, 1, generator.w_dim, generator=torch.Generator().manual_seed(seed))
    return w.repeat(1, generator.num_ws, 1).to(generator.device)


def points(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Handles and targets ``[count, 2]``, in the middle half of the picture, where a face has its landmarks.

    Targets are a quarter of the picture away, so that no handle arrives while it is timed.
    """
    random = np.random.default_rng(seed)
    handles = np.round(size * (0.25 + 0.5 * random.random((count, 2))))
    angle = 2 * np.pi * random.random(count)
    targets = handles + size / 4 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return handles, targets.clip(0, size - 1)


def face_mask(size: int) -> np.ndarray:
    """bool ``[size, size]``: a disc over the middle, a third of the picture, may change."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(x, y) < size / 3
