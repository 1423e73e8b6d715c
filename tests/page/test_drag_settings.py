"""The settings of a drag: read, refused, kept."""

from __future__ import annotations

import re

import gradio as gr
import numpy as np
import pytest

from draggan.config import MASK_HOLDS
from draggan.ui import messages
from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.drag_settings import SETTINGS
from tests.page.driving import DEFAULTS, ONE_PAIR, chosen, request, seeded, shown, text_of


def test_the_settings_reach_the_drag(do, parts, session):
    few = (*DEFAULTS[:1], 2, *DEFAULTS[2:])
    last = list(do.start(session, ONE_PAIR, "w", request(), *few))[-1]
    assert text_of(last, parts).startswith("Stopped at the limit of 2 steps")
    assert last[parts.session].space == "w"


@pytest.mark.parametrize("i", [i for i, name in enumerate(SETTINGS) if name not in messages.CHOICES])
@pytest.mark.parametrize("at", ["start", "enter"])
def test_a_wrong_setting_is_explained_and_the_last_good_one_comes_back(do, parts, session, i, at):
    good = [*DEFAULTS]
    good[1] = 123
    session = list(do.set_settings(session, *good))[-1][parts.session]
    for value, said in ((-1, f"{messages.TITLES[SETTINGS[i]]} -1 is not allowed; give"), (None, "is empty; give")):
        wrong = (*good[:i], value, *good[i + 1 :])
        if at == "start":
            run = do.start(session, ONE_PAIR, "w+", request(), *wrong)
        else:
            run = do.set_settings(session, *wrong)
        back = next(run)
        assert [back[part]["value"] for part in parts.settings] == good
        assert said in text_of(back, parts)
        with pytest.raises(gr.Error, match=re.escape(said)) as error:
            next(run)
        assert error.value.title == "Value not allowed"


def test_all_settings_go_back_to_what_suits_the_model(do, parts, session):
    i = SETTINGS.index("naturalness")
    mine = list(do.set_settings(session, 0.5, 77, *DEFAULTS[2:i], 0.3, *DEFAULTS[i + 1 :]))[-1][parts.session]
    updates = do.reset_settings(mine)
    assert [updates[part]["value"] for part in parts.settings] == [*DEFAULTS]
    assert updates[parts.session].settings == {}
    assert updates[parts.space]["value"] == "w+"


def test_half_a_step_is_refused_and_a_whole_one_with_a_point_is_not(do, parts, session):
    run = do.set_settings(session, *DEFAULTS[:1], 2.5, *DEFAULTS[2:])
    assert "Maximum steps 2.5 is not allowed; give a whole number from 1 to 10000" in text_of(next(run), parts)
    assert list(do.set_settings(session, *DEFAULTS[:1], 2.0, *DEFAULTS[2:]))


def test_a_setting_chosen_and_not_used_yet_is_left_alone_by_another_picture(do, parts, session):
    """The server hears of it with Start; until then no other picture of the model may write to its control."""
    other = do.random_picture(session)[parts.session]
    for updates in (
        do.random_picture(session),
        seeded(do, session, 5),
        do.set_truncation(session, 0.3),
        do.try_preset(session, 0),
        do.undo(other, canvas_value(other)),
        do.reset(session, EMPTY),
    ):
        written = [shown(updates, part) for part in parts.settings if part in updates]
        assert all("value" not in update for update in written)
    # Another model brings its own, and so does the way back to the first.
    updates = chosen(do, session, "tiny", 1)
    solver = parts.settings[SETTINGS.index("solver")]
    assert updates[solver]["value"] == DEFAULTS[SETTINGS.index("solver")]
    assert "value" in do.undo(updates[parts.session], EMPTY)[solver]


def test_a_wrong_setting_leaves_the_others_as_they_are(do, parts, session):
    solver, r1 = SETTINGS.index("solver"), SETTINGS.index("r1")
    mixed = [*DEFAULTS]
    mixed[solver], mixed[r1] = "gauss-newton", -4
    back = next(do.set_settings(session, *mixed))
    assert back[parts.settings[solver]]["value"] == "gauss-newton"
    assert back[parts.settings[r1]]["value"] == DEFAULTS[r1]


def test_chosen_settings_outlive_another_picture_and_suit_another_model(do, parts, session):
    mine = list(do.set_settings(session, 0.5, 77, *DEFAULTS[2:]))[-1][parts.session]
    other = do.random_picture(mine)[parts.session]
    assert (other.settings["step_size"], other.settings["max_steps"]) == (0.5, 77)
    updates = chosen(do, other, "tiny", 1)
    assert updates[parts.settings[0]]["value"] == DEFAULTS[0]
    assert updates[parts.session].settings["max_steps"] == 77


def test_whether_a_mask_holds_exactly_is_a_choice(do, parts, session):
    i = SETTINGS.index("mask_hold")
    assert DEFAULTS[i] == "exact"
    assert [value for _, value in parts.settings[i].choices] == list(MASK_HOLDS)
    soft = list(do.set_settings(session, *DEFAULTS[:i], "soft", *DEFAULTS[i + 1 :]))[-1][parts.session]
    masked = soft.with_points([((20.0, 30.0), (26.0, 30.0))]).set_mask(np.arange(64) < 40 + np.zeros((64, 1)))
    assert masked.edit().config().mask_hold == "soft"
