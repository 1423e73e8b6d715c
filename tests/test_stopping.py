"""When a drag ends and why: the decision alone, and targets that other threads move."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from draggan.config import SOLVER_NAMES, GaussNewtonRules
from draggan.drag import DragStep
from draggan.drag.live import MovingTargets
from draggan.drag.solvers import SOLVERS
from draggan.drag.solvers.trust_region import Region, accepts, initial_region
from draggan.drag.step import Nearest
from draggan.drag.stopping import Findings, Progress, close, decide, told

ON_THE_WAY = Findings(
    pulled=True,
    within_stop_distance=False,
    live=False,
    stopped=False,
    last=False,
    stuck=False,
    converged=True,
    idle_steps=0,
    stall_steps=5,
)
THERE = {"pulled": False, "within_stop_distance": True}


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ({}, None),
        (THERE, "arrived"),
        # Something is left to improve, and there is time for it.
        ({**THERE, "converged": False}, None),
        ({**THERE, "converged": False, "last": True}, "arrived"),
        ({**THERE, "converged": False, "stuck": True}, "arrived"),
        ({**THERE, "converged": False, "live": True}, "arrived"),
        # Where it is there, but not for certain, however it ends.
        ({**THERE, "lost": True}, "lost"),
        ({**THERE, "lost": True, "converged": False}, "lost"),
        ({"within_stop_distance": True, "lost": True, "stopped": True, "last": True}, "lost"),
        # Before all else.
        ({"gone": "lost"}, "lost"),
        ({**THERE, "gone": "unlikely", "stopped": True}, "unlikely"),
        ({**THERE, "converged": False, "stopped": True}, None),
        ({"stopped": True, "last": True}, "stopped"),
        ({"last": True}, "max_steps"),
        ({"last": True, "stuck": True}, "max_steps"),
        ({"stuck": True}, "stalled"),
        ({"idle_steps": 4}, None),
        ({"idle_steps": 5}, "stalled"),
        # A pointer is followed more closely than a drag has to end.
        ({"within_stop_distance": True, "live": True}, None),
        ({"within_stop_distance": True, "stuck": True}, "arrived"),
        ({"within_stop_distance": True, "stopped": True, "last": True}, "arrived"),
        # Nearer than this nobody could tell where it is.
        ({"close": True}, None),
        ({"close": True, "stuck": True}, "arrived"),
        ({"close": True, "stuck": True, "refusal": "unlikely"}, "arrived"),
        ({"close": True, "idle_steps": 5}, "arrived"),
        ({"close": True, "last": True}, "arrived"),
        ({"close": True, "stopped": True, "last": True}, "stopped"),
        ({"close": True, "stuck": True, "live": True}, "stalled"),
        ({"close": True, "stuck": True, "lost": True}, "stalled"),
        ({"stuck": True, "refusal": "lost"}, "lost"),
    ],
)
def test_why_a_drag_ends(found, outcome):
    assert decide(replace(ON_THE_WAY, **found)) == outcome


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "goes on"),
        (
            {"stuck": True, "refusal": "lost", "idle_steps": 2, "stall_steps": 2},
            "no step leads nearer without losing the content; no progress for 2 of 2 steps; ends as lost",
        ),
        ({"stuck": True, "live": True}, "no step leads nearer; rests as stalled"),
        ({"within_stop_distance": True}, "within the stop distance, to come nearer yet; goes on"),
        ({**THERE, "lost": True}, "within the stop distance; the content is not certain to be there; ends as lost"),
        (
            {**THERE, "converged": False},
            "within the stop distance; what changed outside the mask can still be made up for; goes on",
        ),
        ({"last": True}, "the step limit is reached; ends as max_steps"),
        ({"last": True, "stopped": True}, "told to stop; ends as stopped"),
        ({"close": True, "last": True}, "as near as anybody could tell; the step limit is reached; ends as arrived"),
        (
            {"gone": "unlikely"},
            "this step cannot be taken without a picture unlike any that the model makes; ends as unlikely",
        ),
    ],
)
def test_why_a_drag_ends_is_told_in_words(found, said):
    findings = replace(ON_THE_WAY, **found)
    assert told(findings, decide(findings)) == said


def test_how_close_is_as_good_as_there():
    """Where content is followed, as exactly as anybody could tell; else by stop distances."""
    distances, few = torch.tensor([1.9, 0.2, 0.2]), torch.tensor([1.9, 0.2])
    assert close(distances, 1.0, (128, 128), follows=True)
    assert not close(distances, 1.0, (128, 128), follows=False)
    assert not close(distances + 0.2, 1.0, (128, 128), follows=True)
    # One or two that nothing else holds are to be nearer.
    for n in (1, 2):
        assert not close(few[:n], 1.0, (128, 128), follows=True)
        assert close(few[:n], 1.0, (128, 128), follows=True, masked=True)
        assert close(few[:n] / 2, 1.0, (128, 128), follows=True)
    assert close(torch.tensor([1.4]), 1.0, (128, 128), follows=False)
    # In pictures of few pixels a stop distance is more.
    assert close(torch.tensor([1.4] * 3), 1.0, (32, 32), follows=True)


def test_progress_is_less_distance_by_enough():
    progress = Progress().after(0, 10.0, 1.0)
    assert progress == Progress(0, 10.0)
    assert progress.after(1, 9.5, 1.0) is progress
    assert progress.after(2, 9.0, 1.0) == Progress(2, 9.0)
    # None at all is none even if any counts.
    assert progress.after(3, 10.0, 0.0) is progress
    assert progress.after(4, float("nan"), 1.0) is progress


def step(index, x, target=10.0, ws=0.0):
    at, goal = np.array([[x, 0.0]]), np.array([[target, 0.0]])
    return DragStep(
        index=index,
        ws=torch.full((1, 2, 2), ws),
        handles=at,
        targets=goal,
        distances=np.linalg.norm(goal - at, axis=1),
        loss=1.0,
        start=np.zeros((1, 2)),
        lost=np.zeros(1, bool),
    )


def test_a_drag_that_went_wrong_ends_with_the_step_nearest_to_its_targets():
    steps = [step(0, 0.0), step(1, 8.0), step(2, 4.0)]
    nearest = Nearest()
    for one in steps:
        nearest = nearest.including(one)
    for outcome in ("max_steps", "stalled", "diverged"):
        last = nearest.last_step(steps[2], outcome)
        assert (last.index, last.done, last.outcome, last.loss) == (2, True, outcome, 0.0)
        assert last.handles[0, 0] == 8
    for outcome in ("arrived", "stopped"):
        assert nearest.last_step(steps[2], outcome).handles[0, 0] == 4
    # A latent that is not finite is never the result, whatever is said of where its handles are.
    assert nearest.last_step(step(3, 10.0, ws=float("nan")), "arrived").handles[0, 0] == 8
    assert Nearest().last_step(steps[0], "stopped").handles[0, 0] == 0
    # Nothing true can be said of this one.
    assert nearest.last_step(step(3, 9.5), "lost", untrusted=True).handles[0, 0] == 8


def test_how_much_of_the_way_a_step_has_gone():
    assert step(0, 0.0).way == 0
    assert step(1, 7.5).way == pytest.approx(0.75)
    assert step(1, -5.0).way == pytest.approx(-0.5)
    assert step(1, 0.0, target=0.0).way == 1


def test_for_other_targets_the_first_step_may_be_the_nearest():
    nearest = Nearest().including(step(0, 0.0)).including(step(1, 8.0))
    aimed = nearest.measured_against(torch.tensor([[-1.0, 0.0]]))
    assert aimed.best.index == 0
    assert aimed.best.distances.tolist() == [1]


def test_targets_wake_a_drag_only_if_a_handle_is_to_go_farther_than_near():
    at = torch.tensor([[5.0, 5.0]])
    moving = MovingTargets(at, near=1.0, live=True)
    assert not moving.would_sleep(at)  # it has not looked at them yet
    moving.idle = True
    assert moving.would_sleep(at)
    moving.retarget(at + 0.5)
    assert moving.would_sleep(at)
    moving.retarget(at + 3)
    moving.retarget(at + 4)
    assert not moving.would_sleep(at)
    targets, live = moving.newest(at)
    assert live
    assert targets.tolist() == [[9, 9]]
    assert moving.newest(at)[0] is targets


@pytest.mark.parametrize("end", ["settle", "stop"])
def test_a_drag_that_sleeps_is_woken_by_its_end(end):
    at = torch.tensor([[5.0, 5.0]])
    moving = MovingTargets(at, near=1.0, live=True)
    moving.idle = True
    found = []
    thread = threading.Thread(target=lambda: found.append(moving.newest(at)), daemon=True)
    thread.start()
    getattr(moving, end)()
    thread.join(10)
    assert [live for _, live in found] == [False]
    assert moving.stopped == (end == "stop")


def test_the_region_shrinks_with_failure_and_grows_with_success():
    rules, widest = GaussNewtonRules(), 16.0
    first = initial_region(rules, widest)
    assert first == Region(16.0, rules.min_damping)
    failed = first.shrunk(rules, asked=8.0)
    # From what was asked, if that was less than what was allowed.
    assert failed == Region(rules.shrink * 8.0, rules.min_damping * rules.damping_increase)
    assert failed.expanded(rules, rules.widen, widest).radius == 8.0
    assert failed.expanded(rules, rules.widen, 4.0) == Region(4.0, failed.damping * rules.damping_decrease)
    tiny = Region(1e-3, 10.0).reopened(rules, near=1.0)
    assert tiny == Region(rules.shrink, rules.max_initial_damping)
    assert accepts(rules, gain=0.2, promised=1.0)
    assert not accepts(rules, gain=0.05, promised=1.0)


def test_every_solver_of_the_settings_is_there():
    assert set(SOLVERS) == set(SOLVER_NAMES)
