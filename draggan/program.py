"""How this program is called here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

__all__ = ["own_command"]

_MODULE = "python -m draggan"


def own_command() -> str:
    """What starts this command line here: what has started it.

    Where something else has, as the page's ``app.py``: ``draggan`` where a shell would find this installation's, else
    the module.
    """
    started = Path(sys.argv[0]) if sys.argv else Path()
    found = shutil.which("draggan")
    if started.name == "__main__.py" and started.parent.name == "draggan":
        return _MODULE
    if started.stem == "draggan":
        on_path = found is not None and Path(found).absolute() == started.absolute()
        # As it was typed, such as .venv/bin/draggan; where it lies on this machine is nobody's business.
        return "draggan" if on_path or started.is_absolute() else sys.argv[0]
    if found is not None and Path(found).absolute().parent == Path(sys.executable).absolute().parent:
        return "draggan"
    return _MODULE
