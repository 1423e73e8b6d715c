"""What a mask fixes, in a second-order step: the change of the fixed features, made small without touching the handles.

A step that moves the handles as asked may be moved further within the null space of their Jacobian ``J``. There

    min |v|^2 + weight |H v + r|^2,    H = d(fixed features)/dv,  r = their change so far,

is solved by a few conjugate-gradient iterations, each of one product with ``H`` and one with ``H^T``: what it takes to
make up for this step is found in far fewer products than it would take to know ``H``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag.jacobian import null_space
from draggan.drag.mask import FixedRegion
from draggan.drag.problem import Problem, compute_features
from draggan.generators.base import Generator

__all__ = ["Hold", "holding_level"]

# Cells along the longer side of the map that what is fixed is held on, at least: a mask is painted about as finely.
CELLS = 32
# Conjugate-gradient iterations a step. Twice as many make up for this step a little better and change nothing at the
# end of the drag: what is left is what is not linear, and the next step makes up for that.
ITERATIONS = 4
# How long what makes up for a step may be, as a share of the step. Where it would take more (a head is to turn inside a
# mask that is too small for it), latents become unlike any the model knows, and the fixed region changes all the same.
FURTHEST = 0.7
# What the published lambda of 20 stands for: a step of which nothing is made up for changes the fixed region 5 times as
# much as its own length counts. More holds hardly better, and takes more unusual latents to do it.
SHARE = 0.25
# Products with H are differences over this share of the step's own length: long enough to stand out of the rounding of
# bfloat16 features, and no longer than what is stepped.
PROBE = 0.5


class Hold:
    """Takes out of steps what would change the fixed region.

    Args:
        root: the metric S, ``dw = S v``; None: the identity.
    """

    def __init__(self, problem: Problem, mask: FixedRegion, root: Float[Tensor, "w_dim w_dim"] | None) -> None:
        self._problem, self._mask, self._root = problem, mask, root
        self._kept = mask.kept * mask.fixed

    @torch.no_grad()
    def hold(
        self,
        v: Float[Tensor, "1 moves w_dim"],
        step: Float[Tensor, "1 moves w_dim"],
        jacobian: Float[Tensor, "k moves w_dim"],
    ) -> Float[Tensor, "1 moves w_dim"]:
        """The step that moves the handles as this one does and changes the fixed region less.

        Args:
            v: where the step begins.
            jacobian: of the handles.
        """
        length = step.norm().item()
        if length == 0:
            return step
        with torch.enable_grad():
            leaf = v.detach().clone().requires_grad_()
            here = self._features(leaf)
        drift = here.detach() - self._kept

        def forth(x: Tensor) -> Tensor:
            scale = PROBE * length / x.norm().clamp(min=1e-30)
            return (self._features(v + scale * x) - here.detach()) / scale

        def back(y: Tensor) -> Tensor:
            (g,) = torch.autograd.grad(here, leaf, y, retain_graph=True)
            return g

        project = null_space(jacobian)
        changed = forth(step)
        # Relative to how strongly this very step changes the fixed region, so that lambda means the same everywhere.
        weight = SHARE * self._problem.config.mask_weight * (length / changed.norm().clamp(min=1e-30).item()) ** 2
        residual = -project(step + weight * back(changed + drift))
        p, total = residual, torch.zeros_like(step)
        square = residual.square().sum()
        for _ in range(ITERATIONS):
            if square <= 1e-12 * length**2:
                break
            hp = forth(p)
            alpha = square / (p.square().sum() + weight * hp.square().sum())
            total = total + alpha * p
            if total.norm() > FURTHEST * length:
                # Steihaug's rule: conjugate gradients only grow from here on.
                total = total * (FURTHEST * length / total.norm())
                break
            residual = residual - alpha * project(p + weight * back(hp))
            before, square = square, residual.square().sum()
            p = residual + square / before * p
        return step + total

    def _features(self, v: Float[Tensor, "1 moves w_dim"]) -> Float[Tensor, "1 channel height width"]:
        """The fixed features, weighted by how much they are fixed."""
        shift = v if self._root is None else v @ self._root
        problem = self._problem
        rows = problem.rows(shift)
        return compute_features(problem.generator, rows, problem.mask_level, problem.dtype) * self._mask.fixed


def holding_level(generator: Generator, config: DragConfig, level: str) -> str:
    """The level to hold what is fixed on: the coarsest that shows all that the free rows do, with 32 cells or more.

    Whatever lies beyond it follows from it and from rows that do not move, so it need not be looked at; and a product
    with H costs a whole map of this level.

    Args:
        level: the level dragged on, which is the finest to choose from.
    """
    wanted = min(config.free_rows, generator.num_ws, generator.rows_used(level))
    for coarser in generator.levels[: generator.levels.index(level)]:
        if generator.rows_used(coarser) >= wanted and max(generator.grid(coarser).size) >= CELLS:
            return coarser
    return level
