"""Which steps of a drag are shown: by time, never by count, and never at more than a quarter of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Says when the next picture is due.

    A picture takes processor time that the drag does not get: rendering and encoding. With a ``share`` of a quarter
    the drag takes at most 4/3 of the time it would take unseen.

    Args:
        rate: pictures per second at most. More would only pile up between here and a browser.
        share: part of the time that pictures may take, in (0, 1).
        clock: seconds, ever increasing.
    """

    def __init__(
        self, rate: float = 14.0, share: float = 0.25, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._interval = 1 / rate
        self._rest = (1 - share) / share
        self._clock = clock
        self._started = self._ended = clock()

    def wait(self) -> float:
        """Seconds until the next picture is due; 0 if it is now."""
        cost = self._ended - self._started
        return max(self._started + self._interval - self._clock(), self._ended + cost * self._rest - self._clock(), 0.0)

    def begin(self) -> None:
        """A picture is begun."""
        self._started = self._clock()

    def end(self) -> None:
        """It is rendered and encoded."""
        self._ended = self._clock()
