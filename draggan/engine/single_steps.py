"""What is done for one person in one step or a few, when it is their turn, and waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Generator as Turns
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Generic, TypeVar

from draggan.engine.scheduler import State

__all__ = ["Once", "Stepwise"]

_T = TypeVar("_T")


class Once(Generic[_T]):
    """Something that is done in one step, as a picture, when it is its visitor's turn.

    Args:
        visitor: whose time it takes.
        work: does it, and gives what comes of it.
        urgent: whether it comes before all others.
        patient: whether it comes after all others.
    """

    def __init__(
        self,
        visitor: str,
        work: Callable[[], _T],
        *,
        urgent: bool = False,
        patient: bool = False,
    ) -> None:
        self.visitor, self.urgent, self.patient, self._work = visitor, urgent, patient, work
        self._future: Future[_T] = Future()

    def step(self) -> State:
        """Do it, if somebody waits for it still."""
        if not self._future.set_running_or_notify_cancel():
            return "over"
        try:
            self._future.set_result(self._work())
        except Exception as error:  # noqa: BLE001  # raised where somebody waits for it
            self._future.set_exception(error)
        return "over"

    def check(self) -> None:
        """Nothing to check: it ends after one step."""

    def wait(self) -> _T:
        """What comes of it, once it is there; raises what it has failed with."""
        return self._future.result()

    def wait_for(self, seconds: float) -> _T | None:
        """The same; None, and it is given up, if its turn has not come by then."""
        try:
            return self._future.result(seconds)
        except FutureTimeout:
            return None if self._future.cancel() else self._future.result()


class Stepwise(Generic[_T]):
    """Something that is done in steps, when it is its visitor's turn, as long as it is wanted.

    Args:
        visitor: whose time it takes.
        work: yields after each step.
    """

    patient = False

    def __init__(self, visitor: str, work: Turns[None, None, _T]) -> None:
        self.visitor, self._work = visitor, work
        self._future: Future[_T] = Future()
        self._cancelled = threading.Event()

    @property
    def urgent(self) -> bool:
        """Whether nobody wants it any more: then it takes no time."""
        return self._cancelled.is_set()

    def step(self) -> State:
        """One of them."""
        try:
            if self._cancelled.is_set():
                self._work.close()
                return "over"
            next(self._work)
            return "ready"
        except StopIteration as end:
            self._future.set_result(end.value)
        except Exception as error:  # noqa: BLE001  # raised where somebody waits for it
            self._future.set_exception(error)
        return "over"

    def check(self) -> None:
        """Whoever waits for it looks by themselves."""

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self._cancelled.set()

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end; True: it has come."""
        return bool(wait([self._future], patience).done)

    def result(self) -> _T:
        """What has come of it; raises what it has failed with."""
        return self._future.result()
