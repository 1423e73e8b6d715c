"""A drag that follows the pointer."""

from __future__ import annotations

import asyncio
import re
import threading

import gradio as gr
import numpy as np
import pytest

from draggan.config import Limits
from draggan.engine.local import LocalEngine
from draggan.ui import messages
from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.page import Page
from draggan.ui.warmup import warm_up
from tests.page.driving import (
    DEFAULTS,
    KEY,
    Handlers,
    follow,
    going_on,
    holding,
    picture_at,
    picture_of,
    pixels_of,
    request,
    shown,
    text_of,
)
from tests.pages import BUMP
from tests.sessions import add_pair


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_pulled_picture_follows_and_undo_brings_all_back(do, parts, session, with_mask):
    there = add_pair(session, (50, 50), (60, 50))
    if with_mask:
        mask = np.zeros((64, 64), bool)
        mask[10:50, 10:60] = True
        there = there.set_mask(mask)
    run = do.follow_pointer(there, holding(**canvas_value(there)), DEFAULTS, request())
    last = follow(do, run, [(24, 32), (28, 34), (32, 36), (36, 36)])
    assert text_of(last, parts) == "Arrived. Your points are gone; Undo brings them back."
    pixels = picture_of(last, parts).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert abs(x - 36) <= 1
    assert abs(y - 36) <= 1
    after = last[parts.session]
    assert after.pairs == ()
    assert (after.mask is not None) is with_mask
    assert shown(last, parts.canvas)["held"] == ""
    assert shown(last, parts.canvas)["busy"] is False
    undone = do.undo(after, canvas_value(after))
    assert undone[parts.session].now is there.now
    assert not do.page.live.steer({"key": KEY, "at": [1, 1]}), "nothing is held any more"


def test_while_it_is_pulled_the_page_shows_where_the_content_is(do, parts, session):
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    first = next(run)
    assert shown(first, parts.canvas)["held"] == KEY
    assert shown(first, parts.canvas)["busy"] is True
    assert asyncio.run(do.page.live.answer({"key": KEY, "at": list(BUMP), "seen": 0})) == {}, "nothing has moved yet"
    with going_on(run) as updates:
        answer = {"count": 0, "handles": [BUMP]}
        while abs(answer["handles"][0][0] - 40) > 2:
            answer = picture_at(do, (40, 30), answer["count"])
        assert abs(pixels_of(answer["frame"]).astype(int).sum(-1).argmax() % 64 - 40) <= 2
        do.stop(request())
    assert asyncio.run(do.page.live.answer({"key": KEY, "at": [1, 1], "seen": 0})) is None
    last = updates[-1]
    assert last[parts.session].is_edited
    assert last[parts.session].frames


def test_taking_hold_and_letting_go_changes_nothing(do, parts, session):
    there = add_pair(session, (50, 50), (60, 50))
    run = do.follow_pointer(there, holding(**canvas_value(there)), DEFAULTS, request())
    next(run)
    do.page.live.steer({"key": KEY, "at": list(BUMP), "end": True})
    last = list(run)[-1]
    assert last[parts.session].now is there.now
    assert text_of(last, parts).startswith("1 point set")


def test_pulled_beyond_what_the_model_can_do_the_dot_stays_on_the_content_and_the_page_says_so(
    do, parts, session, models, monkeypatch
):
    monkeypatch.setattr(models.load("bump"), "curtain", 40.0)
    quick = DEFAULTS | {"solver": "gauss-newton"}
    run = do.follow_pointer(session, holding(), quick, request())
    next(run)
    with going_on(run) as updates:
        answer = {"count": 0, "taut": False}
        while not answer["taut"]:
            answer = picture_at(do, (50, 30), answer["count"])
        x, y = answer["handles"][0]
        there = int(pixels_of(answer["frame"]).astype(int).sum(-1).argmax())
        assert 33 < x < 40
        assert abs(x - there % 64) <= 3
        assert abs(y - there // 64) <= 1.5
        for _ in range(200):
            if any(parts.status in update for update in updates):
                break
            threading.Event().wait(0.02)
        assert [text_of(u, parts) for u in updates if parts.status in u] == [
            "As far as it goes: further on, what you hold could no longer be followed."
        ]
        while answer["taut"]:
            answer = picture_at(do, (24, 30), answer["count"])
        for _ in range(500):
            if any(text_of(update, parts) == messages.LIVE for update in updates if parts.status in update):
                break
            threading.Event().wait(0.02)
        do.page.live.steer({"key": KEY, "at": [50, 30], "end": True})
    said = [text_of(update, parts) for update in updates if parts.status in update]
    assert messages.LIVE in said, "it follows again"
    assert re.search(r"followed\. .* % of the way, [\d.]+ px to go\. Undo takes you back\.$", said[-1])


def test_held_by_one_of_several_points_the_others_are_dragged_too_and_all_stay(do, parts, session):
    there = session.with_points([((50, 50), (60, 60)), (BUMP, (22, 30)), ((22, 30), (30, 36))], off=[0])
    value = canvas_value(there)
    value["pull"] = {"key": KEY, "at": [23, 31], "pair": 1}
    run = do.follow_pointer(there, value, DEFAULTS, request())
    next(run)
    with going_on(run) as updates:
        answer = picture_at(do, (26, 34), 0)
        assert len(answer["handles"]) == 2
        do.page.live.steer({"key": KEY, "at": [28, 36], "end": True})
    after = updates[-1][parts.session]
    assert [pair.target for pair in after.pairs] == [(60, 60), (28, 36), (30, 36)]
    assert after.pairs[0].handle == (50, 50), "it is switched off"
    assert np.abs(np.array([pair.handle for pair in after.pairs[1:]]) - [(28, 36), (30, 36)]).max() < 1.5
    assert after.recipe.edits[-1].points[1].target == (30, 36)
    undone = do.undo(after, canvas_value(after))
    assert undone[parts.session].now is there.now


@pytest.mark.parametrize("pair", [-1, 1, True, "0", [0], 10**30])
def test_no_point_that_is_not_there_can_be_pulled(do, session, pair):
    there = add_pair(session, BUMP, (22, 30))
    value = canvas_value(there) | {"pull": {"key": KEY, "at": [23, 31], "pair": pair}}
    with pytest.raises(gr.Error, match=r"take hold of a point that is there"):
        next(do.follow_pointer(there, value, DEFAULTS, request()))


def test_a_pull_that_waits_for_its_turn_can_be_given_up(parts, models, session):
    engine, free = LocalEngine(models, workers=1), threading.Event()

    class Occupied:
        """The engine's only thread is busy."""

        visitor, urgent, patient = "another", True, False

        def step(self):
            free.wait(60)
            return "over"

        def check(self):
            pass

    engine._scheduler.add(Occupied())
    do = Handlers(Page(parts, models, engine))
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    next(run)
    do.page.live.steer({"key": KEY, "at": [30, 30], "stop": True})
    free.set()
    assert list(run)[-1][parts.session].now is session.now


def test_a_pull_that_was_given_up_does_not_blame_the_model(do, parts, session):
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    next(run)
    with going_on(run) as updates:
        picture_at(do, (60, 60), 0)
        do.page.live.steer({"key": KEY, "at": [5, 60], "stop": True})
    assert text_of(updates[-1], parts).startswith("Stopped ")


def test_a_pointer_that_falls_silent_lets_go(parts, models, session):
    do = Handlers(Page(parts, models, LocalEngine(models, Limits(silence=0.2))))
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    next(run)
    do.page.live.steer({"key": KEY, "at": [30, 30]})
    assert text_of(list(run)[-1], parts).startswith("Arrived")


@pytest.mark.parametrize(
    "message",
    [None, 3, {}, {"key": 3}, {"key": "another"}, {"key": ["x"]}, [KEY]],
)
def test_words_of_no_pointer_of_ours_change_nothing(do, message):
    assert do.page.live.steer(message) is False


def test_a_pointer_outside_the_picture_is_passed_over(do, parts, session):
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    next(run)
    for at in ([99, 1], None, "x", [1], {"x": 1}, [float("nan"), 1], [10**400, 1]):
        assert do.page.live.steer({"key": KEY, "at": at}) is True
    do.page.live.steer({"key": KEY, "at": [30, 30], "end": True})
    assert text_of(list(run)[-1], parts).startswith("Arrived")


@pytest.mark.parametrize(
    "value", [EMPTY, {"pull": 3}, {"pull": {"key": "short", "at": [1, 1]}}, holding((1, "x")), holding((99, 1))]
)
def test_what_cannot_be_pulled_is_refused(do, session, value):
    with pytest.raises(gr.Error, match=r"pull looks like|not 2 numbers|outside the picture"):
        next(do.follow_pointer(session, value, DEFAULTS, request()))
    # Nothing is left of it.
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    next(run)
    run.close()


def test_warming_up_ends_and_changes_nothing(do, parts, session, models):
    warm_up(do.page.engine, models)
    assert np.array_equal(do.open_page("bump", 0, 0.0)[parts.session].ws, session.ws)


def test_a_closed_tab_lets_go(do, session):
    run = do.follow_pointer(session, holding(), DEFAULTS, request())
    next(run)
    do.page.live.steer({"key": KEY, "at": [40, 30]})
    with going_on(run) as updates:
        do.close(request())
    assert updates, "it ends"
