"""Which steps of a drag are shown, and how large: by time, never by count, never at more than a quarter of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["FramePacer", "PreviewHeight", "PreviewHeights"]

# Twice the height is expected to cost so many times as much: it was 1.5 at 256 px, and is 4 where maps are large.
_DOUBLE = 2.5
# A larger picture is tried if it takes at most so much of the budget, so that the height does not go up and down.
_MARGIN = 0.8
# Of a known cost, so much is left with every picture of another height.
_FADING = 0.97


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


class PreviewHeights:
    """The heights that the drags of each model ended with, for those to come; of the last models only.

    Args:
        budget: as for `PreviewHeight`.
        most: models.
    """

    def __init__(self, budget: float, most: int = 32) -> None:
        self._budget, self._most = budget, most
        self._known: dict[str, int] = {}

    def begin(self, model: str, heights: Sequence[int]) -> PreviewHeight:
        """For a drag on that model, which can draw these heights."""
        return PreviewHeight(heights, self._budget, self._known.get(model))

    def keep(self, model: str, size: PreviewHeight) -> None:
        """What a drag has found out."""
        self._known = {model: size.height} | {k: v for k, v in self._known.items() if k != model}
        while len(self._known) > self._most:
            self._known.popitem()


class PreviewHeight:
    """Chooses how large a picture is drawn while dragging: the largest that can be shown often enough.

    Begins with the smallest, so that something moves soon, and goes by what pictures turn out to cost. A picture of
    less than a quarter of the full height says too little about where a handle is, and so does one below 128 px.

    Args:
        heights: the heights a model can draw, smallest first, the last one its own.
        budget: seconds that a picture may take; at `FramePacer`'s share of a quarter, one comes every four budgets.
        first: the height to begin with, such as the one that a drag before ended with; None: the smallest.
    """

    def __init__(self, heights: Sequence[int], budget: float = 0.1, first: int | None = None) -> None:
        least = min(max(heights[-1] // 4, 128), heights[-1])
        self._heights = [h for h in heights if h >= least]
        self._budget = budget
        self._chosen = self._heights.index(first) if first in self._heights else 0
        self._costs: dict[int, float] = {}

    @property
    def height(self) -> int:
        """Pixels, for the next picture."""
        return self._heights[self._chosen]

    def record(self, seconds: float) -> None:
        """Take into account what the last picture cost."""
        # What others have cost once, when more was going on perhaps, is believed less and less.
        self._costs = {number: _FADING * cost for number, cost in self._costs.items()}
        self._costs[self._chosen] = seconds
        above = self._chosen + 1
        if seconds > self._budget and self._chosen > 0:
            self._chosen -= 1
        elif above < len(self._heights) and self._costs.get(above, _DOUBLE * seconds) < _MARGIN * self._budget:
            self._chosen = above
