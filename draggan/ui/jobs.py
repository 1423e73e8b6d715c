"""Drags, downloads and films under way, by the browser tab that they belong to; some on a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from draggan.downloads import DownloadProgress
from draggan.engine.models import Progress
from draggan.errors import DragGANError
from draggan.ui.errors import Cancelled

__all__ = ["DownloadJob", "FilmJob", "JobsByTab", "StoppableJob"]


class Stoppable(Protocol):
    """Something that runs until it ends or is asked to."""

    def stop(self) -> None:
        """Ask it to end soon."""


T = TypeVar("T", bound=Stoppable)


class StoppableJob:
    """Something that a handler does itself, step by step, and asks before each whether it should go on."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask it to end before its next step."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()


class ThreadedJob(StoppableJob):
    """Something on a thread of its own.

    Args:
        work: does it; asks `stopping` now and then, and raises `Cancelled` where it is.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self._do = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="job", daemon=True)

    def begin(self) -> None:
        """Start it."""
        self._thread.start()

    def ended(self, patience: float) -> bool:
        """Wait up to that many seconds for the end; True: it is done.

        Raises:
            Cancelled: it was cancelled.
            DragGANError: it failed.
        """
        self._thread.join(patience)
        # Before the error: a thread that fails after this line has not ended yet, and one that has ended has said why.
        over = not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return over

    def _work(self) -> None:
        try:
            self._do()
        except BaseException as e:  # noqa: BLE001  # raised again in `ended`
            self._error = e


class DownloadJob(ThreadedJob):
    """A download under way. What has come when it is stopped is kept to go on from.

    Args:
        fetch: does it; calls its argument with bytes done and in all.
    """

    def __init__(self, fetch: Callable[[Progress], None]) -> None:
        super().__init__(lambda: fetch(self._report))
        self.progress = DownloadProgress()

    def _report(self, done: int, total: int | None) -> None:
        if self.stopping:
            raise Cancelled("the download was cancelled; what has come is kept to go on from")
        self.progress(done, total)


class FilmJob(ThreadedJob):
    """A film that is written.

    Args:
        write: does it; calls its argument with how much is done, 0 to 1.

    Attributes:
        done: so much is.
    """

    def __init__(self, write: Callable[[Callable[[float], None]], object]) -> None:
        super().__init__(lambda: write(self._report))
        self.done = 0.0

    def _report(self, done: float) -> None:
        if self.stopping:
            raise Cancelled("the film was cancelled")
        self.done = done


class JobsByTab:
    """What runs now, by the browser tab it belongs to; one of a kind a tab.

    Callers without a tab, whose name is empty, share nothing: their jobs are not kept here.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._running: dict[str, Stoppable] = {}
        self._lock = threading.Lock()

    def begin(self, tab: str, make: Callable[[], T]) -> T:
        """Make it and remember it; `end` must follow.

        Raises:
            DragGANError: this tab has one already.
        """
        self._check_free(tab)
        # Not with the lock held: a model may have to be loaded first.
        job = make()
        try:
            with self._lock:
                if tab:
                    self._check_free(tab)
                    self._running[tab] = job
        except DragGANError:
            job.stop()
            raise
        return job

    def _check_free(self, tab: str) -> None:
        if tab in self._running:
            raise DragGANError(f"a {self._kind} is running in this tab already; stop it first")

    def end(self, tab: str, job: Stoppable) -> None:
        """Forget it, if it is what the tab runs still."""
        with self._lock:
            if self._running.get(tab) is job:
                del self._running[tab]

    def forget(self, tab: str) -> None:
        """Forget whatever it is that the tab runs."""
        with self._lock:
            self._running.pop(tab, None)

    def __len__(self) -> int:
        """How many run now."""
        return len(self._running)

    def __contains__(self, tab: str) -> bool:
        """Whether this tab runs one."""
        with self._lock:
            return tab in self._running

    def stop(self, tab: str) -> bool:
        """Ask what a tab runs to end; False: it runs nothing."""
        with self._lock:
            job = self._running.get(tab)
        if job is not None:
            job.stop()
        return job is not None
