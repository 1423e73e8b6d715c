"""A solver goes from one latent to the next. Targets, ends and the best latent are the drag's, for every solver."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag.mask import MaskView
from draggan.drag.problem import Problem
from draggan.drag.refusal import Refusal
from draggan.drag.stopping import Patience
from draggan.drag.tracking import Tracked, Tracker
from draggan.generators.base import Generator

__all__ = ["Evaluation", "Kept", "Solver", "Stuck", "never"]


def never() -> bool:
    """Nobody wants it to stop."""
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(abc.ABC):
    """A latent and what a solver knows of it: all that it needs to go on from here.

    Attributes:
        shift: by how much the free rows differ from those the drag began with.
        tracked: where the content of the handles is.
        converged: nothing is left to improve once the handles have arrived; False while mask steps remain.
    """

    shift: Float[Tensor, "1 shift_rows w_dim"]
    tracked: Tracked
    converged: bool = True

    @abc.abstractmethod
    def loss(self, targets: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
        """The supervision loss here (Eq. 1), for these targets."""

    def forget(self) -> None:  # noqa: B027 - most keep nothing of the kind
        """Give up what only a step from here needs, and what would be kept in memory for it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """An evaluation without what can be computed again from the problem: values only, for `Solver.resumed`.

    Attributes:
        shift, tracked, converged: as in `Evaluation`.
    """

    shift: Float[Tensor, "1 shift_rows w_dim"]
    tracked: Tracked
    converged: bool


AnEvaluation = TypeVar("AnEvaluation", bound=Evaluation)


@dataclass(frozen=True, eq=False)
class Stuck(Generic[AnEvaluation]):
    """No step leads nearer.

    Attributes:
        evaluation: the latent that the step began with, and what was learned there. From here a drag goes on if it is
            given other targets.
        refusal: why the steps that lead nearer are not taken; None: there are none.
    """

    evaluation: AnEvaluation
    refusal: Refusal | None = None


class Solver(abc.ABC, Generic[AnEvaluation]):
    """Takes evaluations and returns others; in itself it changes nothing that shows.

    Attributes:
        second_order: its steps solve for where the handles go (Gauss-Newton), instead of going along a gradient a pixel
            at a time: so a hand can lead it, handles are sent all the way, and it takes likely ways
            (`draggan.drag.regime`).
        subpixel: whether the paper's tracker goes on to fractions of a pixel for it (`tracking.TemplateTracker`).
        match_tolerance: how much worse than the best a handle may match where it was expected, see `tracking.track`.
    """

    second_order: ClassVar[bool] = False
    subpixel: ClassVar[bool] = False
    match_tolerance: ClassVar[float] = 0.0

    def __init__(self, problem: Problem, tracker: Tracker) -> None:
        self.problem, self.tracker = problem, tracker

    def again(self, here: AnEvaluation) -> AnEvaluation:
        """The same latent, where the step that was taken from it does not count: another can be taken."""
        return here

    @classmethod
    def mask_view(cls, generator: Generator, config: DragConfig, level: str) -> MaskView:
        """What a change outside the mask is measured on: the features dragged on."""
        return MaskView(level=level, picture=False)

    @abc.abstractmethod
    def patience(self, here: AnEvaluation, targets: Float[Tensor, "n 2"]) -> Patience:
        """How long it is worth going on from here without progress."""

    @abc.abstractmethod
    def initial(self, handles: Float[Tensor, "n 2"], *, last: bool = False) -> AnEvaluation:
        """The latent that the drag begins with.

        Args:
            handles: where they are in its picture.
            last: no step will be taken from here, so nothing needs a gradient.
        """

    @abc.abstractmethod
    def kept(self, here: AnEvaluation) -> Kept:
        """What is needed to go on from there elsewhere."""

    @abc.abstractmethod
    def resumed(self, kept: Kept) -> AnEvaluation:
        """The evaluation of which that was kept, by a solver of the same problem."""

    def begin_again(self) -> None:
        """Show the tracker the first picture: where content is followed, the end is compared with it."""
        if self.problem.regime.follows:
            self.initial(self.problem.handles)

    @abc.abstractmethod
    def confirmed(self, here: AnEvaluation, *, final: bool) -> AnEvaluation:
        """The same latent with a second look at where its content is (`Tracker.confirm`), or the same object.

        Args:
            final: the drag does not go on.
        """

    @abc.abstractmethod
    def step(
        self,
        here: AnEvaluation,
        targets: Float[Tensor, "n 2"],
        *,
        last: bool = False,
        stopped: Callable[[], bool] = never,
    ) -> AnEvaluation | Stuck[AnEvaluation]:
        """One step from here towards the targets.

        Args:
            last: no step will be taken from where it leads.
            stopped: asked between attempts; once it is true no more are made.
        """
