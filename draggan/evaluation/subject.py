"""What is evaluated: a generator, with whatever else is known of its pictures."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from draggan.checkpoints import catalogue
from draggan.checkpoints.store import load_generator
from draggan.config import check_truncation
from draggan.drag.latent_statistics import sample_latents
from draggan.errors import DragGANError, OpBuildError
from draggan.evaluation.similarity import correspondences
from draggan.evaluation.statistics import Whitening
from draggan.generators.base import Generator, z_from_seed
from draggan.landmarks import find_landmarks
from draggan.scenes import SCENES
from draggan.suggestions import suggested_truncation

__all__ = ["LandmarkFinder", "SceneTruth", "Subject", "load_subject"]

logger = logging.getLogger(__name__)


@runtime_checkable
class LandmarkFinder(Protocol):
    """A network that finds named points in pictures."""

    @property
    def names(self) -> Sequence[str]:
        """The landmarks, in the order of the points."""

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch landmark 2"]:
        """Positions ``(x, y)`` in pixels of pictures in [-1, 1]."""

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch d"]:
        """Features of pictures: the space of the Frechet distance."""


@runtime_checkable
class SceneTruth(Protocol):
    """What the evaluation asks a procedural scene for; `draggan.scenes.scene.Scene` answers."""

    @property
    def landmarks(self) -> tuple[str, ...]: ...

    @property
    def z_dim(self) -> int: ...

    def parameters(self, z: Any) -> Any: ...

    def render(self, parameters: Any, size: int) -> Any: ...

    def flow(self, a: Any, b: Any, points: Any, size: int) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A generator under evaluation. Everything but the generator may be missing; protocols say what they need.

    Attributes:
        name: of the model, for tables.
        truncation: at which pictures are drawn.
        label: class of a model with classes, one-hot ``[1, c_dim]``.
        scene: what the model was trained to draw: the right picture, landmarks and flow for every z. They hold for
            truncation 1 only, so the scene is not asked at any other.
        finder: a landmark network that fits the model.
    """

    name: str
    generator: Generator
    truncation: float = 1.0
    label: Float[Tensor, "1 c_dim"] | None = None
    scene: SceneTruth | None = None
    finder: LandmarkFinder | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Pixels ``(height, width)``."""
        return self.generator.image_size

    @property
    def exact(self) -> SceneTruth | None:
        """The scene, where it is the truth."""
        return self.scene if self.truncation == 1 and self.size[0] == self.size[1] else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that differ for other weights of the generator."""
        return _fingerprint(self.generator)

    @functools.cached_property
    def finder_fingerprint(self) -> str:
        """Likewise of the landmark network; empty without one."""
        if self.finder is None:
            return ""
        return _fingerprint(self.finder) if isinstance(self.finder, nn.Module) else "not a network"

    def noise(self, seed: int) -> Float[Tensor, "1 z_dim"]:
        """The z that a seed means."""
        return z_from_seed(seed, self.generator.z_dim)

    @torch.no_grad()
    def latent(self, z: Float[Tensor, "batch z_dim"]) -> Float[Tensor, "batch num_ws w_dim"]:
        """Mapped at the subject's truncation."""
        label = None if self.label is None else self.label.expand(len(z), -1)
        return self.generator.mapping(z.to(self.generator.device), label, truncation_psi=self.truncation)

    @torch.no_grad()
    def picture(self, ws: Float[Tensor, "1 num_ws w_dim"]) -> Float[Tensor, "1 3 height width"]:
        """Within [-1, 1]."""
        return self.generator.synthesis(ws).float().clamp(-1, 1)

    @functools.cached_property
    def whitening(self) -> Whitening:
        """The distribution of W at truncation 1; computed once."""
        return Whitening.of(sample_latents(self.generator, self.label).numpy())

    @torch.no_grad()
    def features(self, picture: Float[Tensor, "1 3 height width"]) -> Float[np.ndarray, "d"] | None:
        """Of the landmark network; None without one."""
        return None if self.finder is None else self.finder.features(picture)[0].float().cpu().numpy()

    @torch.no_grad()
    def find(self, picture: Float[Tensor, "1 3 height width"]) -> Float[np.ndarray, "landmark 2"] | None:
        """Landmarks as the network sees them; None without one."""
        return None if self.finder is None else self.finder(picture)[0].float().cpu().numpy()

    def truth(
        self, z: Float[Tensor, "1 z_dim"], names: Sequence[str]
    ) -> tuple[Float[np.ndarray, "landmark 2"], Bool[np.ndarray, "landmark"]] | None:
        """Exact landmarks of that z and whether they are visible, in the order of ``names``; None where not known."""
        if self.exact is None or not set(names) <= set(self.exact.landmarks):
            return None
        rendering = self.exact.render(self.exact.parameters(z.numpy()), self.size[0])
        order = [self.exact.landmarks.index(name) for name in names]
        return np.asarray(rendering.points[0])[order], np.asarray(rendering.visible[0])[order]

    @property
    def names(self) -> tuple[str, ...]:
        """Landmarks that can be found: those of the network, else those of the scene."""
        if self.finder is not None:
            return tuple(self.finder.names)
        return () if self.exact is None else self.exact.landmarks

    def landmarks(
        self, z: Float[Tensor, "1 z_dim"], picture: Float[Tensor, "1 3 height width"]
    ) -> tuple[Float[np.ndarray, "landmark 2"], Bool[np.ndarray, "landmark"]]:
        """Landmarks of a generated picture and which can be used: visible where that is known, and well inside.

        The network's where there is one, as published (what is measured and what measures then agree); else exact.
        """
        true = self.truth(z, self.names)
        found = self.find(picture)
        points = found
        if points is None:
            points = np.zeros((0, 2), np.float32) if true is None else true[0]
        height, width = self.size
        good = np.asarray(((points >= 1) & (points <= np.array([width - 2, height - 2]))).all(1))
        if true is not None:
            good &= true[1]
        return points, good

    def flow(
        self,
        z_a: Float[Tensor, "1 z_dim"],
        z_b: Float[Tensor, "1 z_dim"],
        points: Float[np.ndarray, "n 2"],
    ) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, "n"]]:
        """Where points of picture a are in picture b, and which are known to be there.

        The scene's true flow, else correspondences of the features at the level on which one drags.
        """
        if self.exact is not None:
            a, b = (self.exact.parameters(z.numpy()) for z in (z_a, z_b))
            flow, known = self.exact.flow(a, b, points[None], self.size[0])
            there, visible = np.asarray(flow)[0], np.asarray(known)[0]
        else:
            level = self.generator.default_level
            with torch.no_grad():
                first, second = (self.generator.features(self.latent(z), level).float() for z in (z_a, z_b))
                at = torch.from_numpy(points).float().to(first.device)
                found, good = correspondences(first, second, self.generator.grid(level), at, self.size)
            there, visible = found.cpu().numpy(), good.cpu().numpy()
        height, width = self.size
        return there, visible & ((there >= 0) & (there <= np.array([width - 1, height - 1]))).all(1)


def _fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def load_subject(
    model: str,
    *,
    device: str = "auto",
    truncation: float | None = None,
    label: int | None = None,
) -> Subject:
    """A model with its scene and landmark network, where there are any.

    Args:
        truncation: None for 1 where a scene knows the truth (it does at 1 only), else the model's own.
    """
    if truncation is not None:
        check_truncation(truncation, "--truncation")
    generator = load_generator(model, device=device)
    one_hot = generator.class_label(label)
    entry = catalogue.listed_entry(model)
    builtin = entry.name if entry is not None and entry.builtin else ""
    scene = _scene(builtin, generator)
    if truncation is None:
        truncation = suggested_truncation(model) if scene is None else 1.0
    return Subject(
        name=Path(model).name if entry is None else entry.name,
        generator=generator,
        truncation=truncation,
        label=one_hot,
        scene=scene,
        finder=_finder(builtin) if builtin else None,
    )


def _scene(name: str, generator: Generator) -> SceneTruth | None:
    """The scene of a built-in model, if it can be rendered here."""
    scene = SCENES.get(name)
    if scene is None:
        return None
    if scene.z_dim != generator.z_dim:
        logger.warning("the scene '%s' is not the one that this model was trained on; it is left out", name)
        return None
    try:
        scene.render(scene.middle(), 8)
    except OpBuildError as e:
        logger.warning("without the scene's exact landmarks: %s", e)
        return None
    return scene


def _finder(model: str) -> LandmarkFinder | None:
    try:
        return find_landmarks(model)
    except DragGANError as e:
        logger.warning("without a landmark network: %s", e)
        return None
