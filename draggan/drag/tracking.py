"""Point tracking: where has the content of each handle gone? Nearest neighbour in feature space.

Pan et al., "Drag Your GAN" (SIGGRAPH 2023), section 3.3.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.drag.motion_supervision import Sampler
from draggan.drag.problem import Problem
from draggan.geometry import inside, moved_inside
from torch_utils.recorder import replayed

__all__ = [
    "AWAY",
    "HALF_PIXEL",
    "TemplateTracker",
    "Tracked",
    "Tracker",
    "derivatives",
    "inverse_slopes",
    "nowhere",
    "patch_valid",
    "refine",
    "slopes",
    "track",
]

# Spatial derivatives are differences over one pixel. Pixels lie half a pixel or more from the kinks of bilinear
# interpolation on a map of at most half the picture's size, so there the difference is the derivative.
HALF_PIXEL = 0.5

# Gauss-Newton steps from a whole pixel to a fraction: the position must not depend on which pixel it began from.
REFINEMENTS = 3
# How far from that pixel they may lead, image pixels. With a tolerance in `track` that is not the best one.
AWAY = 2.0

# Where features hardly change along one direction (an edge) or not at all (flat background), a position is not defined
# along it; this share of the mean diagonal of J^T J keeps the estimate finite there, and shortens it by that elsewhere.
_FLAT = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracked:
    """Where the content of every handle is in one picture. A tracker may keep more there that it goes on from.

    Attributes:
        handles: image pixels; of content that is lost the best guess.
        lost: of which handles nothing may be claimed: their content is not to be seen, or not certain to be there.
    """

    handles: Float[Tensor, "n 2"]
    lost: Bool[Tensor, "n"]

    @cached_property
    def sure(self) -> Bool[Tensor, "n"]:
        """Whose place is as good as certain: a drag that does not arrive ends with the nearest such picture."""
        return ~self.lost

    @property
    def changed(self) -> Float[Tensor, "n"] | None:
        """How much what is under every handle looks unlike the start, taken for a displacement, image pixels.

        None: of a tracker that does not know.
        """
        return None


class Tracker(abc.ABC):
    """Follows content from picture to picture. It is asked for every latent that a solver goes to or only tries.

    Attributes:
        jumps: the place it names may jump where another one matches better, so that a step that seems to lead away may
            be worth taking.
        looks_itself: `follow` computes what it needs; the sampler that it is given is `nowhere`.
    """

    jumps: ClassVar[bool] = False
    looks_itself: ClassVar[bool] = False

    @abc.abstractmethod
    def begin(
        self, handles: Float[Tensor, "n 2"], shift: Float[Tensor, "1 shift_rows w_dim"], sampler: Sampler
    ) -> Tracked:
        """The picture that the drag begins with, where the handles are given.

        Args:
            shift: of its latent, all zero.
            sampler: its features around the handles, likewise below.
        """

    @abc.abstractmethod
    def follow(
        self,
        before: Tracked,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        sampler: Sampler,
        expected: Float[Tensor, "n 2"],
    ) -> Tracked:
        """The picture of another latent.

        Args:
            before: what this tracker said of the latent that the step to this one begins with.
            expected: about where the handles should be now, image pixels, inside the picture; features are there
                within `Problem.reach` of that.
        """

    def confirm(self, tracked: Tracked, shift: Float[Tensor, "1 shift_rows w_dim"], *, final: bool) -> Tracked:
        """A second look at the place where a drag is about to end; asked seldom, so it may cost as much as a step.

        Args:
            tracked: what this tracker said of it.
            shift: of its latent.
            final: the drag does not go on, wherever the content is.
        """
        return tracked


def nowhere(at: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n channel"]:
    """The sampler of a tracker that takes none."""
    raise AssertionError("features were asked for that have not been computed")


class TemplateTracker(Tracker):
    """The paper's: the place around where a handle is expected that resembles its template most. It loses nothing.

    Args:
        subpixel: go on to fractions of a pixel (`refine`).
        tolerance: see `track`.
    """

    jumps = True

    def __init__(self, problem: Problem, *, subpixel: bool = False, tolerance: float = 0.0) -> None:
        self._problem, self._subpixel, self._tolerance = problem, subpixel, tolerance
        self._none_lost = torch.zeros(len(problem.templates), dtype=torch.bool, device=problem.templates.device)

    def begin(
        self, handles: Float[Tensor, "n 2"], shift: Float[Tensor, "1 shift_rows w_dim"], sampler: Sampler
    ) -> Tracked:
        """See `Tracker.begin`."""
        return Tracked(handles=handles, lost=self._none_lost)

    @torch.no_grad()
    def follow(
        self,
        before: Tracked,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        sampler: Sampler,
        expected: Float[Tensor, "n 2"],
    ) -> Tracked:
        """See `Tracker.follow`. What was before makes no difference."""
        problem = self._problem
        handles = track(sampler, expected, problem.templates[:, 0], problem.window, problem.size, self._tolerance)
        if self._subpixel:
            handles = refine(sampler, handles, problem.templates, problem.patch, problem.size)
        return Tracked(handles=handles, lost=self._none_lost)


@replayed
@torch.no_grad()
def track(
    sampler: Sampler,
    handles: Float[Tensor, "n 2"],
    templates: Float[Tensor, "n channel"],
    window: Float[Tensor, "q 2"],
    image_size: tuple[int, int],
    tolerance: float = 0.0,
) -> Float[Tensor, "n 2"]:
    """``p_i := argmin over q in Omega_2(p_i, r2) of |F'(q) - f_i|`` (their Eq. 2), q inside the picture.

    The paper measures with L1, the published code with L2; L2 here, because the published results come from that code.

    Args:
        sampler: features at image points.
        handles: positions before this step, image pixels.
        templates: ``f_i = F_0(p_i)``, the features of the *initial* handles, so that errors do not add up.
        window: offsets of Omega_2 in image pixels, nearest first.
        tolerance: of positions that match worse than the best by no more than this share, take the nearest. Where a
            handle is expected is known well after a Gauss-Newton step, and two places that match about as well (the
            two sides of an ear's tip) must not take turns.
    """
    candidates = handles[:, None] + window
    distance = (sampler(candidates) - templates[:, None]).norm(dim=-1)
    distance = distance.masked_fill(~inside(candidates, image_size), torch.inf)
    best = distance.argmin(1)
    if tolerance > 0:
        # The first of those good enough; of a distance that is not a number there is none.
        enough = distance <= (1 + tolerance) * distance.gather(1, best[:, None])
        best = torch.where(enough.any(1), enough.int().argmax(1), best)
    return handles + window[best]


def patch_valid(
    handles: Float[Tensor, "n 2"], patch: Float[Tensor, "p 2"], image_size: tuple[int, int]
) -> Bool[Tensor, "n p"]:
    """Which pixels of the patches are on the picture; the handle itself always counts."""
    valid = inside(handles[:, None] + patch, image_size)
    valid[:, :1].fill_(True)  # not assigned: Python's own value would be brought to the device
    return valid


def derivatives(
    sampler: Sampler, handles: Float[Tensor, "n 2"], patch: Float[Tensor, "p 2"]
) -> Float[Tensor, "n p channel 2"]:
    """``J = dF/dq`` at the patches, per image pixel."""
    q = handles[:, None] + patch
    steps = HALF_PIXEL * torch.eye(2, dtype=q.dtype, device=q.device)
    there, back = sampler(torch.cat([q + e for e in steps], 1)), sampler(torch.cat([q - e for e in steps], 1))
    return torch.stack(((there - back) / (2 * HALF_PIXEL)).chunk(2, 1), -1)


def inverse_slopes(jacobian: Float[Tensor, "n p channel 2"]) -> Float[Tensor, "n 2 p channel"]:
    """``(J^T J)^-1 J^T``, which turns a difference of features into pixels."""
    a = torch.einsum("npci,npcj->nij", jacobian, jacobian)
    identity = torch.eye(2, dtype=a.dtype, device=a.device)
    a = a + (_FLAT * a.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(a.dtype).tiny ** 0.5)[:, None, None] * identity
    # In closed form: a general inverse has the host look whether there is one.
    adjugate = a.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] * identity - a
    determinant = a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1].square()
    return torch.einsum("nij,npcj->nipc", adjugate / determinant[:, None, None], jacobian)


@replayed
def slopes(
    sampler: Sampler,
    handles: Float[Tensor, "n 2"],
    patch: Float[Tensor, "p 2"],
    image_size: tuple[int, int],
    weights: Float[Tensor, "n p"] | None = None,
) -> tuple[Float[Tensor, "n p channel 2"], Float[Tensor, "n 2 p channel"]]:
    """``J = dF/dq`` at the patches, and ``(J^T W J)^-1 J^T W``, which turns a difference of features into pixels.

    The second is zero at pixels outside the picture.

    Args:
        weights: the diagonals of W; None: all alike.
    """
    jacobian = derivatives(sampler, handles, patch)
    jacobian = jacobian * patch_valid(handles, patch, image_size)[:, :, None, None]
    if weights is None:
        return jacobian, inverse_slopes(jacobian)
    root = weights.sqrt()
    return jacobian, inverse_slopes(jacobian * root[..., None, None]) * root[:, None, :, None]


@replayed
@torch.no_grad()
def refine(
    sampler: Sampler,
    handles: Float[Tensor, "n 2"],
    templates: Float[Tensor, "n p channel"],
    patch: Float[Tensor, "p 2"],
    image_size: tuple[int, int],
) -> Float[Tensor, "n 2"]:
    """Gauss-Newton steps of ``min_q sum over the patch of |F(q) - f|^2`` from a whole-pixel position.

    Ends at most `AWAY` from it, and no handle takes a step that does not bring its features nearer to their templates.
    """
    valid = patch_valid(handles, patch, image_size)[:, :, None]

    def residual(p: Tensor) -> Tensor:
        return (sampler(p[:, None] + patch) - templates) * valid

    here, rest = handles, residual(handles)
    for _ in range(REFINEMENTS):
        _, inverse = slopes(sampler, here, patch, image_size)
        away = here - torch.einsum("nipc,npc->ni", inverse, rest) - handles
        moved = handles + away * (AWAY / away.norm(dim=-1, keepdim=True).clamp(min=AWAY))
        moved = moved_inside(moved, image_size)
        left = residual(moved)
        better = left.square().sum((1, 2)) < rest.square().sum((1, 2))
        here = torch.where(better[:, None], moved, here)
        rest = torch.where(better[:, None, None], left, rest)
    return here
