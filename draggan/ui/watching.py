"""Watching what an engine runs: a drag, or a photo on its way into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from draggan.engine.base import InversionUpdate, Update
from draggan.ui.errors import explained

__all__ = ["newest_updates"]

_UpdateT = TypeVar("_UpdateT", Update, InversionUpdate)


class _Run(Protocol[_UpdateT]):
    """`draggan.engine.base.RunningDrag` or `RunningInversion`, which say what this means."""

    @property
    def update(self) -> _UpdateT | None: ...

    def newer(self, than: _UpdateT | None, patience: float) -> _UpdateT | None: ...

    def ended(self, patience: float) -> bool: ...


def newest_updates(run: _Run[_UpdateT], due: Callable[[], float]) -> Iterator[_UpdateT]:
    """The newest update whenever one is due, up to the end. The last one is not among them: it is shown at rest.

    Args:
        due: seconds until the next one is; asked at least once a second or two, whether or not there is one.

    Raises:
        PageError: it has failed.
    """
    shown: _UpdateT | None = None
    while True:
        with explained():
            update = run.newer(shown, 1.0)
        if update is not None and update.done:
            return
        if run.ended(due()):
            with explained():
                run.newer(None, 0.0)  # says what it has failed with
            return
        update = run.update
        if update is None or update is shown or update.done:
            continue  # the last one has come meanwhile
        shown = update
        yield update
