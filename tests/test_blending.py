"""Two pictures in one: the computation of parts equals that of whole maps, and outside the mask nothing changes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from draggan.generators.base import Generator
from draggan.generators.blending import Blend, Picture, mask_weights
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.stylegan3 import StyleGAN3Generator
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.geometry import Grid, Windows, crop
from draggan.pixels import to_uint8
from tests import test_golden as golden
from tests.toys import BumpGenerator

SIZE = 64
KINDS = ("skip", "resnet", "orig", "tall", "t", "r")


@cache
def generator(kind: str) -> Generator:
    """A network with random weights and noise; StyleGAN3 in double precision."""
    torch.manual_seed(3)
    G: Generator
    if kind in ("t", "r"):
        more = {"conv_kernel": 1, "use_radial_filters": True} if kind == "r" else {}
        sizes = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": SIZE, "num_layers": 6, "channel_base": 256}
        G = StyleGAN3Generator(StyleGAN3Config.from_mapping({**sizes, "channel_max": 6, **more}))
    else:
        config = {
            "z_dim": 8,
            "c_dim": 0,
            "w_dim": 8,
            "img_resolution": SIZE,
            "square": kind != "tall",
            "architecture": "skip" if kind == "tall" else kind,
            "channel_base": 4 * SIZE,
            "channel_max": 8,
            "mapping_kwargs": {"num_layers": 2, "lr_multiplier": 1.0},
        }
        G = StyleGAN2Generator(StyleGAN2Config.from_mapping(config))
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.fill_(0.3)
    for name, parameter in G.named_parameters():
        if name.endswith("bias") and "affine" not in name:
            parameter.data.normal_()
    return (G.double() if kind in ("t", "r") else G).freeze()


def larger() -> Generator:
    config = StyleGAN2Config(z_dim=8, c_dim=0, w_dim=8, img_resolution=128, channel_base=1024, channel_max=8)
    return StyleGAN2Generator(config).freeze()


def latent(G: Generator, seed: int) -> Tensor:
    torch.manual_seed(seed)
    dtype = torch.float64 if G.family == "stylegan3" else torch.float32
    return torch.randn(1, G.num_ws, G.w_dim, dtype=dtype)


def disc(G: Generator, x: float, y: float, radius: float) -> np.ndarray:
    height, width = G.image_size
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(columns - x, rows - y) < radius


def whole_maps(G: Generator, picture: Picture) -> tuple[Tensor, dict[str, Tensor]]:
    """The definition: every map whole, blended at every stage."""
    before = {} if picture.base is None else whole_maps(G, picture.base)[1]
    maps, found, image = None, {}, None
    rows = picture.ws.unbind(1)
    for stage in G.stages:
        maps = stage.whole(maps, rows)
        if picture.base is not None and stage.blends:
            m = mask_weights(picture.mask, stage.grid).to(maps.features)
            if stage.name == G.stages[-1].name:
                m = m * torch.from_numpy(picture.mask)
            features = m * maps.features + (1 - m) * before[stage.name]
            image = maps.image
            if image is not None:
                image = m * image + (1 - m) * before["picture " + stage.name]
            maps = type(maps)(features, image)
        found[stage.name], found["picture " + stage.name] = maps.features, maps.image
    return maps.image, found


MASKS = {"middle": (30, 25, 12), "corner": (2, 60, 14), "small": (20, 40, 2), "most": (32, 32, 40)}


@pytest.mark.parametrize("place", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_parts_equal_whole_maps_and_outside_nothing_changes(kind: str, place: str) -> None:
    G = generator(kind)
    mask = disc(G, *MASKS[place])
    base = Picture(ws=latent(G, 1))
    ws = latent(G, 2)
    blend = Blend(G, mask, base)
    expected = whole_maps(G, Picture(ws=ws, mask=mask, base=base))[0]
    got = blend.synthesis(ws)
    torch.testing.assert_close(got.double(), expected.double(), atol=2e-5, rtol=1e-5)
    first = G.synthesis(base.ws)
    outside = torch.from_numpy(~mask)
    assert torch.equal(got[:, :, outside], first[:, :, outside])
    assert np.array_equal(to_uint8(got)[~mask], to_uint8(first)[~mask])
    assert not torch.equal(got, first)
    # Deep inside a large mask the picture is another one than the latent alone draws only by what reaches in.
    assert not torch.equal(got, G.synthesis(ws))


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_may_be_blended_with_a_blended_one(kind: str) -> None:
    G = generator(kind)
    one, two = disc(G, 20, 20, 10), disc(G, 28, 40, 13)
    start = Picture(ws=latent(G, 1))
    middle = Picture(ws=latent(G, 2), mask=one, base=start)
    last = Picture(ws=latent(G, 3), mask=two, base=middle)
    got = G.picture(last)
    torch.testing.assert_close(got.double(), whole_maps(G, last)[0].double(), atol=2e-5, rtol=1e-5)
    # What the first mask held, and the second does not let change, is the first picture's still; and where only the
    # second holds it is the picture in between, to the last bit.
    held = torch.from_numpy(~one & ~two)
    assert torch.equal(got[:, :, held], G.synthesis(start.ws)[:, :, held])
    held = torch.from_numpy(~two)
    assert torch.equal(got[:, :, held], G.picture(middle)[:, :, held])


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_features_and_their_gradients_are_those_of_the_blended_picture(kind: str, samples: int) -> None:
    G = generator(kind)
    level = G.default_level
    mask = disc(G, 20, 25, 12)
    base = Picture(ws=latent(G, 1))
    blend = G.blend(mask, base, level)
    height, width = G.grid(level).size
    windows = Windows(((0, 0), (height // 3, width // 3), (height - 7, width - 7)), (7, 7))
    ws = torch.cat([latent(G, 5 + i) for i in range(samples)])

    def whole(rows: Tensor) -> Tensor:
        parts = []
        for one in rows:
            maps = None
            _, before = whole_maps(G, base)
            for stage in G.stages:
                maps = stage.whole(maps, one[None].unbind(1))
                if stage.blends:
                    m = mask_weights(mask, stage.grid).to(maps.features)
                    maps = type(maps)(m * maps.features + (1 - m) * before[stage.name], maps.image)
                if stage.name == level:
                    break
            parts.append(maps.features)
        return torch.cat(parts)

    a, b = ws.clone().requires_grad_(), ws.clone().requires_grad_()
    expected, got = crop(whole(a), windows), blend.features(b, level, windows)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-5)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(b.grad, a.grad, atol=1e-4 * a.grad.abs().max().item(), rtol=1e-4)
    torch.testing.assert_close(blend.features(ws[:1], level), whole(ws[:1]), atol=2e-5, rtol=1e-5)
    if samples == 1:
        picture = Picture(ws=ws, mask=mask, base=base)
        torch.testing.assert_close(G.picture_features(picture, level), whole(ws), atol=2e-5, rtol=1e-5)


def test_far_inside_the_mask_features_are_those_of_the_latent_alone() -> None:
    """To the last bit, and by the fast way: there is nothing of the first picture in them."""
    G = larger()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    mask = disc(G, 64, 64, 60)
    blend = G.blend(mask, Picture(ws=torch.randn(1, G.num_ws, G.w_dim)), "b32")
    windows = Windows(((15, 15),), (3, 3))
    assert torch.equal(blend.features(ws, "b32", windows), G.local_features(ws, "b32", windows))
    border = Windows(((0, 15),), (3, 3))
    assert not torch.equal(blend.features(ws, "b32", border), G.local_features(ws, "b32", border))


def test_the_border_is_softened_to_either_side_and_averaged_to_cells() -> None:
    mask = np.zeros((128, 128), bool)
    mask[:, :64] = True
    m = mask_weights(mask, Grid(size=(128, 128), scale=(1.0, 1.0)))[0, 0]
    assert (m[:, :61] == 1).all()
    assert (m[:, 67:] == 0).all()
    expected = (torch.arange(6.0) * -1 + 6) / 7
    torch.testing.assert_close(m[5, 61:67], expected)
    cells = mask_weights(mask, Grid(size=(36, 36), scale=(0.125, 0.125), margin=10))[0, 0]
    torch.testing.assert_close(cells[10:26, 10:26], F.avg_pool2d(m[None], 8)[0])
    # A margin continues what is at the picture's border.
    assert (cells[:, :10] == 1).all()
    assert (cells[:, 26:] == 0).all()


def test_smaller_pictures_on_the_way_are_blended_too() -> None:
    G = generator("skip")
    mask = disc(G, *MASKS["middle"])
    base, ws = Picture(ws=latent(G, 1)), latent(G, 2)
    blend = G.blend(mask, base)
    _, maps = whole_maps(G, Picture(ws=ws, mask=mask, base=base))
    for height in G.preview_heights[:-1]:
        got = blend.preview(ws, height)
        torch.testing.assert_close(got.double(), maps[f"picture b{height}"].double(), atol=2e-5, rtol=1e-5)
    assert torch.equal(blend.preview(ws, SIZE), blend.synthesis(ws))


def test_a_small_mask_keeps_little_of_the_first_picture() -> None:
    G = larger()
    base = Picture(ws=torch.randn(1, G.num_ws, G.w_dim))
    small, large = (G.blend(disc(G, 60, 60, radius), base).memory for radius in (4, 90))
    assert small < 0.4 * large


def test_a_generator_that_names_no_layers_blends_its_pictures() -> None:
    G = BumpGenerator([(20.0, 20.0)])
    torch.manual_seed(0)
    ws, other = (torch.randn(1, G.num_ws, G.w_dim) for _ in range(2))
    mask = np.zeros(G.image_size, bool)
    mask[8:40, 8:40] = True
    got = G.blend(mask, Picture(ws=ws)).synthesis(other)
    outside = torch.from_numpy(~mask)
    assert torch.equal(got[:, :, outside], G.synthesis(ws)[:, :, outside])
    middle = (slice(None), slice(None), slice(20, 28), slice(20, 28))
    assert torch.equal(got[middle], G.synthesis(other)[middle])


@pytest.mark.parametrize("name", golden.FILES)
def test_published_networks_hold_too(name: str) -> None:
    G = golden.generator(name)
    torch.manual_seed(0)
    label = torch.eye(G.c_dim)[:1] if G.c_dim else None
    ws, other = (G.mapping(torch.randn(1, G.z_dim), label) for _ in range(2))
    height, width = G.image_size
    mask = disc(G, 0.4 * width, 0.5 * height, 0.25 * width)
    got = G.blend(mask, Picture(ws=ws)).synthesis(other)
    expected = whole_maps(G, Picture(ws=other, mask=mask, base=Picture(ws=ws)))[0]
    torch.testing.assert_close(got, expected.to(got), atol=1e-4 * expected.abs().max().item(), rtol=1e-4)
    outside = torch.from_numpy(~mask)
    assert torch.equal(got[:, :, outside], G.synthesis(ws)[:, :, outside])
    assert not torch.equal(got, G.synthesis(ws))
