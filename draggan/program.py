"""How this program is called here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

__all__ = ["own_command"]


def own_command() -> str:
    """What starts this command line here: ``draggan`` where a shell would find this installation's, else the module."""
    found = shutil.which("draggan")
    if found is not None and Path(found).absolute().parent == Path(sys.executable).absolute().parent:
        return "draggan"
    return "python -m draggan"
