"""Which steps are not taken although they lead nearer: those after which nothing true could be said."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from draggan.drag.problem import Problem
from draggan.drag.tracking import Tracked
from torch_utils.transfer import to_host

__all__ = ["Refusal", "fetch_at_once", "refused", "trusted"]

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
    shift: Float[Tensor, "1 shift_rows w_dim"],
    tracked: Tracked,
    new_shift: Float[Tensor, "1 shift_rows w_dim"],
    new_tracked: Tracked,
) -> Refusal | None:
    """Why a step from one latent to a new one is not taken; None if nothing speaks against it.

    Where content is not followed (the published method), nothing is refused. A step that leads back never is, nor one
    that only leaves lost what was lost already.
    """
    if not problem.regime.follows:
        return None
    fetch_at_once(problem, new_shift, new_tracked)
    departures, now = to_host(problem.departures(new_shift), new_tracked.lost)
    (before,) = to_host(tracked.lost)
    lost = now & ~before
    if int(lost.sum()) > MOST_LOST * len(lost):
        return "lost"
    limits: tuple[tuple[Refusal, float], ...] = ("unlikely", problem.max_departure), ("far", problem.max_together)
    for k, (reason, limit) in enumerate(limits):
        if departures[k] > limit:
            (since,) = to_host(problem.departures(shift))
            if departures[k] > since[k]:
                return reason
    return None


def fetch_at_once(
    problem: Problem, shift: Float[Tensor, "1 shift_rows w_dim"], tracked: Tracked, *more: Tensor
) -> None:
    """Copy everything that is decided by, for one latent, to the host at once (`torch_utils.transfer.to_host`).

    Args:
        more: what else.
    """
    far = (problem.departures(shift),) if problem.regime.follows else ()
    to_host(*far, tracked.lost, tracked.handles, tracked.sure, *more)


def trusted(tracked: Tracked) -> bool:
    """Whether a picture may be what a drag that does not arrive ends with: the places of the handles are as good as
    certain, of many those of two thirds."""
    (sure,) = to_host(tracked.sure)
    return int((~sure).sum()) <= MOST_LOST * len(sure)
