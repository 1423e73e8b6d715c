"""Other ways to a step, to compare with: what each part of the solver is worth.

Both are `Drag` with another solver: tracking, arrival, limits, what is refused and the best latent are the same. They
are rows of `python -m benchmarks truth`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import GaussNewtonRules
from draggan.drag import Drag
from draggan.drag.continuity import ContinuityTracker
from draggan.drag.latent_statistics import latent_statistics
from draggan.drag.problem import Problem
from draggan.drag.solvers.adam import Adam, AdamEvaluation, Moments, Supervision
from draggan.drag.solvers.base import Solver, never
from draggan.drag.solvers.gauss_newton import GaussNewton, GaussNewtonEvaluation, Linearisation
from draggan.drag.solvers.latent_metric import LatentMetric, metric_root, row_coupling
from draggan.drag.solvers.trust_region import Region
from draggan.drag.tracking import Tracker
from draggan.evaluation.protocols import Method

__all__ = ["FIXED_STEPS", "PRECONDITIONED_ADAM", "FixedSteps", "PreconditionedAdam"]

# How far a fixed step asks the farthest handle to go, image pixels at 512 px: one cell of the map that is dragged on.
FIXED_STEP = 4.0


class FixedSteps(GaussNewton):
    """Along the Jacobian in steps of one length, each taken whatever comes of it.

    As editing along a landmark's Jacobian does (Wang et al., Hijack-GAN, CVPR 2021), here with the Jacobian of the
    tracked position: no trust region, no step taken back, none shortened, and nothing that goes home.
    """

    def _approach(
        self,
        here: GaussNewtonEvaluation,
        linearisation: Linearisation,
        *,
        last: bool,
        stopped: Callable[[], bool],
    ) -> GaussNewtonEvaluation:
        region = Region(self.problem.pixels(FIXED_STEP), GaussNewtonRules().min_damping)
        jacobian = linearisation.jacobian
        attempt = self._going(here, jacobian, self._towards(here, jacobian, region))
        return self._with(self._evaluate(here, attempt, last=last), mask_steps=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class PreconditionedEvaluation(AdamEvaluation):
    """See `Evaluation`.

    Attributes:
        v: the latent in coordinates of the metric, ``shift = S v``.
    """

    v: Float[Tensor, "1 shift_rows w_dim"]


class PreconditionedAdam(Adam):
    """The published optimiser in the coordinates in which Gauss-Newton's smallest step is smallest."""

    def __init__(self, problem: Problem, tracker: Tracker) -> None:
        super().__init__(problem, tracker)
        config, known = problem.config, latent_statistics(problem.generator)
        used = min(problem.shift_rows, problem.generator.rows_used(problem.level))
        coupling = row_coupling(problem.shift_rows, used, config.row_independence)
        self._metric = LatentMetric(
            None if known is None else metric_root(known, config.naturalness).to(problem.ws.device),
            None if coupling is None else coupling.to(problem.ws.device),
        )

    def initial(self, handles: Float[Tensor, "n 2"], *, last: bool = False) -> PreconditionedEvaluation:
        """See `Solver.initial`."""
        first = super().initial(handles, last=last)
        return PreconditionedEvaluation(
            shift=first.shift,
            tracked=first.tracked,
            supervision=first.supervision,
            moments=first.moments,
            v=torch.zeros_like(first.shift),
        )

    def step(
        self,
        here: AdamEvaluation,
        targets: Float[Tensor, "n 2"],
        *,
        last: bool = False,
        stopped: Callable[[], bool] = never,
    ) -> PreconditionedEvaluation:
        """See `Solver.step`. The metric is symmetric, so it turns a gradient in w into the one in v."""
        assert isinstance(here, PreconditionedEvaluation)
        handles, moments = here.tracked.handles, here.moments
        assert isinstance(moments, Moments)
        gradient = self._metric(here.supervision.gradient(handles, targets))
        v, moments = moments.step(here.v, gradient, self.problem.config.step_size)
        shift = self._metric(v)
        seen = self.compute(shift, handles, last=last)
        return PreconditionedEvaluation(
            shift=shift,
            tracked=self.tracker.follow(here.tracked, shift, seen.sampler, handles),
            supervision=Supervision(self.problem, seen),
            moments=moments,
            v=v,
        )


class _FixedStepsDrag(Drag):
    def make_solver(self, targets: Float[Tensor, "n 2"]) -> Solver[GaussNewtonEvaluation]:
        """See `Drag.make_solver`."""
        return FixedSteps(self.problem, ContinuityTracker(self.problem))


class _PreconditionedDrag(Drag):
    def make_solver(self, targets: Float[Tensor, "n 2"]) -> Solver[AdamEvaluation]:
        """See `Drag.make_solver`."""
        return PreconditionedAdam(self.problem, ContinuityTracker(self.problem))


FIXED_STEPS = Method(key="fixed steps 1", begin=_FixedStepsDrag)
"""Settings: those of Gauss-Newton, with ``tracker="continuity"``."""
PRECONDITIONED_ADAM = Method(key="preconditioned Adam 1", begin=_PreconditionedDrag)
"""Settings: those of Adam, with ``tracker="continuity"``."""
