"""What a mask fixes, in Gauss-Newton steps: its change, made small without touching the handles.

A step that moves the handles as asked may be moved further within the null space of their Jacobian ``J``. There

    min |v|^2 + weight |H v + r|^2,    H = d(what is fixed)/dv,  r = its change so far,

is solved by a few conjugate-gradient iterations, each of one product with ``H`` and one with ``H^T``: what it takes to
make up for this step is found in far fewer products than it would take to know ``H``. The same with a step of no length
makes up for what a drag has changed already; that is done once the handles have arrived
(`draggan.drag.solvers.gauss_newton`).

Where the picture itself holds what is outside, the steps of one or two handles need not hold it, and make up for less:
enough for the border to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag.mask import FixedRegion, MaskView
from draggan.drag.problem import Problem
from draggan.drag.solvers.coordinates import Linear
from draggan.drag.solvers.jacobian import NullSpace, null_space
from draggan.generators.base import Generator
from torch_utils.recorder import can_look, replayed
from torch_utils.transfer import to_host

__all__ = ["MaskConstraint", "mask_view"]

# Cells along the longer side of what is looked at, at least: a mask is painted about as finely.
CELLS = 32
# Conjugate-gradient iterations a step. What is left after a few is not linear, and the next step makes up for that.
ITERATIONS = 4
# How long what makes up for a step may be, as a share of the step. Where it would take more (a head is to turn inside a
# mask that is too small for it), latents become unlike any the model knows, and the fixed region changes all the same.
FURTHEST = 0.7
# The same where the picture itself holds what is outside, for few handles: of 81 drags 73 arrive, 65 of these truly;
# with 0.3 of it 72 and 66, with nothing but what is made up for after the arrival 69 and 59 (benchmarks/mask.md).
ITERATIONS_TO_FIT, FURTHEST_TO_FIT = 2, 0.45
# What the published lambda of 20 stands for: a step of which nothing is made up for changes the fixed region 5 times as
# much as its own length counts. More holds hardly better, and takes more unusual latents to do it.
SHARE = 0.25
# Products with H are differences over this share of the step's own length: long enough to stand out of the rounding of
# bfloat16 features, and no longer than what is stepped.
PROBE = 0.5
# What has no length counts as one of this.
SHORTEST = 1e-12


def mask_view(generator: Generator, config: DragConfig, level: str) -> MaskView:
    """A picture of as many pixels as the level dragged on has cells, where the network draws one on the way.

    Such a network adds to the picture at every resolution, and what it adds depends on rows that the features do not
    show; nor are features that differ by as much to be seen by as much. In three drags of the built-in cat, features
    held two to three times better than after second-order steps left the picture outside no better held (4.3 of 255
    after 3.7).

    Elsewhere the features of the coarsest level that shows all that the free rows do, with 32 cells or more: whatever
    lies beyond it follows from it and from rows that do not move.

    Args:
        level: the level dragged on.
    """
    heights = generator.preview_heights
    if len(heights) > 1 and generator.grid(level).size[0] in heights:
        return MaskView(level=level, picture=True)
    wanted = min(config.free_rows, generator.num_ws, generator.rows_used(level))
    for coarser in generator.levels[: generator.levels.index(level)]:
        if generator.rows_used(coarser) >= wanted and max(generator.grid(coarser).size) >= CELLS:
            return MaskView(level=coarser, picture=False)
    return MaskView(level=level, picture=False)


@dataclass(frozen=True, eq=False)
class MaskScale:
    """What lengths mean, as a step that moves the handles shows.

    Attributes:
        length: of that step.
        weight: of a squared change of what is fixed, against a squared length.
    """

    length: Float[Tensor, ""]
    weight: Float[Tensor, ""]


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the fixed region is differentiated.

    Attributes:
        coordinates, v: the place.
        leaf: the same v, by which can be differentiated.
        seen: what is fixed, there.
    """

    coordinates: Linear
    v: Float[Tensor, "1 shift_rows w_dim"]
    leaf: Float[Tensor, "1 shift_rows w_dim"]
    seen: Float[Tensor, "1 channel height width"]


class MaskConstraint:
    """Takes out of steps what would change the fixed region.

    Args:
        mask: of the view that `mask_view` names.
    """

    def __init__(self, problem: Problem, mask: FixedRegion) -> None:
        self._problem, self._mask = problem, mask
        firmly = problem.regime.holds
        self._iterations, self._furthest = (ITERATIONS, FURTHEST) if firmly else (ITERATIONS_TO_FIT, FURTHEST_TO_FIT)
        self._view = mask_view(problem.generator, problem.config, problem.level)
        self._kept = mask.kept * mask.fixed
        # What was computed last: asking again at the same place costs nothing.
        self._last: _Place | None = None

    @torch.no_grad()
    def change(self, coordinates: Linear, v: Float[Tensor, "1 shift_rows w_dim"]) -> float:
        """By how much what is fixed has changed at v, in any unit."""
        (change,) = to_host(self._drift(self._at(coordinates, v)).norm())
        return change.item()

    @torch.no_grad()
    def keep(
        self,
        coordinates: Linear,
        v: Float[Tensor, "1 shift_rows w_dim"],
        step: Float[Tensor, "1 shift_rows w_dim"],
        jacobian: Float[Tensor, "k shift_rows w_dim"],
    ) -> Float[Tensor, "1 shift_rows w_dim"]:
        """The step that moves the handles as this one does and changes the fixed region less.

        Args:
            coordinates: of v, step and jacobian.
            v: where the step begins.
            jacobian: of the handles.
        """
        length = step.norm()
        if can_look(length) and not length:
            return step
        here = self._at(coordinates, v)
        changed, scale = self._shown(here, step)
        return step + self._correction(here, step, changed + self._drift(here), jacobian, scale)

    @torch.no_grad()
    def restore(
        self,
        coordinates: Linear,
        v: Float[Tensor, "1 shift_rows w_dim"],
        step: Float[Tensor, "1 shift_rows w_dim"],
        jacobian: Float[Tensor, "k shift_rows w_dim"],
        usual: Float[Tensor, "1 shift_rows w_dim"],
    ) -> Float[Tensor, "1 shift_rows w_dim"]:
        """The step that leaves the handles where they are and makes up for what has changed in the fixed region.

        Args:
            step: it moves the handles by as little as may still be left, and says nothing of what lengths mean.
            usual: a step that moves them, which tells what lengths mean.
        """
        here = self._at(coordinates, v)
        _, scale = self._shown(here, usual)
        changed = self._slope(here, scale.length, step)
        return step + self._correction(here, step, changed + self._drift(here), jacobian, scale)

    def _shown(
        self, here: _Place, step: Float[Tensor, "1 shift_rows w_dim"]
    ) -> tuple[Float[Tensor, "1 channel height width"], MaskScale]:
        """What a step from there changes of what is fixed, and what that shows of the scale."""
        length = step.norm().clamp(min=SHORTEST)
        changed = self._slope(here, length, step)
        # Relative to how strongly this very step changes what is fixed, so that lambda means the same everywhere.
        share = SHARE * self._problem.config.mask_weight
        return changed, MaskScale(length, share * (length / changed.norm().clamp(min=SHORTEST)).square())

    def _correction(
        self,
        here: _Place,
        step: Float[Tensor, "1 shift_rows w_dim"],
        changed: Float[Tensor, "1 channel height width"],
        jacobian: Float[Tensor, "k shift_rows w_dim"],
        scale: MaskScale,
    ) -> Float[Tensor, "1 shift_rows w_dim"]:
        """Projected conjugate gradients, within a radius (Steihaug).

        Args:
            changed: what is fixed after the step, less what it should be.
        """

        def transposed(y: Tensor) -> Tensor:
            (g,) = torch.autograd.grad(here.seen, here.leaf, y, retain_graph=True)
            return g

        project = null_space(jacobian)
        at = _begin(project, step, transposed(changed), scale)
        for left in reversed(range(self._iterations)):
            # Where looking would wait for the device, it goes on and nothing moves any more.
            if can_look(at.going) and not at.going:
                break
            hp = self._slope(here, scale.length, at.direction)
            moved = _move(at, hp, scale, self._furthest)
            if left == 0 or (can_look(moved.going) and not moved.going):
                return moved.total
            at = _turn(project, moved, transposed(hp), scale)
        return at.total

    def _slope(
        self, here: _Place, length: Float[Tensor, ""], x: Float[Tensor, "1 shift_rows w_dim"]
    ) -> Float[Tensor, "1 channel height width"]:
        """``H x`` there, as a difference over a share of that length."""
        scale = PROBE * length / x.norm().clamp(min=SHORTEST)
        return (self._fixed_part(here.coordinates.shift(here.v + scale * x)) - here.seen.detach()) / scale

    def _drift(self, here: _Place) -> Float[Tensor, "1 channel height width"]:
        """The change so far."""
        return here.seen.detach() - self._kept

    def _at(self, coordinates: Linear, v: Float[Tensor, "1 shift_rows w_dim"]) -> _Place:
        """What it takes to differentiate the change at v; kept until another latent is asked for."""
        if self._last is None or self._last.v is not v:
            with torch.enable_grad():
                leaf = v.detach().clone().requires_grad_()
                self._last = _Place(coordinates, v, leaf, self._fixed_part(coordinates.shift(leaf)))
        return self._last

    def _fixed_part(self, shift: Float[Tensor, "1 shift_rows w_dim"]) -> Float[Tensor, "1 channel height width"]:
        """What the view shows, weighted by how much it is fixed."""
        problem = self._problem
        return self._view.compute(problem.generator, problem.rows(shift), problem.dtype) * self._mask.fixed


class _Iteration(NamedTuple):
    """Where conjugate gradients are.

    Attributes:
        total: what has been found.
        residual, direction: see there.
        square: of the residual's length.
        alpha: how far along the direction the last move led.
        going: whether it is worth another.
    """

    total: Float[Tensor, "1 shift_rows w_dim"]
    residual: Float[Tensor, "1 shift_rows w_dim"]
    direction: Float[Tensor, "1 shift_rows w_dim"]
    square: Float[Tensor, ""]
    alpha: Float[Tensor, ""]
    going: Bool[Tensor, ""]


@replayed
def _begin(
    project: NullSpace,
    step: Float[Tensor, "1 shift_rows w_dim"],
    back: Float[Tensor, "1 shift_rows w_dim"],
    scale: MaskScale,
) -> _Iteration:
    """Before the first move; ``back`` is ``H^T`` of what the step changes and has changed."""
    residual = -project(step + scale.weight * back)
    square = residual.square().sum()
    return _Iteration(
        total=torch.zeros_like(step),
        residual=residual,
        direction=residual,
        square=square,
        alpha=torch.zeros_like(square),
        going=square > 1e-12 * scale.length.square(),
    )


@replayed
def _move(at: _Iteration, hp: Float[Tensor, "1 channel height width"], scale: MaskScale, furthest: float) -> _Iteration:
    """Along the direction, which changes what is fixed by ``hp``; no farther than that share of the step's length."""
    p, radius = at.direction, furthest * scale.length
    alpha = at.square / (p.square().sum() + scale.weight * hp.square().sum()).clamp(min=SHORTEST**2)
    total = at.total + alpha * p
    far = total.norm() > radius
    # Steihaug's rule: conjugate gradients only grow from here on.
    total = torch.where(far, total * (radius / total.norm()), total)
    return at._replace(total=torch.where(at.going, total, at.total), alpha=alpha, going=at.going & ~far)


@replayed
def _turn(
    project: NullSpace, at: _Iteration, back: Float[Tensor, "1 shift_rows w_dim"], scale: MaskScale
) -> _Iteration:
    """To the next direction; ``back`` is ``H^T`` of what the last one changes."""
    residual = at.residual - at.alpha * project(at.direction + scale.weight * back)
    square = residual.square().sum()
    direction = residual + square / at.square.clamp(min=SHORTEST**2) * at.direction
    going = at.going & (square > 1e-12 * scale.length.square())
    return at._replace(residual=residual, direction=direction, square=square, going=going)
