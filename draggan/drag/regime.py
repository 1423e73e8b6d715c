"""What kind of drag this is: how many handles, with a mask or by hand, with which solver and tracker.

Rules that differ by that ask here. `docs/method.md` has all of them as one table ("What differs by the kind of drag").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from draggan.config import FEW_HANDLES, DragConfig, GaussNewtonRules, at_size

__all__ = ["Freedom", "Regime", "freedom"]

# A way up to this length, image pixels at 512 px, needs only a share of the naturalness: a natural step changes the
# whole picture until the place looks right. Of 420 pulls by 5 and 10 % of the width 405 truly arrive that way, 385 with
# all of it; of the claims 386 of 394 are true, 365 of 384; in 0.75 of the time. By 15 % of the width more claims are
# false with less.
SHORT_WAY = 64.0
# That share is the one that its length is of this one, image pixels at 512 px.
NATURAL_WAY = 100.0
# No less than this share, of one handle.
LEAST_NATURAL = 0.25
# The same of two.
LEAST_NATURAL_OF_TWO = 0.5

# From so many handles on they are looked for by their templates on the way (`draggan.drag.crowd`).
CROWD = 8

RULES = GaussNewtonRules()


@dataclass(frozen=True, kw_only=True)
class Regime:
    """What kind of drag this is.

    Attributes:
        handles: how many there are.
        masked: something is held outside a mask: by the loss, or by the picture itself.
        blended: it is held by the picture itself.
        follows: content is followed from picture to picture, instead of looked for by its template.
        second_order: the solver's steps are those of Gauss-Newton (`Solver.second_order`).
        live: the drag began with targets that move while it runs.
    """

    handles: int
    masked: bool
    blended: bool
    follows: bool
    second_order: bool
    live: bool

    @property
    def alone(self) -> bool:
        """One handle."""
        return self.handles == 1

    @property
    def pair(self) -> bool:
        """Two handles, whatever counts as few: the rules for these are about one and the other."""
        return self.handles == 2

    @property
    def few(self) -> bool:
        """One or two handles, which ask for some change of this picture."""
        return self.handles <= FEW_HANDLES

    @property
    def many(self) -> bool:
        """Three handles or more, which describe another picture."""
        return not self.few

    @property
    def by_hand(self) -> bool:
        """A pointer leads the drag, and steps can follow it as closely as a person sees."""
        return self.live and self.second_order

    @property
    def along_lines(self) -> bool:
        """Content is followed in whole pictures, and said to be known at the end only (`draggan.drag.line`)."""
        return self.follows and self.second_order and self.many

    @property
    def crowd(self) -> bool:
        """So many that steps go by what resembles each of them most; what is said at the end does not go by that."""
        return self.along_lines and self.handles >= CROWD

    @property
    def looks_again(self) -> bool:
        """What has arrived is looked for once more, in finer features (`draggan.drag.second_look`)."""
        return self.follows and not self.along_lines

    @property
    def holds(self) -> bool:
        """Steps are to leave what is outside a mask as it was, as well as they can.

        Those of few handles need not where the picture itself holds it: the latent has to fit there, and no more.
        """
        return self.masked and not (self.blended and self.few)

    @property
    def restores(self) -> bool:
        """Few handles that Gauss-Newton follows, and nothing to hold, which would ask for all around to look as it did.

        Steps make up for what has changed under these handles, go all the way to the targets, and need be less natural
        where that is short.
        """
        return self.follows and self.second_order and self.few and not self.holds

    @property
    def lets_go(self) -> bool:
        """For the last bit of the way the rows of the latent may part as they like. A hand goes another way instead."""
        return self.restores and not self.by_hand

    @property
    def minds_fading(self) -> bool:
        """Nothing is claimed of a picture that has faded (`FADED`). A hand has seen what it led to.

        What is held outside a mask does not fade, so of that nothing is said.
        """
        return self.restores and not (self.masked or self.by_hand)

    @property
    def minds_stretching(self) -> bool:
        """Little is claimed of two handles between which the picture was stretched. A hand has seen that.

        Not with a mask: what it cuts through looks different in any case.
        """
        return self.looks_again and self.pair and not (self.masked or self.live)

    @property
    def cuts_off(self) -> bool:
        """Steps are cut off where the latent may go no farther: two that pull against each other ask for the most."""
        return self.lets_go and self.pair and not self.masked


class Freedom(NamedTuple):
    """How free Gauss-Newton steps are (`draggan.drag.solvers.latent_metric`).

    Attributes:
        naturalness: how much steps go by the spread of the model's latents, 0 to 1.
        row_independence: how far the rows of the latent may part in them, 0 to 1.
    """

    naturalness: float
    row_independence: float


def freedom(regime: Regime, config: DragConfig, way: float | None, image_size: tuple[int, int]) -> Freedom:
    """That of a drag.

    With something to hold, or many handles to bring where they are to be, there must be something left to do that with.

    Args:
        way: how far the farthest handle is to go, image pixels; None: nobody knows.
        image_size: height and width of the picture.
    """
    natural, independence = config.naturalness, config.row_independence
    if regime.many and not regime.masked:
        return Freedom(RULES.many_naturalness * natural, 1.0)
    if regime.holds:
        return Freedom(RULES.masked_naturalness * natural, 1.0)
    if way is None or not regime.restores or way > at_size(SHORT_WAY, image_size):
        return Freedom(natural, independence)
    least = LEAST_NATURAL_OF_TWO if regime.pair else LEAST_NATURAL
    return Freedom(natural * max(way / at_size(NATURAL_WAY, image_size), least), independence)
