"""Gauss-Newton against known answers, and every solver against drags that cannot succeed."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from draggan.config import DragConfig
from draggan.drag import Drag, tracking
from draggan.drag.latent_statistics import LatentStatistics, latent_statistics, principal_axes
from draggan.drag.mask import MaskView
from draggan.drag.problem import Pattern
from draggan.drag.solvers import gauss_newton as gauss_newton_module
from draggan.drag.solvers.gauss_newton import RULES, _restoring, _step_towards, smallest_step
from draggan.drag.solvers.jacobian import pulled_back, residual, to_float64
from draggan.drag.solvers.latent_metric import metric_root
from draggan.drag.solvers.mask_constraint import mask_view
from draggan.drag.tracking import refine, slopes
from draggan.errors import PointError
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.geometry import FeatureSampler, Windows, WindowSampler, disc_offsets
from tests.conftest import tiny_stylegan2, tiny_stylegan3
from tests.toys import BumpGenerator

WS = torch.zeros(1, 8, 4)


def bump(*start: tuple[float, float], kind: type[BumpGenerator] = BumpGenerator, **kwargs) -> BumpGenerator:
    return kind(list(start) or [(20.0, 20.0)], **kwargs).freeze()


def gauss_newton(**settings) -> DragConfig:
    return DragConfig(**{"solver": "gauss-newton", "trust_radius": 512, **settings})


def run(drag: Drag):
    steps = list(drag)
    assert [s.index for s in steps] == list(range(len(steps)))
    assert [s.done for s in steps] == [False] * (len(steps) - 1) + [True]
    first, last = steps[0], steps[-1]
    assert torch.isfinite(last.ws).all()
    assert last.distances.sum() <= first.distances.sum() + 1e-4
    return steps


def sampler_of(features, grid, count):
    """Samples of one whole map per handle."""
    windows = Windows(((0, 0),) * count, grid.size)
    return WindowSampler(FeatureSampler.of(features, grid, windows), torch.arange(count))


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_jacobian_is_that_of_the_subpixel_tracker(monkeypatch, copies):
    """Finite differences, in float64, of where the tracker finds a handle when the latent changes a little."""
    monkeypatch.setattr(tracking, "_FLAT", 0.0)
    G = bump((20.0, 22.0), (41.0, 38.0)).double()
    grid, patch = G.grid("map"), disc_offsets(3).double()
    handles = torch.tensor([[18.0, 23.0], [42.0, 36.0]], dtype=torch.float64)
    start = torch.zeros(1, 8, 4, dtype=torch.float64)

    def track(ws):
        sampler = sampler_of(G.features(ws, "map").expand(2, -1, -1, -1), grid, 2)
        p = handles
        for _ in range(30):
            p = refine(sampler, p, templates, patch, G.image_size)
        return p

    rest = sampler_of(G.features(start, "map").expand(2, -1, -1, -1), grid, 2)
    templates = rest(handles[:, None] + patch)
    leaf = start.repeat(2 * copies, 1, 1).requires_grad_()
    _, inverse = slopes(rest, handles, patch, G.image_size)
    each = sampler_of(G.features(leaf, "map"), grid, 2 * copies)
    rows = pulled_back(leaf, each, handles[:, None] + patch, -inverse)
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(1, 8, 4, dtype=torch.float64, generator=random)
        h = 1e-6
        moved = (track(start + h * direction) - track(start - h * direction)) / (2 * h)
        predicted = (rows * direction).sum((2, 3))
        assert (moved - predicted).norm() < 1e-5 * moved.norm()


def test_the_derivative_of_what_is_under_the_handles_is_that_of_its_change():
    """Finite differences, in float64, of half the sum of weighted squared differences at fixed places."""
    G = bump((20.0, 20.0), (40.3, 44.8)).double()
    handles = torch.tensor([[20.2, 19.9], [40.0, 45.0]], dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    offsets = disc_offsets(4).double()
    like = torch.randn(2, len(offsets), 6, dtype=torch.float64, generator=random)
    pattern = Pattern(
        offsets=offsets,
        weights=torch.rand(2, len(offsets), dtype=torch.float64, generator=random),
        features=like,
        slopes=torch.zeros(*like.shape, 2, dtype=torch.float64),
        mean=torch.zeros(2, 6, dtype=torch.float64),
        clicked=handles,
        image_size=G.image_size,
    )
    start = 0.01 * torch.randn(1, 8, 4, dtype=torch.float64, generator=random)

    def change(ws):
        now = sampler_of(G.features(ws, "map").repeat(2, 1, 1, 1), G.grid("map"), 2)(handles[:, None] + offsets)
        return (pattern.weights[..., None] * (now - like).square()).sum() / 2

    leaf = start.repeat(2, 1, 1).requires_grad_()
    each = sampler_of(G.features(leaf, "map"), G.grid("map"), 2)
    found, cotangents = residual(each.of_cells(each.cells.detach()), handles, pattern)
    torch.testing.assert_close(found, change(start))
    row = pulled_back(leaf, each, handles[:, None] + offsets, cotangents).sum((0, 1))
    for _ in range(3):
        direction, h = torch.randn(1, 8, 4, dtype=torch.float64, generator=random), 1e-6
        changed = (change(start + h * direction) - change(start - h * direction)) / (2 * h)
        torch.testing.assert_close((row * direction).sum(), changed, rtol=1e-5, atol=1e-8)


def test_the_tracker_finds_fractions_of_a_pixel():
    G = bump((20.0, 22.0))
    grid, patch = G.grid("map"), disc_offsets(3)
    templates = sampler_of(G.features(WS, "map"), grid, 1)(torch.tensor([[20.0, 22.0]])[:, None] + patch)
    ws = WS.clone()
    ws[:, :, 0], ws[:, :, 1] = 0.0137, -0.0062  # 1.37 and -0.62 px
    found = refine(
        sampler_of(G.features(ws, "map"), grid, 1), torch.tensor([[21.0, 21.0]]), templates, patch, G.image_size
    )
    assert (found - torch.tensor([[21.37, 21.38]])).norm() < 0.1


def test_windows_give_the_jacobian_of_whole_maps():
    G = tiny_stylegan2(64)
    ws = G.mapping(torch.randn(1, 16, generator=torch.Generator().manual_seed(1)))
    handles, targets = [(10, 12), (50, 40), (63, 0)], [(14, 12), (50, 44), (60, 3)]

    class Whole(type(G)):
        def local_features(self, ws, level, windows):
            return super(type(G), self).local_features(ws, level, windows)

    ends = []
    for kind in (type(G), Whole):
        G.__class__ = kind
        drag = Drag(G, ws, handles, targets, config=gauss_newton(max_steps=1, precision="float32"))
        ends.append(list(drag)[-1].ws)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-4)
    assert not torch.equal(ends[0], ws)


@pytest.mark.parametrize("space", ["w+", "w"])
@pytest.mark.parametrize("size", [(64, 64), (64, 32)])
def test_a_linear_model_is_solved_in_two_steps(space, size):
    G = bump((16.0, 20.0), size=size)
    last = run(Drag(G, WS, [(16, 20)], [(25, 38)], config=gauss_newton(space=space)))[-1]
    assert (last.outcome, last.index <= 2) == ("arrived", True)
    assert (G.centres(last.ws)[0, 0] - torch.tensor([25.0, 38.0])).norm() < 1


def test_several_handles_are_solved_for_together():
    G = bump((20.0, 20.0), (44.0, 40.0))
    last = run(Drag(G, WS, [(20, 20), (44, 40)], [(30, 25), (40, 50)], config=gauss_newton()))[-1]
    assert (last.outcome, last.index <= 2) == ("arrived", True)
    assert (G.centres(last.ws)[0] - torch.tensor([[30.0, 25.0], [40.0, 50.0]])).norm(dim=-1).max() < 1


def test_the_step_is_the_smallest_there_is():
    G = bump((20.0, 20.0))
    last = run(Drag(G, WS, [(20, 20)], [(32, 20)], config=gauss_newton()))[-1]
    moved = last.ws - WS
    assert (moved[0, :6, 0] - moved[0, 0, 0]).abs().max() < 1e-5  # all rows count alike, so all carry the same
    assert moved[0, :, 1:].abs().max() < 0.1 * moved[0, :, 0].abs().max()
    assert torch.equal(last.ws[0, 6:], WS[0, 6:])


def test_only_free_rows_change():
    last = run(Drag(bump(), WS, [(20, 20)], [(26, 20)], config=gauss_newton(free_rows=3)))[-1]
    assert (last.ws[0, :3] != 0).any()
    assert torch.equal(last.ws[0, 3:], WS[0, 3:])


def test_rows_that_the_features_do_not_depend_on_stay():
    last = run(Drag(bump(), WS, [(20, 20)], [(26, 20)], config=gauss_newton(free_rows=8)))[-1]
    assert torch.equal(last.ws[0, 6:], WS[0, 6:])


def test_in_w_all_free_rows_move_alike():
    last = run(Drag(bump(), WS, [(20, 20)], [(26, 20)], config=gauss_newton(space="w")))[-1]
    assert (last.ws[0, :6] == last.ws[0, 0]).all()


class Redundant(BumpGenerator):
    """A bump that channels 0 and 2 move alike; the model's own latents use the second ten times as much."""

    def centres(self, ws):
        rows = ws.unbind(1) if isinstance(ws, torch.Tensor) else ws
        w = torch.stack(list(rows[:6])).mean(0)
        return self.start + self.gain * (w[:, :2] + w[:, 2:4])[:, None]

    def mapping(self, z, c=None, truncation_psi=1.0, truncation_cutoff=None):
        return super().mapping(z * torch.tensor([0.1, 0.1, 1.0, 1.0]))


@pytest.mark.parametrize(("naturalness", "ratio"), [(0, 1), (0.5, 10), (1, 100)])
def test_natural_steps_follow_the_spread_of_the_latents(naturalness, ratio):
    config = gauss_newton(naturalness=naturalness)
    moved = run(Drag(bump(kind=Redundant), WS, [(20, 20)], [(30, 20)], config=config))[-1].ws[0, 0]
    assert moved[2] / moved[0] == pytest.approx(ratio, rel=0.2)  # of covariances estimated to about a percent


# A corner where nothing is, and nothing comes.
CORNER = np.ones((64, 64), bool)
CORNER[56:, 56:] = False


@pytest.mark.parametrize(("hold", "naturalness"), [(None, 1.0), ("exact", 1.0), ("soft", 0.15)])
def test_a_mask_that_holds_exactly_leaves_steps_as_natural(hold, naturalness):
    config = gauss_newton() if hold is None else gauss_newton(mask_hold=hold)
    mask = None if hold is None else CORNER
    moved = run(Drag(bump(kind=Redundant), WS, [(20, 20)], [(30, 20)], mask, config))[-1].ws[0, 0]
    assert moved[2] / moved[0] == pytest.approx(100**naturalness, rel=0.2)


class FirstRow(BumpGenerator):
    """A bump that the first row alone moves."""

    def centres(self, ws):
        return self.start + self.gain * (ws[:, 0] if isinstance(ws, torch.Tensor) else ws[0])[:, None, :2]


@pytest.mark.parametrize(("hold", "along"), [(None, 0.8), ("exact", 0.8), ("soft", 0.0)])
def test_a_mask_that_holds_exactly_leaves_rows_as_they_are(hold, along):
    """What the other rows do of what the first one does."""
    config = gauss_newton() if hold is None else gauss_newton(mask_hold=hold)
    mask = None if hold is None else CORNER
    moved = run(Drag(bump(kind=FirstRow), WS, [(20, 20)], [(30, 20)], mask, config))[-1].ws[0, :6, 0]
    assert (moved[1:] / moved[0]).tolist() == pytest.approx([along] * 5, abs=0.02)


def test_statistics_are_those_of_the_mapping_network_and_computed_once():
    G = bump(kind=Redundant)
    known = latent_statistics(G)
    assert known.variances.sqrt().tolist() == pytest.approx([0.1, 0.1, 1, 1], rel=0.05)
    assert known.mean.abs().max() < 0.05
    assert latent_statistics(G) is known
    covariance = known.directions @ torch.diag(known.variances) @ known.directions.T
    assert covariance.diagonal().sqrt().tolist() == pytest.approx([0.1, 0.1, 1, 1], rel=0.05)
    s = metric_root(known, 1.0)
    torch.testing.assert_close(s @ s, (covariance / covariance.diagonal().mean()).float(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(metric_root(known, 0.0), torch.eye(4))


def test_steps_are_measured_alike_with_any_number_of_threads():
    samples = (
        torch.randn(2000, 256, generator=torch.Generator().manual_seed(0)).double()
        @ torch.logspace(0, -2, 256, dtype=torch.float64).diag()
    )
    before, roots = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            known = LatentStatistics(*principal_axes(samples))
            roots += [[metric_root(known, naturalness) for naturalness in (0.05, 0.25, 1.0)] + [known.whitening]]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*roots, strict=True))


def test_a_model_whose_latents_are_all_the_same_has_no_statistics():
    class Constant(BumpGenerator):
        def mapping(self, z, c=None, truncation_psi=1.0, truncation_cutoff=None):
            return super().mapping(z * 0)

    G = bump(kind=Constant)
    assert latent_statistics(G) is None
    assert run(Drag(G, WS, [(20, 20)], [(26, 20)], config=gauss_newton(naturalness=1)))[-1].outcome == "arrived"


def test_classes_share_statistics():
    assert latent_statistics(tiny_stylegan2(16, c_dim=3)).directions.shape == (16, 16)


def test_small_systems_are_solved_where_there_is_float64():
    class Apples(torch.Tensor):
        device = torch.device("mps")

        def cpu(self):
            return torch.ones(2)

        def double(self):
            raise TypeError("no float64 here")

    assert to_float64(torch.zeros(2).as_subclass(Apples)).tolist() == [1, 1]
    assert to_float64(torch.zeros(2)).dtype == torch.float64


def test_a_step_is_computed_where_there_is_none():
    with FakeTensorMode():
        rows, way = torch.empty(2, 6, 4, device="mps"), torch.empty(1, 6, 4, device="mps")
        handles, limits = torch.empty(1, 2, device="mps"), torch.empty(3, device="mps")
        step = _step_towards(rows, way, handles, handles, limits, 0.5)
        assert (step.device.type, step.shape) == ("mps", way.shape)
        assert _restoring(rows, way, torch.empty((), device="mps")).device.type == "mps"


def test_the_smallest_step_of_a_damped_system():
    random = torch.Generator().manual_seed(0)
    j, d = torch.randn(4, 30, generator=random), torch.randn(4, generator=random)
    v = smallest_step(j, d, 1e-9)
    torch.testing.assert_close(j @ v, d, rtol=1e-4, atol=1e-4)
    least = torch.linalg.lstsq(j, d[:, None], driver="gelsd").solution[:, 0]
    torch.testing.assert_close(v, least, rtol=1e-3, atol=1e-4)
    assert smallest_step(j, d, 1.0).norm() < v.norm()
    assert smallest_step(j * 0, d, 1e-3).norm() == 0


class Coupled(BumpGenerator):
    """The second bump moves with the first, but has channels of its own to make up for that."""

    def centres(self, ws):
        c = super().centres(ws)
        return torch.stack([c[:, 0], c[:, 1] + 0.5 * (c[:, 0] - self.start[0])], 1)


def test_the_mask_holds_what_is_outside():
    G = bump((20.0, 20.0), (48.0, 48.0), kind=Coupled)
    mask = np.zeros((64, 64), bool)
    mask[:34, :34] = True
    ends = {}
    for name, given in (("free", None), ("held", mask)):
        last = run(Drag(G, WS, [(20, 20)], [(28, 20)], given, gauss_newton()))[-1]
        assert last.outcome == "arrived"
        ends[name] = (G.centres(last.ws)[0, 1] - torch.tensor([48.0, 48.0])).norm().item()
    assert ends["free"] > 3
    assert ends["held"] < 1


@pytest.mark.parametrize("solver", ["adam", "gauss-newton"])
@pytest.mark.parametrize(
    ("handles", "targets"),
    [
        ([(32, 32), (33, 32)], [(52, 32), (13, 32)]),  # pulled apart
        ([(20, 20), (20, 20)], [(40, 20), (5, 50)]),  # one spot, two targets
        ([(20, 20), (20, 20)], [(30, 20), (30, 20)]),  # one spot, one target
        ([(60, 60)], [(50, 50)]),  # flat background
        ([(60, 60), (20, 20)], [(50, 50), (26, 20)]),  # one of them on flat background
        ([(0, 0)], [(63, 63)]),  # as far as it goes
        ([(20, 20)], [(20, 20)]),  # no distance
        ([(20, 20), (24, 20)], [(20, 20), (24, 20)]),
    ],
)
def test_drags_that_cannot_succeed_end_no_worse_than_they_began(solver, handles, targets):
    run(Drag(bump((20.0, 20.0)), WS, handles, targets, config=DragConfig(solver=solver, max_steps=60)))


def test_contradictory_targets_stall_soon():
    G = bump((32.0, 32.0))
    config = gauss_newton(max_steps=1000)
    steps = run(Drag(G, WS, [(32, 32), (33, 32)], [(52, 32), (13, 32)], config=config))
    assert steps[-1].outcome == "stalled"
    assert len(steps) < 40
    assert steps[-1].distances.sum() == min(s.distances.sum() for s in steps)


def test_sixty_eight_handles():
    G = bump((32.0, 32.0))
    offsets = torch.stack(torch.meshgrid(torch.arange(-4, 4), torch.arange(-4, 5), indexing="xy"), -1).reshape(-1, 2)
    handles = 32.0 + offsets[:68].float()
    last = run(Drag(G, WS, handles, handles + torch.tensor([10.0, 4.0]), config=gauss_newton()))[-1]
    assert (last.outcome, last.index <= 2) == ("arrived", True)
    assert (G.centres(last.ws)[0, 0] - torch.tensor([42.0, 36.0])).norm() < 2


def test_many_handles_take_the_steps_that_few_at_a_time_would(monkeypatch):
    G = tiny_stylegan2(64)
    ws = G.mapping(torch.randn(1, 16, generator=torch.Generator().manual_seed(1)))
    random = np.random.default_rng(0)
    handles = random.uniform(5, 58, (6, 2)).round()
    ends = []
    for batch in (32, 4):
        monkeypatch.setattr("draggan.drag.solvers.surroundings.BATCH", batch)
        drag = Drag(G, ws, handles, handles + 2, config=gauss_newton(max_steps=1, precision="float32"))
        ends.append(list(drag)[-1].ws)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [tiny_stylegan2, tiny_stylegan3])
@pytest.mark.parametrize("settings", [{}, {"space": "w"}, {"naturalness": 1.0}, {"precision": "bfloat16"}])
def test_networks_with_random_weights_are_dragged_nearer(make, settings):
    G = make()
    ws = G.mapping(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(1)))
    drag = Drag(G, ws, [(10, 10), (20, 22)], [(14, 10), (20, 18)], config=gauss_newton(max_steps=8, **settings))
    steps = run(drag)
    assert steps[-1].distances.sum() < 0.9 * steps[0].distances.sum()


def test_a_mask_on_a_network():
    G = tiny_stylegan2(64, square=False)
    ws = G.mapping(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(1)))
    mask = np.zeros(G.image_size, bool)
    mask[:30] = True
    start, change = G.features(ws, G.default_level), []
    # Content of a random network cannot be followed all the way, and a drag that loses it goes back: what is compared
    # are two that arrive.
    config = gauss_newton(max_steps=8, precision="float32", tracker="template")
    for given in (None, mask):
        last = run(Drag(G, ws, [(12, 12)], [(16, 12)], given, config))[-1]
        here = G.features(last.ws, G.default_level)
        change.append((here - start)[:, :, round(31 * here.shape[2] / 64) :].square().mean().item())
    assert change[1] < 0.5 * change[0]


def test_a_network_that_draws_on_the_way_is_held_by_what_it_draws():
    G = tiny_stylegan2(128)
    assert mask_view(G, gauss_newton(), "b32") == MaskView(level="b32", picture=True)
    assert mask_view(G, gauss_newton(), "b128").picture
    ws = G.mapping(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(1)))
    view = MaskView(level="b32", picture=True)
    assert torch.equal(view.compute(G, ws, torch.float32), G.preview(ws, 32))
    assert view.grid(G).size == (32, 32)


def test_elsewhere_what_is_fixed_is_held_on_the_coarsest_level_that_shows_it():
    G = StyleGAN2Generator(
        StyleGAN2Config(
            **{"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 128, "channel_base": 512, "channel_max": 8},
            architecture="resnet",
        )
    ).freeze()

    def level(on, rows):
        view = mask_view(G, gauss_newton(free_rows=rows), on)
        assert not view.picture
        return view.level

    assert level("b128", 6) == "b32"  # seven rows
    assert level("b64", 8) == "b64"
    assert level("b128", 8) == "b64"  # nine rows
    assert level("b128", 12) == "b128"
    assert level("b32", 6) == "b32"
    assert level("b16", 6) == "b16"


class Crooked(Coupled):
    """The second bump moves with the square of how far the first did, too: no linear model sees that coming."""

    def centres(self, ws):
        c = super().centres(ws)
        return torch.stack([c[:, 0], c[:, 1] + 0.05 * (c[:, 0] - self.start[0]).square()], 1)


@pytest.mark.parametrize("space", ["w+", "w"])
def test_after_the_arrival_the_rest_is_made_up_for(monkeypatch, space):
    """The second bump can be put exactly where it was, by channels of its own."""
    G = bump((20.0, 20.0), (44.0, 44.0), kind=Crooked)
    mask = np.zeros((64, 64), bool)
    mask[:34, :34] = True
    away = {}
    for steps in (0, RULES.max_mask_steps):
        monkeypatch.setattr(gauss_newton_module, "RULES", dataclasses.replace(RULES, max_mask_steps=steps))
        last = run(Drag(G, WS, [(20, 20)], [(28, 20)], mask, gauss_newton(space=space)))[-1]
        assert last.outcome == "arrived"
        assert last.distances.max() <= 1
        away[steps] = (G.centres(last.ws)[0, 1] - torch.tensor([44.0, 44.0])).norm().item()
    assert away[0] > 0.5
    assert away[RULES.max_mask_steps] < 0.25 * away[0]


def test_a_live_drag_with_a_mask_rests_while_live_and_ends_once_it_is_settled():
    mask = np.zeros((64, 64), bool)
    mask[:34, :34] = True
    G = bump((20.0, 20.0), (44.0, 44.0), kind=Crooked)
    drag = Drag(G, WS, [(20, 20)], [(26, 20)], mask, gauss_newton(), live=True)
    steps = [next(drag)]
    while not drag.would_sleep():
        steps.append(next(drag))
        assert len(steps) < 20
    drag.settle()
    rest = list(drag)
    assert rest[-1].outcome == "arrived"
    assert len(rest) <= RULES.max_mask_steps + 2
    before, after = ((G.centres(s.ws)[0, 1] - torch.tensor([44.0, 44.0])).norm() for s in (steps[-1], rest[-1]))
    assert after < max(0.5 * before, 0.05)


class Leaking(BumpGenerator):
    """A picture with a wash of colour in the part that is fixed, which no feature shows. Channel 2 drives it alone,
    channel 0 drives it besides the bump."""

    @property
    def preview_heights(self):
        return (32, 64)

    def preview(self, ws, height):
        return torch.nn.functional.adaptive_avg_pool2d(self.synthesis(ws), height)

    def wash(self, ws):
        w = torch.stack(list(ws) if isinstance(ws, list) else ws.unbind(1)[:8])[:6].mean(0)
        return w[:, 0] + w[:, 2]

    def synthesis(self, ws):
        right = (torch.arange(64) >= 40).float()
        return super().synthesis(ws) + self.wash(ws)[:, None, None, None] * right


def test_what_features_do_not_show_is_held_too():
    G = bump((20.0, 20.0), kind=Leaking)
    mask = np.zeros((64, 64), bool)
    mask[:, :40] = True
    free, held = (run(Drag(G, WS, [(20, 20)], [(28, 20)], given, gauss_newton()))[-1] for given in (None, mask))
    assert held.outcome == "arrived"
    assert G.wash(free.ws).abs() > 0.06
    assert G.wash(held.ws).abs() < 0.01


def test_not_finite_features_end_the_drag_as_diverged():
    class Breaking(BumpGenerator):
        def features(self, ws, level):
            out = super().features(ws, level)
            return out if self.start.requires_grad or not torch.is_grad_enabled() else out * torch.nan

    last = run(Drag(bump(kind=Breaking), WS, [(20, 20)], [(30, 20)], config=gauss_newton()))[-1]
    assert last.outcome == "diverged"
    assert torch.equal(last.ws, WS)


def test_a_gradient_that_is_not_finite_never_becomes_the_result():
    class Exploding(BumpGenerator):
        def features(self, ws, level):
            out = super().features(ws, level)
            if out.requires_grad:
                out.register_hook(lambda g: g * torch.inf)
            return out

    last = run(Drag(bump(kind=Exploding), WS, [(20, 20)], [(30, 20)], config=gauss_newton(max_steps=5)))[-1]
    assert torch.equal(last.ws, WS)


@pytest.mark.parametrize(("setting", "value"), [("naturalness", 0.25), ("trust_radius", 16.0), ("mask_weight", 0.5)])
def test_a_setting_changes_the_drag(setting, value):
    mask = np.ones((64, 64), bool)
    mask[:, 34:] = False
    G = bump(kind=Redundant) if setting == "naturalness" else bump((20.0, 20.0), (48.0, 48.0), kind=Coupled)
    ends = [
        run(Drag(G, WS, [(20, 20)], [(30, 24)], mask, gauss_newton(max_steps=1, **extra)))[-1].ws
        for extra in ({}, {setting: value})
    ]
    assert not torch.equal(*ends)


def test_steps_are_no_longer_than_the_trust_radius():
    config = gauss_newton(trust_radius=32.0)  # 4 px of 64
    steps = run(Drag(bump(), WS, [(20, 20)], [(40, 20)], config=config))
    moved = [np.linalg.norm(b.handles - a.handles) for a, b in itertools.pairwise(steps)]
    assert max(moved) < 5
    assert steps[-1].outcome == "arrived"


# ------------------------------------------------------------------------------------------------- changing targets


class Following:
    """A live drag on a thread of its own."""

    def __init__(self, drag: Drag) -> None:
        self.drag, self.steps, self.error = drag, [], None
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        try:
            for step in self.drag:
                self.steps.append(step)
        except Exception as e:  # noqa: BLE001  # raised by whoever waits
            self.error = e

    def until(self, condition, patience=20.0):
        end = time.monotonic() + patience
        while not condition():
            assert self.error is None, self.error
            assert time.monotonic() < end, f"after {len(self.steps)} steps"
            time.sleep(0.002)

    def near(self, target):
        return bool(self.steps) and np.linalg.norm(self.steps[-1].handles[0] - target) <= 1

    def end(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert self.error is None
        assert [s.done for s in self.steps] == [False] * (len(self.steps) - 1) + [True]
        first = self.steps[0].index
        assert [s.index for s in self.steps] == list(range(first, first + len(self.steps)))
        return self.steps[-1]


@pytest.mark.parametrize("solver", ["adam", "gauss-newton"])
def test_a_live_drag_follows_its_target_sleeps_and_settles(solver):
    config = DragConfig(solver=solver, step_size=2e-2, max_steps=40)
    following = Following(Drag(bump(), WS, [(20, 20)], [(20, 20)], config=config, live=True))
    for target in [(26.0, 20.0), (30.0, 28.0), (22.0, 30.0), (20.0, 20.0), (34.0, 24.0)]:
        following.drag.retarget([target])
        following.until(lambda target=target: following.near(target))
    count = len(following.steps)
    time.sleep(0.1)
    assert len(following.steps) <= count + 1  # it sleeps
    assert following.thread.is_alive()
    following.drag.settle()
    last = following.end()
    assert last.outcome == "arrived"
    assert last.targets.tolist() == [[34, 24]]
    assert np.linalg.norm(last.handles[0] - (34, 24)) <= 1


def test_of_many_positions_only_the_newest_counts():
    drag = Drag(bump(), WS, [(20, 20)], [(20, 20)], config=gauss_newton(), live=True)
    next(drag)
    for x in np.linspace(20, 40, 200):
        drag.retarget([(x, 20)])
    step = next(drag)
    assert step.targets.tolist() == [[40, 20]]
    assert abs(step.handles[0, 0] - 40) < 4
    assert not step.done
    drag.settle()
    assert list(drag)[-1].outcome == "arrived"


def test_a_target_within_the_stop_distance_is_no_news():
    following = Following(Drag(bump(), WS, [(20, 20)], [(20, 20)], config=gauss_newton(), live=True))
    following.until(lambda: following.steps)
    following.drag.retarget([(20.0625, 20.0625)])
    time.sleep(0.05)
    assert len(following.steps) == 1
    following.drag.settle()
    assert following.end().targets.tolist() == [[20.0625, 20.0625]]


def test_a_slow_pull_moves_content_by_fractions_of_a_pixel_and_what_rests_is_still():
    G = bump()
    drag = Drag(G, WS, [(20, 20)], [(20, 20)], config=gauss_newton(), live=True)
    next(drag)
    seen = []
    for k in range(1, 7):
        drag.retarget([(20 + 0.5 * k, 20)])
        step = next(drag)
        # Not where it is tracked, where it is.
        seen.append(G.centres(step.ws)[0, 0].tolist())
        assert step.distances[0] <= drag.near < drag.stop_distance
    x, y = np.transpose(seen)
    assert (np.diff([20, *x]) > 0.2).all()
    assert (np.diff([20, *x]) < 0.8).all()
    assert abs(x[-1] - 23) < 0.3
    assert (abs(y - 20) < 0.1).all()
    # A hand that trembles by less than a pixel of the screen: nothing moves, no step is taken.
    following = Following(drag)
    for k in range(20):
        drag.retarget([(23 + 0.02 * (-1) ** k, 20)])
        time.sleep(0.002)
    drag.settle()
    assert torch.equal(following.end().ws, step.ws)
    assert len(following.steps) == 1


def test_only_a_drag_that_is_led_by_hand_is_so_exact():
    """Where it is to end, content that is followed is brought half as near as it must be, and no other."""
    few, many = [(20, 20)], [(20, 20), (24, 30), (40, 44)]
    assert Drag(bump(), WS, few, [(30, 20)], config=gauss_newton()).near == 0.5
    assert Drag(bump(), WS, few, [(30, 20)], config=gauss_newton(tracker="template")).near == 1
    assert Drag(bump(), WS, many, [(x + 5, y) for x, y in many], config=gauss_newton()).near == 1
    mask = np.arange(64) < np.full((64, 1), 50)
    assert Drag(bump(), WS, few, [(30, 20)], mask, config=gauss_newton()).near == 0.5
    assert Drag(bump(), WS, few, [(30, 20)], mask, config=gauss_newton(mask_hold="soft")).near == 1
    assert Drag(bump(), WS, few, [(30, 20)], config=DragConfig(solver="adam"), live=True).near == 1


def test_content_that_is_followed_is_sent_all_the_way():
    """A drag with the published tracker stops short of its target by half of the stop distance; this one does not."""
    ends = []
    for tracker in ("continuity", "template"):
        *_, last = Drag(bump(), WS, [(20, 20)], [(26, 20)], config=gauss_newton(tracker=tracker))
        assert last.outcome == "arrived"
        ends.append(float(last.distances[0]))
    assert ends[0] < 0.5
    assert ends[0] < ends[1]


def test_a_live_drag_that_has_arrived_can_be_stopped():
    following = Following(Drag(bump(), WS, [(20, 20)], [(28, 20)], config=gauss_newton(), live=True))
    following.until(lambda: following.near((28, 20)))
    following.drag.stop()
    last = following.end()
    assert torch.equal(last.ws, following.steps[-2].ws)
    assert last.outcome in ("arrived", "stopped")


def test_a_live_drag_that_finds_no_way_waits_for_another_target():
    G = bump((32.0, 32.0))
    drag = Drag(G, WS, [(32, 32), (33, 32)], [(52, 32), (13, 32)], config=gauss_newton(), live=True)
    following = Following(drag)
    following.until(lambda: drag.would_sleep())
    drag.retarget([(40, 32), (41, 32)])
    following.until(lambda: following.steps[-1].distances.max() <= 1)
    drag.settle()
    assert following.end().outcome == "arrived"


def test_after_settling_a_hopeless_drag_ends_no_worse_than_it_began():
    drag = Drag(bump(), WS, [(20, 20)], [(30, 20)], config=gauss_newton(), live=True)
    steps = [next(drag), next(drag)]
    drag.settle()
    drag.retarget([(20, 20)])
    steps += list(drag)
    assert steps[-1].outcome == "arrived"
    assert steps[-1].distances.max() <= 1


def test_steps_are_counted_from_settling():
    drag = Drag(bump(), WS, [(20, 20)], [(26, 20)], config=DragConfig(max_steps=3, step_size=1e-4), live=True)
    for _ in range(10):
        assert not next(drag).done
    drag.settle()
    rest = list(drag)
    assert (rest[-1].outcome, len(rest)) == ("max_steps", 3)


def test_an_ordinary_drag_can_be_given_another_target():
    drag = Drag(bump(), WS, [(20, 20)], [(40, 20)], config=gauss_newton(trust_radius=16))
    next(drag)
    drag.retarget([(20, 26)])
    last = list(drag)[-1]
    assert last.outcome == "arrived"
    assert np.linalg.norm(last.handles[0] - (20, 26)) <= 1


@pytest.mark.parametrize("targets", [[(1, 1), (2, 2)], [(64, 1)], [(float("nan"), 1)], []])
def test_targets_that_do_not_fit_change_nothing(targets):
    drag = Drag(bump(), WS, [(20, 20)], [(26, 20)], config=gauss_newton())
    with pytest.raises(PointError):
        drag.retarget(targets)
    assert list(drag)[-1].targets.tolist() == [[26, 20]]


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("make", [tiny_stylegan2, tiny_stylegan3])
def test_what_is_claimed_is_looked_for_in_finer_features_of_either_family(make, masked):
    """Also of the blended picture of a mask. Where nothing has changed both ways lead to the same place."""
    generator = make()
    height, width = generator.image_size
    at = [(width / 2, height / 2)]
    mask = np.zeros((height, width), bool)
    mask[height // 4 :, width // 4 :] = True
    level = generator.levels[1]
    config = DragConfig(solver="gauss-newton", level=level)
    drag = Drag(generator, generator.sample(0), at, at, mask if masked else None, config=config)
    step = next(drag)
    assert step.outcome == "arrived"
    finer = drag.problem.second_level
    assert max(generator.grid(finer).scale) > max(generator.grid(level).scale)
    tracked = drag._here.tracked
    assert drag._solver.tracker.confirm(tracked, drag._here.shift, final=False) is tracked


@pytest.mark.parametrize(("hold", "strength"), [("soft", (4, 0.7)), ("exact", (2, 0.45))])
def test_what_the_picture_itself_holds_is_made_up_for_by_less(hold, strength):
    constraint = Drag(bump(), WS, [(20, 20)], [(30, 20)], CORNER, gauss_newton(mask_hold=hold))._solver._constraint
    assert (constraint._iterations, constraint._furthest) == strength


def test_letting_go_changes_nothing_outside_the_mask():
    """Where coordinates begin anew is where the latent is."""
    solver = Drag(bump(), WS, [(20, 20)], [(30, 20)], CORNER, gauss_newton())._solver
    here = solver.initial(solver.problem.handles)
    moved = dataclasses.replace(here, shift=here.shift + 0.3)
    let_go = dataclasses.replace(moved, v=torch.zeros_like(here.v), let_go=moved.shift)
    change = solver._constraint.change(solver._linear(let_go), let_go.v)
    fixed = solver._constraint._fixed_part(moved.shift) - solver._constraint._kept
    assert change == pytest.approx(float(fixed.norm()), rel=1e-5)
    assert change > 0


def test_a_usual_step_is_no_shorter_than_the_last_bit_of_a_way():
    """However little the handles have moved; there is none of those that never have."""
    solver = Drag(bump(), WS, [(20, 20)], [(30, 20)], CORNER, gauss_newton())._solver
    here = solver.initial(solver.problem.handles)
    jacobian = solver._linearised(here).jacobian
    assert not solver._usual_step(here, jacobian).any()
    lengths = []
    for way in (0.5, 2.0):
        tracked = dataclasses.replace(here.tracked, handles=here.tracked.handles + torch.tensor([[way, 0.0]]))
        lengths.append(float(solver._usual_step(dataclasses.replace(here, tracked=tracked), jacobian).norm()))
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
    assert lengths[0] > 0
