"""StyleGAN3 (Karras et al., NeurIPS 2021): the network as published, and features of windows at their cost only."""

from draggan.generators.stylegan3.generator import StyleGAN3Generator

__all__ = ["StyleGAN3Generator"]
