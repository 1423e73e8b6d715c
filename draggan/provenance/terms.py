"""What is asked of those who use this program: RESPONSIBLE_USE.md, for the page to show."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

__all__ = ["responsible_use"]

_NAME = "RESPONSIBLE_USE.md"


def responsible_use() -> str:
    """The text, as Markdown: of this checkout, or as it was installed; empty where neither has it."""
    beside = Path(__file__).parents[2] / _NAME
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    try:
        files = importlib.metadata.files("draggan") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    return next((file.read_text(encoding="utf-8") for file in files if file.name == _NAME), "")
