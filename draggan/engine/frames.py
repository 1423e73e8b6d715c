"""What an animation shows of a drag."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["EvenFrames"]

T = TypeVar("T")


class EvenFrames(Generic[T]):
    """Some of a sequence of unknown length: evenly spaced, never more than a number of frames.

    Args:
        most: frames kept.
    """

    def __init__(self, most: int = 32) -> None:
        self.frames: list[T] = []
        self._most, self._stride, self._seen = max(most, 2), 1, 0

    def add(self, frame: T) -> None:
        """The next one; kept if its turn has come."""
        if self._seen % self._stride == 0:
            self.frames.append(frame)
            if len(self.frames) > self._most:
                self.frames, self._stride = self.frames[::2], 2 * self._stride
        self._seen += 1
