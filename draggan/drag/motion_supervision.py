"""Motion supervision: the loss whose gradient moves the content under each handle one pixel towards its target.

Pan et al., "Drag Your GAN" (SIGGRAPH 2023), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.geometry import FeatureSampler, WindowSampler, inside
from torch_utils.recorder import replayed

__all__ = [
    "Sampler",
    "directions",
    "loss_and_gradient",
    "mask_loss",
    "mask_loss_and_gradient",
    "motion_supervision_loss",
    "pull",
    "pull_and_gradient",
]

# Features at image points: [n, p, 2] for p points around each of n handles, to [n, p, channel].
Sampler: TypeAlias = Callable[[Tensor], Tensor]


def directions(
    handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """Unit vectors ``d_i = (t_i - p_i) / |t_i - p_i|`` (zero where handle and target coincide), and the distances."""
    delta = targets - handles
    distances = delta.norm(dim=-1)
    return delta / distances.clamp(min=1e-6)[:, None], distances


def motion_supervision_loss(
    sampler: Sampler,
    handles: Float[Tensor, "n 2"],
    d: Float[Tensor, "n 2"],
    pulled: Bool[Tensor, "n"],
    patch: Float[Tensor, "p 2"],
    image_size: tuple[int, int],
) -> Float[Tensor, ""]:
    """``sum_i mean_q |F(q) - F(q + d_i)|_1`` over the patch q in Omega_1(p_i, r1), F(q) without gradient.

    The first term of the paper's Eq. 1. The paper sums over patch and channels, the published code takes means; means,
    because the published weight of the mask term (20) belongs to them and the loss then does not depend on r1.

    Args:
        sampler: features at image points.
        pulled: which handles take part; one that has arrived does not.
        patch: offsets of Omega_1 in image pixels, the handle itself first.
        image_size: a patch pixel that lies outside the picture, or would be moved out of it, does not take part, so a
            handle works up to the last pixel of every side.
    """
    q = handles[:, None] + patch
    moved = q + d[:, None]
    valid = inside(torch.stack((q, moved)), image_size).all(0)
    # The handle and its target are in the picture, so the handle's own pixel can only fail by rounding.
    valid[:, 0] |= ~valid.any(1)
    with torch.no_grad():
        at_rest = sampler(q)
    difference = (at_rest - sampler(moved)).abs().mean(-1)
    weight = valid * (pulled / valid.sum(1))[:, None]
    return (difference * weight).sum()


def mask_loss(
    features: Float[Tensor, "n channel height width"],
    start: Float[Tensor, "n channel height width"],
    fixed: Float[Tensor, "n 1 height width"],
) -> Float[Tensor, ""]:
    """``mean |(F - F_0) * (1 - M)|_1``, the second term of Eq. 1, on the map as it is (not resized to the picture).

    Args:
        start: features of the latent whose picture is to be kept.
        fixed: 1 - M per cell, from `geometry.fixed_cells`.
    """
    return ((features - start).abs() * fixed).mean()


@replayed
def pull(
    sampler: Sampler,
    handles: Float[Tensor, "n 2"],
    targets: Float[Tensor, "n 2"],
    near: float,
    patch: Float[Tensor, "p 2"],
    image_size: tuple[int, int],
) -> Float[Tensor, ""]:
    """`motion_supervision_loss` towards the targets, of all handles farther than ``near`` from them, image pixels."""
    d, distances = directions(handles, targets)
    return motion_supervision_loss(sampler, handles, d, distances > near, patch, image_size)


@replayed
def pull_and_gradient(
    sampler: FeatureSampler | WindowSampler,
    handles: Float[Tensor, "n 2"],
    targets: Float[Tensor, "n 2"],
    near: float,
    patch: Float[Tensor, "p 2"],
    image_size: tuple[int, int],
) -> tuple[Float[Tensor, ""], Float[Tensor, "1 channel tall width"]]:
    """`pull`, and its gradient by the sampler's cells."""
    return loss_and_gradient(sampler, lambda s: pull(s, handles, targets, near, patch, image_size))


def loss_and_gradient(
    sampler: FeatureSampler | WindowSampler, loss: Callable[[Sampler], Tensor]
) -> tuple[Float[Tensor, ""], Float[Tensor, "1 channel tall width"]]:
    """A loss of samples, and its gradient by the sampler's cells: what leads from there to a latent is another's."""
    with torch.enable_grad():
        leaf = sampler.cells.detach().requires_grad_()
        value = loss(sampler.of_cells(leaf))
        (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


@replayed
def mask_loss_and_gradient(
    features: Float[Tensor, "n channel height width"],
    start: Float[Tensor, "n channel height width"],
    fixed: Float[Tensor, "n 1 height width"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "n channel height width"]]:
    """`mask_loss`, and its gradient by the features."""
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        loss = mask_loss(leaf, start, fixed)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient
