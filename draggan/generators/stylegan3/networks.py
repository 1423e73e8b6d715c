"""The StyleGAN3 synthesis network as published (Karras et al., NeurIPS 2021), configurations T and R; no fast paths.

Second in the stack ``config, receptive_field <- networks <- windows <- generator``. Parameter and buffer names are the
published ones, so that weights move both ways. Differences to the published implementation are differences in cost
only: the modulated convolution scales the input channels by the style, convolves with the *constant* weight and scales
the output channels, as in `draggan.generators.stylegan2.networks`.

The published network divides a layer's styles by their root mean square over the *whole batch*, for the range of half
precision. Demodulation then divides by the norm of each sample's own style, so all that is left of the other samples
is their share in the 1e-8 that keeps the root away from 0, far below rounding. Here every sample is divided by its own
root mean square: for a batch of one that is the published formula, and a batch is a set of independent samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from draggan.generators.base import Latent, latent_rows
from draggan.generators.mapping import FullyConnected
from draggan.generators.stylegan3.config import LayerDesign, StyleGAN3Config, kaiser_attenuation
from draggan.generators.stylegan3.receptive_field import ReceptiveField
from torch_utils.ops.filtered_lrelu import filtered_lrelu
from torch_utils.ops.prepacked_convolution import PrepackedConvolution

__all__ = ["SynthesisInput", "SynthesisLayer", "SynthesisNetwork", "low_pass"]


def low_pass(taps: int, cutoff: float, width: float, rate: float, *, radial: bool = False) -> Tensor | None:
    """A Kaiser-windowed low-pass filter with gain 1 at frequency 0.

    The window's shape follows from the number of taps and the width of the transition band by Kaiser's formulas
    (Oppenheim & Schafer, Discrete-Time Signal Processing), as in ``scipy.signal.firwin``.

    Args:
        taps: length; 1 means no filter.
        cutoff: middle of the transition band.
        width: of the transition band, from where it passes all to where it stops all.
        rate: samples per unit at which the filter runs; cutoff and width are in cycles per the same unit.
        radial: the same in all directions of the plane, instead of along one axis.

    Returns:
        ``[taps]``, or ``[taps, taps]`` if radial, float32; None for a single tap.
    """
    if taps == 1:
        return None
    attenuation = kaiser_attenuation(taps, width, rate)
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    window = np.kaiser(taps, beta)
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    if radial:
        # The ideal low-pass of the plane, fc J1(2 pi fc r) / r: a disc in the frequency domain.
        r = np.hypot(*np.meshgrid(x, x))
        at_zero = r < 1e-12
        r[at_zero] = 1.0
        jinc = torch.special.bessel_j1(torch.from_numpy(2 * math.pi * cutoff * r)).numpy() / r
        jinc[at_zero] = math.pi * cutoff
        f = jinc * np.outer(window, window)
    else:
        f = np.sinc(2 * cutoff * x) * window
    return torch.from_numpy(f / f.sum()).float()


class SynthesisInput(nn.Module):
    """Fourier features that the first latent row rotates and shifts.

    Buffers:
        freqs: ``[C, 2]``, cycles per picture width along (x, y).
        phases: ``[C]``, cycles.
        transform: ``[3, 3]``, maps picture coordinates (from -0.5 to 0.5 over the picture, x to the right and y
            down) to those at which the features are taken; the identity in published files.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, w_dim: int, design: LayerDesign) -> None:
        super().__init__()
        channels = design.channels
        self.channels, self.size, self.rate, self.bandwidth = channels, design.size, design.rate, design.cutoff
        # Uniform over the disc of frequencies below the cutoff (their section 3.1).
        radius, angle = torch.rand(channels).sqrt() * design.cutoff, torch.rand(channels) * (2 * math.pi)
        self.register_buffer("freqs", torch.stack([radius * angle.cos(), radius * angle.sin()], 1))
        self.register_buffer("phases", torch.rand(channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.weight = nn.Parameter(torch.randn(channels, channels))
        # Starts at the identity: cosine 1, sine 0, no shift, whatever the latent.
        self.affine = FullyConnected(w_dim, 4)
        self.affine.weight = nn.Parameter(torch.zeros(4, w_dim))
        self.affine.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def transforms(self, w: Float[Tensor, "batch w_dim"]) -> Float[Tensor, "batch 3 3"]:
        """Rotation, times translation, times `transform`."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        zero, one = torch.zeros_like(t[:, 0]), torch.ones_like(t[:, 0])
        rotation = torch.stack([t[:, 0], -t[:, 1], zero, t[:, 1], t[:, 0], zero, zero, zero, one], 1)
        translation = torch.stack([one, zero, -t[:, 2], zero, one, -t[:, 3], zero, zero, one], 1)
        return rotation.reshape(-1, 3, 3) @ translation.reshape(-1, 3, 3) @ self.transform

    def forward(self, w: Float[Tensor, "batch w_dim"]) -> Float[Tensor, "batch channel size size"]:
        """At the weights' precision whatever the surroundings: phases of many cycles bear no rounding."""
        with torch.autocast(w.device.type, enabled=False):
            m = self.transforms(w.to(self.weight.dtype))
            phases = self.phases + (self.freqs @ m[:, :2, 2:])[:, :, 0]
            freqs = self.freqs @ m[:, :2, :2]
            # Frequencies that the transform brought near the limit of what the map can hold fade out.
            amplitude = 1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
            amplitude = amplitude.clamp(0, 1)
            axis = (torch.arange(self.size).to(freqs) + 0.5 - self.size / 2) / self.rate
            along_x = freqs[:, :, :1] * axis + phases[:, :, None]
            along_y = freqs[:, :, 1:] * axis
            x = torch.sin((along_y[:, :, :, None] + along_x[:, :, None, :]) * (2 * math.pi))
            # On the waves and not on the weight, which then takes no gradient.
            x = x * (amplitude / math.sqrt(self.channels))[:, :, None, None]
            x = (self.weight @ x.flatten(2)).reshape(x.shape)
        kind = w.device.type
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class SynthesisLayer(nn.Module):
    """Modulated convolution and filtered leaky ReLU, or with ``is_torgb`` a modulated 1x1 convolution alone.

    Args:
        before, after: the signal that it takes and the one that it gives.
    """

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, config: StyleGAN3Config, before: LayerDesign, after: LayerDesign, *, is_torgb: bool) -> None:
        super().__init__()
        self.before, self.after, self.is_torgb, self.conv_clamp = before, after, is_torgb, config.conv_clamp
        self.kernel = 1 if is_torgb else config.conv_kernel
        in_channels, out_channels = before.channels, after.channels
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, self.kernel, self.kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("magnitude_ema", torch.ones([]))

        # The non-linearity runs at this rate.
        rate = max(before.rate, after.rate) * (1 if is_torgb else config.lrelu_upsampling)
        self.up, self.down = rate // before.rate, rate // after.rate
        up_taps = 1 if is_torgb or self.up == 1 else config.filter_size * self.up
        down_taps = 1 if is_torgb or self.down == 1 else config.filter_size * self.down
        radial = config.use_radial_filters and not after.critical
        up_filter = low_pass(up_taps, before.cutoff, 2 * before.half_width, rate)
        down_filter = low_pass(down_taps, after.cutoff, 2 * after.half_width, rate, radial=radial)
        self.register_buffer("up_filter", up_filter)
        self.register_buffer("down_filter", down_filter)
        total = (after.size - 1) * self.down + 1 - (before.size + self.kernel - 1) * self.up + up_taps + down_taps - 2
        low = (total + self.up) // 2
        self.padding = (low, total - low, low, total - low)
        self.gain, self.slope = (1.0, 1.0) if is_torgb else (math.sqrt(2), 0.2)
        self.receptive_field = ReceptiveField(
            before=before.size,
            after=after.size,
            kernel=self.kernel,
            up=self.up,
            down=self.down,
            up_taps=up_taps,
            down_taps=down_taps,
            offset=up_taps - 1 - low,
        )
        # What depends on the weight alone, kept once it is frozen. Not part of the state dict.
        self.frozen_convolution: PrepackedConvolution | None = None
        self.register_buffer("_frozen_norm", None, persistent=False)
        self.register_buffer("_frozen_energy", None, persistent=False)

    def freeze(self) -> None:
        """Prepare what depends on the weight alone."""
        self._frozen_norm, self._frozen_energy = (t.detach() for t in self._norm_and_energy())
        self.frozen_convolution = PrepackedConvolution()

    @property
    def is_frozen(self) -> bool:
        """Whether what was prepared may be used."""
        return self.frozen_convolution is not None and not self.weight.requires_grad

    def _norm_and_energy(self) -> tuple[Float[Tensor, "out_channels"], Float[Tensor, "out_channels in_channels"]]:
        """1 / rms of the weights of an output channel, and the kernels' sums of squares with weights so normalised."""
        norm = torch.rsqrt(self.weight.square().mean((1, 2, 3)))
        return norm, self.weight.square().sum((2, 3)) * norm.square()[:, None]

    def modulation(
        self, w: Float[Tensor, "batch w_dim"]
    ) -> tuple[Float[Tensor, "batch in_channels"], Float[Tensor, "batch_or_1 out_channels"]]:
        """Factors of the input channels and of the output channels; a convolution with `weight` goes between them."""
        with torch.autocast(w.device.type, enabled=False):
            style = self.affine(w.to(self.weight.dtype))
            gain = torch.rsqrt(self.magnitude_ema)
            if self.is_torgb:
                factor = style.new_ones(1, self.weight.shape[0]) * gain
                return style / math.sqrt(self.weight.shape[1]), factor
            style = style * torch.rsqrt(style.square().mean(1, keepdim=True))
            kept = self._frozen_norm is not None
            norm, energy = (self._frozen_norm, self._frozen_energy) if kept else self._norm_and_energy()
            return style, torch.rsqrt(style.square() @ energy.T + 1e-8) * (norm * gain)

    def forward(self, x: Tensor, w: Float[Tensor, "batch w_dim"]) -> Tensor:
        style, factor = self.modulation(w)
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.is_frozen:
            assert self.frozen_convolution is not None
            x = self.frozen_convolution(x, self.weight, self.kernel - 1)
        else:
            x = F.conv2d(x, self.weight.to(x.dtype), padding=self.kernel - 1)
        x = x * factor.to(x.dtype)[:, :, None, None]
        return filtered_lrelu(
            x,
            up_filter=self.up_filter,
            down_filter=self.down_filter,
            bias=self.bias,
            up=self.up,
            down=self.down,
            padding=self.padding,
            gain=self.gain,
            slope=self.slope,
            clamp=self.conv_clamp,
        )


class SynthesisNetwork(nn.Module):
    """Latent rows to picture: Fourier features, then layers named ``L{index}_{size}_{channels}``."""

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        designs = config.layer_designs()
        self.output_scale = config.output_scale
        self.input = SynthesisInput(config.w_dim, designs[0])
        names = []
        for i, design in enumerate(designs):
            names.append(f"L{i}_{design.size}_{design.channels}")
            layer = SynthesisLayer(config, designs[max(i - 1, 0)], design, is_torgb=i == len(designs) - 1)
            setattr(self, names[-1], layer)
        self.names = tuple(names)
        self.num_ws = len(designs) + 1

    def layers(self) -> Iterator[tuple[str, SynthesisLayer]]:
        """Every layer with its name, in order; the last is ToRGB."""
        for name in self.names:
            yield name, getattr(self, name)

    def features(self, ws: Latent, name: str) -> Tensor:
        """The output of one layer; nothing beyond it is computed."""
        rows = latent_rows(ws)
        x = self.input(rows[0])
        for row, (layer_name, layer) in enumerate(self.layers(), 1):
            x = layer(x, rows[row])
            if layer_name == name:
                break
        return x

    def forward(self, ws: Latent) -> Tensor:
        """The picture."""
        return self.features(ws, self.names[-1]).float() * self.output_scale
