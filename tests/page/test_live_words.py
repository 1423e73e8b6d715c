"""What is said while a picture follows the pointer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from draggan.engine.base import Update
from draggan.ui import messages
from draggan.ui.live_words import LiveWords

MOVING = Update(
    index=3,
    ws=np.zeros((1, 2, 4), np.float32),
    handles=np.array([[10.0, 10.0]], np.float32),
    targets=np.array([[30.0, 10.0]], np.float32),
    distances=np.array([20.0], np.float32),
    stop_distance=1.0,
    seconds=0.1,
    loss=1.0,
    way=0.0,
    lost=np.array([False]),
    contrast=1.0,
    done=False,
    outcome=None,
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
