"""The mapping network that StyleGAN2, StyleGAN3 and the StyleGAN2 discriminator share: noise and class label to w.

Karras et al., CVPR 2019, section 2: a stack of fully connected layers on normalised inputs. Parameter and buffer names
are the published ones. `FullyConnected` is also the layer that turns a latent row into the style of a convolution.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from draggan.errors import ConfigError, LatentError
from draggan.generators.schema import MappingConfig
from torch_utils.ops.bias_act import bias_act

__all__ = ["FullyConnected", "MappingNetwork"]


def normalise_second_moment(x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """``x / sqrt(mean(x^2) + 1e-8)`` over the channels."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class FullyConnected(nn.Module):
    """``act(x @ (weight * m / sqrt(in)).T + bias * m)`` with the learning-rate multiplier m."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        bias = self.bias if self.bias_gain == 1 else self.bias * self.bias_gain
        y = torch.addmm(bias, x, self.weight.T, alpha=self.weight_gain)
        return y if self.activation == "linear" else bias_act(y, activation=self.activation)


class MappingNetwork(nn.Module):
    """z (and label) to w, repeated for every row, truncated towards the average w.

    Args:
        num_ws: rows of the latent code, or None for the bare w (a discriminator's label mapping).
        config: layers and their options.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        config: MappingConfig,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.num_layers = (
            z_dim,
            c_dim,
            w_dim,
            num_ws,
            config.num_layers,
        )
        embed_features = config.embedded(w_dim) if c_dim > 0 else 0
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, embed_features)
        widths = [z_dim + embed_features] + [config.hidden(w_dim)] * (config.num_layers - 1) + [w_dim]
        for i in range(config.num_layers):
            layer = FullyConnected(
                widths[i], widths[i + 1], activation=config.activation, lr_multiplier=config.lr_multiplier
            )
            setattr(self, f"fc{i}", layer)
        self.has_average = num_ws is not None and config.w_avg_beta is not None
        self.register_buffer("w_avg", torch.zeros(w_dim) if self.has_average else None)

    def forward(
        self,
        z: Float[Tensor, "batch z_dim"] | None,
        c: Float[Tensor, "batch c_dim"] | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        parts, device = [], next(self.parameters()).device
        if z is not None and self.z_dim > 0:
            if z.ndim != 2 or z.shape[1] != self.z_dim:
                raise LatentError(f"noise of shape {list(z.shape)} was given; this one takes [batch, {self.z_dim}]")
            parts.append(normalise_second_moment(z.to(device).float()))
        if self.c_dim > 0:
            if c is None:
                assert z is not None
                c = z.new_zeros(z.shape[0], self.c_dim)
            if c.ndim != 2 or c.shape[1] != self.c_dim:
                raise LatentError(f"a label of shape {list(c.shape)} was given; this one takes [batch, {self.c_dim}]")
            parts.append(normalise_second_moment(self.embed(c.to(device).float())))
        w = torch.cat(parts, 1)
        for i in range(self.num_layers):
            w = getattr(self, f"fc{i}")(w)
        if self.num_ws is None:
            return w
        ws = w[:, None].repeat(1, self.num_ws, 1)
        if truncation_psi != 1:
            if not self.has_average:
                raise ConfigError("this model has no average latent to truncate towards; use truncation_psi=1")
            cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
            ws[:, :cutoff] = torch.lerp(self.w_avg.to(ws), ws[:, :cutoff], truncation_psi)
        return ws
