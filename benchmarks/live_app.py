"""The page, with live drags whose tracker another process chooses: for `benchmarks.live`, which compares two by turns.

``python -m benchmarks.live_app --port N``: every line of standard input names the tracker of the pulls that follow.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

from draggan.cli.app import main as serve
from draggan.config import DragConfig, choices
from draggan.engine import local
from draggan.engine.local import LocalEngine
from draggan.engine.running_drag import TurnsLiveDrag
from draggan.recipe import Edit, Recipe

__all__ = ["main"]

_chosen = "auto"


class _ChosenTracker(LocalEngine):
    """The engine in one process, but for that setting."""

    def live(self, recipe: Recipe, edit: Edit, *, visitor: str = "") -> TurnsLiveDrag:
        """See `Engine.live`."""
        return super().live(recipe, replace(edit, settings={**edit.settings, "tracker": _chosen}), visitor=visitor)


def _listen() -> None:
    global _chosen
    for line in sys.stdin:
        if line.strip() in choices(DragConfig)["tracker"]:
            _chosen = line.strip()


def main() -> int:
    """Serve the page until interrupted."""
    threading.Thread(target=_listen, daemon=True).start()
    # The page takes the engine from there when it is built.
    local.LocalEngine = _ChosenTracker  # type: ignore[misc]
    return serve()


if __name__ == "__main__":
    sys.exit(main())
