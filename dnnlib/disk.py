"""Writing files that others may want to write at the same time, on disks that may be full."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from dnnlib.cache import cache_dir
from dnnlib.errors import DownloadError

__all__ = ["check_space", "exclusive", "writing"]

SPARE_BYTES = 64 << 20  # left free on the disk beyond the file itself


def check_space(folder: Path, needed: int) -> None:
    """See that so many bytes fit into a folder.

    Raises:
        DownloadError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise DownloadError(
            f"{needed:,} bytes are needed in {folder} and {free:,} are free; "
            "free some space, or set DRAGGAN_HOME to a folder on another disk"
        )


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the right to write ``path``, among threads and processes.

    Args:
        waiting: called several times a second while another one has it; what it raises ends the waiting.

    Raises:
        DownloadError: the folder of locks cannot be written to.
    """
    from filelock import FileLock, Timeout  # here: a list of models does not wait for it

    # Not beside the file, where it would be left behind: a lock that is removed can be held twice.
    file = cache_dir("locks", hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32] + ".lock")
    lock = FileLock(file)
    while True:
        try:
            with writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(NotImplementedError):  # some network shares: better unlocked than not at all
                    lock.acquire(timeout=0.1)
            break
        except Timeout:
            waiting()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """The disk's errors as ours, with what to do about them."""
    try:
        yield
    except TimeoutError:
        raise  # of a lock
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            message = f"the disk that holds {path.parent} is full; free some space and try again"
        else:
            message = f"cannot write {path}: {error.strerror or error}; set DRAGGAN_HOME to a folder you can write to"
        raise DownloadError(message) from error
