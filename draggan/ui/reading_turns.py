"""Files that visitors have sent are read a few at a time: a photo of a few kilobytes may take a gigabyte to look at."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from draggan.errors import LimitError

__all__ = ["ReadingTurns"]


class ReadingTurns:
    """Who reads when.

    Args:
        at_once: files that are read at a time, of all visitors.
        places: of one visitor, with those that wait; one of them is read at a time, so that others have a place.
        patience: seconds until one that waits is refused.
        what: is done with a file, as in "another file of yours is being ...".
    """

    def __init__(self, at_once: int = 2, places: int = 1, patience: float = 20.0, what: str = "read") -> None:
        self._at_once, self._places, self._patience, self._what = at_once, places, patience, what
        self._reading: set[str] = set()
        self._there: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, visitor: str) -> Iterator[None]:
        """Wait for a place, and hold it.

        Raises:
            LimitError: there is none for this visitor, or none soon.
        """
        with self._changed:
            if self._there[visitor] >= self._places:
                raise LimitError(f"another file of yours is being {self._what}; wait until it is done")
            self._there[visitor] += 1
            try:
                if not self._changed.wait_for(lambda: self._is_free(visitor), self._patience):
                    raise LimitError(f"other files are being {self._what}; try again in a minute")
                self._reading.add(visitor)
            except BaseException:
                self._leave(visitor)
                raise
        try:
            yield
        finally:
            with self._changed:
                self._reading.discard(visitor)
                self._leave(visitor)
                self._changed.notify_all()

    def waiting(self, visitor: str) -> int:
        """Files of a visitor that are read, or wait for it."""
        with self._changed:
            return self._there[visitor]

    def _is_free(self, visitor: str) -> bool:
        return visitor not in self._reading and len(self._reading) < self._at_once

    def _leave(self, visitor: str) -> None:
        """With the lock held."""
        self._there[visitor] -= 1
        if not self._there[visitor]:
            del self._there[visitor]
