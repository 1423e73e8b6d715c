"""What goes wrong here on purpose."""

from __future__ import annotations

__all__ = ["BuildError"]


class BuildError(Exception):
    """A compiled operator could not be built. The plain PyTorch version does the same work, more slowly.

    The message says what was tried, what the compiler said and what to do, and is fit to be shown.
    """
