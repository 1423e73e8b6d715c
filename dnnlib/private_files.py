"""Files that only their owner can read: keys, and what is nobody else's business."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

__all__ = ["private_file", "write_private"]


def write_private(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; its folder is made if need be, for its owner only.

    Raises:
        OSError: it cannot be written.
    """
    temporary = _written_beside(path, data)
    try:
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def private_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in a file; if nothing is, what ``make`` gives is in it from now on. Of several makers one wins.

    Raises:
        OSError: it can neither be read nor written.
    """
    if content := _content(path):
        return content
    temporary = _written_beside(path, make())
    try:
        # Unlike a replacement, a link does not take the place of what another one has written meanwhile.
        with contextlib.suppress(OSError):
            os.link(temporary, path)
        if not _content(path):
            # A disk without links, or a file that is empty since the power went.
            os.replace(temporary, path)
        return path.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _written_beside(path: Path, data: bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # Else its name could outlive a power cut, and its content not.
            os.fsync(file.fileno())
    except BaseException:
        # A full disk, or somebody's Ctrl+C: part of a key is a secret, too.
        temporary.unlink(missing_ok=True)
        raise
    return temporary
