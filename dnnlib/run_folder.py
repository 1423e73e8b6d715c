"""The temporary folder of one run of a program: it goes with the run; what a run that was killed has left goes with the
next one that begins beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from tempfile import gettempdir, mkdtemp

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed, and no folder can be opened
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder"]

_PREFIX = "draggan-run-"
_LOCK = "lock"  # on Windows


class RunFolder:
    """A new folder; what runs that were killed have left is removed first.

    The folder itself is locked for as long as the process lives, so that neither another run nor the system takes it
    for left over: systemd-tmpfiles leaves alone what is locked so.

    Args:
        parent: where to make it, a folder of this machine alone; None: the system's folder for temporary files.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(gettempdir()) if parent is None else parent
        parent.mkdir(parents=True, exist_ok=True)
        for folder in parent.glob(f"{_PREFIX}*"):
            _remove_left_over(folder)
        self.path, self._held = _made(parent)

    def remove(self) -> None:
        """Remove it with everything in it; one that somebody else has removed is none."""
        _remove(self.path, self._held)


def _made(parent: Path) -> tuple[Path, int]:
    """A new folder, and what holds it."""
    while True:
        folder = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        # Before it was held, another run that begins may have taken it for left over.
        with contextlib.suppress(BlockingIOError, FileNotFoundError, FileExistsError):
            held = _hold(folder)
            if folder.exists():
                return folder, held
            os.close(held)


def _remove_left_over(folder: Path) -> None:
    # Somebody else's are not ours to look at; one that is held is in use.
    with contextlib.suppress(OSError):
        ours = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
        if ours and folder.is_dir() and not folder.is_symlink():
            _remove(folder, _hold(folder))


def _remove(folder: Path, held: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(held)
    shutil.rmtree(folder, ignore_errors=True)  # on Windows it is empty only now


def _hold(folder: Path) -> int:
    """A descriptor that holds a folder until this process ends, however it ends.

    Raises:
        BlockingIOError: another one holds it.
        OSError: it is gone, or cannot be held.
    """
    if fcntl is None:
        return _open_lock(folder / _LOCK)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open_lock(path: Path) -> int:
    """What holds a folder on Windows: a file that cannot be removed while it is open."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError as error:
        raise BlockingIOError(f"{path} is in use") from error
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
