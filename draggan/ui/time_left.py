"""How long a drag will still take, where that can be told from how it has gone so far."""

from __future__ import annotations

from collections import deque

from draggan.engine.base import Update

__all__ = ["TimeLeft"]

# Fewer steps have no pace. Gauss-Newton seldom takes as many, and its last look at where everything is takes as long as
# all steps before it, or nothing. Over 64 of its drags of the built-in models a guess by the pace was right within a
# factor of two in 28 of 100 updates; over 16 of Adam's in 75, and in 85 under the conditions below.
_LEAST_STEPS = 20
_LEAST_SECONDS = 2.0
# Of the way: before, there is little to go by; after, steps get shorter, or go to and fro.
_WAY = (0.1, 0.8)
# In the second half of the time it must have gone at least so fast, as a share of its speed on the whole: of one that
# comes to a halt nobody knows when it ends.
_STEADY = 1 / 3


class TimeLeft:
    """Of one drag."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, float]] = deque()  # seconds and way, from half of the time on

    def after(self, update: Update, seconds: float) -> float | None:
        """Seconds that are left; None: nobody knows, or not even one.

        Args:
            update: its newest one.
            seconds: since its first step.
        """
        self._past.append((seconds, update.way))
        while len(self._past) > 1 and self._past[1][0] <= seconds / 2:
            self._past.popleft()
        began, half = self._past[0]
        if update.index < _LEAST_STEPS or seconds < _LEAST_SECONDS or not _WAY[0] < update.way < _WAY[1]:
            return None
        if update.way - half < _STEADY * update.way * (seconds - began) / seconds:
            return None
        left = seconds * (1 - update.way) / update.way
        return left if left >= 1 else None
