"""Where the content went, on generators where that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from draggan import Drag, DragConfig
from draggan.drag.continuity import displacement, lucas_kanade, similarity
from draggan.drag.latent_statistics import LatentStatistics, departure, share_within
from draggan.drag.prepare import Reference, surrounding_offsets
from draggan.drag.problem import Pattern
from draggan.drag.solvers import gauss_newton as gauss_newton_module
from draggan.drag.solvers.gauss_newton import RULES, GaussNewton
from draggan.drag.solvers.latent_metric import LatentMetric, row_coupling
from draggan.drag.tracking import derivatives
from draggan.generators.base import latent_rows
from draggan.generators.blending import Picture
from draggan.geometry import FeatureSampler
from tests.toys import BumpGenerator

WS = torch.zeros(1, 8, 4)
START = (20.0, 32.0)
SOLVERS = ("gauss-newton", "adam")


def run(generator, target, *, handle=START, **settings):
    settings = {"tracker": "continuity", "step_size": 5e-3, "max_steps": 200} | settings
    *_, last = Drag(generator.freeze(), WS, [handle], [target], config=DragConfig(**settings))
    return last


def where(generator, last):
    """Where the first bump is."""
    return generator.centres(last.ws)[0, 0].numpy()


@pytest.mark.parametrize("solver", SOLVERS)
def test_content_that_moves_is_followed(solver):
    generator = BumpGenerator([START])
    last = run(generator, (38.0, 24.0), solver=solver)
    assert last.outcome == "arrived"
    assert not last.lost.any()
    assert np.linalg.norm(where(generator, last) - last.handles[0]) < 0.5
    assert last.way > 0.9


def test_another_place_that_looks_the_same_is_not_taken_for_the_content():
    """The bump goes 6 px and no farther. One like it lies where it should go."""
    target = (34.0, 32.0)
    claims, errors = {}, {}
    for tracker in ("template", "continuity"):
        generator = BumpGenerator([START], limit=6.0, decoys=[target])
        generator.radius = 2.5
        last = run(generator, target, solver="gauss-newton", tracker=tracker, trust_radius=64.0, max_departure=100.0)
        claims[tracker] = last.outcome == "arrived"
        errors[tracker] = float(np.linalg.norm(where(generator, last) - last.handles[0]))
    assert claims == {"template": True, "continuity": False}
    assert errors["template"] > 6
    assert errors["continuity"] < 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_pull_beyond_what_the_model_does_goes_as_far_as_it_goes(solver):
    generator = BumpGenerator([START], limit=8.0)
    last = run(generator, (50.0, 32.0), solver=solver, stall_steps=20)
    assert last.outcome in ("stalled", "unlikely", "max_steps")
    assert 0 < last.way < 0.4
    assert np.linalg.norm(where(generator, last) - last.handles[0]) < 0.5


@pytest.mark.parametrize("solver", SOLVERS)
def test_content_that_is_hidden_is_lost_and_the_last_picture_with_it_is_kept(solver):
    generator = BumpGenerator([START], curtain=36.0)
    last = run(generator, (56.0, 32.0), solver=solver)
    assert last.outcome == "lost"
    assert not last.lost.any()
    x = where(generator, last)[0]
    assert 26 < x < 42
    # What is half covered is misjudged, by less than its size.
    assert abs(last.handles[0, 0] - x) < generator.radius


def test_a_drag_that_does_not_arrive_ends_with_a_picture_in_which_the_place_is_certain():
    """Unless a hand has led it there: what it has seen does not jump back."""
    ends = {}
    for live in (False, True):
        generator = BumpGenerator([START], curtain=36.0).freeze()
        target = (56.0, 32.0)
        drag = Drag(generator, WS, [START], [target], config=DragConfig(solver="gauss-newton"), live=live)
        steps = []
        while live and not drag.would_sleep():
            steps.append(next(drag))
        drag.settle()
        *more, last = [*drag]
        steps += more
        ends[live] = last
        if not live:
            tracker = drag._solver.tracker
            shift = (last.ws - WS)[:, :6]
            at = torch.from_numpy(last.handles)
            seen = tracker.begin(at, shift, drag.problem.around(drag.problem.rows(shift), at, drag.problem.reach))
            assert seen.sure.all()
            nearest = min(steps, key=lambda step: step.total_distance)
            assert last.total_distance >= nearest.total_distance
    assert ends[False].outcome == ends[True].outcome == "lost"
    assert ends[True].total_distance <= ends[False].total_distance


class Marked(BumpGenerator):
    """The farther the bump goes, the more it bears a mark, unless another number of the latent takes it away."""

    def _render(self, ws, grid):
        out = super()._render(ws, grid)
        w = torch.stack(list(latent_rows(ws))[: self.moving_rows]).mean(0)
        mark = 5 * (w[:, 0] - w[:, 2])
        return torch.cat([out, mark[:, None, None, None] * out[:, :1]], 1)


def test_steps_make_content_look_as_it_did(monkeypatch):
    """Without that it is lost on the way; with it the bump is where it is said to be, and bears less of a mark."""
    ends = {}
    for restored_from in (RULES.restored_from, 1e6):
        monkeypatch.setattr(gauss_newton_module, "RULES", replace(RULES, restored_from=restored_from))
        generator = Marked([START])
        ends[restored_from] = run(generator, (36.0, 32.0), solver="gauss-newton", max_departure=100.0), generator
    without, _ = ends.pop(1e6)
    ((last, generator),) = ends.values()
    assert without.outcome == "lost"
    assert last.outcome == "arrived"
    assert np.linalg.norm(where(generator, last) - last.handles[0]) < 0.5
    w = last.ws[0, :6].mean(0)
    assert w[0] - w[2] < 0.75 * w[0]


def test_the_rows_are_let_go_for_the_last_bit_of_a_way():
    """The bump goes 8 px and no farther: 2 px are left there, and every latent is still the one that is said."""
    generator = BumpGenerator([START], limit=8.0).freeze()
    drag = Drag(generator, WS, [START], [(30.0, 32.0)], config=DragConfig(solver="gauss-newton", max_departure=100.0))
    *_, last = drag
    here = drag._here
    assert here.let_go is not None
    torch.testing.assert_close(here.shift, drag._solver._of(here).shift(here.v))
    assert last.outcome == "stalled"
    assert np.linalg.norm(where(generator, last) - last.handles[0]) < 0.5
    # Far from its target, and where a pointer is followed, it is not worth the steps.
    far = Drag(generator, WS, [START], [(50.0, 32.0)], config=DragConfig(solver="gauss-newton"))
    assert not [*far][-1].done or far._here.let_go is None


def test_a_drag_stops_before_it_leaves_what_the_model_knows_unless_told_to_go_on():
    generator = BumpGenerator([START])
    generator.gain = 4.0  # so that 20 px are five times what pictures of this model differ by
    last = run(generator, (44.0, 32.0), solver="gauss-newton")
    assert last.outcome == "unlikely"
    assert 0 < last.way < 1
    assert run(generator, (44.0, 32.0), solver="gauss-newton", max_departure=100.0).outcome == "arrived"


@pytest.mark.parametrize(
    ("handles", "masked", "naturalness", "times"),
    [
        (1, False, 1.0, 4),
        (1, False, 0.5, 1),
        (1, True, 1.0, 2),
        (2, False, 1.0, 2**0.5),
        (2, True, 1.0, 2),
        (3, False, 1.0, 4),
        (3, True, 1.0, 4),
    ],
)
def test_how_far_a_drag_may_lead_goes_by_what_it_has_to_bring_about(handles, masked, naturalness, times):
    points = [(20.0 + k, 32.0) for k in range(handles)]
    targets = [(x + 20, y) for x, y in points]
    mask = np.zeros((64, 64), bool)
    mask[16:48] = True
    config = DragConfig(solver="gauss-newton", naturalness=naturalness)
    drag = Drag(BumpGenerator([START]).freeze(), WS, points, targets, mask if masked else None, config)
    assert drag.problem.max_departure == pytest.approx(times * config.max_departure)


def test_two_that_pull_against_each_other_go_to_the_edge_and_no_step_is_looked_at_beyond(monkeypatch):
    """How far the latent may go is known before anything is drawn."""
    both = [START, (44.0, 32.0)]
    generator = BumpGenerator(both)
    generator.gain = 4.0
    looked_at, attempt = [], GaussNewton._try

    def noted(self, here, tried, **rest):
        trial = attempt(self, here, tried, **rest)
        looked_at.append((trial.refusal, float(self.problem.departures(trial.there.shift)[0])))
        return trial

    monkeypatch.setattr(GaussNewton, "_try", noted)
    drag = Drag(generator.freeze(), WS, both, [(12.0, 32.0), (52.0, 32.0)], config=DragConfig(solver="gauss-newton"))
    *_, last = drag
    assert last.outcome == "unlikely"
    assert 0.1 < last.way < 0.9
    refusals, departures = zip(*looked_at, strict=True)
    assert set(refusals) == {None}
    assert max(departures) == pytest.approx(drag.problem.max_departure, rel=2e-3)
    assert len(looked_at) < 5


def pulled(drag, target, steps=60):
    """The step with which a live drag rests on its way there, or the last of so many."""
    drag.retarget([target])
    for _ in range(steps):
        if drag.would_sleep():
            break
        step = next(drag)
    return step


def test_other_targets_wake_a_drag_that_rests_at_the_edge():
    generator = BumpGenerator([START], limit=8.0).freeze()
    drag = Drag(generator, WS, [START], [START], config=DragConfig(solver="gauss-newton"), live=True)
    step = pulled(drag, (50.0, 32.0))
    assert 24 < step.handles[0, 0] < 29
    assert step.outcome is None
    assert step.rests in ("unlikely", "stalled")
    assert step.distances[0] > 20, "the target is where it was asked for, the handle on its content"
    drag.retarget([(22.0, 30.0)])
    drag.settle()
    *_, last = drag
    assert last.outcome == "arrived"
    assert last.rests is None


def test_let_go_where_it_rests_a_live_drag_ends_with_the_picture_that_is_to_be_seen():
    generator = BumpGenerator([START], limit=8.0).freeze()
    drag = Drag(generator, WS, [START], [START], config=DragConfig(solver="gauss-newton"), live=True)
    step = pulled(drag, (50.0, 32.0))
    assert step.rests in ("unlikely", "stalled")
    drag.settle()
    (last,) = drag
    assert last.outcome == step.rests
    assert last.index == step.index + 1
    assert torch.equal(last.ws, step.ws)


def test_a_live_drag_of_the_published_solver_goes_on_from_the_last_picture_in_which_its_content_was():
    generator = BumpGenerator([START], curtain=34.0).freeze()
    config = DragConfig(solver="adam", tracker="continuity", step_size=5e-3)
    drag = Drag(generator, WS, [START], [START], config=config, live=True)
    step = pulled(drag, (50.0, START[1]), steps=200)
    assert step.rests == "lost"
    assert not step.lost.any()
    assert generator.centres(step.ws)[0, 0, 0] < 36, "its middle has just gone behind the curtain"
    drag.stop()


def pattern_of(features, grid, handle):
    sampler = FeatureSampler.of(features, grid)
    offsets, weights = surrounding_offsets((64, 64), grid)
    at = torch.tensor([handle])
    return Pattern(
        offsets=offsets,
        weights=weights[None],
        features=sampler(at[:, None] + offsets),
        slopes=derivatives(sampler, at, offsets),
        mean=features.mean((0, 2, 3))[None],
        clicked=at,
        image_size=(64, 64),
    )


def test_the_change_is_said_in_pixels_of_the_direction_in_which_it_shows_least():
    generator = BumpGenerator([START])
    grid = generator.grid("map")
    pattern = pattern_of(generator.features(WS, "map"), grid, START)
    at = torch.tensor([START])
    assert float(displacement(pattern, at, pattern.features, pattern.slopes)) == 0
    assert float(similarity(pattern, at, pattern.features)) == pytest.approx(1)
    moved = WS.clone()
    moved[..., 0] = 0.01  # one pixel
    sampler = FeatureSampler.of(generator.features(moved, "map"), grid)
    at = torch.tensor([START])
    seen = sampler(at[:, None] + pattern.offsets), derivatives(sampler, at, pattern.offsets)
    assert float(displacement(pattern, at, *seen)) == pytest.approx(1, rel=0.3)
    # Ten times the features are the same content.
    louder = Pattern(
        offsets=pattern.offsets,
        weights=pattern.weights,
        features=10 * pattern.features,
        slopes=10 * pattern.slopes,
        mean=10 * pattern.mean,
        clicked=at,
        image_size=(64, 64),
    )
    assert float(displacement(louder, at, 10 * seen[0], 10 * seen[1])) == pytest.approx(
        float(displacement(pattern, at, *seen))
    )
    # Lucas and Kanade's step finds it.
    found = lucas_kanade(sampler, pattern.features, pattern.slopes, at, pattern, longest=2.0, shortest=0.01)
    assert found[0].tolist() == pytest.approx([START[0] + 1, START[1]], abs=0.1)


def test_along_an_edge_a_change_is_a_large_displacement():
    grid = BumpGenerator([START]).grid("map")
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    edge = torch.sigmoid(x - 10)[None, None] + 1e-3 * torch.sin(y)[None, None]
    pattern = pattern_of(edge, grid, START)
    sampler = FeatureSampler.of(edge + 0.05, grid)
    at = torch.tensor([START])
    seen = sampler(at[:, None] + pattern.offsets), derivatives(sampler, at, pattern.offsets)
    assert float(displacement(pattern, at, *seen)) > 20


def test_rows_part_at_a_price():
    v = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    free, together, between = (LatentMetric(None, row_coupling(6, 6, a)) for a in (1.0, 0.0, 0.2))
    assert torch.equal(free(v), v)
    rows = together(v)
    assert torch.allclose(rows, rows.mean(1, keepdim=True).expand_as(rows), atol=1e-6)
    # The root of a correlation of 0.8 between any two rows.
    eye = torch.eye(6)[:, :, None]
    root = between(eye)[:, :, 0]
    assert torch.allclose(root @ root, 0.8 * torch.ones(6, 6) + 0.2 * torch.eye(6), atol=1e-6)
    assert row_coupling(1, 1, 0.2) is None
    # Rows that nothing depends on are left out.
    assert torch.equal(row_coupling(3, 2, 0.2)[2], torch.tensor([0.0, 0.0, 1.0]))


def test_two_random_latents_are_one_departure_apart():
    random = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.5, 1.0, 2.0])
    known = LatentStatistics(mean=torch.zeros(3), variances=spread.square(), directions=torch.eye(3)).whitening
    a, b = (torch.randn(4000, 3, generator=random) * spread for _ in range(2))
    assert departure(known, a - b) == pytest.approx(1, rel=0.02)
    # A direction in which the model's latents do not differ does not outweigh all others.
    flat = LatentStatistics(mean=torch.zeros(2), variances=torch.tensor([0.0, 1.0]), directions=torch.eye(2))
    assert departure(flat.whitening, torch.tensor([[0.01, 0.0]])) < 0.5


def test_a_step_is_cut_off_where_the_latent_may_go_no_farther():
    known = LatentStatistics(mean=torch.zeros(2), variances=torch.tensor([1.0, 4.0]), directions=torch.eye(2)).whitening
    change, step = torch.tensor([[0.3, 0.2], [-0.1, 0.4]]), torch.tensor([[1.0, -2.0]])
    share = share_within(known, change, step, 0.5)
    assert 0 < share < 1
    assert departure(known, change + share * step) == pytest.approx(0.5)
    assert share_within(known, change, step, 5.0) == 1
    assert share_within(known, change, 0 * step, 0.5) == 1
    # What is beyond may come back, and goes no farther.
    beyond = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    assert share_within(known, beyond, torch.tensor([[1.0, 0.0]]), 0.5) == 0
    assert share_within(known, beyond, torch.tensor([[-3.0, 0.0]]), 0.5) == 1


def test_of_two_handles_each_is_known_by_what_is_not_between_them():
    both = [START, (START[0], START[1] + 8.0)]
    config = DragConfig(solver="gauss-newton")
    pattern = Drag(BumpGenerator(both).freeze(), WS, both, both, config=config).problem.pattern
    above, below = (pattern.offsets[weights > 0] for weights in pattern.weights)
    assert above[:, 1].max() == below[:, 1].min() == 0
    assert pattern.between is not None
    under, over = (pattern.offsets[weights > 0] for weights in pattern.between.weights)
    assert under[:, 1].min() == over[:, 1].max() == 0
    assert len(under) == len(below)
    alone = Drag(BumpGenerator(both).freeze(), WS, both[:1], both[:1], config=config).problem.pattern
    assert (alone.weights == 1).all()
    assert alone.between is None


def test_a_second_point_after_a_far_pull_still_moves():
    """Departure counts from where the first point was clicked, and one handle may have led far from there."""
    generator = BumpGenerator([START, (44.0, 32.0)]).freeze()
    alone = Drag(generator, WS, [START], [(26.0, 32.0)], config=DragConfig(solver="gauss-newton"))
    *_, last = alone
    assert last.outcome == "arrived"
    config = DragConfig(solver="gauss-newton", max_departure=float(alone.problem.departures(alone._here.shift)[0]) / 2)
    here = Picture(ws=last.ws)
    handles = np.array([last.handles[0], (44.0, 32.0)])
    reference = Reference(handles=torch.tensor([START, (44.0, 32.0)]), pictures=[Picture(ws=WS), here])
    both = Drag(generator, last.ws, handles, handles, config=config, reference=reference)
    begun = float(both.problem.departures(torch.zeros_like(both.problem.ws[:, : both.problem.shift_rows]))[0])
    assert begun == pytest.approx(2 * config.max_departure, rel=0.05)
    assert both.problem.max_departure == pytest.approx(begun + 2**0.5 / 2 * config.max_departure, rel=0.05)
