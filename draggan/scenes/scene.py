"""What a procedural scene is: named parameters, a renderer, exact landmarks."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from draggan.device import choose_device
from draggan.errors import ConfigError, OpBuildError
from draggan.scenes import gpu
from torch_utils.errors import BuildError
from torch_utils.ops import build

__all__ = ["Parameter", "Rendering", "Scene"]


@dataclass(frozen=True)
class Parameter:
    """One number that describes a scene.

    Attributes:
        name: unique in the scene.
        low, high: range of values.
        meaning: unit and sense.
        power: values are ``low + (high - low) * u ** power`` for u uniform in [0, 1]; below 1 favours ``high``.
    """

    name: str
    low: float
    high: float
    meaning: str
    power: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A batch of rendered scenes.

    Attributes:
        pictures: uint8 ``[batch, 3, size, size]``, sRGB-like display values.
        importance: float32 ``[batch, size, size]``, 0.5 (backdrop) to 12 (eyes, nose, mouth).
        points: float32 ``[batch, landmark, 2]``: x, y in picture pixels, integers at pixel centres.
        visible: bool ``[batch, landmark]``: inside the picture and not hidden by the scene itself.
        parameters: float32 ``[batch, parameter]``.
        segments: uint8 ``[batch, size, size]``: which of `Scene.parts` the middle of each pixel shows; None unless
            asked for.
    """

    pictures: NDArray[np.uint8]
    importance: NDArray[np.float32]
    points: NDArray[np.float32]
    visible: NDArray[np.bool_]
    parameters: NDArray[np.float32]
    segments: NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A kind of picture. The same every time for the same parameters and size on the same device.

    Attributes:
        name: what the command line calls it.
        index: its number in ``csrc/scenes.h``.
        parameters_table: its parameters, in the renderer's order.
        landmarks: names of the points that every rendering comes with. Left and right are those of the picture
            of a scene seen from the front.
        parts: names of what `Rendering.segments` tells apart, the backdrop first; empty if the scene has neither
            segments nor flow.
        rest: parameters that are not in the middle of their range where `flow` defines its material.
    """

    name: str
    index: int
    parameters_table: tuple[Parameter, ...]
    landmarks: tuple[str, ...]
    parts: tuple[str, ...] = ()
    rest: tuple[tuple[str, float], ...] = ()

    @property
    def z_dim(self) -> int:
        """How many numbers of noise describe a scene: one per parameter."""
        return len(self.parameters_table)

    def parameters(self, z: ArrayLike) -> NDArray[np.float32]:
        """Noise to parameters.

        z is first divided by its root mean square, as the StyleGAN2 mapping does: what the network cannot see must
        not change the picture. Then the normal distribution function makes it uniform in [0, 1].

        Args:
            z: ``[batch, z_dim]``, standard normal.

        Returns:
            ``[batch, z_dim]`` in the ranges of `parameters_table`.
        """
        x = np.asarray(z, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.z_dim:
            raise ConfigError(f"noise of shape {list(x.shape)} does not fit scene '{self.name}': [batch, {self.z_dim}]")
        x = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-8)
        u = 0.5 * (1 + _erf(x / math.sqrt(2)))
        table = self.parameters_table
        low, high = np.array([p.low for p in table]), np.array([p.high for p in table])
        power = np.array([p.power for p in table])
        return (low + (high - low) * u**power).astype(np.float32)

    def position(self, name: str) -> int:
        """The column of a parameter."""
        for i, p in enumerate(self.parameters_table):
            if p.name == name:
                return i
        raise ConfigError(f"scene '{self.name}' has no parameter '{name}'")

    def middle(self) -> NDArray[np.float32]:
        """Parameters ``[1, z_dim]`` in the middle of every range."""
        return np.array([[(p.low + p.high) / 2 for p in self.parameters_table]], dtype=np.float32)

    def render(
        self,
        parameters: ArrayLike,
        size: int,
        *,
        segments: bool = False,
        threads: int | None = None,
        device: str | torch.device = "cpu",
    ) -> Rendering:
        """Render a batch.

        Args:
            parameters: ``[batch, z_dim]``; values outside the ranges are allowed within reason.
            size: height and width in pixels, 8 to 2048.
            segments: whether to label the pixels too, which takes a third longer.
            threads: how many to use; None for one per core.
            device: as for `choose_device`. A CUDA device draws pictures, importance and segments as the CPU does, up
                to rounding; if it cannot, the CPU does, after a line in the log. On any other device the CPU does.

        Raises:
            OpBuildError: the renderer could not be compiled.
            ConfigError: shape or size is not possible, the scene has no parts to label, or there is no such device.
        """
        p = self._checked(parameters, size)
        if segments and not self.parts:
            raise ConfigError(f"scene '{self.name}' has no parts to label")
        n, marks = p.shape[0], len(self.landmarks)
        threads = threads or os.cpu_count() or 1
        points = np.empty((n, marks, 3), np.float32)
        chosen = torch.device("cpu") if device == "cpu" else choose_device(device)
        drawn = gpu.draw(self.index, p, size, device=chosen, segments=segments) if chosen.type == "cuda" else None
        if drawn is None:
            pictures, weights = np.empty((n, 3, size, size), np.uint8), np.empty((n, size, size), np.uint8)
            labels = np.empty((n, size, size), np.uint8) if segments else None
        else:
            pictures, weights, labels = drawn
        # ctypes releases the interpreter's lock, so training goes on while a thread renders.
        done = renderer().draggan_draw(
            self.index,
            _address(p),
            n,
            self.z_dim,
            size,
            _address(pictures if drawn is None else None),
            _address(weights if drawn is None else None),
            _address(points),
            marks,
            threads,
        )
        if drawn is None and labels is not None:
            done |= renderer().draggan_segments(self.index, _address(p), n, self.z_dim, size, _address(labels), threads)
        assert done == 0, "the parameter tables of Python and C++ disagree"
        return Rendering(
            pictures=pictures,
            importance=weights.astype(np.float32) / np.float32(16),
            points=points[..., :2],
            visible=points[..., 2] > 0.5,
            parameters=p,
            segments=labels,
        )

    def flow(
        self, a: ArrayLike, b: ArrayLike, points: ArrayLike, size: int, *, threads: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Where points of the surface go when the parameters change from a to b: the true flow.

        Fur has no marks to follow, so the scene defines what belongs together: see ``csrc/flow.h``. Poses move
        everything rigidly, landmarks go to landmarks, and the way back leads back.

        Args:
            a, b: parameters ``[batch, z_dim]``.
            points: x, y in pixels of the pictures of a, ``[batch, n, 2]``, or ``[n, 2]`` for all of them.
            size: height and width of the pictures, 8 to 2048 px.
            threads: how many to use; None for one per core.

        Returns:
            The places in the pictures of b, float32 ``[batch, n, 2]``, and whether they show there, bool
            ``[batch, n]``. A point of the backdrop stays where it is and counts as not visible; a point counts as
            backdrop from 0.6 px beyond the outline on.

        Raises:
            OpBuildError: the renderer could not be compiled.
            ConfigError: a shape or the size is not possible, or the scene has no flow.
        """
        if not self.parts:
            raise ConfigError(f"scene '{self.name}' has no true flow")
        p, q = self._checked(a, size), self._checked(b, size)
        x = np.ascontiguousarray(points, dtype=np.float32)
        if x.ndim == 2:
            x = np.repeat(x[None], p.shape[0], axis=0)
        if p.shape != q.shape or x.ndim != 3 or x.shape[0] != p.shape[0] or x.shape[2] != 2 or not np.isfinite(x).all():
            raise ConfigError(
                f"flow between parameters {list(p.shape)} and {list(q.shape)} takes finite points "
                f"[{p.shape[0]}, n, 2], not {list(x.shape)}"
            )
        n, marks = x.shape[:2]
        out = np.empty((n, marks, 3), np.float32)
        if out.size == 0:
            return out[..., :2], out[..., 2] > 0.5
        rest = np.ascontiguousarray(self.middle()[0])
        for name, value in self.rest:
            rest[self.position(name)] = value
        done = renderer().draggan_flow(
            self.index,
            _address(rest),
            _address(p),
            _address(q),
            n,
            self.z_dim,
            size,
            _address(x),
            marks,
            _address(out),
            threads or os.cpu_count() or 1,
        )
        assert done == 0, "the parameter tables of Python and C++ disagree"
        return out[..., :2], out[..., 2] > 0.5

    def _checked(self, parameters: ArrayLike, size: int) -> NDArray[np.float32]:
        p = np.ascontiguousarray(parameters, dtype=np.float32)
        if p.ndim != 2 or p.shape[1] != self.z_dim or not np.isfinite(p).all():
            raise ConfigError(f"scene '{self.name}' takes finite parameters [batch, {self.z_dim}], not {list(p.shape)}")
        if not 8 <= size <= 2048:
            raise ConfigError(f"size {size} is not allowed; scenes are rendered at 8 to 2048 px")
        return p


@functools.cache
def renderer() -> ctypes.CDLL:
    """The compiled renderer, built on first use.

    Raises:
        OpBuildError: there is no working C++ compiler.
    """
    flags = ["-O3", "-std=c++17", "-ffast-math", build.for_processor(), "-Wno-psabi"]
    if sys.platform != "darwin":  # Apple's compiler has no OpenMP
        flags.append("-fopenmp")
    try:
        return build.load_library("draggan_scenes", [Path(__file__).parent / "csrc" / "scenes.cpp"], cflags=flags)
    except BuildError as error:
        raise OpBuildError(str(error)) from error


def _address(a: NDArray | None) -> ctypes.c_void_p | None:
    return None if a is None else a.ctypes.data_as(ctypes.c_void_p)


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x
