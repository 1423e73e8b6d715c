"""What all engines share: fair turns, budgets, drags that people watch. `computing.py` says what computes for them."""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Turns
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, replace
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from draggan.config import DragConfig, InversionConfig, Limits
from draggan.drag import DragStep
from draggan.engine.base import InversionUpdate, Update
from draggan.engine.budget import check_budget
from draggan.engine.computing import Computing, Drawing, Facts, Steps
from draggan.engine.frames import EvenFrames
from draggan.engine.memory import MemoryReturn
from draggan.engine.models import ModelSource
from draggan.engine.scheduler import Scheduler, State
from draggan.errors import LimitError, PhotoError, PointError, RecipeError
from draggan.images import to_uint8
from draggan.inversion.invert import Inversion, InversionStep
from draggan.points import check_points
from draggan.recipe import Edit, ModelReference, Recipe, Seed
from draggan.tuning import Tuning

__all__ = ["TurnsDrag", "TurnsEngine", "TurnsInversion", "TurnsLiveDrag"]

# Longer than any step; whoever waits for an end looks again then.
_PATIENCE = 60.0
_THUMBNAILS = "thumbnails"  # on the account of no visitor
_MOST_THUMBNAILS = 64  # that wait at a time
_LOOK = 1.0  # seconds between two looks whether somebody still wants what is computed


def _always() -> bool:
    return True


_T = TypeVar("_T")
_UpdateT = TypeVar("_UpdateT", Update, InversionUpdate)


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
        self._computing = computing
        self._scheduler = Scheduler(workers)
        self._running: list[_Work] = []
        self._thumbnails = threading.BoundedSemaphore(_MOST_THUMBNAILS)
        self._ended: Counter[str] = Counter()
        self._computed = 0.0
        self._memory = MemoryReturn()
        self._lock = threading.Lock()

    def begin(self, model: str, *, seed: int, truncation: float | None = None, label: int | None = None) -> Recipe:
        """The recipe of a seed's picture, with its latent; see `draggan.engine.base.Engine.begin`."""
        truncation = self.models.find(model).truncation if truncation is None else truncation
        start = Seed(seed=seed, truncation=truncation, label=label)
        image_size = self._computing.facts(model).image_size
        reference = ModelReference(name=model, sha256=self.models.sha256(model))
        recipe = Recipe(model=reference, image_size=image_size, start=start)
        return recipe.with_results([self._computing.latent(model, start)])

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
        image_size = self._computing.facts(model).image_size
        if photo.shape != (*image_size, 3):
            raise PhotoError(
                f"a crop of {list(photo.shape)} does not fit; give one of {image_size[1]} x {image_size[0]} pixels"
            )
        reference = ModelReference(name=model, sha256=self.models.sha256(model))
        # Of what it begins with: the mean of all pictures.
        begun = Recipe(model=reference, image_size=image_size, start=Seed(seed=0, truncation=0.0))
        work = TurnsInversion(self, begun, photo, config or InversionConfig(), visitor)
        with self._lock:
            if self._running_of(visitor) >= self.limits.drags or len(self._running) >= self.limits.all_drags:
                raise LimitError("too much is under way here at this moment; try again in a few seconds")
            self._running.append(work)
        self._scheduler.add(work)
        return work

    def keep_tuning(self, tuning: Tuning) -> str:
        """Hold tuned weights; see `draggan.engine.base.Engine`."""
        return self._computing.tunings.keep(tuning)

    def tuning(self, recipe: Recipe) -> Tuning:
        """The tuned weights that a recipe names; see `draggan.engine.base.Engine`."""
        if not recipe.is_of_photo:
            raise RecipeError("this picture was not made of a photo: its model is as it was")
        return self._computing.tunings.get(recipe.model.tuning)

    def forget_tuning(self, digest: str) -> None:
        """Nobody needs these any more."""
        self._computing.tunings.forget(digest)

    def complete(self, recipe: Recipe, *, visitor: str = "", wanted: Callable[[], bool] = _always) -> Recipe:
        """The recipe with all results, computing those that are missing; see `draggan.engine.base.Engine`."""
        if recipe.is_complete:
            return recipe
        self._fitting(recipe)
        suited = self.models.find(recipe.model.name).settings
        missing = [edit for edit, result in zip(recipe.edits, recipe.results[1:], strict=True) if result is None]
        work = _Completion(self, recipe, visitor)
        with self._lock:
            under_way = self._running_of(visitor)
            for edit in missing:
                check_budget(
                    self.limits,
                    edit.config(suited),
                    points=len(edit.points),
                    image_size=recipe.image_size,
                    under_way=under_way,
                )
            self._running.append(work)
        self._scheduler.add(work)
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
        self._computing.check_latent(recipe.model.name, ws)
        before = self.complete(recipe.up_to(len(recipe.edits) - 1), visitor=visitor) if recipe.edits else recipe

        def draw() -> UInt8[np.ndarray, "height width channels"]:
            return self._computing.drawing(before, recipe.edits[-1] if recipe.edits else None)(ws)

        drawing = _Once(visitor, draw, urgent=urgent)
        self._scheduler.add(drawing)
        return drawing.wait()

    def thumbnail(self, recipe: Recipe, height: int, *, patience: float) -> UInt8[np.ndarray, "_ _ channels"] | None:
        """A small picture, drawn when nothing else is; see `draggan.engine.base.Engine.thumbnail`."""
        if recipe.edits:
            raise RecipeError("only starting pictures are drawn small")
        facts, ws = self._fitting(recipe), recipe.latent
        assert ws is not None
        least = next((h for h in facts.preview_heights if h >= height), facts.preview_heights[-1])
        drawing = _Once(_THUMBNAILS, lambda: self._computing.drawing(recipe, None)(ws, least), patient=True)
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
        self, work: Turns[None, None, _T], *, visitor: str = "", wanted: Callable[[], bool] = _always
    ) -> _T | None:
        """Compute something else; see `draggan.engine.base.Engine.in_turns`."""
        stepwise = _Stepwise(visitor, work)
        self._scheduler.add(stepwise)
        while not stepwise.ended(_LOOK / 2):
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
        self._computing.close()

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
        facts = self._computing.facts(name)
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
            meant = self._computing.tunings.get(recipe.model.tuning).model_sha256
            if meant and wanted and meant != wanted:
                raise RecipeError("the tuned weights of this photo belong to another model; open the photo again")
        known = next((ws for ws in recipe.results if ws is not None), None)
        if known is not None:
            self._computing.check_latent(name, known)
        return facts

    def _begin(self, work: _Work, config: DragConfig, points: int) -> None:
        """Add it, if its visitor may have it."""
        if not points:
            raise PointError("no points were given; set at least one handle and its target")
        with self._lock:
            under_way = self._running_of(work.visitor)
            check_budget(self.limits, config, points=points, image_size=work.recipe.image_size, under_way=under_way)
            if len(self._running) >= self.limits.all_drags:
                raise LimitError("too many drags are under way here at this moment; try again in a few seconds")
            self._running.append(work)
        self._scheduler.add(work)

    def _running_of(self, visitor: str) -> int:
        """How much of a visitor's runs; with the lock held."""
        return sum(work.visitor == visitor for work in self._running)

    def _remove(self, work: _Work, outcome: str) -> None:
        """It is over; an empty outcome is that of something that is not a drag."""
        with self._lock:
            self._running.remove(work)
            self._computed += work._seconds
            if outcome:
                self._ended[outcome] += 1

    def _give_memory_back(self) -> None:
        self._memory(idle=not self._running)


class _Once(Generic[_T]):
    """Something that is done in one step, as a picture, when it is its visitor's turn.

    Args:
        visitor: whose time it takes.
        work: does it, and gives what comes of it.
        urgent: whether it comes before all others.
        patient: whether it comes after all others.
    """

    def __init__(
        self,
        visitor: str,
        work: Callable[[], _T],
        *,
        urgent: bool = False,
        patient: bool = False,
    ) -> None:
        self.visitor, self.urgent, self.patient, self._work = visitor, urgent, patient, work
        self._future: Future[_T] = Future()

    def step(self) -> State:
        """Do it, if somebody waits for it still."""
        if not self._future.set_running_or_notify_cancel():
            return "over"
        try:
            self._future.set_result(self._work())
        except Exception as error:  # noqa: BLE001  # raised where somebody waits for it
            self._future.set_exception(error)
        return "over"

    def check(self) -> None:
        """It is over soon, whoever looks."""

    def wait(self) -> _T:
        """What comes of it, once it is there; raises what it has failed with."""
        return self._future.result()

    def wait_for(self, seconds: float) -> _T | None:
        """The same; None if its turn has not come by then, and it is not done any more."""
        try:
            return self._future.result(seconds)
        except FutureTimeout:
            return None if self._future.cancel() else self._future.result()


class _Stepwise(Generic[_T]):
    """Something that is done in steps, when it is its visitor's turn, as long as it is wanted.

    Args:
        visitor: whose time it takes.
        work: yields after each step.
    """

    patient = False

    def __init__(self, visitor: str, work: Turns[None, None, _T]) -> None:
        self.visitor, self._work = visitor, work
        self._future: Future[_T] = Future()
        self._cancelled = threading.Event()

    @property
    def urgent(self) -> bool:
        """Whether nobody wants it any more: then it takes no time."""
        return self._cancelled.is_set()

    def step(self) -> State:
        """One of them."""
        try:
            if self._cancelled.is_set():
                self._work.close()
                return "over"
            next(self._work)
            return "ready"
        except StopIteration as end:
            self._future.set_result(end.value)
        except Exception as error:  # noqa: BLE001  # raised where somebody waits for it
            self._future.set_exception(error)
        return "over"

    def check(self) -> None:
        """Whoever waits for it looks by themselves."""

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._cancelled.set()

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end; True: it has come."""
        return bool(wait([self._future], patience).done)

    def result(self) -> _T:
        """What has come of it; raises what it has failed with."""
        return self._future.result()


class _Work:
    """Something that runs in turns with others, and whoever waits for it.

    Attributes:
        recipe: with more and more results.
        visitor: whose budget it counts in.
        why: what has made the engine end it; empty: nothing has.
    """

    def __init__(self, engine: TurnsEngine, recipe: Recipe, visitor: str) -> None:
        self.recipe = recipe
        self.visitor = visitor
        self._engine = engine
        self._limits = engine.limits
        self._computing = engine._computing
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._over = False
        self.why = self._notice = ""
        self._seconds = 0.0
        self._watched = time.monotonic()
        self._turns = self._run()
        self._drag: Steps | None = None

    # For whoever watches

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end before its time."""
        return self._stopping.is_set()

    @property
    def notice(self) -> str:
        """Why the engine has ended it; empty: it has not."""
        return self._notice

    def stop(self) -> None:
        """End it with its next step."""
        self._stopping.set()
        drag = self._drag
        if drag is not None:
            drag.stop()
        self._engine._scheduler.wake(self)

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end; True: it has come."""
        self._watched = time.monotonic()
        with self._changed:
            over = self._changed.wait_for(lambda: self._over, patience)
        self._watched = time.monotonic()
        return over

    def wait(self, wanted: Callable[[], bool] = _always) -> None:
        """Wait for the end, and bring it about once nobody wants it; raises what it failed with."""
        # Not longer at a time than the limit of watching.
        patience = min(_PATIENCE if wanted is _always else _LOOK, self._limits.unwatched / 2)
        while not self.ended(patience):
            if not wanted():
                self.stop()
        if self._error is not None:
            raise self._error

    # For the scheduler

    patient = False

    @property
    def urgent(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping.is_set()

    def step(self) -> State:
        """One turn."""
        started = time.perf_counter()
        try:
            resting = next(self._turns, None)
        except Exception as error:  # noqa: BLE001  # handed to whoever watches
            # The traceback would keep alive all that the drag has computed.
            traceback.clear_frames(error.__traceback__)
            self._end(error)
            return "over"
        self._seconds += time.perf_counter() - started
        if resting is None:
            self._end(None)
            return "over"
        if self._seconds > self._limits.seconds:
            self._give_up(f"the drag has used the {self._limits.seconds:g} s that one may take here")
        return "resting" if resting else "ready"

    def check(self) -> None:
        """End it if nobody looks at it any more."""
        if time.monotonic() - self._watched > self._limits.unwatched:
            self._give_up(f"nobody has looked at the drag for {self._limits.unwatched:g} s")

    def _give_up(self, why: str) -> None:
        if not self._stopping.is_set():
            self.why = why
            self._notice = f"{why}; it was stopped, and what it has reached is kept"
            self.stop()

    def _end(self, error: BaseException | None) -> None:
        # What the drag holds is given back, though somebody may keep this for its result.
        self._turns.close()
        self._drag = None
        self._engine._remove(self, "failed" if error is not None else self._outcome())
        with self._changed:
            self._error, self._over = error, True
            self._changed.notify_all()
        self._engine._give_memory_back()

    def _outcome(self) -> str:
        """How it has ended, in a word; empty: nobody counts such."""
        return ""

    # The work itself. Nothing is held across a yield, no lock and no grad mode; a turn may come on another thread.

    def _run(self) -> Turns[bool, None, None]:
        """Every yield ends a turn; True: there is nothing to do until the scheduler is told."""
        yield from self._complete()

    def _complete(self) -> Turns[bool, None, None]:
        """Compute the latents of all pictures of the recipe that are not known."""
        results = list(self.recipe.results)
        if results[0] is None and isinstance(self.recipe.start, Seed):
            results[0] = self._computing.latent(self.recipe.model.name, self.recipe.start)
            yield False
        suited = self._engine.models.find(self.recipe.model.name).settings
        for number, edit in enumerate(self.recipe.edits):
            if results[number + 1] is not None:
                continue
            known = self.recipe.up_to(number).with_results(results[: number + 1])
            self._drag = self._computing.steps(known, edit, edit.config(suited), live=False)
            yield False
            for step in self._drag:
                if self._stopping.is_set():
                    return
                results[number + 1] = step.ws.detach().cpu().numpy()
                yield False
        self._drag = None
        self.recipe = self.recipe.with_results(results)


class _Completion(_Work):
    """Computes what a recipe lacks."""

    def wait(self, wanted: Callable[[], bool] = _always) -> None:
        """Wait for the end; raises what it failed with, or why it was stopped."""
        super().wait(wanted)
        if not self.recipe.is_complete:
            raise LimitError(
                f"{self.why or 'it was stopped'} before all pictures of the recipe were known; give the latents of "
                "its edits with it, or ask for fewer at once"
            )


class _Telling(_Work, Generic[_UpdateT]):
    """Work that tells how it goes, to whoever waits for it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._update: _UpdateT | None = None

    @property
    def update(self) -> _UpdateT | None:
        """The newest update; None before the first."""
        return self._update

    def newer(self, than: _UpdateT | None, patience: float) -> _UpdateT | None:
        """The newest update: at once if it is not that one, else the next, or after that many seconds the same."""
        self._watched = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._update is not than or self._over, patience)
            update, error = self._update, self._error
        self._watched = time.monotonic()
        if error is not None:
            raise error
        return update

    def __iter__(self) -> Iterator[_UpdateT]:
        update = None
        while update is None or not update.done:
            newer = self.newer(update, min(_PATIENCE, self._limits.unwatched / 2))
            if newer is not None and newer is not update:
                update = newer
                yield update
            elif self.ended(0):
                return

    def _publish(self, update: _UpdateT) -> None:
        with self._changed:
            self._update = update
            self._changed.notify_all()


class TurnsDrag(_Telling[Update]):
    """A drag under way (`draggan.engine.base.RunningDrag`).

    Args:
        edit: with all settings.
        config: the same settings.
    """

    live = False

    def __init__(
        self,
        engine: TurnsEngine,
        facts: Facts,
        recipe: Recipe,
        edit: Edit,
        config: DragConfig,
        visitor: str,
    ) -> None:
        super().__init__(engine, recipe, visitor)
        # As it is in the recipe: with every place and number filled in.
        self.edit = recipe.then(edit).edits[-1]
        self.config = config
        self.preview_heights = facts.preview_heights
        self._frames: EvenFrames[np.ndarray] = EvenFrames()

    def _outcome(self) -> str:
        update = self._update
        return "stopped" if update is None or update.outcome is None else update.outcome

    @property
    def frames(self) -> Sequence[Float[np.ndarray, "1 num_ws w_dim"]]:
        """Latents of some of its steps but the last, evenly spaced."""
        return self._frames.frames

    def result(self) -> Update | None:
        """Wait for the end; the last update."""
        self.wait()
        return self._update

    def reached(self) -> Recipe:
        """The recipe of the newest picture."""
        update = self._update
        if update is None or update.index == 0:
            return self.recipe
        start = self.recipe.latent
        if self.live and start is not None and np.array_equal(update.ws, start):
            # Taken hold of and let go again: nothing has happened.
            return self.recipe
        again = not self.live and update.done and update.outcome != "stopped"
        edit = self.edit if again else replace(self.edit, recorded=update.ws)
        return self.recipe.then(edit, update.ws)

    def preview(self, update: Update, height: int) -> UInt8[np.ndarray, "_ _ channels"]:
        """The picture of an update, perhaps smaller, in the precision of the drag."""
        self._watched = time.monotonic()
        return self._drawing(update.ws, height, self.config.precision)

    @functools.cached_property
    def _drawing(self) -> Drawing:
        """All pictures of the edit differ in their latent alone."""
        return self._computing.drawing(self.recipe, self.edit)

    def _run(self) -> Turns[bool, None, None]:
        yield from self._complete()
        if self._stopping.is_set():
            return
        drag = self._computing.steps(self.recipe, self.edit, self.config, live=self.live)
        self._begun(drag)
        yield False
        while True:
            if drag.would_sleep():
                yield True
                continue
            step = next(drag)
            self._show(step, drag.stop_distance)
            if step.done:
                return
            yield False

    def _begun(self, drag: Steps) -> None:
        self._drag = drag
        # Asked while it was being prepared.
        if self._stopping.is_set():
            drag.stop()

    def _show(self, step: DragStep, stop_distance: float) -> None:
        ws = step.ws.detach().cpu().numpy()
        if not step.done:
            self._frames.add(ws)
        update = Update(
            index=step.index,
            ws=ws,
            handles=step.handles,
            targets=step.targets,
            distances=step.distances,
            stop_distance=stop_distance,
            seconds=self._seconds,
            loss=step.loss,
            done=step.done,
            outcome=step.outcome,
            way=step.way,
            lost=step.lost,
            rests=step.rests,
            contrast=step.contrast,
        )
        self._publish(update)


class TurnsLiveDrag(TurnsDrag):
    """A drag that follows its targets (`draggan.engine.base.LiveDrag`)."""

    live = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._pointer = threading.Lock()
        self._wanted: Float[np.ndarray, "n 2"] | None = None
        self._settling = False
        self._heard = time.monotonic()

    def retarget(self, targets: Sequence[Any]) -> None:
        """Where the handles are to go from now on."""
        wanted = check_points("target", targets, self.recipe.image_size)
        if len(wanted) != len(self.edit.points):
            raise PointError(f"{len(wanted)} targets were given for {len(self.edit.points)} handles; give one for each")
        with self._pointer:
            self._heard = time.monotonic()
            self._wanted = wanted
            # Read once: the drag may end, and be given back, at any time.
            drag = self._drag
            if drag is not None:
                drag.retarget(wanted)
        self._engine._scheduler.wake(self)

    def settle(self) -> None:
        """From now on it ends like any other drag."""
        with self._pointer:
            self._settling = True
            drag = self._drag
            if drag is not None:
                drag.settle()
        self._engine._scheduler.wake(self)

    def check(self) -> None:
        """Let it settle if its pointer has lost its way to us: one that lets go says so."""
        super().check()
        if not self._settling and time.monotonic() - self._heard > self._limits.silence:
            self.settle()

    def reached(self) -> Recipe:
        """The recipe of the newest picture; the targets are where the handles were sent last."""
        update = self._update
        recipe = super().reached()
        if update is None or recipe is self.recipe:
            return recipe
        points = tuple(
            replace(point, target=(float(x), float(y)))
            for point, (x, y) in zip(self.edit.points, update.targets, strict=True)
        )
        return self.recipe.then(replace(self.edit, points=points, recorded=update.ws), update.ws)

    def _begun(self, drag: Steps) -> None:
        with self._pointer:
            super()._begun(drag)
            if self._wanted is not None:
                drag.retarget(self._wanted)
            if self._settling:
                drag.settle()


class TurnsInversion(_Telling[InversionUpdate]):
    """A photo on its way into a model (`draggan.engine.base.RunningInversion`).

    Args:
        recipe: of the model's mean picture.
        photo: as `TurnsEngine.invert` takes it.
        config: how.
    """

    def __init__(
        self,
        engine: TurnsEngine,
        recipe: Recipe,
        photo: UInt8[np.ndarray, "height width 3"],
        config: InversionConfig,
        visitor: str,
    ) -> None:
        super().__init__(engine, recipe, visitor)
        self._photo, self._config = photo, config
        self._inversion: Inversion | None = None
        self._cancelled = False

    def stop(self) -> None:
        """Good enough: end it with its next step."""
        inversion = self._inversion
        if inversion is not None:
            inversion.stop()
        super().stop()

    def cancel(self) -> None:
        """End it, and keep nothing."""
        self._cancelled = True
        self.stop()

    def reached(self) -> Recipe:
        """The recipe that draws the photo."""
        self.wait()
        if not self.recipe.is_of_photo:
            raise PhotoError("opening the photo was cancelled; nothing of it was kept")
        return self.recipe

    def _run(self) -> Turns[bool, None, None]:
        name, sha256 = self.recipe.model.name, self.recipe.model.sha256
        inversion = self._computing.inversion(name, self._photo, self._config, sha256)
        self._inversion = inversion
        # Asked while it was being prepared.
        if self._stopping.is_set():
            inversion.stop()
        yield False
        for step in inversion:
            if step.done and not self._cancelled:
                # Before anybody hears that it is over: then the recipe is there.
                result = inversion.result
                tuning = self._computing.tunings.keep(result.tuning)
                ws = result.ws.detach().cpu().numpy()
                model = replace(self.recipe.model, tuning=tuning)
                recipe = Recipe(model=model, image_size=self.recipe.image_size, start=ws)
                step = replace(step, picture=result.picture, psnr=result.psnr, verdict=result.verdict)
                self.recipe = recipe
            self._show(step, inversion.steps)
            yield False
            if self._cancelled:
                return

    def _end(self, error: BaseException | None) -> None:
        self._inversion = None
        super()._end(error)

    def _show(self, step: InversionStep, steps: int) -> None:
        update = InversionUpdate(
            index=step.index,
            steps=steps,
            stage=step.stage,
            progress=step.progress,
            seconds=step.seconds,
            seconds_left=step.seconds_left,
            psnr=step.psnr,
            pixels=to_uint8(step.picture),
            verdict=step.verdict,
            done=step.done,
        )
        self._publish(update)


def _with_all_settings(edit: Edit, config: DragConfig) -> Edit:
    """The edit with every setting that it runs with, so that it gives the same picture whatever suits a model later."""
    settings = asdict(config)
    del settings["space"]
    return replace(edit, settings=settings)
