"""Which steps are not taken although they lead nearer: those after which nothing true could be said."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from draggan.drag.problem import Problem
from draggan.drag.tracking import Tracked

__all__ = ["Refusal", "refused", "trusted"]

Refusal = Literal["lost", "unlikely", "far"]
"""Why a step that leads nearer is not taken.

* "lost": the content of a handle would no longer be seen; of many handles, that of more than a third.
* "unlikely": it would lead beyond what the model knows (`DragConfig.max_departure`).
* "far": likewise, with the pulls by hand that came before this one; each of them alone went no farther than it may.
"""

# More of the handles than this lose their content: the step is not taken. One of many does not hold up the others.
MOST_LOST = 1 / 3


def refused(
    problem: Problem,
    shift: Float[Tensor, "1 moves w_dim"],
    tracked: Tracked,
    new_shift: Float[Tensor, "1 moves w_dim"],
    new_tracked: Tracked,
) -> Refusal | None:
    """Why a step from one latent to a new one is not taken; None if nothing speaks against it.

    Nothing is refused as published, where content is not followed. A step that leads back is never refused, nor one
    that only leaves lost what was lost already.
    """
    if not problem.follows:
        return None
    lost = new_tracked.lost & ~tracked.lost
    if int(lost.sum()) > MOST_LOST * len(lost):
        return "lost"
    far = problem.departure(new_shift)
    if far > problem.max_departure and far > problem.departure(shift):
        return "unlikely"
    together = problem.departed_together(new_shift)
    if together > problem.max_together and together > problem.departed_together(shift):
        return "far"
    return None


def trusted(tracked: Tracked) -> bool:
    """Whether a picture may be what a drag that does not arrive ends with: the places of the handles are as good as
    certain, of many those of two thirds."""
    return int((~tracked.sure).sum()) <= MOST_LOST * len(tracked.sure)
