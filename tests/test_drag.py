"""The drag against known answers: bumps whose centres are linear functions of the latent."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
import torch

from draggan.config import DragConfig
from draggan.drag import Drag, Reference
from draggan.drag.mask import FixedRegion
from draggan.drag.motion_supervision import directions, mask_loss, motion_supervision_loss
from draggan.drag.tracking import track
from draggan.errors import LatentError, MaskError, PointError
from draggan.generators.blending import Picture
from draggan.geometry import crop, disc_offsets, sample, square_offsets
from tests.conftest import tiny_stylegan2
from tests.toys import BumpGenerator

WS = torch.zeros(1, 8, 4)


def bump(*start: tuple[float, float], **kwargs) -> BumpGenerator:
    return BumpGenerator(list(start) or [(20.0, 20.0)], **kwargs).freeze()


def run(drag: Drag):
    steps = list(drag)
    assert [s.index for s in steps] == list(range(len(steps)))
    assert [s.done for s in steps] == [False] * (len(steps) - 1) + [True]
    return steps


@pytest.mark.parametrize("space", ["w+", "w"])
@pytest.mark.parametrize("size", [(64, 64), (64, 32)])
def test_the_content_lands_within_a_pixel_of_the_target(space, size):
    G = bump((16.0, 20.0), size=size)
    last = run(Drag(G, WS, [(16, 20)], [(25, 38)], config=DragConfig(space=space)))[-1]
    assert last.outcome == "arrived"
    assert last.distances.max() <= 1
    # Tracked to whole pixels within 1 px of the target; the true centre may be half a pixel further.
    assert (G.centres(last.ws)[0, 0] - torch.tensor([25.0, 38.0])).norm() < 1.8


def test_several_handles_arrive_together():
    G = bump((20.0, 20.0), (44.0, 40.0))
    last = run(Drag(G, WS, [(20, 20), (44, 40)], [(30, 25), (40, 50)]))[-1]
    assert last.outcome == "arrived"
    targets = torch.tensor([[30.0, 25.0], [40.0, 50.0]])
    assert (G.centres(last.ws)[0] - targets).norm(dim=-1).max() < 1.8


def test_thirty_handles_on_one_bump_agree():
    G = bump((32.0, 32.0))
    offsets = square_offsets(3)[:30]
    handles = torch.tensor([32.0, 32.0]) + offsets
    last = run(Drag(G, WS, handles, handles + torch.tensor([10.0, 0.0])))[-1]
    assert (G.centres(last.ws)[0, 0] - torch.tensor([42.0, 32.0])).norm() < 2


@pytest.mark.parametrize("corner", [(0, 0), (63, 0), (0, 63), (63, 63), (31, 0), (0, 31), (63, 31), (31, 63)])
def test_handles_on_corners_and_edges_arrive(corner):
    G = bump(tuple(float(v) for v in corner))
    target = np.clip(corner, 10, 53)
    last = run(Drag(G, WS, [corner], [target]))[-1]
    assert last.outcome == "arrived"
    assert np.linalg.norm(G.centres(last.ws)[0, 0].numpy() - target) < 1.8


@pytest.mark.parametrize("corner", [(0, 0), (63, 63)])
def test_targets_in_corners_are_reached(corner):
    G = bump((20.0, 40.0))
    last = run(Drag(G, WS, [(20, 40)], [corner]))[-1]
    assert last.outcome == "arrived"
    # There are no features beyond the border, so a few pixels of overshoot along it cannot be seen by tracking.
    assert np.linalg.norm(G.centres(last.ws)[0, 0].numpy() - corner) < 5


def test_a_handle_on_its_target_arrives_at_once():
    (only,) = run(Drag(bump(), WS, [(20, 20)], [(20, 20)]))
    assert only.outcome == "arrived"
    assert torch.equal(only.ws, WS)


def test_everything_in_a_step_describes_the_same_latent():
    G = bump()
    drag = Drag(G, WS, [(20, 20)], [(30, 26)], config=DragConfig(tracker="template"))
    template = sample(G.features(WS, "map"), G.grid("map"), torch.tensor([[20.0, 20.0]]))
    before = None
    for step in drag:
        if before is not None:
            sampler = partial(sample, G.features(step.ws, "map"), G.grid("map"))
            tracked = track(sampler, torch.tensor(before), template, square_offsets(3), (64, 64))
            assert np.array_equal(tracked.numpy(), step.handles)
        assert np.allclose(step.distances, np.linalg.norm(step.targets - step.handles, axis=1))
        before = step.handles


def test_only_free_rows_change():
    last = run(Drag(bump(), WS, [(20, 20)], [(26, 20)], config=DragConfig(free_rows=3)))[-1]
    assert (last.ws[0, :3] != 0).any()
    assert torch.equal(last.ws[0, 3:], WS[0, 3:])


def test_in_w_all_free_rows_move_alike():
    last = run(Drag(bump(), WS, [(20, 20)], [(26, 20)], config=DragConfig(space="w")))[-1]
    assert (last.ws[0, :6] == last.ws[0, 0]).all()


def test_the_generator_and_the_given_latent_stay_as_they_are():
    G = bump()
    ws = WS.clone()
    run(Drag(G, ws, [(20, 20)], [(26, 20)]))
    assert torch.equal(ws, WS)
    assert all(p.grad is None for p in G.parameters())


def test_rows_beyond_the_free_ones_get_no_gradient():
    class Spy(BumpGenerator):
        wanted: list[bool]

        def features(self, ws, level):
            self.wanted = [row.requires_grad for row in ws] if isinstance(ws, list) else []
            return super().features(ws, level)

    G = Spy([(20.0, 20.0)]).freeze()
    next(Drag(G, WS, [(20, 20)], [(26, 20)]))
    assert G.wanted == [True] * 6 + [False] * 2


def test_the_step_limit_ends_a_drag():
    steps = run(Drag(bump(), WS, [(20, 20)], [(50, 50)], config=DragConfig(max_steps=5)))
    assert len(steps) == 6
    assert steps[-1].outcome == "max_steps"


def test_contradictory_targets_stall_and_keep_the_best():
    G = bump((32.0, 32.0))
    config = DragConfig(max_steps=1000, stall_steps=30)
    steps = run(Drag(G, WS, [(32, 32), (33, 32)], [(52, 32), (13, 32)], config=config))
    assert steps[-1].outcome == "stalled"
    assert steps[-1].distances.sum() == min(s.distances.sum() for s in steps)
    assert steps[-1].distances.sum() <= steps[0].distances.sum()


def test_stop_from_another_thread_ends_with_the_current_picture():
    drag = Drag(bump(), WS, [(20, 20)], [(50, 50)], config=DragConfig(max_steps=10000))
    steps = []
    for step in drag:
        steps.append(step)
        if step.index == 3:
            thread = threading.Thread(target=drag.stop)
            thread.start()
            thread.join()
    assert steps[-1].outcome == "stopped"
    assert steps[-1].index == 4
    assert list(drag) == []


def test_a_huge_step_size_ends_with_the_best_picture():
    last = run(Drag(bump(), WS, [(20, 20)], [(30, 20)], config=DragConfig(step_size=1.0, max_steps=200)))[-1]
    assert last.done
    assert last.distances.sum() <= 10


def test_not_finite_features_end_the_drag_as_diverged():
    class Breaking(BumpGenerator):
        def features(self, ws, level):
            out = super().features(ws, level)
            return out * torch.nan if torch.is_grad_enabled() and self.start.numel() else out

    last = run(Drag(Breaking([(20.0, 20.0)]).freeze(), WS, [(20, 20)], [(30, 20)]))[-1]
    assert last.outcome == "diverged"
    assert torch.equal(last.ws, WS)


@pytest.mark.parametrize("max_steps", [1, 50])
def test_a_latent_that_is_no_longer_finite_is_never_the_result(max_steps):
    class Exploding(BumpGenerator):
        """Its features are fine; their gradient is not."""

        def features(self, ws, level):
            out = super().features(ws, level)
            if out.requires_grad:
                out.register_hook(lambda g: g * torch.inf)
            return out

    config = DragConfig(max_steps=max_steps)
    last = run(Drag(Exploding([(20.0, 20.0)]).freeze(), WS, [(20, 20)], [(30, 20)], config=config))[-1]
    assert torch.equal(last.ws, WS)


def test_a_drag_stopped_before_it_began_changes_nothing():
    drag = Drag(bump(), WS, [(20, 20)], [(50, 50)])
    drag.stop()
    (only,) = run(drag)
    assert only.outcome == "stopped"
    assert torch.equal(only.ws, WS)


def test_no_progress_at_all_stalls_even_if_any_progress_counts():
    class Frozen(BumpGenerator):
        def features(self, ws, level):
            return super().features(ws, level) * 0 + super().features(WS, level)

    config = DragConfig(stall_progress=0, stall_steps=5, max_steps=100)
    last = run(Drag(Frozen([(20.0, 20.0)]).freeze(), WS, [(20, 20)], [(30, 20)], config=config))[-1]
    assert (last.outcome, last.index) == ("stalled", 5)


def test_more_than_five_points_may_stop_at_twice_the_distance():
    def distance(n: int) -> float:
        points = [(float(i), 5.0) for i in range(n)]
        return Drag(bump(size=(512, 512)), WS, points, points).stop_distance

    assert (distance(5), distance(6)) == (1, 2)


@pytest.mark.parametrize(("setting", "value"), [("r1", 40.0), ("r2", 100.0), ("step_size", 1e-3), ("free_rows", 2)])
def test_a_setting_changes_the_drag(setting, value):
    # Six pixels a step: with the default r2, three pixels here, the bump leaves the window it is looked for in.
    base = {"step_size": 6e-2 if setting == "r2" else 2e-2, "max_steps": 8, "tracker": "template"}
    a, b = (
        run(Drag(bump(), WS, [(20, 20)], [(50, 44)], config=DragConfig(**{**base, **extra})))
        for extra in ({}, {setting: value})
    )
    assert [s.handles.tolist() for s in a] != [s.handles.tolist() for s in b] or not torch.equal(a[-1].ws, b[-1].ws)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, lambda ws: torch.as_tensor(ws).double()])
def test_a_latent_may_be_an_array_or_of_another_type(kind):
    last = run(Drag(bump(), kind(WS), [(20, 20)], [(22, 20)]))[-1]
    assert last.ws.dtype == torch.float32


def test_points_may_be_tensors_that_ask_for_gradients():
    handles = torch.tensor([[20.0, 20.0]], requires_grad=True)
    assert run(Drag(bump(), WS, handles, handles + 2))[-1].outcome == "arrived"


def test_a_continued_drag_tracks_what_was_clicked_first():
    G = bump()
    first = run(Drag(G, WS, [(20, 20)], [(40, 20)], config=DragConfig(max_steps=30)))[-1]
    reference = Reference(handles=torch.tensor([[20.0, 20.0]]), pictures=[Picture(ws=WS)])
    # Half a pixel of tracking error in the first half must not become part of the template of the second.
    drag = Drag(G, first.ws, first.handles + 0.5, [(40, 20)], reference=reference)
    last = run(drag)[-1]
    assert last.outcome == "arrived"
    assert (G.centres(last.ws)[0, 0] - torch.tensor([40.0, 20.0])).norm() < 1.8


def test_the_mask_holds_what_is_outside():
    G = bump((20.0, 32.0), (26.0, 32.0))
    # The second bump's centre has its own latent channels; couple it to the first through the drag by pulling near it.
    mask = np.ones((64, 64), bool)
    mask[:, 40:] = False
    free = run(Drag(G, WS, [(24, 32)], [(34, 32)]))[-1]
    held = run(Drag(G, WS, [(24, 32)], [(34, 32)], mask, DragConfig(mask_weight=200)))[-1]
    outside = [(G.synthesis(s.ws) - G.synthesis(WS)).abs()[0, 0][~torch.from_numpy(mask)].mean() for s in (free, held)]
    assert outside[1] < outside[0]


@pytest.mark.parametrize("solver", ["adam", "gauss-newton"])
def test_a_mask_of_ones_changes_nothing(solver):
    G, config = bump(), DragConfig(solver=solver)
    drags = [Drag(G, WS, [(20, 20)], [(26, 20)], mask, config) for mask in (None, np.ones((64, 64), bool))]
    assert len({(d.near, d.problem.masked, d.problem.along_pictures, d.problem.max_departure) for d in drags}) == 1
    a, b = map(run, drags)
    assert [s.loss for s in a] == [s.loss for s in b]


@pytest.mark.parametrize(
    ("hold", "weight", "held", "by_steps"),
    [("exact", 20, True, False), ("exact", 0, True, False), ("soft", 20, True, True), ("soft", 0, False, False)],
)
def test_what_the_picture_itself_holds_is_held_too(hold, weight, held, by_steps):
    mask = np.arange(64) < np.full((64, 1), 50)
    config = DragConfig(solver="gauss-newton", mask_hold=hold, mask_weight=weight)
    running = Drag(bump(), WS, [(20, 20)], [(26, 20)], mask, config)
    assert running.problem.masked is held
    assert running.problem.regime.restores is not by_steps
    assert (running.near == running.stop_distance) is by_steps


def test_the_estimated_mask_loss_is_unbiased():
    torch.manual_seed(0)
    features, kept, fixed = torch.randn(1, 3, 32, 24), torch.randn(1, 3, 32, 24), torch.rand(1, 1, 32, 24)
    fixed[:, :, 10:20, 5:15] = 0
    region, random = FixedRegion(fixed=fixed, kept=kept), np.random.default_rng(1)
    exact = mask_loss(features, kept, fixed).item()
    estimates = []
    for _ in range(2000):
        tiles = region.tiles((7, 5), 3, random)
        estimates.append(tiles.scale * mask_loss(crop(features, tiles.windows), tiles.kept, tiles.fixed).item())
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - exact) < 4 * error
    assert error < 0.02 * exact


def test_all_tiles_together_are_the_exact_mask_loss():
    features, kept, fixed = torch.randn(1, 3, 32, 24), torch.randn(1, 3, 32, 24), torch.ones(1, 1, 32, 24)
    tiles = FixedRegion(fixed=fixed, kept=kept).tiles((7, 5), 4096, np.random.default_rng(0))
    estimate = tiles.scale * mask_loss(crop(features, tiles.windows), tiles.kept, tiles.fixed)
    torch.testing.assert_close(estimate, mask_loss(features, kept, fixed))


def test_the_estimated_mask_holds_too():
    G = bump((20.0, 32.0), (26.0, 32.0))
    mask = np.ones((64, 64), bool)
    mask[:, 40:] = False
    last = run(Drag(G, WS, [(24, 32)], [(34, 32)], mask, DragConfig(mask_weight=200, mask_windows=4)))[-1]
    free = run(Drag(G, WS, [(24, 32)], [(34, 32)]))[-1]
    start = G.synthesis(WS)[0, 0][~torch.from_numpy(mask)]
    held, loose = ((G.synthesis(s.ws)[0, 0][~torch.from_numpy(mask)] - start).abs().mean() for s in (last, free))
    assert held < loose


@pytest.mark.parametrize(
    ("handles", "targets", "says"),
    [
        ([], [], "no points"),
        ([(1, 1)], [], "every handle needs one target"),
        ([(1, 1)], [(64, 1)], r"target 1 at \(64, 1\) is outside"),
        ([(1, 1), (-1, 5)], [(2, 2), (3, 3)], "handle 2"),
        ([(float("nan"), 1)], [(2, 2)], "handle 1"),
        ([(1, 2, 3)], [(1, 2, 3)], "shape"),
        ([("a", "b")], [(1, 2)], "not numbers"),
    ],
)
def test_bad_points_are_named(handles, targets, says):
    with pytest.raises(PointError, match=says):
        Drag(bump(), WS, handles, targets)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.ones((32, 32), bool), "shape"),
        (np.ones((64, 64), np.uint8), "bool"),
        (np.zeros((64, 64), bool), "nothing change"),
    ],
)
def test_bad_masks_are_named(mask, says):
    with pytest.raises(MaskError, match=says):
        Drag(bump(), WS, [(1, 1)], [(2, 2)], mask)


def test_a_latent_that_does_not_fit_is_named():
    with pytest.raises(LatentError, match=r"\[1, 12, 4\].*\[batch, 8, 4\]"):
        Drag(bump(), torch.zeros(1, 12, 4), [(1, 1)], [(2, 2)])


@pytest.mark.parametrize(("ws", "says"), [(WS.expand(2, -1, -1), "2 latent codes"), (WS * torch.nan, "not finite")])
def test_a_latent_that_cannot_be_dragged_is_named(ws, says):
    with pytest.raises(LatentError, match=says):
        Drag(bump(), ws, [(1, 1)], [(2, 2)])


def test_an_unknown_level_is_named():
    with pytest.raises(LatentError, match="b7"):
        Drag(bump(), WS, [(1, 1)], [(2, 2)], config=DragConfig(level="b7"))


def test_directions_are_unit_vectors_and_zero_on_the_target():
    d, distances = directions(torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.tensor([[3.0, 4.0], [5.0, 5.0]]))
    assert torch.allclose(d, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert distances.tolist() == [5, 0]


def test_motion_supervision_is_the_sum_over_points_of_mean_absolute_differences():
    G = bump()
    features, grid = G.features(WS, "map"), G.grid("map")
    handles, d = torch.tensor([[20.0, 22.0], [30.0, 30.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    patch = disc_offsets(3)
    expected = 0.0
    for p, v in zip(handles, d, strict=True):
        q = p + patch
        expected += (sample(features, grid, q) - sample(features, grid, q + v)).abs().mean()
    sampler = partial(sample, features, grid)
    got = motion_supervision_loss(sampler, handles, d, torch.tensor([True, True]), patch, (64, 64))
    assert torch.allclose(got, torch.as_tensor(expected))


def test_motion_supervision_leaves_the_rest_position_without_gradient():
    features = torch.randn(1, 3, 32, 32, requires_grad=True)
    grid = bump().grid("map")
    handles, d, pulled = torch.tensor([[20.5, 20.5]]), torch.tensor([[8.0, 0.0]]), torch.tensor([True])
    motion_supervision_loss(partial(sample, features, grid), handles, d, pulled, disc_offsets(2), (64, 64)).backward()
    touched = features.grad[0].abs().sum(0).nonzero()
    # Handle at cell column 10, pulled 4 cells to the right: only columns around 14 may have a gradient.
    assert touched[:, 1].min() >= 13


def test_mask_loss_is_the_mean_over_the_whole_map_of_the_fixed_change():
    a, b = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    fixed = torch.zeros(1, 1, 4, 4)
    fixed[:, :, 0] = 1
    assert mask_loss(a, b, fixed) == 0.25


def _masked_drag(hold: str, **more) -> tuple[Drag, np.ndarray, torch.Tensor]:
    G = tiny_stylegan2(64)
    mask = np.zeros((64, 64), bool)
    mask[10:40, 10:40] = True
    ws = G.sample(3)
    config = DragConfig(solver="adam", step_size=0.1, max_steps=4, mask_hold=hold, precision="float32")
    return Drag(G, ws, [(20, 20)], [(24, 20)], mask, config, **more), mask, G.synthesis(ws)


@pytest.mark.parametrize("hold", ["exact", "soft"])
def test_a_steps_picture_outside_a_mask_is_the_first_one_to_the_last_bit_unless_soft(hold: str):
    drag, mask, first = _masked_drag(hold)
    last = run(drag)[-1]
    picture, outside = drag.picture(last), torch.from_numpy(~mask)
    assert torch.equal(picture[:, :, outside], first[:, :, outside]) == (hold == "exact")
    assert not torch.equal(picture, first)
    assert torch.equal(picture, drag.generator.synthesis(last.ws)) == (hold == "soft")


def test_a_drag_looks_at_the_picture_that_is_shown():
    drag, mask, _ = _masked_drag("exact")
    G, level = drag.generator, drag.level
    ws, other = G.sample(3), G.sample(4)
    shown = Picture(ws=other, mask=mask, base=Picture(ws=ws))
    points = torch.tensor([[12.0, 12.0], [38.0, 30.0], [25.0, 25.0]])
    got = drag.problem.around(other.unbind(1), points, 3.0)(points[:, None])[:, 0]
    torch.testing.assert_close(got, sample(G.picture_features(shown, level), drag.problem.grid, points))
    # A handle that was clicked in a blended picture is looked for as it was there.
    reference = Reference(handles=torch.tensor([[12.0, 12.0]]), pictures=[shown], mask_picture=shown)
    continued, _, _ = _masked_drag("exact", reference=reference)
    expected = sample(G.picture_features(shown, level), drag.problem.grid, torch.tensor([12.0, 12.0]))
    torch.testing.assert_close(continued.problem.templates[0, 0], expected)
    outside = torch.from_numpy(~mask)
    step = next(continued)
    assert torch.equal(continued.picture(step)[:, :, outside], G.picture(shown)[:, :, outside])
