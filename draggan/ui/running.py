"""Drags under way, and what is said when something fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
import torch

from draggan.drag import Drag, DragStep
from draggan.errors import DragGANError, PointError

__all__ = ["Drags", "Run", "explained"]

log = logging.getLogger(__name__)


class Run:
    """A drag under way, on a thread of its own: whoever watches it may be slow and misses steps, never delays them.

    Args:
        drag: ready to run, not begun.
    """

    def __init__(self, drag: Drag) -> None:
        self.drag = drag
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
                with self._changed:
                    self._step = step
                    self._changed.notify_all()
        except BaseException as e:  # noqa: BLE001  # handed to whoever watches
            with self._changed:
                self._error = e
                self._changed.notify_all()


class Drags:
    """The drags that run now, by the browser tab they belong to, and how many may run at a time."""

    def __init__(self, limit: int) -> None:
        self._running: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._places = threading.Semaphore(limit)

    def begin(self, tab: str, run: Run) -> None:
        """Remember a drag; `end` must follow.

        Raises:
            PointError: this tab has one already.
        """
        with self._lock:
            if tab in self._running:
                raise PointError("a drag is running in this tab already; stop it first")
            self._running[tab] = run

    def end(self, tab: str) -> None:
        """Forget it."""
        with self._lock:
            self._running.pop(tab, None)

    def stop(self, tab: str) -> None:
        """Ask the drag of a tab, if there is one, to end with its next step."""
        with self._lock:
            run = self._running.get(tab)
        if run is not None:
            run.stop()

    def take_place(self, patience: float) -> bool:
        """Wait up to that many seconds until fewer than the limit are running; True: the place is ours."""
        return self._places.acquire(timeout=patience)

    def leave_place(self) -> None:
        """Give it back."""
        self._places.release()


@contextmanager
def explained() -> Iterator[None]:
    """Turn every error into a sentence for a person. Not to be held across a ``yield``."""
    try:
        yield
    except gr.Error:
        raise
    except DragGANError as e:
        raise gr.Error(str(e), title="That did not work", print_exception=False) from e
    except (MemoryError, torch.OutOfMemoryError) as e:
        log.exception("out of memory")
        message = "There is not enough memory for this. Close other programs, or choose a smaller model."
        raise gr.Error(message, title="Out of memory", print_exception=False) from e
    except Exception as e:
        log.exception("unexpected error in the page")
        message = "Something unexpected went wrong; your picture and points are kept. The log says what it was."
        raise gr.Error(message, title="Unexpected error", print_exception=False) from e
