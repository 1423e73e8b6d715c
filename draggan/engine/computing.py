"""What an engine has computed for it: latents, steps, pictures. Here, or elsewhere (`draggan.engine.ray`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from draggan.config import DragConfig, InversionConfig, Precision
from draggan.drag import Drag, DragStep, Reference
from draggan.drag.precision import feature_dtype
from draggan.drag.state import DragState
from draggan.engine.models import ModelSource
from draggan.engine.pictures import PictureCache, picture_after, pictures_of
from draggan.engine.tunings import Tunings
from draggan.generators.base import Generator
from draggan.generators.blending import Picture
from draggan.inversion.encoder import guess_latent
from draggan.inversion.invert import Inversion
from draggan.inversion.lpips import Lpips
from draggan.pixels import to_uint8
from draggan.recipe import Edit, Recipe, Seed
from torch_utils.ops import library

__all__ = ["Computing", "Drawing", "Facts", "LocalComputing", "SteppedDrag", "inversion_here"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What has to be known of a model before anything is computed.

    Attributes:
        image_size: of its pictures.
        preview_heights: see `Generator.preview_heights`.
        latent: num_ws and w_dim.
    """

    image_size: tuple[int, int]
    preview_heights: tuple[int, ...]
    latent: tuple[int, int]


@runtime_checkable
class SteppedDrag(Protocol):
    """A drag as whoever gives it turns sees it; `draggan.drag.Drag` is one, and says what everything means."""

    @property
    def stop_distance(self) -> float:
        """Image pixels; a handle this close to its target has arrived."""

    def __iter__(self) -> Iterator[DragStep]: ...

    def __next__(self) -> DragStep:
        """The next step."""

    def would_sleep(self) -> bool:
        """Whether there is nothing to do now."""

    def stop(self) -> None:
        """End with the next step."""

    def retarget(self, targets: Float[np.ndarray, "n 2"]) -> None:
        """Other targets."""

    def settle(self) -> None:
        """Follow no longer."""


@runtime_checkable
class Drawing(Protocol):
    """Draws pictures that differ in their latent alone."""

    def __call__(
        self, ws: Float[np.ndarray, "1 num_ws w_dim"], height: int | None = None, precision: Precision = "float32"
    ) -> UInt8[np.ndarray, "_ _ channels"]:
        """The picture, or the smaller one of that height."""


@runtime_checkable
class Computing(Protocol):
    """What computes. A model is named as in the recipe.

    Attributes:
        tunings: what recipes of photos need beside their model.
    """

    tunings: Tunings

    def facts(self, model: str) -> Facts:
        """What has to be known of it."""

    def check_latent(self, model: str, ws: Float[np.ndarray, "1 num_ws w_dim"]) -> None:
        """Raise `LatentError` for one that is not of this model."""

    def latent(self, model: str, start: Seed) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """Of a seed's picture."""

    def steps(self, recipe: Recipe, edit: Edit, config: DragConfig, *, live: bool) -> SteppedDrag:
        """The drag that an edit of a recipe means, all of whose latents are known; ready to run."""

    def drawing(self, recipe: Recipe, edit: Edit | None) -> Drawing:
        """What draws the picture that an edit makes of a recipe, all of whose latents are known; None: any picture."""

    def inversion(
        self, model: str, photo: UInt8[np.ndarray, "height width 3"], config: InversionConfig, sha256: str
    ) -> Inversion:
        """What brings a photo into a model; ready to run.

        Args:
            sha256: of the model's file.
        """

    def close(self) -> None:
        """Give back what it holds."""


def inversion_here(
    models: ModelSource,
    model: str,
    photo: UInt8[np.ndarray, "height width 3"],
    config: InversionConfig,
    sha256: str,
    lpips: Lpips | None = None,
) -> Inversion:
    """`Computing.inversion` in this process, from what an encoder guesses where the model has one."""
    generator = models.load(model)
    start = guess_latent(model, sha256, generator, photo)
    return Inversion(generator, photo, config, start=start, model_sha256=sha256, lpips=lpips)


class LocalComputing:
    """Computes in this process (`Computing`), with the compiled operators if they have been built.

    Args:
        models: where generators come from.
        lpips: for inversions.
    """

    def __init__(self, models: ModelSource, lpips: Lpips | None = None) -> None:
        library.load_built()
        self._models, self._lpips = models, lpips
        self.tunings = Tunings()
        self._pictures = PictureCache()

    def facts(self, model: str) -> Facts:
        """See `Computing.facts`."""
        generator = self._models.load(model)
        return Facts(
            image_size=generator.image_size,
            preview_heights=generator.preview_heights,
            latent=(generator.num_ws, generator.w_dim),
        )

    def check_latent(self, model: str, ws: Float[np.ndarray, "1 num_ws w_dim"]) -> None:
        """See `Computing.check_latent`."""
        self._models.load(model).check_ws(torch.from_numpy(ws.copy()))

    def latent(self, model: str, start: Seed) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """See `Computing.latent`."""
        return _array(self._models.load(model).sample(start.seed, start.truncation, start.label))

    def steps(
        self, recipe: Recipe, edit: Edit, config: DragConfig, *, live: bool, state: DragState | None = None
    ) -> Drag:
        """See `Computing.steps`.

        Args:
            state: go on from there.
        """
        generator = self._generator(recipe)
        pictures = pictures_of(recipe, generator, self._suited(recipe))
        reference = Reference(
            handles=torch.tensor([point.origin for point in edit.points], dtype=torch.float32),
            pictures=[pictures[_number(point.picture, recipe)] for point in edit.points],
            mask_picture=None if edit.mask is None else pictures[_number(edit.mask.picture, recipe)],
            led_from=pictures[_pulled_from(recipe)].ws if live else None,
        )
        return Drag(
            generator,
            pictures[-1].ws,
            [point.handle for point in edit.points],
            [point.target for point in edit.points],
            None if edit.mask is None else edit.mask.allowed,
            config,
            reference=reference,
            live=live,
            state=state,
        )

    def drawing(self, recipe: Recipe, edit: Edit | None) -> Drawing:
        """See `Computing.drawing`."""
        generator = self._generator(recipe)
        if edit is None:
            return _LocalDrawing(self._pictures, generator, None)
        suited = self._suited(recipe)
        before = pictures_of(recipe, generator, suited)
        return _LocalDrawing(self._pictures, generator, picture_after(edit, before[-1].ws, before, suited))

    def inversion(
        self, model: str, photo: UInt8[np.ndarray, "height width 3"], config: InversionConfig, sha256: str
    ) -> Inversion:
        """See `Computing.inversion`."""
        return inversion_here(self._models, model, photo, config, sha256, self._lpips)

    def close(self) -> None:
        """See `Computing.close`."""

    def _generator(self, recipe: Recipe) -> Generator:
        """What draws its pictures."""
        return self.tunings.generator(self._models.load(recipe.model.name), recipe.model.tuning)

    def _suited(self, recipe: Recipe) -> Mapping[str, Any]:
        """Settings that suit the model."""
        return self._models.find(recipe.model.name).settings


class _LocalDrawing:
    def __init__(self, pictures: PictureCache, generator: Generator, begun: Picture | None) -> None:
        self._pictures, self._generator, self._begun = pictures, generator, begun

    def __call__(
        self, ws: Float[np.ndarray, "1 num_ws w_dim"], height: int | None = None, precision: Precision = "float32"
    ) -> UInt8[np.ndarray, "_ _ channels"]:
        generator = self._generator
        latent = generator.check_ws(_tensor(ws, generator))
        picture = Picture(ws=latent) if self._begun is None else replace(self._begun, ws=latent)
        dtype = feature_dtype(precision)
        with torch.autocast(generator.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return to_uint8(self._pictures.draw(generator, picture, height))


def _pulled_from(recipe: Recipe) -> int:
    """The picture that the pulls by hand at the end of a recipe began with, which followed one another."""
    number = len(recipe.edits)
    while number and recipe.edits[number - 1].by_hand:
        number -= 1
    return number


def _number(picture: int | None, recipe: Recipe) -> int:
    return len(recipe.edits) if picture is None else picture


def _tensor(array: np.ndarray, generator: Generator) -> Tensor:
    return torch.tensor(array, device=generator.device)


def _array(ws: Tensor) -> Float[np.ndarray, "1 num_ws w_dim"]:
    return ws.detach().cpu().numpy()
