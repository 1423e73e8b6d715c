"""Tracking by continuity: the content of a handle is followed through the pictures in between.

A tracker that looks for the place that resembles the start most finds one, whether the content went there or not. Here
a step between two latents is cut into pieces so small that content moves by little more than a cell, and each picture
is compared with the one before (Lucas and Kanade, "An Iterative Image Registration Technique", 1981), not only at the
handle but over its surroundings (`draggan.drag.prepare.surroundings`). Errors of such steps add up, so the place is
anchored: where the first picture's surroundings fit better nearby, they decide.

How far that can be trusted is said in pixels. What has changed between the first picture and this one, taken for a
displacement along the direction in which it shows least, is the `displacement`: a contour, along which everything looks
alike, or a part that looks different now, has a large one. Content beyond `LARGEST` of it, or less similar than
`LEAST_SIMILAR`, is lost: nothing may be claimed of it. Thresholds are those at which, on pulls of the three built-in
models alike, 97 % of what is claimed is true and 95 % of what is true is claimed (benchmarks/truth.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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

__all__ = ["ContinuityTracker", "Followed", "anchor_fits", "displacement", "look", "lucas_kanade", "similarity"]

# How far content moves in one piece, image pixels at 512 px. Half of it finds the same places at more cost.
PIECE = 12.0
# A place that fits the first picture better is taken if it is no farther away than this, image pixels at 512 px, and
# similar by at least so much.
ANCHORED, ANCHOR_SIMILARITY = 8.0, 0.5
# Lucas-Kanade iterations, none longer than this (image pixels at 512 px); one shorter than the last is the last.
ITERATIONS, LONGEST, SHORTEST = 6, 8.0, 0.2
# Content is lost beyond; displacements in image pixels at 512 px.
LEAST_SIMILAR, LARGEST = 0.65, 30.0
# Within these its place is as good as certain.
SURELY_SIMILAR, SURELY_LARGEST = 0.7, 28.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed(Tracked):
    """See `Tracked`.

    Attributes:
        shift: the latent's.
        features, slopes: of the surroundings of every handle there.
        displacement: what has changed since the first picture, as image pixels.
        similarity: to the first picture, 1 for none.
        certain: see `Tracked.sure`.
    """

    shift: Float[Tensor, "1 moves w_dim"]
    features: Float[Tensor, "n p channel"]
    slopes: Float[Tensor, "n p channel 2"]
    displacement: Float[Tensor, "n"]
    similarity: Float[Tensor, "n"]
    certain: Bool[Tensor, "n"]

    @property
    def sure(self) -> Bool[Tensor, "n"]:
        """See `Tracked.sure`."""
        return self.certain


class ContinuityTracker(Tracker):
    """Follows each handle's content from the picture where a step begins to the one where it ends."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._pattern = problem, problem.pattern
        self._piece, self._anchored, self._longest, self._shortest, self._largest, self._surely_largest = (
            at_size(length, problem.size) for length in (PIECE, ANCHORED, LONGEST, SHORTEST, LARGEST, SURELY_LARGEST)
        )
        self._slack = pattern_slack(problem.size)

    @torch.no_grad()
    def begin(self, handles: Float[Tensor, "n 2"], shift: Float[Tensor, "1 moves w_dim"], sampler: Sampler) -> Followed:
        """See `Tracker.begin`."""
        return self._followed(handles, shift, sampler, torch.zeros(len(handles), dtype=torch.bool, device=shift.device))

    @torch.no_grad()
    def follow(
        self,
        before: Tracked,
        shift: Float[Tensor, "1 moves w_dim"],
        sampler: Sampler,
        expected: Float[Tensor, "n 2"],
    ) -> Followed:
        """See `Tracker.follow`."""
        assert isinstance(before, Followed)
        problem, pattern = self._problem, self._pattern
        way = torch.where(torch.isfinite(expected), expected - before.handles, 0)
        pieces = max(1, math.ceil(float(way.norm(dim=-1).max()) / self._piece))
        handles, features, slopes = before.handles, before.features, before.slopes
        astray = torch.zeros(len(handles), dtype=torch.bool, device=handles.device)
        for k in range(1, pieces + 1):
            at, there = before.handles + way * (k / pieces), sampler
            if k < pieces:
                rows = problem.rows(torch.lerp(before.shift, shift, k / pieces))
                there = problem.around(rows, at, problem.reach)
            handles = self._match(there, features, slopes, moved_inside(handles + way / pieces, problem.size))
            # Features are there within reach of where the content was expected.
            astray |= (handles - at).norm(dim=-1) > self._slack
            handles = at + (handles - at) * (self._slack / (handles - at).norm(dim=-1, keepdim=True)).clamp(max=1)
            if k < pieces:
                features, slopes = look(pattern, there, handles)
        found = self._match(sampler, pattern.features, pattern.slopes, handles)
        near = (found - handles).norm(dim=-1) < self._anchored
        near &= (found - expected).norm(dim=-1) <= self._slack
        anchored = near & anchor_fits(pattern, sampler, found, handles)
        return self._followed(torch.where(anchored[:, None], found, handles), shift, sampler, astray & ~anchored)

    def _match(
        self,
        sampler: Sampler,
        features: Float[Tensor, "n p channel"],
        slopes: Float[Tensor, "n p channel 2"],
        handles: Float[Tensor, "n 2"],
    ) -> Float[Tensor, "n 2"]:
        place = lucas_kanade(
            sampler, features, slopes, handles, self._pattern, longest=self._longest, shortest=self._shortest
        )
        away = torch.where(torch.isfinite(place), place - handles, 0)
        # Farther away there are no features to look at.
        limit = self._slack
        moved = handles + away * (limit / away.norm(dim=-1, keepdim=True).clamp(min=limit))
        return moved_inside(moved, self._problem.size)

    def _followed(
        self,
        handles: Float[Tensor, "n 2"],
        shift: Float[Tensor, "1 moves w_dim"],
        sampler: Sampler,
        astray: Bool[Tensor, "n"],
    ) -> Followed:
        features, slopes = look(self._pattern, sampler, handles)
        unlike = similarity(self._pattern, handles, features)
        moved = displacement(self._pattern, handles, features, slopes)
        # Of features that are not numbers nothing is said: the drag ends for that.
        lost = astray | (unlike < LEAST_SIMILAR) | (moved > self._largest)
        return Followed(
            handles=handles,
            lost=lost,
            certain=~lost & (unlike >= SURELY_SIMILAR) & (moved <= self._surely_largest),
            shift=shift,
            features=features,
            slopes=slopes,
            displacement=moved,
            similarity=unlike,
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
    for _ in range(ITERATIONS):
        rest = features - sampler(handles[:, None] + pattern.offsets)
        step = torch.bmm(inverse, rest.flatten(1)[:, :, None])[:, :, 0]
        length = step.norm(dim=-1, keepdim=True)
        handles = handles + step * (longest / length.clamp(min=longest))
        if float(length.max()) < shortest:
            break
    return handles


def look(
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
