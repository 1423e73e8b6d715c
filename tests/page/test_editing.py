"""Points, mask and history; one thing after the other in a tab."""

from __future__ import annotations

import gradio as gr
import pytest

from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.tab_queue import TabQueue
from tests.page.driving import DEFAULTS, ONE_PAIR, drawn_on, holding, last_of, pixels_of, png, request, shown, text_of
from tests.sessions import click as clicks


def test_edits_lead_from_sentence_to_sentence(do, parts, session):
    updates = do.edit(session, {"points": [], "pending": [3, 4]})
    assert text_of(updates, parts).startswith("Now click where point 1 should go. To hold it")
    assert parts.canvas not in updates, "what is being drawn is not overwritten"
    assert updates[parts.start]["interactive"] is False, "there is nothing to start yet"
    updates = do.edit(updates[parts.session], ONE_PAIR | {"mask": png((64, 64))})
    assert text_of(updates, parts).startswith("1 point set. Press Start")
    assert "Only the bright region may change." in text_of(updates, parts)
    assert updates[parts.start]["interactive"] is True
    by_tool = shown(do.page.note(updates), parts.status)["hints"]
    assert by_tool["points"] == text_of(updates, parts)
    assert by_tool["pull"].startswith("Hold a point and drag it.")
    assert by_tool["mask"].startswith("Only the bright region may change. Paint more")
    with pytest.raises(gr.Error, match="outside the picture"):
        do.edit(session, {"points": [[1, 1, 99, 1]]})


def test_clear_undo_redo(do, parts, session):
    there = do.edit(session, ONE_PAIR | {"pending": [3, 4]})[parts.session]
    cleared = do.edit(there, EMPTY)
    assert cleared[parts.session].pairs == ()
    undone = do.undo(cleared[parts.session], EMPTY)
    assert shown(undone, parts.canvas)["value"]["points"] == ONE_PAIR["points"]
    assert shown(undone, parts.status)["hints"]["points"].endswith("click it again. Undone: a point.")
    assert undone[parts.redo]["interactive"] is True
    redone = do.redo(undone[parts.session], canvas_value(undone[parts.session]))
    assert drawn_on(shown(redone, parts.canvas)["value"]) == EMPTY


def test_a_click_on_undo_counts_though_the_page_has_not_heard_of_the_one_before(do, parts, session):
    """Each of them carries what the canvas shows; before an answer has come, that is the same."""
    there = clicks(session, (1, 1), (2, 2), (3, 3))
    seen = canvas_value(there)
    once = do.undo(there, seen)[parts.session]
    twice = do.undo(once, seen)
    assert drawn_on(shown(twice, parts.canvas)["value"]) == EMPTY | {"pending": [1, 1]}
    assert do.redo(twice[parts.session], seen)[parts.session].now is once.now
    # What was drawn on what is gone now does not.
    passed_over = do.edit(once, seen | {"points": [[5, 5, 6, 6]]})
    assert passed_over.keys() == {parts.session}
    assert passed_over[parts.session].now is once.now
    # What was drawn and not told of yet does count, and Undo takes it back.
    further = seen | {"points": [[1, 1, 2, 2], [3, 3, 4, 4]], "pending": None}
    assert do.undo(there, further)[parts.session].now is there.now


def test_frames_of_a_drag_are_seen_and_gone_on_from(do, parts, session):
    last = list(do.start(session, ONE_PAIR, DEFAULTS, request()))[-1]
    after, film = last[parts.session], shown(last, parts.canvas)["film"]
    assert film["count"] == len(after.frames) > 2
    assert film["ends"] == [0, film["count"] - 1]
    seen = shown(do.look(after, {"frame": 0, "film": film["key"]}), parts.canvas)["seen"]
    assert (seen["number"], seen["film"]) == (0, film["key"])
    assert (pixels_of(seen["frame"]) == pixels_of(shown(do.reset(after, EMPTY), parts.canvas)["frame"])).all()
    middle = film["count"] // 2
    gone = do.go_on(after, canvas_value(after) | {"frame": middle})
    assert gone[parts.session].ws is after.frames[middle][1]
    assert shown(gone, parts.canvas)["film"]["count"] == middle + 1
    assert "frame" not in shown(do.look(after, {"frame": 999}), parts.canvas)["seen"]
    for wrong in (True, "1", None, 1.5):
        with pytest.raises(gr.Error, match="rame is asked for as"):
            do.look(after, {"frame": wrong})
    with pytest.raises(gr.Error, match="here is no frame"):
        do.go_on(after, {"frame": -1})


def test_a_page_whose_session_is_gone_is_told(do, parts, session):
    seen = canvas_value(session) | {"points": [[5, 5, 6, 6]]}
    told = do.edit(None, seen)
    assert "no longer kept" in text_of(told, parts)
    assert shown(told, parts.canvas)["value"]["points"] == []
    assert shown(told, parts.canvas)["value"]["revision"] == told[parts.session].revision


@pytest.mark.parametrize("click", ["start", "follow_pointer", "undo", "redo", "reset", "save", "copy", "save_film"])
def test_on_a_page_whose_session_is_gone_nothing_is_done_to_another_picture(do, session, click):
    seen = holding(**canvas_value(session) | ONE_PAIR)
    more = [DEFAULTS, request()] if click in ("start", "follow_pointer") else []
    more = more or ([request()] if click in ("save", "copy", "save_film") else [])
    with pytest.raises(gr.Error, match="no longer kept; reload it"):
        last_of(getattr(do, click)(None, seen, *more))


def test_a_page_that_missed_an_answer_is_told_with_the_second_edit_that_is_passed_over(do, parts, session):
    """The first may just have been under way together with that answer."""
    there = clicks(session, (1, 1), (2, 2))
    seen = canvas_value(there)
    undone = do.undo(there, seen)[parts.session]  # an answer that never arrives
    first = do.edit(undone, seen | {"pending": [9, 9]})
    assert first.keys() == {parts.session}
    again = do.edit(first[parts.session], seen | {"points": [[1, 1, 2, 2], [9, 9, 8, 8]], "pending": None})
    assert "had not reached the page" in text_of(again, parts)
    value = shown(again, parts.canvas)["value"]
    assert drawn_on(value) == drawn_on(canvas_value(undone))
    # From here on it is heard.
    after = do.edit(again[parts.session], value | {"points": [[1, 1, 7, 7]], "pending": None})[parts.session]
    assert [pair.target for pair in after.pairs] == [(7, 7)]
    assert after.past[-1] is undone.now


def test_whoever_is_next_need_not_wait_for_the_end_of_a_drag(session):
    """Nor would they in vain, with all threads of the server waiting and none left for the drag."""

    def drag(given):
        yield {"session": clicks(given, (1, 1))}
        yield {"session": clicks(given, (2, 2))}

    def click(given):
        return {"session": clicks(given, (3, 3))}

    turns = TabQueue("session")
    drag, click = turns.serialized(drag), turns.serialized(click)
    run = drag(request(), session)
    one = next(run)["session"]
    two = click(request(), session)["session"]
    assert two.past[-1] is one.now
    assert next(run)["session"].pending == (2, 2)
    assert click(request("b"), session)["session"].past[-1] is session.now


def test_callers_without_a_tab_have_no_session_in_common(session):
    def click(given):
        return {"session": clicks(given, (3, 3))}

    click = TabQueue("session").serialized(click)
    kept = [click(request(None), session)["session"] for _ in range(2)]
    assert all(other.past == (session.now,) for other in kept)


def test_a_caller_without_a_page_gets_a_session(do, parts):
    assert do.edit(None, ONE_PAIR)[parts.session].model == "bump"
