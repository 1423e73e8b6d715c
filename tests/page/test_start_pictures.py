"""Pictures to start with, and favourites."""

from __future__ import annotations

import numpy as np
import pytest

from draggan.ui.canvas.value import canvas_value
from draggan.ui.start_pictures.component import MOST_RECIPE, ROW, pictures_of
from tests.page.driving import chosen, pixels_of, request, shown, text_of
from tests.sessions import add_pair
from tests.sessions import dragged as dragged_to


def suggested(do, parts, session, first=0) -> list[dict]:
    asked = {"key": pictures_of(session, session.truncation)["key"], "first": first}
    return [shown(updates, parts.starts)["suggested"] for updates in do.suggest(session, asked)]


def test_pictures_to_start_with_come_one_after_the_other_and_are_drawn_once(do, parts, session, monkeypatch):
    tiny = chosen(do, session, "tiny", 1)[parts.session]
    answers = suggested(do, parts, tiny)
    assert [len(answer["pictures"]) for answer in answers] == list(range(1, ROW + 1))
    assert [answer["done"] for answer in answers] == [False] * (ROW - 1) + [True]
    seeds = [picture["seed"] for picture in answers[-1]["pictures"]]
    assert seeds == [1, 2, 3, 4, 5, 6]
    assert max(pixels_of(answers[-1]["pictures"][0]["picture"]).shape) <= 112
    monkeypatch.setattr(do.page.engine, "thumbnail", lambda *_, **__: pytest.fail("drawn again"))
    assert suggested(do, parts, tiny)[-1] == answers[-1], "for the next visitor"
    monkeypatch.undo()
    more = suggested(do, parts, tiny, first=6)[-1]
    assert [picture["seed"] for picture in more["pictures"]] == [7, 8, 9, 10, 11, 12]


def test_a_busy_machine_gives_none_and_an_older_question_no_answer(do, parts, session, monkeypatch):
    monkeypatch.setattr(do.page.engine, "thumbnail", lambda *_, **__: None)
    assert suggested(do, parts, session)[-1] == {
        "key": pictures_of(session, session.truncation)["key"],
        "pictures": [],
        "done": True,
    }
    assert list(do.suggest(session, {"key": "another", "first": 0})) == []
    for odd in (None, "x", {"key": pictures_of(session, session.truncation)["key"], "first": -1}, {"first": "1"}):
        list(do.suggest(session, odd))


def test_one_of_them_is_taken_with_a_click_and_undo_takes_it_back(do, parts, session):
    tiny = chosen(do, session, "tiny", 1)[parts.session]
    updates = do.take_start(tiny, {"seed": 4})
    taken = updates[parts.session]
    assert taken.seed == 4
    assert shown(updates, parts.seed)["value"] == 4
    assert shown(updates, parts.starts)["of"]["seed"] == 4
    assert do.undo(taken, canvas_value(taken))[parts.session].seed == 1
    with pytest.raises(Exception, match=r"(?i)seed"):
        do.take_start(tiny, {"seed": "4"})


def test_a_favourite_opens_as_it_was_and_undo_takes_it_back(do, parts, session):
    dragged = dragged_to(add_pair(session, (1, 1), (2, 2)), session.ws + 0.01, np.array([[2, 2]]))
    kept = shown(do.favour(dragged, {"count": 3}), parts.starts)["kept"]
    assert (kept["count"], kept["title"]) == (3, "A bump, seed 0, dragged")
    other = chosen(do, dragged, "tiny", 1)[parts.session]
    updates = do.open_favourite(other, {"title": kept["title"], "recipe": kept["recipe"]}, request())
    back = updates[parts.session]
    assert np.array_equal(back.ws, dragged.ws)
    assert text_of(updates, parts) == "A bump, seed 0, dragged is open again: the picture and 1 step to undo."
    steps_back = do.undo(do.undo(back, canvas_value(back))[parts.session], canvas_value(back))
    assert steps_back[parts.session].model == "tiny", "before the favourite and its drag"


@pytest.mark.parametrize("recipe", [None, 3, "{", "x" * (MOST_RECIPE + 1), '{"recipe": 1}'])
def test_a_favourite_that_cannot_be_read_is_refused_and_nothing_is_lost(do, parts, session, recipe):
    updates = do.open_favourite(session, {"title": "T", "recipe": recipe}, request())
    assert parts.session not in updates
    assert shown(updates, parts.status)["kind"] == "bad"


def test_too_many_drags_are_refused_as_a_favourite_with_what_to_do(do, parts, session, monkeypatch):
    monkeypatch.setattr("draggan.ui.handlers.starting.MOST_RECIPE", 10)
    kept = shown(do.favour(session, {"count": 1}), parts.starts)["kept"]
    assert "save the picture" in kept["error"]
