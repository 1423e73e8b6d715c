"""Other pictures of a model: seed, truncation, class, random, examples."""

from __future__ import annotations

from dataclasses import fields

import gradio as gr
import numpy as np
import pytest

from draggan.ui.canvas.value import canvas_value
from tests.page.driving import DEFAULTS, chosen, drawn_on, request, seeded, shown, text_of
from tests.sessions import add_pair
from tests.sessions import dragged as dragged_to


def test_seed_truncation_and_class_change_the_picture(do, parts, session):
    tiny = chosen(do, session, "tiny", 1)[parts.session]
    other = seeded(do, tiny, 2)[parts.session]
    assert other.seed == 2
    assert not np.array_equal(tiny.ws, other.ws)
    assert np.array_equal(seeded(do, other, 1)[parts.session].ws, tiny.ws)
    lower = do.set_truncation(tiny, 0.5)[parts.session]
    assert (lower.seed, lower.truncation) == (1, 0.5)
    assert not np.array_equal(tiny.ws, lower.ws)
    classes = chosen(do, session, "classes", 1)[parts.session]
    third = do.set_label(classes, 2)[parts.session]
    assert (third.label, third.seed) == (2, 1)
    assert not np.array_equal(classes.ws, third.ws)


def test_the_same_seed_again_is_no_other_picture(do, parts, session):
    dragged = dragged_to(add_pair(session, (1, 1), (2, 2)), session.ws + 0.01, np.array([[2, 2]]))
    assert seeded(do, dragged, 0) == {parts.session: dragged}
    assert do.set_truncation(dragged, 0.0) == {parts.session: dragged}


def same(a, b) -> bool:
    """Whether two moments are one; the page numbers a picture when it shows it."""
    return all(getattr(a, f.name) is getattr(b, f.name) for f in fields(a) if f.name != "seen")


@pytest.mark.parametrize("change", ["seed", "random", "truncation", "class", "model", "preset"])
def test_undo_brings_back_a_drag_that_another_picture_replaced(do, parts, session, change):
    if change == "class":
        session = chosen(do, session, "classes", 1)[parts.session]
    there = add_pair(session, (1, 1), (2, 2)).set_mask(np.eye(*session.image_size, dtype=bool))
    dragged = dragged_to(there, session.ws + 0.01, np.array([[2, 2]]))
    updates = {
        "seed": lambda: seeded(do, dragged, 5),
        "random": lambda: do.random_picture(dragged),
        "truncation": lambda: do.set_truncation(dragged, 0.3),
        "class": lambda: do.set_label(dragged, 1),
        "model": lambda: chosen(do, dragged, "tiny", 5),
        "preset": lambda: do.try_preset(dragged, 0),
    }[change]()
    after = updates[parts.session]
    assert not after.is_edited
    back = do.undo(after, canvas_value(after))
    assert same(back[parts.session].now, dragged.now)
    assert shown(back, parts.canvas)["size"] == list(session.image_size[::-1])
    assert drawn_on(shown(back, parts.canvas)["value"]) == drawn_on(canvas_value(dragged))
    assert shown(back, parts.seed)["value"] == session.seed
    assert shown(back, parts.truncation)["value"] == session.truncation
    assert shown(back, parts.label)["value"] == session.label
    again = do.redo(back[parts.session], canvas_value(dragged))
    assert same(again[parts.session].now, after.now)
    assert shown(again, parts.seed)["value"] == after.seed
    if change == "model":
        assert shown(back, parts.model)["value"] == "bump"
        assert shown(again, parts.model)["value"] == "tiny"


def test_a_preset_is_one_click_away_from_a_drag_that_arrives(do, parts, session):
    opened = do.open_page("bump", 0, 0.0)
    assert [opened[button]["value"] for button in parts.presets if opened[button]["visible"]] == ["Right", "Up and out"]
    assert chosen(do, session, "tiny", 1)[parts.preset_row]["visible"] is False
    updates = do.try_preset(session, 0)
    ready = updates[parts.session]
    assert text_of(updates, parts) == "Right: press Start, or move the points first."
    assert shown(updates, parts.canvas)["value"]["points"] == [[20, 30, 26, 30]]
    last = list(do.start(ready, canvas_value(ready), DEFAULTS, request()))[-1]
    assert text_of(last, parts).startswith("Arrived")
    with pytest.raises(gr.Error, match="this model has 2"):
        do.try_preset(session, 2)


def test_random_gives_the_picture_of_the_seed_it_shows(do, parts, session):
    tiny = chosen(do, session, "tiny", 1)[parts.session]
    updates = do.random_picture(tiny)
    seed = updates[parts.seed]["value"]
    assert updates[parts.session].seed == seed
    assert np.array_equal(updates[parts.session].ws, seeded(do, tiny, seed)[parts.session].ws)


@pytest.mark.parametrize("seed", [None, -1, 2**32, 1.5])
def test_a_wrong_seed_is_explained_once_and_the_last_good_one_comes_back(do, parts, session, seed):
    run = do.set_seed(session, seed)
    back = next(run)
    assert back[parts.seed]["value"] == 0
    assert "give a whole number from 0 to 4294967295" in text_of(back, parts)
    with pytest.raises(gr.Error, match="give a whole number") as error:
        next(run)
    assert error.value.title == "Value not allowed"


@pytest.mark.parametrize("truncation", [None, -0.1, 1.5])
def test_a_wrong_truncation_is_explained(do, session, truncation):
    with pytest.raises(gr.Error, match="give a number from 0 to 1"):
        do.set_truncation(session, truncation)


def test_a_wrong_class_is_explained(do, parts, session):
    classes = chosen(do, session, "classes", 1)[parts.session]
    with pytest.raises(gr.Error, match="this model has the classes 0 to 2"):
        do.set_label(classes, 3)
