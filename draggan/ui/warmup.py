"""What the first drag of a process prepares, done before anybody waits for it."""

from __future__ import annotations

import contextlib
import itertools

from draggan.engine.base import Engine
from draggan.engine.models import Models
from draggan.errors import DragGANError
from draggan.session import Session

__all__ = ["warm_up"]

_LARGEST = 512  # pixels; a larger model would keep a person waiting for the first picture


def warm_up(engine: Engine, models: Models) -> None:
    """Take hold of the first picture, pull a little and let go."""
    with contextlib.suppress(DragGANError):
        first = models.listed()[0]
        label = 0 if models.load(first.name).c_dim else None
        recipe = engine.begin(first.name, seed=0, truncation=first.truncation, label=label)
        height, width = recipe.image_size
        if max(height, width) > _LARGEST:
            return
        drag = engine.live(recipe, Session.of(recipe).live_edit((width // 2, height // 2)), visitor="warm-up")
        drag.retarget([(width // 2 + width // 16, height // 2)])
        drag.settle()
        try:
            for update in itertools.islice(drag, 2):
                drag.preview(update, drag.preview_heights[-1])
        finally:
            drag.stop()
