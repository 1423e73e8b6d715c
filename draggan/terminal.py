"""What is shown and asked on a terminal before and while a model is downloaded."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from draggan.checkpoints.catalogue import entry_of
from draggan.downloads import DownloadProgress, offer, terms_of
from draggan.errors import DownloadError
from draggan.reel import Frames, Reel

__all__ = ["CountBar", "ProgressBar", "StageBar", "Watched", "check_model", "ensure_downloaded"]

T = TypeVar("T")

_WIDTH = 28  # characters of the bar


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


class ProgressBar:
    """A progress bar of a download, on a terminal; elsewhere nothing. Call it with bytes done and in all."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._progress = DownloadProgress()
        self._drawn = 0.0
        self._draw()

    def __call__(self, done: int, total: int | None) -> None:
        self._progress(done, total)
        if time.monotonic() - self._drawn > 0.1 or done == total:
            self._draw()

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            self._shown = False
            _write("\n")

    def _draw(self) -> None:
        if self._shown:
            self._drawn = time.monotonic()
            full = int(_WIDTH * self._progress.fraction)
            bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] " if full else ""
            _write(f"\r{bar + self._progress.text:{_WIDTH + 40}}")


class CountBar:
    """A progress bar of things that are done one after the other, on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started = time.monotonic()
        self._first: int | None = None  # that were done before
        self._drawn = 0.0

    def __call__(self, done: int, failed: int, total: int) -> None:
        """So many are done, so many have failed, of so many in all."""
        now, ended = time.monotonic(), done + failed
        if self._first is None:
            self._first, self._started = ended, now
        if not self._shown or (now - self._drawn < 0.1 and ended < total):
            return
        self._drawn = now
        rate = (ended - self._first) / max(now - self._started, 0.1)
        full = int(_WIDTH * ended / max(total, 1))
        text = f"[{'#' * full}{'.' * (_WIDTH - full)}] {ended} of {total}"
        if failed:
            text += f", {failed} failed"
        if rate > 0:
            left = round((total - ended) / rate)
            text += f" · {rate:.2g} a second · {left // 60}:{left % 60:02} left"
        _write(f"\r{text:{_WIDTH + 56}}")

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            self._shown = False
            _write("\n")


class StageBar:
    """A progress bar of something with a known share done, on a terminal; elsewhere nothing.

    Args:
        shown: whether there is one at all.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._drawn = 0.0

    def __call__(self, share: float, said: str, seconds_left: float) -> None:
        """So much of it is done, 0 to 1; what is being done; seconds that it will still take."""
        now = time.monotonic()
        if not self._shown or (now - self._drawn < 0.1 and share < 1):
            return
        self._drawn = now
        full = int(_WIDTH * min(max(share, 0.0), 1.0))
        left = round(seconds_left)
        text = f"[{'#' * full}{'.' * (_WIDTH - full)}] {said} · {left // 60}:{left % 60:02} left"
        _write(f"\r{text:{_WIDTH + 56}}")

    def end(self) -> None:
        """Leave the line, if there is one."""
        if self._drawn:
            self._drawn = 0.0
            _write("\n")


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


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
