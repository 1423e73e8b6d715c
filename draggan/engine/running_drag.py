"""Drags under way, in turns with others: one that ends by itself, and one that follows targets."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Generator as Turns
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from draggan.config import DragConfig
from draggan.drag import DragStep
from draggan.engine.base import Update
from draggan.engine.computing import Drawing, Facts, SteppedDrag
from draggan.engine.frames import EvenFrames
from draggan.engine.work import Home, Watched
from draggan.errors import PointError
from draggan.points import check_points
from draggan.recipe import Edit, Recipe

__all__ = ["TurnsDrag", "TurnsLiveDrag"]


class TurnsDrag(Watched[Update]):
    """A drag under way (`draggan.engine.base.RunningDrag`).

    Args:
        edit: with all settings.
        config: the same settings.
    """

    live = False

    def __init__(
        self,
        home: Home,
        facts: Facts,
        recipe: Recipe,
        edit: Edit,
        config: DragConfig,
        visitor: str,
    ) -> None:
        super().__init__(home, recipe, visitor)
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

    def _begun(self, drag: SteppedDrag) -> None:
        self._stepped = drag
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
            seconds=self.seconds,
            loss=step.loss,
            done=step.done,
            outcome=step.outcome,
            way=step.way,
            lost=step.lost,
            rests=step.rests,
            contrast=step.contrast,
            stretched=step.stretched,
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
            drag = self._stepped
            if drag is not None:
                drag.retarget(wanted)
        self._home.wake(self)

    def settle(self) -> None:
        """From now on it ends like any other drag."""
        with self._pointer:
            self._settling = True
            drag = self._stepped
            if drag is not None:
                drag.settle()
        self._home.wake(self)

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
        return self.recipe.then(replace(self.edit, points=points, recorded=update.ws, by_hand=True), update.ws)

    def _begun(self, drag: SteppedDrag) -> None:
        with self._pointer:
            super()._begun(drag)
            if self._wanted is not None:
                drag.retarget(self._wanted)
            if self._settling:
                drag.settle()
