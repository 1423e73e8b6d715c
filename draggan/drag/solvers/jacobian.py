"""How the tracked position of a handle depends on the latent.

Tracking says ``p(w) = argmin_q 1/2 |F(q; w) - f|^2`` over the patch, f the handle's template. Differentiating the
condition for the minimum, without the second derivatives of F (Gauss-Newton; exact where the template is met), gives

    dp/dw = -(J^T J)^-1 J^T dF(p; w)/dw,      J = dF/dq at p.

Of one or two handles whose content is followed, the weighted surroundings take the place of the patch
(`Problem.probe`). So each of the two rows of dp/dw is a vector-Jacobian product of the features, whose cotangent lies
there alone; and so is the row that tells how what is under a handle looks less like the start. A latent is copied for
every handle, and each of the copies computes one small window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.motion_supervision import Sampler, loss_and_gradient
from draggan.drag.problem import Pattern, Problem
from draggan.geometry import FeatureSampler, Grid, Windows, WindowSampler, cover
from torch_utils.recorder import replayed
from torch_utils.transfer import to_host

__all__ = ["Copies", "NullSpace", "inverse", "null_space", "pulled_back", "residual", "to_float64"]


class Copies:
    """Copies of a latent for every handle, and the features around that handle as functions of them.

    Attributes:
        shift: the leaf, ``[n copies, shift_rows, w_dim]``, those of a handle one after the other.
        sampler: of the features around each handle, without gradient.
        each: of those of all copies, with it.
    """

    def __init__(
        self,
        problem: Problem,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        handles: Float[Tensor, "n 2"],
        reach: float,
    ) -> None:
        copies = _copies(shift.device)
        with torch.enable_grad():
            self.shift = shift.detach().repeat(copies * len(handles), 1, 1).requires_grad_()
            # One window per copy: `cover` would let neighbours share one. Its size depends on the reach alone.
            (known,) = to_host(handles)
            boxes = [cover(point[None], reach, problem.grid)[0] for point in known]
            once = Windows(tuple(box.origins[0] for box in boxes), boxes[0].size)
            often = Windows(tuple(origin for origin in once.origins for _ in range(copies)), once.size)
            features = problem.features(problem.rows(self.shift), often)
            self.each = _each(features, problem.grid, often)
        self.sampler = _each(features.detach()[::copies], problem.grid, once)


def _copies(device: torch.device) -> int:
    """For every handle: a processor takes a batch of two as long as twice one; elsewhere one pass does for all rows."""
    return 1 if device.type == "cpu" else 3


def _each(features: Float[Tensor, "k channel height width"], grid: Grid, windows: Windows) -> WindowSampler:
    member = torch.arange(len(windows), device=features.device)
    return WindowSampler(FeatureSampler.of(features, grid, windows), member)


def pulled_back(
    shift: Float[Tensor, "copies shift_rows w_dim"],
    each: WindowSampler,
    places: Float[Tensor, "n p 2"],
    cotangents: Float[Tensor, "n k p channel"],
) -> Float[Tensor, "n k shift_rows w_dim"]:
    """How sums of features depend on the latent, those over p and channel of ``cotangents * F(places)``.

    Args:
        shift, each: see `Copies`; the copies are used up.
        places: around every handle, image pixels.
    """
    n, k = cotangents.shape[:2]
    copies = len(shift) // n
    found: list[Tensor] = []
    for begin in range(0, k, copies):
        with torch.no_grad():
            some = cotangents[:, begin : begin + copies]
            gradient = _gradient_to_cells(each.of_cells(each.cells.detach()), places, some, copies)
        (rows,) = torch.autograd.grad(each.cells, shift, gradient, retain_graph=begin + copies < k)
        found.append(rows.unflatten(0, (n, copies)))
    return (found[0] if len(found) == 1 else torch.cat(found, 1))[:, :k]


@replayed
def _gradient_to_cells(
    each: WindowSampler, places: Float[Tensor, "n p 2"], cotangents: Float[Tensor, "n some p channel"], copies: int
) -> Float[Tensor, "1 channel tall width"]:
    """Of those sums, one in each copy's window; zero in copies that are left over."""
    rest = cotangents.new_zeros(len(cotangents), copies - cotangents.shape[1], *cotangents.shape[2:])
    cotangents = torch.cat([cotangents, rest], 1).flatten(0, 1)
    q = places.repeat_interleave(copies, 0)
    _, gradient = loss_and_gradient(each, lambda s: (s(q) * cotangents).sum())
    return gradient


@replayed
def residual(
    sampler: Sampler, handles: Float[Tensor, "n 2"], pattern: Pattern
) -> tuple[Float[Tensor, ""], Float[Tensor, "n 1 p channel"]]:
    """How unlike the start what is under the handles looks: half the sum of weighted squared differences of features.

    And its derivatives by the features, for `pulled_back`.
    """
    root = pattern.root_weights(handles)
    rest = (sampler(handles[:, None] + pattern.offsets) - pattern.features) * root
    return rest.square().sum() / 2, (rest * root)[:, None]


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

    def __call__(self, x: Float[Tensor, "1 shift_rows w_dim"]) -> Float[Tensor, "1 shift_rows w_dim"]:
        flat = to_float64(x.flatten())
        return (flat - self.rows.T @ (self.solve @ (self.rows @ flat))).to(x).reshape(x.shape)


@replayed
def null_space(jacobian: Float[Tensor, "k shift_rows w_dim"]) -> NullSpace:
    """That of a Jacobian; handles on one spot share their rows."""
    rows = to_float64(jacobian.flatten(1))
    return NullSpace(rows, inverse(rows @ rows.T, 1e-6))
