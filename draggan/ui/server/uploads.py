"""Files that visitors send: how many and how large, and when they leave the disk again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from draggan.config import Limits
from draggan.errors import LimitError

__all__ = ["Uploads"]

_WAITING = 600.0  # seconds in which an uploaded file must be opened
_RESERVE = 200_000_000  # bytes of the disk that are left free


@dataclass
class _File:
    visitor: str
    bytes: int
    since: float
    claims: int = 1  # times it was uploaded and not opened yet: equal files share a path


class Uploads:
    """Keeps account of uploaded files.

    Args:
        incoming: the folder that Gradio writes uploads to.
        kept: where those go that are in use.
        limits: what is allowed.
        unused: how long a kept file has not been used, seconds.
        clock: seconds, ever increasing.
    """

    def __init__(
        self,
        incoming: Path,
        kept: Path,
        limits: Limits,
        *,
        unused: Callable[[Path], float] = lambda path: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.incoming, self._kept_folder = incoming, kept
        self._limits, self._unused, self._clock = limits, unused, clock
        self._waiting: dict[Path, _File] = {}
        self._kept: dict[Path, _File] = {}
        self._under_way: Counter[str] = Counter()  # bytes that are coming, by visitor
        self._transfers = 0
        self._lock = threading.Lock()

    # While a file comes

    def begin(self, visitor: str, length: int | None) -> None:
        """An upload of so many bytes is to begin; `end` must follow.

        Raises:
            LimitError: it would be too much.
        """
        self.sweep()
        with self._lock:
            count = sum(file.visitor == visitor for file in self._files())
            if count >= self._limits.uploads:
                raise LimitError(
                    f"{count} files of yours are kept here, as many as are allowed; "
                    f"each goes {self._limits.kept / 3600:.0f} h after its last use"
                )
            self._check(visitor, length or 0)
            self._transfers += 1

    def grow(self, visitor: str, done: int, more: int) -> None:
        """So many bytes of an upload have come, and that many more do.

        Raises:
            LimitError: it is too much.
        """
        with self._lock:
            self._check(visitor, more, done)
            self._under_way[visitor] += more

    def end(self, visitor: str, done: int, paths: Sequence[str] = ()) -> None:
        """An upload has ended, well if there are paths of files."""
        now = self._clock()
        with self._lock:
            self._transfers -= 1
            self._under_way[visitor] -= done
            if not self._under_way[visitor]:
                del self._under_way[visitor]  # most come once
            for path in map(Path, paths):
                known = self._waiting.get(path)
                if known is not None:
                    known.claims, known.since = known.claims + 1, now
                    continue
                with contextlib.suppress(OSError):
                    self._waiting[path] = _File(visitor, path.stat().st_size, now)
            idle = not self._transfers
        if idle:
            self._remove_cut_off()

    def _check(self, visitor: str, more: int, done: int = 0) -> None:
        limits = self._limits
        if done + more > limits.upload_bytes:
            raise LimitError(f"a file may have {_megabytes(limits.upload_bytes)} here, and this one has more")
        own = sum(file.bytes for file in self._files() if file.visitor == visitor) + self._under_way[visitor]
        if own + more > limits.visitor_bytes:
            raise LimitError(
                f"your files may have {_megabytes(limits.visitor_bytes)} together here, and with this one have more"
            )
        everyone = sum(file.bytes for file in self._files()) + sum(self._under_way.values())
        if everyone + more > limits.all_bytes:
            raise LimitError("there is no room for another file here at the moment; try again later")
        if self._free() < more + _RESERVE:
            raise LimitError("the disk of this server is full; free some space there, or try again later")

    def _free(self) -> float:
        try:
            return shutil.disk_usage(self.incoming).free
        except OSError:
            return float("inf")  # it will be made, or the upload fails by itself

    def _files(self) -> list[_File]:
        return [*self._waiting.values(), *self._kept.values()]

    # When it is there

    def holds(self, path: Path) -> bool:
        """Whether a path is that of an uploaded file, rather than one of this machine's own."""
        try:
            return path.resolve().is_relative_to(self.incoming.resolve())
        except OSError:
            return False

    def keep(self, path: Path, visitor: str) -> Path:
        """Where an uploaded file lies from now on, for as long as it is used. It has left the place it came to."""
        place = self._kept_folder / secrets.token_hex(8) / path.name
        place.parent.mkdir(parents=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)
        with self._lock:
            waiting = self._waiting.get(path)
            owner = visitor if waiting is None else waiting.visitor
            self._kept[place] = _File(owner, place.stat().st_size, self._clock())
        self.release(path)
        return place

    def release(self, path: Path) -> None:
        """One of those who uploaded this file needs it no more where it came to."""
        with self._lock:
            waiting = self._waiting.get(path)
            if waiting is not None:
                waiting.claims -= 1
                if waiting.claims > 0:
                    return
                del self._waiting[path]
        _remove(path)

    def discard(self, place: Path) -> None:
        """A kept file is of no use."""
        with self._lock:
            self._kept.pop(place, None)
        _remove(place)

    def sweep(self) -> None:
        """Remove what nobody has opened, and what nobody uses any more."""
        now = self._clock()
        with self._lock:
            late = [path for path, file in self._waiting.items() if now - file.since > _WAITING]
            for path in late:
                del self._waiting[path]
            unused = [path for path in self._kept if self._unused(path) > self._limits.kept]
            for path in unused:
                del self._kept[path]
        for path in late + unused:
            _remove(path)

    def _remove_cut_off(self) -> None:
        """What is left of uploads that did not come to their end lies beside the folders of those that did."""
        with contextlib.suppress(OSError):
            for path in self.incoming.glob("tmp*"):
                if path.is_file():
                    path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """The file, and its folder if nothing else is in there."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
