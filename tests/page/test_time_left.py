"""How long a drag will still take, or that nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from draggan.ui import messages
from draggan.ui.time_left import TimeLeft
from tests.page.test_messages import step


def told(ways, *, seconds: float = 0.1, first: int = 0) -> list[float | None]:
    """What is said after each step, one every so many seconds."""
    left = TimeLeft()
    return [left.after(replace(step(None, index=first + k), way=way), seconds * k) for k, way in enumerate(ways)]


def test_of_an_even_pace_it_is_what_is_left_to_the_end():
    said = told([k / 100 for k in range(101)])
    assert said[30] == pytest.approx(7.0)
    assert said[60] == pytest.approx(4.0)
    assert said[10] is None, "too little to go by"
    assert all(left is None for left in said[80:]), "steps get shorter there"


def test_of_one_that_comes_to_a_halt_nothing_is_promised():
    ways = [min(k / 100, 0.6) for k in range(301)]
    said = told(ways)
    assert said[50] is not None
    assert all(left is None for left in said[150:])


def test_of_a_few_long_steps_nothing_is_guessed():
    assert set(told([k / 10 for k in range(10)], seconds=6.0)) == {None}


def test_less_than_a_second_is_not_counted():
    assert told([k / 30 for k in range(24)])[-1] is None


def test_the_line_says_it_in_round_figures():
    said = messages.drag_progress(step(None), 8.0, left=17.3)
    assert said == "Step 42 · 3.1 px to go · 5.2 steps/s · about 15 s left"
