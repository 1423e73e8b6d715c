"""What the page says."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from draggan.drag import Outcome
from draggan.drag.stopping import RESTS
from draggan.engine.base import Update
from draggan.ui import messages
from tests.updates import an_update


def step(outcome: str | None, *, distances: tuple[float, ...] = (3.14,), lost=(), **more) -> Update:
    usual = {"index": 42, "seconds": 0.0, "way": 0.0, "contrast": 1.0, "ws": np.zeros((1, 2, 2), np.float32)}
    return an_update(outcome, distances=distances, lost=lost, **(usual | more))


@pytest.mark.parametrize(
    ("seconds", "distances", "text"),
    [
        (8.0, (3.14,), "Step 42 · 3.1 px to go · 5.2 steps/s"),
        (0.5, (3.14,), "Step 42 · 3.1 px to go · 84 steps/s"),
        (100.0, (3.14, 9.96), "Step 42 · 10.0 px to go (point 2) · 0.42 steps/s"),
    ],
)
def test_progress(seconds, distances, text):
    assert messages.drag_progress(step(None, distances=distances), seconds) == text


@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        (step("arrived", distances=(0.7,)), "good", "Arrived after 42 steps: the point is within 1 px of its target."),
        (
            step("arrived", distances=(12.1,)),
            "good",
            "Arrived after 42 steps: the point is within 13 px of its target.",
        ),
        (
            step("arrived", distances=(3.62,)),
            "good",
            "Arrived after 42 steps: the point is within 3.7 px of its target.",
        ),
        (step("arrived", distances=(0.7, 0.2)), "good", "every point is within 1 px"),
        (step("arrived"), "good", "If too much else has changed, undo it and paint a mask."),
        (step("arrived", index=0), "note", "already on its target"),
        (step("arrived", distances=(0.7,), contrast=0.7), "note", "but the picture has lost much of its detail"),
        (step("stopped", index=1), "note", "Stopped after 1 step, 3.1 px to go. Press Start to continue; Undo"),
        (step("max_steps"), "note", "Stopped at the limit of 42 steps"),
        (step("max_steps"), "note", "Undo takes you back"),
        (
            step("stalled"),
            "note",
            "As far as it goes: this model makes no picture nearer to that. It has gone 0 % of the",
        ),
        (step("stalled"), "note", "0 % of the way, 3.1 px to go"),
        (step("unlikely"), "note", "unlike any that this model makes"),
        (step("unlikely"), "note", "raise “Furthest change” under Expert"),
        (
            step("lost", way=0.2),
            "note",
            "what is under the point could no longer be followed. It has gone 20 % of the way, 3.1 px to go. Try",
        ),
        (step("lost"), "note", "such as an eye or an edge. Undo takes you back."),
        (step("stalled", distances=(0.2, 4.2)), "note", "of the way, 1 of 2 points there, 4.2 px to go (point 2)"),
        (
            step("lost", distances=(0.2, 0.4, 0.5), lost=(False, True, False)),
            "note",
            "2 of 3 points arrived after 42 steps; point 2 looks too different now to be sure. Keep the picture",
        ),
        (
            step("lost", distances=(0.2, 0.4), lost=(True, True)),
            "note",
            "The points may have arrived after 42 steps, but they look too different now to be sure. Keep the picture",
        ),
        (
            step("lost", distances=(0.2, 0.4), lost=(True, True), stretched=True),
            "note",
            "arrived after 42 steps, but the picture may only have been stretched or squeezed there. Keep",
        ),
        (
            step("lost", distances=(0.2, 0.4), lost=(False, True), stretched=True),
            "note",
            "1 of 2 points arrived after 42 steps; at point 2 the picture may only have been stretched or squeezed.",
        ),
        (step("stalled"), "note", "Undo takes you back"),
        (step("diverged"), "bad", "Undo takes you back"),
        (step("diverged"), "bad", "smaller step size"),
    ],
)
def test_every_end_has_its_sentence(session, last, kind, words):
    said = messages.drag_outcome(last, session)
    assert said[0] == kind
    assert words in said[1]


def test_where_there_is_nothing_to_hold_on_to_that_is_said_and_no_way_back_is_promised_from_the_same_picture(session):
    said = "There is little to hold on to there. Choose something that stands out, such as an eye or an edge."
    assert messages.drag_outcome(step("lost"), session, moved=False) == ("note", said)
    assert messages.live_outcome(step("lost"), moved=False) == ("note", said)
    assert messages.live_outcome(step("lost"))[1] == f"{said} Undo takes you back."
    assert "followed" in messages.drag_outcome(step("lost", distances=(3.0, 4.0)), session)[1]


def test_no_two_outcomes_share_a_sentence(session):
    ends = {outcome: messages.drag_outcome(step(outcome), session)[1] for outcome in get_args(Outcome)}
    assert len(set(ends.values())) == len(ends)
    pulls = {outcome: messages.live_outcome(step(outcome))[1] for outcome in get_args(Outcome)}
    assert len(set(pulls.values())) == len(pulls)
    rests = {reason: messages.live_rest(replace(step(None), rests=reason)) for reason in RESTS if reason != "arrived"}
    assert len(set(rests.values())) == len(rests)


def test_an_outcome_that_nobody_knows_is_an_error_and_not_some_other_sentence(session):
    unknown = step("stalled")
    object.__setattr__(unknown, "outcome", "melted")
    for say in (messages.live_outcome, lambda update: messages.drag_outcome(update, session)):
        with pytest.raises(AssertionError, match="melted"):
            say(unknown)


@pytest.mark.parametrize(
    ("last", "unsure"),
    [
        (step("lost", distances=(0.2, 0.4), lost=(False, True)), True),
        (step("lost", distances=(0.2, 1.4), lost=(False, True)), False),
        (step("lost", distances=(0.2, 0.4)), False),
        (step("stopped", distances=(0.2, 0.4), lost=(False, True)), False),
    ],
)
def test_a_drag_may_have_arrived_where_all_points_are_there_and_some_are_not_certain(session, last, unsure):
    assert last.unsure == unsure
    assert ("to be sure" in messages.drag_outcome(last, session)[1]) == unsure
    assert ("to be sure" in messages.live_outcome(last)[1]) == unsure


@pytest.mark.parametrize(("way", "words"), [(0.574, "57 %"), (-0.3, "0 %"), (1.2, "100 %")])
def test_people_are_told_of_a_share_of_the_way_from_none_to_all_of_it(session, way, words):
    assert f"gone {words} of the way" in messages.drag_outcome(replace(step("stalled"), way=way), session)[1]


def test_of_a_drag_that_goes_on_the_way_is_what_was_left(session):
    ended = session.with_points([((10, 10), (40, 10))])
    for left in ("0 % of the way, 3.1 px to go", "0 % of the way that was left, 3.1 px to go"):
        ended = ended.dragged(ended.recipe.then(ended.edit(), ended.ws), np.array([[20.0, 10.0]], np.float32))
        assert left in messages.drag_outcome(step("stalled"), ended)[1]
    fresh = ended.with_points([((30, 30), (40, 30))])
    fresh = fresh.dragged(fresh.recipe.then(fresh.edit(), fresh.ws), np.array([[31.0, 30.0]], np.float32))
    assert "0 % of the way, 3.1" in messages.drag_outcome(step("stalled"), fresh)[1]


def test_what_a_mask_keeps_from_moving_is_said_before_and_after(session):
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    fine = session.set_mask(mask).with_points([((10, 10), (20, 10))])
    assert messages.hint(fine).endswith("Press Start, or click to add another. Only the bright region may change.")
    ends = [((40, 10), (50, 10)), ((10, 10), (20, 10)), ((10, 20), (40, 20))]
    held = fine.with_points(ends)
    said = "Points 1 and 3 start or end outside the bright region, where nothing can change. Paint there too."
    assert messages.hint(held).endswith(said)
    assert messages.hints(held)["mask"].startswith(said)
    assert messages.drag_outcome(step("unlikely"), held)[1] == f"It has gone 0 % of the way, 3.1 px to go. {said}"
    # What is switched off or held has nowhere to go; and without exactness all may change a little.
    alone = held.with_points([ends[0], ((50, 50), (50, 50)), ends[1]], off=[0])
    for free in (alone, held.set_settings({"mask_hold": "soft"})):
        assert "Only the bright region may change." in messages.hint(free)


def test_advice_fits_what_is_set(session):
    masked = session.set_mask(np.eye(64, dtype=bool)).set_space("w")
    assert "larger painted region" in messages.drag_outcome(step("stalled"), masked)[1]
    assert "or “Local”." in messages.drag_outcome(step("stalled"), masked)[1]
    assert "painted" not in messages.drag_outcome(step("stalled"), session)[1]
