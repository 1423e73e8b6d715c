"""A second look at what one or two handles are said to have reached.

Before a drag says that they have arrived, their content is looked for once more: along the straight line from the
drag's first latent (`draggan.drag.line`), through pictures that no step has seen, by nearer surroundings than steps
follow it by, and in features of the next finer level. Where it is elsewhere, the drag goes on from there; where both
ways still lead to different places in the end, nothing is claimed.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import at_size
from draggan.drag.continuity import LEAST_SIMILAR, ContinuityTracker, Followed
from draggan.drag.line import Line
from draggan.drag.problem import STRETCHED_BEYOND, Problem
from draggan.drag.step import FADED
from draggan.drag.tracking import Tracked
from torch_utils.transfer import to_host

__all__ = ["SecondLookTracker"]

log = logging.getLogger(__name__)

# Lengths are image pixels at 512 px.
# In the end the line must lead within this of the place.
AGREES_WITHIN = 6.0
# A place already moved once is not moved again if the line leads farther than this.
MOVES_AGAIN_WITHIN = 16.0
# Nothing is claimed of a place that was moved by more.
MOVED_AT_MOST = 16.0
# What lies between two handles that share surroundings does not count. Where the line leads it farther than this from
# where it should be then, and it looks much like the start, one of both looks has erred, and nothing is claimed.
TORN_BEYOND = 15.0
# So much like the start, as similarity: between lips or lids that move there is something else.
BETWEEN_SIMILAR = 0.75
# Nor is anything claimed of handles that share surroundings where what does count has changed by more than this, taken
# for a displacement; of all others, by more than their place is as good as certain with (`Lengths.surely_largest`).
CHANGED_AT_MOST = 40.0
# Where the picture was stretched between two (`Problem.stretched`), and nothing else shows there, nothing is claimed of
# a handle where more has changed than this, taken for a displacement, or than this share of the distance between the
# two, if that is more. Of claims that it was not chosen on, that leaves about a third of the true ones: 74 of 78
# (benchmarks/truth.md).
CHANGED_AT_MOST_STRETCHED = 13.0
CHANGED_SHARE_STRETCHED = 0.07
# Beside a handle that stays all looks as it did in any case, so that is not asked. It stays if it goes less than this
# share of how far they have moved against each other.
STAYS = 0.25


class SecondLookTracker(ContinuityTracker):
    """Follows the content of few handles by continuity; what it is said to have reached, a second look confirms."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        size = problem.size
        self._agrees_within, self._moves_again_within = at_size(AGREES_WITHIN, size), at_size(MOVES_AGAIN_WITHIN, size)
        self._moved_at_most, self._torn_beyond = at_size(MOVED_AT_MOST, size), at_size(TORN_BEYOND, size)
        self._changed_at_most_stretched = at_size(CHANGED_AT_MOST_STRETCHED, size)

    @cached_property
    def _line(self) -> Line:
        return Line(self._problem, self._problem.second_pattern)

    @cached_property
    def _line_between(self) -> Line | None:
        """By what lies between two handles; None where that counts, or there is none."""
        between = self._problem.second_pattern.between
        return None if between is None else Line(self._problem, between)

    @cached_property
    def _changed_at_most(self) -> float:
        """How much content of which something is claimed may have changed, taken for a displacement, image pixels."""
        if self._pattern.leaves_out:
            # Steps lose such handles less soon.
            return at_size(CHANGED_AT_MOST, self._problem.size)
        # What a mask cuts through looks different in any case.
        return math.inf if self._problem.masked else self._lengths.surely_largest

    @torch.no_grad()
    def confirm(self, tracked: Tracked, shift: Float[Tensor, "1 shift_rows w_dim"], *, final: bool) -> Tracked:
        """See `Tracker.confirm`. In the end places stay, and those that the line does not lead to are lost."""
        assert isinstance(tracked, Followed)
        places, similar = self._line.leads(shift, tracked.handles, self._problem.stop_distance)
        away = (places - tracked.handles).norm(dim=-1)
        found = self._concluded(tracked, shift, places, away, similar, final=final)
        if log.isEnabledFor(logging.DEBUG):
            self._tell(tracked, found, away, similar, final=final)
        return found

    def _concluded(
        self,
        tracked: Followed,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        places: Float[Tensor, "n 2"],
        away: Float[Tensor, "n"],
        similar: Float[Tensor, "n"],
        *,
        final: bool,
    ) -> Followed:
        """What becomes of the places.

        Args:
            places, away, similar: where the line leads, how far that is from them, and how much it is like the start.
        """
        elsewhere = away > self._problem.stop_distance
        again = (tracked.corrected > 0) & (away > self._moves_again_within)
        if not final and elsewhere.any() and not again.any():
            return self.moved(tracked, places, torch.where(elsewhere, away, 0), shift)
        moved_too_far = tracked.corrected > self._moved_at_most
        lost = tracked.lost | (away > self._agrees_within) | moved_too_far | (similar < LEAST_SIMILAR)
        lost = lost | (tracked.displacement > self._changed_at_most)
        (known,) = to_host(lost)
        if not known.all() and self._problem.regime.minds_fading:
            contrast = self._problem.contrast(shift)
            log.debug("the features vary by %.2f of what they did at first (at least %.2f)", contrast, FADED)
            if contrast < FADED:
                # What has melted is like the start in few things, and those are easily found somewhere.
                lost = known = torch.ones_like(lost)
        if self._problem.regime.pair and not known.all():
            lost = lost | self._contradicted(tracked, shift)
        if torch.equal(lost, tracked.lost):
            return tracked
        return replace(tracked, lost=lost, certain=tracked.certain & ~lost)

    def _contradicted(self, tracked: Followed, shift: Float[Tensor, "1 shift_rows w_dim"]) -> Bool[Tensor, "n"]:
        """Whose place is put in doubt by what has become of what lies between the two handles."""
        stretched, between = self._stretched(tracked), self._line_between
        if between is None:
            return stretched
        places, similar = between.leads(shift, tracked.handles, self._torn_beyond)
        away = (places - tracked.handles).norm(dim=-1)
        if log.isEnabledFor(logging.DEBUG):
            told = zip(*(t.tolist() for t in to_host(away, similar)), strict=True)
            log.debug(
                "what lies between the points is found %s (limit %.1f, if more than %.2f)",
                " and ".join(f"{far:.1f} px from where it should be, likeness {alike:.2f}" for far, alike in told),
                *(self._torn_beyond, BETWEEN_SIMILAR),
            )
        alike = similar > BETWEEN_SIMILAR
        # Between lips or lids all that move see something else; where one does not, the other may have lost its way.
        way = (tracked.handles - self._problem.clicked_at).norm(dim=-1)
        moves = way >= STAYS * self._problem.moved_against(tracked.handles)
        return (alike & (away > self._torn_beyond)) | (stretched & (alike & moves).any())

    def _stretched(self, tracked: Followed) -> Bool[Tensor, "n"]:
        """Which of two handles have changed too much to be claimed, if the picture was stretched between them."""
        problem = self._problem
        if not problem.regime.minds_stretching:
            return torch.zeros_like(tracked.lost)
        one, other = problem.clicked_at
        most = (CHANGED_SHARE_STRETCHED * (other - one).norm()).clamp(min=self._changed_at_most_stretched)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "the points have moved against each other by %.1f px (stretched beyond %.1f: changed by %.1f at most)",
                *(float(problem.moved_against(tracked.handles)), problem.pixels(STRETCHED_BEYOND), float(most)),
            )
        return problem.stretched(tracked.handles) & (tracked.displacement > most)

    def _tell(
        self, before: Followed, after: Followed, away: Float[Tensor, "n"], similar: Float[Tensor, "n"], *, final: bool
    ) -> None:
        """Log what is decided by. Copies it to the host, so only where somebody wants to know."""
        moved = (after.handles - before.handles).norm(dim=-1)
        facts = (away, before.corrected, similar, before.displacement, moved, after.lost)
        values = (t.tolist() for t in to_host(*facts))
        goes_on, doubted = "the drag goes on from where it was found", "not certain to be there"
        for k, (leads, corrected, likeness, changed, by, lost) in enumerate(zip(*values, strict=True), 1):
            log.debug(
                "%s look at point %d: found %.1f px from where the steps followed it to (limit %.1f), moved %.1f px by "
                "earlier looks (limit %.1f), likeness %.2f (at least %.2f), changed by %.1f px (%s); %s",
                *("last" if final else "second", k, leads, self._agrees_within, corrected, self._moved_at_most),
                *(likeness, LEAST_SIMILAR, changed, _limit(self._changed_at_most)),
                goes_on if by else doubted if lost else "confirmed",
            )


def _limit(most: float) -> str:
    return f"limit {most:.1f}" if math.isfinite(most) else "no limit"
