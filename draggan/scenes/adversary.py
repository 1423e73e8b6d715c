"""The adversarial part of a training: a discriminator that tells renderings from generated pictures.

Pairs teach where everything is, but an L1 loss blurs what it cannot decide. A discriminator does not accept blur.
Losses of Goodfellow et al. (NeurIPS 2014, non-saturating) with the R1 penalty (Mescheder et al., ICML 2018,
Eq. 9), the penalty in every 16th step only (Karras et al., CVPR 2020, section 3.1).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from draggan.generators.stylegan2.config import DiscriminatorConfig
from draggan.generators.stylegan2.discriminator import Discriminator

__all__ = ["Adversary", "r1_penalty"]

_PENALTY_EVERY = 16
_PENALTY_PICTURES = 16


def r1_penalty(discriminator: torch.nn.Module, real: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, ""]:
    """``mean |grad_x D(x)|^2`` over real pictures x; differentiable, and computed in float32."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


class Adversary:
    """A discriminator with its optimiser.

    Args:
        kwargs: of `Discriminator`.
        lr: Adam's step.
        gamma: weight of the R1 penalty.
        dtype: type of the feature maps, but for the penalty.
        recordable: its steps are to be recorded as graphs, so its optimiser asks the host for nothing.
    """

    def __init__(
        self,
        kwargs: dict[str, Any],
        *,
        lr: float,
        gamma: float,
        device: torch.device,
        dtype: torch.dtype,
        recordable: bool = False,
    ) -> None:
        self.kwargs = kwargs
        self.discriminator = Discriminator(DiscriminatorConfig.from_mapping(kwargs)).to(device)
        # A lazy penalty changes the rates of Adam likewise (their appendix B).
        part = _PENALTY_EVERY / (_PENALTY_EVERY + 1)
        betas = (0.0, 0.99**part)
        self._optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=lr * part, betas=betas, fused=True, capturable=recordable
        )
        self._gamma, self._device, self._dtype = gamma, device, dtype
        self.steps = 0

    def objection(self, made: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, ""]:
        """The adversarial loss of the generator: ``mean softplus(-D(made))``."""
        return F.softplus(-self._judge(made)).mean()

    def learn(self, made: Float[Tensor, "batch 3 size size"], real: Float[Tensor, "batch 3 size size"]) -> float:
        """One optimiser step; returns the loss without the penalty: 2 ln 2 = 1.39 is a discriminator that guesses."""
        value = self.teach(made, real, penalise=self.penalty_is_due)
        self.steps += 1
        return float(value)

    @property
    def penalty_is_due(self) -> bool:
        """Whether the next step has the penalty in it."""
        return bool(self._gamma) and self.steps % _PENALTY_EVERY == 0

    @property
    def state(self) -> list[Tensor]:
        """All that a step changes."""
        moments = [v for one in self._optimiser.state.values() for v in one.values() if isinstance(v, Tensor)]
        return [*self.discriminator.parameters(), *moments]

    def teach(
        self, made: Float[Tensor, "batch 3 size size"], real: Float[Tensor, "batch 3 size size"], *, penalise: bool
    ) -> Float[Tensor, ""]:
        """`learn` without a word to the host, and without counting.

        The penalty is measured on 16 renderings at most: it is a mean, and costs a second derivative.
        """
        value = F.softplus(self._judge(made.detach())).mean() + F.softplus(-self._judge(real)).mean()
        total = value
        if penalise:
            some = real[:_PENALTY_PICTURES].float()
            total = total + self._gamma / 2 * _PENALTY_EVERY * r1_penalty(self.discriminator, some)
        parameters = list(self.discriminator.parameters())
        for q, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
            q.grad = gradient
        self._optimiser.step()
        return value.detach()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "kwargs": self.kwargs,
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint of the same settings."""
        self.discriminator.load_state_dict(state["discriminator"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]

    def _judge(self, pictures: Tensor) -> Tensor:
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            return self.discriminator(pictures).float()
