"""A trained StyleGAN2 network made wider and larger that draws the same picture: timing drags needs content to drag.

No trained 512 px network can be shipped, and random weights cannot be dragged. `widen` turns a small trained network
into one of the published layout by the idea of Net2Net (Chen, Goodfellow and Shlens, ICLR 2016): every channel is
copied, and what leaves a channel is shared among its copies. The arithmetic of a step is then that of the published
layout, and the drag is that of the small network.

*Modulated convolutions.* Narrow weights ``W_oik`` (k over the kernel), style ``s_i``, and before noise and bias
``y_o = sum_ik W_oik s_i x_ik / sqrt(sum_ik W_oik^2 s_i^2 + 1e-8)``. Let j run over the m copies of channel i, with
equal styles and weights ``W_oik a_j``, where the shares ``a`` may differ for every o, i and k. The numerator stays if
``sum_j a_j = 1``, the demodulation, 1e-8 included, if ``sum_j a_j^2 = 1``. Equal shares 1 / m have squares that sum to
1 / m, and would make the output ``sqrt(m)`` times too large; but

    a = 1 / m + sqrt(1 - 1 / m) u,    sum_j u_j = 0,  |u| = 1

has both, for every direction u. It is drawn at random, so that copies are told apart by what they are used for, though
their values are equal. (For two copies a is (1, 0) or (0, 1).) Sums of squares of 1 also mean that rounding errors do
not grow, in any precision. Output channels are copied with their bias; noise and clamp are the same for all channels.

*Affine layers* take copies, too: of their rows, one for each copy of a channel. A latent that is copied m times is
shared in equal parts: ``affine'_ij = affine_ij / m sqrt(w_dim' / w_dim)``, the root because weights are divided by the
root of their inputs. *ToRGB* has no demodulation, so equal parts ``W_i / m_i sqrt(C' / C)`` do, for the same reason.
*Mapping*: the last layer's outputs are copied; noise z and hidden layers stay as they are.

*Further resolutions* pass their input on: the style is constant (affine weight 0, bias 1), the kernel has its centre
only, so that the layer upsamples (or does nothing) and applies its leaky ReLU with its gain sqrt 2. Demodulation makes
up for any scale of the weights, so that gain is undone by the shares: ``sum_j a_j = 1`` and ``sum_j a_j^2 = 2`` give a
gain of ``1 / sqrt 2`` (two copies at least; a channel that has one comes out sqrt 2 times as large). ToRGB adds zero
there, so the picture is the narrow one upsampled by the network's own filter, exactly.

*Carried features.* A 512 px network is dragged on its 128 x 128 map, a quarter of the picture; the 256 px network on
its quarter, 64 x 64. Widened, its 128 x 128 map is that of its last block, made for colours. Drags arrive on that, too;
but a 512 px network's knows of parts. So the map of one level can be carried along through the blocks after it, in
channels of its own that pass it on as above and that nothing else reads: some copies of that level's channels have the
constant style, and all blocks to the narrow network's last have it, upsampled, with every layer's noise and leaky ReLU.
Where there is room for one copy only it comes out of the block's second layer sqrt 2 times as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from draggan.errors import ConfigError
from draggan.generators.mapping import MappingNetwork
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import MappingConfig, StyleGAN2Config
from draggan.generators.stylegan2.networks import SynthesisLayer, ToRGB

__all__ = ["widen"]


@dataclass(frozen=True, eq=False)
class Layout:
    """What the channels of a map of the wide network hold.

    Attributes:
        own: the narrow channel that each of the first channels is a copy of.
        carried: the channel of the carried level that each of the others is a copy of.
    """

    own: Int[Tensor, "copies"]
    carried: Int[Tensor, "others"]

    def __len__(self) -> int:
        return len(self.own) + len(self.carried)


def copies(count: int, total: int) -> Int[Tensor, "total"]:
    """The original of each of so many copies of ``count`` things, as evenly as possible: 0, 1, .., 0, 1, .."""
    return torch.arange(total) % count


def shares(
    source: Int[Tensor, "copies"], count: int, energy: float, shape: tuple[int, ...], random: torch.Generator
) -> Float[Tensor, "copies *shape"]:
    """Shares of the copies of each thing: their sum is 1, the sum of their squares is ``energy``, else random.

    Of a thing with one copy the share is 1.

    Args:
        source: which of ``count`` things each is a copy of.
        shape: so many independent draws.
    """
    m = torch.bincount(source, minlength=count).double()[source].reshape(-1, *[1] * len(shape))
    u = torch.randn(len(source), *shape, generator=random, dtype=torch.float64)

    def over_copies(x: Tensor) -> Tensor:
        return torch.zeros(count, *shape, dtype=x.dtype).index_add(0, source, x)[source]

    u = u - over_copies(u) / m
    u = u / over_copies(u.square()).sqrt().clamp(min=1e-30)
    return 1 / m + (energy - 1 / m).clamp(min=0).sqrt() * (m > 1) * u


def widen(
    generator: StyleGAN2Generator,
    *,
    img_resolution: int = 512,
    channel_base: int = 32768,
    channel_max: int = 512,
    w_dim: int = 512,
    carry: str | None = None,
    seed: int = 0,
) -> StyleGAN2Generator:
    """A frozen generator of that layout (the published 512 px one) that draws the same pictures, upsampled.

    The same noise z gives the same picture, and a latent ``[w, w, ..]`` of the wide one is the latent w of the narrow.

    Args:
        generator: of the ``skip`` architecture with leaky ReLU; not changed.
        carry: the level whose features are carried along; None: none are.
        seed: of the shares.

    Raises:
        ConfigError: not such a network, or the layout has too few channels somewhere.
    """
    narrow: Any = generator.synthesis
    first = narrow.b4.conv1
    if any(block.architecture != "skip" for _, block, _ in narrow.blocks()) or first.activation != "lrelu":
        raise ConfigError("only networks of the 'skip' architecture with leaky ReLU can be widened")
    if img_resolution < narrow.resolutions[-1] or w_dim < generator.w_dim:
        raise ConfigError(
            f"a network of {narrow.resolutions[-1]} px and {generator.w_dim} latent numbers cannot be widened to "
            f"{img_resolution} px and {w_dim}"
        )
    height, width = generator.image_size
    # What a new network draws its first weights from is given back; none of them stays.
    with torch.random.fork_rng(devices=[]):
        wide = StyleGAN2Generator(
            StyleGAN2Config(
                z_dim=generator.z_dim,
                c_dim=generator.c_dim,
                w_dim=w_dim,
                img_resolution=img_resolution,
                img_channels=narrow.b4.torgb.weight.shape[0],
                square=height == width,
                mapping_kwargs=MappingConfig.from_mapping(_mapping_kwargs(generator.mapping)),
                channel_base=channel_base,
                channel_max=channel_max,
                conv_clamp=first.conv_clamp,
                use_noise=first.use_noise,
            )
        )
    random = torch.Generator().manual_seed(seed)
    latent = copies(generator.w_dim, w_dim)
    carried_from = None if carry is None else int(generator.check_level(carry)[1:])
    with torch.no_grad():
        _copy_mapping(wide.mapping, generator.mapping, latent)
        _fill(wide, generator, _Writer(latent, generator.w_dim, random), carried_from)
        for name, buffer in wide.named_buffers():
            if name.endswith("resample_filter"):
                buffer.copy_(first.resample_filter)
    return wide.to(generator.device).freeze()


def _mapping_kwargs(mapping: Any) -> dict:
    kwargs: dict = {
        "num_layers": mapping.num_layers,
        "lr_multiplier": mapping.fc0.bias_gain,
        "activation": mapping.fc0.activation,
    }
    if mapping.num_layers > 1:
        kwargs["layer_features"] = mapping.fc0.weight.shape[0]
    if mapping.c_dim > 0:
        kwargs["embed_features"] = mapping.embed.weight.shape[0]
    if not mapping.has_average:
        kwargs["w_avg_beta"] = None
    return kwargs


def _copy_mapping(wide: MappingNetwork, narrow: MappingNetwork, latent: Int[Tensor, "w_dim"]) -> None:
    state = {name: tensor.cpu() for name, tensor in narrow.state_dict().items()}
    last = f"fc{narrow.num_layers - 1}."
    wide.load_state_dict({n: t[latent] if n.startswith((last, "w_avg")) else t for n, t in state.items()})


@dataclass(frozen=True, eq=False)
class _Writer:
    """Fills layers of the wide network.

    Attributes:
        latent: which of ``w_dim`` latent numbers each of the wide latent's is a copy of.
    """

    latent: Int[Tensor, "wide_w_dim"]
    w_dim: int
    random: torch.Generator

    def constant_style(self, layer: SynthesisLayer | ToRGB) -> None:
        """All channels have style 1, whatever the latent."""
        layer.affine.weight.zero_()
        layer.affine.bias.fill_(1)

    def style(
        self, layer: SynthesisLayer | ToRGB, source: Int[Tensor, "styled"], narrow: SynthesisLayer | ToRGB
    ) -> None:
        """The first channels take the narrow layer's styles."""
        m = torch.bincount(self.latent, minlength=self.w_dim)[self.latent]
        scale = math.sqrt(len(self.latent) / self.w_dim) / m
        layer.affine.weight[: len(source)] = narrow.affine.weight.cpu()[source][:, self.latent] * scale
        layer.affine.bias[: len(source)] = narrow.affine.bias.cpu()[source]

    def copied(
        self, layer: SynthesisLayer, narrow: SynthesisLayer, to: Int[Tensor, "out"], given: Int[Tensor, "styled"]
    ) -> None:
        """The first outputs are those of the narrow layer, from the first inputs."""
        weight = narrow.weight.cpu()
        share = shares(given, weight.shape[1], 1.0, (len(to), 3, 3), self.random).transpose(0, 1)
        layer.weight[: len(to), : len(given)] = (weight.double()[to][:, given] * share).float()
        layer.bias[: len(to)] = narrow.bias.cpu()[to]
        self.style(layer, given, narrow)

    def passed(
        self, layer: SynthesisLayer, to: Int[Tensor, "out"], given: Int[Tensor, "constant"], start: tuple[int, int]
    ) -> None:
        """Outputs from ``start[0]`` on are the inputs from ``start[1]`` on, through the layer's activation."""
        count = int(given.max()) + 1
        share = shares(given, count, 2.0, (len(to),), self.random).T
        rows, columns = slice(start[0], start[0] + len(to)), slice(start[1], start[1] + len(given))
        layer.weight[rows, columns, 1, 1] = (share * (to[:, None] == given)).float()


def _layouts(wide: StyleGAN2Generator, narrow: StyleGAN2Generator, carried_from: int | None) -> dict[int, Layout]:
    """What every block's maps hold."""
    layouts: dict[int, Layout] = {}
    last = narrow.synthesis.resolutions[-1]
    for r, block, _ in wide.synthesis.blocks():
        total = block.conv1.weight.shape[0]
        count = getattr(narrow.synthesis, f"b{min(r, last)}").conv1.weight.shape[0]
        kept = carried = 0
        if carried_from is not None and carried_from < r <= last:
            kept = getattr(narrow.synthesis, f"b{carried_from}").conv1.weight.shape[0]
            carried = kept * (2 if total >= 2 * kept + count else 1)
        # Of the level that is carried, copies are needed that pass it on.
        needed = count * (2 if r == carried_from and r < last else 1)
        if total < needed + carried:
            raise ConfigError(f"b{r} has {total} channels; {needed + carried} are needed")
        layouts[r] = Layout(copies(count, total - carried), copies(max(kept, 1), carried))
    return layouts


def _fill(wide: StyleGAN2Generator, generator: StyleGAN2Generator, writer: _Writer, carried_from: int | None) -> None:
    """Write every weight of the synthesis network."""
    layouts = _layouts(wide, generator, carried_from)
    narrow: Any = generator.synthesis
    last = narrow.resolutions[-1]
    for r, block, _ in wide.synthesis.blocks():
        here = layouts[r]
        if r == 4:
            block.const.copy_(narrow.b4.const.cpu()[here.own])
        for name in ("conv0", "conv1")[2 - block.num_conv :]:
            layer = getattr(block, name)
            layer.weight.zero_()
            layer.bias.zero_()
            given = layouts[r // 2] if name == "conv0" else here
            if layer.use_noise:
                layer.noise_const.zero_()
                layer.noise_strength.zero_()
            writer.constant_style(layer)
            if r > last:
                writer.passed(layer, here.own, given.own, (0, 0))
                continue
            old = getattr(getattr(narrow, f"b{r}"), name)
            if layer.use_noise:
                layer.noise_const.copy_(old.noise_const)
                layer.noise_strength.copy_(old.noise_strength)
            if len(here.carried) and not len(given.carried):
                # Here the carried channels begin: the last copies of each are for them.
                count = old.weight.shape[1]
                own = max(len(given) - 2 * count, count)
                writer.copied(layer, old, here.own, given.own[:own])
                writer.passed(layer, here.carried, given.own[own:], (len(here.own), own))
            else:
                writer.copied(layer, old, here.own, given.own)
                if len(here.carried):
                    writer.passed(layer, here.carried, given.carried, (len(here.own), len(given.own)))
        block.torgb.weight.zero_()
        block.torgb.bias.zero_()
        writer.constant_style(block.torgb)
        if r <= last:
            _colour(block.torgb, getattr(narrow, f"b{r}").torgb, here, writer)


def _colour(layer: ToRGB, narrow: ToRGB, here: Layout, writer: _Writer) -> None:
    m = torch.bincount(here.own)[here.own]
    scale = narrow.style_gain / layer.style_gain / m
    layer.weight[:, : len(here.own)] = narrow.weight.cpu()[:, here.own] * scale[:, None, None]
    layer.bias.copy_(narrow.bias)
    writer.style(layer, here.own, narrow)
