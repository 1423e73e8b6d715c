"""What runs is watched up to its end, whatever it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from draggan.errors import LimitError
from draggan.ui.errors import PageError
from draggan.ui.watching import newest_updates


def step(name: str, *, done: bool = False) -> SimpleNamespace:
    return SimpleNamespace(name=name, done=done)


class Run:
    """Each look finds the next update, or the same; after the last one it has ended."""

    def __init__(self, *updates: SimpleNamespace | None, error: Exception | None = None) -> None:
        self._left, self._error, self.update = list(updates), error, None
        self.waited: list[float] = []

    def newer(self, than: object, patience: float) -> SimpleNamespace | None:
        if not self._left and self._error is not None:
            raise self._error
        return self.update

    def ended(self, patience: float) -> bool:
        self.waited.append(patience)
        if not self._left:
            return True
        self.update = self._left.pop(0)
        return False


A, B = step("a"), step("b")


@pytest.mark.parametrize(
    ("updates", "shown"),
    [
        ((), []),
        ((None, None, A, A, B), [A, B]),
        ((A, B, step("last", done=True)), [A, B]),
        ((step("last", done=True),), []),
    ],
)
def test_each_update_is_shown_once_and_the_last_one_is_not(updates, shown):
    run = Run(*updates)
    # At most one look a moment, also where there is nothing to show.
    assert list(newest_updates(run, lambda: 0.5)) == shown
    assert set(run.waited) == {0.5}


def test_what_it_has_failed_with_is_told_after_what_it_has_shown():
    seen = newest_updates(Run(A, A, error=LimitError("nobody has looked")), lambda: 0.0)
    assert next(seen) is A
    with pytest.raises(PageError, match="obody has looked"):
        next(seen)
