"""Windows of a StyleGAN3 map computed alone equal windows cut from the whole map, in value and gradient."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.generators.base import Generator
from draggan.generators.stylegan3 import StyleGAN3Generator
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.generators.stylegan3.receptive_field import ReceptiveField
from draggan.generators.stylegan3.windows import plan_windows
from draggan.geometry import Windows, crop

SIZE = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 32}
# "odd": a layer jumps by 4, so that windows see its filters in four ways; a kernel of 2, hardly a margin, no clamp.
KINDS = {
    "t": {"num_layers": 5},
    "r": {"num_layers": 5, "conv_kernel": 1, "use_radial_filters": True},
    "odd": {
        "img_resolution": 64,
        "num_layers": 2,
        "num_critical": 1,
        "conv_kernel": 2,
        "margin_size": 1,
        "filter_size": 3,
        "conv_clamp": None,
    },
}


def arguments(kind: str) -> dict:
    return {**SIZE, "channel_base": 256, "channel_max": 4, "conv_clamp": 2, **KINDS[kind]}


@cache
def generator(kind: str, dtype: torch.dtype = torch.float64) -> StyleGAN3Generator:
    torch.manual_seed(1)
    G = StyleGAN3Generator(StyleGAN3Config.from_mapping(arguments(kind)))
    for name, parameter in G.named_parameters():
        if name.endswith("bias") and "affine" not in name:
            parameter.data.normal_()
    return G.to(dtype).freeze()


def compare(G: StyleGAN3Generator, level: str, windows: Windows, codes: int, kept: slice) -> None:
    """Features, and gradients to some of the rows, of which one is one for all windows."""
    dtype = G.synthesis.input.weight.dtype
    # A value that rounding brings to the other side of 0 gets the other slope, in a gradient of some 1e5 terms. In
    # double precision that does not happen.
    accuracy, slack = (1e-12, 1e-10) if dtype == torch.float64 else (1e-5, 1e-2)
    ws = torch.randn(codes, G.num_ws, G.w_dim, dtype=dtype)
    results = []
    for local in (False, True):
        rows = [w.clone().requires_grad_(k % 3 != codes % 2) for k, w in enumerate(ws.unbind(1))]
        rows[2] = rows[2][:1].detach().requires_grad_()
        found = G.local_features(rows, level, windows) if local else crop(G.synthesis.features(rows, level), windows)
        torch.manual_seed(2)
        cotangent = torch.zeros(found.shape, dtype=dtype)
        cotangent[:, :, kept, kept] = torch.randn(found.shape, dtype=dtype)[:, :, kept, kept]
        used = [row for row in rows[: G.rows_used(level)] if row.requires_grad]
        results.append((found, torch.autograd.grad(found, used, cotangent)))
    (whole, expected), (found, gradients) = results
    assert found.shape == whole.shape
    assert (found - whole).abs().max() <= accuracy * max(whole.abs().max(), 1)
    scale = max(1, *(e.abs().max() for e in expected))
    for got, e in zip(gradients, expected, strict=True):
        assert (got - e).abs().max() <= slack * scale


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from([*KINDS]),
    level=st.integers(0, 4),
    origins=st.lists(st.tuples(st.integers(-12, 60), st.integers(-12, 60)), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 64), st.integers(1, 16)),
    one_latent=st.booleans(),
    part=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    seed=st.integers(0, 1000),
)
def test_a_window_equals_the_crop_of_the_whole_map(kind, level, origins, size, one_latent, part, seed):
    G = generator(kind)
    torch.manual_seed(seed)
    name, kept = G.levels[level % len(G.levels)], slice(part[0], part[0] + part[1])
    compare(G, name, Windows(tuple(origins), size), 1 if one_latent else len(origins), kept)


PLACES = {
    "inside": (((20, 25),), (9, 7)),
    "on edges": (((-3, 20), (20, -3), (47, 20), (20, 47)), (9, 7)),
    "in corners": (((-3, -2), (47, 48), (-3, 47), (47, -2), (48, -1)), (8, 8)),
    "larger than the map": (((-4, -5), (-9, 0)), (70, 80)),
    "outside": (((90, 90), (20, 20)), (5, 5)),
    "over one another": (((20, 20), (22, 21), (25, 24)), (12, 12)),
}


@pytest.mark.parametrize("kind", ["t", "r"])
@pytest.mark.parametrize("place", PLACES)
def test_in_single_precision_they_differ_by_its_rounding(kind: str, place: str) -> None:
    G, windows = generator(kind, torch.float32), Windows(*PLACES[place])
    for codes in {1, len(windows)}:
        compare(G, G.levels[-2], windows, codes, slice(None))


@pytest.mark.parametrize("kind", ["t", "r"])
def test_bfloat16_differs_by_its_rounding(kind: str) -> None:
    G, windows = generator(kind, torch.float32), Windows(*PLACES["on edges"])
    torch.manual_seed(0)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    results = []
    for enabled in (False, True):
        w = ws.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = G.local_features(w, G.levels[-2], windows)
        y.float().square().mean().backward()
        results.append((y, w.grad))
    (expected, expected_gradient), (y, gradient) = results
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() < 0.05 * expected.norm()
    assert (gradient - expected_gradient).norm() < 0.1 * expected_gradient.norm()


def test_a_network_that_still_learns_is_differentiated_as_usual() -> None:
    G = StyleGAN3Generator(StyleGAN3Config.from_mapping(arguments("t")))
    windows = Windows(((3, 3),), (5, 5))
    G.local_features(torch.randn(1, G.num_ws, G.w_dim), G.levels[-1], windows).sum().backward()
    assert G.synthesis.L1_36_4.weight.grad is not None
    G.freeze().requires_grad_(True)
    G.local_features(torch.randn(1, G.num_ws, G.w_dim), G.levels[-1], windows).sum().backward()
    assert G.synthesis.L1_36_4.weight.grad.any()


def test_a_gradient_that_is_zero_everywhere_gives_zeros() -> None:
    G = generator("t")
    ws = torch.randn(1, G.num_ws, G.w_dim, dtype=torch.float64, requires_grad=True)
    y = G.local_features(ws, G.levels[-1], Windows(((3, 3),), (5, 5)))
    assert not torch.autograd.grad(y, ws, torch.zeros_like(y))[0].any()


# ------------------------------------------------------------------------------------------------------------- plans


def published(size: int = 512, **more: object) -> tuple[ReceptiveField, ...]:
    """The layers of a published network up to the level that a drag takes, without its channels."""
    narrow = {"z_dim": 1, "c_dim": 0, "w_dim": 1, "channel_base": 8192, "channel_max": 1}
    G = StyleGAN3Generator(StyleGAN3Config(**narrow, img_resolution=size, **more))
    layers = [layer.receptive_field for _, layer in G.synthesis.layers()]
    return tuple(layers[: G.levels.index(G.default_level) + 1])


def cells(layers: tuple[ReceptiveField, ...], windows: Windows, samples: int = 1) -> list[int]:
    """How many cells of every layer's convolution are computed."""
    plan = plan_windows(layers, windows, samples, 1)
    return [len(p.cells) * p.cells.size[0] * p.cells.size[1] for p in plan.layers]


def test_no_layer_computes_more_than_its_whole_map() -> None:
    layers = published()
    for windows in (Windows(((70, 70),), (10, 10)), Windows(((0, 0), (138, 138), (60, 70)), (10, 10))):
        for g, n in zip(layers, cells(layers, windows), strict=True):
            assert n <= g.convolved**2


def test_a_handle_costs_a_small_part_of_the_fine_maps() -> None:
    layers = published()
    n = cells(layers, Windows(((70, 70),), (10, 10)))
    assert n[-1] == 20 * 20  # 10 outputs are made of 30 samples, those of 20 cells
    assert sum(n) < sum(g.convolved**2 for g in layers) / 5


def test_handles_that_are_near_share_their_lower_layers() -> None:
    layers = published()
    near = Windows(((60, 60), (60, 80), (80, 70)), (10, 10))
    plan = plan_windows(layers, near, 1, 1)
    counts = [len(p.outputs) for p in plan.layers]
    assert counts[0] == 1
    assert counts[-1] == 3
    assert counts == sorted(counts)
    alone = sum(cells(layers, Windows(((60, 60),), (10, 10))))
    assert sum(cells(layers, near)) < 2.2 * alone


def test_windows_of_different_latents_are_not_joined() -> None:
    # Of the last two little is on the map.
    same = Windows(((60, 60), (60, 60), (144, 144), (145, 143)), (10, 10))
    plan = plan_windows(published(), same, 4, 4)
    assert {len(p.outputs) for p in plan.layers} == {4}
    assert plan.layers[0].input_crop.member == plan.final_crop.member == (0, 1, 2, 3)


# ------------------------------------------------------------------------------------------------------------- drags


class WholeMaps(StyleGAN3Generator):
    """The same network without its short cuts."""

    local_features = Generator.local_features


@pytest.mark.parametrize(("kind", "points"), [("t", 1), ("r", 3)])
def test_a_drag_on_windows_follows_the_drag_on_whole_maps(kind: str, points: int) -> None:
    G = generator(kind, torch.float32)
    twin = WholeMaps(StyleGAN3Config.from_mapping(arguments(kind)))
    twin.load_state_dict(G.state_dict())
    twin.freeze()
    torch.manual_seed(3)
    ws = torch.randn(1, 1, 8).repeat(1, G.num_ws, 1)
    handles = [(10, 15), (31, 0), (20, 25)][:points]
    targets = [(16, 12), (25, 6), (16, 30)][:points]
    config = DragConfig(solver="adam", max_steps=8, step_size=1e-2, precision="float32")
    runs = (Drag(g, ws, handles, targets, config=config) for g in (G, twin))
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a.handles, b.handles, atol=1e-3, rtol=0)
        torch.testing.assert_close(a.ws, b.ws, atol=2e-3, rtol=1e-3)
