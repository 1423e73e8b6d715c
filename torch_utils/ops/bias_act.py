"""Add a bias, apply a non-linearity, scale, clamp: what follows every convolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATIONS", "Activation", "bias_act"]


@dataclass(frozen=True)
class Activation:
    """A non-linearity and the gain that keeps the variance of a unit normal input about one."""

    function: Callable[[Tensor], Tensor]
    gain: float


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x: x, 1.0),
    "relu": Activation(F.relu, math.sqrt(2)),
    "lrelu": Activation(lambda x: F.leaky_relu(x, 0.2), math.sqrt(2)),
    "tanh": Activation(lambda x: x.tanh(), 1.0),
    "sigmoid": Activation(lambda x: x.sigmoid(), 1.0),
    "elu": Activation(F.elu, 1.0),
    "selu": Activation(F.selu, 1.0),
    "softplus": Activation(F.softplus, 1.0),
    "swish": Activation(F.silu, math.sqrt(2)),
}


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """``clamp(gain * default_gain * activation(x + bias))``.

    Args:
        x: ``[batch, channel, ...]``.
        bias: ``[channel]`` or None.
        activation: a key of `ACTIVATIONS`.
        gain: multiplies the activation's own gain, after the non-linearity.
        clamp: limit of the absolute value of the result, itself multiplied by ``gain``; None for none.
    """
    act = ACTIVATIONS[activation]
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, *([1] * (x.ndim - 2)))
    x = act.function(x)
    if act.gain * gain != 1:
        x = x * (act.gain * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)
