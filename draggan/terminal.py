"""What is shown and asked on a terminal before and while a model is downloaded."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from draggan.checkpoints.catalogue import ModelEntry, entry_of
from draggan.errors import DownloadError

__all__ = ["ProgressBar", "ensure_downloaded"]

_WIDTH = 28  # characters of the bar


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
    size = entry.download_size()
    _write(_offer(entry, size))
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


def _offer(entry: ModelEntry, size: int | None) -> str:
    """What to know before a download."""
    lines = [
        f"{entry.name}: {entry.title}" + (f", {entry.size[1]}x{entry.size[0]} px" if entry.size else ""),
        f"  size:  {'not known' if size is None else f'{size / 1e6:.1f} MB'}",
        f"  from:  {', else '.join(entry.hosts())}",
        f"  terms: {entry.licence}",
        *([f"  note:  {entry.notes}"] if entry.notes else []),
        f"  to:    {entry.local}",
    ]
    return "\n".join(lines) + "\n"


class ProgressBar:
    """A progress bar of a download, on a terminal; elsewhere nothing. Call it with bytes done and in all."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._started: float | None = None
        self._first = 0
        self._drawn = 0.0
        self._open = False
        if self._shown:
            self._line("connecting ...")

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._started is None:
            self._started, self._first = now, done
        if not self._shown or (now - self._drawn < 0.1 and done != total):
            return
        self._drawn = now
        text = f"{done / 1e6:.1f} MB"
        if total:
            full = min(_WIDTH * done // total, _WIDTH)
            text = f"[{'#' * full}{'.' * (_WIDTH - full)}] {done / 1e6:.1f} of {total / 1e6:.1f} MB"
        if now - self._started > 0.5:
            text += f", {(done - self._first) / (now - self._started) / 1e6:.1f} MB/s"
        self._line(text)

    def end(self) -> None:
        """Leave the line."""
        if self._open:
            self._open = False
            _write("\n")

    def _line(self, text: str) -> None:
        self._open = True
        _write(f"\r{text:{_WIDTH + 40}}")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
