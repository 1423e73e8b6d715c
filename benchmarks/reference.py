"""The procedure as published, in plain PyTorch: what every speed-up here is a ratio to.

Written from the paper (Pan et al., SIGGRAPH 2023) and from descriptions of what its published code computes. Per step:

* synthesise the whole picture, gradients to all weights included (the published code does not freeze them);
* take the 128 x 128 feature map and resize it bilinearly to the picture's size;
* track each handle by the L2-nearest feature in a (2 r2 + 1)^2 square of the resized map;
* motion supervision: mean absolute difference over a disc of radius r1, summed over the handles that have not arrived;
  with a mask, 20 times the mean absolute change of the whole resized map where it is fixed;
* Adam with step 1e-3 on the first six rows, the other rows concatenated from the first latent.

Convolutions modulate their weight for every sample and convolve in groups. Nothing here is shared with the package,
so that making the package faster does not make the reference faster.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from draggan.generators.stylegan2 import StyleGAN2Generator

__all__ = ["ReferenceDrag", "ReferenceSynthesis"]


def low_pass(x: Tensor, *, gain: float) -> Tensor:
    """Convolve every channel with ``outer(f, f) * gain``, f = [1, 3, 3, 1] / 8."""
    f = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8
    kernel = (torch.outer(f, f) * gain)[None, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernel, groups=x.shape[1])


def modulated_convolution(
    x: Tensor, weight: Tensor, style: Tensor, *, up: int = 1, padding: int = 0, demodulate: bool = True
) -> Tensor:
    """Karras et al. 2020, Eq. 1-3, by one weight per sample and a grouped convolution.

    Args:
        x: ``[batch, in, height, width]``.
        weight: ``[out, in, k, k]``.
        style: ``[batch, in]``.
    """
    batch, channels, height, width = x.shape
    out, _, k, _ = weight.shape
    w = weight[None] * style[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum((2, 3, 4)) + 1e-8).rsqrt()[:, :, None, None, None]
    x = x.reshape(1, batch * channels, height, width)
    if up == 2:
        w = w.transpose(1, 2).reshape(batch * channels, out, k, k)
        x = F.conv_transpose2d(x, w, stride=2, groups=batch)
        x = low_pass(F.pad(x, (1, 1, 1, 1)), gain=4)
    else:
        x = F.conv2d(x, w.reshape(batch * out, channels, k, k), padding=padding, groups=batch)
    return x.reshape(batch, out, *x.shape[2:])


class Affine(nn.Module):
    """Latent row to style, ``y = x @ (weight / sqrt(in)).T + bias``."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class ConvolutionLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

    noise_const: Tensor

    def __init__(self, state: dict[str, Tensor], prefix: str, *, up: int, clamp: float | None) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.affine = Affine(state[prefix + "affine.weight"], state[prefix + "affine.bias"])
        self.weight = nn.Parameter(state[prefix + "weight"].clone())
        self.bias = nn.Parameter(state[prefix + "bias"].clone())
        self.noise_strength = nn.Parameter(state[prefix + "noise_strength"].clone())
        self.register_buffer("noise_const", state[prefix + "noise_const"].clone())

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated_convolution(x, self.weight, self.affine(w), up=self.up, padding=1)
        x = x + self.noise_const * self.noise_strength
        x = F.leaky_relu(x + self.bias[None, :, None, None], 0.2) * math.sqrt(2)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ColourLayer(nn.Module):
    """Modulated 1x1 convolution to colour."""

    def __init__(self, state: dict[str, Tensor], prefix: str, *, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = Affine(state[prefix + "affine.weight"], state[prefix + "affine.bias"])
        self.weight = nn.Parameter(state[prefix + "weight"].clone())
        self.bias = nn.Parameter(state[prefix + "bias"].clone())

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        x = modulated_convolution(x, self.weight, style, demodulate=False) + self.bias[None, :, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ReferenceSynthesis(nn.Module):
    """A StyleGAN2 synthesis network of the ``skip`` architecture, with its own copy of a generator's weights."""

    const: Tensor

    def __init__(self, generator: StyleGAN2Generator) -> None:
        super().__init__()
        state = {name: tensor.detach() for name, tensor in generator.synthesis.state_dict().items()}
        self.resolutions = list(generator.synthesis.resolutions)
        self.const = nn.Parameter(state["b4.const"].clone())
        self.convolutions, self.colours = nn.ModuleDict(), nn.ModuleDict()
        for r in self.resolutions:
            clamp = getattr(generator.synthesis, f"b{r}").conv1.conv_clamp
            layers = [("conv1", 1)] if r == 4 else [("conv0", 2), ("conv1", 1)]
            self.convolutions[f"b{r}"] = nn.ModuleList(
                ConvolutionLayer(state, f"b{r}.{name}.", up=up, clamp=clamp) for name, up in layers
            )
            self.colours[f"b{r}"] = ColourLayer(state, f"b{r}.torgb.", clamp=clamp)

    def forward(self, ws: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The picture, and the feature map of every block."""
        features: dict[str, Tensor] = {}
        x, image, row = self.const.expand(len(ws), -1, -1, -1), None, 0
        for r in self.resolutions:
            convolutions = self.convolutions[f"b{r}"]
            assert isinstance(convolutions, nn.ModuleList)
            for layer in convolutions:
                x = layer(x, ws[:, row])
                row += 1
            features[f"b{r}"] = x
            colour = self.colours[f"b{r}"](x, ws[:, row])
            image = colour if image is None else self._double(image) + colour
        assert image is not None
        return image, features

    @staticmethod
    def _double(image: Tensor) -> Tensor:
        """Zeros between the samples, then the low-pass filter."""
        batch, channels, height, width = image.shape
        spread = image.new_zeros(batch, channels, height, 2, width, 2)
        spread[:, :, :, 0, :, 0] = image
        return low_pass(F.pad(spread.reshape(batch, channels, 2 * height, 2 * width), (2, 1, 2, 1)), gain=4)


class ReferenceDrag:
    """One drag by the published procedure; `step` runs one of its steps.

    Args:
        synthesis: `ReferenceSynthesis`; its weights take gradients, as published.
        ws: ``[1, num_ws, w_dim]``.
        handles, targets: ``[n, 2]`` image pixels ``(x, y)``.
        mask: bool ``[height, width]``, True = may change.
        level: the feature map to drag on.
    """

    def __init__(
        self,
        synthesis: ReferenceSynthesis,
        ws: Tensor,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        level: str = "b128",
        step_size: float = 1e-3,
        mask_weight: float = 20.0,
        free_rows: int = 6,
        r1: float = 3.0,
        r2: float = 12.0,
    ) -> None:
        self.synthesis, self.level, self.free_rows, self.mask_weight = synthesis, level, free_rows, mask_weight
        self.size = size = synthesis.resolutions[-1]
        self.start = ws.detach().clone()
        self.ws = ws.detach().clone().requires_grad_(True)
        self.handles = torch.as_tensor(handles, dtype=torch.float32, device=ws.device).round()
        self.targets = torch.as_tensor(targets, dtype=torch.float32, device=ws.device)
        self.r1, self.r2 = round(r1 / 512 * size), round(r2 / 512 * size)
        self.optimiser = torch.optim.Adam([self.ws], lr=step_size)
        y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float32, device=ws.device)] * 2, indexing="ij")
        self.pixels = torch.stack([x, y], -1)
        self.fixed: Tensor | None = None
        if mask is not None:
            self.fixed = torch.as_tensor(~mask, device=ws.device).float()[None, None]
        self.image, features = self._look()
        self.first = features.detach()
        self.templates = [self._at(self.first, p) for p in self.handles]

    def _look(self) -> tuple[Tensor, Tensor]:
        """The picture, and the feature map at the picture's size."""
        ws = torch.cat([self.ws[:, : self.free_rows], self.start[:, self.free_rows :]], 1)
        image, features = self.synthesis(ws)
        resized = F.interpolate(features[self.level], [self.size, self.size], mode="bilinear")
        return image.detach(), resized

    @staticmethod
    def _at(features: Tensor, point: Tensor) -> Tensor:
        x, y = point.round().long().tolist()
        return features[0, :, y, x]

    def loss(self, features: Tensor) -> Tensor:
        """Motion supervision of all handles, plus the mask loss."""
        total = features.new_zeros(())
        for handle, target in zip(self.handles, self.targets, strict=True):
            direction = target - handle
            if direction.norm() <= 1:
                continue
            patch = self.pixels[(self.pixels - handle).norm(dim=-1) < max(self.r1, 1)]
            x, y = patch.long().unbind(-1)
            here = features[0, :, y, x].detach()
            moved = patch + direction / direction.norm()
            normalised = (2 * moved + 1) / self.size - 1
            there = F.grid_sample(features, normalised[None, None], mode="bilinear", align_corners=False)[0, :, 0]
            total = total + F.l1_loss(here, there)
        if self.fixed is not None:
            total = total + self.mask_weight * F.l1_loss(features * self.fixed, self.first * self.fixed)
        return total

    def track(self, features: Tensor) -> None:
        """Move every handle to the nearest feature in its square."""
        with torch.no_grad():
            for i, handle in enumerate(self.handles):
                x, y = handle.round().long().tolist()
                top, left = max(y - self.r2, 0), max(x - self.r2, 0)
                window = features[0, :, top : y + self.r2 + 1, left : x + self.r2 + 1]
                distance = torch.linalg.norm(window - self.templates[i][:, None, None], dim=0)
                row, column = divmod(int(distance.argmin()), distance.shape[1])
                self.handles[i] = torch.tensor([left + column, top + row], dtype=torch.float32)

    def step(self) -> float:
        """Synthesise, track, one step of Adam; returns the loss."""
        self.image, features = self._look()
        self.track(features)
        loss = self.loss(features)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()
