"""Where downloaded, converted and compiled files live."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_dir"]


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
