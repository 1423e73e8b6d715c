"""DragGAN: click a handle point on a picture, click a target, and the content moves there.

import draggan
G = draggan.load_generator("cat")
ws = G.mapping(draggan.z_from_seed(7, G.z_dim), truncation_psi=draggan.suggested_truncation("cat"))
config = draggan.suggested_config("cat")       # what suits this model; max_steps=100 and so on go before it
drag = draggan.Drag(G, ws, handles=[(156, 156)], targets=[(128, 156)], config=config)
for step in drag:
    print(step.index, step.distances)
picture = draggan.to_uint8(drag.picture(step))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draggan.checkpoints.store import load_discriminator, load_generator
    from draggan.config import DragConfig
    from draggan.drag import Drag, DragStep, Reference
    from draggan.engine.run import RunResult, run
    from draggan.errors import DragGANError
    from draggan.export import Provenance, encode_animation, encode_picture, save_animation, save_picture
    from draggan.generators.base import Generator, z_from_seed
    from draggan.pixels import to_uint8
    from draggan.recipe import Recipe
    from draggan.suggestions import suggested_config, suggested_truncation

__version__ = "0.1.0"

__all__ = [
    "Drag",
    "DragConfig",
    "DragGANError",
    "DragStep",
    "Generator",
    "Provenance",
    "Recipe",
    "Reference",
    "RunResult",
    "encode_animation",
    "encode_picture",
    "load_discriminator",
    "load_generator",
    "run",
    "save_animation",
    "save_picture",
    "suggested_config",
    "suggested_truncation",
    "to_uint8",
    "z_from_seed",
]

_HOMES = {
    "draggan.checkpoints.store": ("load_discriminator", "load_generator"),
    "draggan.config": ("DragConfig",),
    "draggan.drag": ("Drag", "DragStep", "Reference"),
    "draggan.engine.run": ("RunResult", "run"),
    "draggan.errors": ("DragGANError",),
    "draggan.export": ("Provenance", "encode_animation", "encode_picture", "save_animation", "save_picture"),
    "draggan.generators.base": ("Generator", "z_from_seed"),
    "draggan.pixels": ("to_uint8",),
    "draggan.recipe": ("Recipe",),
    "draggan.suggestions": ("suggested_config", "suggested_truncation"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that ``draggan --help`` does not wait for torch."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'draggan' has no attribute '{name}'")
