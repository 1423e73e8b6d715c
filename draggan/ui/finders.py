"""What is known of a photo before it is opened: a proposal for what is cut out, and how long it will take.

Both are computed in the turns of whoever asks, like drags, step by step, and end when nobody wants them any more; one
at a time for each model: others wait for what comes of it, not the engine's threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Generator as Turns
from contextlib import contextmanager
from typing import TypeAlias

from draggan.engine.base import Engine
from draggan.engine.models import Models
from draggan.inversion import Crop, CropFinder, Expected, Photo, crop_finder, timing
from draggan.inversion.encoder import find_encoder

__all__ = ["CropFinders", "Expectations"]

_TRUE_FOR = 300.0  # seconds: a machine gets busier
_LOOK = 0.5  # seconds between two looks whether somebody still wants it

_Key: TypeAlias = tuple[str, str]  # a model's name and hash


class _Locks:
    """One for every model."""

    def __init__(self) -> None:
        self._made: dict[_Key, threading.Lock] = {}

    @contextmanager
    def held(self, key: _Key, wanted: Callable[[], bool]) -> Iterator[bool]:
        """Wait for it and hold it; False: nobody wants that any more."""
        lock = self._made.setdefault(key, threading.Lock())
        while not (held := lock.acquire(timeout=_LOOK)) and wanted():
            pass
        try:
            yield held
        finally:
            if held:
                lock.release()


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

    def find(
        self, model: str, photo: Photo, visitor: str, wanted: Callable[[], bool]
    ) -> tuple[bool, Crop | None] | None:
        """Whether a model can say what on a photo it draws, and that; None: it is not sure, or, in place of all, the
        search was given up as it was not ``wanted`` any more.

        Raises:
            DragGANError: the model is not here, or a file of its networks is damaged.
        """
        key = model, self._models.sha256(model)
        with self._locks.held(key, wanted) as held:
            return self._engine.in_turns(self._find(key, photo), visitor=visitor, wanted=wanted) if held else None

    def _find(self, key: _Key, photo: Photo) -> Turns[None, None, tuple[bool, Crop | None]]:
        if key not in self._made:
            self._made[key] = crop_finder(*key, self._models.load(key[0]))
            yield
        finder = self._made[key]
        if finder is None:
            return False, None
        found = yield from finder.search(photo)
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

    def of(self, model: str, visitor: str, wanted: Callable[[], bool]) -> Expected | None:
        """In a model; None: that is not ``wanted`` any more.

        Raises:
            DragGANError: the model is not here, or photos cannot be opened in it.
        """
        key = model, self._models.sha256(model)
        with self._locks.held(key, wanted) as held:
            if not held:
                return None
            since, known = self._known.get(key, (0.0, None))
            if known is None or time.monotonic() - since > _TRUE_FOR:
                known = self._engine.in_turns(self._timed(key), visitor=visitor, wanted=wanted)
                if known is not None:
                    self._known[key] = time.monotonic(), known
            return known

    def _timed(self, key: _Key) -> Turns[None, None, Expected]:
        return timing(self._models.load(key[0]), guessed=find_encoder(*key) is not None)
