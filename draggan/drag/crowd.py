"""Following the content of so many handles that they describe another picture nearly whole.

Each step of those leads to a picture in which every handle's surroundings are much like they were, since all that is
around it moves along. There the nearest match to what was clicked, as the paper looks for it, is found more exactly
than content is followed, whose errors add up: drags that go by it end nearer to their targets, by the landmark networks
of the built-in models (benchmarks/truth.md). What it says of itself is no better for that. So before such a drag ends,
content is followed along the line all the same (`draggan.drag.line`). Where that leads to the same place, the match is
the more exact one of both; elsewhere, the line's is what is said.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import GaussNewtonRules, at_size
from draggan.drag.continuity import Followed
from draggan.drag.line import LineTracker
from draggan.drag.motion_supervision import Sampler
from draggan.drag.problem import Problem
from draggan.drag.tracking import TemplateTracker, Tracked

__all__ = ["CrowdTracker"]

RULES = GaussNewtonRules()

# Both ways lead to the same place within so many image pixels at 512 px. Of 340 landmarks, 306 truly there, 194 are
# then said to be within 1.2 % of the width of their targets, 2 of them falsely; by the line alone 118, one falsely.
AGREE_WITHIN = 10.0


class CrowdTracker(LineTracker):
    """Looks for each handle by its template on the way, and follows it along the line in the end."""

    looks_itself = False

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._agree_within = at_size(AGREE_WITHIN, problem.size)
        self._by_looks = TemplateTracker(problem, subpixel=True, tolerance=RULES.match_tolerance)

    @torch.no_grad()
    def follow(
        self,
        before: Tracked,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        sampler: Sampler,
        expected: Float[Tensor, "n 2"],
    ) -> Tracked:
        """See `Tracker.follow`."""
        return self._by_looks.follow(before, shift, sampler, expected)

    @torch.no_grad()
    def confirm(self, tracked: Tracked, shift: Float[Tensor, "1 shift_rows w_dim"], *, final: bool) -> Followed:
        """See `Tracker.confirm`."""
        found = super().confirm(tracked, shift, final=final)
        agree = (found.handles - tracked.handles).norm(dim=-1, keepdim=True) <= self._agree_within
        return replace(found, handles=torch.where(agree, tracked.handles, found.handles))
