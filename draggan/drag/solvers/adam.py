"""The published optimiser: motion supervision by Adam, about a pixel per step.

Pan et al., "Drag Your GAN" (SIGGRAPH 2023), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.mask import FixedRegion
from draggan.drag.motion_supervision import mask_loss_and_gradient, pull_and_gradient
from draggan.drag.problem import Problem
from draggan.drag.refusal import fetch_at_once
from draggan.drag.solvers.base import Evaluation, Kept, Solver, never
from draggan.drag.stopping import Patience
from draggan.drag.tracking import Tracker
from draggan.geometry import FeatureSampler, WindowSampler

__all__ = ["Adam", "AdamEvaluation", "AdamKept", "Change", "Computed", "Moments", "Supervision"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Adam (Kingma and Ba, 2015, Algorithm 1) for one tensor, with the usual constants.

    What `torch.optim.Adam` does, in its order of operations, without what it does besides: its bookkeeping of groups,
    hooks and states takes a tenth of a step on a small model.

    Attributes:
        first, second: running means of the gradient and of its square.
        count: steps so far.
    """

    BETAS = (0.9, 0.999)
    EPSILON = 1e-8

    first: Tensor
    second: Tensor
    count: int = 0

    @classmethod
    def zero(cls, like: Tensor) -> Moments:
        """Before the first step."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def step(self, x: Tensor, gradient: Tensor, step_size: float) -> tuple[Tensor, Moments]:
        """Where x goes, and the moments then."""
        (b1, b2), t = self.BETAS, self.count + 1
        first = self.first.lerp(gradient, 1 - b1)
        second = (self.second * b2).addcmul_(gradient, gradient, value=1 - b2)
        root = (second.sqrt() / (1 - b2**t) ** 0.5).add_(self.EPSILON)
        return torch.addcdiv(x, first, root, value=-step_size / (1 - b1**t)), Moments(first, second, t)


@dataclass(frozen=True, eq=False)
class Change:
    """What the mask loss is taken of.

    Attributes:
        features: whole, or windows of them, as a function of a latent's shift.
        kept, fixed: see `draggan.drag.motion_supervision.mask_loss`.
        scale: of the loss.
    """

    features: Float[Tensor, "n channel height width"]
    kept: Float[Tensor, "n channel height width"]
    fixed: Float[Tensor, "n 1 height width"]
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Computed:
    """What was computed of one latent.

    Attributes:
        leaf: its shift, which gradients are taken with respect to.
        sampler: features as a function of it.
        change: what the mask loss is taken of, computed when it is asked for; None: nothing is fixed.
        around: where the features were computed, image pixels.
        random: the state of the random numbers that the mask loss may draw.
    """

    leaf: Float[Tensor, "1 shift_rows w_dim"]
    sampler: FeatureSampler | WindowSampler
    change: Callable[[], Change] | None
    around: Float[Tensor, "n 2"]
    random: Mapping[str, Any]


class Supervision:
    """The loss of one latent (Eq. 1) as a function of where its handles are to go, and its gradient.

    What leads from features to the loss and back is recorded where it can be (`torch_utils.recorder`), apart from the
    network's passes; so gradients by features are there with the loss, and those by the latent when they are asked for.

    Attributes:
        around, random: as in `Computed`.
    """

    def __init__(self, problem: Problem, computed: Computed) -> None:
        self.problem = problem
        self.around, self.random = computed.around, computed.random
        self._computed: Computed | None = computed
        # What was asked for last: a drag reports the loss and then steps along its gradient.
        self._asked: Tensor | None = None
        self._loss: Tensor | None = None
        # Features, and gradients by them.
        self._by_features: tuple[list[Tensor], list[Tensor]] = [], []

    def loss(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
        """Computed once for the same targets, by identity: comparing numbers would wait for the device."""
        if self._loss is None or self._asked is not targets:
            computed = self._computed
            assert computed is not None, "its gradient has been taken"
            sampler = computed.sampler.of_cells(computed.sampler.cells.detach())
            loss, gradient = self.motion(sampler, handles, targets)
            features, gradients = [computed.sampler.cells], [gradient]
            change = None if computed.change is None else computed.change()
            if change is not None:
                weight = self.problem.config.mask_weight * change.scale
                changed, gradient = mask_loss_and_gradient(change.features.detach(), change.kept, change.fixed)
                loss = loss + weight * changed
                features, gradients = [*features, change.features], [*gradients, weight * gradient]
            self._asked, self._loss, self._by_features = targets, loss, (features, gradients)
        return self._loss

    def motion(
        self,
        sampler: FeatureSampler | WindowSampler,
        handles: Float[Tensor, "n 2"],
        targets: Float[Tensor, "n 2"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "1 channel tall width"]]:
        """The first term, and its gradient by the sampler's cells."""
        problem = self.problem
        return pull_and_gradient(sampler, handles, targets, problem.near, problem.patch, problem.size)

    def gradient(
        self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]
    ) -> Float[Tensor, "1 shift_rows w_dim"]:
        """Of the loss, once: then what it took to compute it is let go, before the next latent takes as much."""
        self.loss(handles, targets)
        assert self._computed is not None
        features, gradients = self._by_features
        (gradient,) = torch.autograd.grad(features, self._computed.leaf, gradients)
        self._loss = self._computed = None
        self._by_features = [], []
        return gradient


@dataclass(frozen=True, kw_only=True, eq=False)
class AdamEvaluation(Evaluation):
    """See `Evaluation`. One step can be taken from it."""

    supervision: Supervision
    moments: Moments

    def loss(self, targets: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
        """See `Evaluation.loss`."""
        return self.supervision.loss(self.tracked.handles, targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdamKept(Kept):
    """See `Kept`; the rest as in `AdamEvaluation` and `Computed`."""

    moments: Moments
    around: Float[Tensor, "n 2"]
    random: Mapping[str, Any]


class Adam(Solver[AdamEvaluation]):
    """One forward and one backward pass a step."""

    def __init__(self, problem: Problem, tracker: Tracker) -> None:
        super().__init__(problem, tracker)
        # Only the estimated mask loss draws from it; the same drag always draws the same.
        self._random = np.random.default_rng(0)

    def patience(self, here: AdamEvaluation, targets: Float[Tensor, "n 2"]) -> Patience:
        """See `Solver.patience`."""
        return Patience(self.problem.config.stall_steps, self.problem.least_progress)

    def initial(self, handles: Float[Tensor, "n 2"], *, last: bool = False) -> AdamEvaluation:
        """See `Solver.initial`."""
        ws = self.problem.ws
        shift = torch.zeros(1, self.problem.shift_rows, ws.shape[2], device=ws.device)
        seen = self.compute(shift, handles, last=last)
        tracked = self.tracker.begin(handles, shift, seen.sampler)
        supervision = Supervision(self.problem, seen)
        return AdamEvaluation(shift=shift, tracked=tracked, supervision=supervision, moments=Moments.zero(shift))

    def step(
        self,
        here: AdamEvaluation,
        targets: Float[Tensor, "n 2"],
        *,
        last: bool = False,
        stopped: Callable[[], bool] = never,
    ) -> AdamEvaluation:
        """See `Solver.step`. It always takes one, along the gradient of the loss."""
        handles = here.tracked.handles
        gradient = here.supervision.gradient(handles, targets)
        shift, moments = here.moments.step(here.shift, gradient, self.problem.config.step_size)
        seen = self.compute(shift, handles, last=last)
        tracked = self.tracker.follow(here.tracked, shift, seen.sampler, handles)
        supervision = Supervision(self.problem, seen)
        # The next step goes along its gradient, or nobody needs it.
        fetch_at_once(self.problem, shift, tracked, *(() if last else (supervision.loss(tracked.handles, targets),)))
        return AdamEvaluation(shift=shift, tracked=tracked, supervision=supervision, moments=moments)

    def again(self, here: AdamEvaluation) -> AdamEvaluation:
        """See `Solver.again`. What it took to step from there is gone, so it is computed anew."""
        seen = self.compute(here.shift, here.tracked.handles, last=False)
        return replace(here, supervision=Supervision(self.problem, seen))

    def confirmed(self, here: AdamEvaluation, *, final: bool) -> AdamEvaluation:
        """See `Solver.confirmed`."""
        tracked = self.tracker.confirm(here.tracked, here.shift, final=final)
        return here if tracked is here.tracked else self.again(replace(here, tracked=tracked))

    def kept(self, here: AdamEvaluation) -> AdamKept:
        """See `Solver.kept`."""
        return AdamKept(
            shift=here.shift,
            tracked=here.tracked,
            converged=here.converged,
            moments=here.moments,
            around=here.supervision.around,
            random=here.supervision.random,
        )

    def resumed(self, kept: Kept) -> AdamEvaluation:
        """See `Solver.resumed`."""
        assert isinstance(kept, AdamKept)
        self.begin_again()
        self._random.bit_generator.state = kept.random
        seen = self.compute(kept.shift, kept.around, last=False)
        supervision = Supervision(self.problem, seen)
        return AdamEvaluation(shift=kept.shift, tracked=kept.tracked, supervision=supervision, moments=kept.moments)

    def compute(
        self, shift: Float[Tensor, "1 shift_rows w_dim"], handles: Float[Tensor, "n 2"], *, last: bool
    ) -> Computed:
        """The features of a latent, around where its handles should be.

        Only windows around the handles are computed. An exact mask loss needs the whole map, which then serves both;
        an estimated one (`DragConfig.mask_windows`) takes windows of the fixed region. Those are larger, since a window
        costs as much as one some ten cells larger on every side; a quarter of the map wide, a few of them tell enough.
        """
        problem, mask = self.problem, self.problem.mask
        leaf = shift.detach().requires_grad_()
        computed = partial(Computed, around=handles, random=self._random.bit_generator.state)
        with torch.set_grad_enabled(not last):
            rows = problem.rows(leaf)
            if mask is None:
                return computed(leaf, problem.around(rows, handles, problem.reach), None)
            if problem.config.mask_windows > 0:
                sampler = problem.around(rows, handles, problem.reach)
                return computed(leaf, sampler, partial(self._estimated_change, rows, mask))
            features = problem.latent_features(rows)
            change = partial(Change, features, mask.kept, mask.fixed)
            if problem.blend is not None:
                return computed(leaf, problem.around(rows, handles, problem.reach), change)
            return computed(leaf, problem.anywhere(features), change)

    def _estimated_change(self, rows: list[Tensor], mask: FixedRegion) -> Change:
        """What an estimate of the mask loss is taken of: random windows of the fixed region."""
        problem = self.problem
        height, width = problem.grid.size
        tiles = mask.tiles((max(height // 4, 1), max(width // 4, 1)), problem.config.mask_windows, self._random)
        return Change(problem.latent_features(rows, tiles.windows), tiles.kept, tiles.fixed, tiles.scale)
