"""The published optimiser: motion supervision by Adam, about a pixel per step.

Pan et al., "Drag Your GAN" (SIGGRAPH 2023), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.drag.motion import Sampler, mask_loss, motion_supervision_loss
from draggan.drag.problem import Problem
from draggan.drag.solver import Proposal, Solver

__all__ = ["Adam", "Moments"]


class Adam(Solver):
    """One forward and one backward pass a step."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        ws = problem.ws
        self._shift = torch.zeros(1, problem.moves, ws.shape[2], device=ws.device, requires_grad=True)
        self._moments = Moments(self._shift.detach())
        # Only the estimated mask loss draws from it; the same drag always draws the same.
        self._random = np.random.default_rng(0)
        self._sampler: Sampler | None = None
        self._change: Callable[[], Tensor] | None = None
        self._loss: Tensor | None = None

    @property
    def stall_steps(self) -> int:
        return self.problem.config.stall_steps

    def look(self, proposal: Proposal, *, last: bool) -> Sampler:
        """See `Solver.look`.

        Only windows around the handles are computed. An exact mask loss needs the whole map, which then serves both;
        an estimated one (`DragConfig.mask_windows`) takes windows of the fixed region. Those are larger, since a window
        costs as much as one some ten cells larger on every side; a quarter of the map wide, a few of them tell enough.
        """
        problem = self.problem
        mask, count = problem.mask, problem.config.mask_windows
        with torch.set_grad_enabled(not last):
            rows = problem.rows(self._shift)
            if mask is not None and count == 0:
                features = problem.features(rows)
                self._sampler = problem.anywhere(features)
                self._change = lambda: mask_loss(features, mask.kept, mask.fixed)
                return self._sampler
            self._sampler = problem.near(rows, proposal.handles, problem.reach)

        def change() -> Tensor:
            assert mask is not None
            height, width = problem.grid.size
            tiles = mask.tiles((max(height // 4, 1), max(width // 4, 1)), count, self._random)
            return tiles.scale * mask_loss(problem.features(rows, tiles.windows), tiles.kept, tiles.fixed)

        self._change = None if mask is None else change
        return self._sampler

    def loss(self, handles: Float[Tensor, "n 2"], d: Float[Tensor, "n 2"], pulled: Bool[Tensor, "n"]) -> float:
        assert self._sampler is not None
        problem = self.problem
        loss = motion_supervision_loss(self._sampler, handles, d, pulled, problem.patch, problem.size)
        if self._change is not None:
            loss = loss + problem.config.mask_weight * self._change()
        self._loss = loss
        return loss.item()

    def propose(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> Proposal:
        assert self._loss is not None
        self._shift.grad = None
        self._loss.backward()
        self._loss = self._sampler = self._change = None
        assert self._shift.grad is not None
        shift = self._moments.step(self._shift.detach(), self._shift.grad, self.problem.config.step_size)
        with torch.no_grad():
            self._shift.copy_(shift)
        return Proposal(shift, handles)


class Moments:
    """Adam (Kingma and Ba, 2015, Algorithm 1) for one tensor, with the usual constants.

    What `torch.optim.Adam` does, in its order of operations, without what it does besides: its bookkeeping of groups,
    hooks and states takes a tenth of a step on a small model.
    """

    BETAS = (0.9, 0.999)
    EPSILON = 1e-8

    def __init__(self, like: Tensor) -> None:
        self._first, self._second, self._count = torch.zeros_like(like), torch.zeros_like(like), 0

    def step(self, x: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """Where x goes."""
        self._count += 1
        (b1, b2), t = self.BETAS, self._count
        self._first.lerp_(gradient, 1 - b1)
        self._second.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        root = (self._second.sqrt() / (1 - b2**t) ** 0.5).add_(self.EPSILON)
        return torch.addcdiv(x, self._first, root, value=-step_size / (1 - b1**t))
