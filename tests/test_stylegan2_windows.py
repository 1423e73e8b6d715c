"""Windows computed alone equal windows cut from the whole map, in value and gradient."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.generators.base import Generator
from draggan.generators.stylegan2 import StyleGAN2Generator, analytic
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.stylegan2.windows import plan_layers
from draggan.geometry import Windows, crop


@cache
def generator(architecture: str, square: bool) -> StyleGAN2Generator:
    torch.manual_seed(1)
    G = StyleGAN2Generator(
        StyleGAN2Config(
            z_dim=8,
            c_dim=0,
            w_dim=8,
            img_resolution=64,
            channel_base=256,
            channel_max=8,
            architecture=architecture,
            square=square,
            conv_clamp=256,
        )
    )
    for name, parameter in G.named_parameters():
        if "noise_strength" in name:
            parameter.data.fill_(0.3)
        elif name.endswith("bias") and "affine" not in name:
            parameter.data.normal_()
    return G.freeze()


@settings(max_examples=60, deadline=None)
@given(
    architecture=st.sampled_from(["skip", "resnet", "orig"]),
    square=st.booleans(),
    level=st.sampled_from(["b4", "b8", "b32", "b64"]),
    origins=st.lists(st.tuples(st.integers(-9, 66), st.integers(-9, 66)), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 80), st.integers(1, 16)),
    one_latent=st.booleans(),
    part=st.none() | st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5), st.integers(0, 5)),
    seed=st.integers(0, 1000),
)
def test_a_window_equals_the_crop_of_the_whole_map(architecture, square, level, origins, size, one_latent, part, seed):
    G = generator(architecture, square)
    windows = Windows(tuple(origins), size)
    torch.manual_seed(seed)
    ws = torch.randn(1 if one_latent else len(windows), G.num_ws, G.w_dim, requires_grad=True)
    # Straight through the layers, by automatic differentiation.
    whole = crop(G.synthesis.features(ws, int(level[1:])), windows)
    local = G.local_features(ws, level, windows)
    torch.testing.assert_close(local, whole, atol=2e-5, rtol=1e-5)
    if not (local.requires_grad and whole.requires_grad):
        assert not whole.any()  # all windows lie outside the map
        return
    cotangent = torch.randn_like(whole)
    if part is not None:
        top, left, height, width = part
        kept = torch.zeros_like(cotangent)
        kept[:, :, top : top + height, left : left + width] = 1
        cotangent = cotangent * kept
    expected, got = (torch.autograd.grad((f * cotangent).sum(), ws)[0] for f in (whole, local))
    torch.testing.assert_close(got, expected, atol=1e-4 * expected.abs().max().item() + 1e-6, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    level=st.sampled_from(["b4", "b8", "b32", "b64"]),
    square=st.booleans(),
    batch=st.integers(1, 3),
    corner=st.tuples(st.integers(0, 64), st.integers(0, 64)),
    extent=st.tuples(st.integers(0, 64), st.integers(0, 64)),
    rows=st.sets(st.integers(0, 9)),
)
def test_whole_maps_of_a_frozen_network_are_those_of_its_layers(level, square, batch, corner, extent, rows):
    """Value, and the gradient to any choice of rows from any rectangle of the map."""
    G = generator("skip", square)
    torch.manual_seed(0)
    ws = torch.randn(batch, G.num_ws, G.w_dim)
    results = []
    for features in (lambda w: G.synthesis.features(w, int(level[1:])), lambda w: G.features(w, level)):
        latent = [w.clone().requires_grad_(k in rows) for k, w in enumerate(ws.unbind(1))]
        y = features(latent)
        cotangent = torch.zeros_like(y)
        cotangent[:, :, corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1]] = 1
        if y.requires_grad:
            (y * cotangent * y).sum().backward()
        results.append((y.detach(), [w.grad for w in latent]))
    (expected, gradients), (got, ours) = results
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-5)
    for a, b in zip(gradients, ours, strict=True):
        if a is None:
            assert b is None
        else:
            torch.testing.assert_close(b, a, atol=1e-4 * a.abs().max().item() + 1e-5, rtol=1e-3)


def test_a_row_that_is_written_to_or_weights_that_change_are_noticed():
    G = generator("skip", True)
    rows = list(torch.randn(1, G.num_ws, G.w_dim).unbind(1))
    windows = Windows(((3, 3),), (5, 5))

    def same() -> None:
        expected = crop(G.synthesis.features(rows, 64), windows)
        torch.testing.assert_close(G.local_features(rows, "b64", windows), expected, atol=2e-5, rtol=1e-5)

    same()
    rows[7].mul_(2)
    same()
    layer = G.synthesis.b64.conv0
    before = layer.affine.weight.clone()
    try:
        layer.affine.weight.data.mul_(3)
        G.freeze()
        same()
    finally:
        layer.affine.weight.data.copy_(before)
        G.freeze()


def test_what_is_kept_of_a_pass_for_inference_serves_gradients_too():
    G = copy.deepcopy(generator("skip", True))
    windows = Windows(((4, 5), (9, 9)), (6, 6))
    rows = list(torch.randn(G.num_ws, 1, G.w_dim))
    with torch.inference_mode():
        expected = G.local_features(rows, "b32", windows), G.features(rows, "b32")
    for row in (0, 3):
        asking = [r.clone().requires_grad_() if i == row else r for i, r in enumerate(rows)]
        for before, now in zip(
            expected, (G.local_features(asking, "b32", windows), G.features(asking, "b32")), strict=True
        ):
            now.square().sum().backward()
            assert asking[row].grad.abs().sum() > 0
            torch.testing.assert_close(now.detach(), before.clone())


def test_nothing_is_remembered_of_rows_that_are_gone():
    G = generator("skip", True)
    before = len(analytic._cached)
    rows = list(torch.randn(1, G.num_ws, G.w_dim).unbind(1))
    G.local_features(rows, "b64", Windows(((3, 3),), (5, 5)))
    assert len(analytic._cached) > before
    del rows
    assert len(analytic._cached) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_differs_by_its_rounding(dtype):
    G = generator("skip", True)
    torch.manual_seed(0)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    windows = Windows(((-2, 5), (40, 51)), (12, 14))

    def run(kind: torch.dtype):
        w = ws.clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            y = G.local_features(w, "b64", windows)
        y.float().square().mean().backward()
        return y, w.grad

    (y, gradient), (expected, expected_gradient) = run(dtype), run(torch.float32)
    assert y.dtype == dtype
    # Nine layers of rounding to 8 bits: some per cent.
    assert (y.float() - expected).norm() < 0.05 * expected.norm()
    assert (gradient - expected_gradient).norm() < 0.1 * expected_gradient.norm()


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_a_few_cells_of_a_fine_level_do_not_need_whole_fine_maps(architecture):
    plans = plan_layers(generator(architecture, True).synthesis, 64, Windows(((30, 30),), (4, 4)))
    assert plans[0].whole
    assert not plans[-1].whole
    assert plans[-1].windows.size == (4, 4)


def test_many_windows_are_whole_maps_earlier_where_those_take_fewer_multiplications():
    with torch.device("meta"):
        G = StyleGAN2Generator(StyleGAN2Config(z_dim=8, c_dim=0, w_dim=8, img_resolution=512, channel_base=32768))
    many = Windows(tuple((10 + 14 * (i // 6), 8 + 16 * (i % 6)) for i in range(30)), (10, 10))
    whole = [sum(plan.whole for plan in plan_layers(G.synthesis, 128, many, winograd=w)) for w in (False, True)]
    assert whole == [8, 9]


def test_windows_over_most_of_the_map_compute_it_whole():
    plans = plan_layers(generator("skip", True).synthesis, 64, Windows(((-3, -3),), (70, 70)))
    assert all(plan.whole for plan in plans)


class WholeMaps(StyleGAN2Generator):
    """The same network without its short cuts."""

    local_features = Generator.local_features

    def features(self, ws, level):
        return self.synthesis.features(ws, int(level[1:]))


@pytest.mark.parametrize("points", [1, 3])
def test_a_drag_on_windows_follows_the_drag_on_whole_maps(points):
    G = generator("skip", True)
    twin = WholeMaps(
        StyleGAN2Config(z_dim=8, c_dim=0, w_dim=8, img_resolution=64, channel_base=256, channel_max=8, conv_clamp=256)
    )
    twin.load_state_dict(G.state_dict())
    twin.freeze()
    torch.manual_seed(3)
    ws = torch.randn(1, 1, 8).repeat(1, G.num_ws, 1)
    handles = [(20, 30), (63, 0), (40, 50)][:points]
    targets = [(30, 24), (50, 12), (33, 60)][:points]
    config = DragConfig(max_steps=50, step_size=1e-2, precision="float32")
    runs = (Drag(g, ws, handles, targets, config=config) for g in (G, twin))
    for a, b in zip(*runs, strict=True):
        assert a.handles.tolist() == b.handles.tolist(), a.index
        torch.testing.assert_close(a.ws, b.ws, atol=2e-3, rtol=1e-3)
