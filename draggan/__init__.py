"""DragGAN: click a handle point on a picture, click a target, and the content moves there.

    import draggan
    G = draggan.load_generator("cat")
    ws = G.mapping(draggan.z_from_seed(7, G.z_dim), truncation_psi=0.7)
    for step in draggan.Drag(G, ws, handles=[(60, 70)], targets=[(80, 64)]):
        print(step.index, step.distances)
    picture = draggan.to_uint8(G.synthesis(step.ws))
"""

from draggan.checkpoints.store import load_discriminator, load_generator
from draggan.config import DragConfig
from draggan.drag import Drag, DragStep, Reference
from draggan.errors import DragGANError
from draggan.export import encode_png, save_png
from draggan.generators.base import Generator, z_from_seed
from draggan.images import to_uint8

__all__ = [
    "Drag",
    "DragConfig",
    "DragGANError",
    "DragStep",
    "Generator",
    "Reference",
    "encode_png",
    "load_discriminator",
    "load_generator",
    "save_png",
    "to_uint8",
    "z_from_seed",
]
