"""In which coordinates a drag moves: along the pictures that a model draws itself, and away from them."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.drag import noise as noise_module
from draggan.drag.latent_statistics import few_rows_times, latent_statistics
from draggan.drag.noise import Noise, nearest_noise
from draggan.drag.prepare import Reference
from draggan.drag.regime import RULES
from draggan.drag.solvers.coordinates import Linear, Pictures
from draggan.drag.solvers.latent_metric import LatentMetric, row_coupling
from draggan.generators.blending import Picture
from tests.conftest import tiny_stylegan2, tiny_stylegan3

MOVES, BEYOND = 4, 0.3


def noise_of(G, seed=0, label=None):
    """Noise with a seed, and the latent that the model draws from it."""
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(seed))
    noise = Noise(G, z, label)
    return noise, noise.latents(z)[0]


def pictures_of(G, independence=0.2):
    """Coordinates around a picture of the model, and their metric."""
    noise, _ = noise_of(G)
    root = latent_statistics(G).power(0.5).float()
    metric = LatentMetric(root, row_coupling(MOVES, MOVES, independence))
    return Pictures(noise, metric, BEYOND), metric


def somewhere(pictures, seed=1):
    at = pictures.origin(MOVES)
    return 0.5 * torch.randn(at.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", [tiny_stylegan2, tiny_stylegan3])
@pytest.mark.parametrize("seed", range(3))
def test_the_noise_of_a_latent_is_found(make, seed):
    G = make()
    _, w = noise_of(G, seed)
    found = nearest_noise(G, w)
    assert (found.latents(found.z)[0] - w).norm() < 0.04 * w.norm()
    # Mapping networks look at the direction of the noise alone.
    assert found.z.square().mean() == pytest.approx(1.0, rel=1e-4)


def test_the_noise_of_a_latent_is_found_in_its_class():
    G = tiny_stylegan2(16, c_dim=3)
    label = torch.eye(3)[2:]
    _, w = noise_of(G, 5, label)
    found = nearest_noise(G, w)
    assert found.label.shape == (1, 3)
    assert (found.latents(found.z)[0] - w).norm() < 0.2 * w.norm()


def test_of_a_latent_that_no_noise_gives_the_nearest_is_found():
    G = tiny_stylegan2()
    _, w = noise_of(G)
    other = w + torch.randn(w.shape, generator=torch.Generator().manual_seed(9))
    found = nearest_noise(G, other)
    rest = (found.latents(found.z)[0] - other).norm()
    assert rest <= (w - other).norm() * 1.01
    assert torch.isfinite(found.z).all()


def test_a_search_is_remembered_as_long_as_its_model(monkeypatch):
    G = tiny_stylegan2()
    searched = []
    search = noise_module._searched
    monkeypatch.setattr(noise_module, "_searched", lambda *args: searched.append(args[1]) or search(*args))
    monkeypatch.setattr(noise_module, "REMEMBERED", 2)
    latents = [noise_of(G, seed)[1] for seed in range(3)]
    first = nearest_noise(G, latents[0])
    again = nearest_noise(G, latents[0].clone())
    assert len(searched) == 1
    assert torch.equal(first.z, again.z)
    assert first.rest == again.rest
    for w in latents:
        nearest_noise(G, w)
    nearest_noise(G, latents[0])
    assert len(searched) == 4
    gone = weakref.ref(G)
    del G, first, again, search, searched
    monkeypatch.undo()
    gc.collect()
    assert gone() is None


def test_a_latent_that_is_no_number_has_no_noise():
    G = tiny_stylegan2()
    assert nearest_noise(G, torch.full((G.w_dim,), torch.nan)) is None


def test_along_the_pictures_every_row_is_a_latent_of_the_model():
    G = tiny_stylegan2()
    pictures, metric = pictures_of(G)
    noise, w = noise_of(G)
    v = somewhere(pictures)
    v[..., G.z_dim :] = 0
    rows = w + pictures.shift(v)[0]
    torch.testing.assert_close(rows, noise.latents(noise.z + metric.coupled(v[..., : G.z_dim])[0]))
    assert pictures.astray(v) == 0
    torch.testing.assert_close(pictures.shift(pictures.origin(MOVES)), torch.zeros(1, MOVES, G.w_dim))


def test_what_leaves_the_pictures_is_counted():
    """One standard deviation in every number, of rows on their own."""
    G = tiny_stylegan2()
    pictures, _ = pictures_of(G, independence=1.0)
    v = pictures.origin(MOVES)
    v[..., G.z_dim :] = 1
    assert float(pictures.astray(v)) == pytest.approx(BEYOND / 2**0.5)


@pytest.mark.parametrize("make", [tiny_stylegan2, tiny_stylegan3])
def test_rows_are_pulled_back_by_the_derivative_of_the_shift(make):
    G = make()
    pictures, _ = pictures_of(G)
    v, towards = somewhere(pictures), somewhere(pictures, 2)
    rows = torch.randn(3, MOVES, G.w_dim, generator=torch.Generator().manual_seed(3))
    step = 1e-3
    moved = (pictures.shift(v + step * towards) - pictures.shift(v - step * towards)) / (2 * step)
    expected = (rows * moved).sum((1, 2))
    torch.testing.assert_close((pictures.pulled_back(rows, v) * towards).sum((1, 2)), expected, rtol=2e-2, atol=2e-2)


def test_a_step_goes_straight_on_from_where_a_drag_was_let_go():
    G = tiny_stylegan2()
    pictures, metric = pictures_of(G)
    begins = pictures.shift(somewhere(pictures))
    straight = Linear(replace(metric, coupling=None), G.sample(1), begins)
    v = torch.randn(begins.shape, generator=torch.Generator().manual_seed(4))
    assert torch.equal(straight.shift(straight.origin(MOVES)), begins)
    torch.testing.assert_close(straight.shift(v) - begins, replace(metric, coupling=None)(v), rtol=1e-4, atol=1e-4)


def test_drags_that_keep_natural_go_by_pictures_and_others_by_one_metric():
    G = tiny_stylegan2()
    ws = G.sample(1)

    def coordinates(handles=1, way=8.0, **settings):
        points = [(10.0 + 4 * k, 12.0) for k in range(handles)]
        targets = [(x + way, y) for x, y in points]
        drag = Drag(G, ws, points, targets, config=DragConfig(solver="gauss-newton", **settings))
        return drag._solver._coordinates

    assert isinstance(coordinates(), Pictures)
    assert isinstance(coordinates(naturalness=0.5), Linear)
    assert isinstance(coordinates(handles=2), Linear)
    assert isinstance(coordinates(way=2.0), Linear), "so short a way needs less"


@pytest.mark.parametrize(
    ("handles", "way", "live", "settings", "expected"),
    [
        (1, 0.0, False, {}, 0.25),
        (1, 0.1, False, {}, 0.512),
        (1, 0.1, False, {"naturalness": 0.5}, 0.256),
        (1, 0.2, False, {}, 1.0),
        (2, 0.05, False, {}, 0.5),
        # Many need less of it, however far they go.
        (3, 0.05, False, {}, 0.25),
        (1, 0.05, True, {}, 1.0),
        (1, 0.05, False, {"tracker": "template"}, 1.0),
    ],
)
def test_a_short_way_needs_a_share_of_the_naturalness(handles, way, live, settings, expected):
    """Unless it may become a long one."""
    G = tiny_stylegan2()
    points = [(10.0 + 4 * k, 12.0) for k in range(handles)]
    targets = [(x + way * max(G.image_size), y) for x, y in points]
    config = DragConfig(solver="gauss-newton", **settings)
    assert Drag(G, G.sample(1), points, targets, config=config, live=live).problem.freedom.naturalness == (
        pytest.approx(expected)
    )
    # With a mask that holds exactly, too; what steps have to hold themselves needs what it needs.
    mask = np.ones(G.image_size, bool)
    mask[:2] = False
    for hold in ("exact", "soft"):
        masked = Drag(G, G.sample(1), points, targets, mask, replace(config, mask_hold=hold), live=live)
        firmly = hold == "soft" or handles > 2
        held = RULES.masked_naturalness * config.naturalness if firmly else expected
        assert masked.problem.freedom.naturalness == pytest.approx(held)


def test_a_way_is_measured_from_where_the_handle_was_clicked_too():
    """A drag that goes on for the last bit goes on as it was, and one that leads back goes as far."""
    G = tiny_stylegan2()
    ws, config = G.sample(1), DragConfig(solver="gauss-newton")
    first = Reference(handles=torch.tensor([[4.0, 12.0]]), pictures=[Picture(ws=ws)])
    for targets in ([(19.0, 12.0)], [(4.0, 12.0)]):
        assert Drag(G, ws, [(17.0, 12.0)], targets, config=config, reference=first).problem.freedom.naturalness == 1.0


def test_a_drag_does_not_leave_the_pictures_farther_than_it_may():
    G = tiny_stylegan2()
    config = DragConfig(solver="gauss-newton", max_departure=0.02, max_steps=12)
    drag = Drag(G, G.sample(1), [(12.0, 12.0)], [(20.0, 14.0)], config=config)
    *_, last = drag
    assert drag.problem.max_astray == pytest.approx(0.3 * 0.02)
    assert last.done
    astray = drag._here.astray
    assert astray is None or float(astray) <= drag.problem.max_astray


@pytest.mark.parametrize("rows", [1, 6, 7, 30])
def test_products_of_few_rows_are_the_same_with_any_number_of_threads(rows):
    random = torch.Generator().manual_seed(rows)
    few, matrix = torch.randn(rows, 256, generator=random), torch.randn(256, 256, generator=random)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(few_rows_times(few, matrix))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], few @ matrix, rtol=1e-4, atol=1e-4)
