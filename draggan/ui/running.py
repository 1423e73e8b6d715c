"""Drags and downloads under way, and what is said when something fails."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import gradio as gr
import numpy as np
import torch

from draggan.drag import Drag, DragStep
from draggan.errors import ConfigError, DragGANError, LatentError, PointError
from draggan.export import Film
from draggan.ui import texts
from draggan.ui.models import Progress

__all__ = ["Cancelled", "Drags", "Fetch", "Pulls", "Run", "SessionGone", "Tabs", "explained"]

log = logging.getLogger(__name__)

# Seconds that a word of a pointer waits for a picture. The next word waits as long; each takes 5 ms of processor time.
_MOMENT = 0.05


class Stoppable(Protocol):
    """Something that runs until it ends or is asked to."""

    def stop(self) -> None:
        """Ask it to end soon."""


T = TypeVar("T", bound=Stoppable)


class Run:
    """A drag under way, on a thread of its own: whoever watches it may be slow and misses steps, never delays them.

    Args:
        drag: ready to run, not begun.

    Attributes:
        film: latents of some of its steps, evenly spaced.
    """

    def __init__(self, drag: Drag) -> None:
        self.drag = drag
        self.film: Film[np.ndarray] = Film()
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
                self.film.add(step.ws.cpu().numpy())
                with self._changed:
                    self._step = step
                    self._changed.notify_all()
        except BaseException as e:  # noqa: BLE001  # handed to whoever watches
            with self._changed:
                self._error = e
                self._changed.notify_all()


class Fetch:
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


class Cancelled(DragGANError):
    """A person has cancelled a download."""


class SessionGone(DragGANError):
    """A page was away for longer than its work is kept."""


class Tabs(Generic[T]):
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


class Drags(Tabs[Run]):
    """The drags that run now, and how many may run at a time over all tabs."""

    def __init__(self, limit: int) -> None:
        super().__init__("drag")
        self._places = threading.Semaphore(limit)

    def take_place(self, patience: float) -> bool:
        """Wait up to that many seconds until fewer than the limit are running; True: the place is ours."""
        return self._places.acquire(timeout=patience)

    def leave_place(self) -> None:
        """Give it back."""
        self._places.release()


@dataclass
class _Pull:
    """One of them: what is dragged, when its pointer was heard of last, and its newest picture with a number."""

    run: Run
    heard: float
    count: int = 0
    frame: str = ""
    handles: list[list[float]] = field(default_factory=list)
    wake: Callable[[], object] | None = None  # whoever waits for the next picture


class Pulls:
    """The pictures that are being pulled by hand, by a key that only the page that pulls knows."""

    def __init__(self) -> None:
        self._pulls: dict[str, _Pull] = {}
        self._lock = threading.Lock()

    def begin(self, key: str, run: Run) -> None:
        """From now on `steer` reaches that live drag; `end` must follow."""
        with self._lock:
            self._pulls[key] = _Pull(run, time.monotonic())

    def end(self, key: str) -> None:
        """Forget it."""
        with self._lock:
            self._pulls.pop(key, None)

    def show(self, key: str, frame: str, handles: list[list[float]]) -> None:
        """Its newest picture, for whoever asks next, and where what is held is in it."""
        with self._lock:
            pull = self._pulls[key]
            pull.count, pull.frame, pull.handles = pull.count + 1, frame, handles
            if pull.wake is not None:
                pull.wake()

    async def answer(self, message: Any) -> dict[str, Any] | None:
        """`steer`, and what came of it: a picture that the page has not seen, now or in a moment, or none.

        A page asks again when it has its answer: so pictures take the shortest way, as many as it can show.

        Args:
            message: as for `steer`, with ``"seen"``: the count of the newest picture that was seen.

        Returns:
            ``{"count": ..., "frame": ..., "handles": ...}``, nothing in it if there is no other picture; None: nothing
            is pulled.
        """
        if not self.steer(message):
            return None
        there, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            pull = self._pulls.get(message["key"])
            if pull is None:
                return None
            if pull.count != message.get("seen", 0):
                there.set()
            pull.wake = lambda: loop.call_soon_threadsafe(there.set)
        try:
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(there.wait(), _MOMENT)
        finally:
            with self._lock:
                pull.wake = None
        with self._lock:
            new = pull.count != message.get("seen", 0)
            return {"count": pull.count, "frame": pull.frame, "handles": pull.handles} if new else {}

    def steer(self, message: Any) -> bool:
        """The pointer has moved or let go: ``{"key": ..., "at": [x, y], "end": true or false}``, image pixels.

        With ``"stop": true`` the picture stays as it is. Anyone can send one, at any rate: it replaces what was there
        and waits for nothing. False: nothing is pulled.
        """
        key = message.get("key") if isinstance(message, dict) else None
        with self._lock:
            if not isinstance(key, str) or key not in self._pulls:
                return False
            run = self._pulls[key].run
            self._pulls[key].heard = time.monotonic()
        try:
            run.drag.retarget([message.get("at")])
        except PointError:
            log.debug("a pointer that is nowhere: %r", message.get("at"))
        if message.get("stop"):
            # The run, not the drag alone: it may be waiting for its place.
            run.stop()
        elif message.get("end"):
            run.drag.settle()
        return True

    def silence(self, key: str) -> float:
        """Seconds since anything was heard of the pointer."""
        with self._lock:
            return time.monotonic() - self._pulls[key].heard


@contextmanager
def explained(hide: str = "") -> Iterator[None]:
    """Turn every error into a sentence for a person. Not to be held across a ``yield``.

    Args:
        hide: words that are nobody's business, such as the folder where an uploaded file lies.
    """
    try:
        yield
    except gr.Error:
        raise
    except DragGANError as e:
        message = str(e).replace(hide, "") if hide else str(e)
        title = "Not a possible value" if isinstance(e, (ConfigError, LatentError)) else "That did not work"
        raise gr.Error(texts.sentence(message), title=title, print_exception=False) from e
    except (MemoryError, torch.OutOfMemoryError) as e:
        log.exception("out of memory")
        message = "There is not enough memory for this. Close other programs, or choose a smaller model."
        raise gr.Error(message, title="Out of memory", print_exception=False) from e
    except Exception as e:
        log.exception("unexpected error in the page")
        message = "Something unexpected went wrong; your picture and points are kept. The log says what it was."
        raise gr.Error(message, title="Unexpected error", print_exception=False) from e
