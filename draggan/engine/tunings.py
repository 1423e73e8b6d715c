"""The tuned weights of photos, held for the sessions that they belong to, by the hash that recipes name.

Whoever knows the hash of a tuning has its photo, or a session's file with it: a hash is guessed as little as a
password, and leaves only with a session's own file. Nothing is ever looked for by anything else, so that visitors'
photos are not mixed. What was not used for longest goes first when there are too many.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from draggan.errors import RecipeError
from draggan.generators.base import Generator
from draggan.generators.tuned import tuned
from draggan.tuning import Tuning

__all__ = ["Tunings"]

_MOST_BYTES = 1 << 30  # of all tunings
_READY = 8  # generators that are kept made


class Tunings:
    """Tunings by their hash, and generators made of them.

    Args:
        most_bytes: of all tunings together; one of them is always kept.
        ready: generators that are kept made.
        clock: seconds, ever increasing.
    """

    def __init__(
        self, most_bytes: int = _MOST_BYTES, ready: int = _READY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes, self._most_ready, self._clock = most_bytes, ready, clock
        self._tunings: OrderedDict[str, Tuning] = OrderedDict()
        self._used: dict[str, float] = {}
        # With the model that each was made of, so that its place in memory is not taken by another one.
        self._ready: OrderedDict[tuple[str, int], tuple[Generator, Generator]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, tuning: Tuning, name: str = "") -> str:
        """Take one in; returns the name by which recipes have it: this one, or its hash where that is empty."""
        name = name or tuning.digest
        with self._lock:
            self._tunings[name] = tuning
            self._tunings.move_to_end(name)
            self._used[name] = self._clock()
            while len(self._tunings) > 1 and sum(t.bytes for t in self._tunings.values()) > self._most_bytes:
                self._forget(next(iter(self._tunings)))
        return name

    def get(self, digest: str) -> Tuning:
        """The tuning of that hash.

        Raises:
            RecipeError: it is not here.
        """
        with self._lock:
            if digest not in self._tunings:
                raise RecipeError(
                    "the tuned weights of this photo are not here any more, or never were; open the session's file, or "
                    "the photo again"
                )
            self._tunings.move_to_end(digest)
            self._used[digest] = self._clock()
            return self._tunings[digest]

    def forget(self, digest: str) -> None:
        """Nobody needs it any more; one that is not here is none."""
        with self._lock:
            self._forget(digest)

    def forget_unused(self, seconds: float) -> None:
        """Nobody needs what was not used for so long."""
        with self._lock:
            before = self._clock() - seconds
            for digest in [digest for digest, used in self._used.items() if used < before]:
                self._forget(digest)

    def generator(self, model: Generator, digest: str) -> Generator:
        """A model with a tuning; the same one as long as it is used. An empty hash: the model itself.

        Raises:
            RecipeError, LatentError: there is no such tuning, or it is another model's.
        """
        if not digest:
            return model
        tuning = self.get(digest)
        key = digest, id(model)
        with self._lock:
            if key in self._ready:
                self._ready.move_to_end(key)
                return self._ready[key][1]
        made = tuned(model, tuning.differences)
        with self._lock:
            # Somebody else may have been faster: everybody gets the same one.
            made = self._ready.setdefault(key, (model, made))[1]
            while len(self._ready) > self._most_ready:
                self._ready.popitem(last=False)
        return made

    def _forget(self, digest: str) -> None:
        """With the lock held."""
        self._tunings.pop(digest, None)
        self._used.pop(digest, None)
        for key in [key for key in self._ready if key[0] == digest]:
            del self._ready[key]
