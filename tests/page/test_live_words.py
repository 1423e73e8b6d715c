"""What is said while a picture follows the pointer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from draggan.ui import messages
from draggan.ui.live_words import LiveWords
from tests.updates import an_update

MOVING = an_update(
    None,
    handles=np.array([[10.0, 10.0]], np.float32),
    targets=np.array([[30.0, 10.0]], np.float32),
    distances=[20.0],
    loss=1.0,
    way=0.0,
)


def test_a_sentence_stays_until_another_is_true():
    words, resting = LiveWords(), replace(MOVING, rests="stalled")
    assert words.after(MOVING, 0.0) is None, "it is there already"
    assert words.after(resting, 1.0) == messages.live_rest(resting)
    assert words.after(MOVING, 1.1) is None, "along the edge it would flicker"
    assert words.after(MOVING, 2.0) == messages.LIVE


def test_once_it_is_let_go_nobody_is_asked_to_let_go():
    words, resting = LiveWords(), replace(MOVING, rests="stalled")
    assert words.after(MOVING, 0.0, let_go=True) == messages.LET_GO
    assert words.after(resting, 0.1, let_go=True) is None
