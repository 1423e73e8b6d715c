"""Procedural scenes: the pictures that the built-in models were trained on, with exact landmarks.

The pictures are ray-marched from a few dozen parameters by our own renderer, so nobody else holds rights in
the built-in models, and every rendering knows where its eyes, nose and mouth are. Rendering needs a C++ compiler; using
the trained models does not. With a CUDA compiler and device, training renders there (`draggan.scenes.gpu`).
``python -m draggan.scenes`` measures how fast rendering is.
"""

from __future__ import annotations

from draggan.errors import ConfigError
from draggan.scenes.car import CAR
from draggan.scenes.cat import CAT
from draggan.scenes.face import FACE
from draggan.scenes.scene import Parameter, Rendering, Scene

__all__ = ["SCENES", "Parameter", "Rendering", "Scene", "find_scene"]

SCENES: dict[str, Scene] = {scene.name: scene for scene in (CAT, FACE, CAR)}
"""All scenes by name."""


def find_scene(name: str) -> Scene:
    """The scene of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SCENES:
        raise ConfigError(f"there is no scene '{name}'; there are {', '.join(SCENES)}")
    return SCENES[name]
