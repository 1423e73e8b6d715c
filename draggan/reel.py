"""Frames of a film that are made when they are wanted: a long one takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

__all__ = ["Frames", "Reel", "chosen"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Frames(Protocol[T_co]):
    """So many things in an order, which can be gone through again and again; a list is one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...


class Reel(Generic[T]):
    """`map` that knows its length and begins anew each time: nothing of what it has made is kept.

    Args:
        make: of one of each source.
        sources: all of one length.
    """

    def __init__(self, make: Callable[..., T], *sources: Frames[Any]) -> None:
        self._make, self._sources = make, sources

    def __len__(self) -> int:
        return len(self._sources[0])

    def __iter__(self) -> Iterator[T]:
        for parts in zip(*self._sources, strict=True):
            yield self._make(*parts)

    def some(self, numbers: Collection[int]) -> Iterator[T]:
        """Those of these numbers, from 0 on; no other is made."""
        for parts in zip(*(chosen(source, numbers) for source in self._sources), strict=True):
            yield self._make(*parts)


def chosen(frames: Frames[T], numbers: Collection[int]) -> Iterator[T]:
    """Frames of these numbers, from 0 on, in their order."""
    if isinstance(frames, Reel):
        return frames.some(numbers)
    return (frame for number, frame in enumerate(frames) if number in numbers)
