"""When a drag ends, and why: decided from what a step has found out, without a look at anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from draggan.config import FEW_HANDLES, at_size
from draggan.drag.refusal import Refusal

__all__ = ["RESTS", "Findings", "Outcome", "Patience", "Progress", "close", "decide"]

Outcome = Literal["arrived", "stalled", "unlikely", "far", "lost", "max_steps", "stopped", "diverged"]
"""Why a drag ended.

* "arrived": the content of every handle is within the stop distance of its target, or goes no farther and is as near as
  anybody could tell (`close`). With a mask, Gauss-Newton goes on for some steps then, which make up for what has
  changed outside.
* "stalled": as far as it goes. No progress for as many steps as the solver has patience (`Solver.patience`), or no step
  of it, however short, leads nearer: the model knows no such picture, or not on this way.
* "unlikely": likewise, because farther on the picture would be unlike any that the model knows
  (`DragConfig.max_departure`).
* "far": likewise, of pulls by hand that followed one another: they have led together as far as they may from the
  picture that the first of them began with.
* "lost": the content of a handle is no longer to be seen, or would not be after any step that leads nearer. The last
  picture in which it was is kept. Of many handles: all are where they should be, but of some that is not known for
  certain (`DragStep.lost`).
* "max_steps": the limit was reached.
* "stopped": `Drag.stop` was called.
* "diverged": the loss was no longer a finite number.
"""

RESTS: tuple[Outcome, ...] = ("arrived", "stalled", "unlikely", "far", "lost")
"""With these a live drag rests until there are other targets."""


@dataclass(frozen=True)
class Patience:
    """How long a drag goes on without progress.

    Attributes:
        steps: so many are too many.
        least: how many image pixels nearer count as progress, summed over the handles.
    """

    steps: int
    least: float


@dataclass(frozen=True)
class Progress:
    """The last progress worth the name.

    Attributes:
        index: the step that made it.
        distance: of all handles together from their targets then, image pixels.
    """

    index: int = 0
    distance: float = float("inf")

    def after(self, index: int, distance: float, least: float) -> Progress:
        """With one more step.

        Args:
            distance: image pixels, likewise.
            least: how many pixels nearer count as progress.
        """
        nearer = distance < self.distance and distance <= self.distance - least
        return Progress(index, distance) if nearer else self


# A drag that can go no farther has arrived all the same within so many image pixels at 512 px, if content is followed:
# nobody could tell more exactly where it is. Of one or two handles without a mask half as near: of what one claimed
# farther away, although a second look agreed, 76 of 97 were true, of what it claimed nearer 1873 of 1989. With a
# tracker that only looks for what resembles the start, within so many stop distances.
CLOSE, CLOSE_OF_FEW, CLOSE_BY_LOOKS = 8.0, 4.0, 1.5


def close(
    distances: Float[Tensor, "n"],
    stop_distance: float,
    image_size: tuple[int, int],
    *,
    follows: bool,
    masked: bool = False,
) -> bool:
    """Whether a drag that can go no farther has arrived all the same.

    Args:
        distances: of the handles from their targets, image pixels.
        stop_distance: image pixels.
        follows: the content of the handles is followed.
        masked: something is to be held besides.
    """
    limit = CLOSE_BY_LOOKS * stop_distance
    if follows and not masked and len(distances) <= FEW_HANDLES:
        limit = max(at_size(CLOSE_OF_FEW, image_size), stop_distance)
    elif follows:
        limit = max(at_size(CLOSE, image_size), limit)
    return bool((distances <= limit).all())


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a decision is made from.

    Attributes:
        pulled: a handle is still farther from its target than the drag is to bring it.
        close: see `close`.
        within_stop_distance: no handle is farther from its target than the stop distance.
        live: the targets may still move.
        stopped: somebody wants the drag to end with this step.
        last: there are no steps left.
        stuck: the solver finds no step that leads nearer.
        refusal: the solver finds some, and why it does not take them.
        lost: the content of a handle is lost, so nothing may be claimed of it.
        gone: there is nothing left to follow here, or the picture is beyond what the model knows: why.
        converged: once the handles have arrived, there is nothing else to improve.
        idle_steps: how many steps ago the last progress was.
        stall_steps: so many are too many.
    """

    pulled: bool
    within_stop_distance: bool
    live: bool
    stopped: bool
    last: bool
    stuck: bool
    converged: bool
    idle_steps: int
    stall_steps: int
    refusal: Refusal | None = None
    close: bool = False
    lost: bool = False
    gone: Refusal | None = None


def decide(found: Findings) -> Outcome | None:
    """Why the drag ends here (a live one: rests here); None: it goes on."""
    outcome: Outcome | None = None
    if found.gone is not None:
        return found.gone
    if not found.pulled:
        outcome = "arrived"
    elif found.stopped:
        outcome = "stopped"
    elif found.last:
        outcome = "max_steps"
    elif found.stuck or found.idle_steps >= found.stall_steps:
        outcome = found.refusal or "stalled"
    if outcome is not None and found.within_stop_distance and found.lost:
        return "lost"
    if (
        outcome in ("stalled", "unlikely", "far", "lost", "max_steps")
        and found.close
        and not (found.lost or found.live)
    ):
        # What is left is no more than how exactly anybody could tell.
        return "arrived"
    if outcome is not None and found.within_stop_distance:
        # However a drag ends there, it has arrived; only what is left to improve may be worth another step.
        hurried = found.live or found.last or found.stuck
        return "arrived" if hurried or found.converged else None
    return outcome
