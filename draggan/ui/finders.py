"""What is known of a photo before it is opened: a proposal for what is cut out, and how long it will take.

Both are computed in the turns of whoever asks, like drags, and one at a time for each model: others wait for what comes
of it, not the engine's threads.
"""

from __future__ import annotations

import threading
import time
from typing import TypeAlias

from draggan.engine.base import Engine
from draggan.engine.models import Models
from draggan.inversion import Crop, CropFinder, Expected, Photo, crop_finder, expected
from draggan.inversion.encoder import find_encoder

__all__ = ["CropFinders", "Expectations"]

_TRUE_FOR = 300.0  # seconds: a machine gets busier

_Key: TypeAlias = tuple[str, str]  # a model's name and hash


class _Locks:
    """One for every model."""

    def __init__(self) -> None:
        self._made: dict[_Key, threading.Lock] = {}

    def of(self, key: _Key) -> threading.Lock:
        return self._made.setdefault(key, threading.Lock())


class CropFinders:
    """The finders of the models, each made when it is asked for first.

    Args:
        models: what the page offers.
        engine: gives turns.
    """

    def __init__(self, models: Models, engine: Engine) -> None:
        self._models, self._engine = models, engine
        self._made: dict[_Key, CropFinder | None] = {}
        self._locks = _Locks()

    def find(self, model: str, photo: Photo, visitor: str) -> tuple[bool, Crop | None]:
        """Whether a model can say what on a photo it draws, and that; None: it is not sure.

        Raises:
            DragGANError: the model is not here, or a file of its networks is damaged.
        """
        key = model, self._models.sha256(model)
        with self._locks.of(key):
            return self._engine.in_turn(lambda: self._find(key, photo), visitor=visitor)

    def _find(self, key: _Key, photo: Photo) -> tuple[bool, Crop | None]:
        if key not in self._made:
            self._made[key] = crop_finder(*key, self._models.load(key[0]))
        finder = self._made[key]
        if finder is None:
            return False, None
        found = finder.find(photo)
        return True, found.crop if found.is_sure else None


class Expectations:
    """How long opening a photo takes here, timed now and then.

    Args:
        models: what the page offers.
        engine: gives turns.
    """

    def __init__(self, models: Models, engine: Engine) -> None:
        self._models, self._engine = models, engine
        self._known: dict[_Key, tuple[float, Expected]] = {}
        self._locks = _Locks()

    def of(self, model: str, visitor: str) -> Expected:
        """In a model.

        Raises:
            DragGANError: the model is not here, or photos cannot be opened in it.
        """
        key = model, self._models.sha256(model)
        with self._locks.of(key):
            since, known = self._known.get(key, (0.0, None))
            if known is None or time.monotonic() - since > _TRUE_FOR:
                known = self._engine.in_turn(lambda: self._timed(key), visitor=visitor)
                self._known[key] = time.monotonic(), known
            return known

    def _timed(self, key: _Key) -> Expected:
        return expected(self._models.load(key[0]), guessed=find_encoder(*key) is not None)
