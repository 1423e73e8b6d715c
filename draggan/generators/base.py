"""What a generator is to the rest of the package: dragging, engine and evaluation know models only through this."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from draggan.errors import ConfigError, LatentError
from draggan.generators.blending import Blend, Picture, Stage, picture_features
from draggan.geometry import Grid, Windows, crop

__all__ = ["Generator", "Latent", "Mapping", "Synthesis", "latent_rows", "z_from_seed"]

# A latent code is a tensor [batch, num_ws, w_dim] or its rows, num_ws tensors [batch, w_dim]. Rows let a caller ask
# for gradients to some of them only: a layer whose row needs none then computes none.
Latent: TypeAlias = Tensor | Sequence[Tensor]


def latent_rows(ws: Latent) -> Sequence[Tensor]:
    """The rows of a latent code, each ``[batch, w_dim]``."""
    return ws.unbind(1) if isinstance(ws, Tensor) else ws


class Mapping(Protocol):
    """Noise (and label) to latent code."""

    def __call__(
        self,
        z: Float[Tensor, "batch z_dim"],
        c: Float[Tensor, "batch c_dim"] | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "batch num_ws w_dim"]:
        """Map a batch.

        Args:
            z: standard normal noise.
            c: one-hot class label; None means no class (all zeros).
            truncation_psi: 0 gives the average latent, 1 leaves it as it is.
            truncation_cutoff: how many rows to truncate; None for all.
        """


class Synthesis(Protocol):
    """Latent code to picture."""

    def __call__(self, ws: Latent) -> Float[Tensor, "batch channels height width"]:
        """Render a batch: float32, nominal range [-1, 1], noise inputs constant."""


class Generator(nn.Module, abc.ABC):
    """A picture as a function of a latent code, with named feature levels on the way.

    Weights are frozen once loaded (`freeze`) and shared by everyone; nothing here remembers a user, and there are no
    hooks, hidden outputs or flags about dragging.

    Attributes:
        family: "stylegan2" or "stylegan3".
        image_size: pixels ``(height, width)``.
        z_dim, c_dim, w_dim: sizes of the input noise, the class label (0: none) and the latent.
        num_ws: rows of the latent code.
        levels: names of the feature levels, coarse to fine.
    """

    family: str
    image_size: tuple[int, int]
    z_dim: int
    c_dim: int
    w_dim: int
    num_ws: int
    levels: tuple[str, ...]
    # The two networks; modules in the published architectures, hence attributes and not methods.
    mapping: Mapping
    synthesis: Synthesis

    @abc.abstractmethod
    def features(self, ws: Latent, level: str) -> Float[Tensor, "batch channel height width"]:
        """The feature map at one of `levels`; nothing beyond that level is computed."""

    def local_features(
        self, ws: Latent, level: str, windows: Windows
    ) -> Float[Tensor, "n channel window_height window_width"]:
        """Windows of the feature map: exactly ``crop(features(ws, level), windows)``, cells outside the map zero.

        Families that can compute the windows alone override this; here the whole map is computed and cut.
        """
        return crop(self.features(ws, level), windows)

    @abc.abstractmethod
    def grid(self, level: str) -> Grid:
        """How the map of that level lies over the picture."""

    @abc.abstractmethod
    def rows_used(self, level: str) -> int:
        """How many of the first latent rows the features of that level depend on."""

    def class_label(self, class_index: int | None) -> Float[Tensor, "1 c_dim"] | None:
        """The one-hot label of a class; None for a model that has no classes.

        Raises:
            ConfigError: the model has no such class, or has classes and none is given, or has none and one is given.
        """
        if self.c_dim == 0:
            if class_index is not None:
                raise ConfigError(f"class {class_index} is not allowed: this model has no classes; give none")
            return None
        if isinstance(class_index, bool) or not isinstance(class_index, int) or not 0 <= class_index < self.c_dim:
            raise ConfigError(
                f"class {class_index} is not allowed; this model has the classes 0 to {self.c_dim - 1}, give one"
            )
        return torch.eye(self.c_dim, device=self.device)[class_index][None]

    @torch.no_grad()
    def sample(
        self, seed: int, truncation: float = 1.0, class_index: int | None = None
    ) -> Float[Tensor, "1 num_ws w_dim"]:
        """The latent code that a seed means in this model, on its device.

        Args:
            seed: of the noise, as for `z_from_seed`.
            truncation: 0 gives the average latent, 1 leaves it as it is.
            class_index: which class, from 0 on; None for a model that has none.

        Raises:
            LatentError: the seed is not in [0, 2**32 - 1].
            ConfigError: as for `class_label`, or the model has no average latent to truncate towards.
        """
        label = self.class_label(class_index)
        z = z_from_seed(seed, self.z_dim).to(self.device)
        return self.mapping(z, label, truncation_psi=truncation)

    @property
    def default_level(self) -> str:
        """The level to drag on: a quarter of the picture's size, never below 32 cells nor above 128.

        Published code drags every model on its 128 x 128 map, which is a quarter of 512 px (after the 6th block,
        the paper's Table 3). Smaller models keep the quarter; a picture of less than 32 px uses its finest level.
        """
        wanted = min(max(max(self.image_size) // 4, 32), 128)
        best = self.levels[-1]
        for level in reversed(self.levels):
            scale = self.grid(level).scale
            cells = round(max(self.image_size[0] * scale[0], self.image_size[1] * scale[1]))
            if cells == wanted:
                return level
            if cells > wanted:
                best = level
        return best

    @property
    def preview_heights(self) -> tuple[int, ...]:
        """Heights in pixels of the pictures that `preview` has, smallest first; the last is the picture's own."""
        return (self.image_size[0],)

    def preview(self, ws: Latent, height: int) -> Float[Tensor, "batch channels _ _"]:
        """A smaller picture of the same thing, one of `preview_heights`, at less cost; for the time of a drag.

        Families that have smaller pictures on the way override this; here there is only the picture itself.
        """
        if height not in self.preview_heights:
            heights = ", ".join(map(str, self.preview_heights))
            raise LatentError(f"this model has no picture of {height} px height on the way; it has {heights}")
        return self.synthesis(ws)

    @property
    def stages(self) -> Sequence[Stage]:
        """The layers in order, for blending pictures at each of them; empty: they can only be blended themselves."""
        return ()

    def blend(self, mask: Bool[np.ndarray, "height width"], base: Picture, level: str | None = None) -> Blend:
        """Inside a mask what latents draw, outside it a first picture to the last bit (`draggan.generators.blending`).

        Args:
            mask: True = drawn anew.
            base: the first picture.
            level: the finest level whose features will be asked for; None: pictures only.
        """
        return Blend(self, mask, base, level)

    def picture(self, picture: Picture) -> Float[Tensor, "1 _ height width"]:
        """A picture that may be a blended one, as `synthesis` draws others."""
        if picture.mask is None or picture.base is None:
            return self.synthesis(picture.ws)
        return self.blend(picture.mask, picture.base).synthesis(picture.ws)

    def picture_features(self, picture: Picture, level: str) -> Float[Tensor, "1 channel height width"]:
        """The feature map of a picture that may be a blended one, without gradients."""
        return picture_features(self, picture, self.check_level(level))

    def draw(self, ws: Latent, height: int | None = None) -> Float[Tensor, "batch _ _ _"]:
        """`synthesis`, or with a height `preview`."""
        return self.synthesis(ws) if height is None else self.preview(ws, height)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.buffers()).device

    def freeze(self) -> Generator:
        """Turn gradients to all weights off, for good, and return self."""
        return self.eval().requires_grad_(False)

    @property
    def tunable_weights(self) -> tuple[str, ...]:
        """Names of the weights of `synthesis` that may be changed to draw a photo (`draggan.generators.tuned`).

        How strong the noise is stays as it is: noise lies still in the picture, where a drag moves the content.
        """
        assert isinstance(self.synthesis, nn.Module)
        return tuple(name for name, _ in self.synthesis.named_parameters() if not name.endswith("noise_strength"))

    def check_level(self, level: str) -> str:
        """The level itself, or `LatentError` naming those there are."""
        if level not in self.levels:
            raise LatentError(f"no feature level '{level}' in this model; it has {', '.join(self.levels)}")
        return level

    def check_ws(self, ws: Tensor) -> Tensor:
        """The latent code itself, or `LatentError` if its shape is not ``[batch, num_ws, w_dim]``."""
        if ws.ndim != 3 or tuple(ws.shape[1:]) != (self.num_ws, self.w_dim):
            raise LatentError(
                f"a latent code of shape {list(ws.shape)} does not fit this {self.image_size[0]}x{self.image_size[1]} "
                f"px model; it takes [batch, {self.num_ws}, {self.w_dim}]"
            )
        return ws


def z_from_seed(seed: int, z_dim: int) -> Float[Tensor, "1 z_dim"]:
    """The noise that a seed means: ``numpy.random.RandomState(seed).randn(1, z_dim)``, as in other StyleGAN tools.

    Raises:
        LatentError: the seed is not in [0, 2**32 - 1], which is what NumPy takes.
    """
    if not 0 <= seed < 2**32:
        raise LatentError(f"seed {seed} is not allowed; give a whole number from 0 to {2**32 - 1}")
    return torch.from_numpy(np.random.RandomState(seed).randn(1, z_dim)).float()
