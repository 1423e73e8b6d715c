"""Drags and downloads under way, each on a thread of its own, and which browser tab they belong to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np

from draggan.drag import Drag, DragStep
from draggan.engine.frames import EvenFrames
from draggan.engine.models import Progress
from draggan.errors import DragGANError
from draggan.ui.errors import Cancelled

__all__ = ["DownloadJob", "DragJob", "DragSlots", "JobsByTab"]


class Stoppable(Protocol):
    """Something that runs until it ends or is asked to."""

    def stop(self) -> None:
        """Ask it to end soon."""


T = TypeVar("T", bound=Stoppable)


class DragJob:
    """A drag under way, on a thread of its own: whoever watches it may be slow and misses steps, never delays them.

    Args:
        drag: ready to run, not begun.

    Attributes:
        frames: latents of some of its steps, evenly spaced.
    """

    def __init__(self, drag: Drag) -> None:
        self.drag = drag
        self.frames: EvenFrames[np.ndarray] = EvenFrames()
        self._changed = threading.Condition()
        self._step: DragStep | None = None
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="drag", daemon=True)

    def begin(self) -> None:
        """Start running; `end` must follow."""
        self._thread.start()

    def end(self) -> None:
        """Stop, if it still runs, and wait for the step under way."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def stop(self) -> None:
        """Ask it to end with its next step. May be called from any thread, and before it has begun."""
        self._stopping.set()
        self.drag.stop()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def step(self) -> DragStep | None:
        """The newest step, None before the first."""
        return self._step

    def newer(self, than: DragStep | None, patience: float) -> DragStep | None:
        """The newest step: at once if it is not that one, else the next, or after that many seconds the same.

        Raises:
            Whatever the drag failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._step is not than or self._error is not None, patience)
            if self._error is not None:
                raise self._error
            return self._step

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end, good or bad; True: it has come."""
        with self._changed:
            return self._changed.wait_for(self._is_over, patience)

    def _is_over(self) -> bool:
        return self._error is not None or (self._step is not None and self._step.done)

    def _work(self) -> None:
        try:
            for step in self.drag:
                self.frames.add(step.ws.cpu().numpy())
                with self._changed:
                    self._step = step
                    self._changed.notify_all()
        except BaseException as e:  # noqa: BLE001  # handed to whoever watches
            with self._changed:
                self._error = e
                self._changed.notify_all()


class DownloadJob:
    """A download under way, on a thread of its own.

    Args:
        fetch: does it; calls its argument with bytes done and in all.
    """

    def __init__(self, fetch: Callable[[Progress], None]) -> None:
        self._fetch = fetch
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="download", daemon=True)
        self.started = time.monotonic()
        self.first: int | None = None  # bytes that were there already
        self.done = 0
        self.total: int | None = None

    def begin(self) -> None:
        """Start it."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel it. What has come is kept to go on from."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end; True: the file is here.

        Raises:
            Cancelled: it was cancelled.
            DownloadError: it failed.
        """
        self._thread.join(patience)
        # Before the error: a thread that fails after this line has not ended yet, and one that has ended has said why.
        over = not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return over

    def _report(self, done: int, total: int | None) -> None:
        if self._stopping.is_set():
            raise Cancelled("the download was cancelled; what has come is kept to go on from")
        if self.first is None:
            self.first = done
        self.done, self.total = done, total

    def _work(self) -> None:
        try:
            self._fetch(self._report)
        except BaseException as e:  # noqa: BLE001  # handed to whoever watches
            self._error = e


class JobsByTab(Generic[T]):
    """What runs now, by the browser tab it belongs to; one of a kind a tab.

    Callers without a tab, whose name is empty, have nothing in common: theirs is not kept here, and nobody stops it.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._running: dict[str, T] = {}
        self._lock = threading.Lock()

    def begin(self, tab: str, run: T) -> None:
        """Remember it; `end` must follow.

        Raises:
            DragGANError: this tab has one already.
        """
        if not tab:
            return
        with self._lock:
            if tab in self._running:
                raise DragGANError(f"a {self._kind} is running in this tab already; stop it first")
            self._running[tab] = run

    def end(self, tab: str, run: T) -> None:
        """Forget it, if it is what the tab runs still."""
        with self._lock:
            if self._running.get(tab) is run:
                del self._running[tab]

    def __contains__(self, tab: str) -> bool:
        """Whether this tab runs one."""
        with self._lock:
            return tab in self._running

    def stop(self, tab: str) -> bool:
        """Ask what a tab runs to end; False: it runs nothing."""
        with self._lock:
            run = self._running.get(tab)
        if run is not None:
            run.stop()
        return run is not None


class DragSlots(JobsByTab[DragJob]):
    """The drags that run now, and how many may run at a time over all tabs."""

    def __init__(self, limit: int) -> None:
        super().__init__("drag")
        self._places = threading.Semaphore(limit)

    def take_slot(self, patience: float) -> bool:
        """Wait up to that many seconds until fewer than the limit are running; True: the place is ours."""
        return self._places.acquire(timeout=patience)

    def leave_slot(self) -> None:
        """Give it back."""
        self._places.release()
