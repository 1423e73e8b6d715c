"""Tracking by continuity: the content of a handle is followed through the pictures in between.

A tracker that looks for the place that resembles the start most finds one, whether the content went there or not. Here
a step between two latents is cut into pieces so small that content moves by little (a cell and a half of the built-in
models), and each picture is compared with the one before (Lucas and Kanade, "An Iterative Image Registration
Technique", 1981), not only at the handle but over its surroundings (`prepare.surrounding_offsets`). Errors of such
steps add up, so the place is anchored: where the first picture's surroundings fit better nearby, they decide.

How far that can be trusted is said in pixels. What has changed between the first picture and this one, taken for a
displacement along the direction in which it shows least, is the `displacement`: a contour, along which everything looks
alike, or a part that looks different now, has a large one. Content beyond `Lengths.largest` of it, or less similar than
`LEAST_SIMILAR`, is lost: nothing may be claimed of it. How much of what is claimed is true, and how much of what is
true is claimed, by networks that know nothing of the drag: benchmarks/truth.md.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import at_size
from draggan.drag.motion_supervision import Sampler
from draggan.drag.prepare import pattern_slack
from draggan.drag.problem import Pattern, Problem
from draggan.drag.tracking import Tracked, Tracker, derivatives, inverse_slopes
from draggan.geometry import moved_inside
from torch_utils.recorder import can_look, replayed
from torch_utils.transfer import to_device, to_host

__all__ = [
    "ContinuityTracker",
    "Followed",
    "Lengths",
    "ahead_on_host",
    "anchor_fits",
    "displacement",
    "features_and_slopes",
    "lucas_kanade",
    "similarity",
]

# A place that fits the first picture better is taken if it is similar by at least so much.
ANCHOR_SIMILARITY = 0.5
# Lucas-Kanade iterations.
ITERATIONS = 6
# Content that is less similar is lost.
LEAST_SIMILAR = 0.65
# The same of what is left to the second look, see `_followed`.
LEAST_SIMILAR_LEFT = 0.5
# The place of what is more similar is as good as certain.
SURELY_SIMILAR = 0.7


SomeLengths = TypeVar("SomeLengths", bound="Lengths")


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed(Tracked):
    """See `Tracked`.

    Attributes:
        shift: the latent's.
        features, slopes: of the surroundings of every handle there.
        displacement: what has changed since the first picture, as image pixels.
        similarity: to the first picture, 1 for none.
        certain: see `Tracked.sure`.
        corrected: how far a second look (`Tracker.confirm`) has moved a place, image pixels; 0: it has not. From there
            content is followed by continuity alone, without the anchor, which would take it back.
    """

    shift: Float[Tensor, "1 shift_rows w_dim"]
    features: Float[Tensor, "n p channel"]
    slopes: Float[Tensor, "n p channel 2"]
    displacement: Float[Tensor, "n"]
    similarity: Float[Tensor, "n"]
    certain: Bool[Tensor, "n"]
    corrected: Float[Tensor, "n"]

    @cached_property
    def sure(self) -> Bool[Tensor, "n"]:
        """See `Tracked.sure`."""
        return self.certain

    @property
    def changed(self) -> Float[Tensor, "n"]:
        """See `Tracked.changed`."""
        return self.displacement


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Image pixels, as given at 512 px; `of` scales them.

    Attributes:
        size: height and width of the picture.
        piece: how far content moves in one piece. Half of it finds the same places at more cost.
        anchored: a place that fits the first picture better is taken if it is no farther away than this.
        longest, shortest: of a Lucas-Kanade iteration; one that is shorter is the last.
        largest: content with a larger `displacement` is lost.
        surely_largest: up to this one its place is as good as certain.
    """

    size: tuple[int, int]
    piece: float = 12.0
    anchored: float = 8.0
    longest: float = 8.0
    shortest: float = 0.2
    largest: float = 30.0
    surely_largest: float = 28.0

    @classmethod
    def of(cls: type[SomeLengths], size: tuple[int, int]) -> SomeLengths:
        """Those of pictures of this size."""
        lengths = {each.name: each.default for each in fields(cls) if each.default is not MISSING}
        return cls(size=size, **{name: at_size(length, size) for name, length in lengths.items()})

    @cached_property
    def slack(self) -> float:
        """How far from where it is expected content is followed."""
        return pattern_slack(self.size)


def ahead_on_host(
    before: Followed, expected: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Where the handles are, and how far each is expected to go: image pixels, on the host.

    Where to look has to be known before the work can be given to a device. What is expected at no number goes nowhere.
    """
    handles, goal = to_host(before.handles, expected)
    return handles, torch.where(torch.isfinite(goal), goal - handles, 0)


class ContinuityTracker(Tracker):
    """Follows each handle's content from the picture where a step begins to the one where it ends."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._pattern, self._lengths = problem, problem.pattern, Lengths.of(problem.size)

    @torch.no_grad()
    def begin(
        self, handles: Float[Tensor, "n 2"], shift: Float[Tensor, "1 shift_rows w_dim"], sampler: Sampler
    ) -> Followed:
        """See `Tracker.begin`."""
        out_of_reach = torch.zeros(len(handles), dtype=torch.bool, device=shift.device)
        corrected = torch.zeros(len(handles), device=shift.device)
        return _followed(handles, shift, sampler, self._pattern, out_of_reach, corrected, self._lengths)

    @torch.no_grad()
    def follow(
        self,
        before: Tracked,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        sampler: Sampler,
        expected: Float[Tensor, "n 2"],
    ) -> Followed:
        """See `Tracker.follow`."""
        assert isinstance(before, Followed)
        problem, pattern, lengths = self._problem, self._pattern, self._lengths
        from_there, ahead = ahead_on_host(before, expected)
        way = to_device(ahead, shift.device)
        pieces = max(1, math.ceil(float(ahead.norm(dim=-1).max()) / lengths.piece))
        here = Piece(before.handles, before.features, before.slopes, torch.zeros_like(before.lost))
        for k in range(1, pieces):
            rows = problem.rows(torch.lerp(before.shift, shift, k / pieces))
            at = before.handles + way * (k / pieces)
            there = problem.around(rows, from_there + ahead * (k / pieces), problem.reach)
            here = _go_on(here, at, way / pieces, there, pattern, lengths)
        at, pace = before.handles + way, way / pieces
        return _arrive(here, at, pace, expected, shift, sampler, before.corrected, pattern, lengths)

    @torch.no_grad()
    def moved(
        self,
        tracked: Followed,
        places: Float[Tensor, "n 2"],
        by: Float[Tensor, "n"],
        shift: Float[Tensor, "1 shift_rows w_dim"],
    ) -> Followed:
        """The same with other places of some handles, as a second look has found them.

        Args:
            by: how far they are from those that were said, image pixels; 0: that handle stays.
            shift: of the latent.
        """
        problem, corrected = self._problem, torch.maximum(tracked.corrected, by)
        handles = torch.where(by[:, None] > 0, places, tracked.handles)
        sampler = problem.around(problem.rows(shift), handles, self._pattern.radius + 1)
        return _followed(
            handles, shift, sampler, self._pattern, torch.zeros_like(tracked.lost), corrected, self._lengths
        )


class Piece(NamedTuple):
    """Where content is in a picture on the way, and what it looks like there.

    Attributes:
        out_of_reach: whether it was ever farther from where it was expected than there are features to look at.
    """

    handles: Float[Tensor, "n 2"]
    features: Float[Tensor, "n p channel"]
    slopes: Float[Tensor, "n p channel 2"]
    out_of_reach: Bool[Tensor, "n"]


@replayed
def _go_on(
    here: Piece,
    at: Float[Tensor, "n 2"],
    way: Float[Tensor, "n 2"],
    there: Sampler,
    pattern: Pattern,
    lengths: Lengths,
) -> Piece:
    """From one picture to the next.

    Args:
        at: where the content should be there, image pixels.
        way: that of this piece.
        there: the features around that.
    """
    handles, out_of_reach = _found(here, at, way, there, pattern, lengths)
    return Piece(handles, *features_and_slopes(pattern, there, handles), out_of_reach)


def _found(
    here: Piece, at: Float[Tensor, "n 2"], way: Float[Tensor, "n 2"], there: Sampler, pattern: Pattern, lengths: Lengths
) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, "n"]]:
    """Where the content is in the next picture, and `Piece.out_of_reach`."""
    expected = moved_inside(here.handles + way, lengths.size)
    handles = _match(there, here.features, here.slopes, expected, pattern, lengths)
    # Features are there within reach of where the content was expected.
    away = handles - at
    length = away.norm(dim=-1)
    handles = at + away * (lengths.slack / length[:, None]).clamp(max=1)
    return handles, here.out_of_reach | (length > lengths.slack)


@replayed
def _arrive(
    here: Piece,
    at: Float[Tensor, "n 2"],
    way: Float[Tensor, "n 2"],
    expected: Float[Tensor, "n 2"],
    shift: Float[Tensor, "1 shift_rows w_dim"],
    sampler: Sampler,
    corrected: Float[Tensor, "n"],
    pattern: Pattern,
    lengths: Lengths,
) -> Followed:
    """From the last picture on the way to that of the latent; arguments as for `_go_on` and `Tracker.follow`."""
    handles, out_of_reach = _found(here, at, way, sampler, pattern, lengths)
    found = _match(sampler, pattern.features, pattern.slopes, handles, pattern, lengths)
    is_near = (found - handles).norm(dim=-1) < lengths.anchored
    is_near &= (found - expected).norm(dim=-1) <= lengths.slack
    anchored = is_near & (corrected == 0) & anchor_fits(pattern, sampler, found, handles)
    handles = torch.where(anchored[:, None], found, handles)
    return _followed(handles, shift, sampler, pattern, out_of_reach & ~anchored, corrected, lengths)


def _match(
    sampler: Sampler,
    features: Float[Tensor, "n p channel"],
    slopes: Float[Tensor, "n p channel 2"],
    handles: Float[Tensor, "n 2"],
    pattern: Pattern,
    lengths: Lengths,
) -> Float[Tensor, "n 2"]:
    place = lucas_kanade(
        sampler, features, slopes, handles, pattern, longest=lengths.longest, shortest=lengths.shortest
    )
    away = torch.where(torch.isfinite(place), place - handles, 0)
    # Farther away there are no features to look at.
    moved = handles + away * (lengths.slack / away.norm(dim=-1, keepdim=True).clamp(min=lengths.slack))
    return moved_inside(moved, lengths.size)


def _followed(
    handles: Float[Tensor, "n 2"],
    shift: Float[Tensor, "1 shift_rows w_dim"],
    sampler: Sampler,
    pattern: Pattern,
    out_of_reach: Bool[Tensor, "n"],
    corrected: Float[Tensor, "n"],
    lengths: Lengths,
) -> Followed:
    """What is known of the content at these places.

    Of two handles that share surroundings, and of places that a second look has moved, only similarity decides on the
    way; displacement is asked by the second look. Content outside the features computed is lost in any case, unless
    the anchor finds it.
    """
    features, slopes = features_and_slopes(pattern, sampler, handles)
    likeness = similarity(pattern, handles, features)
    moved = displacement(pattern, handles, features, slopes)
    # Of features that are not numbers nothing is said: the drag ends for that.
    left_to_second_look = (corrected > 0) | (pattern.weights == 0).any(1)
    lost = out_of_reach | torch.where(
        left_to_second_look, likeness < LEAST_SIMILAR_LEFT, (likeness < LEAST_SIMILAR) | (moved > lengths.largest)
    )
    return Followed(
        handles=handles,
        lost=lost,
        certain=~lost & (left_to_second_look | ((likeness >= SURELY_SIMILAR) & (moved <= lengths.surely_largest))),
        shift=shift,
        features=features,
        slopes=slopes,
        displacement=moved,
        similarity=likeness,
        corrected=corrected,
    )


def lucas_kanade(
    sampler: Sampler,
    features: Float[Tensor, "n p channel"],
    slopes: Float[Tensor, "n p channel 2"],
    handles: Float[Tensor, "n 2"],
    pattern: Pattern,
    *,
    longest: float,
    shortest: float,
) -> Float[Tensor, "n 2"]:
    """``argmin_q sum over the pattern of weights * |F(q) - features|^2``, from where the handles are.

    Linearised once, halfway between both pictures (the mean of their slopes): as good as second order there.

    Args:
        features, slopes: what is looked for, and its derivatives by the position, per image pixel.
        longest, shortest: of an iteration, image pixels.
    """
    root = pattern.root_weights(handles)
    mean = (slopes + derivatives(sampler, handles, pattern.offsets)) / 2
    inverse = (inverse_slopes(mean * root[..., None]) * root[:, None]).flatten(2)
    going: Tensor | None = None
    for _ in range(ITERATIONS):
        rest = features - sampler(handles[:, None] + pattern.offsets)
        step = torch.bmm(inverse, rest.flatten(1)[:, :, None])[:, :, 0]
        length = step.norm(dim=-1, keepdim=True)
        moved = handles + step * (longest / length.clamp(min=longest))
        handles = moved if going is None else torch.where(going, moved, handles)
        goes = ~(length.max() < shortest)
        going = goes if going is None else going & goes
        # Where looking would wait for the device, it goes on and nothing moves any more.
        if can_look(going) and not going:
            break
    return handles


def features_and_slopes(
    pattern: Pattern, sampler: Sampler, handles: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n p channel"], Float[Tensor, "n p channel 2"]]:
    """The features of the pattern around the handles, and their derivatives by the position, per image pixel."""
    return sampler(handles[:, None] + pattern.offsets), derivatives(sampler, handles, pattern.offsets)


def anchor_fits(
    pattern: Pattern, sampler: Sampler, anchor: Float[Tensor, "n 2"], handles: Float[Tensor, "n 2"]
) -> Bool[Tensor, "n"]:
    """Where the anchor resembles the first picture, and more than the place does to which content was followed."""
    fits, fitted = (similarity(pattern, p, sampler(p[:, None] + pattern.offsets)) for p in (anchor, handles))
    return fits > fitted.clamp(min=ANCHOR_SIMILARITY)


def similarity(
    pattern: Pattern, handles: Float[Tensor, "n 2"], features: Float[Tensor, "n p channel"]
) -> Float[Tensor, "n"]:
    """Cosine of the surroundings and those in the first picture, each less the mean of that picture's features."""
    root, mean = pattern.root_weights(handles), pattern.mean[:, None]
    first, now = (((f - mean) * root).flatten(1) for f in (pattern.features, features))
    return F.cosine_similarity(first, now, dim=1)


def displacement(
    pattern: Pattern,
    handles: Float[Tensor, "n 2"],
    features: Float[Tensor, "n p channel"],
    slopes: Float[Tensor, "n p channel 2"],
) -> Float[Tensor, "n"]:
    """What has changed since the first picture, taken for a displacement: image pixels.

    ``|F - F_0|`` over the root of the smaller eigenvalue of ``J^T J``, the mean of both pictures' (geometric): so far
    along the direction in which it shows least would change as much. The scale of the features does not matter.
    """
    root = pattern.root_weights(handles)
    change = ((features - pattern.features) * root).flatten(1).norm(dim=1)
    least = [_least_eigenvalue(s * root[..., None]) for s in (pattern.slopes, slopes)]
    return change / (least[0] * least[1]).clamp(min=1e-24) ** 0.25


def _least_eigenvalue(slopes: Float[Tensor, "n p channel 2"]) -> Float[Tensor, "n"]:
    """Of ``J^T J``, in closed form."""
    a = torch.einsum("npci,npcj->nij", slopes, slopes)
    half, difference = (a[:, 0, 0] + a[:, 1, 1]) / 2, (a[:, 0, 0] - a[:, 1, 1]) / 2
    return (half - (difference.square() + a[:, 0, 1].square()).sqrt()).clamp(min=0)
