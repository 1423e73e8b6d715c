"""Adam, as latents and weights are found with it: steps grow at first, and become small in the second half."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Descent"]

_BETAS = (0.9, 0.99)
_WARM_UP = 10  # steps over which the step size rises


class Descent:
    """Changes tensors step by step, so that a loss falls.

    Args:
        tensors: what is changed.
        rate: the largest step size.
        steps: how many there will be.
    """

    def __init__(self, tensors: Iterable[Tensor], rate: float, steps: int) -> None:
        self._tensors, self._rate, self._steps = list(tensors), rate, steps
        self._optimiser = torch.optim.Adam(self._tensors, lr=rate, betas=_BETAS)
        self._made = 0

    def step(self, loss: Tensor) -> None:
        """Make one, by the gradient of a loss that was computed with the tensors as they are."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * self._share()
        # Layers beyond the picture of this step have none.
        gradients = torch.autograd.grad(loss, self._tensors, allow_unused=True)
        for tensor, gradient in zip(self._tensors, gradients, strict=True):
            tensor.grad = gradient
        self._optimiser.step()
        self._made += 1

    def _share(self) -> float:
        """Of the largest step size."""
        rise = min(1.0, (self._made + 1) / min(_WARM_UP, max(1, self._steps // 3)))
        fall = 0.5 + 0.5 * math.cos(math.pi * max(0.0, 2 * (self._made + 1) / (self._steps + 1) - 1))
        return rise * max(fall, 0.02)
