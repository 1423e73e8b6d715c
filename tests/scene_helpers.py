"""What the tests of the scenes share."""

from __future__ import annotations

import numpy as np
import pytest

from draggan.errors import OpBuildError
from draggan.scenes import Rendering, Scene
from draggan.scenes.scene import renderer

__all__ = ["compiled", "moved", "value_at", "where", "with_values"]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Every test of a module that imports this needs the renderer; taken from the user's cache, which may have it."""
    try:
        renderer()
    except OpBuildError as error:
        pytest.skip(f"the renderer needs a compiler: {error}")


def with_values(scene: Scene, **values: float) -> np.ndarray:
    """Parameters ``[1, z_dim]``: the middle of every range but for the values named."""
    p = scene.middle()
    for name, value in values.items():
        p[0, scene.position(name)] = value
    return p


def where(scene: Scene, r: Rendering, landmark: str, i: int = 0) -> np.ndarray:
    """x, y in pixels of a landmark of the i-th picture."""
    return r.points[i, scene.landmarks.index(landmark)]


def value_at(r: np.ndarray, point: np.ndarray) -> np.ndarray:
    """What an array ``[..., height, width]`` has at the pixel nearest to x, y."""
    x, y = np.rint(point).astype(int)
    return r[..., y, x]


def moved(scene: Scene, parameter: str, landmark: str, size: int = 128) -> np.ndarray:
    """How far a landmark goes, x, y in pixels, from the lower to the upper end of a parameter's range."""
    entry = scene.parameters_table[scene.position(parameter)]
    p = np.concatenate([with_values(scene, **{parameter: value}) for value in (entry.low, entry.high)])
    points = scene.render(p, size).points[:, scene.landmarks.index(landmark)]
    return points[1] - points[0]
