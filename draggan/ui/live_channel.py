"""The way of a picture that is dragged by hand: positions of the pointer come in, the newest frame goes out.

It passes by Gradio's queue: a message is a plain call of the canvas, answered with the next frame (see
``canvas/protocol.md``).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from draggan.engine.base import LiveDrag, Update
from draggan.errors import PointError
from draggan.ui import messages

__all__ = ["LiveDrags"]

log = logging.getLogger(__name__)

# Seconds that a message of the pointer waits for a frame. The next message waits as long; each takes 5 ms of
# processor time.
_PATIENCE = 0.05


@dataclass
class _Channel:
    """A drag, and its newest frame with a number.

    Attributes:
        targets: of all its handles; that number ``moves`` is where the pointer is.
        taut: the pointer is farther than the content can follow.
        rests: where the pointer was, if nothing more comes until it moves; else None.
        let_go: the picture is held no longer.
        wake: the message that waits for the next frame.
    """

    drag: LiveDrag
    targets: list[Any]
    moves: int
    count: int = 0
    frame: str = ""
    handles: list[list[float]] = field(default_factory=list)
    taut: bool = False
    rests: list[float] | None = None
    let_go: bool = False
    wake: Callable[[], object] | None = None


class LiveDrags:
    """The drags that follow a pointer, by a key that only the page of the pointer knows."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._lock = threading.Lock()

    def begin(self, key: str, drag: LiveDrag, moves: int = 0) -> None:
        """From now on `steer` reaches that drag; `end` must follow.

        Args:
            moves: number of the handle whose target is the pointer; the others' stay as they are.
        """
        with self._lock:
            self._channels[key] = _Channel(drag, [point.target for point in drag.edit.points], moves)

    def end(self, key: str) -> None:
        """Forget it."""
        with self._lock:
            self._channels.pop(key, None)

    def show(self, key: str, frame: str, update: Update) -> None:
        """Keep its newest frame, and what there is to know of it, for the next message."""
        with self._lock:
            channel = self._channels[key]
            channel.count, channel.frame, channel.handles = channel.count + 1, frame, update.handles.tolist()
            channel.taut = messages.is_taut(update)
            channel.rests = None if update.rests is None else update.targets[channel.moves].tolist()
            if channel.wake is not None:
                channel.wake()

    def is_let_go(self, key: str) -> bool:
        """Whether the picture is held no longer."""
        with self._lock:
            return self._channels[key].let_go

    async def answer(self, message: Any) -> dict[str, Any] | None:
        """`steer`, and then a frame that the page has not seen, as soon as there is one.

        A page asks again when it has its answer: so frames take the shortest way, as many as it can show.

        Args:
            message: as for `steer`, with ``"seen"``: the count of the newest frame that was seen.

        Returns:
            ``{"count": ..., "frame": ..., "handles": ..., "taut": ..., "rests": ...}``; empty if there is no other
            frame within a moment; None if no drag has that key.
        """
        if not self.steer(message):
            return None
        there, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            channel = self._channels.get(message["key"])
            if channel is None:
                return None
            if channel.count != message.get("seen", 0):
                there.set()
            channel.wake = lambda: loop.call_soon_threadsafe(there.set)
        try:
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(there.wait(), _PATIENCE)
        finally:
            with self._lock:
                channel.wake = None
        with self._lock:
            new = channel.count != message.get("seen", 0)
            if not new:
                return {}
            return {
                "count": channel.count,
                "frame": channel.frame,
                "handles": channel.handles,
                "taut": channel.taut,
                "rests": channel.rests,
            }

    def steer(self, message: Any) -> bool:
        """The pointer has moved or let go: ``{"key": ..., "at": [x, y], "end": true or false}``, image pixels.

        With ``"stop": true`` the picture stays as it is. Anyone can send a message, at any rate: it replaces the one
        before and waits for nothing. False: no drag has that key.
        """
        key = message.get("key") if isinstance(message, dict) else None
        with self._lock:
            if not isinstance(key, str) or key not in self._channels:
                return False
            channel = self._channels[key]
        drag, targets = channel.drag, list(channel.targets)
        targets[channel.moves] = message.get("at")
        try:
            drag.retarget(targets)
        except PointError:
            log.debug("the pointer is outside the picture: %r", message.get("at"))
        if message.get("stop"):
            drag.stop()
        elif message.get("end"):
            channel.let_go = True
            drag.settle()
        return True
