"""What is known of a photo before it is opened: a proposal for what is cut out, and how long it will take."""

from __future__ import annotations

import threading
import time

from draggan.engine.models import Models
from draggan.inversion import Crop, CropFinder, Expected, Photo, crop_finder, expected
from draggan.inversion.encoder import find_encoder

__all__ = ["CropFinders", "Expectations"]

_TRUE_FOR = 300.0  # seconds: a machine gets busier


class CropFinders:
    """The finders of the models, each made when it is asked for first.

    Args:
        models: what the page offers.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._made: dict[tuple[str, str], CropFinder | None] = {}
        self._lock = threading.Lock()

    def find(self, model: str, photo: Photo) -> tuple[bool, Crop | None]:
        """Whether a model can say what on a photo it draws, and that; None: it is not sure.

        Raises:
            DragGANError: the model is not here, or a file of its networks is damaged.
        """
        key = model, self._models.sha256(model)
        with self._lock:
            if key not in self._made:
                self._made[key] = crop_finder(*key, self._models.load(model))
            finder = self._made[key]
            if finder is None:
                return False, None
            found = finder.find(photo)
        return True, found.crop if found.is_sure else None


class Expectations:
    """How long opening a photo takes here, timed now and then.

    Args:
        models: what the page offers.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._known: dict[tuple[str, str], tuple[float, Expected]] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> Expected:
        """In a model.

        Raises:
            DragGANError: the model is not here, or photos cannot be opened in it.
        """
        key = model, self._models.sha256(model)
        with self._lock:
            since, known = self._known.get(key, (0.0, None))
            if known is None or time.monotonic() - since > _TRUE_FOR:
                known = expected(self._models.load(model), guessed=find_encoder(*key) is not None)
                self._known[key] = time.monotonic(), known
            return known
