"""Small pictures of models' seeds, each drawn once for all visitors."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from draggan.engine.base import Engine
from draggan.ui.canvas.component import frame_url

__all__ = ["Thumbnails"]

_SIDE = 112  # pixels of the longer side
_MOST = 1024  # of them; about 4 MB
_PATIENCE = 8.0  # seconds that one waits for a machine that has something else to do
_QUALITY = 85


class Thumbnails:
    """Draws them, and remembers the newest.

    Args:
        engine: draws, whenever it has nothing else to do.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: OrderedDict[tuple[object, ...], str] = OrderedDict()
        self._lock = threading.Lock()

    def of_seed(self, model: str, seed: int, truncation: float, label: int | None) -> str | None:
        """The picture of a seed as a JPEG data URL; None: the engine has no time for it now.

        Raises:
            DragGANError: there is no such picture.
        """
        recipe = self._engine.begin(model, seed=seed, truncation=truncation, label=label)
        # A name may stand for another file by now.
        key = (recipe.model, recipe.start)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        pixels = self._engine.thumbnail(recipe, _SIDE, patience=_PATIENCE)
        if pixels is None:
            return None
        address = frame_url(_smaller(pixels), quality=_QUALITY)
        with self._lock:
            self._known[key] = address
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return address


def _smaller(pixels: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "_ _ channels"]:
    """With the longer side as long as it should be; a smaller picture stays as it is."""
    height, width = pixels.shape[:2]
    far = _SIDE / max(height, width)
    if far >= 1:
        return pixels
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    small = np.asarray(
        image.resize((max(round(width * far), 1), max(round(height * far), 1)), Image.Resampling.LANCZOS)
    )
    return small if small.ndim == 3 else small[..., None]
