"""How the tracked position of a handle depends on the latent.

Tracking says ``p(w) = argmin_q 1/2 |F(q; w) - f|^2`` over the patch, f the handle's template. Differentiating the
condition for the minimum, without the second derivatives of F (Gauss-Newton; exact where the template is met), gives

    dp/dw = -(J^T J)^-1 J^T dF(p; w)/dw,      J = dF/dq at p.

Of one or two handles whose content is followed, the weighted surroundings take the place of the patch
(`Problem.probe`). So each of the two rows of dp/dw is a vector-Jacobian product of the features, whose cotangent lies
there alone. The 2 n rows of n handles come out of one backward pass over a batch of 2 n copies of the latent, each
of which computes one small window. A second one through the same copies tells how what is under the handles looks less
like the start (`Content`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.motion_supervision import loss_and_gradient
from draggan.drag.problem import Pattern, Problem
from draggan.geometry import FeatureSampler, Grid, Windows, WindowSampler, cover
from torch_utils.recorder import replayed
from torch_utils.transfer import to_host

__all__ = ["Content", "Copies", "NullSpace", "content_of", "inverse", "null_space", "position_rows", "to_float64"]


class Copies:
    """Two copies of a latent per handle, and the features around that handle as functions of them.

    Attributes:
        shift: the leaf, ``[2 n, moves, w_dim]``.
        sampler: of the features around each handle, without gradient.
        each: of those of all copies, with it; ``2 i`` and ``2 i + 1`` are around handle i.
    """

    def __init__(
        self,
        problem: Problem,
        shift: Float[Tensor, "1 moves w_dim"],
        handles: Float[Tensor, "n 2"],
        reach: float,
    ) -> None:
        with torch.enable_grad():
            self.shift = shift.detach().repeat(2 * len(handles), 1, 1).requires_grad_()
            # One window per copy: `cover` would let neighbours share one. Its size depends on the reach alone.
            (known,) = to_host(handles)
            boxes = [cover(point[None], reach, problem.grid)[0] for point in known]
            once = Windows(tuple(box.origins[0] for box in boxes), boxes[0].size)
            twice = Windows(tuple(origin for origin in once.origins for _ in range(2)), once.size)
            features = problem.features(problem.rows(self.shift), twice)
            self.each = _each(features, problem.grid, twice)
        self.sampler = _each(features.detach()[::2], problem.grid, once)


def _each(features: Float[Tensor, "k channel height width"], grid: Grid, windows: Windows) -> WindowSampler:
    member = torch.arange(len(windows), device=features.device)
    return WindowSampler(FeatureSampler.of(features, grid, windows), member)


def position_rows(
    shift: Float[Tensor, "copies moves w_dim"],
    each: WindowSampler,
    handles: Float[Tensor, "n 2"],
    patch: Float[Tensor, "p 2"],
    inverse: Float[Tensor, "n 2 p channel"],
) -> Float[Tensor, "copies moves w_dim"]:
    """``dp/dw`` in pixels per latent unit; row ``2 i + a`` is that of coordinate a of handle i.

    Args:
        shift, each: see `Copies`; the copies are used up.
        inverse: ``(J^T J)^-1 J^T`` of every handle, from `tracking.slopes`.
    """
    with torch.no_grad():
        gradient = _gradient_to_cells(each.of_cells(each.cells.detach()), handles, patch, inverse)
    (rows,) = torch.autograd.grad(each.cells, shift, gradient)
    return rows


@dataclass(frozen=True, eq=False)
class Content:
    """How much the surroundings of all handles look unlike the start, where the handles are.

    Attributes:
        change: half the sum of weighted squared differences of features.
        row: its derivative by the latent.
    """

    change: Float[Tensor, ""]
    row: Float[Tensor, "1 moves w_dim"]


def content_of(
    shift: Float[Tensor, "copies moves w_dim"], each: WindowSampler, handles: Float[Tensor, "n 2"], pattern: Pattern
) -> Content:
    """What has become of the content of the handles.

    Args:
        shift, each: see `Copies`; they can be differentiated once more.
        pattern: what it looked like.
    """
    with torch.no_grad():
        change, gradient = _content_to_cells(each.of_cells(each.cells.detach()), handles, pattern)
    (rows,) = torch.autograd.grad(each.cells, shift, gradient, retain_graph=True)
    return Content(change, rows.sum(0, keepdim=True))


@replayed
def _content_to_cells(
    each: WindowSampler, handles: Float[Tensor, "n 2"], pattern: Pattern
) -> tuple[Float[Tensor, ""], Float[Tensor, "1 channel tall width"]]:
    """`Content.change`, and its gradient in the first copy's window of every handle."""
    root = pattern.root_weights(handles)
    root = torch.stack([root, torch.zeros_like(root)], 1).flatten(0, 1)
    q, features = (t.repeat_interleave(2, 0) for t in (handles[:, None] + pattern.offsets, pattern.features))
    return loss_and_gradient(each, lambda s: ((s(q) - features) * root).square().sum() / 2)


@replayed
def _gradient_to_cells(
    each: WindowSampler,
    handles: Float[Tensor, "n 2"],
    patch: Float[Tensor, "p 2"],
    inverse: Float[Tensor, "n 2 p channel"],
) -> Float[Tensor, "1 channel tall width"]:
    """That of the positions, one coordinate of a handle in each copy's window."""
    q = (handles[:, None] + patch).repeat_interleave(2, 0)
    _, gradient = loss_and_gradient(each, lambda s: -(s(q) * inverse.flatten(0, 1)).sum())
    return gradient


def to_float64(t: Tensor) -> Tensor:
    """In float64, which Apple's devices lack: from those it comes to the host."""
    return (t.cpu() if t.device.type == "mps" else t).double()


def inverse(gram: Float[Tensor, "m m"], least: float = 0.0) -> Float[Tensor, "m m"]:
    """Of a symmetric matrix without negative eigenvalues, by Gauss and Jordan, in float64.

    A library's would have the host look whether there is one, and cannot be recorded.

    Args:
        gram: products of rows.
        least: a row that is longer than those before it explain by less than this share of the longest one (both
            squared) is left out: its part of the inverse is zero.
    """
    m = len(gram)
    identity = torch.eye(m, dtype=gram.dtype, device=gram.device)
    work, kept = torch.cat([gram, identity], 1), []
    enough = least * gram.diagonal().amax() + torch.finfo(gram.dtype).tiny ** 0.5
    for k in range(m):
        pivot = work[k, k]
        good = pivot > enough
        row = torch.where(good, work[k] / pivot, 0)
        # Row k becomes that row, and column k of all others zero.
        work = torch.addr(work, work[:, k] - identity[k], row, alpha=-1)
        kept.append(good)
    return work[:, m:] * torch.stack(kept)[:, None]


@dataclass(frozen=True, eq=False)
class NullSpace:
    """Of a Jacobian: the projection of steps onto those that leave the handles where they are.

    Attributes:
        rows: of the Jacobian, float64.
        solve: inverse of their products.
    """

    rows: Float[Tensor, "k n"]
    solve: Float[Tensor, "k k"]

    def __call__(self, x: Float[Tensor, "1 moves w_dim"]) -> Float[Tensor, "1 moves w_dim"]:
        flat = to_float64(x.flatten())
        return (flat - self.rows.T @ (self.solve @ (self.rows @ flat))).to(x).reshape(x.shape)


@replayed
def null_space(jacobian: Float[Tensor, "k moves w_dim"]) -> NullSpace:
    """That of a Jacobian; handles on one spot share their rows."""
    rows = to_float64(jacobian.flatten(1))
    return NullSpace(rows, inverse(rows @ rows.T, 1e-6))
