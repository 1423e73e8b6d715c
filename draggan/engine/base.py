"""What an engine is: it takes recipes and gives updates and pictures.

The page, the command line and the API know models and drags only through this seam.

    engine = LocalEngine(CatalogueModels())
    recipe = engine.begin("cat", seed=7)
    edit = Edit(points=read_points([[156, 156, 128, 156]], recipe.image_size))
    running = engine.drag(recipe, edit)
    for update in running:                      # the newest one there is, whenever it is asked for
        print(update.index, update.distances)
    recipe = running.reached()                  # with this edit
    pixels = engine.picture(recipe)

Arrays are numpy's, so that an engine may as well be in another process or on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Turns
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from draggan.config import DragConfig, InversionConfig
from draggan.drag import FADED, Outcome
from draggan.inversion.invert import Stage
from draggan.inversion.verdict import Verdict
from draggan.recipe import Edit, Recipe
from draggan.tuning import Tuning

__all__ = ["Engine", "InversionUpdate", "LiveDrag", "RunningDrag", "RunningInversion", "Update"]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """What is known after one step of a drag. Everything in it describes the same latent code.

    Attributes:
        index: 0 is the picture as it was before the drag.
        ws: the latent, ``[1, num_ws, w_dim]``.
        handles, targets: ``[n, 2]`` image pixels ``(x, y)``; the handles as tracked in this picture.
        distances: ``[n]`` image pixels from handle to target.
        way: how much of the way all handles together have gone: 1 at the targets, negative where they are farther.
        lost: ``[n]`` of which handles nothing is claimed; as in `draggan.DragStep`.
        stop_distance: image pixels; a handle this close to its target has arrived.
        seconds: computing time of the drag so far.
        loss: the supervision loss at this latent; 0 in the last update.
        done: this is the last one.
        outcome: why, None before; as in `draggan.DragStep`.
        contrast: of the last one of a drag that has arrived; as in `draggan.DragStep`.
        stretched: of the last one of a drag that may have arrived (`unsure`); likewise.
        rests: why a live drag goes no farther until its targets move, None while it goes on; likewise.
    """

    index: int
    ws: Float[np.ndarray, "1 num_ws w_dim"]
    handles: Float[np.ndarray, "n 2"]
    targets: Float[np.ndarray, "n 2"]
    distances: Float[np.ndarray, "n"]
    stop_distance: float
    seconds: float
    loss: float
    way: float
    lost: Bool[np.ndarray, "n"]
    contrast: float
    done: bool = False
    outcome: Outcome | None = None
    stretched: bool = False
    rests: Outcome | None = None

    @property
    def faded(self) -> bool:
        """What has arrived, or may have, has lost much of its detail on the way."""
        return self.contrast < FADED

    @property
    def unsure(self) -> bool:
        """It may have arrived: all handles are where they should be, and `lost` says of which that is not certain.

        The other drags that end as "lost" stop short of their targets, in the last picture in which all was certain.
        """
        there = bool((self.distances <= self.stop_distance).all())
        return self.outcome == "lost" and there and bool(self.lost.any())

    @property
    def way_gone(self) -> float:
        """`way` as people are told of it, 0 to 1: handles that are farther away than at first have gone none of it."""
        return min(max(self.way, 0.0), 1.0)


@runtime_checkable
class RunningDrag(Protocol):
    """A drag under way. Whoever watches it may be slow: steps are missed then, never delayed.

    Attributes:
        recipe: what it began with, with the latents of all its pictures once the first update is there.
        edit: what it does, with every setting that it runs with.
        config: the same settings.
        preview_heights: of the pictures that `preview` draws, pixels, smallest first.
    """

    recipe: Recipe
    edit: Edit
    config: DragConfig
    preview_heights: tuple[int, ...]

    @property
    def update(self) -> Update | None:
        """The newest update; None before the first."""

    @property
    def frames(self) -> Sequence[Float[np.ndarray, "1 num_ws w_dim"]]:
        """Latents of some of its steps but the last, evenly spaced: what an animation shows."""

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end before its time."""

    @property
    def notice(self) -> str:
        """Why the engine itself has ended it, as a sentence for people; empty: it has not."""

    def stop(self) -> None:
        """End it with its next step. May be called from any thread, before it has begun and after it has ended."""

    def newer(self, than: Update | None, patience: float) -> Update | None:
        """The newest update: at once if it is not that one, else the next, or after that many seconds the same.

        Raises:
            Whatever the drag failed with.
        """

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end, good or bad; True: it has come."""

    def result(self) -> Update | None:
        """Wait for the end; the last update, None if it was stopped before its first step.

        Raises:
            Whatever the drag failed with.
        """

    def reached(self) -> Recipe:
        """The recipe of the newest picture. A drag that a person has stopped, or a pull, is recorded as it is."""

    def preview(self, update: Update, height: int) -> UInt8[np.ndarray, "_ _ channels"]:
        """The picture of an update, perhaps smaller: one of `preview_heights`. A preview, not a file."""

    def __iter__(self) -> Iterator[Update]:
        """The newest update whenever one is asked for, up to the last."""


@runtime_checkable
class LiveDrag(RunningDrag, Protocol):
    """A drag that follows its targets until it is told to settle."""

    def retarget(self, targets: Sequence[Any]) -> None:
        """Where the handles are to go from now on, one target each. May be called from any thread, at any rate.

        Raises:
            PointError: not one for each handle, or outside the picture; the drag goes on as it was.
        """

    def settle(self) -> None:
        """From now on it ends like any other drag, at the newest targets."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InversionUpdate:
    """What is known of a photo that is being brought into a model.

    Attributes:
        index, steps: of how many steps how many are done.
        stage: what the last one has changed: "latent" or "weights".
        progress: by expected time, 0 to 1.
        seconds, seconds_left: of computing, so far and expected.
        psnr: of the picture against the photo, dB.
        pixels: the picture, perhaps smaller than the model's. A preview, not a file.
        verdict: whether the model knows such pictures; None as long as only the latent is looked for.
        done: it is over; `RunningInversion.reached` has the recipe.
    """

    index: int
    steps: int
    stage: Stage
    progress: float
    seconds: float
    seconds_left: float
    psnr: float
    pixels: UInt8[np.ndarray, "_ _ channels"]
    verdict: Verdict | None
    done: bool


@runtime_checkable
class RunningInversion(Protocol):
    """A photo on its way into a model. Whoever watches it may be slow: steps are missed then, never delayed."""

    @property
    def update(self) -> InversionUpdate | None:
        """The newest update; None before the first."""

    @property
    def notice(self) -> str:
        """Why the engine itself has ended it, as a sentence for people; empty: it has not."""

    def stop(self) -> None:
        """Good enough: end it with its next step; what it has reached is kept. From any thread."""

    def cancel(self) -> None:
        """End it; nothing of it is kept, and `reached` says so."""

    def newer(self, than: InversionUpdate | None, patience: float) -> InversionUpdate | None:
        """The newest update: at once if it is not that one, else the next, or after that many seconds the same.

        Raises:
            Whatever it failed with.
        """

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end, good or bad; True: it has come."""

    def reached(self) -> Recipe:
        """The recipe that draws the photo, with its latent; its tuning is with the engine. Waits for the end.

        Raises:
            PhotoError: it was cancelled.
            Whatever it failed with.
        """

    def __iter__(self) -> Iterator[InversionUpdate]:
        """The newest update whenever one is asked for, up to the last."""


@runtime_checkable
class Engine(Protocol):
    """Runs recipes for several visitors at once.

    ``visitor`` says whose budget something counts in (`draggan.config.Limits`), and with whom the machine is shared;
    callers who name none are one visitor.
    """

    def begin(self, model: str, *, seed: int, truncation: float | None = None, label: int | None = None) -> Recipe:
        """The recipe of a seed's picture, with its latent.

        Args:
            truncation: None: what suits the model.

        Raises:
            ModelNotFound, LatentError, ConfigError: no such model, seed, truncation or class.
        """

    def drag(self, recipe: Recipe, edit: Edit, *, visitor: str = "") -> RunningDrag:
        """Begin a drag of the picture that a recipe makes.

        Raises:
            LimitError: more than a visitor may have; nothing was begun.
            PointError, ConfigError, RecipeError, ModelNotFound: it cannot be begun.
        """

    def live(self, recipe: Recipe, edit: Edit, *, visitor: str = "") -> LiveDrag:
        """Take hold of the edit's handles and follow targets; arguments and errors as for `drag`."""

    def invert(
        self,
        model: str,
        photo: UInt8[np.ndarray, "height width 3"],
        config: InversionConfig | None = None,
        *,
        visitor: str = "",
    ) -> RunningInversion:
        """Begin to bring a photo into a model.

        Args:
            photo: the crop at the size of the model's pictures (`draggan.inversion.cut`).

        Raises:
            LimitError: more than a visitor may have; nothing was begun.
            PhotoError, ConfigError, ModelNotFound: it cannot be begun.
        """

    def keep_tuning(self, tuning: Tuning, *, secretly: bool = False) -> str:
        """Hold tuned weights, as from a session's file, for the recipes that name them; returns their hash.

        Args:
            secretly: returns another name instead, which nobody can guess: until they are kept by their hash, only
                recipes that have that name are drawn.
        """

    def tuning(self, recipe: Recipe) -> Tuning:
        """The tuned weights that a recipe of a photo names, for a session's file.

        Raises:
            RecipeError: they are not here, or the recipe is of no photo.
        """

    def forget_tuning(self, digest: str) -> None:
        """Nobody needs these any more."""

    def forget_unused_tunings(self, seconds: float) -> None:
        """Nor those that were not used for so long."""

    def complete(self, recipe: Recipe, *, visitor: str = "", wanted: Callable[[], bool] = ...) -> Recipe:
        """The recipe with the latents of all its pictures; edits whose result is not known are run now.

        Args:
            wanted: asked now and then whether anybody still waits for it; without, somebody does.

        Raises:
            LimitError: more than a visitor may have, or it has ended early: by a limit, or as nobody waits for it.
        """

    def picture(
        self, recipe: Recipe, *, visitor: str = "", urgent: bool = False
    ) -> UInt8[np.ndarray, "height width channels"]:
        """The picture that a recipe makes; ``urgent``: before what others wait for, as where a stopped drag rests."""

    def render(
        self,
        recipe: Recipe,
        ws: Float[np.ndarray, "1 num_ws w_dim"],
        *,
        visitor: str = "",
        urgent: bool = False,
    ) -> UInt8[np.ndarray, "height width channels"]:
        """A recipe's picture with another latent in place of its last, such as one of the last drag's `frames`."""

    def thumbnail(self, recipe: Recipe, height: int, *, patience: float) -> UInt8[np.ndarray, "_ _ channels"] | None:
        """A starting picture made small, drawn while nothing else is computed and on nobody's account.

        Args:
            recipe: without edits, as from `begin`.
            height: pixels that it has at least, where the picture itself has as many.
            patience: seconds; None is returned if its turn has not come by then, or at once if many wait already.
        """

    def in_turns(
        self, work: Turns[None, None, _T], *, visitor: str = "", wanted: Callable[[], bool] = ...
    ) -> _T | None:
        """Compute something else on this machine in the visitor's turns; what it returns or raises.

        Args:
            work: yields after each step, at best some times a second, and waits for nobody.
            wanted: whether anybody still wants it; if not, None is returned within a second, and the work is closed
                after the step that is under way.
        """

    def close(self) -> None:
        """Stop everything."""
