"""Which steps of a drag are shown, and how large: by time, never by count, never at more than a quarter of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["FramePacer", "PreviewHeight"]


class FramePacer:
    """Says when the next picture is due.

    A picture takes processor time that drags do not get: rendering and encoding. With a ``share`` of a quarter a drag
    takes at most 4/3 of the time it would take unseen; the share is one of the machine, so drags that run beside each
    other divide it among them.

    Args:
        rate: pictures per second at most. More would only pile up between here and a browser.
        share: part of the time that pictures may take, in (0, 1).
        drags: how many divide the share now.
        clock: seconds, ever increasing.
    """

    def __init__(
        self,
        rate: float = 14.0,
        share: float = 0.25,
        drags: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._interval = 1 / rate
        self._share, self._drags = share, drags
        self._clock = clock
        self._started = self._ended = clock()

    def wait(self) -> float:
        """Seconds until the next picture is due; 0 if it is due now."""
        cost, share = self._ended - self._started, self._share / max(self._drags(), 1)
        rest = cost * (1 - share) / share
        return max(self._started + self._interval - self._clock(), self._ended + rest - self._clock(), 0.0)

    def begin(self) -> None:
        """A picture is begun."""
        self._started = self._clock()

    def end(self) -> float:
        """The picture is rendered and encoded; returns the seconds that took."""
        self._ended = self._clock()
        return self._ended - self._started


class PreviewHeight:
    """Chooses how large a picture is drawn while dragging: the largest that can be shown often enough.

    Begins with the smallest, so that something moves soon, and goes by what pictures turn out to cost. A picture of
    less than a quarter of the full height says too little about where a handle is, and so does one below 128 px.

    Args:
        heights: the heights a model can draw, smallest first, the last one its own.
        budget: seconds that a picture may take; at `FramePacer`'s share of a quarter, one comes every four budgets.
    """

    def __init__(self, heights: Sequence[int], budget: float = 0.1) -> None:
        least = min(max(heights[-1] // 4, 128), heights[-1])
        self._heights = [h for h in heights if h >= least]
        self._budget = budget
        self._chosen = 0

    @property
    def height(self) -> int:
        """Pixels, for the next picture."""
        return self._heights[self._chosen]

    def record(self, seconds: float) -> None:
        """Take into account what the last picture cost."""
        if seconds > self._budget and self._chosen > 0:
            self._chosen -= 1
        # Twice the height costs up to four times as much. A margin, so that it does not go up and down.
        elif 5 * seconds < self._budget and self._chosen + 1 < len(self._heights):
            self._chosen += 1
