"""Files are read a few at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from draggan.errors import LimitError
from draggan.ui.reading_turns import ReadingTurns


def test_one_visitor_reads_one_file_at_a_time_and_leaves_others_a_place():
    turns, go_on = ReadingTurns(at_once=2, places=3, patience=20.0), threading.Event()
    reading, most, lock = [], [0], threading.Lock()

    def read(visitor: str) -> str:
        with turns.turn(visitor):
            with lock:
                assert visitor not in reading
                reading.append(visitor)
                most[0] = max(most[0], len(reading))
            assert go_on.wait(20)
            with lock:
                reading.remove(visitor)
        return visitor

    with ThreadPoolExecutor(8) as threads:
        mine = [threads.submit(read, "a") for _ in range(3)]
        while turns.waiting("a") < 3:
            threading.Event().wait(0.01)
        with pytest.raises(LimitError, match="another file of yours is being read"), turns.turn("a"):
            pass
        others = [threads.submit(read, name) for name in "bcb"]
        while len(reading) < 2:
            threading.Event().wait(0.01)
        assert set(reading) <= {"a", "b", "c"}
        go_on.set()
        assert sorted(one.result(20) for one in (*mine, *others)) == ["a", "a", "a", "b", "b", "c"]
    assert most[0] == 2
    assert turns.waiting("a") == 0


def test_who_waits_too_long_is_told_and_leaves_no_trace():
    turns = ReadingTurns(at_once=1, patience=0.05, what="checked")
    with turns.turn("a"), pytest.raises(LimitError, match="other files are being checked"), turns.turn("b"):
        pass
    with turns.turn("b"), pytest.raises(LimitError, match="another file of yours is being checked"), turns.turn("b"):
        pass
    with pytest.raises(ZeroDivisionError), turns.turn("a"):
        1 / 0  # noqa: B018
    assert not turns.waiting("a")
    assert not turns.waiting("b")
