"""When a drag ends, and why: decided from what a step has found out, without a look at anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from draggan.config import FEW_HANDLES, at_size
from draggan.drag.refusal import Refusal

__all__ = ["RESTS", "Findings", "Outcome", "Patience", "Progress", "close", "decide", "told"]

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
* "lost": one of two things. Every step that leads nearer would lose the content of a handle. Then the nearest picture
  in which all places were as good as certain (of many handles, two thirds) is kept, and `DragStep.lost` is False for
  them. Or the handles are within the stop distance, but the content of some is not certain to be there; `DragStep.lost`
  says of which.
* "max_steps": the limit was reached.
* "stopped": `Drag.stop` was called, and not all handles were within the stop distance.
* "diverged": the loss was no longer a finite number. `Drag` finds that out; no other outcome is decided there.
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
        lost: nothing may be claimed of some handle, since its content is not certain to be there.
        gone: why the drag may not go on to this picture, although its solver has taken the step (Adam's).
        converged: nothing is left to improve once the handles have arrived; False while mask steps remain.
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


_WITHOUT: dict[Refusal, str] = {
    "lost": "losing the content",
    "unlikely": "a picture unlike any that the model makes",
    "far": "going farther than pulls together may",
}


def told(found: Findings, outcome: Outcome | None) -> str:
    """What a decision was made from, and the decision, in words for people who want to know.

    Args:
        outcome: what was decided.
    """
    facts = []
    if found.gone is not None:
        facts.append(f"this step cannot be taken without {_WITHOUT[found.gone]}")
    if found.within_stop_distance:
        facts.append("within the stop distance" + (", to come nearer yet" if found.pulled and outcome is None else ""))
        if not (found.pulled or found.converged):
            facts.append("what changed outside the mask can still be made up for")
    elif found.close:
        facts.append("as near as anybody could tell")
    if found.lost:
        facts.append("the content is not certain to be there")
    if found.stuck:
        facts.append("no step leads nearer" + (f" without {_WITHOUT[found.refusal]}" if found.refusal else ""))
    if found.idle_steps:
        facts.append(f"no progress for {found.idle_steps} of {found.stall_steps} steps")
    if found.stopped:
        facts.append("told to stop")
    elif found.last:
        facts.append("the step limit is reached")
    rests = found.live and outcome in RESTS
    facts.append("goes on" if outcome is None else f"{'rests' if rests else 'ends'} as {outcome}")
    return "; ".join(facts)


def decide(found: Findings) -> Outcome | None:
    """Why the drag ends here (a live one: rests here); None: it goes on.

    In this order:

    1. `gone`: for that reason.
    2. A drag that would end within the stop distance, for whatever reason: "lost" if any content is lost, else
       "arrived", even if it was stopped or is out of steps. One that is there, or was stopped there, with something
       left to improve may go on.
    3. "stopped".
    4. "max_steps".
    5. No step leads nearer, or none has for long: the solver's `refusal`, else "stalled".

    Instead of 4 and 5 it is "arrived" if what is left is no more than anybody could tell (`close`), no content is lost
    and the drag is not live. "diverged" is `Drag`'s to say.
    """
    if found.gone is not None:
        return found.gone
    outcome: Outcome
    if not found.pulled:
        outcome = "arrived"
    elif found.stopped:
        outcome = "stopped"
    elif found.last:
        outcome = "max_steps"
    elif found.stuck or found.idle_steps >= found.stall_steps:
        outcome = found.refusal or "stalled"
    else:
        return None
    if found.within_stop_distance:
        if found.lost:
            return "lost"
        finished = found.converged or found.live or found.last or found.stuck
        return "arrived" if finished or outcome not in ("arrived", "stopped") else None
    as_good_as_there = found.close and not (found.lost or found.live)
    return "arrived" if as_good_as_there and outcome != "stopped" else outcome
