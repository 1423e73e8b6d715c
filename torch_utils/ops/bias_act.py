"""What follows every convolution: scale the channels, add noise and bias, apply a non-linearity, scale, clamp."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import status
from torch_utils.ops.memory_order import empty_map
from torch_utils.pytorch_internals import below_autograd, hardtanh_gradient, leaky_relu_gradient

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "bias_act",
    "modulated_act",
    "scaled_gradient",
    "scaled_lrelu",
    "scaled_lrelu_gradient",
]


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

# Those with a compiled version, by their slope for negative values.
_SLOPES = {"linear": 1.0, "lrelu": 0.2}


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
    if _has_compiled(x, activation, gain):
        limit = None if clamp is None else clamp * gain
        return _Compiled.apply(x, None, None, bias, _SLOPES[activation], act.gain * gain, limit)
    if bias is not None:
        x = x + _of_channels(bias.to(x.dtype), x)
    x = act.function(x)
    if act.gain * gain != 1:
        x = x * (act.gain * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def modulated_act(
    x: Tensor,
    scale: Tensor | None,
    noise: Tensor | None,
    bias: Tensor | None = None,
    *,
    activation: str = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
    overwrite: bool = False,
) -> Tensor:
    """``bias_act(x * scale + noise, bias, ...)``, in one pass where it is compiled.

    Args:
        x: ``[batch, channel, ...]``.
        scale: ``[batch or 1, channel]``, perhaps with axes of 1 behind, or None; the demodulation factor.
        noise: ``[batch or 1, 1, ...]`` or one sample's ``[...]``, or None.
        bias, activation, gain, clamp: as in `bias_act`.
        overwrite: x is not needed any more, and its memory may be used for the result. Fresh memory takes longer than
            the arithmetic. Has no effect where gradients are wanted.
    """
    if scale is not None:
        scale = scale.flatten(1)
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, scale, noise, bias))
    overwrite = overwrite and not wanted
    if _has_compiled(x, activation, gain) and not (wanted and noise is not None and noise.requires_grad):
        limit = None if clamp is None else clamp * gain
        full_gain = ACTIVATIONS[activation].gain * gain
        arguments = (scale, noise, bias, _SLOPES[activation], full_gain, limit)
        return _Compiled.apply(x, *arguments) if wanted else _forward(x, *arguments, overwrite=overwrite)
    if scale is not None:
        scale = _of_channels(scale.to(x.dtype), x)
        x = x.mul_(scale) if overwrite else x * scale
    if noise is not None:
        x = x.add_(noise.to(x.dtype)) if overwrite else x + noise.to(x.dtype)
    return bias_act(x, bias, activation=activation, gain=gain, clamp=clamp)


def scaled_lrelu(
    x: Tensor,
    scale: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    *,
    slope: float,
    clamp: float | None = None,
    overwrite: bool = False,
) -> Tensor:
    """``clamp(leaky_relu(x * scale + noise + bias))``, for those who compute the gradient themselves.

    Args:
        x: ``[batch, channel, height, width]``.
        scale: ``[batch or 1, channel]``.
        noise: ``[batch or 1, 1, height, width]`` or ``[height, width]`` or None.
        overwrite: x is not needed any more.
    """
    if status.available(x):
        return _forward(x, scale, noise, bias, slope, 1.0, clamp, overwrite=overwrite)
    scale, bias = (_of_channels(t.to(x.dtype), x) for t in (scale, bias))
    y = torch.addcmul(bias, x, scale, out=x if overwrite else None)
    if noise is not None:
        y.add_(noise.to(x.dtype))
    y = F.leaky_relu_(y, slope)
    return y if clamp is None else y.clamp_(-clamp, clamp)


def scaled_lrelu_gradient(
    grad: Tensor,
    y: Tensor,
    x: Tensor | None,
    scale: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    *,
    slope: float,
    clamp: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of `scaled_lrelu` to x and, where x is given, to the scale of each sample.

    Args:
        y: the result.
        x: None where no gradient to the scale is wanted.
    """
    if x is not None and status.available(x):
        with below_autograd():
            gradient = torch.ops.draggan.modulated_act_backward(grad, x, scale, noise, bias, slope, 1.0, clamp)
        return gradient[0], gradient[1]
    grad = leaky_relu_gradient(grad, y, slope)
    if clamp is not None:
        grad = hardtanh_gradient(grad, y, -clamp, clamp)
    to_scale = None if x is None else (grad * x).sum((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    return grad.mul_(_of_channels(scale.to(grad.dtype), grad)), to_scale


def scaled_gradient(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of ``x * scale`` to x and to the scale of each sample, which is summed in float32 at least.

    Args:
        scale: ``[batch or 1, channel]``.
    """
    if status.available(x):
        with below_autograd():
            return torch.ops.draggan.modulated_act_backward(grad, x, scale, None, None, 1.0, 1.0, None)[:2]
    to_scale = (grad * x).sum((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    return grad * _of_channels(scale.to(grad.dtype), grad), to_scale


def _of_channels(t: Tensor, x: Tensor) -> Tensor:
    """``[batch or 1, channel]`` or ``[channel]``, broadcastable to x."""
    return t.reshape(*(t.shape if t.ndim == 2 else (1, -1)), *([1] * (x.ndim - 2)))


# ----------------------------------------------------------------------------------------------- the compiled version


def _has_compiled(x: Tensor, activation: str, gain: float) -> bool:
    return status.available(x) and activation in _SLOPES and gain > 0 and x.ndim >= 2


def _forward(x: Tensor, *arguments: Any, overwrite: bool = False) -> Tensor:
    """The operator without its gradient; with ``overwrite`` the result is in the memory of x."""
    with below_autograd():
        if not overwrite:
            return torch.ops.draggan.modulated_act(x, *arguments)
        torch.ops.draggan.modulated_act_(x, *arguments)
    return x


def register(library: torch.library.Library) -> None:
    """Tell PyTorch the compiled operator's shapes and gradient."""
    torch.library.register_fake("draggan::modulated_act", _fake, lib=library)
    torch.library.register_fake("draggan::modulated_act_backward", _fake_backward, lib=library)
    library.impl("modulated_act", _Compiled.apply, "Autograd")


def _fake(x: Tensor, *_: Any) -> Tensor:
    return empty_map(x, x.shape)


def _fake_backward(grad: Tensor, x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.promote_types(x.dtype, torch.float32))
    return empty_map(x, x.shape), sums, torch.empty_like(sums)


class _Compiled(torch.autograd.Function):
    """The compiled operator with its gradient.

    Called directly where a gradient is wanted: 3 microseconds sooner than by way of PyTorch's dispatcher, to which
    `register` gives it for everybody else. `torch.library.register_autograd`, and a ``forward`` that has no context
    among its arguments, whose signature PyTorch examines in every call, take 25 to 50 more.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        noise: Tensor | None,
        bias: Tensor | None,
        slope: float,
        gain: float,
        limit: float | None,
    ) -> Tensor:
        ctx.save_for_backward(x, scale, noise, bias)
        ctx.settings = slope, gain, limit
        return _forward(x, scale, noise, bias, slope, gain, limit)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (x, scale, noise, bias) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():
            # To be differentiated again: the non-linearity is piecewise linear, so this is a product with a constant.
            with torch.no_grad():
                slopes = _slopes(x, scale, noise, bias, *ctx.settings)
            g = gradient * slopes
            gx = g if scale is None else g * _of_channels(scale.to(x.dtype), x)
            along = tuple(range(2, x.ndim))
            with_x, alone = ((g * x).sum(along), g.sum(along)) if along else (g * x, g)
        else:
            gx, with_x, alone = torch.ops.draggan.modulated_act_backward(gradient, x, scale, noise, bias, *ctx.settings)
        g_scale = g_bias = None
        if ctx.needs_input_grad[1]:
            g_scale = (with_x.sum(0, keepdim=True) if scale.shape[0] == 1 else with_x).to(scale.dtype)
        if ctx.needs_input_grad[3]:
            g_bias = alone.sum(0).to(bias.dtype)
        return gx, g_scale, None, g_bias, None, None, None


def _slopes(
    x: Tensor,
    scale: Tensor | None,
    noise: Tensor | None,
    bias: Tensor | None,
    slope: float,
    gain: float,
    limit: float | None,
) -> Tensor:
    """The derivative of the result with respect to the argument of the non-linearity."""
    v = x if scale is None else x * _of_channels(scale.to(x.dtype), x)
    v = v if noise is None else v + noise.to(x.dtype)
    v = v if bias is None else v + _of_channels(bias.to(x.dtype), x)
    d = torch.where(v > 0, gain, gain * slope).to(x.dtype)
    return d if limit is None else d.masked_fill((v * d).abs() > limit, 0)
