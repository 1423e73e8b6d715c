"""A model file small enough to be made for every module of tests that needs one."""

from __future__ import annotations

from pathlib import Path

import torch

from draggan.checkpoints.description import CheckpointDescription, NetworkDescription
from draggan.checkpoints.formats import safetensors
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config

__all__ = ["write_tiny_stylegan2"]


def write_tiny_stylegan2(folder: Path, seed: int = 0) -> str:
    """The path of a StyleGAN2 of 32 px with random weights, for one seed always the same ones."""
    torch.manual_seed(seed)
    kwargs = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 32, "channel_base": 256, "channel_max": 16}
    tensors = {
        name: t.numpy() for name, t in StyleGAN2Generator(StyleGAN2Config.from_mapping(kwargs)).state_dict().items()
    }
    network = NetworkDescription(family="stylegan2", kwargs=kwargs, tensors=tensors)
    path = folder / "tiny.safetensors"
    safetensors.write(path, CheckpointDescription(networks={"G_ema": network}, format="safetensors"))
    return str(path)
