"""Who listens to what was asked for: answers come over streams of their own, which a caller may never open."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Listeners"]

_FORGOTTEN = 3600.0  # seconds after which it does not matter who listened last


class Listeners:
    """Streams that are open, by the tab or the event they tell of.

    Args:
        clock: seconds, ever increasing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._closed: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, key: str) -> Iterator[None]:
        """While somebody listens."""
        with self._lock:
            self._open[key] += 1
        try:
            yield
        finally:
            now = self._clock()
            with self._lock:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]
                    self._closed.pop(key, None)
                    self._closed[key] = now
                # In the order of their times.
                while self._closed and now - next(iter(self._closed.values())) > _FORGOTTEN:
                    del self._closed[next(iter(self._closed))]

    def unheard(self, keys: tuple[str, ...], since: float) -> float:
        """Seconds for which nobody has listened to any of these, counted from ``since`` at the earliest."""
        with self._lock:
            if any(self._open[key] for key in keys if key):
                return 0.0
            last = max((self._closed.get(key, since) for key in keys), default=since)
        return max(self._clock() - max(last, since), 0.0)
