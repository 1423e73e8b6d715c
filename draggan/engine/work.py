"""What runs in turns with others for as long as somebody watches: a recipe that is completed, a drag, a photo.

How long, and on whose account, is decided here once for all of them; what is computed, subclasses say (`Work._run`).
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from collections.abc import Generator as Turns
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from draggan.config import Limits
from draggan.engine.base import InversionUpdate, Update
from draggan.engine.computing import Computing, SteppedDrag
from draggan.engine.models import ModelSource
from draggan.engine.scheduler import State
from draggan.errors import LimitError
from draggan.recipe import Recipe, Seed

__all__ = ["LOOK", "Completion", "Home", "Watched", "Work", "always"]

# Longer than any step; whoever waits for an end looks again then.
_PATIENCE = 60.0
LOOK = 1.0
"""Seconds between two looks whether somebody still wants what is computed."""

_UpdateT = TypeVar("_UpdateT", Update, InversionUpdate)


def always() -> bool:
    """It is wanted, whatever happens."""
    return True


@runtime_checkable
class Home(Protocol):
    """What work asks of the engine that it runs in.

    Attributes:
        models: what is known of models.
        computing: what computes.
        limits: what one visitor may have.
    """

    models: ModelSource
    computing: Computing
    limits: Limits

    def wake(self, work: Work) -> None:
        """There is something to do for it again."""

    def over(self, work: Work, outcome: str) -> None:
        """It is over; an empty outcome is that of something that is not a drag."""

    def give_memory_back(self) -> None:
        """What it held may be free now."""


class Work:
    """Something that runs in turns with others, and whoever waits for it.

    Attributes:
        recipe: with more and more results.
        visitor: whose budget it counts in.
        called: what people call it.
        why: what has made the engine end it; empty: nothing has.
        seconds: of computing so far.
    """

    called = "drag"

    def __init__(self, home: Home, recipe: Recipe, visitor: str) -> None:
        self.recipe = recipe
        self.visitor = visitor
        self._home = home
        self._limits, self._computing = home.limits, home.computing
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._over = False
        self.why = self._notice = ""
        self.seconds = 0.0
        self._watched = time.monotonic()
        self._turns = self._run()
        # What runs for it now, and what computes a result that its recipe lacks: two drags of which only the first is
        # what whoever watches wants to steer.
        self._stepped: SteppedDrag | None = None
        self._completing: SteppedDrag | None = None

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
        # Read once each: a drag may end, and be given back, at any time.
        for drag in (self._completing, self._stepped):
            if drag is not None:
                drag.stop()
        self._home.wake(self)

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end; True: it has come."""
        self._watched = time.monotonic()
        with self._changed:
            over = self._changed.wait_for(lambda: self._over, patience)
        self._watched = time.monotonic()
        return over

    def wait(self, wanted: Callable[[], bool] = always) -> None:
        """Wait for the end, and bring it about once nobody wants it; raises what it failed with."""
        # Not longer at a time than the limit of watching.
        patience = min(_PATIENCE if wanted is always else LOOK, self._limits.unwatched / 2)
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
        self.seconds += time.perf_counter() - started
        if resting is None:
            self._end(None)
            return "over"
        if self.seconds > self._limits.seconds:
            self._give_up(f"the {self.called} has used the {self._limits.seconds:g} s that one may take here")
        return "resting" if resting else "ready"

    def check(self) -> None:
        """End it if nobody looks at it any more."""
        if time.monotonic() - self._watched > self._limits.unwatched:
            self._give_up(f"nobody has looked at the {self.called} for {self._limits.unwatched:g} s")

    def _give_up(self, why: str) -> None:
        if not self._stopping.is_set():
            self.why = why
            self._notice = f"{why}; it was stopped, and what it has reached is kept"
            self.stop()

    def _end(self, error: BaseException | None) -> None:
        # What the drag holds is given back, though somebody may keep this for its result.
        self._turns.close()
        self._stepped = self._completing = None
        self._home.over(self, "failed" if error is not None else self._outcome())
        with self._changed:
            self._error, self._over = error, True
            self._changed.notify_all()
        self._home.give_memory_back()

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
        suited = self._home.models.find(self.recipe.model.name).settings
        for number, edit in enumerate(self.recipe.edits):
            if results[number + 1] is not None:
                continue
            known = self.recipe.up_to(number).with_results(results[: number + 1])
            self._completing = self._computing.steps(known, edit, edit.config(suited), live=False)
            yield False
            for step in self._completing:
                if self._stopping.is_set():
                    return
                results[number + 1] = step.ws.detach().cpu().numpy()
                yield False
        self._completing = None
        self.recipe = self.recipe.with_results(results)


class Completion(Work):
    """Computes what a recipe lacks."""

    called = "picture"

    def wait(self, wanted: Callable[[], bool] = always) -> None:
        """Wait for the end; raises what it failed with, or why it was stopped."""
        super().wait(wanted)
        if not self.recipe.is_complete:
            raise LimitError(
                f"{self.why or 'it was stopped'} before all pictures of the recipe were known; give the latents of "
                "its edits with it, or ask for fewer at once"
            )


class Watched(Work, Generic[_UpdateT]):
    """Work that publishes updates to whoever watches it."""

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
