"""What is shown and asked on a terminal: how far work is, and before a model is downloaded."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from draggan.checkpoints.catalogue import entry_of
from draggan.downloads import DownloadProgress, offer, terms_of
from draggan.errors import DownloadError
from draggan.reel import Frames, Reel

__all__ = ["CountBar", "Line", "ProgressBar", "StageBar", "Watched", "check_model", "ensure_downloaded", "follow"]

T = TypeVar("T")


@runtime_checkable
class _Update(Protocol):
    """`draggan.engine.base.Update` or `InversionUpdate`, which cannot be imported here."""

    @property
    def done(self) -> bool: ...


UpdateT = TypeVar("UpdateT", bound=_Update)


@runtime_checkable
class _Run(Protocol[UpdateT]):
    """`draggan.engine.base.RunningDrag` or `RunningInversion`, which say what this means."""

    def newer(self, than: UpdateT | None, patience: float) -> UpdateT | None: ...

    def ended(self, patience: float) -> bool: ...

    def stop(self) -> None: ...


_WIDTH = 28  # characters of the bar
_USUAL_COLUMNS = 80


def check_model(model: str) -> None:
    """Refuse what is no model, whether or not it is on this machine.

    Args:
        model: a registry name, a path or an https address.

    Raises:
        ModelNotFound: no such model.
        DownloadError: an address that is not fetched.
    """
    if not Path(model).expanduser().is_file():
        entry_of(model)


def ensure_downloaded(model: str, *, yes: bool) -> None:
    """Download a model's file if it is not on this machine, after saying what it is and asking.

    Args:
        model: a registry name, a path or an https address.
        yes: do not ask.

    Raises:
        ModelNotFound: no such model.
        DownloadError: nobody said yes, or it could not be fetched.
    """
    if Path(model).expanduser().is_file():
        return
    entry = entry_of(model)
    if entry.on_disk:
        return
    if not entry.urls:
        entry.fetch()  # says how a person gets the file
    terms = terms_of(entry, ask=True)
    _write(offer(f"{entry.name}: {entry.title}", terms, destination=str(entry.local)) + "\n")
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise DownloadError(
                f"'{entry.name}' is not on this machine and nobody can be asked here; "
                "add --yes to download it under these terms"
            )
        _write("Download it? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise DownloadError("nothing was downloaded")
    bar = ProgressBar()
    try:
        entry.fetch(bar)
    except KeyboardInterrupt:
        bar.end()
        _write("What has come is kept; the same command goes on from there.\n")
        raise
    finally:
        bar.end()


def follow(run: _Run[UpdateT], show: Callable[[UpdateT], None]) -> UpdateT | None:
    """Show the newest update of what an engine runs, up to its end; Ctrl+C stops it, and what was reached is kept.

    Returns:
        The last update; None if it was stopped before its first step.

    Raises:
        Whatever it has failed with.
    """
    update: UpdateT | None = None
    while update is None or not update.done:
        try:
            newer = run.newer(update, 1.0)
            if newer is update and run.ended(0):
                break
            if newer is not None and newer is not update:
                update = newer
                show(update)
        except KeyboardInterrupt:
            run.stop()
    return update


class Line:
    """A line of a terminal that is written anew as work goes on, and wiped away at its end; elsewhere nothing.

    Args:
        shown: whether there is one at all.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self.shown = shown and sys.stderr.isatty()
        self._length = 0  # characters that stand there

    def __call__(self, text: str) -> None:
        """Have it say this. What the terminal is too narrow for is cut off: a second line could not be written anew."""
        if self.shown:
            columns = _columns() - 1
            text = text[:columns]
            # Whoever has made the window narrower has had what stood there wrapped; no more of it can be wiped away.
            _write("\r" + text.ljust(min(self._length, columns)))
            self._length = len(text)

    def end(self) -> None:
        """Leave the terminal as if it had not been there."""
        if self._length:
            # All of it: a terminal has written ^C behind ours where that was pressed.
            _write(f"\r{' ' * (_columns() - 1)}\r")
            self._length = 0


class ProgressBar:
    """A progress bar of a download, on a terminal; elsewhere nothing. Call it with bytes done and in all."""

    def __init__(self) -> None:
        self._line = Line()
        self._progress = DownloadProgress()
        self._drawn = 0.0
        self._draw()

    def __call__(self, done: int, total: int | None) -> None:
        self._progress(done, total)
        # Bytes come in more pieces than anybody could read of.
        if time.monotonic() - self._drawn > 0.1 or done == total:
            self._draw()

    def end(self) -> None:
        """Take it away."""
        self._line.end()

    def _draw(self) -> None:
        self._drawn, fraction = time.monotonic(), self._progress.fraction
        self._line((f"{_bar(fraction)} " if fraction else "") + self._progress.text)


class CountBar:
    """A progress bar of things that are done one after the other, on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._line = Line()
        self._started = time.monotonic()
        self._first: int | None = None  # that were done before

    def __call__(self, done: int, failed: int, total: int) -> None:
        """So many are done, so many have failed, of so many in all."""
        now, ended = time.monotonic(), done + failed
        if self._first is None:
            self._first, self._started = ended, now
        rate = (ended - self._first) / max(now - self._started, 0.1)
        text = f"{_bar(ended / max(total, 1))} {ended} of {total}"
        if failed:
            text += f", {failed} failed"
        if rate > 0:
            text += f" · {rate:.2g} a second · {_time_left((total - ended) / rate)}"
        self._line(text)

    def end(self) -> None:
        """Take it away."""
        self._line.end()


class StageBar:
    """A progress bar of something with a known share done, on a terminal; elsewhere nothing.

    Args:
        shown: whether there is one at all.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._line = Line(shown=shown)

    def __call__(self, share: float, said: str, seconds_left: float) -> None:
        """So much of it is done, 0 to 1; what is being done; seconds that it will still take."""
        self._line(f"{_bar(share)} {said} · {_time_left(seconds_left)}")

    def end(self) -> None:
        """Take it away."""
        self._line.end()


class Watched(Reel[T]):
    """Frames that have a bar each time all of them are gone through.

    Args:
        frames: in their order.
        said: what is being done with them.
        shown: whether there is a bar at all.
    """

    def __init__(self, frames: Frames[T], said: str, *, shown: bool = True) -> None:
        super().__init__(lambda frame: frame, frames)
        self._said, self._shown = said, shown

    def __iter__(self) -> Iterator[T]:
        bar, begun = StageBar(shown=self._shown), time.monotonic()
        try:
            for number, frame in enumerate(super().__iter__(), 1):
                yield frame
                share = number / len(self)
                bar(share, self._said, (time.monotonic() - begun) * (1 - share) / share)
        finally:
            bar.end()


def _bar(share: float) -> str:
    """Of that share, 0 to 1."""
    full = int(_WIDTH * min(max(share, 0.0), 1.0))
    return f"[{'#' * full}{'.' * (_WIDTH - full)}]"


def _time_left(seconds: float) -> str:
    left = round(seconds)
    return f"{left // 60}:{left % 60:02} left"


def _columns() -> int:
    """How many characters a line of the terminal has."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):  # it does not say
        return _USUAL_COLUMNS


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
