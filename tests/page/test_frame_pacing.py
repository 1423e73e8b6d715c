"""How often pictures come while dragging, and how large they are."""

from __future__ import annotations

import pytest

from draggan.ui.frame_pacing import FramePacer, PreviewHeight


@pytest.mark.parametrize(("step_cost", "picture_cost"), [(0.001, 0.0), (0.001, 0.05), (0.2, 0.1), (0.01, 0.5)])
def test_pictures_come_as_often_as_they_may_and_never_slow_a_drag_by_more_than_a_third(step_cost, picture_cost):
    now = 0.0
    pace = FramePacer(rate=14, share=0.25, clock=lambda: now)
    steps = pictures = 0
    while now < 60:
        now += step_cost
        steps += 1
        if pace.wait() == 0:
            pace.begin()
            now += picture_cost
            pace.end()
            pictures += 1
    assert now / (steps * step_cost) <= 4 / 3 + 0.02
    assert pictures / now <= 14.01
    # Not fewer than those two limits, and the length of a step, demand.
    interval = max(1 / 14, 4 * picture_cost) + step_cost
    assert pictures >= 60 / interval * 0.95


def test_drags_beside_each_other_divide_what_pictures_may_take():
    now, running = 0.0, 1
    pace = FramePacer(rate=14, share=0.25, drags=lambda: running, clock=lambda: now)
    pace.begin()
    now += 0.1
    pace.end()
    assert pace.wait() == pytest.approx(0.3)
    running = 5
    assert pace.wait() == pytest.approx(1.9), "a twentieth of the time"


def test_pictures_of_a_drag_are_as_large_as_there_is_time_for():
    size = PreviewHeight((4, 8, 64, 128, 256, 512, 1024), budget=0.1)
    heights = []
    for seconds in (0.01, 0.15, 0.05, 0.3, *[0.01] * 30):
        heights.append(size.height)
        size.record(seconds)
    # A quarter at least; up after 0.01 s, down after 0.15 s, and 0.05 s is a reason for neither. What 512 px cost is
    # remembered, and tried again when that was long ago.
    assert heights[:4] == [256, 512, 256, 256]
    assert heights[4:20] == [256] * 16
    assert heights[-2:] == [1024, 1024]
    assert PreviewHeight((4, 8, 16, 32, 64)).height == 64
    assert PreviewHeight((512,)).height == 512
    assert PreviewHeight((128, 256, 512), first=512).height == 512
    assert PreviewHeight((128, 256, 512), first=64).height == 128
