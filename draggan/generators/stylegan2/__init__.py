"""StyleGAN2 (Karras et al., CVPR 2020): the network as published, its fast paths, and the discriminator."""

import importlib
from typing import TYPE_CHECKING, Any

from draggan.generators.stylegan2.config import StyleGAN2Config

if TYPE_CHECKING:
    from draggan.generators.stylegan2.generator import StyleGAN2Generator

__all__ = ["StyleGAN2Config", "StyleGAN2Generator"]


def __getattr__(name: str) -> Any:
    """The generator is imported when it is first asked for, so that files are read without PyTorch."""
    if name == "StyleGAN2Generator":
        return getattr(importlib.import_module(f"{__name__}.generator"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
