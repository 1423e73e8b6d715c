"""The temporary folder of one run of a program: what it writes there goes with it, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from tempfile import gettempdir, mkdtemp

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder"]

_PREFIX = "draggan-run-"
_LOCK = "lock"
_YOUNG = 60.0  # seconds in which a folder may not be locked yet


class RunFolder:
    """A new folder; what runs that were killed have left is removed first.

    Args:
        parent: where to make it; None: the system's folder for temporary files.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(gettempdir()) if parent is None else parent
        parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(parent)
        self.path = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        self._lock = _locked(self.path / _LOCK)

    def remove(self) -> None:
        """Remove it with everything in it."""
        for inside in self.path.iterdir():
            # The lock last.
            if inside.is_dir():
                shutil.rmtree(inside, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_left_over(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # Somebody else's are not ours to look at.
        with contextlib.suppress(OSError):
            status = folder.lstat()
            ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if ours and folder.is_dir() and not folder.is_symlink() and _is_over(folder, status.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)


def _is_over(folder: Path, made: float) -> bool:
    """Whether the run that made it has ended."""
    lock = folder / _LOCK
    if not lock.exists():
        return time.time() - made > _YOUNG
    if fcntl is None:
        with contextlib.suppress(OSError):
            lock.unlink()
            return True
        return False
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _locked(path: Path) -> int:
    """A descriptor of the file, which stays locked until this process ends, however it ends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor
