"""Where the content of a handle went, by witnesses that know nothing of the drag: for models whose truth is unknown.

Each takes the first picture, the handles in it, and another latent. They err in different ways: `along_the_line`
follows the content through pictures that the drag has never seen, and loses what is hidden on that way;
`most_resembling` looks at the two pictures alone, anywhere in the second, and is deceived by what looks alike.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import DragConfig, at_size
from draggan.drag.continuity import ContinuityTracker
from draggan.drag.motion_supervision import Sampler
from draggan.drag.prepare import prepare
from draggan.drag.problem import Pattern, Problem
from draggan.drag.solvers.gauss_newton import GaussNewton
from draggan.drag.tracking import derivatives
from draggan.generators.base import Generator
from draggan.geometry import inside

__all__ = ["along_the_line", "distinct_point", "most_resembling"]

# Pieces of the straight line: content moves by no more than this in one, image pixels at 512 px, if it moves evenly.
PIECE = 6.0
FEWEST, MOST = 8, 32
# Places looked at along the longer side, and how much finer once the best is known.
LATTICE, FINER = 64, 4
# Places compared at a time: bounds memory.
BATCH = 256
# Of so many random points the one whose surroundings tell most is taken.
CANDIDATES = 16

WS = Float[Tensor, "1 num_ws w_dim"]
Points = Float[np.ndarray, "n 2"]


def _problem(generator: Generator, ws: WS, handles: Points, config: DragConfig) -> Problem:
    """What tracking by continuity knows of the handles in this picture."""
    settings = replace(config, solver="gauss-newton", tracker="continuity", space="w+")
    return prepare(generator, ws, torch.from_numpy(handles), None, settings, None, GaussNewton, live=False)


@torch.no_grad()
def along_the_line(
    generator: Generator, before: WS, after: WS, handles: Points, asked: float, config: DragConfig
) -> tuple[Points, Bool[np.ndarray, "n"]]:
    """Follow the content by continuity along the straight line between two latents: places, and which are lost.

    Where content is in the second picture does not depend on the way there, so a drag that knows says the same,
    whatever way it took.

    Args:
        handles: in the first picture, image pixels.
        asked: how far the content is said to have gone, image pixels: the farther, the more pieces.
        config: rows, level and precision are those of the drag.
    """
    problem = _problem(generator, before, handles, config)
    tracker = ContinuityTracker(problem)
    whole = (after - before)[:, : problem.free_rows]
    pieces = min(max(math.ceil(asked / at_size(PIECE, problem.size)), FEWEST), MOST)
    limit = problem.handles.new_tensor([problem.size[1] - 1, problem.size[0] - 1])
    zero = torch.zeros_like(whole)
    here = tracker.begin(problem.handles, zero, problem.around(problem.rows(zero), problem.handles, problem.reach))
    velocity = torch.zeros_like(problem.handles)
    for k in range(1, pieces + 1):
        shift = whole * (k / pieces)
        expected = (here.handles + velocity).clamp(torch.zeros_like(limit), limit)
        there = tracker.follow(here, shift, problem.around(problem.rows(shift), expected, problem.reach), expected)
        velocity, here = there.handles - here.handles, there
    return here.handles.cpu().numpy(), here.lost.cpu().numpy()


@torch.no_grad()
def most_resembling(generator: Generator, before: WS, after: WS, handles: Points, config: DragConfig) -> Points:
    """The place anywhere in the second picture whose surroundings resemble those of each handle in the first most."""
    problem = _problem(generator, before, handles, config)
    sampler = problem.anywhere(problem.features(problem.rows((after - before)[:, : problem.free_rows])))
    height, width = problem.size
    spacing = max(height, width) / LATTICE
    fine = torch.arange(-FINER, FINER + 1, device=before.device) * (spacing / FINER)
    y, x = torch.meshgrid(
        torch.arange(spacing / 2, height - 0.5, spacing), torch.arange(spacing / 2, width - 0.5, spacing), indexing="ij"
    )
    lattice = torch.stack([x, y], -1).reshape(-1, 2).to(problem.handles)
    around = torch.stack(torch.meshgrid(fine, fine, indexing="xy"), -1).reshape(-1, 2).to(lattice)
    limit = lattice.new_tensor([width - 1, height - 1])
    found = []
    for i in range(len(handles)):
        best = _best(problem.pattern, i, lattice, sampler)
        found.append(_best(problem.pattern, i, (best + around).clamp(torch.zeros_like(limit), limit), sampler))
    return torch.stack(found).cpu().numpy()


def _best(pattern: Pattern, i: int, candidates: Float[Tensor, "k 2"], sampler: Sampler) -> Float[Tensor, "2"]:
    """The candidate most similar to handle i's surroundings, both less the mean of the first picture's features."""
    clicked = inside(pattern.clicked[i] + pattern.offsets, pattern.image_size)
    alike = []
    for some in candidates.split(BATCH):
        at = some[:, None] + pattern.offsets
        root = (pattern.weights[i].sqrt() * inside(at, pattern.image_size) * clicked)[..., None]
        first = ((pattern.features[i] - pattern.mean[i]) * root).flatten(1)
        alike.append(F.cosine_similarity(first, ((sampler(at) - pattern.mean[i]) * root).flatten(1), dim=1))
    return candidates[int(torch.cat(alike).argmax())]


@torch.no_grad()
def distinct_point(
    generator: Generator, ws: WS, random: np.random.Generator, config: DragConfig
) -> Float[np.ndarray, "2"]:
    """A random point of the middle of a picture at which something can be seen in every direction.

    Of some random ones that with the largest least eigenvalue of ``J^T J`` (Shi and Tomasi, "Good Features to Track",
    CVPR 1994), J the slopes of the features around it: a handle on a flat wall or an edge says nothing.
    """
    height, width = generator.image_size
    points = random.uniform(0.2, 0.8, (CANDIDATES, 2)) * np.array([width - 1, height - 1])
    problem = _problem(generator, ws, points.astype(np.float32), config)
    sampler = problem.anywhere(problem.features(problem.rows(torch.zeros_like(ws[:, : problem.free_rows]))))
    slopes = derivatives(sampler, problem.handles, problem.patch)
    least = torch.linalg.eigvalsh(torch.einsum("npci,npcj->nij", slopes, slopes).double())[:, 0]
    return points[int(least.argmax())]
