"""What the interface promises holds for every network behind it: levels, rows, gradients, geometry, limits."""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from draggan.errors import ConfigError, LatentError
from draggan.generators import schema
from draggan.generators.base import Generator, z_from_seed
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import DiscriminatorConfig, MappingConfig, StyleGAN2Config
from draggan.generators.stylegan2.discriminator import Discriminator, minibatch_deviation
from draggan.generators.stylegan3 import StyleGAN3Generator
from draggan.generators.stylegan3.config import StyleGAN3Config

SMALL2 = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 32, "channel_base": 128, "channel_max": 8}
SMALL3 = {**SMALL2, "num_layers": 6}
RADIAL = {"conv_kernel": 1, "use_radial_filters": True}
CONFIGS = {
    StyleGAN2Generator: StyleGAN2Config,
    StyleGAN3Generator: StyleGAN3Config,
    Discriminator: DiscriminatorConfig,
}
NETWORKS: dict[str, tuple[type[Generator], dict[str, Any]]] = {
    "2-skip": (StyleGAN2Generator, SMALL2),
    "2-resnet": (StyleGAN2Generator, {**SMALL2, "architecture": "resnet"}),
    "2-orig": (StyleGAN2Generator, {**SMALL2, "architecture": "orig"}),
    "2-rectangular": (StyleGAN2Generator, {**SMALL2, "square": False}),
    "3-t": (StyleGAN3Generator, SMALL3),
    "3-r": (StyleGAN3Generator, {**SMALL3, **RADIAL}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)
stylegan3 = pytest.mark.parametrize("name", ["3-t", "3-r"])


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Nothing is left at a value that hides an effect: biases, noise, averages."""
    for key, value in network.state_dict().items():
        if key.endswith(("bias", "w_avg")):
            value += 0.3 * torch.randn_like(value)
        elif key.endswith("noise_strength"):
            value.fill_(0.3)
        elif key.endswith("magnitude_ema"):
            value.fill_(0.7)
        elif key.endswith("input.affine.weight"):
            value.copy_(0.2 * torch.randn_like(value))
    return network


def made(cls: type[torch.nn.Module], kwargs: dict[str, Any]) -> torch.nn.Module:
    """A network of plain arguments."""
    return cls(CONFIGS[cls].from_mapping(kwargs))


def fresh(name: str) -> Generator:
    torch.manual_seed(1)
    cls, kwargs = NETWORKS[name]
    return randomised(made(cls, kwargs))


@cache
def frozen(name: str) -> Generator:
    return fresh(name).freeze()


def some_ws(G: Generator, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, G.num_ws, G.w_dim, generator=generator)


# ------------------------------------------------------------------------------------------------ levels and rows


@every_network
def test_rows_used_are_the_rows_that_matter(name: str) -> None:
    G = frozen(name)
    ws = some_ws(G)
    for level in G.levels:
        used = G.rows_used(level)
        before = G.features(ws, level)
        others, last = ws.clone(), ws.clone()
        others[:, used:] += 1
        last[:, used - 1] += 1
        assert torch.equal(G.features(others, level), before)
        assert not torch.allclose(G.features(last, level), before)
    # Rows that a level does not use need not even be there.
    level = G.levels[1]
    assert torch.equal(G.features(ws[:, : G.rows_used(level)], level), G.features(ws, level))


@every_network
def test_features_are_what_the_picture_is_made_of(name: str) -> None:
    """What a full synthesis passes through each level is what `features` gives for that level alone."""
    G = frozen(name)
    ws = some_ws(G)
    seen: dict[str, Tensor] = {}
    handles = []
    for level in G.levels:
        module = getattr(G.synthesis, level)
        if isinstance(G, StyleGAN2Generator):
            # A block's last layer; in resnet the residual path is added to it.
            module = module.conv1
        handles.append(module.register_forward_hook(lambda _m, _i, out, level=level: seen.update({level: out})))
    G.synthesis(ws)
    for handle in handles:
        handle.remove()
    for level in G.levels:
        found = G.features(ws, level)
        if name == "2-resnet" and level != "b4":
            found = found - getattr(G.synthesis, level).skip(G.features(ws, G.levels[G.levels.index(level) - 1]))
        torch.testing.assert_close(found, seen[level], atol=1e-5, rtol=1e-5)


@every_network
def test_a_batch_is_a_set_of_independent_samples(name: str) -> None:
    G = frozen(name)
    # Styles of very different size; the published StyleGAN3 normalises them together.
    ws, level = some_ws(G, 3) * torch.tensor([0.01, 1.0, 100.0])[:, None, None], G.levels[-1]
    for found, single in (
        (G.synthesis(ws), [G.synthesis(one) for one in ws.split(1)]),
        (G.features(ws, level), [G.features(one, level) for one in ws.split(1)]),
    ):
        for ours, alone in zip(found, single, strict=True):
            assert (ours - alone[0]).abs().max() < 1e-5 * alone.abs().max()


@every_network
def test_nothing_beyond_the_level_is_computed(name: str) -> None:
    G = fresh(name)
    level = G.levels[2]
    for later in G.levels[3:]:
        delattr(G.synthesis, later)
    assert G.features(some_ws(G), level).shape[-2:] == G.grid(level).size


@pytest.mark.parametrize(
    ("size", "expected"),
    [(16, "b16"), (32, "b32"), (64, "b32"), (128, "b32"), (256, "b64"), (512, "b128"), (1024, "b128")],
)
@pytest.mark.parametrize("square", [True, False])
def test_default_level_of_stylegan2(size: int, expected: str, square: bool) -> None:
    """A quarter of the longer side, from 32 to 128 cells."""
    kwargs = {**SMALL2, "img_resolution": size, "channel_base": 1 << 10, "channel_max": 1, "square": square}
    G = StyleGAN2Generator(StyleGAN2Config.from_mapping(kwargs))
    assert G.image_size == (size, size if square else size // 2)
    assert G.default_level == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(32, "L5_32_1"), (64, "L7_52_1"), (256, "L6_84_1"), (512, "L7_148_1"), (1024, "L6_148_1")]
)
def test_default_level_of_stylegan3(size: int, expected: str) -> None:
    """The finest map of the wanted rate; the margin does not count."""
    thin = {"channel_base": 4096, "channel_max": 1, "num_layers": 6 if size == 32 else 14}
    G = StyleGAN3Generator(StyleGAN3Config.from_mapping({**SMALL3, **thin, "img_resolution": size}))
    assert G.default_level == expected


@pytest.mark.parametrize(("name", "wrong"), [("2-skip", "b128"), ("2-skip", "b"), ("3-t", "b32"), ("3-t", "L6_32_3")])
def test_unknown_levels_are_named(name: str, wrong: str) -> None:
    G = frozen(name)
    for ask in (G.check_level, G.grid, G.rows_used, lambda level: G.features(some_ws(G), level)):
        with pytest.raises(LatentError, match=f"no feature level '{wrong}'.*{G.levels[0]}, {G.levels[1]}"):
            ask(wrong)


@every_network
def test_latents_of_the_wrong_shape_are_told_the_right_one(name: str) -> None:
    G = frozen(name)
    ws = some_ws(G)
    assert G.check_ws(ws) is ws
    for wrong in (ws[0], ws[:, :-1], ws[:, :, :-1]):
        with pytest.raises(LatentError, match=rf"takes \[batch, {G.num_ws}, {G.w_dim}\]"):
            G.check_ws(wrong)


# ------------------------------------------------------------------------------------------ gradients and freezing


@every_network
def test_gradients_stop_at_rows_that_need_none(name: str) -> None:
    G = frozen(name)
    level = G.levels[3]
    ws = some_ws(G).requires_grad_()
    features = G.features(ws, level)
    cotangent = torch.randn_like(features)
    (expected,) = torch.autograd.grad(features, ws, cotangent)
    rows = [row.clone() for row in ws.detach().unbind(1)]
    free = (0, 2)
    for k in free:
        rows[k].requires_grad_()
    features = G.features(rows, level)
    features.backward(cotangent)
    for k, row in enumerate(rows):
        if k in free:
            torch.testing.assert_close(row.grad, expected[:, k], atol=1e-4, rtol=1e-4)
        else:
            assert row.grad is None
    # The latent's way into the last layer is not recorded: its style is a constant.
    assert not G.features([row.detach() for row in rows], level).requires_grad
    assert all(p.grad is None for p in G.parameters())


@every_network
def test_freezing_changes_no_number_and_no_name(name: str) -> None:
    G = fresh(name)
    ws = some_ws(G, 2)
    names, picture = list(G.state_dict()), G.synthesis(ws)
    assert picture.requires_grad
    assert G.freeze() is G
    assert list(G.state_dict()) == names
    assert not any(p.requires_grad for p in G.parameters())
    assert not G.training
    again = G.synthesis(ws)
    assert not again.requires_grad
    torch.testing.assert_close(again, picture, atol=1e-5, rtol=1e-5)


@every_network
def test_training_reaches_every_weight(name: str) -> None:
    G = fresh(name).train()
    z = torch.randn(2, 8)
    G.synthesis(G.mapping(z)).square().sum().backward()
    without = [key for key, p in G.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every_network
def test_half_precision_is_close(name: str) -> None:
    G = frozen(name)
    ws, level = some_ws(G), G.levels[-1]
    exact = G.features(ws, level)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, picture = G.features(ws, level), G.synthesis(ws)
    assert rough.dtype == torch.bfloat16
    assert picture.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


# ---------------------------------------------------------------------------------------------------------- geometry


@every_network
def test_maps_have_the_size_of_their_grid(name: str) -> None:
    G = frozen(name)
    ws = some_ws(G)
    for level in G.levels:
        grid = G.grid(level)
        assert G.features(ws, level).shape[-2:] == grid.size
        # Centre of the picture, centre of the map.
        centre = torch.tensor([(G.image_size[1] - 1) / 2, (G.image_size[0] - 1) / 2])
        middle = torch.tensor([(grid.size[1] - 1) / 2, (grid.size[0] - 1) / 2])
        torch.testing.assert_close(grid.to_cells(centre), middle)
        torch.testing.assert_close(grid.to_pixels(middle), centre)


@pytest.mark.parametrize("name", ["2-skip", "2-resnet", "2-orig", "2-rectangular"])
def test_stylegan2_maps_are_centred_on_the_picture(name: str) -> None:
    """With weights that are their own mirror images, so are map and picture: nothing is shifted by part of a cell."""
    G = fresh(name)
    for key, value in G.state_dict().items():
        if key.endswith(("noise_const", "const")) or (key.endswith("weight") and value.ndim == 4):
            value.copy_((value + value.flip(-1) + value.flip(-2) + value.flip(-1, -2)) / 4)
    ws = some_ws(G)
    for found in (*(G.features(ws, level) for level in G.levels), G.synthesis(ws)):
        torch.testing.assert_close(found, found.flip(-1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found, found.flip(-2), atol=1e-4, rtol=1e-4)


@stylegan3
def test_stylegan3_maps_are_centred_on_the_picture(name: str) -> None:
    """Turning the input by half a turn turns every map and the picture about their centres, borders included."""
    G = fresh(name)
    for _, layer in G.synthesis.layers():
        layer.weight.data += layer.weight.data.flip(2, 3)
    ws = some_ws(G)
    upright = [G.features(ws, level) for level in G.levels] + [G.synthesis(ws)]
    G.synthesis.input.affine.weight.data.zero_()
    G.synthesis.input.affine.bias.data.copy_(torch.tensor([1.0, 0, 0, 0]))
    still = [G.features(ws, level) for level in G.levels] + [G.synthesis(ws)]
    G.synthesis.input.transform.copy_(torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
    turned = [G.features(ws, level) for level in G.levels] + [G.synthesis(ws)]
    for plain, half_turn in zip(still, turned, strict=True):
        scale = plain.abs().max()
        assert ((half_turn - plain.flip(-1, -2)).abs().max() / scale) < 1e-5
        assert ((half_turn - plain).abs().max() / scale) > 0.1
    # And the latent turns the picture itself.
    assert not torch.allclose(upright[-1], still[-1], atol=1e-2)


@stylegan3
@pytest.mark.parametrize("shift", [(4, 0), (0, -4), (-8, 4)])
def test_moving_the_input_moves_maps_and_picture(name: str, shift: tuple[int, int]) -> None:
    """Content that moves by (x, y) pixels moves by that times the scale in cells; what entered at the borders aside."""
    G = fresh(name)
    ws = some_ws(G)
    G.synthesis.input.affine.weight.data.zero_()
    G.synthesis.input.affine.bias.data.copy_(torch.tensor([1.0, 0, 0, 0]))
    size = G.image_size[0]
    before = [G.features(ws, level).detach() for level in G.levels] + [G.synthesis(ws).detach()]
    # The transform says where the features are looked up, so content moves the other way.
    G.synthesis.input.transform[:2, 2] = -torch.tensor(shift).float() / size
    after = [G.features(ws, level) for level in G.levels] + [G.synthesis(ws)]
    scales = [G.grid(level).scale[0] for level in G.levels] + [1.0]
    margins = [int(G.grid(level).margin) for level in G.levels] + [0]
    for old, new, scale, margin in zip(before, after, scales, margins, strict=True):
        dx, dy = (int(s * scale) for s in shift)
        moved = old.roll((dy, dx), (-2, -1))
        # The picture's inner part, clear of what was rolled in. These shifts are whole cells on every level, so there
        # the maps are the same numbers.
        rim = margin + int(10 * scale)
        inner = (..., slice(rim, -rim), slice(rim, -rim))
        error = (new - moved)[inner].square().mean().sqrt() / old.std()
        stale = (new - old)[inner].square().mean().sqrt() / old.std()
        assert error < 1e-3
        assert stale > 0.05


@stylegan3
def test_every_layer_puts_a_wave_where_its_grid_says(name: str) -> None:
    """A slow wave over the picture, through each layer alone: still the same wave in picture coordinates.

    The kernel is an impulse and a large bias keeps the non-linearity in its linear part, so resampling is all that is
    left. The phase tells the position to a small part of a cell.
    """
    G = fresh(name)
    size = G.image_size[0]
    angular = 2 * math.pi * 1.5 / size
    layers = [layer for _, layer in G.synthesis.layers()][:-1]
    for level, layer in zip(G.levels, layers, strict=True):
        grid = G.grid(level)
        taken = grid if level == G.levels[0] else G.grid(G.levels[G.levels.index(level) - 1])
        x = taken.to_pixels(torch.arange(taken.size[1]).float()[:, None].expand(-1, 2))[:, 0]
        wave = torch.cos(angular * x).expand(1, layer.before.channels, taken.size[0], -1)
        layer.affine.weight.data.zero_()
        layer.affine.bias.data.fill_(1)
        layer.weight.data.zero_()
        layer.weight.data[:, 0, layer.kernel // 2, layer.kernel // 2] = 1
        layer.bias.data.fill_(100)
        out = layer(wave, torch.zeros(1, G.w_dim))[0, 0]
        middle = out[out.shape[0] // 2]
        at = grid.to_pixels(torch.arange(grid.size[1]).float()[:, None].expand(-1, 2))[:, 0]
        inner = (at > 4) & (at < size - 5)
        basis = torch.stack([torch.cos(angular * at), torch.sin(angular * at), torch.ones_like(at)], 1)[inner].double()
        cosine, sine, _ = torch.linalg.lstsq(basis, middle[inner].double()[:, None]).solution[:, 0].tolist()
        pixels_off = math.atan2(sine, cosine) / angular
        assert abs(pixels_off * grid.scale[1]) < 0.01, level


# --------------------------------------------------------------------------------------- what StyleGAN3 alone has


@stylegan3
def test_single_precision_is_enough(name: str) -> None:
    G = frozen(name)
    ws, level = some_ws(G).requires_grad_(), G.levels[-1]
    twin = fresh(name).double()
    twin.load_state_dict(G.state_dict())
    exact_ws = ws.detach().double().requires_grad_()
    found, exact = G.features(ws, level), twin.features(exact_ws, level)
    assert exact.dtype == torch.float64
    assert (found - exact).abs().max() < 2e-5 * exact.abs().max()
    cotangent = torch.randn_like(exact)
    (gradient,) = torch.autograd.grad(found, ws, cotangent.float())
    (expected,) = torch.autograd.grad(exact, exact_ws, cotangent)
    assert (gradient - expected).abs().max() < 1e-4 * expected.abs().max()


def test_published_layer_names() -> None:
    """Those of the 1024 px models of configuration T."""
    sizes = [36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024]
    widths = [512, 512, 512, 512, 512, 512, 512, 323, 203, 128, 81, 51, 32, 32, 3]
    full = {"z_dim": 1, "c_dim": 0, "w_dim": 1}
    G = StyleGAN3Generator(StyleGAN3Config(**full, img_resolution=1024))
    assert G.synthesis.names == tuple(f"L{i}_{s}_{w}" for i, (s, w) in enumerate(zip(sizes, widths, strict=True)))
    assert G.num_ws == 16


# ---------------------------------------------------------------------------------------------------------- mapping


@pytest.mark.parametrize("cls", [StyleGAN2Generator, StyleGAN3Generator])
def test_classes_change_the_latent(cls: type[Generator]) -> None:
    torch.manual_seed(0)
    kwargs = SMALL2 if cls is StyleGAN2Generator else SMALL3
    G = randomised(made(cls, {**kwargs, "c_dim": 3})).freeze()
    z, classes = torch.randn(1, 8), torch.eye(3)
    ws = [G.mapping(z, c[None]) for c in classes]
    assert ws[0].shape == (1, G.num_ws, 8)
    assert all(not torch.allclose(ws[i], ws[j], atol=1e-2) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(G.mapping(z), G.mapping(z, torch.zeros(1, 3)))
    # A batch of labels is a batch of single labels.
    torch.testing.assert_close(G.mapping(z.expand(3, -1), classes), torch.cat(ws), atol=1e-6, rtol=1e-5)


@every_network
def test_truncation_goes_to_the_average(name: str) -> None:
    G = frozen(name)
    z = torch.randn(2, 8)
    full, average = G.mapping(z), G.mapping.w_avg
    assert torch.equal(full, full[:, :1].expand(-1, G.num_ws, -1))
    torch.testing.assert_close(G.mapping(z, None, 0.0), average.expand_as(full))
    torch.testing.assert_close(G.mapping(z, None, 0.25), average + 0.25 * (full - average))
    part = G.mapping(z, None, 0.0, 2)
    torch.testing.assert_close(part[:, :2], average.expand(2, 2, -1))
    assert torch.equal(part[:, 2:], full[:, 2:])


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_seeds_mean_what_they_mean_elsewhere(seed: int) -> None:
    expected = np.random.RandomState(seed).randn(1, 512).astype(np.float32)
    assert np.array_equal(z_from_seed(seed, 512).numpy(), expected)


def test_a_known_seed_by_value() -> None:
    assert z_from_seed(0, 3)[0].tolist() == pytest.approx([1.764052, 0.400157, 0.978738], abs=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(LatentError, match="whole number from 0 to 4294967295"):
        z_from_seed(seed, 4)


def test_a_sample_is_the_mapping_of_its_seed_at_its_truncation_in_its_class() -> None:
    torch.manual_seed(0)
    G = randomised(StyleGAN2Generator(StyleGAN2Config.from_mapping({**SMALL2, "c_dim": 3}))).freeze()
    z = z_from_seed(5, G.z_dim)
    ws = G.sample(5, 0.5, class_index=2)
    assert torch.equal(ws, G.mapping(z, torch.tensor([[0.0, 0.0, 1.0]]), truncation_psi=0.5))
    assert not ws.requires_grad
    for wrong in (None, -1, 3, True):
        with pytest.raises(ConfigError, match="classes 0 to 2"):
            inspect.unwrap(Generator.class_label)(G, wrong)
    without = frozen("2-skip")
    assert torch.equal(without.sample(5), without.mapping(z_from_seed(5, without.z_dim)))
    with pytest.raises(ConfigError, match="no classes"):
        without.sample(5, class_index=0)
    with pytest.raises(LatentError, match="whole number from 0"):
        without.sample(-1)


# -------------------------------------------------------------------------------------------------------------- limits

BAD3 = [
    ({"z_dim": 0}, "z_dim = 0"),
    ({"w_dim": 10**9}, "w_dim"),
    ({"c_dim": -1}, "c_dim"),
    ({"img_resolution": 48}, "power of two"),
    ({"img_resolution": 1 << 30}, "power of two"),
    ({"img_resolution": 32.0}, "power of two"),
    ({"img_channels": 10**6}, "img_channels"),
    ({"channel_max": 8192, "channel_base": 2**24, "img_resolution": 512}, "million weights"),
    ({"channel_max": 10**6}, "channel_max"),
    ({"channel_base": math.inf}, "channel_base"),
    ({"channel_base": math.nan}, "channel_base"),
    ({"channel_base": 4}, "0 channels"),
    ({"num_layers": 10**9}, "num_layers"),
    ({"num_layers": True}, "num_layers"),
    ({"num_critical": 6}, "num_critical"),
    ({"first_cutoff": 16.0}, "at most 8"),
    ({"first_cutoff": 8.0, "first_stopband": 1.0}, "first_stopband"),
    ({"margin_size": 10**6}, "margin_size"),
    ({"filter_size": 10**6}, "filter_size"),
    ({"lrelu_upsampling": 10**6}, "lrelu_upsampling"),
    ({"num_layers": 1, "num_critical": 0, "img_resolution": 4096}, "more layers"),
    ({"conv_kernel": 10**4}, "conv_kernel"),
    ({"use_radial_filters": 1}, "True or False"),
    ({"conv_clamp": 0}, "conv_clamp"),
    ({"output_scale": "1"}, "output_scale"),
    ({"mapping_kwargs": {"num_layers": 10**9}}, r"mapping_kwargs\.num_layers"),
    ({"mapping_kwargs": {"lr_multiplier": 0}}, r"mapping_kwargs\.lr_multiplier"),
    ({"mapping_kwargs": {"embed_features": 8}}, r"unknown argument mapping_kwargs\.embed_features"),
]
SMALL_D = {"c_dim": 0, "img_resolution": 16, "channel_base": 128, "channel_max": 8}
BAD_D = [
    ({"img_resolution": 4}, "power of two"),
    ({"img_resolution": 1 << 20}, "power of two"),
    ({"channel_base": 8}, "channel_base"),
    ({"channel_max": 1 << 20}, "channel_max"),
    ({"channel_max": 8192, "channel_base": 1 << 20}, "million weights"),
    ({"architecture": "other"}, "resnet, skip, orig"),
    ({"activation": "other"}, "activation"),
    ({"cmap_dim": 10**9}, "cmap_dim"),
    ({"c_dim": 3, "cmap_dim": 0}, "no use"),
    ({"mbstd_group_size": 0}, "mbstd_group_size"),
    ({"mbstd_num_channels": 3}, "does not divide"),
    ({"conv_clamp": -1.0}, "conv_clamp"),
    ({"resample_filter": (1, 2, 1)}, "four"),
    ({"square": None}, "square"),
    ({"mapping_kwargs": {"layer_features": 10**9}}, "layer_features"),
]


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [(StyleGAN3Generator, {**SMALL3, **change}, message) for change, message in BAD3]
    + [(Discriminator, {**SMALL_D, **change}, message) for change, message in BAD_D],
)
def test_impossible_and_absurd_networks_are_refused_before_they_are_built(
    cls: type[torch.nn.Module], kwargs: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("weights were made")

    monkeypatch.setattr(torch, "randn", build)
    with pytest.raises(ConfigError, match=message):
        made(cls, kwargs)


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (StyleGAN3Generator, {**SMALL3, "c_dim": 5, "mapping_kwargs": {"num_layers": 3}}),
        (Discriminator, {**SMALL_D, "c_dim": 5, "channel_max": 32}),
    ],
)
def test_the_budget_counts_what_is_built(
    cls: type[torch.nn.Module], kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = made(cls, kwargs)
    size = sum(p.numel() for p in network.parameters())
    monkeypatch.setattr(schema, "MAX_PARAMETERS", int(0.7 * size))
    with pytest.raises(ConfigError, match="million weights"):
        made(cls, kwargs)
    monkeypatch.setattr(schema, "MAX_PARAMETERS", int(1.3 * size))
    made(cls, kwargs)


# ------------------------------------------------------------------------------------------------------ discriminator


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_discriminators_of_every_kind(architecture: str, square: bool, c_dim: int) -> None:
    torch.manual_seed(0)
    D = randomised(made(Discriminator, {**SMALL_D, "c_dim": c_dim, "architecture": architecture, "square": square}))
    image = torch.randn(4, 3, *D.image_size)
    logits = D(image, torch.eye(3)[[0, 1, 2, 0]] if c_dim else None)
    assert logits.shape == (4, 1)
    assert logits.std() > 0
    logits.sum().backward()
    assert [key for key, p in D.named_parameters() if p.grad is None] == []
    if c_dim:
        assert not torch.allclose(D(image, torch.eye(3)[[1, 2, 0, 1]]), logits)
        assert torch.equal(D(image), D(image, torch.zeros(4, 3)))


def test_skip_is_orig_plus_colours_on_the_way() -> None:
    """With blind colour inputs in all blocks but the first, ``skip`` is ``orig``; with open ones it sees the picture
    filtered to their size."""
    torch.manual_seed(0)
    skip, orig = (randomised(Discriminator(DiscriminatorConfig(**SMALL_D, architecture=a))) for a in ("skip", "orig"))
    skip.load_state_dict(orig.state_dict(), strict=False)
    image = torch.randn(4, 3, 16, 16)
    for block in (skip.b8, skip.b4):
        block.fromrgb.weight.data.zero_()
        block.fromrgb.bias.data.zero_()
    torch.testing.assert_close(skip(image), orig(image))
    seen: list[Tensor] = []
    skip.b4.fromrgb.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0]))
    ramp = (torch.arange(16.0) + 0.5).expand(1, 3, 16, 16) / 16
    skip(ramp)
    # The middle cells of the 4x4 picture, clear of the borders: a ramp keeps its position.
    torch.testing.assert_close(seen[0][0, 0, 1, 1:3], torch.tensor([1.5, 2.5]) / 4, atol=1e-5, rtol=0)


def test_discriminator_refuses_other_sizes_and_odd_batches() -> None:
    D = Discriminator(DiscriminatorConfig.from_mapping(SMALL_D))
    with pytest.raises(ConfigError, match=r"32x32 px does not fit.*16x16"):
        D(torch.zeros(4, 3, 32, 32))
    with pytest.raises(ConfigError, match="batch of 6 cannot be divided into groups of 4"):
        D(torch.zeros(6, 3, 16, 16))
    assert D(torch.zeros(3, 3, 16, 16)).shape == (3, 1)


def test_minibatch_deviation_by_value() -> None:
    """Samples i and i + 2 make a group when four are divided into groups of two."""
    x = torch.zeros(4, 2, 3, 3)
    x[0], x[2] = 1.0, 3.0  # standard deviation 1
    found = minibatch_deviation(x, 2, 1)
    assert found.shape == (4, 1, 3, 3)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([1.0, 1e-4, 1.0, 1e-4]), atol=1e-6, rtol=1e-6)
    # One feature per part of the channels.
    x[:, 1] = 0
    found = minibatch_deviation(x, None, 2)
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([1.5**0.5, 1e-4]), atol=1e-6, rtol=1e-6)
    assert torch.equal(found, found[:1, :, :1, :1].expand_as(found))


def test_discriminator_sees_the_whole_picture_alike() -> None:
    """A mirrored discriminator gives a mirrored picture the same logits: no part of it is shifted."""
    for architecture in ("resnet", "skip", "orig"):
        torch.manual_seed(0)
        D = randomised(Discriminator(DiscriminatorConfig(**SMALL_D, architecture=architecture)))
        image = torch.randn(4, 3, 16, 16)
        mirrored = Discriminator(DiscriminatorConfig(**SMALL_D, architecture=architecture))
        state = {key: value.flip(-1) if value.ndim == 4 else value for key, value in D.state_dict().items()}
        fc = state["b4.fc.weight"]
        state["b4.fc.weight"] = fc.reshape(fc.shape[0], -1, 4, 4).flip(-1).flatten(1)
        mirrored.load_state_dict(state)
        torch.testing.assert_close(mirrored(image.flip(-1)), D(image), atol=1e-4, rtol=1e-4)


def test_logits_have_the_gradient_of_the_picture() -> None:
    torch.manual_seed(0)
    D = randomised(Discriminator(DiscriminatorConfig.from_mapping(SMALL_D))).double()
    image = torch.randn(2, 3, 16, 16, dtype=torch.double, requires_grad=True)
    direction = torch.randn_like(image)
    (gradient,) = torch.autograd.grad(F.softplus(D(image)).sum(), image)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (F.softplus(D(image + s * direction)).sum() for s in (step, -step))
    torch.testing.assert_close((gradient * direction).sum(), (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)


def test_smaller_pictures_on_the_way() -> None:
    def example(architecture: str) -> StyleGAN2Generator:
        sizes = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 32, "channel_base": 256, "channel_max": 16}
        return StyleGAN2Generator(
            StyleGAN2Config(**sizes, mapping_kwargs=MappingConfig(num_layers=1), architecture=architecture)
        ).freeze()

    G = example("skip")
    ws = G.mapping(torch.randn(2, G.z_dim))
    assert G.preview_heights == (4, 8, 16, 32)
    assert torch.equal(G.preview(ws, 32), G.synthesis(ws))
    assert G.preview(ws, 16).shape == (2, 3, 16, 16)
    # The picture is the smaller one, enlarged, plus what the last block adds: without that they are the same.
    with torch.no_grad():
        G.synthesis.b32.torgb.weight.zero_()
        G.synthesis.b32.torgb.bias.zero_()
    small, large = G.preview(ws, 16), G.preview(ws, 32)
    torch.testing.assert_close(large.mean((2, 3)), small.mean((2, 3)), atol=0.2, rtol=0)
    with pytest.raises(LatentError, match="it has 4, 8, 16, 32"):
        G.preview(ws, 20)
    assert example("resnet").preview_heights == (32,)
