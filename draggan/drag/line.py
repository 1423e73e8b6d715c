"""Following content along lines: how many handles are tracked, and how content is looked for once more.

Content is followed as in `draggan.drag.continuity`: through pictures between two latents, each compared with the one
before, and anchored in each to the picture in which it was clicked. Of many handles every one of these pictures is
computed whole, all of them in one batch, and content is expected to go on as it went before.

Errors of steps add up, and one of many handles may have lost its way without a word. So before a drag ends, content is
followed once more, along the straight line from the drag's first latent, which no step has seen: with the anchor and
without it. Where both agree and little has changed (`displacement`), the place is known. Where the line leads elsewhere
than the steps did, its place is the better one: the landmark networks of the built-in models find the content 12 to
20 px (at 512 px) from it, and 36 to 48 px from the nearest match.

What one or two handles are said to have reached is looked for in the same way (`draggan.drag.second_look`), and what a
crowd is (`draggan.drag.crowd`), of which nothing is followed on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.drag.continuity import (
    Followed,
    Lengths,
    ahead_on_host,
    anchor_fits,
    displacement,
    features_and_slopes,
    lucas_kanade,
    similarity,
)
from draggan.drag.motion_supervision import Sampler
from draggan.drag.problem import Pattern, Problem
from draggan.drag.tracking import Tracked, Tracker, nowhere
from draggan.geometry import moved_inside
from torch_utils.recorder import replayed
from torch_utils.transfer import to_device, to_host

__all__ = ["Line", "LineTracker"]

# So many pictures at least are looked at on the line.
FEWEST = 2
# So many at most, and between two latents.
MOST = 8
# So many at most on the line of one or two handles, which may go far.
MOST_OF_FEW = 16
# Maps of more cells than this are not computed whole, but around every handle; those of one or two handles never are.
WHOLE = 64 * 64


class Place(NamedTuple):
    """Where content is and what it looks like there."""

    handles: Float[Tensor, "k 2"]
    features: Float[Tensor, "k p channel"]
    slopes: Float[Tensor, "k p channel 2"]


@dataclass(frozen=True, kw_only=True)
class LineLengths(Lengths):
    """See `Lengths`.

    Attributes:
        short_piece: of one or two handles that the line leads elsewhere, content moves no farther than this from one
            picture to the next when it is followed once more: what is followed in longer pieces may lose its way.
        surprise: content found farther than this from where it should have gone on to has not been found; it goes on as
            expected.
        known: the place of many handles is known if what has changed, taken for a displacement, is no more than this.
        agreed: and only if following without the anchor leads no farther away than this.
    """

    short_piece: float = 8.0
    surprise: float = 16.0
    known: float = 30.0
    agreed: float = 14.0


@replayed
def _next_on_line(
    here: Place,
    expected: Float[Tensor, "k 2"],
    there: Sampler,
    anchor_sampler: Sampler,
    pattern: Pattern,
    first: Pattern,
    lengths: LineLengths,
) -> Place:
    """From one picture to the next.

    Args:
        expected: where the content should be there, image pixels.
        there: the features around that.
        anchor_sampler: of those around the handles that are anchored, the first ones.
        pattern: of all that is followed.
        first: of the handles that are anchored: what was under them when they were clicked.
    """
    found = _match_on_line(there, here.features, here.slopes, expected, pattern, lengths)
    found = torch.where((found - expected).norm(dim=-1, keepdim=True) < lengths.surprise, found, expected)
    n = len(first.clicked)
    handles = found[:n]
    # Where the picture in which the handles were clicked fits better nearby.
    anchor = _match_on_line(anchor_sampler, first.features, first.slopes, handles, first, lengths)
    close = (anchor - handles).norm(dim=-1) < lengths.anchored
    handles = torch.where((close & anchor_fits(first, anchor_sampler, anchor, handles))[:, None], anchor, handles)
    places = torch.cat([handles, found[n:]])
    return Place(places, *features_and_slopes(pattern, there, places))


@replayed
def _followed_on_line(
    pattern: Pattern,
    handles: Float[Tensor, "n 2"],
    shift: Float[Tensor, "1 shift_rows w_dim"],
    sampler: Sampler,
    lost: Bool[Tensor, "n"] | None,
    lengths: LineLengths,
) -> Followed:
    """See `LineTracker._followed`."""
    features, slopes = features_and_slopes(pattern, sampler, handles)
    moved = displacement(pattern, handles, features, slopes)
    lost = torch.zeros_like(moved, dtype=torch.bool) if lost is None else lost | (moved > lengths.known)
    return Followed(
        handles=handles,
        lost=lost,
        certain=~lost,
        corrected=torch.zeros_like(moved),
        shift=shift,
        features=features,
        slopes=slopes,
        displacement=moved,
        similarity=similarity(pattern, handles, features),
    )


def _match_on_line(
    there: Sampler,
    features: Float[Tensor, "k p channel"],
    slopes: Float[Tensor, "k p channel 2"],
    places: Float[Tensor, "k 2"],
    pattern: Pattern,
    lengths: LineLengths,
) -> Float[Tensor, "k 2"]:
    found = lucas_kanade(there, features, slopes, places, pattern, longest=lengths.longest, shortest=lengths.shortest)
    # Of features that are not numbers nothing is said: the drag ends for that.
    return moved_inside(torch.where(torch.isfinite(found), found, places), lengths.size)


def _pieces(way: Float[Tensor, "n 2"], piece: float, most: int) -> int:
    """In how many pictures content goes so far, if it goes no farther than a piece in each; image pixels."""
    (known,) = to_host(way)
    return min(max(math.ceil(float(known.norm(dim=-1).max()) / piece), 1), most)


class Line:
    """Follows the content of the handles along straight lines between latents, from picture to picture.

    Args:
        pattern: what the handles are known by, in the features of `Problem.second_look`.
        whole: all pictures are computed whole, in one batch, if their maps are small enough.
    """

    def __init__(self, problem: Problem, pattern: Pattern, *, whole: bool = False) -> None:
        self._problem, self._level, self._pattern = problem, problem.second_look, pattern
        height, width = self._level.grid.size
        self._whole = whole and height * width <= WHOLE
        self.lengths = LineLengths.of(problem.size)
        self._reach = pattern.radius + self.lengths.surprise + self.lengths.anchored + 1

    @torch.no_grad()
    def leads(
        self, shift: Float[Tensor, "1 shift_rows w_dim"], expected: Float[Tensor, "n 2"], near: float
    ) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
        """Where the line from the drag's first latent leads, and how similar that place is.

        Args:
            shift: of the latent where it ends.
            expected: about where it should lead: the farther, the more pictures are looked at.
            near: where it leads farther than this from there, image pixels, it is followed once more in shorter pieces.
        """
        way = expected - self._problem.handles
        few, more = (
            max(_pieces(way, piece, MOST_OF_FEW), FEWEST) for piece in (self.lengths.piece, self.lengths.short_piece)
        )
        places, similar = self._followed(shift, few)
        (away,) = to_host((places - expected).norm(dim=-1))
        return self._followed(shift, more) if more > few and (away > near).any() else (places, similar)

    def _followed(
        self, shift: Float[Tensor, "1 shift_rows w_dim"], pieces: int
    ) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
        """The same through so many pictures."""
        start = self._first
        pace = torch.zeros_like(start.handles)
        sampler, places = self.along(start, torch.zeros_like(shift), shift, pieces, pace)
        return places, similarity(self._pattern, places, sampler(places[:, None] + self._pattern.offsets))

    @cached_property
    def _first(self) -> Place:
        """The handles in the drag's first latent."""
        problem = self._problem
        still = torch.zeros_like(problem.ws[:, : problem.shift_rows])
        sampler = self._level.around(problem.rows(still), problem.handles, self._pattern.radius + 1)
        return Place(problem.handles, *features_and_slopes(self._pattern, sampler, problem.handles))

    @torch.no_grad()
    def along(
        self,
        start: Place,
        before: Float[Tensor, "1 shift_rows w_dim"],
        shift: Float[Tensor, "1 shift_rows w_dim"],
        pieces: int,
        pace: Float[Tensor, "k 2"],
        pattern: Pattern | None = None,
    ) -> tuple[Sampler, Float[Tensor, "k 2"]]:
        """From one picture to another through those in between.

        Args:
            start: what is followed, in the first of them.
            before, shift: of their latents.
            pieces: in how many pictures.
            pace: how far content is expected to move in the first of them.
            pattern: of all that is followed; None: of the handles, once. The first of it, as many as there are handles,
                are anchored.

        Returns:
            The last picture's features around the handles, and the places of all that is followed there.
        """
        problem = self._problem
        pattern = self._pattern if pattern is None else pattern
        parts = torch.arange(1, pieces + 1, device=shift.device, dtype=shift.dtype) / pieces
        rows = problem.rows(before + parts[:, None, None] * (shift - before))
        maps = self._level.features(rows) if self._whole else None
        here, anchor_sampler = start, cast(Sampler, nowhere)
        for k in range(pieces):
            expected = moved_inside(here.handles + pace, problem.size)
            there, anchor_sampler = self._around(
                [row[k : k + 1] for row in rows], expected, None if maps is None else maps[k]
            )
            onwards = _next_on_line(here, expected, there, anchor_sampler, pattern, self._pattern, self.lengths)
            here, pace = onwards, onwards.handles - here.handles
        return anchor_sampler, here.handles

    def _around(
        self, rows: list[Tensor], points: Float[Tensor, "k 2"], whole: Float[Tensor, "channel height width"] | None
    ) -> tuple[Sampler, Sampler]:
        """Features around each of the points, and around the first of them, as many as there are handles.

        Args:
            rows: of one latent.
            whole: its features, where all of them have been computed.
        """
        level, n = self._level, len(self._problem.handles)
        if whole is not None:
            everywhere = level.anywhere(whole[None])
            return everywhere, everywhere
        there = level.around(rows, points, self._reach)
        return there, there if len(points) == n else level.around(rows, points[:n], self._reach)


class LineTracker(Tracker):
    """Follows the content of many handles, up to a crowd. What is known of it is said by `confirm`."""

    looks_itself = True

    def __init__(self, problem: Problem) -> None:
        self._pattern = problem.second_pattern
        self._line = Line(problem, self._pattern, whole=True)
        self._lengths = self._line.lengths
        self._first: Followed | None = None

    @cached_property
    def _twice(self) -> Pattern:
        """Once anchored and once free, side by side."""
        pattern = self._pattern
        return replace(
            pattern,
            weights=torch.cat([pattern.weights] * 2),
            features=torch.cat([pattern.features] * 2),
            slopes=torch.cat([pattern.slopes] * 2),
            mean=torch.cat([pattern.mean] * 2),
            clicked=torch.cat([pattern.clicked] * 2),
        )

    @torch.no_grad()
    def begin(
        self, handles: Float[Tensor, "n 2"], shift: Float[Tensor, "1 shift_rows w_dim"], sampler: Sampler
    ) -> Followed:
        """See `Tracker.begin`."""
        self._first = self._followed(handles, shift, sampler, lost=None)
        return self._first

    @torch.no_grad()
    def follow(
        self,
        before: Tracked,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        sampler: Sampler,
        expected: Float[Tensor, "n 2"],
    ) -> Tracked:
        """See `Tracker.follow`."""
        assert isinstance(before, Followed)
        _, ahead = ahead_on_host(before, expected)
        way = to_device(ahead, shift.device)
        pieces = _pieces(ahead, self._lengths.piece, MOST)
        start = Place(before.handles, before.features, before.slopes)
        anchor_sampler, places = self._line.along(start, before.shift, shift, pieces, way / pieces)
        return self._followed(places, shift, anchor_sampler, lost=None)

    @torch.no_grad()
    def confirm(self, tracked: Tracked, shift: Float[Tensor, "1 shift_rows w_dim"], *, final: bool) -> Followed:
        """See `Tracker.confirm`. It leads to the same place whether or not the drag goes on."""
        first = self._first
        assert first is not None
        n = len(first.handles)
        twice = Place(*(torch.cat([part] * 2) for part in (first.handles, first.features, first.slopes)))
        pieces = max(_pieces(tracked.handles - first.handles, self._lengths.piece, MOST), FEWEST)
        anchor_sampler, places = self._line.along(
            twice, first.shift, shift, pieces, torch.zeros_like(twice.handles), self._twice
        )
        anchored, free = places[:n], places[n:]
        return self._followed(
            anchored, shift, anchor_sampler, lost=(anchored - free).norm(dim=-1) > self._lengths.agreed
        )

    def _followed(
        self,
        handles: Float[Tensor, "n 2"],
        shift: Float[Tensor, "1 shift_rows w_dim"],
        sampler: Sampler,
        *,
        lost: Bool[Tensor, "n"] | None,
    ) -> Followed:
        """What is known of the handles.

        Args:
            lost: at the end, which of them are lost for other reasons than what has changed; None: it is not the end,
                so nothing is said of any.
        """
        return _followed_on_line(self._pattern, handles, shift, sampler, lost, self._lengths)
