"""Many handles: where their content is, looked for once more at the end."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from draggan import Drag, DragConfig
from draggan.drag import drag as drag_module
from draggan.drag import line, second_look
from draggan.drag.continuity import Lengths
from draggan.drag.crowd import CrowdTracker
from draggan.drag.line import Line, LineTracker
from draggan.drag.prepare import Reference
from draggan.drag.problem import Problem
from draggan.drag.second_look import SecondLookTracker
from draggan.drag.step import FADED
from draggan.drag.stopping import decide
from draggan.generators.blending import Picture
from tests.toys import BumpGenerator

WS = torch.zeros(1, 8, 6)
START = [(16.0, 16.0), (44.0, 20.0), (30.0, 46.0)]
NEAR = [(28.0, 28.0), (28.0, 36.0)]


def drag(generator, targets, **settings):
    config = DragConfig(solver="gauss-newton", **({"max_departure": 100.0} | settings))
    return Drag(generator.freeze(), WS, START, targets, config=config)


def begun(handles, bumps=None):
    """A drag of handles that are on their targets; its tracker, what that says of the first picture, and its shift."""
    generator = BumpGenerator(bumps or handles).freeze()
    ws = torch.zeros(1, 8, 2 * len(bumps or handles))
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    running = Drag(generator, ws, handles, handles, config=config)
    tracker, shift = running._solver.tracker, torch.zeros(1, running.problem.shift_rows, ws.shape[2])
    sampler = running.problem.anywhere(generator.features(ws, "map"))
    return running, tracker, tracker.begin(running.problem.handles, shift, sampler), shift


def where(generator, last):
    return generator.centres(last.ws)[0].numpy()


@pytest.mark.parametrize(("handles", "asked"), [(START[:1], True), (START[:2], True), (START, False)])
@pytest.mark.parametrize("contrast", [FADED - 0.01, FADED])
def test_nothing_is_claimed_of_one_or_two_handles_in_a_picture_that_has_faded(monkeypatch, handles, asked, contrast):
    monkeypatch.setattr(Problem, "contrast", lambda self, shift: contrast)
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    ways = np.array([(2.0, 1.0), (1.0, 2.0), (-1.0, 1.0)])[: len(handles)]
    *_, last = Drag(BumpGenerator(START).freeze(), WS, handles, np.array(handles) + ways, config=config)
    doubted = asked and contrast < FADED
    assert last.outcome == ("lost" if doubted else "arrived")
    assert last.lost.tolist() == [doubted] * len(handles)
    assert last.contrast == contrast


def test_a_place_that_the_second_look_has_moved_onto_its_target_is_judged_like_others(monkeypatch):
    """The drag ends there without another step, so that look has the last word."""
    monkeypatch.setattr(Problem, "contrast", lambda self, shift: 0.0)
    running, _, first, _ = begun(START[:2])
    away = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    running._here = replace(
        running._solver.initial(running.problem.handles), tracked=replace(first, handles=first.handles + away)
    )
    findings = running._findings(drag_module.Move(running._here), 6, live=False, last=False, stopped=False)
    after, there = running._look_again(findings, running._here, stays=False)
    assert (there.tracked.handles - first.handles).norm() < 0.5
    assert decide(after) == "lost"
    assert there.tracked.lost.all()


def test_many_handles_are_followed_to_their_targets():
    generator = BumpGenerator(START)
    targets = [(24.0, 20.0), (40.0, 28.0), (26.0, 40.0)]
    *_, last = drag(generator, targets)
    assert last.outcome == "arrived"
    assert not last.lost.any()
    assert np.abs(where(generator, last) - last.handles).max() < 0.5


@pytest.mark.parametrize("whole", [True, False], ids=["whole maps", "windows"])
def test_where_content_is_is_a_matter_of_the_latent_alone(monkeypatch, whole):
    """Whatever the steps have said of it."""
    monkeypatch.setattr(line, "WHOLE", 64 * 64 if whole else 0)
    generator = BumpGenerator(START)
    running = drag(generator, START)
    tracker = running._solver.tracker
    assert isinstance(tracker, LineTracker)
    shift = torch.zeros(1, running.problem.shift_rows, 6)
    first = tracker.begin(running.problem.handles, shift, running.problem.anywhere(generator.features(WS, "map")))
    moved = shift + torch.tensor([0.06, 0.03, -0.04, 0.05, 0.03, -0.05])
    astray = replace(first, handles=first.handles + 9)
    found = tracker.confirm(astray, moved, final=False)
    expected = generator.centres(WS + torch.cat([moved, torch.zeros(1, 2, 6)], 1))[0]
    assert (found.handles - expected).norm(dim=-1).max() < 0.5
    assert not found.lost.any()
    followed = tracker.follow(first, moved, pytest.fail, expected)
    assert (followed.handles - expected).norm(dim=-1).max() < 0.5


def test_one_of_many_that_did_not_arrive_is_not_claimed():
    """The first bump goes 6 px and no farther. One like it lies where it should go; the others are there."""
    targets = [(30.0, 16.0), (46.0, 23.0), (32.0, 43.0)]
    claims = {}
    for tracker in ("template", "continuity"):
        generator = BumpGenerator(START, limit=6.0, decoys=[targets[0]])
        generator.radius = 2.5
        *_, last = drag(generator, targets, tracker=tracker, trust_radius=16.0)
        claims[tracker] = last.outcome == "arrived"
        if tracker == "continuity":
            assert np.linalg.norm(where(generator, last)[0] - last.handles[0]) < 1 or last.lost[0]
    assert not claims["continuity"]


def test_content_that_is_hidden_in_the_end_is_not_claimed():
    generator = BumpGenerator(START, curtain=52.0)
    *_, last = drag(generator, [(16.0, 20.0), (60.0, 20.0), (30.0, 50.0)])
    assert last.outcome != "arrived"


@pytest.mark.parametrize("levels", [("map",), ("map", "fine")], ids=["one level", "a finer one"])
def test_of_one_handle_nothing_is_claimed_where_the_line_does_not_lead(monkeypatch, levels):
    """A drag that may go on goes on from where it leads."""
    generator = BumpGenerator(START)
    generator.levels = levels
    running = Drag(
        generator.freeze(), WS, START[:1], START[:1], config=DragConfig(solver="gauss-newton", max_departure=100.0)
    )
    assert (running.problem.level, running.problem.second_level) == (levels[0], levels[-1])
    tracker = running._solver.tracker
    assert isinstance(tracker, SecondLookTracker)
    shift = torch.zeros(1, running.problem.shift_rows, 6)
    first = tracker.begin(running.problem.handles, shift, running.problem.anywhere(generator.features(WS, "map")))
    moved = shift + torch.tensor([0.06, 0.03, 0.0, 0.0, 0.0, 0.0])
    there = generator.centres(WS + torch.cat([moved, torch.zeros(1, 2, 6)], 1))[0][:1]
    right = replace(first, handles=there, shift=moved)
    assert tracker.confirm(right, moved, final=True) is right
    assert tracker.confirm(right, moved, final=False) is right
    astray = replace(right, handles=there + 6)
    in_the_end = tracker.confirm(astray, moved, final=True)
    assert in_the_end.lost.all()
    assert (in_the_end.handles == astray.handles).all()
    led = tracker.confirm(astray, moved, final=False)
    assert led.corrected.item() == pytest.approx(72**0.5, abs=0.5)
    assert not led.lost.any()
    assert (led.handles - there).norm() < 0.5
    # Of what hardly resembles the start, nothing is known, nor where it has led to another place before.
    monkeypatch.setattr(second_look, "LEAST_SIMILAR", 1.1)
    assert tracker.confirm(right, moved, final=False).lost.all()
    monkeypatch.undo()
    again = tracker.confirm(replace(led, handles=there + 6), moved, final=False)
    assert again.lost.all()
    assert (again.handles == there + 6).all()


def test_what_the_line_leads_elsewhere_is_followed_once_more_in_shorter_pieces(monkeypatch):
    """And what it leads there is not."""
    _, tracker, first, shift = begun(START[:1], START)
    goal = first.handles + torch.tensor([12.0, 0.0])
    pieces, along = [], Line.along

    def counted(self, start, before, shift, number, *more):
        pieces.append(number)
        return along(self, start, before, shift, number, *more)

    monkeypatch.setattr(Line, "along", counted)
    lengths = tracker._line.lengths
    expected = [math.ceil(12 / lengths.piece), math.ceil(12 / lengths.short_piece)]
    places, _ = tracker._line.leads(shift, goal, 13.0)
    assert pieces == expected[:1]
    again, _ = tracker._line.leads(shift, goal, 1.0)
    assert pieces[1:] == expected
    assert expected[0] < expected[1]
    # Nothing has moved, whatever was expected.
    assert (places - first.handles).norm() < 0.5
    assert (again - first.handles).norm() < 0.5


@pytest.mark.parametrize(("off", "similar", "claimed"), [(8, 0.9, False), (8, 0.7, True), (1, 0.9, True)])
def test_of_two_handles_nothing_is_claimed_that_what_lies_between_them_contradicts(monkeypatch, off, similar, claimed):
    """Unless it looks different now, as what shows between lips does."""
    running, tracker, first, shift = begun(NEAR)
    leads = Line.leads

    def told(self, *args):
        places, alike = leads(self, *args)
        inner = bool((self._pattern.weights == running.problem.second_pattern.between.weights).all())
        return (places + torch.tensor([off, 0.0]), alike * 0 + similar) if inner else (places, alike)

    monkeypatch.setattr(Line, "leads", told)
    found = tracker.confirm(first, shift, final=False)
    assert found.lost.any() != claimed
    assert (found.handles == first.handles).all()


@pytest.mark.parametrize(
    ("handles", "most"),
    [
        ([(32.0, 26.5), (32.0, 37.5)], second_look.CHANGED_AT_MOST),
        # Also where the second look's own surroundings are too small to overlap.
        ([(32.0, 25.5), (32.0, 38.5)], second_look.CHANGED_AT_MOST),
        ([(32.0, 22.0), (32.0, 42.0)], Lengths.surely_largest),
        ([(32.0, 32.0)], Lengths.surely_largest),
    ],
    ids=["two by half", "two by half, far", "two", "one"],
)
def test_what_is_claimed_may_not_have_changed_beyond_all_measure(handles, most):
    """Of two that are known by half the steps leave that to the second look."""
    running, tracker, first, shift = begun(handles, [(32.0, 22.0), (32.0, 42.0)] if len(handles) == 1 else None)
    assert tracker._changed_at_most == running.problem.pixels(most)
    for more, claimed in ((-1, True), (1, False)):
        other = replace(first, displacement=torch.full_like(first.displacement, running.problem.pixels(most + more)))
        assert tracker.confirm(other, shift, final=True).lost.tolist() == [not claimed] * len(handles)


def parted(handles, by, changed):
    """Two handles that have moved by so much each, looked for once more; their content has changed by so much each."""
    running, tracker, first, shift = begun(handles)
    moved = shift + torch.tensor(by, dtype=torch.float32).flatten() / running.problem.generator.gain
    ws = WS[..., : shift.shape[2]] + torch.cat([moved, torch.zeros(1, 8 - moved.shape[1], moved.shape[2])], 1)
    there = running.problem.generator.centres(ws)[0]
    found = replace(first, handles=there, shift=moved, displacement=torch.tensor(changed))
    return tracker.confirm(found, moved, final=True)


@pytest.mark.parametrize(
    ("by", "changed", "lost"),
    [
        ([(-2.0, 0.0), (2.0, 0.0)], (1.9, 2.1), [False, True]),
        ([(2.0, 0.0), (-2.0, 0.0)], (1.9, 2.1), [False, True]),
        ([(0.0, -2.0), (0.0, 2.0)], (2.1, 1.9), [True, False]),
        ([(-2.0, 0.0), (2.0, 0.0)], (9.9, 2.1), [True, True]),
        ([(-1.5, 0.0), (1.5, 0.0)], (1.9, 2.1), [False, False]),
        ([(2.0, 0.0), (2.0, 0.0)], (1.9, 2.1), [False, False]),
    ],
    ids=["apart", "together", "turned", "one lost in any case", "hardly", "alike"],
)
def test_of_two_between_which_a_picture_was_stretched_less_may_have_changed(by, changed, lost):
    """Here less than 2 px: 0.07 of the distance between them."""
    assert parted([(18.0, 32.0), (46.0, 32.0)], by, changed).lost.tolist() == lost


@pytest.mark.parametrize(("apart", "stretched"), [(2.0, True), (1.0, False)])
def test_a_drag_that_may_have_arrived_says_whether_the_picture_may_only_have_been_stretched(
    monkeypatch, apart, stretched
):
    monkeypatch.setattr(second_look, "CHANGED_AT_MOST_STRETCHED", -1.0)
    monkeypatch.setattr(second_look, "CHANGED_SHARE_STRETCHED", -1.0)
    handles = [(18.0, 32.0), (46.0, 32.0)]
    targets = [(18.0 - apart, 32.0), (46.0 + apart, 32.0)]
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    *_, last = Drag(BumpGenerator(handles).freeze(), WS[..., :4], handles, targets, config=config)
    assert (last.outcome, last.stretched) == (("lost", True) if stretched else ("arrived", False))
    assert last.lost.tolist() == [stretched] * 2


@pytest.mark.parametrize(("second", "lost"), [(0, [True, True]), (1, [False, False])], ids=["together", "one later"])
def test_a_pull_that_goes_on_is_measured_from_where_both_handles_were_clicked_in_one_picture(second, lost):
    """The first has been pulled by 6 px before. Where the second was then, nobody knows if it was clicked later."""
    generator = BumpGenerator([(18.0, 32.0), (46.0, 32.0)]).freeze()
    ws = WS[..., :4]
    here = ws + torch.tensor([6.0, 0.0, 0.0, 0.0]) / generator.gain
    pictures = [Picture(ws=ws), Picture(ws=(ws, here)[second])]
    now = [(24.0, 32.0), (46.0, 32.0)]
    reference = Reference(handles=torch.tensor([(18.0, 32.0), (46.0, 32.0)]), pictures=pictures)
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    running = Drag(generator, here, now, now, config=config, reference=reference)
    shift = torch.zeros(1, running.problem.shift_rows, 4)
    tracker, sampler = running._solver.tracker, running.problem.anywhere(generator.features(here, "map"))
    first = tracker.begin(running.problem.handles, shift, sampler)
    found = replace(first, displacement=torch.full_like(first.displacement, 2.1))
    assert tracker.confirm(found, shift, final=True).lost.tolist() == lost


@pytest.mark.parametrize(
    ("ways", "similar", "claimed"),
    [
        ((-2.0, 2.0), (0.8, 0.8), False),
        ((-2.0, 2.0), (0.8, 0.7), False),
        ((-2.0, 2.0), (0.7, 0.7), True),
        ((-0.5, 3.5), (0.8, 0.7), True),
        ((-0.5, 3.5), (0.7, 0.8), False),
    ],
)
def test_two_between_which_something_else_shows_now_were_not_stretched(monkeypatch, ways, similar, claimed):
    """As between lips that open. Beside one that stays all looks as it did."""

    def told(self, shift, expected, near):
        between = self._problem.second_pattern.between
        inner = bool((self._pattern.weights == between.weights).all())
        return expected, torch.tensor(similar) if inner else torch.ones(2)

    monkeypatch.setattr(Line, "leads", told)
    assert parted(NEAR, [(0.0, way) for way in ways], (1.9, 1.9)).lost.tolist() == [not claimed] * 2


@pytest.mark.parametrize("handles", [START[:1], START[:2], NEAR], ids=["one", "two that share nothing", "two by half"])
@pytest.mark.parametrize(("led", "claimed"), [(15.0, True), (17.0, False)])
def test_a_second_look_may_not_have_led_too_far_before(handles, led, claimed):
    running, tracker, first, shift = begun(handles, START if len(handles) == 1 else None)
    moved = replace(first, corrected=torch.full_like(first.corrected, running.problem.pixels(led)))
    assert tracker.confirm(moved, shift, final=True).lost.tolist() == [not claimed] * len(handles)


@pytest.mark.parametrize(("solver", "off"), [("gauss-newton", 0.8), ("gauss-newton", 2.0), ("adam", 0.8)])
def test_a_drag_whose_content_is_elsewhere_goes_on_from_there(monkeypatch, solver, off):
    """What the steps say is off either way, as the features that they follow may be; the second look is not.

    Where they were far off, nothing is claimed all the same.
    """
    generator = BumpGenerator(START).freeze()
    target = (26.0, 18.0)
    follow = SecondLookTracker.follow

    def biased(self, before, *rest):
        found = follow(self, before, *rest)
        return found if before.corrected.any() else replace(found, handles=found.handles + off)

    monkeypatch.setattr(SecondLookTracker, "follow", biased)
    config = DragConfig(solver=solver, tracker="continuity", max_departure=100.0, step_size=5e-3)
    running = Drag(generator, WS, START[:1], [target], config=config)
    *_, last = running
    assert last.outcome == ("arrived" if off < 1 else "lost")
    assert running.state().corrections < drag_module.CORRECTIONS_OF_ONE
    assert np.linalg.norm(generator.centres(last.ws)[0, 0].numpy() - target) < 1.1


@pytest.mark.parametrize(
    ("target", "settings", "steps", "least"),
    [
        ((22.0, 16.0), {}, 2, 5.0),
        ((18.0, 16.0), {}, 6, 1.0),
        ((22.0, 16.0), {"stall_steps": 600}, 20, 5.0),
        ((22.0, 16.0), {"tracker": "template"}, 6, 1.0),
        ((22.0, 16.0), {"trust_radius": 2.0, "stall_progress": 4.0}, 2, 8.0),
    ],
    ids=["far", "near", "as patient as asked for", "not followed", "short steps"],
)
def test_far_from_its_target_a_drag_that_hardly_gets_nearer_ends_sooner(target, settings, steps, least):
    config = DragConfig(solver="gauss-newton", max_departure=100.0, **settings)
    running = Drag(BumpGenerator(START).freeze(), WS, START[:1], [target], config=config)
    here = running._solver.initial(running.problem.handles)
    patience = running._solver.patience(here, torch.tensor([target]))
    assert patience.steps == steps
    assert patience.least == pytest.approx(running.problem.pixels(least))


def test_short_steps_are_not_taken_for_creeping():
    config = DragConfig(solver="gauss-newton", max_departure=100.0, trust_radius=8.0, stall_progress=16.0)
    *_, last = Drag(BumpGenerator(START).freeze(), WS, START[:1], [(30.0, 24.0)], config=config)
    assert last.outcome == "arrived"


def test_many_that_are_a_little_off_in_the_end_are_not_looked_for_again_and_again(monkeypatch):
    looks = []
    confirm = LineTracker.confirm

    def off(self, tracked, shift, *, final):
        looks.append(final)
        found = confirm(self, tracked, shift, final=final)
        return replace(found, handles=found.handles + 2.0)

    monkeypatch.setattr(LineTracker, "confirm", off)
    *_, last = drag(BumpGenerator(START), [(24.0, 20.0), (40.0, 28.0), (26.0, 40.0)])
    assert last.outcome == "stalled"
    assert len(looks) == 1


def test_three_that_adam_follows_are_many():
    config = DragConfig(solver="adam", tracker="continuity")
    running = Drag(BumpGenerator(START).freeze(), WS, START, [(x + 0.9, y) for x, y in START], config=config)
    tracker = running._solver.tracker
    assert isinstance(tracker, SecondLookTracker)
    assert tracker._moved_at_most == running.problem.pixels(second_look.MOVED_AT_MOST)
    assert running._close()
    few = Drag(BumpGenerator(START).freeze(), WS, START[:2], [(x + 1.1, y) for x, y in START[:2]], config=config)
    assert not few._close()


def test_what_only_another_step_needs_goes_with_the_end():
    running = Drag(
        BumpGenerator(START).freeze(), WS, START[:1], [(20.0, 16.0)], config=DragConfig(solver="gauss-newton")
    )
    *_, last = running
    assert last.done
    assert running._here.surroundings._copies is None


def test_why_a_drag_ended_can_be_logged(caplog, monkeypatch):
    """What the second look found, with its limits, and why each step goes on or ends; nothing costs without."""
    told, tell = [], SecondLookTracker._tell
    monkeypatch.setattr(SecondLookTracker, "_tell", lambda self, *args, **more: told.append(tell(self, *args, **more)))
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    for level in (logging.INFO, logging.DEBUG):
        assert not told
        caplog.clear()
        with caplog.at_level(level, logger="draggan.drag"):
            *_, last = Drag(BumpGenerator(START).freeze(), WS, START[:1], [(20.0, 18.0)], config=config)
        assert last.outcome == "arrived"
        assert bool(caplog.records) == (level == logging.DEBUG)
    look = r"second look at point 1: found \d\.\d px from .* \(limit \d+\.\d\), moved 0\.0 px by .*; confirmed"
    assert re.search(look, caplog.text)
    left = last.distances.max()
    assert f"step {last.index}: {left:.1f} px to go; within the stop distance; ends as arrived" in caplog.text
    assert re.search(r"step 0: \d+\.\d px to go, loss [\d.e-]+; goes on", caplog.text)
    assert not re.search(r"Findings|=(True|False)", caplog.text)


CROWD_OF_POINTS = [(x, y) for y in (12.0, 32.0, 52.0) for x in (12.0, 32.0, 52.0)]


def test_a_crowd_goes_by_looks_and_is_confirmed_along_the_line():
    generator, ws = BumpGenerator(CROWD_OF_POINTS).freeze(), torch.zeros(1, 8, 2 * len(CROWD_OF_POINTS))
    targets = np.array(CROWD_OF_POINTS) + np.array([[2.0, 1.0], [-1.0, 2.0], [1.0, -2.0]] * 3)
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    running = Drag(generator, ws, CROWD_OF_POINTS, targets, config=config)
    assert isinstance(running._solver.tracker, CrowdTracker)
    *_, last = running
    assert last.outcome == "arrived"
    assert not last.lost.any()
    assert np.abs(generator.centres(last.ws)[0].numpy() - targets).max() < 1
    # One fewer is followed.
    fewer = Drag(generator, ws, CROWD_OF_POINTS[:7], targets[:7], config=config)
    assert type(fewer._solver.tracker) is LineTracker


def test_of_a_crowd_the_line_is_believed_where_the_match_is_elsewhere():
    _, tracker, first, shift = begun(CROWD_OF_POINTS)
    offs = torch.zeros(len(CROWD_OF_POINTS), 2)
    offs[0, 0], offs[1, 0] = 1.0, 3.0  # image pixels of 64: within and beyond 10 px at 512 px
    said = tracker.confirm(replace(first, handles=first.handles + offs), shift, final=True)
    away = (said.handles - first.handles).norm(dim=-1)
    assert away[0] == pytest.approx(1.0)
    assert away[1:].max() < 0.2


@pytest.mark.parametrize("settings", [{}, {"max_departure": 0.01}])
def test_a_crowd_never_ends_without_that_look(monkeypatch, settings):
    """Nor where it may go no farther."""
    asked, confirm = [], CrowdTracker.confirm

    def counted(self, tracked, shift, *, final):
        asked.append(final)
        return confirm(self, tracked, shift, final=final)

    monkeypatch.setattr(CrowdTracker, "confirm", counted)
    generator, ws = BumpGenerator(CROWD_OF_POINTS).freeze(), torch.zeros(1, 8, 2 * len(CROWD_OF_POINTS))
    targets = np.array(CROWD_OF_POINTS) + np.array([[6.0, 1.0], [-1.0, 5.0], [4.0, -4.0]] * 3)
    *_, last = Drag(generator, ws, CROWD_OF_POINTS, targets, config=DragConfig(solver="gauss-newton", **settings))
    assert last.outcome != "max_steps"
    assert asked == [True]


@pytest.mark.parametrize(("held", "live"), [(True, False), (False, True), (True, True)])
def test_a_crowd_with_a_mask_and_by_hand(held, live):
    generator, ws = BumpGenerator(CROWD_OF_POINTS).freeze(), torch.zeros(1, 8, 2 * len(CROWD_OF_POINTS))
    targets = np.array(CROWD_OF_POINTS) + np.array([[2.0, 1.0], [-1.0, 2.0], [1.0, -2.0]] * 3)
    mask = np.ones((64, 64), bool)
    mask[60:, 60:] = False
    config = DragConfig(solver="gauss-newton", max_departure=100.0)
    running = Drag(generator, ws, CROWD_OF_POINTS, targets, mask if held else None, config, live=live)
    if live:
        for _ in range(30):
            if running.would_sleep():
                break
            next(running)
        running.settle()
    *_, last = running
    assert last.outcome == "arrived"
    assert np.abs(generator.centres(last.ws)[0].numpy() - targets).max() < 1.5
