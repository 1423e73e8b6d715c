"""The settings of a drag: read, refused, kept."""

from __future__ import annotations

import re

import gradio as gr
import numpy as np
import pytest

from draggan.config import DragConfig, choices
from draggan.ui import messages
from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.drag_settings import SETTINGS, UP_FRONT, row_of
from tests.page.driving import DEFAULTS, ONE_PAIR, chosen, request, seeded, shown, text_of

NUMBERS = [name for name in SETTINGS if name not in messages.CHOICES]


def changed(do, session, **values) -> dict:
    """What the page shows once these were chosen."""
    return list(do.set_settings(session, DEFAULTS | values))[-1]


def test_the_settings_reach_the_drag(do, parts, session):
    last = list(do.start(session, ONE_PAIR, DEFAULTS | {"max_steps": 2, "space": "w"}, request()))[-1]
    assert text_of(last, parts).startswith("Stopped at the limit of 2 steps")
    assert last[parts.session].space == "w"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("at", ["start", "enter"])
def test_a_wrong_setting_is_explained_and_the_last_good_one_comes_back(do, parts, session, name, at):
    good = DEFAULTS | {"max_steps": 123}
    session = changed(do, session, max_steps=123)[parts.session]
    title = re.escape(messages.TITLES[name])
    # In pixels of a picture of 64, of what is given at 512.
    pixels = row_of(name)["pixels"]
    refused = f"{title} {-1 / 8 if pixels else -1}{' px' if pixels else ''} is not allowed; give a "
    for value, said in ((-1, refused), (None, f"{title} is empty; give a ")):
        wrong = good | {name: value}
        run = do.start(session, ONE_PAIR, wrong, request()) if at == "start" else do.set_settings(session, wrong)
        back = next(run)
        assert shown(back, parts.settings)["value"] == good
        assert re.match(said, text_of(back, parts))
        with pytest.raises(gr.Error, match=said) as error:
            next(run)
        assert error.value.title == "Value not allowed"


def test_lengths_are_refused_in_pixels_of_the_picture_and_kept_as_the_paper_gives_them(do, parts, session):
    run = do.set_settings(session, DEFAULTS | {"r1": -32.0})
    assert text_of(next(run), parts) == "Patch radius (r1) -4 px is not allowed; give a number from 2 to 8."
    assert changed(do, session, r1=16.0)[parts.session].settings["r1"] == 16.0
    tiny = shown(chosen(do, session, "tiny", 1), parts.settings)
    assert (tiny["longer"], tiny["value"]["r1"]) == (32, 3.0)


def test_all_settings_go_back_to_what_suits_the_model(do, parts, session):
    mine = changed(do, session, step_size=0.5, max_steps=77, naturalness=0.3, space="w")[parts.session]
    assert mine.space == "w"
    updates = do.reset_settings(mine)
    assert shown(updates, parts.settings)["value"] == shown(updates, parts.settings)["suited"] == DEFAULTS
    assert updates[parts.session].settings == {}


def test_half_a_step_is_refused_and_a_whole_one_with_a_point_is_not(do, parts, session):
    run = do.set_settings(session, DEFAULTS | {"max_steps": 2.5})
    assert "Maximum steps 2.5 is not allowed; give a whole number from 1 to 10000" in text_of(next(run), parts)
    assert changed(do, session, max_steps=2.0)[parts.session].settings["max_steps"] == 2


@pytest.mark.parametrize("odd", [None, 3, "x", [], {"space": 7}, {"r1": []}, {"space": "w++"}])
def test_what_is_no_set_of_settings_is_refused_or_passed_over(do, parts, session, odd):
    try:
        last = list(do.set_settings(session, odd))[-1]
    except gr.Error:
        return
    assert last[parts.session].settings == {}


def test_a_setting_chosen_and_not_used_yet_is_left_alone_by_another_picture(do, parts, session):
    other = do.random_picture(session)[parts.session]
    for updates in (
        do.random_picture(session),
        seeded(do, session, 5),
        do.set_truncation(session, 0.3),
        do.try_preset(session, 0),
        do.undo(other, canvas_value(other)),
        do.reset(session, EMPTY),
    ):
        assert parts.settings not in updates
    # Another model brings its own, and so does the way back to the first.
    updates = chosen(do, session, "tiny", 1)
    assert shown(updates, parts.settings)["value"]["solver"] == DEFAULTS["solver"]
    assert "value" in shown(do.undo(updates[parts.session], EMPTY), parts.settings)


def test_a_wrong_setting_leaves_the_others_as_they_are(do, parts, session):
    back = next(do.set_settings(session, DEFAULTS | {"solver": "gauss-newton", "r1": -4}))
    assert shown(back, parts.settings)["value"] == DEFAULTS | {"solver": "gauss-newton"}


def test_chosen_settings_outlive_another_picture_and_suit_another_model(do, parts, session):
    mine = changed(do, session, step_size=0.5, max_steps=77)[parts.session]
    other = do.random_picture(mine)[parts.session]
    assert (other.settings["step_size"], other.settings["max_steps"]) == (0.5, 77)
    updates = chosen(do, other, "tiny", 1)
    assert shown(updates, parts.settings)["value"] == DEFAULTS | {"max_steps": 77}
    assert updates[parts.session].settings["max_steps"] == 77


def test_three_settings_are_up_front_and_every_one_has_a_title_help_and_range():
    assert [row_of(name)["kind"] for name in UP_FRONT] == ["between", "choice", "tick"]
    for name in (*SETTINGS, "space"):
        row = row_of(name)
        assert row["title"]
        assert row["help"].endswith(".")
        assert not re.search(r"gauss-newton|adam:", row["help"]), "as the page calls them"
        assert row["choices"] or row["low"] is not None


def test_whether_a_mask_holds_exactly_is_a_choice(do, parts, session):
    assert DEFAULTS["mask_hold"] == "exact"
    assert [value for value, _ in row_of("mask_hold")["choices"]] == list(choices(DragConfig)["mask_hold"])
    soft = changed(do, session, mask_hold="soft")[parts.session]
    masked = soft.with_points([((20.0, 30.0), (26.0, 30.0))]).set_mask(np.arange(64) < 40 + np.zeros((64, 1)))
    assert masked.edit().config().mask_hold == "soft"
