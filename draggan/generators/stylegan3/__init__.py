"""StyleGAN3 (Karras et al., NeurIPS 2021): the network as published, and features of windows at their cost only."""

import importlib
from typing import TYPE_CHECKING, Any

from draggan.generators.stylegan3.config import StyleGAN3Config

if TYPE_CHECKING:
    from draggan.generators.stylegan3.generator import StyleGAN3Generator

__all__ = ["StyleGAN3Config", "StyleGAN3Generator"]


def __getattr__(name: str) -> Any:
    """The generator is imported when it is first asked for, so that files are read without PyTorch."""
    if name == "StyleGAN3Generator":
        return getattr(importlib.import_module(f"{__name__}.generator"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
