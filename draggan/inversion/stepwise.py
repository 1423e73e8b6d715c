"""Work that yields after each of its steps, so that somebody else may have a turn, or say that nobody wants it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

__all__ = ["finished"]

_T = TypeVar("_T")


def finished(work: Generator[None, None, _T]) -> _T:
    """What comes of it, all steps at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _T = end.value
            return result
