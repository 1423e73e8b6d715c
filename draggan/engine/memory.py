"""Memory that has become free is given back to the system, where the allocator would keep it for later."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["MemoryReturn"]

_PAUSE = 5.0  # seconds between two times while others work on; it takes some milliseconds


def _trim() -> Callable[[int], int] | None:
    """glibc's own way to do so; None: there is another allocator."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


class MemoryReturn:
    """Gives free memory back, not more often than is useful.

    Args:
        clock: seconds, ever increasing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._trim, self._clock = _trim(), clock
        self._last = -_PAUSE
        self._lock = threading.Lock()

    def __call__(self, *, idle: bool) -> bool:
        """Something has ended; ``idle``: nothing else is under way. Whether memory was given back."""
        with self._lock:
            now = self._clock()
            if self._trim is None or (not idle and now - self._last < _PAUSE):
                return False
            self._last = now
        self._trim(0)
        return True
