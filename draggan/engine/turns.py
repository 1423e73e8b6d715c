"""What all engines share: fair turns, budgets, drags that people watch. `computing.py` says what computes for them."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Generator as Turns
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from draggan.config import DragConfig, InversionConfig, Limits
from draggan.engine.budget import check_budget, check_places
from draggan.engine.computing import Computing, Facts
from draggan.engine.memory import MemoryReturn
from draggan.engine.models import ModelSource
from draggan.engine.running_drag import TurnsDrag, TurnsLiveDrag
from draggan.engine.running_inversion import TurnsInversion
from draggan.engine.scheduler import Scheduler
from draggan.engine.single_steps import Once, Stepwise
from draggan.engine.work import LOOK, Completion, Work, always
from draggan.errors import LimitError, PhotoError, PointError, RecipeError
from draggan.recipe import Edit, ModelReference, Recipe, Seed
from draggan.tuning import Tuning

__all__ = ["TurnsEngine"]

_THUMBNAILS = "thumbnails"  # on the account of no visitor
_MOST_THUMBNAILS = 64  # that wait at a time


_T = TypeVar("_T")


class TurnsEngine:
    """Runs recipes, one step of each in turn (`draggan.engine.base.Engine`).

    Args:
        models: what is known of models.
        computing: what computes.
        limits: what one visitor may have.
        workers: how many steps are computed at a time.
    """

    def __init__(
        self, models: ModelSource, computing: Computing, limits: Limits | None = None, *, workers: int
    ) -> None:
        self.models = models
        self.limits = limits or Limits()
        self.computing = computing
        self._scheduler = Scheduler(workers)
        self._running: list[Work] = []
        self._thumbnails = threading.BoundedSemaphore(_MOST_THUMBNAILS)
        self._ended: Counter[str] = Counter()
        self._computed = 0.0
        self._memory = MemoryReturn()
        self._lock = threading.Lock()

    def begin(self, model: str, *, seed: int, truncation: float | None = None, label: int | None = None) -> Recipe:
        """The recipe of a seed's picture, with its latent; see `draggan.engine.base.Engine.begin`."""
        truncation = self.models.find(model).truncation if truncation is None else truncation
        start = Seed(seed=seed, truncation=truncation, label=label)
        image_size = self.computing.facts(model).image_size
        reference = ModelReference(name=model, sha256=self.models.sha256(model))
        recipe = Recipe(model=reference, image_size=image_size, start=start)
        return recipe.with_results([self.computing.latent(model, start)])

    def drag(self, recipe: Recipe, edit: Edit, *, visitor: str = "") -> TurnsDrag:
        """Begin a drag; see `draggan.engine.base.Engine.drag`."""
        facts = self._fitting(recipe)
        config = edit.config(self.models.find(recipe.model.name).settings)
        running = TurnsDrag(self, facts, recipe, _with_all_settings(edit, config), config, visitor)
        self._begin(running, running.config, len(edit.points))
        return running

    def live(self, recipe: Recipe, edit: Edit, *, visitor: str = "") -> TurnsLiveDrag:
        """Follow targets; see `draggan.engine.base.Engine.live`."""
        facts = self._fitting(recipe)
        config = edit.config(self.models.find(recipe.model.name).settings)
        # The published optimiser moves a pixel a step: a hand does not wait for that.
        config = replace(config, solver="gauss-newton")
        running = TurnsLiveDrag(self, facts, recipe, _with_all_settings(edit, config), config, visitor)
        self._begin(running, config, len(edit.points))
        return running

    def invert(
        self,
        model: str,
        photo: UInt8[np.ndarray, "height width 3"],
        config: InversionConfig | None = None,
        *,
        visitor: str = "",
    ) -> TurnsInversion:
        """Begin to bring a photo into a model; see `draggan.engine.base.Engine.invert`."""
        image_size = self.computing.facts(model).image_size
        if photo.shape != (*image_size, 3):
            raise PhotoError(
                f"a crop of {list(photo.shape)} does not fit; give one of {image_size[1]} x {image_size[0]} pixels"
            )
        reference = ModelReference(name=model, sha256=self.models.sha256(model))
        # Of what it begins with: the mean of all pictures.
        begun = Recipe(model=reference, image_size=image_size, start=Seed(seed=0, truncation=0.0))
        work = TurnsInversion(self, begun, photo, config or InversionConfig(), visitor)
        self._admit(work, [])
        return work

    def keep_tuning(self, tuning: Tuning, *, secretly: bool = False) -> str:
        """Hold tuned weights; see `draggan.engine.base.Engine`."""
        return self.computing.tunings.keep(tuning, secrets.token_hex(32) if secretly else "")

    def tuning(self, recipe: Recipe) -> Tuning:
        """The tuned weights that a recipe names; see `draggan.engine.base.Engine`."""
        if not recipe.is_of_photo:
            raise RecipeError("this picture was not made of a photo: its model is as it was")
        return self.computing.tunings.get(recipe.model.tuning)

    def forget_tuning(self, digest: str) -> None:
        """Nobody needs these any more."""
        self.computing.tunings.forget(digest)

    def forget_unused_tunings(self, seconds: float) -> None:
        """Nor those that were not used for so long."""
        self.computing.tunings.forget_unused(seconds)

    def complete(self, recipe: Recipe, *, visitor: str = "", wanted: Callable[[], bool] = always) -> Recipe:
        """The recipe with all results, computing those that are missing; see `draggan.engine.base.Engine`."""
        if recipe.is_complete:
            return recipe
        self._fitting(recipe)
        work, missing = Completion(self, recipe, visitor), self._missing(recipe)
        self._admit(work, missing, counted=bool(missing))
        work.wait(wanted)
        return work.recipe

    def picture(
        self, recipe: Recipe, *, visitor: str = "", urgent: bool = False
    ) -> UInt8[np.ndarray, "height width channels"]:
        """The picture that a recipe makes; see `draggan.engine.base.Engine`."""
        recipe = self.complete(recipe, visitor=visitor)
        assert recipe.latent is not None
        return self.render(recipe, recipe.latent, visitor=visitor, urgent=urgent)

    def render(
        self,
        recipe: Recipe,
        ws: Float[np.ndarray, "1 num_ws w_dim"],
        *,
        visitor: str = "",
        urgent: bool = False,
    ) -> UInt8[np.ndarray, "height width channels"]:
        """A recipe's picture with another latent in place of its last, such as one of the last drag's `frames`."""
        self._fitting(recipe)
        self.computing.check_latent(recipe.model.name, ws)
        before = self.complete(recipe.up_to(len(recipe.edits) - 1), visitor=visitor) if recipe.edits else recipe

        def draw() -> UInt8[np.ndarray, "height width channels"]:
            return self.computing.drawing(before, recipe.edits[-1] if recipe.edits else None)(ws)

        drawing = Once(visitor, draw, urgent=urgent)
        self._scheduler.add(drawing)
        return drawing.wait()

    def thumbnail(self, recipe: Recipe, height: int, *, patience: float) -> UInt8[np.ndarray, "_ _ channels"] | None:
        """A small picture, drawn when nothing else is; see `draggan.engine.base.Engine.thumbnail`."""
        if recipe.edits:
            raise RecipeError("only starting pictures are drawn small")
        facts, ws = self._fitting(recipe), recipe.latent
        assert ws is not None
        least = next((h for h in facts.preview_heights if h >= height), facts.preview_heights[-1])
        drawing = Once(_THUMBNAILS, lambda: self.computing.drawing(recipe, None)(ws, least), patient=True)
        if not self._thumbnails.acquire(blocking=False):
            return None
        try:
            self._scheduler.add(drawing)
            return drawing.wait_for(patience)
        finally:
            # Where nothing is ever idle, its turn does not come: given up, it would stay.
            self._scheduler.remove(drawing)
            self._thumbnails.release()

    def in_turns(
        self, work: Turns[None, None, _T], *, visitor: str = "", wanted: Callable[[], bool] = always
    ) -> _T | None:
        """Compute something else; see `draggan.engine.base.Engine.in_turns`."""
        stepwise = Stepwise(visitor, work)
        self._scheduler.add(stepwise)
        while not stepwise.ended(LOOK / 2):
            if not wanted():
                stepwise.cancel()
                self._scheduler.remove(stepwise)
                return None
        return stepwise.result()

    def close(self) -> None:
        """Stop everything that runs. Threads end by themselves."""
        with self._lock:
            running = list(self._running)
        for work in running:
            work.stop()
        self.computing.close()

    # For whoever watches over it

    @property
    def under_way(self) -> int:
        """Drags and completions that are not over."""
        return len(self._running)

    def ended(self) -> dict[str, int]:
        """How many drags have ended so far, by their outcome; "failed": with an error."""
        with self._lock:
            return dict(self._ended)

    def computed(self) -> float:
        """Seconds that the steps of what has ended have taken."""
        return self._computed

    # Of its own work

    def _fitting(self, recipe: Recipe) -> Facts:
        """What is known of the model of a recipe, if it is the one that the recipe means."""
        name, wanted = recipe.model.name, recipe.model.sha256
        facts = self.computing.facts(name)
        here = self.models.sha256(name) if wanted else ""
        if wanted and here and wanted != here:
            raise RecipeError(
                f"this recipe was made with other weights: '{name}' here has the SHA-256 {here[:12]}..., the recipe "
                f"names {wanted[:12]}... Get that file, or leave the hash out to run it on these weights"
            )
        if recipe.image_size != facts.image_size:
            sizes = [f"{width} x {height}" for height, width in (recipe.image_size, facts.image_size)]
            raise RecipeError(f"this recipe is for pictures of {sizes[0]} pixels; the model '{name}' draws {sizes[1]}")
        if recipe.is_of_photo:
            meant = self.computing.tunings.get(recipe.model.tuning).model_sha256
            if meant and wanted and meant != wanted:
                raise RecipeError("the tuned weights of this photo belong to another model; open the photo again")
        known = next((ws for ws in recipe.results if ws is not None), None)
        if known is not None:
            self.computing.check_latent(name, known)
        return facts

    def _begin(self, work: Work, config: DragConfig, points: int) -> None:
        """Add a drag, if its visitor may have it and what its recipe lacks."""
        if not points:
            raise PointError("no points were given; set at least one handle and its target")
        self._admit(work, [*self._missing(work.recipe), (config, points)])

    def _missing(self, recipe: Recipe) -> list[tuple[DragConfig, int]]:
        """Settings and number of points of the edits whose results are not known."""
        suited = self.models.find(recipe.model.name).settings
        edits = zip(recipe.edits, recipe.results[1:], strict=True)
        return [(edit.config(suited), len(edit.points)) for edit, result in edits if result is None]

    def _admit(self, work: Work, drags: Sequence[tuple[DragConfig, int]], *, counted: bool = True) -> None:
        """Add it, if its visitor may have that.

        Args:
            drags: those that it will compute, settings and number of points.
            counted: it takes a place; what only computes a latent does not.
        """
        with self._lock:
            if counted:
                check_places(self.limits, self._running_of(work.visitor), len(self._running))
            for config, points in drags:
                check_budget(self.limits, config, points=points, image_size=work.recipe.image_size)
            self._running.append(work)
        try:
            self._scheduler.add(work)
        except LimitError:
            with self._lock:
                self._running.remove(work)
            raise

    def _running_of(self, visitor: str) -> int:
        """How much of a visitor's runs; with the lock held."""
        return sum(work.visitor == visitor for work in self._running)

    # For its work (`draggan.engine.work.Home`)

    def wake(self, work: Work) -> None:
        """There is something to do for it again."""
        self._scheduler.wake(work)

    def over(self, work: Work, outcome: str) -> None:
        """It is over; an empty outcome is that of something that is not a drag."""
        with self._lock:
            self._running.remove(work)
            self._computed += work.seconds
            if outcome:
                self._ended[outcome] += 1

    def give_memory_back(self) -> None:
        """What work held may be free now."""
        self._memory(idle=not self._running)


def _with_all_settings(edit: Edit, config: DragConfig) -> Edit:
    """The edit with every setting that it runs with, so that it gives the same picture whatever suits a model later."""
    settings = asdict(config)
    del settings["space"]
    return replace(edit, settings=settings)
