"""What the status line says while a picture follows the pointer: one sentence, until another is true."""

from __future__ import annotations

from draggan.engine.base import Update
from draggan.ui import messages

__all__ = ["LiveWords"]

# Seconds for which "as far as it goes" stays although the picture moves again: along the border of what a model can do
# a picture now rests, now slides, and a sentence that flickers cannot be read.
_STAYS = 0.6


class LiveWords:
    """The sentence of one live drag. `messages.LIVE` is there when it begins."""

    def __init__(self) -> None:
        self._said = messages.LIVE
        self._rested = float("-inf")

    def after(self, update: Update, now: float, *, let_go: bool = False) -> str | None:
        """The sentence that replaces the one there is; None: that one stays.

        Args:
            update: the newest picture.
            now: seconds on any clock.
            let_go: the picture is held no longer, and goes on to where it was let go.
        """
        taut = messages.is_taut(update)
        if taut:
            self._rested = now
        elif not let_go and update.rests is None and now - self._rested < _STAYS:
            return None
        said = messages.LET_GO if let_go else messages.live_rest(update) if taut else messages.LIVE
        if said == self._said:
            return None
        self._said = said
        return said
