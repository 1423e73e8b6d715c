"""A drag that Start begins."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch

from draggan.config import Limits
from draggan.drag import Drag
from draggan.engine.local import LocalEngine
from draggan.engine.running_drag import TurnsDrag
from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.handlers import dragging
from draggan.ui.page import Page
from tests.page.driving import (
    DEFAULTS,
    KEY,
    ONE_PAIR,
    Handlers,
    drawn_on,
    far,
    holding,
    last_of,
    picture_of,
    request,
    seeded,
    shown,
    slow,
    text_of,
)
from tests.page.test_messages import step
from tests.pages import BUMP
from tests.sessions import add_pair


def test_a_whole_drag(do, parts, session):
    updates = list(do.start(session, ONE_PAIR, DEFAULTS, request()))
    first, last = updates[0], updates[-1]
    assert first[parts.start]["interactive"] is False
    assert first[parts.stop]["interactive"] is True
    assert shown(first, parts.canvas)["busy"] is True
    assert last[parts.start]["interactive"] is False, "nothing is left to start"
    assert last[parts.stop]["interactive"] is False
    assert shown(last, parts.canvas)["busy"] is False
    assert text_of(last, parts).startswith("Arrived after ")
    after = last[parts.session]
    (pair,) = after.pairs
    assert np.hypot(pair.handle[0] - pair.target[0], pair.handle[1] - pair.target[1]) <= 1
    assert pair.origin == BUMP
    # The independent measure: the brightest pixel of the picture has moved to the target as well.
    pixels = picture_of(last, parts).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert abs(x - pair.target[0]) <= 1
    assert abs(y - pair.target[1]) <= 1
    # Reset and undo lead back to the very first picture.
    reset = do.reset(after, canvas_value(after))
    assert reset[parts.session].pairs[0].handle == BUMP
    assert np.array_equal(picture_of(reset, parts), picture_of(do.open_page("bump", 0, 0.0), parts))
    undone = do.undo(after, canvas_value(after))
    assert np.array_equal(undone[parts.session].ws, session.ws)
    # There is nothing left to do.
    again = list(do.start(after, canvas_value(after), DEFAULTS, request()))[-1]
    assert "already on its target" in text_of(again, parts)
    assert again[parts.session].ws is after.ws


def test_points_that_are_off_stay_and_the_others_keep_their_numbers(do, parts, session):
    value = EMPTY | {"points": [[50, 50, 60, 60], [*BUMP, 24, 30], [*BUMP, 24, 31]], "off": [0]}
    updates = list(do.start(session, value, DEFAULTS, request()))
    assert all(len(shown(u, parts.canvas)["live"]) == 2 for u in updates[1:-1])
    assert "(point 1)" not in "".join(text_of(u, parts) for u in updates)
    assert any(re.search(r"\(point [23]\)", text_of(u, parts)) for u in updates)
    after = updates[-1][parts.session]
    assert after.pairs[0].handle == (50, 50)
    assert after.off == {0}
    assert len(after.recipe.edits[-1].points) == 2
    alone = after.with_points([(p.handle, p.target) for p in after.pairs], off=[0, 1, 2])
    with pytest.raises(gr.Error, match="Every point is switched off"):
        next(do.start(alone, canvas_value(alone), DEFAULTS, request()))
    off = do.edit(alone, canvas_value(alone))
    assert text_of(off, parts).startswith("All points are switched off. Switch one on")
    assert off[parts.start]["interactive"] is False


def test_of_a_drag_the_beginning_and_the_end_are_read_out_and_not_every_step(do, parts, session):
    updates = list(do.start(session, ONE_PAIR, DEFAULTS, request()))
    spoken = {text_of(update, parts): shown(update, parts.status)["spoken"] for update in updates}
    assert len(spoken) > 3
    first, *steps, last = spoken.values()
    assert (first, last) == ("polite", "polite")
    assert set(steps) == {"off"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (EMPTY, "There is nothing to drag yet"),
        (ONE_PAIR | {"pending": [1, 1]}, "Point 2 has no target yet"),
        ({"points": [[0, 0, 64, 0]]}, "outside the picture"),
    ],
)
def test_what_cannot_be_dragged_is_explained(do, session, value, message):
    with pytest.raises(gr.Error, match=message):
        next(do.start(session, value, DEFAULTS, request()))


def test_stop_keeps_what_was_reached_and_start_goes_on(do, parts, session):
    run = do.start(session, far(session), slow(), request())
    next(run)
    for _ in range(3):
        update = next(run)
    assert text_of(update, parts).startswith("Step ")
    assert shown(update, parts.canvas)["live"]
    do.stop(request("another tab"))
    assert text_of(next(run), parts).startswith("Step ")
    do.stop(request())
    last = list(run)[-1]
    assert text_of(last, parts).startswith("Stopped after ")
    after = last[parts.session]
    assert after.is_edited
    on = list(do.start(after, canvas_value(after), slow(3), request()))[-1]
    assert "the limit" in text_of(on, parts)
    assert on[parts.session].pairs[0].origin == BUMP


def test_one_drag_a_tab_and_a_closed_tab_leaves_nothing(do, session):
    run = do.start(session, far(session), slow(), request())
    next(run), next(run)
    with pytest.raises(gr.Error, match="running in this tab already"):
        next(do.start(session, far(session), slow(), request()))
    run.close()
    again = do.start(session, far(session), slow(), request())
    next(again)
    again.close()


@pytest.mark.parametrize(
    "click",
    [
        *("random_picture", "choose_model", "set_seed", "set_truncation", "set_label", "try_preset"),
        *("undo", "redo", "reset"),
    ],
)
@pytest.mark.parametrize("kind", ["drag", "pull"])
def test_a_click_that_comes_before_the_page_has_heard_of_a_drag_is_refused(do, parts, session, kind, click):
    # Handle and target lie inside: outside a mask nothing moves.
    mask = np.ones((64, 64), bool)
    mask[:, :3] = False
    there = add_pair(seeded(do, session, 1)[parts.session], BUMP, (62, 62)).set_mask(mask)
    seen = canvas_value(there)
    others = {
        "random_picture": [],
        "choose_model": ["tiny", 1],
        "set_seed": [5],
        "set_truncation": [0.5],
        "set_label": [1],
        "try_preset": [0],
    }
    handler = getattr(do, click)
    clicked = do.page.tabs.serialized(handler) if click == "set_seed" else do.at_rest(handler)
    value = seen if kind == "drag" else holding(**seen)
    run = do.page.tabs.serialized(do.start if kind == "drag" else do.follow_pointer)(request(), there, value, slow())
    next(run)
    with pytest.warns(UserWarning, match="A drag is running"):
        updates = last_of(clicked(request(), there, *others.get(click, [seen])))
    assert parts.canvas not in updates, "the page stays locked"
    assert not any("interactive" in update for update in updates.values() if isinstance(update, dict))
    assert updates[parts.seed]["value"] == 1
    assert shown(updates, parts.model)["value"] == "bump"
    # In another tab nothing is refused.
    elsewhere = do.at_rest(do.random_picture)(request("another tab"), there)
    assert elsewhere[parts.session].seed != 1
    if kind == "drag":
        next(run), next(run)
        do.stop(request())
    else:
        do.page.live.steer({"key": KEY, "at": [30, 30], "end": True})
    ended = list(run)[-1][parts.session]
    assert ended.seed == 1
    assert ended.is_edited
    assert ended.past[-1].pairs
    # And when it has ended, nothing is refused any more.
    assert do.at_rest(do.random_picture)(request(), ended)[parts.session].past[-1] is ended.now


def test_leaving_the_seed_as_it_is_to_click_start_is_no_click_on_the_picture(do, parts, session):
    run = do.page.tabs.serialized(do.start)(request(), session, far(session), slow())
    next(run)
    assert list(do.page.tabs.serialized(do.set_seed)(request(), session, 0))[-1].keys() == {parts.session}
    run.close()


def test_callers_without_a_tab_drag_beside_each_other(do, parts, session):
    one, two = (do.start(session, far(session), slow(), request("")) for _ in range(2))
    for run in (one, two):
        next(run), next(run)
    one.close()
    assert text_of(next(two), parts).startswith("Step ")
    two.close()


def test_the_last_step_is_not_waited_for_once_it_has_come(do, parts, session, monkeypatch):
    """Nor shown as one of those on the way: the page at rest shows it."""
    seen = []

    def just_missed(run, patience):
        assert ended(run, 60)
        return False

    def newer(run, than, patience):
        seen.append(than)
        return look(run, than, patience)

    ended, look = TurnsDrag.ended, TurnsDrag.newer
    monkeypatch.setattr(TurnsDrag, "ended", just_missed)
    monkeypatch.setattr(TurnsDrag, "newer", newer)
    last = list(do.start(session, ONE_PAIR, DEFAULTS, request()))[-1]
    assert text_of(last, parts).startswith("Arrived")
    assert not any(step is not None and step.done for step in seen), "there is nothing newer than the last"


def test_no_drag_waits_for_the_end_of_another(do, parts, session):
    runs = [do.start(session, far(session), slow(), request(str(i))) for i in range(8)]
    for run in runs:
        next(run)
    assert [text_of(next(run), parts).split(" ")[0] for run in runs] == ["Step"] * 8
    # A short one that is started last arrives while the others go on.
    last = list(do.start(session, ONE_PAIR, DEFAULTS, request("last")))[-1]
    assert text_of(last, parts).startswith("Arrived after ")
    for run in runs:
        assert text_of(next(run), parts).startswith("Step ")
        run.close()


def test_a_drag_that_is_more_than_allowed_is_refused_in_words(parts, models, session):
    do = Handlers(Page(parts, models, LocalEngine(models, Limits(steps=100))))
    with pytest.raises(gr.Error, match="5000 steps are too many here; 100 are allowed"):
        next(do.start(session, far(session), slow(), request()))
    assert list(do.start(session, ONE_PAIR, slow(5), request()))


def test_a_drag_that_the_engine_ends_is_kept_and_says_why(parts, models, session):
    do = Handlers(Page(parts, models, LocalEngine(models, Limits(seconds=1.0))))
    last = list(do.start(session, far(session), slow(), request()))[-1]
    assert text_of(last, parts).startswith("The drag has used the 1 s that one may take here")
    assert last[parts.session].is_edited


def test_an_error_in_a_drag_keeps_the_session_and_is_told(do, parts, session, monkeypatch):
    run = do.start(session, far(session), slow(), request())
    for _ in range(3):
        next(run)

    def broken(self):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(Drag, "__next__", broken)
    last = next(update for update in run if parts.start in update)
    assert last[parts.session].is_edited
    assert last[parts.start]["interactive"] is True
    assert "unexpected" in text_of(last, parts)
    assert "secret" not in text_of(last, parts)
    with pytest.raises(gr.Error, match="unexpected"):
        next(run)
    monkeypatch.undo()
    next(do.start(session, far(session), slow(), request()))


@pytest.mark.parametrize("kind", ["drag", "pull"])
def test_a_drag_whose_last_picture_cannot_be_drawn_is_kept_and_can_be_undone(do, parts, session, monkeypatch, kind):
    def full(*arguments, **more):
        raise torch.OutOfMemoryError("no memory left")

    there = add_pair(session, BUMP, (26.0, 30.0))
    if kind == "drag":
        run = do.start(there, canvas_value(there), DEFAULTS, request())
        next(run)
    else:
        run = do.follow_pointer(there, holding(**canvas_value(there)), DEFAULTS, request())
        next(run)
        do.page.live.steer({"key": KEY, "at": [30, 30], "end": True})
    monkeypatch.setattr(do.page.engine, "picture", full)
    going: list = []
    with pytest.raises(gr.Error, match="not enough memory"):
        going.extend(run)
    last = going[-1]
    assert "not enough memory" in text_of(last, parts)
    assert shown(last, parts.canvas)["busy"] is False
    assert "frame" not in shown(last, parts.canvas), "the last one on the way stays"
    after = last[parts.session]
    assert after.is_edited
    assert last[parts.stop]["interactive"] is False
    monkeypatch.undo()
    back = do.undo(after, canvas_value(after))
    assert drawn_on(shown(back, parts.canvas)["value"]) == drawn_on(canvas_value(there))
    assert not back[parts.session].is_edited
    # Nothing of it is left that would be in the way of the next.
    assert text_of(list(do.start(after, ONE_PAIR, DEFAULTS, request()))[-1], parts)


def test_second_order_steps_are_a_choice(do, parts, session):
    steps = {}
    for solver in ("adam", "gauss-newton"):
        last = list(do.start(session, ONE_PAIR, DEFAULTS | {"solver": solver}, request()))[-1]
        assert text_of(last, parts).startswith("Arrived")
        steps[solver] = int(re.search(r"after (\d+) step", text_of(last, parts))[1])
    assert steps["gauss-newton"] < steps["adam"] / 2


@pytest.mark.parametrize("changed", [False, True])
def test_a_drag_that_lost_its_point_at_once_is_a_step_of_the_history_only_where_the_picture_changed(session, changed):
    there = add_pair(session, (1, 1), (9, 9))
    last = replace(step("lost"), ws=there.ws + 0.01 * changed)
    drag = SimpleNamespace(
        update=last, recipe=there.recipe, frames=(), notice="", reached=lambda: there.recipe.then(there.edit(), last.ws)
    )
    after, (kind, said) = dragging._reached(there, drag, None)
    assert (after is there, kind) == (not changed, "note")
    assert "little to hold on to" in said
    assert ("Undo" in said) == changed
