"""StyleGAN2 (Karras et al., CVPR 2020): the network as published, its fast paths, and the discriminator."""

from draggan.generators.stylegan2.generator import StyleGAN2Generator

__all__ = ["StyleGAN2Generator"]
