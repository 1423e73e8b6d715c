"""Reads from pictures what a scene would have been told to draw, so that it can be counted whom a model draws.

Nothing of a generated picture is known but the picture; what a scene's parameters are in it has to be read back. A
regression does that, fitted to renderings, whose parameters are known, on what can be measured in any picture: where
the landmark network finds the landmarks, what it sees, and colours. How well each parameter can be read is measured on
renderings that it was not fitted to, and what cannot be read is left out.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from draggan.errors import ConfigError
from draggan.evaluation.subject import LandmarkFinder
from draggan.scenes import Scene

__all__ = ["READABLE", "AttributeReader", "Fit", "SceneReader", "load_reader"]

READABLE = 0.5
"""Least share of a parameter's variance that has to be explained for it to count as read."""

_BATCH = 64
_RIDGES = (1e-3, 1e-2, 1e-1)
_WIDTHS = (0.5, 1.0, 2.0)  # of the kernel, in median distances
_CELLS = 8  # of the picture, in each direction, whose mean colours are features


@runtime_checkable
class AttributeReader(Protocol):
    """Reads attributes from pictures: a function of the user's, or `SceneReader`."""

    def __call__(
        self, pictures: UInt8[np.ndarray, "picture height width 3"]
    ) -> Mapping[str, Sequence[float] | Sequence[str] | Float[np.ndarray, "picture"]]:
        """For every attribute a number, or a word that names a group, of every picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A kernel ridge regression (Saunders, Gammerman and Vovk, 1998) with a Gaussian kernel.

    Attributes:
        mean, scale: of the features, for bringing them to mean 0 and variance 1.
        points: features that it was fitted to, so brought.
        width: of the kernel.
        weights: what the kernel's values are multiplied by.
        offset: mean of the values.
    """

    mean: Float[np.ndarray, "d"]
    scale: Float[np.ndarray, "d"]
    points: Float[np.ndarray, "n d"]
    width: float
    weights: Float[np.ndarray, "n k"]
    offset: Float[np.ndarray, "k"]

    @classmethod
    def to(
        cls, features: Float[np.ndarray, "n d"], values: Float[np.ndarray, "n k"], *, width: float, ridge: float
    ) -> Fit:
        """Fitted.

        Args:
            width: of the kernel, in median distances of the features.
            ridge: added to the kernel's diagonal, which is 1.
        """
        mean, scale = features.mean(0), features.std(0) + 1e-6
        points = (features - mean) / scale
        some = points[: min(len(points), 400)]
        median = float(np.median(_squares(some, some)[np.triu_indices(len(some), 1)])) ** 0.5
        offset = values.mean(0)
        kernel = np.exp(-_squares(points, points) / (2 * (width * median) ** 2))
        weights = np.linalg.solve(kernel + ridge * np.eye(len(points)), values - offset)
        return cls(mean=mean, scale=scale, points=points, width=width * median, weights=weights, offset=offset)

    def __call__(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Values for other features."""
        kernel = np.exp(-_squares((features - self.mean) / self.scale, self.points) / (2 * self.width**2))
        return kernel @ self.weights + self.offset


def _squares(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)


class SceneReader:
    """Reads the parameters of a scene. Values are shares of their ranges: 0 the lowest, 1 the highest.

    Attributes:
        quality: share of the variance explained (R²), of every parameter, on renderings that it was not fitted to.
        names: of the parameters that can be read.
        held: values read from those renderings, and the true ones, by name: what a reading is compared with.

    Args:
        finder: the landmark network of the scene.
        size: of the pictures, px.
        count: renderings to fit to.
        held: renderings to judge it by.
        seed: of the renderings' random numbers. Seeds of models draw theirs another way.
        progress: is told how many renderings there are, and how many of them are done.
    """

    def __init__(
        self,
        scene: Scene,
        finder: LandmarkFinder,
        size: int,
        *,
        count: int = 2500,
        held: int = 1000,
        seed: int = 0,
        progress: Callable[[int, int], None] = lambda done, count: None,
    ) -> None:
        self.scene, self._finder = scene, finder
        z = np.random.default_rng([seed, 17]).standard_normal((count + held, scene.z_dim))
        parameters = scene.parameters(z)
        features = []
        for first in range(0, len(parameters), _BATCH):
            rendering = scene.render(parameters[first : first + _BATCH], size)
            features.append(self.features(rendering.pictures.transpose(0, 2, 3, 1)))
            progress(min(first + _BATCH, len(parameters)), len(parameters))
        x, y = np.concatenate(features), self.shares(parameters)
        self._columns = [*self._coordinates()]
        targets = np.concatenate(
            [_circle(y[:, i]) if circular else y[:, i : i + 1] for i, circular in self._columns], 1
        )
        self._fit = _best(x[:count], targets[:count])
        read = self._values(self._fit(x[count:]))
        true = y[count:]
        circles = {scene.parameters_table[i].name for i, circular in self._columns if circular}
        self._circles = frozenset(circles)
        self.quality = {
            p.name: self.explained(p.name, true[:, i], read[:, i]) for i, p in enumerate(scene.parameters_table)
        }
        self.names = tuple(name for name, quality in self.quality.items() if quality >= READABLE)
        self.held = self._named(read), self._named(true)

    def __call__(
        self, pictures: UInt8[np.ndarray, "picture height width 3"]
    ) -> dict[str, Float[np.ndarray, "picture"]]:
        """The parameters that can be read, as shares of their ranges."""
        return self._named(self._values(self._fit(self.features(pictures))))

    def known(self, z: Float[np.ndarray, "picture z_dim"]) -> dict[str, Float[np.ndarray, "picture"]]:
        """Likewise the true ones of noise: of a rendering, or of what a model was asked to draw at truncation 1."""
        return self._named(self.shares(self.scene.parameters(z)))

    def explained(self, name: str, true: Float[np.ndarray, "n"], read: Float[np.ndarray, "n"]) -> float:
        """Share of a parameter's variance that a reading explains (R²); of hues, of the points on their circle."""
        a, b = (_circle(true), _circle(read)) if name in self._circles else (true[:, None], read[:, None])
        return float(1 - ((a - b) ** 2).sum() / ((a - a.mean(0)) ** 2).sum())

    def shares(self, parameters: Float[np.ndarray, "n z_dim"]) -> Float[np.ndarray, "n z_dim"]:
        """Parameters as shares of their ranges."""
        low, high = (np.array([getattr(p, end) for p in self.scene.parameters_table]) for end in ("low", "high"))
        return (np.asarray(parameters, np.float64) - low) / (high - low)

    @torch.no_grad()
    def features(self, pictures: UInt8[np.ndarray, "picture height width 3"]) -> Float[np.ndarray, "picture d"]:
        """What is measured in pictures: landmarks, what the network sees, colours at the landmarks and of cells."""
        found = []
        for first in range(0, len(pictures), _BATCH):
            batch = np.ascontiguousarray(pictures[first : first + _BATCH].transpose(0, 3, 1, 2))
            x = torch.from_numpy(batch).float() / 127.5 - 1
            points = self._finder(x).float()
            size = points.new_tensor([x.shape[-1], x.shape[-2]])
            smooth = F.avg_pool2d(x, 3, 1, 1)
            at = ((points + 0.5) / size * 2 - 1)[:, :, None]
            colours = F.grid_sample(smooth, at, align_corners=False, padding_mode="border")
            cells = F.adaptive_avg_pool2d(x, _CELLS)
            parts = (points / size, self._finder.features(x).float(), colours, cells)
            found.append(torch.cat([part.flatten(1) for part in parts], 1).double().numpy())
        return np.concatenate(found)

    def _coordinates(self) -> Iterator[tuple[int, bool]]:
        """Every parameter's number, and whether its range is a circle: that of a hue, whose ends are the same."""
        for i, parameter in enumerate(self.scene.parameters_table):
            yield i, parameter.name.endswith("_hue") and (parameter.low, parameter.high) == (0.0, 1.0)

    def _values(self, targets: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n z_dim"]:
        """From what the regression gives to shares of the ranges."""
        values, at = np.empty((len(targets), len(self._columns))), 0
        for i, circular in self._columns:
            if circular:
                values[:, i] = np.arctan2(targets[:, at + 1], targets[:, at]) / math.tau % 1
            else:
                values[:, i] = targets[:, at]
            at += 1 + circular
        return values

    def _named(self, values: Float[np.ndarray, "n z_dim"]) -> dict[str, Float[np.ndarray, "n"]]:
        return {name: values[:, self.scene.position(name)] for name in self.names}


def _circle(share: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n 2"]:
    return np.stack([np.cos(math.tau * share), np.sin(math.tau * share)], 1)


def _best(features: Float[np.ndarray, "n d"], values: Float[np.ndarray, "n k"]) -> Fit:
    """The fit whose width and ridge do best on a fifth of the data that they were not fitted to, then of all of it."""
    split = len(features) * 4 // 5
    errors = {}
    for width in _WIDTHS:
        for ridge in _RIDGES:
            fit = Fit.to(features[:split], values[:split], width=width, ridge=ridge)
            off = ((fit(features[split:]) - values[split:]) ** 2).mean(0) / values.var(0)
            errors[width, ridge] = float(off.mean())
    width, ridge = min(errors, key=errors.__getitem__)
    return Fit.to(features, values, width=width, ridge=ridge)


def load_reader(name: str) -> AttributeReader:
    """A function of the user's own, which is run: ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION``.

    Raises:
        ConfigError: there is none of that name.
    """
    module, _, attribute = name.rpartition(":")
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            assert spec is not None
            assert spec.loader is not None
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
        found: Any = getattr(loaded, attribute)
    except Exception as error:  # the user's own code may raise anything
        raise ConfigError(f"'{name}' cannot be loaded ({error}); give MODULE:FUNCTION, or FILE.py:FUNCTION") from error
    if not callable(found):
        raise ConfigError(f"'{name}' is no function; give one that takes pictures and returns their attributes by name")
    return found
