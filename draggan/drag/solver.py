"""What proposes the next latent of a drag. Tracking, stop, stall, best and history are the drag's, for every solver."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag.hold import View
from draggan.drag.motion import Sampler
from draggan.drag.problem import Problem
from draggan.generators.base import Generator

__all__ = ["Proposal", "Solver", "Verdict"]

# "good": go on from here; "again": the solver has another step to try instead; "stuck": no step leads nearer.
Verdict = Literal["good", "again", "stuck"]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A latent to go to.

    Attributes:
        shift: by how much the free rows differ from those the drag began with.
        handles: about where the handles will be then, image pixels, inside the picture.
    """

    shift: Float[Tensor, "1 moves w_dim"]
    handles: Float[Tensor, "n 2"]


class Solver(abc.ABC):
    """Called by a drag in this order: `look`, `loss`, then over and over `propose`, `look`, `judge`, `loss`.

    Attributes:
        problem: what is dragged.
        stall_steps: so many steps without progress end a drag.
        subpixel: whether it makes use of handles tracked to fractions of a pixel.
        tolerance: how much worse than the best a handle may match where it was expected, see `tracking.track`.
    """

    subpixel = False
    tolerance = 0.0

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @classmethod
    def view(cls, generator: Generator, config: DragConfig, level: str) -> View:
        """What a solver of this kind measures a change outside the mask on: the features dragged on."""
        return View(level=level, picture=False)

    @property
    def settled(self) -> bool:
        """Whether a drag whose handles have arrived is done, or there is something else to improve."""
        return True

    @property
    @abc.abstractmethod
    def stall_steps(self) -> int: ...

    @abc.abstractmethod
    def look(self, proposal: Proposal, *, last: bool) -> Sampler:
        """Compute the features of a proposed latent around where its handles should be.

        Args:
            last: nothing will be proposed from here.
        """

    @abc.abstractmethod
    def loss(
        self,
        handles: Float[Tensor, "n 2"],
        d: Float[Tensor, "n 2"],
        pulled: Bool[Tensor, "n"],
    ) -> float:
        """The supervision loss at the latent looked at, with its handles tracked.

        Args:
            d: unit vectors from handles to targets.
            pulled: handles that have not arrived.
        """

    @abc.abstractmethod
    def propose(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> Proposal:
        """A step from the latent looked at last (from the one before, if that was not judged good)."""

    def judge(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> Verdict:
        """Whether the step is to be kept, given where it took the handles."""
        return "good"

    def another(self) -> Proposal:
        """What to try instead, after "again"."""
        raise NotImplementedError(f"{type(self).__name__} takes no step back")
