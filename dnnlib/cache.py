"""Where downloaded, converted and compiled files live."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cache_dir", "replacing"]


def cache_dir(*parts: str) -> Path:
    """The directory for files that can be fetched or computed again, or a path inside it. Creates nothing.

    The first of these that is set: ``DRAGGAN_HOME``; ``HF_HOME`` (then ``draggan`` inside it, since that is where a
    person wants large model files); ``XDG_CACHE_HOME``; on Windows ``LOCALAPPDATA``; else ``~/.cache``.
    """
    home = os.environ.get("DRAGGAN_HOME")
    if home:
        return Path(home).expanduser().joinpath(*parts)
    base = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME")
    if not base and sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    return Path(base or "~/.cache").expanduser().joinpath("draggan", *parts)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path``, for a file that appears under its own name only once it is whole.

    The folder is made if need be. What is written under the temporary name is renamed at the end, and removed after
    an error; of several writers the last one wins.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
